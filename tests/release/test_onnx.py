"""ONNX: every operator of ours against the release's own numbers, in onnxruntime."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopline
from loopline.data.clean import Repair, repair_values
from loopline.errors import EnvironmentProblem, InputError, IntegrityError
from loopline.evaluate.calibration import Calibration
from loopline.features.base import Step
from loopline.features.categories import count_levels, learn_onehot, learn_ordinal
from loopline.features.dates import learn_datetime
from loopline.features.numbers import learn_number
from loopline.features.readers import Reading
from loopline.features.texts import learn_text
from loopline.models.catboost_library import (
    CatBoostTrees,
    catboost_features,
    describe_catboost,
)
from loopline.models.portable import Portable, clipped
from loopline.release.exports import onnx_catboost, onnx_graph, onnx_trees
from loopline.release.exports.forms import export
from loopline.release.exports.onnx_columns import ColumnInput, add_columns
from loopline.release.exports.onnx_graph import Graph
from loopline.release.exports.onnx_models import add_calibration, refuse_estimator

onnxruntime = pytest.importorskip("onnxruntime")


def session(graph: Graph) -> Any:
    """onnxruntime with a finished graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.model("g", {}).SerializeToString(), options)


def opened(step: Step, repairs: tuple[Repair, ...] = ()) -> Callable[[list[Any]], np.ndarray]:
    """A column's step in onnxruntime: cells in training types become its outputs."""
    graph = Graph()
    (given,), (out,) = add_columns(graph, [step.source], [step.reading()], repairs)
    graph.output("out", "double", out, len(step.outputs))
    made = session(graph)
    return lambda cells: made.run(None, {given.name: given.tensor(cells)})[0]


def by_onnx(step: Step, cells: list[Any], repairs: tuple[Repair, ...] = ()) -> np.ndarray:
    """A column's outputs in onnxruntime, from cells in training types."""
    return opened(step, repairs)(cells)


def by_step(step: Step, cells: pl.Series) -> np.ndarray:
    out = np.empty((len(cells), len(step.outputs)))
    step.fill(cells.alias(step.source), out)
    return out


NUMBERS = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5, -2.25, 1e300, 7.0, 1e-300]


@pytest.mark.parametrize("scaling", ["none", "standard", "robust", "quantile"])
@pytest.mark.parametrize("missing", ["keep", "mean", "constant"])
def test_numbers(scaling: Any, missing: str) -> None:
    """Missing cells, infinities, scaling by moments and by quantiles, the indicator."""
    train = pl.Series("x", [None, *np.random.default_rng(0).normal(size=900).tolist()])
    step = learn_number(train, scaling=scaling, missing=missing, constant=3.0, indicator=True)
    assert np.allclose(
        by_onnx(step, NUMBERS), by_step(step, pl.Series(NUMBERS)), rtol=1e-14, equal_nan=True
    )


def test_a_constant_quantile_column() -> None:
    """A column that never varied has two knots made up."""
    step = learn_number(
        pl.Series("x", [2.0] * 5), scaling="quantile", missing="mean", indicator=False
    )
    assert np.array_equal(by_onnx(step, NUMBERS), by_step(step, pl.Series(NUMBERS)))


@pytest.mark.parametrize("kind", ["ordinal", "missing code", "onehot", "replaced"])
@pytest.mark.parametrize("by_number", [False, True])
def test_categories(kind: str, by_number: bool) -> None:
    """Known, unseen and missing levels; text and numbers."""
    cells: list[Any] = [1.0, 2.5, None, 7.0, 9.0] if by_number else ["b", "a", None, "c", ""]
    levels = count_levels(pl.Series("x", [*cells[:4], *cells[:2]]))
    if kind == "onehot":
        step: Step = learn_onehot(levels, missing="keep", max_levels=2, min_count=1)
    else:
        missing = "most_frequent" if kind == "replaced" else "keep"
        step = learn_ordinal(levels, missing=missing, missing_code=kind == "missing code")
    expected = by_step(step, pl.Series(cells))
    assert np.array_equal(by_onnx(step, cells), expected, equal_nan=True)


