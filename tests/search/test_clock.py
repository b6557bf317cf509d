"""The time of a search: what is kept free, when it ends, and how an interrupt is taken."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.line.conftest import make_table

import loopline
from loopline.errors import LooplineError
from loopline.line import interrupt as interrupts
from loopline.line import trial as trial_module
from loopline.line.context import LineContext
from loopline.line.interrupt import Interrupt, noted
from loopline.line.project import Project, open_project
from loopline.line.rehearsal import FIXED_SECONDS
from loopline.line.search_arms import TRIAL
from loopline.line.search_budget import JOINING_SHARE, LATE_SHARE, MARGIN, TIMED, Clock, put_down
from loopline.line.spec import make_spec
from loopline.line.trial import OutOfTime, Watch, run_trial
from loopline.progress import SilentReporter
from loopline.search.record import NO_TIME, Record, Trial


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return open_project(tmp_path)


def clock(
    project: Project, budget: float | None, chosen: str | None = None, **settings: Any
) -> tuple[Clock, LineContext]:
    """A clock of arms "a", "cheap" and "dear"; where nobody is chosen, the dearest counts."""
    spec = make_spec({"data": {"source": "a.csv"}, "target": "y", **settings})
    context = LineContext(spec, Path(), project.store, project.ledger, SilentReporter())
    prepared: Any = SimpleNamespace()
    families = dict.fromkeys(("a", "cheap", "dear"), "linear")
    made = Clock(context, prepared, budget, families)
    nothing: Any = np.empty(0)
    made._score = lambda artifact: (0.0, 0.0)  # type: ignore[method-assign]
    made._opened = lambda artifact: (nothing, nothing)  # type: ignore[method-assign]
    made._choice = lambda rows: chosen  # type: ignore[method-assign]
    return made, context


def trial(arm: str, **costs: float) -> Record:
    whole = {"fixed": FIXED_SECONDS, **costs}
    return Record(0, arm, {}, "defaults", "complete", 0.5, artifact="trial-0", costs=whole)


def test_without_a_budget_time_never_ends(project: Project) -> None:
    """No deadline, always time for another trial."""
    made, _ = clock(project, None)
    made.learn(trial("a", final=1e9))
    assert (made.deadline(), made.left(), made.wanted()) == (None, None, True)


def test_the_first_trial_may_use_all_of_the_time(project: Project) -> None:
    """Before a trial is complete nothing is kept free."""
    made, context = clock(project, 100.0)
    assert made.deadline() == context.started + 100.0


def test_who_joins_a_blend_leaves_time_for_that(project: Project) -> None:
    """A family's first trial has two thirds of what is left; with `simplest`, and others, all."""
    for select, share in (("best", JOINING_SHARE), ("simplest", 1.0)):
        made, context = clock(project, 100.0, select=select)
        assert made.deadline(context.started) is None
        made.learn(trial("a", final=4.0))
        end = made.deadline()
        assert end is not None
        began = context.started + 10.0
        assert made.deadline(began) == pytest.approx(began + share * (end - began), abs=0.01)


def test_the_dearest_arm_is_kept_free_for(project: Project) -> None:
    """The final fit, importance and latency of the dearest best trial, with a margin."""
    made, context = clock(project, 100.0)
    made.learn(trial("cheap", final=1.0, importance=2.0))
    made.learn(trial("dear", final=4.0, importance=6.0))
    deadline = made.deadline()
    assert deadline is not None
    assert deadline == pytest.approx(
        context.started + 100 - MARGIN * (FIXED_SECONDS + 10), abs=0.01
    )


def test_where_the_choice_is_plain_only_its_time_is_kept_free(project: Project) -> None:
    """The cheap arm would be chosen: a run of 100 s keeps its 3 s free, not the dear arm's 6."""
    made, _ = clock(project, 100.0, chosen="cheap")
    made.learn(trial("dear", final=2.0, importance=4.0))
    made.learn(trial("cheap", final=1.0, importance=2.0))
    assert made.reserve() == pytest.approx(MARGIN * (FIXED_SECONDS + 3.0))


