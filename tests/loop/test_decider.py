"""What the decider asks beside the gate, and what it remembers of earlier windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.loop.conftest import Shop, customers
from tests.loop.test_labels import serve

import loopline
from loopline.errors import ConflictError, DataError
from loopline.line.files import read_line
from loopline.loop import decide
from loopline.loop.attempt import Attempt
from loopline.loop.bout import Check
from loopline.loop.decide import Decider
from loopline.loop.diary import Diary
from loopline.loop.gate import Verdict
from loopline.progress import SilentReporter


@pytest.fixture
def decider(shop: Shop) -> Iterator[Decider]:
    """The shop's, with its champion."""
    with shop.project() as project:
        diary = Diary(project.ledger, "shop")
        line = read_line(shop.folder)
        yield Decider(project, line, diary, SilentReporter(), shop.time.clock(), None)


@pytest.fixture
def attempt(decider: Decider) -> Attempt:
    """One against the champion, with rows that nobody looks at here."""
    champion = decider._project.aliases.get("shop", "champion")
    return Attempt("now", 1, champion, "train", "gate-now", "history", "known")


def window(decider: Decider, number: int, champion: str, **data: Any) -> None:
    """An earlier window: what was tried and decided."""
    name = f"attempt-{number}"
    facts = {"attempt": name, "champion": champion, "gate": f"gate-{number}"}
    decider._diary.tell("triggered", f"Attempt {number}.", **facts)
    decider._diary.tell("decided", "Kept.", **facts, **data)


def test_windows_in_a_row_are_counted(decider: Decider, attempt: Attempt) -> None:
    """Two doubted windows are two; one that had too few rows between them says nothing; one that
    saw no change ends the row, and so does another champion."""
    window(decider, 1, attempt.champion, unconfirmed=True)
    window(decider, 2, attempt.champion, unconfirmed=False, silent=True)
    window(decider, 3, attempt.champion, unconfirmed=True)
    assert decider._seen_before(attempt) == 2
    window(decider, 4, attempt.champion, unconfirmed=False, silent=False)
    assert decider._seen_before(attempt) == 0
    window(decider, 5, attempt.champion, unconfirmed=True)
    assert decider._seen_before(attempt) == 1
    window(decider, 6, "release-other", unconfirmed=True)
    assert decider._seen_before(attempt) == 0


def test_a_window_that_was_decided_already_does_not_confirm_itself(
    decider: Decider, attempt: Attempt
) -> None:
    """The same rows, decided by a controller that lost its lease, are no second window."""
    window(decider, 1, attempt.champion, unconfirmed=True)
    assert decider._seen_before(replace(attempt, gate="gate-1")) == 0


def test_a_confirmation_counts_for_the_champion_of_its_time(
    decider: Decider, attempt: Attempt
) -> None:
    """What a person confirmed before a promotion says nothing of what comes after it."""
    decider._diary.tell("confirmed", "A person confirmed it.", why="new prices")
    assert decider._confirmed(attempt) == "new prices"
    decider._project.aliases.promote("shop", "champion", "release-2")
    assert decider._confirmed(replace(attempt, champion="release-2")) == ""


def leak(*columns: str, **more: Any) -> dict[str, Any]:
    """A finding of the audit."""
    return {
        "severity": "leak", "columns": list(columns), "remedy": None,
        "sentence": f"{columns[0]} is a copy of the target.", **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("finding", "passes"),
    [
        (leak("x"), False),
        (leak("x", severity="note"), True),
        (leak("x", remedy={"applied": True}), True),
        (leak("x", remedy={"applied": False}), False),
        (leak("z"), True),
        (leak("city"), True),
    ],
)
def test_only_new_leaks_that_stand_keep_a_challenger_out(
    decider: Decider, monkeypatch: pytest.MonkeyPatch, finding: dict[str, Any], passes: bool
) -> None:
    """A note is none, nor one that the run repaired, nor what the champion's run had (z), nor what
    the settings allow (city)."""
    project = decider._project
    champion = project.release("shop@champion")
    run = decide.run_of(project, champion.id)
    assert run.summary["audit"] is not None
    run.summary["audit"] = [leak("z"), leak("x", severity="note")]
    monkeypatch.setattr(decide, "run_of", lambda *given: run)
    spec = decider._line.spec.model_copy(update={"allow_leaks": ("city",)})
    monkeypatch.setattr(decider, "_line", replace(decider._line, spec=spec))
    found = decider._audit({"audit": [finding]}, champion)
    assert (found.name, found.passed) == ("audit", passes)
    assert passes or "x is a copy of the target." in found.sentence


