"""Guards of the watch, each where it alone decides: broken one at a time, each test here fails."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.monitor.streams import reference, rows, window

import loopline.monitor.judge as judges
import loopline.monitor.rows as row_watch
from loopline.errors import DataError
from loopline.monitor.alarm import Alarm, Impact
from loopline.monitor.budget import Budget
from loopline.monitor.class_losses import ClassLosses, calibrated
from loopline.monitor.judge import OpenAlarms, column_alarm, lead, outcome_alarms
from loopline.monitor.quality import look_alarm, schema_alarms
from loopline.monitor.reference import Reference
from loopline.monitor.scan import Scan
from loopline.monitor.scores import learn_column
from loopline.monitor.service import ServiceWatch
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.watcher import Watcher
from loopline.monitor.window import Service, Window

SETTINGS = MonitorSettings()
NOTHING: Any = None


def looked(known: list[Any], now: list[Any], chance: float = 1e-4) -> str | None:
    """What is odd about cells, by what the reference held."""
    column = learn_column(pl.Series("x", known))
    found = look_alarm(column, column.read(pl.Series("x", now, dtype=pl.Float64)), chance, "now")
    return None if found is None else found.what


def test_what_is_mostly_missing_may_be_missing_for_a_while() -> None:
    """Nine of ten cells are missing: twelve in a row are chance, two hundred are not."""
    known = [None if k % 10 else float(k) for k in range(1_000)]
    assert looked(known, [None] * 12) is None
    assert looked(known, [None] * 200) == "all missing"


def test_a_common_value_may_stand_for_a_while() -> None:
    """Nine of ten cells are 0: forty zeros are chance at 1e-9, four hundred are not."""
    known = [float(k % 10 == 0) for k in range(1_000)]
    assert looked(known, [0.0] * 40, 1e-9) is None
    assert looked(known, [0.0] * 400, 1e-9) == "frozen"


def test_what_stood_for_long_may_stand_as_long_again() -> None:
    """Each value stood for a hundred rows: 150 rows of one are as usual, 250 are not."""
    known = np.repeat(np.arange(20.0), 100).tolist()
    assert looked(known, [3.0] * 150) is None
    assert looked(known, [3.0] * 250) == "frozen"


def test_far_is_not_yet_another_unit() -> None:
    """Values far off that no turn of units brings back moved; nobody says which unit."""
    rng = np.random.default_rng(0)
    known = rng.normal(50, 10, 1_000).tolist()
    assert looked(known, rng.normal(300, 10, 200).tolist()) is None
    assert looked(known, (1_000 * rng.normal(50, 10, 200)).tolist()) == "unit"


def test_numbers_that_come_as_text_are_told() -> None:
    """They can be read, all of them, and still the type is another: whoever sends them changed."""
    column = learn_column(pl.Series("x", np.arange(100.0)))
    frame = pl.DataFrame({"x": [str(k) for k in range(50)]})
    (alarm,) = schema_alarms([column], frame, "now", ["x"])
    assert (alarm.what, alarm.effect) == ("type", 0.0)


def scan(p: list[float], effect: list[float]) -> Scan:
    """What the last window says."""
    ones = np.ones(len(p))
    return Scan(np.array(p), ones.astype(int), np.array(effect), ones, ones, ones, ones)


def test_the_questions_of_a_column_share_its_chance() -> None:
    """Half of the chance that the column has, for one of its three questions: no alarm."""
    column = learn_column(pl.Series("x", np.arange(100.0)))
    asked = scan([1.0, 0.5e-3, 1.0], [0.0, 1.0, 0.0])
    assert column_alarm(column, slice(0, 3), NOTHING, asked, 1e-3, SETTINGS) is None


def test_a_sure_rise_below_the_margin_is_none() -> None:
    """However sure: a loss that rose by half of the margin."""
    assert lead(NOTHING, scan([1e-12], [0.005]), 0, 1e-3, 0.01) is None


def test_slices_share_their_chance_and_ask_for_twice_the_margin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two slices: half of the kind's chance for each, and twice the margin of the whole."""
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(judges, "lead", lambda history, scan, k, p, m: asked.append((p, m)))
    outcomes: Any = SimpleNamespace(
        history=SimpleNamespace(law=SimpleNamespace(mean=np.zeros(5))),
        losses=None, worst=[], slicer=SimpleNamespace(titles=("a", "b")),
    )  # fmt: skip
    budget = Budget(1.0, 10.0, frozenset(["performance", "calibration", "slice"]))
    assert outcome_alarms(outcomes, scan([1.0] * 5, [0.0] * 5), budget, SETTINGS, 2.0) == []
    each = budget.chance("slice", 2.0) / 2
    assert asked == [(budget.chance("performance", 2.0), 0.01), (each, 0.02), (each, 0.02)]