def test_another_choice_than_expected_is_a_few_percent_late_at_most(project: Project) -> None:
    """Of 100 s the dear arm's 30 are kept free but for 4 s."""
    made, _ = clock(project, 100.0, chosen="cheap")
    made.learn(trial("dear", final=10.0, importance=20.0))
    made.learn(trial("cheap", final=1.0))
    assert made.reserve() == pytest.approx(FIXED_SECONDS + 30.0 - 100 * LATE_SHARE)
    assert LATE_SHARE < 0.05


def test_a_blend_asks_all_of_its_members(project: Project) -> None:
    """With `select: best` all arms are fitted and asked; a blend explains nothing by columns."""
    made, _ = clock(project, 100.0, select="best")
    made.learn(trial("dear", final=4.0, contributions=3.0))
    made.learn(trial("cheap", final=1.0, importance=7.0))
    assert made.expected() == pytest.approx(FIXED_SECONDS + 12.0)


def test_where_no_blend_is_better_the_dearest_model_counts(project: Project) -> None:
    """A single model that scores best is explained by columns, which a blend is not."""
    made, _ = clock(project, 100.0, select="best")
    made.learn(trial("dear", final=4.0, contributions=30.0))
    made.learn(trial("cheap", final=1.0))
    assert made.expected() == pytest.approx(FIXED_SECONDS + 34.0)


def test_under_a_limit_every_candidate_is_measured(project: Project) -> None:
    """The latency of both arms counts beside that of the chosen one's final model."""
    made, _ = clock(project, 100.0, chosen="cheap", constraints={"latency_p99": "5ms"})
    made.learn(trial("dear", latency=3.0))
    made.learn(trial("cheap", latency=2.0))
    assert made.expected() == pytest.approx(FIXED_SECONDS + 2.0 + 5.0)


def test_many_trials_take_time_to_be_corrected_for(project: Project) -> None:
    """What the best score is worth is computed from all complete trials."""
    made, _ = clock(project, 100.0)
    made._score = lambda artifact: (0.5, 0.01)  # type: ignore[method-assign]
    for _ in range(100):
        made.learn(trial("a"))
    assert made.expected() == pytest.approx(FIXED_SECONDS + 4 * 0.5 + 100 * 0.01)


def test_an_arms_latest_best_counts(project: Project) -> None:
    """A better trial of the arm that is cheaper afterwards frees time."""
    made, _ = clock(project, 100.0)
    made.learn(trial("a", final=9.0))
    before = made.reserve()
    made.learn(trial("a", final=3.0))
    assert made.reserve() < before


def test_a_run_corrects_the_next_ones_estimate(project: Project) -> None:
    """What took twice as long as expected is expected to again: the median, within limits."""
    made, context = clock(project, 100.0)
    made.learn(trial("a", final=4.0))
    plain = made.reserve()
    project.ledger.append(TIMED, data={"name": "another", "expected": 1.0, "took": 9.0})
    project.ledger.append(TIMED, data={"name": "a", "expected": 5.0, "took": 10.0})
    again, _ = clock(project, 100.0)
    again.learn(trial("a", final=4.0))
    assert again.reserve() == pytest.approx(2 * plain, rel=0.01)
    for _ in range(2):
        project.ledger.append(TIMED, data={"name": "a", "expected": 1.0, "took": 1e6})
    wild, _ = clock(project, 100.0)
    wild.learn(trial("a", final=4.0))
    assert wild.reserve() == pytest.approx(3 * plain, rel=0.01)
    for _ in range(4):
        project.ledger.append(TIMED, data={"name": "a", "expected": 1.0, "took": 0.1})
    swift, _ = clock(project, 100.0)
    swift.learn(trial("a", final=4.0))
    assert swift.reserve() == pytest.approx(0.7 * plain, rel=0.01)
    put_down(context, {"ended": time.monotonic(), "expected": 3.0})
    assert project.ledger.events(kind=TIMED, newest_first=True)[0].data["expected"] == 3.0


def test_when_the_time_is_over_no_trial_is_wanted(project: Project) -> None:
    """A budget in the past; the first trial is told of only where it was begun in time."""
    made, context = clock(project, 5.0)
    assert "and the first trial was not done after" in made.too_short()
    context.started -= 10.0
    assert not made.wanted()
    assert "does not suffice for one trial" in made.too_short()
    assert "the first trial" not in made.too_short()