def test_a_level_that_is_spelt_like_a_missing_one() -> None:
    """The mark of a missing cell is one that is no level."""
    cells = ["<missing>", None, "<<missing>>", "x"]
    step = learn_ordinal(count_levels(pl.Series("x", cells[:3])), missing="keep")
    assert np.array_equal(by_onnx(step, cells), by_step(step, pl.Series(cells)), equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(
        st.none() | st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)), min_size=1
    ),
    linear=st.booleans(),
)
def test_dates(times: list[Any], linear: bool) -> None:
    """Every calendar part of any date, before 1970 and on leap days too."""
    step = DATES[linear]
    cells = [*times, dt.datetime(1900, 2, 28), dt.datetime(2000, 2, 29, 23, 59, 59, 999_999)]
    expected = by_step(step, pl.Series(cells, dtype=pl.Datetime("us")))
    assert np.allclose(by_onnx(step, cells), expected, rtol=1e-13, atol=1e-13, equal_nan=True)


DATES = {
    linear: learn_datetime(
        pl.Series("x", [None, dt.datetime(1999, 1, 31, 4, 5), dt.datetime(2024, 2, 29, 23, 59)]),
        linear=linear,
        missing="mean" if linear else "keep",
    )
    for linear in (False, True)
}


def test_repairs_by_value_are_folded_in() -> None:
    """Spellings that the line repairs are levels under their other name; so are numbers."""
    step = learn_ordinal(count_levels(pl.Series("x", ["Bonn", "Kyoto", None])), missing="keep")
    repairs = (
        Repair.replace("x", {"bonn": "Bonn", "?": None, "Bonn": "Kyoto"}),
        Repair.replace("x", {"Kyoto": "Lima"}),
        Repair.replace("y", {"Bonn": None}),
    )
    cells = ["bonn", "Bonn", "Kyoto", "?", None, "Lima"]
    repaired = repair_values(pl.DataFrame({"x": cells}), repairs)["x"]
    expected = by_step(step, repaired)
    assert np.array_equal(by_onnx(step, cells, repairs), expected, equal_nan=True)
    number = learn_number(
        pl.Series("x", [1.0, 2.0, None]), scaling="standard", missing="mean", indicator=True
    )
    coded = (Repair.replace("x", {-999.0: None, 5.0: 1.0, 1.0: 2.0, math.inf: None}),)
    values = [-999.0, 5.0, 1.0, math.inf, 2.0, None]
    repaired = repair_values(pl.DataFrame({"x": values}), coded)["x"]
    assert np.array_equal(by_onnx(number, values, coded), by_step(number, repaired))


def test_blanks_at_the_ends_of_a_category() -> None:
    """Every kind of blank goes, those inside stay; before and behind other repairs; no rows."""
    levels = count_levels(pl.Series("x", ["a b", "c", "a\nb", "", None]))
    step = learn_ordinal(levels, missing="keep")
    cells = [" a b", "a b\u3000\ufeff", "c\n", "  ", "", None, "a\tb", " d ", "e", " a\nb "]
    change = Repair.replace("x", {"d": "c", " d ": None, "e": " a b "})
    for repairs in ((Repair.strip("x"),), (Repair.strip("x"), change), (change, Repair.strip("x"))):
        expected = by_step(step, repair_values(pl.DataFrame({"x": cells}), repairs)["x"])
        ask = opened(step, repairs)
        assert np.array_equal(ask(cells), expected, equal_nan=True)
        assert np.array_equal(ask(["  "]), expected[[3]], equal_nan=True)
        assert ask([]).shape == (0, 1)


def test_repairs_that_onnx_cannot_make_are_named() -> None:
    """Numbers as text and repaired dates have no operator; the message says how to go on."""
    step = learn_ordinal(count_levels(pl.Series("x", ["a", "b"])), missing="keep")
    with pytest.raises(InputError, match=r"cannot express the repair 'to_number' of.*--repaired"):
        add_columns(Graph(), ["x"], [step.reading()], (Repair.to_number("x"),))
    change = Repair.replace("x", {dt.datetime(1900, 1, 1): None})
    with pytest.raises(InputError, match=r"repair 'replace_values' of column 'x'"):
        add_columns(Graph(), ["x"], [DATES[False].reading()], (change,))


TEXTS = [
    "Free PRIZE call now 0800", "hello there, how are you?", None, "", "   ", "a", "abc abc",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ' Σ. Σ1Σ", "İstanbul ISTANBUL ı", "ß STRASSE", "日本語 テキスト", "\x02",
    "e\u0301 \u200bx\ufeff", "🎉 party😀time", "Ⓐ Ⅷ ½ Ａｂｃ", "  two  blanks ", "x" * 300,
]  # fmt: skip
WORDS = st.text(alphabet=st.sampled_from("aAbΣσςİıß é1٣日Ⓐ'.\u0301\u00ad\u2028\t-🎉"), max_size=24)


