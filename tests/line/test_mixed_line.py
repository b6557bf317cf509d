"""The line on rows of several parts: raced, chosen, released, predicted; what may be missing."""

from __future__ import annotations

import polars as pl
import pytest

pytest.importorskip("torch", reason="the multimodal family needs the extra `neural`")
pytest.importorskip("PIL", reason="images need the extra `images`")

import loopline
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, SettingsError
from loopline.line.suited import suited
from loopline.models.base import FitContext
from loopline.models.multimodal import Multimodal
from loopline.progress import SilentReporter
from loopline.testing.families import make_mixed_table, make_view

QUICK = {"text_model": "terms", "epochs": 6.0, "batch_size": 32, "width": 16, "members": 2}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """240 rows of a table, a text and an image; one has no part at all."""
    made = make_mixed_table("binary", 240)
    return made.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col(name)).alias(name)
        for name in made.columns
        if name != "target"
    )


@pytest.fixture(scope="module")
def result(table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> loopline.Result:
    """A run on them, with a quick network."""
    return loopline.fit(
        table,
        "target",
        models={"multimodal": QUICK},
        settings={"split": {"folds": 2}, "columns": {"note": {"type": "text"}}, "threads": 1},
        store=tmp_path_factory.mktemp("store"),
        progress=False,
    )


def test_mixed_rows_become_a_release_that_beats_the_baseline(result: loopline.Result) -> None:
    """The network is compared with the constant answer, chosen, and better on the test rows."""
    assert [entry["name"] for entry in result.summary["candidates"]] == ["baseline", "multimodal"]
    assert result.summary["chosen"] == "multimodal"
    assert result.evaluate()["auc"]["value"] > 0.8


def test_any_part_may_be_missing_and_all_of_them_are_remarked(
    result: loopline.Result, table: pl.DataFrame
) -> None:
    """A row without a part is answered; one without any gets the usual answer and a remark."""
    some = table.drop("target").head(12)
    for part in (["size", "noise", "flag", "kind"], ["note"], ["picture"]):
        gone = some.with_columns(pl.lit(None, dtype=some.schema[n]).alias(n) for n in part)
        assert result.release.predict(gone).height == 12
    predicted, remarks = result.release.predict_frame(some)
    (told,) = [each for each in remarks if "holds nothing" in each]
    assert told.startswith("1 row holds nothing in any column that the model reads (rows 7)")
    share = float((table["target"] == "yes").mean())
    assert predicted["probability_yes"][7] == pytest.approx(share, abs=0.15)


def test_training_rows_without_any_part_are_told(table: pl.DataFrame) -> None:
    """They take no part, and their numbers are named in one sentence."""
    heard = SilentReporter()
    view = make_view("binary", table)
    model = Multimodal().fit(view, None, {**QUICK, "epochs": 1.0}, FitContext(0, reporter=heard))
    assert heard.notes == ["1 training row had every part missing and takes no part: row 8."]
    assert model.predict(table).shape == (240, 2)


def test_rows_that_all_lack_every_part_are_an_error(table: pl.DataFrame) -> None:
    """A table of nothing is refused in one sentence."""
    none = table.with_columns(
        pl.lit(None, dtype=table.schema[n]).alias(n) for n in table.columns if n != "target"
    )
    with pytest.raises(DataError, match=r"No image of column 'picture' can be read"):
        Multimodal().fit(make_view("binary", none), None, QUICK, FitContext(0))
    bare = none.select("size", "target")
    with pytest.raises(DataError, match=r"nothing to learn from: all training rows had every part"):
        Multimodal().fit(make_view("binary", bare), None, {"epochs": 1.0}, FitContext(0))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"tune": "full", "text_model": "terms"}, "`tune: full` of the multimodal family has no"),
        ({"image_model": "/nowhere"}, "`image_model` of the multimodal family has no effect"),
        ({"max_length": 9}, "`max_length` of the multimodal family has no effect"),
    ],
)
def test_settings_without_effect_are_errors(params: dict[str, object], told: str) -> None:
    """A setting for a part that the table has not, or for nothing that learns, is refused."""
    view = make_view("binary", make_mixed_table("binary", 40).select("size", "target"))
    with pytest.raises(SettingsError, match=told):
        Multimodal().fit(view, None, params, FitContext(0))


def test_two_columns_of_images_are_refused() -> None:
    """The family reads one image a row, and says so."""
    table = make_mixed_table("binary", 20)
    two = table.with_columns(noise=pl.col("picture")).select("noise", "picture", "size", "target")
    view = make_view("binary", two)
    schema = Schema(
        tuple(
            Column(c.name, "image", c.role) if c.name == "noise" else c for c in view.schema.columns
        ),
        "binary",
        view.schema.classes,
    )
    with pytest.raises(DataError, match=r"reads one feature of the type image, and the table has"):
        Multimodal().fit(view.with_features(two, schema), None, QUICK, FitContext(0))


def test_mixed_tables_race_the_network_by_default() -> None:
    """A table of images and numbers is raced by it; one of numbers alone is not."""
    target = Column("y", "category", "target")
    mixed = (Column("photo", "image"), Column("age", "number"), target)
    names = [each.name for each in suited(Schema(mixed, "binary", ("a", "b")))[0]]
    assert names == ["baseline", "linear", "lightgbm", "image", "multimodal"]
    assert "multimodal" not in [e.name for e in suited(Schema(mixed[1:], "binary", ("a", "b")))[0]]
