"""Settings of the watch and how a budget is shared out."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from loopline.errors import SettingsError
from loopline.monitor.budget import SHARES, Budget
from loopline.monitor.settings import MonitorSettings, read_budget, read_seconds


@pytest.mark.parametrize("text", ["", "often", "0/month", "1/fortnight", "-1/day", "1"])
def test_a_budget_is_pages_for_a_time(text: str) -> None:
    """Anything but a number above 0 for a day, week, month or year is refused with an example."""
    with pytest.raises(SettingsError, match="1/month"):
        read_budget(text)


@pytest.mark.parametrize("text", ["1", "d", "0d", "-1h", "5y", "400d"])
def test_a_duration_has_a_unit_and_an_end(text: str) -> None:
    """A duration without a unit, of nothing, or of more than a year is refused."""
    with pytest.raises(SettingsError, match="12h"):
        read_seconds(text)


def test_all_wrong_settings_are_told_at_once() -> None:
    """A budget, a window and two lists that contradict each other give three problems."""
    with pytest.raises(ValidationError, match="3 problems"):
        MonitorSettings(false_pages="x", window="y", ignore=("a",), slices=("a",))


def test_an_unknown_setting_is_an_error() -> None:
    """A misspelt setting does not pass in silence."""
    with pytest.raises(ValidationError, match="windw"):
        MonitorSettings.model_validate({"windw": 5})


def test_one_name_stands_for_a_list_of_one() -> None:
    """`ignore: id` and `ignore: [id]` are the same."""
    assert MonitorSettings.model_validate({"ignore": "id"}).ignore == ("id",)


def test_the_budget_is_kept_when_all_is_summed() -> None:
    """All kinds' chances over the windows of a day are the pages of a day, and no more."""
    kinds = list(SHARES)
    budget = Budget.of(1 / 30, None, 50, 1_000.0, kinds)
    assert budget.windows_a_day == 20
    total = sum(budget.chance(kind) for kind in kinds) * 20
    assert total == pytest.approx(1 / 30)


def test_looks_within_a_window_share_its_chance() -> None:
    """Labels judged in 40 chunks a window may each err a fortieth as often."""
    budget = Budget.of(0.01, 86_400.0, None, None, ["performance"])
    assert budget.chance("performance", 40) == pytest.approx(budget.chance("performance") / 40)


def test_an_unknown_rate_is_told() -> None:
    """Windows by count without a rate are taken as days, and the budget says so."""
    assert "one window as a day" in Budget.of(0.03, None, 50, None, ["column"]).assumed
