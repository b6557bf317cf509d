"""The range test with which a network's search begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.line.conftest import make_table

import loopline
from loopline.errors import DataError
from loopline.line.face import Result
from loopline.line.search_arms import STARTED, TRIAL
from loopline.line.search_rates import SPREAD_TRIALS, with_first_rates
from loopline.models.space import Number
from loopline.search.arms import Arm
from loopline.search.record import Record

find = pytest.importorskip("loopline.engine.tools.find")
NET = {"mlp": {"epochs": 3.0, "width": 16, "members": 2, "depth": 1}}


def run(store: Path, trials: int = 4, models: Any = NET, **search: Any) -> Result:
    return loopline.fit(
        make_table(300), "bought", models=models, store=store, progress=False, settings={
            "search": {"trials": trials, **search}, "split": {"folds": 2}, "threads": 1,
            "audit": "report",
        },
    )  # fmt: skip


def led(result: Result) -> tuple[list[float], list[Record]]:
    """The rates that the study began with, and its records."""
    ledger, name = result._project.ledger, result.summary["search"]["study"]
    (started,) = ledger.events(kind=STARTED, subject=name)
    events = ledger.events(kind=TRIAL, subject=name)
    records = [Record.from_dict(event.data["record"]) for event in events]
    return started.data["arms"][-1]["lead"], records


def test_a_networks_first_rates_are_those_of_the_range_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rates of two digits within the range; the study holds them, and does not ask again."""
    rates, records = led(run(tmp_path / "one"))
    assert 1 <= len(rates) <= 2
    assert all(2e-4 <= rate <= 2e-2 and rate == float(f"{rate:.1e}") for rate in rates)
    tried = [record.params["learning_rate"] for record in records if record.origin == "lead"]
    assert tried == [rate for rate in rates if rate != 2e-3]
    assert led(run(tmp_path / "again"))[0] == rates

    def asked(*what: Any, **more: Any) -> None:
        raise AssertionError("the range test was made again")

    monkeypatch.setattr(find, "find_lr", asked)
    more, records = led(run(tmp_path / "one", trials=5))
    assert (more, len(records)) == (rates, 5)


def test_rates_stay_within_the_range_that_is_searched(tmp_path: Path) -> None:
    """A range far below what the test likes begins at its upper end."""
    space = {"mlp": {"learning_rate": [1e-6, 2e-6]}}
    assert led(run(tmp_path, space=space))[0] == [2e-6]


def test_without_an_answer_rates_are_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five over the whole range, from end to end."""

    def failing(*what: Any, **more: Any) -> None:
        raise DataError("no three finite losses")

    monkeypatch.setattr(find, "find_lr", failing)
    rates, _ = led(run(tmp_path, trials=2))
    assert (len(rates), rates[0], rates[-1]) == (SPREAD_TRIALS, 2e-4, 2e-2)


def test_what_has_no_rate_to_find_is_searched_as_it_was(tmp_path: Path) -> None:
    """Neither trees, which have a rate too, nor a network whose rate is given are tested."""
    assert led(run(tmp_path / "trees", trials=2, models={"lightgbm": {"rounds": 5}}))[0] == []
    given = {"mlp": {**NET["mlp"], "learning_rate": 1e-3}}
    assert led(run(tmp_path / "given", trials=2, models=given))[0] == []


def test_a_family_without_a_range_test_spreads_its_rates() -> None:
    """Photographs: five rates over the scale, and nothing is trained for it."""
    space = {"learning_rate": Number(1e-4, 1e-2, log=True), "dropout": Number(0.0, 0.4)}
    nothing: Any = None
    arm = with_first_rates(nothing, nothing, nothing, Arm("image", "image", 45, space))
    assert arm.lead == pytest.approx((1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2))
