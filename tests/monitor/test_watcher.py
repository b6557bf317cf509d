"""The watch as a whole: what is found, what stays silent, what survives."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.monitor.streams import reference, rows, window

from loopline.errors import DataError, SettingsError
from loopline.monitor.alarm import Alarm
from loopline.monitor.reference import Reference
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.watcher import Checked, Watcher
from loopline.monitor.window import Service, Window


def _watcher(size: int = 200, **settings: Any) -> Watcher:
    return Watcher.learn(reference(), MonitorSettings(window=size, **settings))


def _causes(checked: Checked) -> set[tuple[str, str, str]]:
    return {(alarm.kind, alarm.subject, alarm.what) for alarm in checked.alarms}


def test_a_stable_stream_is_silent() -> None:
    """Sixty windows of normal rows with their labels give no alarm at all."""
    watcher = _watcher()
    assert not [
        a for seed in range(60) for a in watcher.check(window(200, 100 + seed, labels=True)).alarms
    ]


def test_a_shift_is_told_with_size_place_and_rows() -> None:
    """One standard deviation: the column, the size with its interval, rows that show it."""
    watcher = _watcher()
    watcher.check(window(200, 5))
    checked = watcher.check(window(200, 6, shift=1.0))
    (alarm,) = [a for a in checked.alarms if a.kind == "column"]
    assert (alarm.subject, alarm.what, alarm.state) == ("x", "shift", "new")
    assert alarm.low is not None
    assert alarm.high is not None
    assert alarm.low < 1.0 < alarm.high + 0.2
    assert alarm.rows
    assert set(alarm.rows) <= {f"6-{k}" for k in range(200)}
    assert "standard deviations higher" in alarm.sentence


def test_small_shifts_are_found_by_looking_back() -> None:
    """0.2 standard deviations cannot be seen in 50 rows; looking back, they are found."""
    watcher = Watcher.learn(reference(timed=False), MonitorSettings(window=50, rate="500/day"))
    first = next(k for k in range(128) if watcher.check(window(50, 900 + k, shift=0.2)).alarms)
    assert 2 < first < 100


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (pl.col("z") * 1000, ("quality", "z", "unit")),
        (pl.lit(None, dtype=pl.Float64).alias("z"), ("quality", "z", "all missing")),
        (pl.lit(50.0).alias("z"), ("quality", "z", "frozen")),
        (pl.col("z").cast(pl.String) + "kg", ("schema", "z", "type")),
        (
            pl.when(pl.int_range(pl.len()) % 10 == 0)
            .then(pl.lit("Bern"))
            .otherwise("city")
            .alias("city"),
            ("quality", "city", "unseen"),
        ),
        (
            pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise("z").alias("z"),
            ("quality", "z", "missing"),
        ),
    ],
    ids=["unit", "all missing", "frozen", "type", "new category", "missing burst"],
)
def test_faults_are_found_in_their_first_window(
    change: pl.Expr, cause: tuple[str, str, str]
) -> None:
    """A unit, a burst of missing cells, a new category, a frozen column, another type: at once."""
    watcher = _watcher()
    frame = rows(200, 7)["frame"].with_columns(change)
    assert cause in _causes(watcher.check(window(200, 7, frame=frame)))


def test_a_column_that_vanished_is_told_and_closes_when_it_is_back() -> None:
    """Absent: a page; back for two windows: closed."""
    watcher = _watcher()
    frame = rows(200, 7)["frame"].drop("z")
    assert ("schema", "z", "absent") in _causes(watcher.check(window(200, 7, frame=frame)))
    watcher.check(window(200, 8))
    states = [alarm.state for alarm in watcher.check(window(200, 9)).alarms]
    assert states == ["closed"]
    assert not watcher.alarms


def test_a_new_column_is_a_note() -> None:
    """A column that the reference lacks pages nobody."""
    frame = rows(200, 7)["frame"].with_columns(extra=1)
    (alarm,) = _watcher().check(window(200, 7, frame=frame)).alarms
    assert (alarm.what, alarm.page) == ("new", False)


def test_one_cause_is_opened_once_and_closed_once() -> None:
    """A shift of ten windows is new once, open while it lasts, closed once after it has gone."""
    watcher = _watcher()
    states = []
    for seed in range(30):
        checked = watcher.check(window(200, 50 + seed, shift=1.0 if seed < 10 else 0.0))
        states += [a.state for a in checked.alarms if a.cause == ("column", "x")]
    assert states.count("new") == 1
    assert states.count("closed") == 1
    assert states[0] == "new"
    assert states[-1] == "closed"


def test_a_column_that_the_model_hardly_uses_is_a_note() -> None:
    """The same move pages on an important column, and is a note on one that does not matter."""
    for importance, page in ((1.0, True), (0.01, False)):
        known = reference(importances={"x": 1.0, "z": importance})
        watcher = Watcher.learn(known, MonitorSettings(window=200))
        frame = rows(200, 7)["frame"].with_columns(pl.col("z") + 10)
        (alarm,) = watcher.check(window(200, 7, frame=frame)).alarms
        assert alarm.page is page
        assert ("note" in alarm.sentence) is not page


def test_a_move_that_hurts_the_model_pages_whatever_its_column() -> None:
    """Predictions that become unsure raise the expected error, and then a moved column pages."""
    known = reference(importances={"x": 1.0, "z": 0.0})
    watcher = Watcher.learn(known, MonitorSettings(window=200))
    made = rows(200, 7)
    moved = Window(
        made["frame"].with_columns(pl.col("z") + 10),
        np.where(made["prediction"] > 0.5, 0.55, 0.45),
        time=made["time"],
    )
    checked = watcher.check(moved)
    (alarm,) = [a for a in checked.alarms if a.subject == "z"]
    assert alarm.impact is not None
    assert alarm.impact.change is not None
    assert "estimated" in {a.kind for a in checked.alarms} or alarm.page


def test_columns_that_move_together_are_told_by_the_classifier() -> None:
    """Two columns that became one, each as before: no column, but all of them together."""
    rng = np.random.default_rng(0)
    known = Reference(pl.DataFrame({"a": rng.normal(size=3000), "b": rng.normal(size=3000)}))
    watcher = Watcher.learn(known, MonitorSettings(window=300))
    a = rng.normal(size=300)
    (alarm,) = watcher.check(Window(pl.DataFrame({"a": a, "b": a}))).alarms
    assert (alarm.kind, alarm.unit) == ("joint", "AUC")
    assert alarm.low is not None
    assert alarm.low > 0.6


@pytest.mark.parametrize("num_rows", [0, 1, 2])
def test_tiny_windows_are_judged_or_told(num_rows: int) -> None:
    """No row, one row, two rows: no alarm, no crash."""
    checked = _watcher().check(window(num_rows, 3, labels=True))
    assert not checked.alarms
    assert bool(checked.remarks) is (num_rows == 0)


def test_a_window_without_columns_or_with_strange_predictions_is_told() -> None:
    """A frame of other columns and predictions of another shape are findings."""
    watcher = _watcher()
    strange = Window(pl.DataFrame({"q": [1, 2, 3]}), np.full((3, 4), 0.25))
    checked = watcher.check(strange)
    assert {alarm.what for alarm in checked.alarms} == {"absent", "new"}
    assert "another shape" in " ".join(checked.remarks)


def test_extreme_values_are_one_large_value_and_no_more() -> None:
    """One cell of 1e300 in a window moves nothing."""
    frame = rows(200, 7)["frame"].with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(1e300).otherwise("z").alias("z")
    )
    assert not _watcher().check(window(200, 7, frame=frame)).alarms


def test_saved_after_any_window_it_goes_on_as_if_uninterrupted(tmp_path: Path) -> None:
    """A watcher saved and loaded between windows says the same as one that went on."""
    whole, parted = _watcher(), _watcher()
    for seed in range(6):
        given = window(200, 70 + seed, labels=seed % 2 == 0, shift=0.3 if seed > 2 else 0.0)
        late = {f"{69 + seed}-{k}": "yes" for k in range(0, 200, 3)}
        parted.save(tmp_path / str(seed))
        parted = Watcher.load(tmp_path / str(seed))
        for one, other in (
            (whole.check(given), parted.check(given)),
            (whole.observe(late), parted.observe(late)),
        ):
            assert [a.to_dict() for a in one.alarms] == [a.to_dict() for a in other.alarms]
            assert one.remarks == other.remarks
            assert one.table.equals(other.table)


def test_alarms_are_plain_data() -> None:
    """An alarm survives `to_dict` and `from_dict`."""
    checked = _watcher().check(window(200, 6, shift=1.0))
    for alarm in checked.alarms:
        assert Alarm.from_dict(alarm.to_dict()) == alarm


def test_the_table_tells_how_far_a_window_could_see() -> None:
    """The threshold of a mean falls with the size of the window."""
    small = _watcher(50).check(window(50, 3)).table
    large = _watcher(800).check(window(800, 3)).table
    picked = [
        t.filter((pl.col("column") == "x") & (pl.col("question") == "shift"))["threshold"][0]
        for t in (small, large)
    ]
    assert 2.5 < picked[0] / picked[1] < 5


def test_numbers_are_watched_like_classes() -> None:
    """A regression: predictions without outcomes, an expected loss, a rise of the true one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    known = Reference(
        pl.DataFrame({"x": x}),
        2 * x,
        2 * x + rng.normal(size=3000),
        task="regression",
        metric="rmse",
    )
    watcher = Watcher.learn(known, MonitorSettings(window=500, rate="500/day"))
    x = rng.normal(size=500)
    worse = Window(pl.DataFrame({"x": x}), 2 * x, labels=2 * x + rng.normal(0, 2, size=500))
    assert ("performance", "loss", "worse") in _causes(watcher.check(worse))


