"""Time is found, priced against a deal of equal size, and features from the future are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopline.audit.future import looks_ahead
from loopline.audit.price import Pricing
from loopline.audit.time_search import propose_times
from loopline.audit.times import label_memory, measure_times
from loopline.data.inference import infer_schema
from loopline.testing.splitters import view_of

START = datetime(2024, 1, 1, tzinfo=UTC)


def walk(n=1500, memory=0.98, seed=0):
    rng = np.random.default_rng(seed)
    values = np.zeros(n)
    for i in range(1, n):
        values[i] = memory * values[i - 1] + rng.normal()
    return values


def drifting(n=1500, seed=0):
    """A label that wanders in time; what a model can look up are the neighbours in time."""
    level = walk(n, 0.995, seed)
    rng = np.random.default_rng(seed + 1)
    return pl.DataFrame(
        {
            "when": [START + timedelta(hours=i) for i in range(n)],
            "a": walk(n, 0.995, seed + 2),
            "b": walk(n, 0.995, seed + 3),
            "y": level + 0.1 * rng.normal(size=n),
        }
    )


def measured(frame, target="y", **overrides):
    schema = infer_schema(frame, target=target, overrides=overrides)
    return measure_times(view_of(frame, schema), propose_times(frame, schema), Pricing())


def test_a_wandering_label_is_looked_up_by_a_random_split():
    """Dates that were declared a feature are proposed as time, with the gap."""
    found = measured(drifting(), when={"role": "ignore"})
    finding = next(each for each in found if each.check == "time")
    assert (finding.severity, finding.columns) == ("repairable", ("when",))
    assert finding.remedy.settings == {"columns": {"when": {"role": "time"}}}
    assert finding.worth.difference.low > 0
    assert finding.facts["label_correlation"] > 0.9
    assert finding.facts["block_times"] > 10


def test_a_date_without_meaning_makes_no_gap():
    """Independent rows with a date: learning from fewer rows is not mistaken for time."""
    rng = np.random.default_rng(0)
    n = 1500
    x = rng.normal(size=(n, 5))
    frame = pl.DataFrame({f"x{i}": x[:, i] for i in range(5)}).with_columns(
        when=pl.Series([START + timedelta(minutes=i) for i in range(n)]),
        y=pl.Series(np.sin(2 * x[:, 0]) * x[:, 1] + 0.3 * rng.normal(size=n)),
    )
    (finding,) = measured(frame, when={"role": "ignore"})
    assert finding.severity == "note"
    assert finding.remedy is None


def test_year_month_and_day_are_one_time():
    """Parts in columns of their own order the rows together, coarsest first."""
    days = [START + timedelta(days=i) for i in range(400)]
    frame = pl.DataFrame(
        {
            "day": [day.day for day in days],
            "year": [day.year for day in days],
            "month": [day.month for day in days],
            "y": np.arange(400.0),
        }
    ).sample(fraction=1.0, shuffle=True, seed=0)
    (candidate,) = propose_times(frame, infer_schema(frame, target="y"))
    assert candidate.columns == ("year", "month", "day")
    assert candidate.num_times == 400
    assert np.array_equal(np.argsort(candidate.order), np.argsort(frame["y"].to_numpy()))


def test_ties_zones_and_gaps_keep_their_order():
    """Equal instants share a rank whatever zone they are told in; an empty cell has none."""
    times = [START + timedelta(hours=3 * (i // 2)) for i in range(100)]
    series = pl.Series("when", times, dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"when": series.dt.convert_time_zone("Asia/Tokyo"), "y": [0.0, 1.0] * 50})
    frame[3, "when"] = None
    schema = infer_schema(frame, target="y").changed("when", role="ignore")
    (candidate,) = propose_times(frame, schema)
    assert candidate.num_times == 50
    assert candidate.order[:6].tolist() == [0, 0, 1, -1, 2, 2]


def test_rows_in_an_order_that_no_column_holds_are_told():
    """Neighbours resemble each other: the order of the rows is time."""
    frame = drifting().drop("when")
    (finding,) = measured(frame)
    assert (finding.severity, finding.columns) == ("warning", ())
    assert "no column holds" in finding.remedy.sentence


def test_shuffled_rows_have_no_order():
    """The same table in another order proposes nothing."""
    frame = drifting().drop("when").sample(fraction=1.0, shuffle=True, seed=0)
    assert propose_times(frame, infer_schema(frame, target="y")) == []


def test_birth_dates_are_no_time():
    """A date whose name says that it is no event is left alone."""
    frame = drifting().rename({"when": "birth_date"}).sample(fraction=1.0, shuffle=True, seed=0)
    assert propose_times(frame, infer_schema(frame, target="y")) == []


def test_label_memory_by_hand():
    """Labels 0,0,1,1,0,0,1,1…: neighbours are as often equal as not, two apart never."""
    frame = pl.DataFrame({"x": range(400), "y": [0.0, 0.0, 1.0, 1.0] * 100})
    view = view_of(frame, infer_schema(frame, target="y", task="regression"))
    memory = label_memory(view, np.arange(400))
    assert memory.first == pytest.approx(0.0, abs=0.01)
    assert memory.length == 1


@pytest.mark.parametrize("lead", [1, 3, 7])
def test_a_lead_in_place_of_a_lag_is_told_with_its_step(lead):
    """The label of later rows, taken for one of earlier rows."""
    y = walk(800, 0.9)
    step, knows = looks_ahead(np.r_[y[lead:], np.zeros(lead)], y)
    assert step == lead
    assert knows > 0.95


@pytest.mark.parametrize("name", ["lag", "rolling", "clock", "noise", "exogenous", "slow"])
def test_honest_features_of_time_do_not_look_ahead(name):
    """Lags, trailing means, clocks, noise and a driver of the label know the past only."""
    drive = walk(800, 0.9, seed=4)
    y = walk(800, 0.9) + drive
    slow = walk(800, 0.99, seed=5)
    if name == "slow":  # the label follows it two steps later; its past has told so already
        y = np.r_[0.0, 0.0, slow[:-2]] + 5.0 * np.random.default_rng(6).normal(size=800)
    features = {
        "lag": np.r_[0.0, y[:-1]],
        "rolling": pl.Series(y).shift(1).rolling_mean(7).fill_null(0.0).to_numpy(),
        "clock": np.arange(800.0) % 24,
        "noise": np.random.default_rng(9).normal(size=800),
        "exogenous": drive,
        "slow": slow,
    }
    assert looks_ahead(features[name], y)[1] < 0.1


def test_a_centred_window_is_a_warning():
    """A mean over three rows before and three after knows the third row ahead."""
    frame = drifting().with_columns(centred=pl.col("y").rolling_mean(7, center=True).fill_null(0.0))
    found = measured(frame)
    (finding,) = [each for each in found if each.check == "future_feature"]
    assert (finding.severity, finding.columns) == ("warning", ("centred",))
    assert finding.facts["steps_ahead"] == 3
    assert "3 steps later" in finding.sentence


def test_elec2_rows_are_in_time(data_dir):
    """No column holds the time; the time of day is not taken for it."""
    frame = pl.read_csv(data_dir("elec2_drift") / "elec.csv", infer_schema_length=None)
    found = measured(frame, "class")
    assert [(each.severity, each.columns) for each in found] == [("warning", ())]
    assert found[0].worth.claimed.value - found[0].worth.repaired.value > 0.03


def test_bike_sharing_days_are_told(data_dir):
    """The day is the time already; the note says what a random split would claim."""
    frame = pl.read_csv(data_dir("bike_sharing") / "hour.csv", try_parse_dates=True)
    frame = frame.drop("casual", "registered")
    (finding,) = measured(frame, "cnt")
    assert (finding.severity, finding.columns) == ("note", ("dteday",))
    assert finding.worth.matters


@pytest.mark.parametrize(
    ("folder", "file", "target"),
    [
        ("wine_quality", "wine_quality.csv", "quality"),
        ("california_housing", "housing.csv", "median_house_value"),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn"),
        ("titanic", "titanic.csv", "survived"),
    ],
)
def test_tables_without_time_propose_none(data_dir, folder, file, target):
    """No date, no counter, no order of the rows that fades with distance."""
    frame = pl.read_csv(data_dir(folder) / file, infer_schema_length=None)
    assert propose_times(frame, infer_schema(frame, target=target)) == []


def test_a_declared_time_of_few_values_is_told_without_a_price():
    """Three years are no series: a note says that nothing can be told of a forward split."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=300), "year": np.arange(300) // 100 + 2020})
    frame = frame.with_columns(y=pl.Series(rng.normal(size=300)))
    (finding,) = measured(frame, year={"role": "time"})
    assert (finding.severity, finding.worth) == ("note", None)
    assert "has 3 distinct values on 300 training rows, too few to tell" in finding.sentence