ALARM = Alarm("column", "shift", "x", True, "x moved.", facts={"score": 0, "windows": 1})
CAUSE = ALARM.cause


def test_an_alarm_closes_after_two_clean_windows_in_a_row() -> None:
    """Clean once: open; found again: the count starts anew; clean twice: closed; what nobody
    looked for is not clean."""
    opened = OpenAlarms()
    opened.update([ALARM], [], {"column"})
    states = [
        opened.update(found, clean, kinds)[0].state
        for found, clean, kinds in (
            ([], [CAUSE], {"column"}),
            ([ALARM], [CAUSE], {"column"}),
            ([], [CAUSE], {"column"}),
            ([], [CAUSE], {"service"}),
            ([], [], {"column"}),
            ([], [CAUSE], {"column"}),
            ([], [CAUSE], {"column"}),
        )
    ]
    assert states == ["open"] * 6 + ["closed"]
    assert opened.alarms == {}


def test_a_note_that_becomes_a_page_is_news_and_a_page_stays_one() -> None:
    """Louder: told anew. Quieter: the page stays a page until it closes."""
    opened, note = OpenAlarms(), replace(ALARM, page=False)
    told = [opened.update([alarm], [], {"column"})[0] for alarm in (note, ALARM, note)]
    assert [(alarm.state, alarm.page) for alarm in told] == [
        ("new", False), ("new", True), ("open", True),
    ]  # fmt: skip


@pytest.mark.parametrize(("chance", "gone"), [(0.01, False), (0.5, True)])
def test_a_move_that_is_still_to_be_seen_has_not_gone(chance: float, gone: bool) -> None:
    """It closes only when the move is as likely as chance would have it."""
    opened = OpenAlarms()
    opened.update([ALARM], [], {"column"})
    history: Any = SimpleNamespace(chances=lambda back: np.array([chance]))
    assert (CAUSE in opened.gone(history, {"column"})) == gone


def test_columns_and_predictions_share_their_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three columns: a third of the kind's chance for each; one prediction has its own."""
    asked: list[float] = []

    def record(column: Any, place: Any, history: Any, scan: Any, chance: float, more: Any) -> None:
        asked.append(chance)

    watcher = Watcher.learn(reference(), MonitorSettings(window=200))
    monkeypatch.setattr(row_watch, "column_alarm", record)
    watcher.check(window(200, 3))
    budget = watcher.learned.budget
    third = budget.chance("column") / 3
    assert asked == pytest.approx([third, third, third, budget.chance("prediction")])


def test_a_rise_that_is_sure_and_small_wakes_nobody() -> None:
    """The model suffers from what is sure and at least the margin."""
    watch = Watcher.learn(reference(), MonitorSettings(window=200)).rows
    assert not watch._suffers(Impact("error", 0.001, 0.0005, 0.0015, "sure"))
    assert not watch._suffers(Impact("error", 0.05, -0.01, 0.11, "not sure"))
    assert watch._suffers(Impact("error", 0.05, 0.01, 0.09, "sure"))