def test_several_classes_are_watched() -> None:
    """Three classes: a change of the predicted shares is one alarm about predictions."""
    rng = np.random.default_rng(0)

    def predicted(n: int, tilt: float) -> np.ndarray:
        raw = np.exp(rng.normal(size=(n, 3)) + np.array([tilt, 0, 0]))
        return raw / raw.sum(axis=1, keepdims=True)

    p = predicted(2000, 0.0)
    y = (p.cumsum(axis=1) > rng.random((2000, 1))).argmax(axis=1)
    known = Reference(
        pl.DataFrame({"x": rng.normal(size=2000)}), p, y, task="multiclass", classes=("a", "b", "c")
    )
    watcher = Watcher.learn(known, MonitorSettings(window=400))
    calm = Window(pl.DataFrame({"x": rng.normal(size=400)}), predicted(400, 0.0))
    assert not watcher.check(calm).alarms
    tilted = Window(pl.DataFrame({"x": rng.normal(size=400)}), predicted(400, 1.0))
    assert "prediction" in {a.kind for a in watcher.check(tilted).alarms}


def test_slices_and_ignored_columns_must_exist() -> None:
    """A misspelt column in the settings is told with the nearest one."""
    with pytest.raises(SettingsError, match="city"):
        _watcher(ignore=("citty",))


