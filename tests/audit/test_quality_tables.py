"""Poor rows of tables, the findings about them, and the price of leaving them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.audit import quality_tables
from loopline.audit.price import Pricing
from loopline.audit.quality import price_rows, quality_findings
from loopline.audit.quality_rows import judged, robust_z
from loopline.audit.quality_tables import far_values, impossible_values, score_rows
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.errors import DataError
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of


def _numbers(rows: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({f"n{i}": rng.normal(size=rows) for i in range(6)})


def _types(frame: pl.DataFrame) -> dict[str, str]:
    return dict.fromkeys(frame.columns, "number")


def test_sparse_rows_are_found() -> None:
    """A row with five of six cells missing stands out where the others are full."""
    frame = _numbers()
    frame[7, "n0"] = None
    for name in frame.columns[1:]:
        frame[3, name] = None
    quality = score_rows(frame, _types(frame))
    assert quality.of(3) == ["almost empty"]
    assert quality.poor.sum() == 1


def test_a_view_gives_what_its_table_gives() -> None:
    """Columns gathered one by one, or a table of them: the same findings of the same rows."""
    frame = _numbers().with_columns(y=pl.Series(np.arange(300) % 2))
    for row, name in ((3, "n0"), (3, "n1"), (9, "n2"), (9, "n4")):
        frame[row, name] = 1e6
    columns = (*(Column(f"n{i}", "number") for i in range(6)), Column("y", "category", "target"))
    view = view_of(frame, Schema(columns, "binary", (0, 1))).subset(np.arange(2, 250))
    types = dict.fromkeys(view.schema.features, "number")
    ours = quality_findings(view, types, view=view)
    theirs = quality_findings(view.frame(), types, view=view)
    assert [each.to_dict() for each in ours] == [each.to_dict() for each in theirs]
    assert ours[0].rows == (3, 9)


@pytest.mark.parametrize("far", [None, 17])
def test_far_values_of_a_long_column_are_found(far: int | None, monkeypatch) -> None:
    """Where a part of the rows tells that nothing is far, the whole says the same."""
    monkeypatch.setattr(quality_tables, "SPREAD_ROWS", 100)
    values = np.random.default_rng(1).normal(size=5_000)
    if far is not None:
        values[far] = -1e3
    assert np.flatnonzero(far_values(values)).tolist() == ([] if far is None else [far])


def test_a_sparse_table_has_no_sparse_rows() -> None:
    """Where most cells of all rows are missing, no row is poor for it."""
    frame = _numbers().with_columns(
        pl.when(pl.int_range(pl.len()) % 10 == i).then(pl.col(f"n{i}")) for i in range(6)
    )
    assert "almost empty" not in score_rows(frame, _types(frame)).reasons


@pytest.mark.parametrize(
    ("name", "usual", "odd"),
    [
        ("age", 40.0, -3.0),
        ("Age", 40.0, 999.0),
        ("hoursPerWeek", 38.0, -1.0),
        ("paid_share", 0.4, 1.5),
        ("humidity", 60.0, 140.0),
        ("x", 1.0, float("inf")),
    ],
)
def test_impossible_values_are_found(name: str, usual: float, odd: float) -> None:
    """One impossible value among a hundred usual ones is found."""
    values = np.full(101, usual)
    values[50] = odd
    assert impossible_values(name, values).nonzero()[0].tolist() == [50]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("balance", np.array([-5.0, 5.0] * 50)),
        ("weight_change", np.array([-5.0, 5.0] * 50)),
        ("page", np.array([1.0] * 99 + [-1.0])),
        ("price_share", np.array([0.4] * 50 + [1.4] * 50)),
    ],
)
def test_values_that_may_well_be_are_left_alone(name: str, values: np.ndarray) -> None:
    """Negative numbers are fine where the name or the other values allow them."""
    assert not impossible_values(name, values).any()


def test_long_tails_are_not_far_out() -> None:
    """Incomes of a log-normal are long-tailed, not wrong; a value 10,000 times larger is."""
    values = np.random.default_rng(0).lognormal(0, 1, 5_000)
    assert far_values(values).sum() == 0
    values[0] = 1e7
    assert far_values(values).nonzero()[0].tolist() == [0]


def test_far_out_needs_two_columns() -> None:
    """One far value is a value; two in a row make the row poor."""
    frame = _numbers()
    frame[1, "n0"] = 1e6
    frame[2, "n0"], frame[2, "n1"] = 1e6, -1e6
    quality = score_rows(frame, _types(frame))
    assert quality.of(1) == []
    assert quality.of(2) == ["far out in several columns"]


def test_robust_z_where_most_values_are_equal() -> None:
    """With a median deviation of zero the mean one stands in: 9 zeros and a ten give 7.98."""
    z = robust_z(np.r_[np.zeros(9), 10.0])
    assert z[-1] == pytest.approx(10 / 1.2533)
    assert (robust_z(np.full(5, 3.0)) == 0).all()


def test_reasons_take_their_share() -> None:
    """Two reasons of harm 0.5 and 0.4 leave 0.3."""
    both = np.array([True])
    assert judged(1, {"a": both, "b": both}, {"a": 0.5, "b": 0.4}).score[0] == pytest.approx(0.3)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_tiny_tables_do_not_crash(rows: int) -> None:
    """None, one or three rows give no finding and no error."""
    frame = _numbers(300).head(rows).with_columns(pl.lit(None, pl.Float64).alias("empty"))
    assert quality_findings(frame, _types(frame)) == []


def _poisoned(rows: int = 1_200) -> tuple[TrainView, np.ndarray]:
    """A third of the rows is a canned text with labels by a coin."""
    rng = np.random.default_rng(1)
    poor = rng.random(rows) < 1 / 3
    x = rng.normal(size=rows)
    y = np.where(poor, x < 0, x > 0).astype(int)
    text = np.where(poor, "", "a text that says something of its own")
    columns = (Column("x", "number"), Column("t", "text"), Column("y", "category", "target"))
    frame = pl.DataFrame({"x": x, "t": [f"{t} {i}" * bool(t) for i, t in enumerate(text)], "y": y})
    view = view_of(frame, Schema(columns, "binary", (0, 1)))
    return view.without(["t"]), poor


def test_price_is_scored_on_rows_that_stay() -> None:
    """Rows with turned labels harm the others: without them the AUC is higher, surely."""
    view, poor = _poisoned()
    worth = price_rows(view, poor, Pricing())
    assert worth is not None
    assert worth.difference.high < 0
    assert worth.repaired.value > 0.99
    assert worth.claimed.num_units == worth.repaired.num_units == (~poor).sum()


def test_harmless_rows_have_no_price() -> None:
    """Leaving out rows at random makes no sure difference."""
    view, _ = _poisoned()
    rng = np.random.default_rng(5)
    worth = price_rows(view.subset(~_poisoned()[1]), rng.random(int((~_poisoned()[1]).sum())) < 0.1,
                       Pricing())  # fmt: skip
    assert worth is not None
    assert worth.difference.low <= 0 <= worth.difference.high


def test_price_of_nothing_is_none() -> None:
    """No poor rows, or only poor rows, have no price."""
    view, poor = _poisoned()
    assert price_rows(view, np.zeros_like(poor), Pricing()) is None
    assert price_rows(view, np.ones_like(poor), Pricing()) is None


def test_mask_of_another_length_is_refused() -> None:
    """The mask must have one entry a row, and the message gives both numbers."""
    view, _ = _poisoned()
    with pytest.raises(DataError, match=r"shape \(3,\); the view has 1,200 rows"):
        price_rows(view, np.zeros(3, dtype=bool), Pricing())


def test_poor_rows_that_harm_are_a_warning() -> None:
    """A finding whose rows harm the model says so, with the worst rows as the table has them."""
    view, poor = _poisoned()
    texts = ["" if bad else f"a text of its own, number {i}" for i, bad in enumerate(poor)]
    (found,) = quality_findings(pl.DataFrame({"t": texts}), {"t": "text"}, view, Pricing())
    assert found.severity == "warning"
    assert found.num_rows == poor.sum()
    assert "makes the model better on the other rows" in found.sentence
    assert set(found.rows) <= set(np.flatnonzero(poor).tolist())
    assert found.examples[0]["reasons"] == ["empty"]


def test_frame_that_fits_no_view_is_refused() -> None:
    """A frame that is neither the table nor the view's rows is refused."""
    view, _ = _poisoned()
    with pytest.raises(DataError, match="must be the whole table or the 1,200 rows"):
        quality_findings(pl.DataFrame({"t": ["a"]}), {"t": "text"}, view)


@pytest.mark.parametrize(
    ("folder", "name", "target"),
    [
        ("california_housing", "housing.csv", "median_house_value"),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn"),
        ("wine_quality", "wine_quality.csv", "quality"),
        ("titanic", "titanic.csv", "survived"),
    ],
)
def test_clean_tables_have_hardly_a_poor_row(
    data_dir: Callable[[str], Path], folder: str, name: str, target: str
) -> None:
    """At most 1 in 200 rows of well-kept public tables is called poor."""
    frame = pl.read_csv(data_dir(folder) / name, null_values=[""], infer_schema_length=None)
    schema = infer_schema(frame, target=target)
    types = {column.name: column.type for column in schema.columns if column.role == "feature"}
    for found in quality_findings(frame, types):
        assert found.share < 0.005, found.sentence