def test_a_repaired_unit_leaves_no_trace() -> None:
    """One window in another unit is told as that, not as a shift; when it is repaired, no window
    after it says that the column moved."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=200))
    frame = rows(200, 3)["frame"].with_columns(pl.col("z") * 1_000)
    told = watcher.check(window(200, 3, frame=frame)).alarms
    assert [(alarm.subject, alarm.what) for alarm in told] == [("z", "unit")]
    later = [watcher.check(window(200, seed)).alarms for seed in range(4, 9)]
    assert {alarm.what for alarms in later for alarm in alarms} <= {"unit"}


def served(watch: ServiceWatch, requests: int, errors: int, seconds: float) -> list[str]:
    """What one window of the service shows."""
    service = Service(requests, errors, {"p99": seconds})
    return [alarm.what for alarm in watch.check(service, 1e-4, SETTINGS, "now")]


def usual(errors: tuple[int, ...] = (1, 2, 1, 0, 1, 2, 1, 1)) -> ServiceWatch:
    """After eight windows of a thousand requests."""
    watch = ServiceWatch()
    for number, failed in enumerate(errors):
        assert served(watch, 1_000, failed, 0.01 + 0.0001 * number) == []
    return watch


def test_a_few_requests_say_nothing_of_the_service() -> None:
    """Ten requests that all fail are no window to learn from, nor one to page for."""
    watch = ServiceWatch()
    for _ in range(9):
        assert served(watch, 10, 10, 1.0) == []
    assert watch.counts == []
    assert served(usual(), 10, 10, 1.0) == []
    assert served(usual(), 1_000, 200, 0.01) == ["errors"]


def test_one_slow_window_is_no_news_and_two_are() -> None:
    """Latency pages in two windows in a row, and starts anew after a quick one."""
    watch = usual()
    assert [served(watch, 1_000, 1, s) for s in (0.05, 0.01, 0.05, 0.05)] == [
        [], [], [], ["slow"],
    ]  # fmt: skip


def test_a_sure_slowdown_or_failure_may_be_too_small_for_a_page() -> None:
    """40 % slower where half as slow again is asked for; 0.9 % more failures where 1 % is."""
    watch = usual()
    assert [served(watch, 1_000, 1, 0.0145), served(watch, 1_000, 1, 0.0145)] == [[], []]
    assert served(usual(), 100_000, 1_000, 0.01) == []
    assert served(usual(), 100_000, 2_500, 0.01) == ["errors"]


def test_a_service_whose_failures_swing_is_allowed_to() -> None:
    """Windows with 0 and with 120 failures of a thousand are usual here: 130 are no news."""
    assert served(usual((0, 120, 0, 120, 0, 120, 0, 120)), 1_000, 130, 0.01) == []


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"target": np.zeros(60)}, "needs the predictions"),
        ({"prediction": np.zeros(59)}, "its prediction has 59"),
        ({"time": np.r_[np.nan, np.arange(59.0)]}, "some have none"),
    ],
)
def test_a_reference_whose_parts_do_not_fit_is_refused(parts: dict[str, Any], told: str) -> None:
    """Outcomes without predictions, another number of rows, rows without a time."""
    with pytest.raises(DataError, match=told):
        Reference(pl.DataFrame({"x": np.zeros(60)}), **parts)


def test_a_reference_is_put_in_order_with_all_its_parts() -> None:
    """Rows, predictions and outcomes follow the times."""
    back = np.arange(60.0)[::-1]
    made = Reference(pl.DataFrame({"x": back}), back, (back > 30).astype(int), back * 3_600)
    assert made.time is not None
    assert made.prediction is not None
    assert made.target is not None
    assert made.frame["x"].to_list() == made.prediction.tolist() == list(range(60))
    assert made.target.tolist() == [0] * 31 + [1] * 29
    assert (np.diff(made.time) > 0).all()


def test_too_little_is_no_calibration() -> None:
    """Sixty rows, or rows of one class, say nothing of what probabilities mean."""
    stated = np.linspace(0.05, 0.95, 200)
    codes = (stated > 0.5).astype(np.int64)
    assert calibrated(codes[:60], stated[:60]) is None
    assert calibrated(np.zeros(200, dtype=np.int64), stated) is None
    assert calibrated(codes, stated) is not None


def test_a_code_of_no_class_is_no_outcome() -> None:
    """Of two classes 0 and 1 are outcomes; 2, -1 and nothing are none."""
    losses = ClassLosses("error", ("n", "y"), ("'n'", "'y'"))
    given = losses.valid(np.array([0.0, 1.0, 2.0, -1.0, np.nan]))
    assert np.isfinite(given).tolist() == [True, True, False, False, False]


def test_classes_share_the_chance_of_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three classes: a third of the kind's chance for each probability."""
    rng = np.random.default_rng(0)
    given = rng.dirichlet([2, 2, 2], 400)
    frame = pl.DataFrame({"x": rng.normal(size=400)})
    made = Reference(frame, given, rng.integers(0, 3, 400), task="multiclass", classes=("a", "b"))
    watcher = Watcher.learn(replace(made, classes=("a", "b", "c")), MonitorSettings(window=50))
    asked: list[float] = []
    monkeypatch.setattr(row_watch, "column_alarm", lambda *parts: asked.append(parts[4]))
    watcher.check(Window(frame.head(50), given[:50]))
    third = watcher.learned.budget.chance("prediction") / 3
    assert asked[1:] == pytest.approx([third] * 3)


