"""The graph: row equals table, save equals load, refusals, and blindness to test rows."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.data.schema import Column
from loopline.errors import (
    DataError,
    EnvironmentProblem,
    IntegrityError,
    LeakError,
    SettingsError,
)
from loopline.features.fit import fit_features
from loopline.features.graph import GRAPH_FILE, FeatureGraph
from loopline.features.settings import ColumnSettings, FeatureSettings

TYPES = {
    "age": "number",
    "count": "number",
    "paid": "boolean",
    "city": "category",
    "code": "category",
    "street": "category",
    "born": "datetime",
    "note": "text",
}


def table(size: int = 600, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 1000, size) * 86_400_000_000 + rng.integers(0, 86_400_000_000, size)
    words = np.array(["free", "money", "hello", "friend", "today", "call"])
    frame = pl.DataFrame(
        {
            "age": rng.normal(40, 10, size),
            "count": rng.integers(0, 1000, size),
            "paid": rng.random(size) < 0.3,
            "city": rng.choice(
                ["Bonn", "Köln", "Ulm", "rare1", "rare2"], size, p=[0.5, 0.3, 0.19, 0.005, 0.005]
            ),
            "code": rng.integers(1, 6, size),
            "street": [f"s{i}" for i in rng.integers(0, 300, size)],
            "born": pl.Series(days).cast(pl.Datetime("us")),
            "note": [" ".join(rng.choice(words, 4)) for _ in range(size)],
        }
    )
    holes = rng.random((size, frame.width)) < 0.05
    return frame.with_columns(
        pl.when(pl.Series(holes[:, i])).then(None).otherwise(pl.col(name)).alias(name)
        for i, name in enumerate(frame.columns)
    )


@pytest.fixture(scope="module")
def graphs(make_view):
    frame = table()
    y = np.random.default_rng(1).integers(0, 2, frame.height)
    view = make_view(frame, TYPES, y)
    return {recipe: (*fit_features(view, recipe, 0), view, frame) for recipe in ("trees", "linear")}


FLOATS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.just(-0.0))
WORDS = st.one_of(
    st.none(),
    st.sampled_from(["Bonn", "bonn", "BONN", "Köln", " Ulm", "", "rare1", "s1", "s299", "s300"]),
    st.text(max_size=8).filter(lambda text: text.isprintable()),
)
ROWS = st.fixed_dictionaries(
    {
        "age": FLOATS,
        "count": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "paid": st.one_of(st.none(), st.booleans()),
        "city": WORDS,
        "code": st.one_of(st.none(), st.integers(-3, 9)),
        "street": WORDS,
        "born": st.one_of(st.none(), st.datetimes(datetime(1600, 1, 1), datetime(2600, 1, 1))),
        "note": st.one_of(
            st.none(),
            st.text(max_size=40).filter(lambda text: text.isascii() or text.isprintable()),
            st.sampled_from(["FREE money", "hello, friend!", "\n", "call today call today"]),
        ),
    }
)


@pytest.mark.parametrize("recipe", ["trees", "linear"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_row_equals_table_bit_by_bit(graphs, recipe, rows):
    """Any row gives the same bits alone and in a table: None, NaN, infinities, unseen, any case."""
    graph, _, _, frame = graphs[recipe]
    made = graph.transform(pl.DataFrame(rows, schema=frame.schema))
    for place, row in enumerate(rows):
        alone = graph.transform_row(row)
        assert alone.shape == (1, len(graph.outputs))
        assert alone.tobytes() == made[place].tobytes()


@pytest.mark.parametrize("recipe", ["trees", "linear"])
def test_training_matrix_equals_transform(graphs, recipe):
    """What training saw is what serving computes, but for the cross-fitted columns."""
    graph, matrix, view, frame = graphs[recipe]
    crossed = [output.source == "street" for output in graph.outputs]
    served = graph.transform(frame)
    assert matrix.flags.c_contiguous
    assert matrix.dtype == np.float64
    assert served.tobytes() == graph.transform(view).tobytes()
    plain = ~np.array(crossed)
    assert (
        np.ascontiguousarray(matrix[:, plain]).tobytes()
        == np.ascontiguousarray(served[:, plain]).tobytes()
    )
    assert (matrix[:, crossed] != served[:, crossed]).any()


def test_linear_matrix_is_whole(graphs):
    """A linear matrix has no NaN; a trees matrix keeps those of missing numbers."""
    assert np.isfinite(graphs["linear"][1]).all()
    assert np.isnan(graphs["trees"][1]).any()


def test_recipes_by_type(graphs):
    """Every type gets the steps that its recipe promises."""
    kinds = {recipe: [step.kind for step in graphs[recipe][0].steps] for recipe in graphs}
    assert kinds["trees"] == [
        *["number"] * 3, "ordinal", "ordinal", "target", "datetime", "text"
    ]  # fmt: skip
    assert kinds["linear"] == [*["number"] * 3, "onehot", "onehot", "target", "datetime", "text"]


def test_blocks_do_not_matter(graphs, monkeypatch):
    """The result does not depend on the size of the blocks."""
    graph, _, _, frame = graphs["trees"]
    big = pl.concat([frame] * 4)
    whole = graph.transform(big)
    monkeypatch.setattr("loopline.features.graph.BLOCK_CELLS", 1)
    monkeypatch.setattr("loopline.features.graph.BLOCK_ROWS", 7)
    assert graph.transform(big).tobytes() == whole.tobytes()


@pytest.mark.parametrize("recipe", ["trees", "linear"])
def test_saved_bytes_are_equal(graphs, make_view, recipe, tmp_path):
    """Equal view, recipe and seed give equal bytes; loading gives equal digest and bits."""
    graph, _, view, frame = graphs[recipe]
    again, _ = fit_features(view, recipe, 0)
    graph.save(tmp_path / "a")
    again.save(tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    loaded = FeatureGraph.load(tmp_path / "a")
    assert loaded.digest == graph.digest
    assert loaded.outputs == graph.outputs
    assert loaded.transform(frame).tobytes() == graph.transform(frame).tobytes()
    assert (
        loaded.transform_row(frame.row(3, named=True)).tobytes()
        == graph.transform(frame[3:4]).tobytes()
    )


def test_digest_sees_arrays_and_fields(graphs, make_view):
    """A graph fitted on other labels has another digest."""
    _, _, view, frame = graphs["trees"]
    other = make_view(frame, TYPES, 1 - view.target)
    assert fit_features(other, "trees", 0)[0].digest != graphs["trees"][0].digest


@pytest.mark.parametrize("recipe", ["trees", "linear"])
def test_test_rows_cannot_be_seen(make_view, recipe, tmp_path):
    """Changing every cell and label of the rows outside the view changes no byte of the graph."""
    frame, rows = table(400), np.arange(0, 400, 2)
    y = np.random.default_rng(2).integers(0, 2, 400)
    other = table(400, seed=9)
    inside = pl.Series(np.isin(np.arange(400), rows))
    changed = pl.DataFrame([frame[name].zip_with(inside, other[name]) for name in frame.columns])
    turned = np.where(np.isin(np.arange(400), rows), y, 1 - y)
    made = []
    for folder, features, target in (("a", frame, y), ("b", changed, turned)):
        graph, matrix = fit_features(make_view(features, TYPES, target, rows=rows), recipe, 0)
        graph.save(tmp_path / folder)
        made.append(matrix.tobytes())
    assert made[0] == made[1]
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_only_a_training_view_is_accepted():
    """A bare table is refused: it might hold test rows."""
    with pytest.raises(LeakError, match=r"TrainView only.*DataFrame"):
        fit_features(table(), "trees", 0)


def test_empty_table_and_single_row(graphs):
    """No row gives (0, outputs), one row gives (1, outputs)."""
    for graph, _, _, frame in graphs.values():
        assert graph.transform(frame.clear()).shape == (0, len(graph.outputs))
        assert graph.transform(frame.head(1)).shape == (1, len(graph.outputs))


def test_absent_columns_are_named(graphs):
    """A table or row without some columns is refused with all their names."""
    graph, _, _, frame = graphs["trees"]
    for attempt in (
        lambda: graph.transform(frame.drop("age", "note")),
        lambda: graph.transform_row(frame.drop("age", "note").row(0, named=True)),
    ):
        with pytest.raises(DataError, match="columns 'age', 'note'"):
            attempt()


def test_extra_columns_and_order_do_not_matter(graphs):
    """Columns are found by name."""
    graph, _, _, frame = graphs["linear"]
    mixed = frame.select(reversed(frame.columns)).with_columns(more=pl.lit(1))
    assert graph.transform(mixed).tobytes() == graph.transform(frame).tobytes()


def test_damaged_files_are_told(graphs, tmp_path):
    """A cut, absent or foreign file is an IntegrityError that names the folder."""
    graphs["trees"][0].save(tmp_path)
    whole = (tmp_path / GRAPH_FILE).read_text()
    data = json.loads(whole)
    for text in (whole[:-20], "[]", json.dumps({**data, "steps": [{"kind": "pickle"}]})):
        (tmp_path / GRAPH_FILE).write_text(text)
        with pytest.raises(IntegrityError, match="cannot be read"):
            FeatureGraph.load(tmp_path)
    (tmp_path / GRAPH_FILE).write_text(json.dumps({**data, "format": 99}))
    with pytest.raises(EnvironmentProblem, match="format 99"):
        FeatureGraph.load(tmp_path)
    (tmp_path / GRAPH_FILE).unlink()
    with pytest.raises(IntegrityError, match=GRAPH_FILE):
        FeatureGraph.load(tmp_path)


def test_too_many_outputs_are_refused(make_view, monkeypatch):
    """A graph of more outputs than the limit is refused before memory is taken."""
    monkeypatch.setattr("loopline.features.graph.MAX_OUTPUTS", 50)
    frame = pl.DataFrame({"c": [f"v{i}" for i in range(60)]})
    settings_ = FeatureSettings(min_count=1)
    view = make_view(frame, {"c": "category"}, [0, 1] * 30)
    with pytest.raises(DataError, match=r"60 columns, more than the limit of 50.*'c'"):
        fit_features(view, "linear", 0, settings_)


def test_settings_problems_are_told_at_once(make_view):
    """Wrong values, unknown columns and settings without effect come in one error."""
    bad = FeatureSettings(
        scaling="minmax",
        min_count=0,
        smoothing=-1,
        num_folds=1,
        columns={
            "nobody": ColumnSettings(),
            "x": ColumnSettings(max_levels=3, text_size=-1),
        },
    )
    view = make_view(pl.DataFrame({"x": [1.0, 2.0]}), {"x": "number"}, [0, 1])
    with pytest.raises(SettingsError) as caught:
        fit_features(view, "trees", 0, bad)
    text = str(caught.value)
    assert len(caught.value.problems) == 8
    for part in ("`scaling`", "`min_count`", "`smoothing`", "`num_folds`", "`columns.nobody`",
                 "`columns.x.max_levels` has no effect", "`columns.x.text_size` must"):  # fmt: skip
        assert part in text


def test_overrides_are_obeyed(make_view):
    """Scaling, encoding and text size of one column may differ from the recipe."""
    frame = table(200)
    chosen = FeatureSettings(
        columns={
            "age": ColumnSettings(scaling="quantile"),
            "city": ColumnSettings(encoding="target"),
            "note": ColumnSettings(text_size=7),
        }
    )
    view = make_view(frame, TYPES, np.arange(200) % 2)
    graph, _ = fit_features(view, "linear", 0, chosen)
    steps = {step.source: step for step in graph.steps}
    assert len(steps["age"].knots) > 1
    assert not len(steps["count"].knots)
    assert steps["city"].kind == "target"
    assert len(steps["note"].buckets) == 7


def test_missing_policies_of_columns_are_obeyed(make_view):
    """`constant` and `error` of the schema are obeyed in both recipes."""
    frame = pl.DataFrame({"x": [1.0, None], "c": ["a", None]})
    types = {
        "x": Column("x", "number", missing="constant", fill=5),
        "c": Column("c", "category", missing="constant", fill="none"),
    }
    graph, matrix = fit_features(make_view(frame, types, [0, 1]), "trees", 0)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [5, 1, 1]])
    assert graph.steps[1].levels == ("a", "none")
    types["x"] = Column("x", "number", missing="error")
    with pytest.raises(DataError, match="'x' must have no missing cell"):
        fit_features(make_view(frame, types, [0, 1]), "linear", 0)


def test_other_types_are_refused(make_view):
    """A list column cannot be a feature; the message says what to do."""
    view = make_view(pl.DataFrame({"l": [[1], [2]]}), {"l": "other"}, [0, 1])
    with pytest.raises(DataError, match=r"'l'.*role ignore"):
        fit_features(view, "trees", 0)


def test_sms_spam_terms_help(make_view, data_dir):
    """On real messages the linear matrix of the text alone separates spam with AUC > 0.98."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    frame = pl.read_csv(
        data_dir("sms_spam") / "smsspamcollection.tsv", separator="\t", quote_char=None
    ).unique("message", maintain_order=True)
    y = (frame["label"] == "spam").to_numpy().astype(np.int64)
    features = frame.select("message")
    train = np.arange(len(y)) % 4 != 0
    view = make_view(features, {"message": "text"}, y, rows=np.flatnonzero(train))
    graph, matrix = fit_features(view, "linear", 0)
    model = LogisticRegression(max_iter=500).fit(matrix, y[train])
    scores = model.decision_function(graph.transform(features.filter(pl.Series(~train))))
    assert roc_auc_score(y[~train], scores) > 0.98
    assert matrix.shape[1] <= 256
