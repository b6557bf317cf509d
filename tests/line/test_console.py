"""Progress for people: the time left is told only where it can be known."""

from __future__ import annotations

import io

import pytest

from loopline.line import console
from loopline.line.console import LineReporter, Pace


def paced(total: float, times: list[float]) -> Pace:
    pace = Pace(total, 0.0)
    for now in times:
        pace.advance(1, now)
    return pace


def test_steady_pieces_tell_the_time_left() -> None:
    """Four pieces of 2 s of ten leave 12 s, 11 s when the fifth has run for one."""
    pace = paced(10, [2.0, 4.0, 6.0, 8.0])
    assert pace.share == pytest.approx(0.4)
    assert pace.seconds_left(8.0) == pytest.approx(12.0)
    assert pace.seconds_left(9.0) == pytest.approx(11.0)


def test_unsteady_pieces_tell_nothing() -> None:
    """After quick pieces and a slow one, or in the midst of a slow one, nothing is promised."""
    quick = [0.01, 0.02, 0.03, 0.04, 0.05]
    assert paced(15, [*quick, 4.0]).seconds_left(4.0) is None
    assert paced(15, quick).seconds_left(3.0) is None
    steady = [4.0, 8.0, 12.0, 16.0, 20.0]
    assert paced(15, [*quick, *steady]).seconds_left(20.0) == pytest.approx(20.0, rel=0.01)


def test_nothing_is_told_without_a_total_or_a_past() -> None:
    """One piece is no pace, and an unknown total has no end."""
    assert paced(10, [1.0]).seconds_left(1.0) is None
    endless = Pace(None, 0.0)
    endless.advance(1, 1.0)
    assert (endless.share, endless.seconds_left(1.0)) == (None, None)


def test_parts_that_may_stop_early_promise_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The race tells its share and time left; the boosting rounds inside it only that they run."""
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    reporter = LineReporter(out)
    with reporter.step("fit the candidates", total=4) as race:
        race.describe("trees, fold 1 of 2")
        race.advance()
        race.advance()
        race.advance()
        with reporter.step("lightgbm", total=2000) as rounds:
            rounds.advance()
            rounds.advance()
    told = out.getvalue()
    assert "fit the candidates: 75% (trees, fold 1 of 2), about 6 s left" in told
    inner = [line for line in told.splitlines() if line.startswith("  lightgbm")]
    assert inner
    assert not [line for line in inner if "left" in line or "%" in line]


def test_notes_end_with_a_full_stop() -> None:
    """A reading note becomes a sentence."""
    out = io.StringIO()
    LineReporter(out).note("11 blank cells in a read as missing")
    assert out.getvalue() == "note: 11 blank cells in a read as missing.\n"