def text_step(cells: list[Any], **more: Any) -> Any:
    """A text step that knows every term of the cells."""
    given: dict[str, Any] = {"sizes": True, "missing": "keep", "indicator": True, **more}
    groups = np.arange(len(cells) * 3) % 2
    return learn_text(pl.Series("note", cells * 3, dtype=pl.String), groups, size=500, **given)


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("strip", [True, False])
def test_texts(sizes: bool, strip: bool) -> None:
    """Weights of hashed terms and sizes to the bit, in any script; a missing text; no rows at all.

    Blanks at the ends change nothing but the number of letters.
    """
    step = text_step(TEXTS, sizes=sizes, indicator=sizes)
    repairs = (Repair.strip("note"),) if strip else ()
    cells = pl.Series("note", TEXTS)
    repaired = repair_values(pl.DataFrame({"note": cells}), repairs)["note"]
    ask = opened(step, repairs)
    found = ask(TEXTS)
    assert np.array_equal(found, by_step(step, repaired), equal_nan=True)
    for row, cell in enumerate(TEXTS):
        assert np.array_equal(ask([cell]), found[[row]], equal_nan=True)
    assert ask([]).shape == (0, len(step.outputs))


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(WORDS, min_size=1, max_size=5))
def test_any_text(cells: list[str]) -> None:
    """Final sigmas, letters that become two, marks, digits of other scripts, signs of any kind."""
    step, ask = any_text()
    assert np.array_equal(ask(cells), by_step(step, pl.Series("note", cells, dtype=pl.String)))


@cache
def any_text() -> Any:
    """A text step, and the same in onnxruntime; made once."""
    step = text_step(TEXTS[:-1])
    return step, opened(step)


def test_texts_that_the_line_replaces() -> None:
    """Whole texts under another spelling or none, as the release reads them."""
    step = text_step(TEXTS)
    repairs = (
        Repair.replace("note", {"a": "hello there", "-": None}),
        Repair.replace("note", {"hello there": "Free prize"}),
        Repair.strip("note"),
    )
    cells = ["a", "-", "hello there", "b ", None, " a\u3000", " -", "\n"]
    repaired = repair_values(pl.DataFrame({"note": cells}), repairs)["note"]
    assert np.array_equal(by_onnx(step, cells, repairs), by_step(step, repaired), equal_nan=True)
    repaired = repair_values(pl.DataFrame({"note": cells}), repairs[::-1])["note"]
    assert np.array_equal(
        by_onnx(step, cells, repairs[::-1]), by_step(step, repaired), equal_nan=True
    )


def test_a_column_that_members_read_alike_is_one_input() -> None:
    """Two readings of a column have one input; as a number and as text it is refused."""
    levels = count_levels(pl.Series("x", ["a", "b"]))
    onehot = learn_onehot(levels, missing="keep", max_levels=2, min_count=1)
    two = [learn_ordinal(levels, missing="keep"), onehot]
    inputs, parts = add_columns(Graph(), ["x", "x"], [step.reading() for step in two], ())
    assert ([each.name for each in inputs], len(parts)) == (["x"], 2)
    number = learn_number(pl.Series("x", [1.0]), scaling="none", missing="keep", indicator=False)
    with pytest.raises(InputError, match="read as double and as string"):
        add_columns(Graph(), ["x", "x"], [two[0].reading(), number.reading()], ())


def test_unknown_steps_are_refused_by_name() -> None:
    """The step and the column are named, and two forms that can."""
    with pytest.raises(InputError, match=r"step 'sound' of column 'note'.*--to folder"):
        add_columns(Graph(), ["note"], [Reading("sound", {}, {})], ())


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("kind", ["none", "temperature", "isotonic"])
def test_calibrations(kind: Any, num_classes: int) -> None:
    """Both kinds, for two and more classes, at the ends of the range too."""
    knots = (((0.1, 0.4, 0.4000001, 0.9), (0.05, 0.2, 0.6, 0.95)),) * (num_classes - 1 or 1)
    knots = knots * 2 if num_classes == 3 else knots
    calibration = Calibration(kind, num_classes, 0.7, knots[: 1 if num_classes == 2 else 3])
    if kind == "isotonic" and num_classes == 3:
        calibration = Calibration(kind, 3, 1.0, (knots[0], ((0.5,), (0.3,)), knots[0]))
    shares = np.random.default_rng(1).dirichlet(np.ones(num_classes), 50)
    shares[0], shares[1] = np.eye(num_classes)[0], np.eye(num_classes)[1]
    graph = Graph()
    columns = [graph.input(f"p{code}", "double") for code in range(num_classes)]
    whole = graph.add("Concat", *columns, axis=1)
    graph.output("out", "double", add_calibration(graph, calibration, whole), num_classes)
    given = {f"p{code}": shares[:, [code]] for code in range(num_classes)}
    found = session(graph).run(None, given)[0]
    assert np.allclose(found, calibration.apply(shares), rtol=1e-12, atol=1e-12)