def test_a_reference_of_a_few_rows_is_refused() -> None:
    """Twenty rows do not say what is normal."""
    with pytest.raises(DataError, match="at least 50"):
        Reference(rows(20, 1)["frame"])


def test_a_reference_survives_its_folder(tmp_path: Path) -> None:
    """All parts of a reference are read back as they were."""
    known = reference(importances={"x": 1.0}, metric="accuracy")
    known.save(tmp_path)
    back = Reference.load(tmp_path)
    assert back.frame.equals(known.frame)
    assert back.time is not None
    assert known.time is not None
    assert (back.time == known.time).all()
    assert (back.classes, back.metric, back.importances) == (("no", "yes"), "accuracy", {"x": 1.0})


def test_a_column_that_counts_time_is_not_watched() -> None:
    """A running number moves by its nature; it is left out and told."""
    made = rows(4_000, 1)
    known = Reference(made["frame"].with_row_index("number"), time=made["time"])
    watcher = Watcher.learn(known, MonitorSettings(window=200))
    assert "counts time" in " ".join(watcher.remarks)
    assert "number" not in [column.name for column in watcher.learned.columns]


def test_failures_and_slow_answers_are_told() -> None:
    """After eight usual windows, 10 % failures and a doubled latency in two windows page."""
    watcher = _watcher()
    for seed in range(8):
        usual = Service(1_000, 2, {"p99": 0.010 + 0.0005 * (seed % 3)})
        assert not watcher.check(Window(pl.DataFrame(), service=usual)).alarms
    assert {
        alarm.subject
        for k in range(2)
        for alarm in watcher.check(
            Window(pl.DataFrame(), service=Service(1_000, 100, {"p99": 0.030}))
        ).alarms
    } == {"errors", "latency p99"}


