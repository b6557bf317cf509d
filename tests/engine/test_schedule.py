"""Learning-rate schedules, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.engine.schedule import Schedule
from loopline.errors import SettingsError


def _factors(schedule: Schedule, steps: int) -> list[float]:
    return [round(schedule.factor(step, steps), 6) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule("constant"), [1, 1, 1, 1, 1]),
        (Schedule("linear"), [1, 0.75, 0.5, 0.25, 0]),
        (Schedule("linear", floor=0.2), [1, 0.8, 0.6, 0.4, 0.2]),
        (Schedule("cosine"), [1, 0.853553, 0.5, 0.146447, 0]),
        (Schedule("constant", warmup=0.4), [0.5, 1, 1, 1, 1]),
        (Schedule("wsd", warmup=0.2, decay=0.5), [1, 1, 1, 0.666667, 0]),
        (Schedule("one_cycle", warmup=0.4), [0.5, 1, 1, 0.5, 0]),
    ],
    ids=lambda value: value.kind if isinstance(value, Schedule) else "",
)
def test_factors_by_hand(schedule: Schedule, wanted: list[float]) -> None:
    """Five steps of each kind."""
    assert _factors(schedule, 5) == wanted


@given(
    kind=st.sampled_from(["constant", "linear", "cosine", "wsd", "one_cycle"]),
    warmup=st.floats(0, 0.9),
    decay=st.floats(0.05, 1),
    floor=st.floats(0, 1),
    steps=st.integers(1, 60),
)
@settings(max_examples=150, deadline=None)
def test_factors_stay_between_zero_and_one(
    kind: str, warmup: float, decay: float, floor: float, steps: int
) -> None:
    """No schedule goes below 0 or above 1, and after the rise none rises again."""
    factors = _factors(Schedule(kind, warmup, decay, floor), steps)
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    top = factors.index(max(factors))
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_wrong_settings_are_told_together() -> None:
    """Each wrong setting has its sentence."""
    with pytest.raises(SettingsError, match="4 problems"):
        Schedule("cosin", warmup=1.0, decay=0.0, floor=2.0)