def test_answers_of_another_shape_wait_for_no_label() -> None:
    """They cannot be judged by this reference's losses, so they are not remembered."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=50))
    watcher.check(replace(window(50, 3), prediction=np.full((50, 3), 1 / 3)))
    assert watcher.outcomes is not None
    assert watcher.outcomes.pending == {}


def test_no_labels_are_no_finding() -> None:
    """Nothing came: nothing is told, also where no label could be judged."""
    watcher = Watcher.learn(Reference(rows(100, 1)["frame"]), MonitorSettings(window=50))
    assert watcher.observe({}).remarks == ()


def test_what_came_back_counts_no_more() -> None:
    """When a move is over, the windows that held it leave the history of that score."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=200))
    moved = [watcher.check(window(200, seed, shift=1.0)).alarms for seed in (3, 4)]
    (score,) = {alarm.facts["score"] for alarm in moved[-1] if alarm.subject == "x"}
    closed = False
    for seed in range(5, 60):
        alarms = watcher.check(window(200, seed)).alarms
        if any(alarm.subject == "x" and alarm.state == "closed" for alarm in alarms):
            closed = True
            break
    assert closed
    assert {part[score] for part in watcher.rows.features.sums} == {0.0}


@pytest.mark.parametrize(("rise", "page"), [(0.2, True), (0.0, False)])
def test_a_column_that_does_not_matter_pages_where_the_model_suffers(
    monkeypatch: pytest.MonkeyPatch, rise: float, page: bool
) -> None:
    """The model does not lean on z; its move is a page only when the expected loss rises."""
    known = reference(importances={"x": 1.0, "z": 0.0})
    watch = Watcher.learn(known, MonitorSettings(window=200)).rows
    impact = Impact("error", rise, rise - 0.05, rise + 0.05, "estimated")
    monkeypatch.setattr(type(watch), "impact", lambda self, back: impact)
    assert watch._weighed(replace(ALARM, subject="z")).page == page


def test_a_column_out_of_order_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another unit it has surely moved, which is not told beside it; other columns are."""
    monkeypatch.setattr(
        row_watch, "column_alarm",
        lambda column, *more: replace(ALARM, subject=column.name, facts={"question": 0, **WHERE}),
    )  # fmt: skip
    watcher = Watcher.learn(reference(), MonitorSettings(window=200))
    frame = rows(200, 3)["frame"].with_columns(pl.col("z") * 1_000)
    told = {(a.subject, a.what) for a in watcher.check(window(200, 3, frame=frame)).alarms}
    assert {what for subject, what in told if subject == "z"} == {"unit"}
    assert {("x", "shift"), ("city", "shift")} <= told


WHERE = {"score": 0, "windows": 1}