@pytest.mark.parametrize("timed", [False, True])
def test_strange_tables_are_judged_without_a_crash(*, timed: bool) -> None:
    """Columns of every type, all missing, infinite, constant; then windows of other types."""
    rng = np.random.default_rng(0)
    n = 600
    frame = pl.DataFrame(
        {
            "integer": rng.integers(0, 5, n),
            "truth": rng.random(n) < 0.5,
            "text": [f"text number {k}" for k in range(n)],
            "date": [date(2020, 1, 1) + timedelta(days=int(k)) for k in rng.integers(0, 900, n)],
            "list": [[1, 2]] * n,
            "nothing": pl.Series([None] * n, dtype=pl.Float64),
            "infinite": np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
            "constant": [1.0] * n,
        }
    )
    p = rng.random(n)
    y = (rng.random(n) < p).astype(np.int64)
    known = Reference(frame, p, y, np.arange(n) * 3600.0 if timed else None, classes=(0, 1))
    watcher = Watcher.learn(known, MonitorSettings(window=50, ignore="list"))
    odd = frame[:50].with_columns(
        integer=pl.lit("x"), truth=pl.lit(3), date=pl.lit("2020"), infinite=pl.lit(-np.inf)
    )
    for part in (frame[:50], frame[:1], frame[:0], odd, odd.select("integer")):
        for time in (None, np.full(part.height, np.nan), np.arange(part.height) * -3600.0):
            answers = np.full(part.height, np.nan) if part is odd else p[: part.height]
            watcher.check(Window(part, answers, time=time, labels=np.full(part.height, np.nan)))
    told = {(alarm.kind, alarm.subject, alarm.what) for alarm in watcher.alarms}
    assert ("schema", "truth", "absent") in told
    assert not [alarm for alarm in watcher.alarms if alarm.subject == "list"]


def test_numbers_that_only_lie_near_another_unit_are_not_said_to_be_in_it() -> None:
    """Order numbers near 2.54 times the old ones, but in a narrow run: they moved, no more."""
    rng = np.random.default_rng(0)
    old = np.concatenate(
        [rng.integers(100_000, 105_000, 3_000), rng.integers(200_000, 201_000, 900)]
    )
    watcher = Watcher.learn(Reference(pl.DataFrame({"order": old})), MonitorSettings(window=500))
    new = pl.DataFrame({"order": rng.integers(250_000, 251_500, 500)})
    alarms = watcher.check(Window(new)).alarms
    assert {(alarm.subject, alarm.what) for alarm in alarms} <= {
        ("order", "shift"),
        ("order", "spread"),
    }
    assert alarms
    inches = pl.DataFrame({"order": rng.permutation(old)[:500] * 2.54})
    (alarm,) = (
        Watcher.learn(Reference(pl.DataFrame({"order": old})), MonitorSettings(window=500))
        .check(Window(inches))
        .alarms
    )
    assert alarm.what == "unit"