def test_a_challenger_that_cannot_answer_logged_requests_is_kept_out(shop: Shop) -> None:
    """The shadow: both are asked what callers asked; a refusal of one row is enough."""
    serve(shop, 30, labelled=0)

    class Refuses:
        def predict_frame(self, frame: pl.DataFrame) -> Any:
            raise DataError("Column 'x' holds what this model never saw.")

    with shop.project() as project:
        diary = Diary(project.ledger, "shop")
        line = read_line(shop.folder)
        decider = Decider(project, line, diary, SilentReporter(), shop.time.clock(), None)
        champion = project.release("shop@champion")
        refused = decider._shadow(champion, Refuses())  # type: ignore[arg-type]
        agreed = decider._shadow(champion, champion)
    assert (refused.name, refused.passed) == ("shadow", False)
    assert "never saw" in refused.sentence
    assert (agreed.passed, "30 logged requests it agrees on 100.0%" in agreed.sentence) == (
        True, True,
    )  # fmt: skip


def test_only_like_is_compared_with_like(
    decider: Decider, attempt: Attempt, tmp_path: Path
) -> None:
    """A challenger with other classes is kept out with the way on; so is the champion itself."""
    table = customers(300, 3).with_columns(bought=pl.col("bought") + "!")
    result = loopline.fit(
        table, "bought", models=["baseline"], settings={"name": "shop", "split": {"folds": 2}},
        store=decider._project.local_folder, progress=False,
    )  # fmt: skip
    other = result.release.id
    result.project.close()
    verdict, proof = decider._judged(attempt, {"release": other})
    assert (verdict.promote, proof) == (False, {})
    assert "only like can be compared" in verdict.reason
    verdict, proof = decider._judged(attempt, {"release": attempt.champion})
    assert (verdict.promote, verdict.reason) == (False, "The new model is the champion itself.")
    assert tmp_path.exists()


def test_a_window_that_the_line_cannot_read_is_decided_at_once(
    decider: Decider, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that no run can use would be met again: kept, without five tries; the window counts as
    one that said nothing."""

    def refuse(*given: Any) -> Any:
        raise DataError("Every row has the same label.")

    monkeypatch.setattr(decide, "train", refuse)
    assert decider.finish(attempt)
    decided = decider._diary.last("decided")
    assert decided is not None
    assert "Every row has the same label." in decided.sentence
    assert (decided.data["promoted"], decided.data["silent"]) == (False, True)


def test_a_move_of_the_champion_meanwhile_ends_the_attempt(
    decider: Decider, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody promotes in the very moment between the look at the alias and its move: theirs
    counts, and the attempt is kept."""
    aliases, verdict = decider._project.aliases, Verdict((Check("better", True, "Better."),))
    history = type(aliases).history

    def late(self: Any, *given: Any) -> Any:
        found = history(self, *given)
        monkeypatch.setattr(type(aliases), "history", history)
        aliases.promote("shop", "champion", "release-theirs")
        return found

    monkeypatch.setattr(type(aliases), "history", late)
    with pytest.raises(ConflictError, match="theirs counts"):
        decider._promote(attempt, "release-ours", verdict, {})
    assert aliases.get("shop", "champion") == "release-theirs"


def test_pauses_double_and_a_clock_that_goes_back_ends_them(
    decider: Decider, attempt: Attempt, shop: Shop
) -> None:
    """After one failure a minute, after two failures two; with the clock a year back at once,
    because nobody would wait a year."""
    tried = {}
    for failures in (1, 2):
        decider._diary.tell("failed", "The disk is full.", attempt=attempt.id)
        for seconds in (30, 61, 121, -365 * 86_400):
            shop.time.offset = seconds
            tried[failures, seconds] = decider._may_try(attempt)
    assert [seconds for (number, seconds), may in tried.items() if number == 1 and may] == [
        61, 121, -365 * 86_400,
    ]  # fmt: skip
    assert [seconds for (number, seconds), may in tried.items() if number == 2 and may] == [
        121, -365 * 86_400,
    ]  # fmt: skip
    assert decider._may_try(replace(attempt, id="another"))