def test_a_fit_ends_at_its_next_round_after_the_deadline() -> None:
    """Every advance of a fit looks at the clock."""
    watch = Watch(time.monotonic() - 1.0, None)
    with pytest.raises(OutOfTime), watch.step("fit", 10):
        pass
    late = Watch(None, None)
    with late.step("fit", 10) as step:
        step.advance()
        late._deadline = time.monotonic() - 1.0
        with pytest.raises(OutOfTime):
            step.advance()


def test_a_fit_ends_at_its_next_round_after_an_interrupt() -> None:
    """Ctrl-C lets the round end, not the trial."""
    interrupt = Interrupt()
    watch = Watch(None, interrupt)
    with watch.step("fit", 10) as step:
        step.advance()
        interrupt.ask()
        with pytest.raises(OutOfTime):
            step.advance()


def test_a_library_that_wraps_the_stop_fails_no_trial(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CatBoost turns whatever ends it into an error of its own: that is no failed trial."""

    def wrapping(context: Any, prepared: Any, job: Any, progress: Any, watch: Watch) -> Any:
        try:
            watch.check()
        except OutOfTime as stop:
            raise LooplineError("CatBoost could not train") from stop

    monkeypatch.setattr(trial_module, "_run", wrapping)
    _, context = clock(project, 10.0)
    job: Any = SimpleNamespace(skipped=False)
    prepared: Any = None
    with pytest.raises(OutOfTime):
        run_trial(context, prepared, job, time.monotonic() - 1.0)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_trial_that_comes_too_late_has_failed_for_that(
    project: Project, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    """It is recorded, so that the search goes on without its family; the time is not over."""

    def late(context: Any, prepared: Any, job: Any, progress: Any, watch: Watch) -> Any:
        try:
            watch.check()
        except OutOfTime as stop:
            if not wrapped:
                raise
            raise LooplineError("CatBoost could not train") from stop

    monkeypatch.setattr(trial_module, "_run", late)
    _, context = clock(project, 10.0)
    job: Any = SimpleNamespace(skipped=False, trial=Trial(4, "a", {}, "defaults"))
    prepared: Any = None
    now = time.monotonic()
    found = run_trial(context, prepared, job, now + 60.0, None, now - 1.0)
    assert (found.number, found.state, found.reason) == (4, "failed", NO_TIME)


def test_a_trial_that_will_come_too_late_is_not_waited_for() -> None:
    """An end that is expected behind the limit ends it now, one before it does not."""
    now = time.monotonic()
    watch = Watch(None, None, now + 60.0)
    watch.expect(now + 59.0)
    assert not watch.given_up
    with pytest.raises(OutOfTime):
        watch.expect(now + 61.0)
    assert watch.given_up


def test_the_first_ctrl_c_is_noted_and_the_second_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """One signal raises nothing; another one, later, raises; then all is as before."""
    monkeypatch.setattr(interrupts, "SAME_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGINT)
    with noted() as interrupt:
        assert not interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        time.sleep(0.001)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_two_signals_at_once_are_one() -> None:
    """A library that passes on the interrupt it has seen does not make it a second one."""
    with noted() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked


def test_other_threads_take_no_signals() -> None:
    """A search in a thread leaves the signals alone."""
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with noted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_clock_expects_the_choice_that_the_run_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the very trials of a run it names the released candidate, and its costs by name."""
    seen: list[Clock] = []
    over = Clock.over

    def watched(self: Clock) -> dict[str, float]:
        seen.append(self)
        return over(self)

    monkeypatch.setattr(Clock, "over", watched)
    result = loopline.fit(
        make_table(300), "bought", models=["linear", {"lightgbm": {"rounds": 8}}], store=tmp_path,
        progress=False, search={"trials": 3, "budget": 600},
        settings={"split": {"folds": 2}, "threads": 1, "audit": "report"},
    )  # fmt: skip
    (made,) = seen
    assert made._chosen == result.summary["chosen"]
    name = result.summary["search"]["study"]
    events = result._project.ledger.events(kind=TRIAL, subject=name)
    costs = [event.data["record"]["costs"] for event in events if event.data["record"]["costs"]]
    assert costs
    for each in costs:
        assert set(each) == {"fixed", "final", "importance", "contributions", "latency"}
        assert all(seconds >= 0 for seconds in each.values())
        assert each["fixed"] >= FIXED_SECONDS