def table(task: str, num_rows: int = 300) -> pl.DataFrame:
    """Numbers, categories with many levels, dates and gaps."""
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=num_rows), rng.normal(size=num_rows)
    level = rng.integers(0, 40, num_rows)
    score = 1.5 * x - z + np.sin(level * 1.7) + rng.normal(scale=0.4, size=num_rows)
    target: Any = score
    if task == "binary":
        target = np.where(score > 0.4, "yes", "no")
    elif task == "multiclass":
        target = np.digitize(score, [-1.0, 1.0]) * 10
    gaps = rng.random(num_rows) < 0.1
    return pl.DataFrame(
        {
            "x": x,
            "z": [None if gap else float(value) for gap, value in zip(gaps, z, strict=True)],
            "code": [f"c{value}" for value in level],
            "rooms": rng.integers(0, 5, num_rows),
            "day": [dt.date(1968, 1, 1) + dt.timedelta(days=int(3 * v)) for v in level],
            "member": rng.random(num_rows) < 0.5,
            "y": target,
        }
    )


CASES = [
    ("linear", "multiclass", {}),
    ("lightgbm", "binary", {"calibration": "isotonic"}),
    ("lightgbm", "multiclass", {}),
    ("lightgbm", "regression", {}),
    ("xgboost", "binary", {}),
    ("xgboost", "multiclass", {"calibration": "temperature"}),
    ("xgboost", "regression", {}),
    ("catboost", "binary", {}),
    ("catboost", "multiclass", {"calibration": "isotonic"}),
    ("catboost", "regression", {}),
    ("forest", "binary", {"calibration": "isotonic"}),
    ("forest", "multiclass", {}),
    ("forest", "regression", {}),
    ("baseline", "regression", {}),
    ("mlp", "binary", {}),
]
PARAMS: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 25},
    "lightgbm": {"rounds": 25},
    "catboost": {"rounds": 25},
    "forest": {"trees": 20},
    "mlp": {"epochs": 8, "width": 32, "members": 4},
}


@pytest.mark.parametrize(("family", "task", "more"), CASES)
def test_whole_releases(family: str, task: str, more: dict[str, Any], tmp_path: Path) -> None:
    """One file answers kept and made-up rows as the release: trees, sets of codes, calibration.

    LightGBM and linear models to the last bits, XGBoost's sums of 32-bit floats to 1e-6.
    """
    pytest.importorskip(
        {"xgboost": "xgboost", "catboost": "catboost", "mlp": "torch"}.get(family, "onnx")
    )
    result = loopline.fit(
        table(task),
        "y",
        models=[{family: PARAMS.get(family, {})}],
        task=task,
        store=tmp_path / "store",
        progress=False,
        settings={
            "threads": 1,
            "columns": {"day": {"role": "feature"}, "rooms": {"type": "category"}},
            "split": {"folds": 2},
            **more,
        },
    )
    assert result.release.facts["family"] == family
    with loopline.open_project(tmp_path / "store") as project:
        done = export(result.release, "onnx", tmp_path / "onnx", store=project.store)
    assert set(done.files) == {"model.onnx", "model.json"}
    assert done.remarks[0].startswith("Proved on ")
    largest = float(done.remarks[0].split("largest difference ")[1].split(",")[0])
    assert largest <= (1e-6 if family == "xgboost" else 1e-12)
    facts = json.loads((tmp_path / "onnx/model.json").read_text())
    names = [name for name, _, _ in facts["outputs"]]
    assert names == (["prediction"] if task == "regression" else ["prediction", "probabilities"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small LightGBM release whose categories are stripped by the line."""
    frame = table("binary").with_columns(
        code=pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.col("code") + " ").otherwise("code")
    )
    store = tmp_path_factory.mktemp("onnx") / "store"
    return loopline.fit(frame, "y", models="lightgbm", store=store, progress=False).release


def test_repairs_may_be_left_to_the_caller(release: Any, tmp_path: Path) -> None:
    """Without `repaired` the file makes them; with it the file says which come before."""
    made = export(release, "onnx", tmp_path / "whole")
    assert len(made.remarks) == 1
    assert json.loads((tmp_path / "whole/model.json").read_text())["repairs_before"] == []
    done = export(release, "onnx", tmp_path / "onnx", repaired=True)
    assert "strip of 'code'" in done.remarks[1]
    facts = json.loads((tmp_path / "onnx/model.json").read_text())
    assert [repair["kind"] for repair in facts["repairs_before"]] == [
        "replace_values",
        "strip",
    ]


def test_trees_that_fall_elsewhere_are_refused(
    release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that reads a threshold wrongly cannot leave a file behind."""
    monkeypatch.setattr(onnx_trees, "LEQ", onnx_trees.LESS)
    monkeypatch.setattr(onnx_trees, "_DEFAULT_LEFT", 4)
    with pytest.raises(IntegrityError, match="so it is not exported"):
        export(release, "onnx", tmp_path / "onnx", repaired=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", ["Logloss", "MultiClass", "RMSE"])
def test_catboosts_statistics(loss: str) -> None:
    """Scores to the last bits: missing numbers, categories never seen, several things together.

    CatBoost combines categories from about 1,000 rounds on; here it is asked to at once.
    """
    catboost = pytest.importorskip("catboost")
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.integers(0, 7, (900, 2)), rng.normal(size=(900, 2)),
                              rng.integers(0, 2, 900)])  # fmt: skip
    values[::9, 0], values[::7, 2] = np.nan, np.nan
    turn = np.where(values[:, 4] == 1, values[:, 1] * 3 + values[:, 3], -values[:, 1])
    score = np.nan_to_num(turn + values[:, 0] * 7) % 5
    target = score if loss == "RMSE" else np.digitize(score, [1.5, 3.0][: 1 + (loss[0] == "M")])
    categorical = (0, 1, 4)
    model = catboost.CatBoost(
        {"loss_function": loss, "iterations": 80, "depth": 5, "max_ctr_complexity": 4,
         "thread_count": 1, "logging_level": "Silent", "allow_writing_files": False}
    )  # fmt: skip
    model.fit(catboost.Pool(catboost_features(values, categorical), label=target))
    trees = CatBoostTrees(model, categorical)
    data = trees.to_bytes()
    told = describe_catboost(data, 5, categorical, np.arange(3))
    kinds = [b'float_feature"', b'"Counter"', b'"OneHotFeature"']
    kinds += [b"cat_feature_exact_value"] * (loss != "MultiClass")
    assert [kind for kind in kinds if kind not in told] == []
    portable = Portable("boosted", {"file": "m", "categorical": list(categorical)}, {}, {"m": data})
    graph = Graph()
    names = [graph.input(f"c{place}", "double") for place in range(5)]
    matrix = graph.add("Concat", *names, axis=1)
    out, width = onnx_catboost.add_catboost(graph, portable, matrix, (7.0, 7.0, 0.0, 0.0, 2.0))
    graph.output("out", "double", out, width)
    values[5:9, 0], values[5:9, 3], values[7:11, 4] = 7.0, [np.inf, -np.inf, 1e300, np.nan], 2.0
    given = {name: values[:, [place]] for place, name in enumerate(names)}
    wanted = trees.scores(clipped(values))
    assert np.allclose(session(graph).run(None, given)[0], wanted, rtol=1e-13, atol=1e-13)


def test_a_statistic_that_is_not_known_is_refused() -> None:
    """The message names it and forms that answer."""
    told = {"ctr_type": "FloatTargetMeanValue", "target_border_idx": 0}
    with pytest.raises(InputError, match=r"statistic 'FloatTargetMeanValue'.*--to folder"):
        onnx_catboost._statistics(told, {}, np.ones((1, 2), dtype=np.float32))


def test_models_without_a_form_are_refused_by_name() -> None:
    """In a blend too; the message names forms that answer."""
    data = {"members": [[{"prefix": "", "kind": "sound", "data": {}, "start": 0, "stop": 1}]]}
    with pytest.raises(InputError, match=r"The sound model has no exact form in ONNX.*--to docker"):
        refuse_estimator(Portable("blend", data))


def test_a_missing_package_is_named(
    release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without onnxruntime the extra to install is told, and nothing is written."""
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'loopline\[onnx\]'"):
        export(release, "onnx", tmp_path / "onnx", repaired=True)
    assert not list(tmp_path.iterdir())


def test_inputs_tell_their_types() -> None:
    """Texts, numbers and times become tensors of one column."""
    assert ColumnInput("x", "string", "?").tensor(["a", None]).tolist() == [["a"], ["?"]]
    assert ColumnInput("x", "double").tensor([True, 2, None]).shape == (3, 1)
    times = ColumnInput("x", "int64").tensor([dt.date(1970, 1, 2), None])
    assert times.tolist() == [[86_400_000_000], [-(2**63)]]
