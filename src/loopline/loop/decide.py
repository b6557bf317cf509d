"""An attempt is carried to its decision: train, gate, shadow, promote or keep, and written down.

Every step may be done again: training finds its stages, the comparison is a function of rows that
were set aside before, the alias moves only from the release that was challenged. So a controller
that is killed between any two of them is followed by one that decides the same.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.snapshot import open_snapshot
from loopline.errors import (
    ConflictError,
    DataError,
    HonestyError,
    IntegrityError,
    LooplineError,
    NotFoundError,
    SettingsError,
)
from loopline.line.files import LineFile
from loopline.line.project import Project
from loopline.loop.attempt import Attempt, fresh_bout, history_bout, protected, run_of, train
from loopline.loop.bout import Check
from loopline.loop.diary import Diary, promoted
from loopline.loop.gate import Verdict, judge
from loopline.loop.labels import answered_rows
from loopline.loop.live import LiveShadow
from loopline.loop.steady import Clock
from loopline.progress import Reporter
from loopline.release.aliases import CHAMPION
from loopline.release.bundle import Release
from loopline.release.promote import prove_release
from loopline.words import counted

MOST_FAILURES = 5
LONGEST_PAUSE = 86_400.0
FINAL = (DataError, SettingsError, HonestyError)
"""What training again on the same rows would meet again."""
BROKEN = (
    LooplineError, OSError, MemoryError, RuntimeError, ValueError, TypeError, LookupError,
    ArithmeticError, pl.exceptions.PolarsError,
)  # fmt: skip
"""What may go away by itself, or be repaired while the champion goes on: tried again."""


class Decider:
    """Carries attempts to their decision.

    Args:
        project: store and ledger.
        line: the settings and their folder.
        diary: where everything is written down.
        reporter: hears of progress.
        clock: what time it is.
        folder: where the service keeps labels.
    """

    def __init__(
        self,
        project: Project,
        line: LineFile,
        diary: Diary,
        reporter: Reporter,
        clock: Clock,
        folder: Path | None,
    ) -> None:
        self._project, self._line, self._diary = project, line, diary
        self._reporter, self._clock, self._folder = reporter, clock, folder
        self._live = LiveShadow(project, line.spec, diary, clock)

    def finish(self, attempt: Attempt) -> bool:
        """Go on with an attempt; whether it is decided now."""
        if not self._may_try(attempt):
            return False
        challenger: str | None = None
        try:
            tried = self._live.begun(attempt)
            if tried is None:
                outcome = train(
                    self._project, attempt, self._line.spec, self._line.folder, self._reporter
                )
                challenger = outcome.release
                self._trained(attempt, outcome.summary)
                verdict, proof = self._judged(attempt, outcome.summary)
                if verdict.promote and self._live.begin(attempt, challenger, verdict, proof):
                    return False
            else:
                challenger, proof = tried.challenger, dict(tried.proof)
                live = self._live.outcome(attempt, tried)
                if live is None:
                    return False
                verdict = tried.verdict.with_checks(live)
            if verdict.promote:
                self._promote(attempt, challenger, verdict, proof)
        except (*FINAL, ConflictError) as error:
            self._keep(attempt, challenger, str(error))
        except BROKEN as error:
            return self._failed(attempt, error)
        else:
            if not verdict.promote:
                self._keep(attempt, challenger, verdict.reason, verdict)
        return True

    def _may_try(self, attempt: Attempt) -> bool:
        """Whether the pause after a failure is over; a clock that went back ends it too."""
        failures = [e for e in self._diary.entries("failed") if e.data.get("attempt") == attempt.id]
        if not failures:
            return True
        pause = min(LONGEST_PAUSE, self._line.spec.loop.retry * 2 ** (len(failures) - 1))
        since = self._clock.now() - datetime.fromisoformat(failures[-1].time).timestamp()
        return since < 0 or since >= pause

    def _failed(self, attempt: Attempt, error: BaseException) -> bool:
        before = [e for e in self._diary.entries("failed") if e.data.get("attempt") == attempt.id]
        told = f"{type(error).__name__}: {error}"
        if len(before) + 1 >= MOST_FAILURES:
            self._keep(attempt, None, f"It failed {MOST_FAILURES} times, at last with {told}")
            return True
        pause = min(LONGEST_PAUSE, self._line.spec.loop.retry * 2 ** len(before))
        self._diary.tell(
            "failed", f"The retraining failed and is tried again in {pause:.0f} s; the champion "
            f"goes on serving. {told}", attempt=attempt.id,
        )  # fmt: skip
        return False

    def _trained(self, attempt: Attempt, summary: dict[str, Any]) -> None:
        told = [e for e in self._diary.entries("trained") if e.data["attempt"] == attempt.id]
        if told and told[-1].data["release"] == summary["release"]:
            return
        self._diary.tell(
            "trained", f"The line was run on the new window: {summary['chosen']} was chosen, "
            f"{summary['release'][:20]}.",
            attempt=attempt.id, run=summary["run"], release=summary["release"],
        )  # fmt: skip

    def _judged(self, attempt: Attempt, summary: dict[str, Any]) -> tuple[Verdict, dict[str, Any]]:
        store, spec = self._project.store, self._line.spec
        champion = Release(store.get(attempt.champion))
        challenger = Release(store.get(summary["release"]))
        same = (champion.task, champion.classes) == (challenger.task, challenger.classes)
        if not same:
            told = (
                f"The challenger predicts {challenger.task} {list(challenger.classes)}, the "
                f"champion {champion.task} {list(champion.classes)}: only like can be compared. "
                "Promote it by hand if that is right."
            )
            return Verdict((Check("enough", False, told),)), {}
        if champion.id == challenger.id:
            return Verdict((Check("better", False, "The new model is the champion itself."),)), {}
        gate = open_snapshot(store, attempt.gate).frame()
        history = open_snapshot(store, attempt.history).frame()
        verdict = judge(
            fresh_bout(spec, champion, challenger, gate),
            history_bout(self._project, champion, challenger, history),
            metric=str(run_of(self._project, champion.id).metric),
            settings=spec.loop,
            attempt=attempt.number,
            seen_before=self._seen_before(attempt),
            confirmed=self._confirmed(attempt),
            parts=protected(spec, champion, gate),
        ).with_checks(self._audit(summary, champion))
        if not verdict.promote:
            return verdict, {}
        shadow = self._shadow(champion, challenger)
        try:
            proof = prove_release(store, challenger)
        except (IntegrityError, NotFoundError) as error:
            return verdict.with_checks(shadow, Check("replay", False, str(error))), {}
        return verdict.with_checks(shadow, Check("replay", True, f"{proof}.")), proof.to_dict()

    def _seen_before(self, attempt: Attempt) -> int:
        """Windows in a row, directly before this one, that showed an unconfirmed change.

        Two attempts on the same rows, by controllers of which one had lost its lease, are one
        window.
        """
        gates = {e.data["attempt"]: e.data["gate"] for e in self._diary.entries("triggered")}
        seen: set[str] = set()
        for entry in reversed(self._diary.entries("decided")):
            if entry.data["champion"] != attempt.champion:
                break
            if entry.data.get("silent"):
                continue
            if not entry.data.get("unconfirmed"):
                break
            seen.add(gates[entry.data["attempt"]])
        return len(seen - {attempt.gate})

    def _confirmed(self, attempt: Attempt) -> str:
        moves = self._project.aliases.history(self._diary.name, CHAMPION)
        since = [move.event for move in moves if move.release == attempt.champion]
        entry = self._diary.last("confirmed", after=since[-1] if since else 0)
        return "" if entry is None else str(entry.data["why"])

    def _audit(self, summary: dict[str, Any], champion: Release) -> Check:
        """No column gives the answer away that did not do so, with leave, in the champion's run."""
        known = {
            tuple(finding["columns"])
            for finding in run_of(self._project, champion.id).summary["audit"]
            if finding["severity"] == "leak"
        }
        leaks = [
            finding
            for finding in summary["audit"]
            if finding["severity"] == "leak"
            and not (finding["remedy"] or {}).get("applied")
            and tuple(finding["columns"]) not in known
            and not set(finding["columns"]) <= set(self._line.spec.allow_leaks)
        ]
        if leaks:
            return Check("audit", False, f"The audit found: {leaks[0]['sentence']}")
        return Check("audit", True, "The audit found no new leak.")

    def _shadow(self, champion: Release, challenger: Release) -> Check:
        """The newest logged requests, answered by both; the caller had the champion's answer."""
        rows = self._line.spec.loop.shadow_rows
        logged = answered_rows(self._project, champion, self._folder).rows.tail(rows)
        if not rows or logged.is_empty():
            return Check("shadow", True, "No logged requests to try it on.")
        try:
            mine, theirs = (
                one.predict_frame(logged)[0]["prediction"] for one in (challenger, champion)
            )
        except DataError as error:
            return Check("shadow", False, f"It cannot answer logged requests: {error}")
        if champion.task == "regression":
            apart = np.abs((mine - theirs).to_numpy()).mean()
            told = f"it differs by {apart:.3g} on average"
        else:
            told = f"it agrees on {(mine == theirs).to_numpy().mean():.1%}"
        seen = counted(logged.height, "logged request")
        return Check("shadow", True, f"As a shadow on {seen} {told}.", {"num_rows": logged.height})

    def _promote(
        self, attempt: Attempt, challenger: str, verdict: Verdict, proof: dict[str, Any]
    ) -> None:
        self._live.end(attempt)
        name = self._diary.name
        moves = self._project.aliases.history(name, CHAMPION)
        if moves and moves[-1].release not in (attempt.champion, challenger):
            raise ConflictError(
                f"{name}@champion was moved to {str(moves[-1].release)[:20]} meanwhile, and the "
                "challenger was not compared with that one."
            )
        self._project.aliases.promote(
            name, CHAMPION, challenger, why=verdict.reason, proof=proof,
            after=moves[-1].event if moves else 0,
        )  # fmt: skip
        self._diary.tell(
            "decided", promoted(challenger, verdict.reason), promoted=True,
            attempt=attempt.id, champion=attempt.champion, challenger=challenger,
            verdict=verdict.to_dict(), unconfirmed=False,
        )  # fmt: skip

    def _keep(
        self, attempt: Attempt, challenger: str | None, why: str, verdict: Verdict | None = None
    ) -> None:
        self._live.end(attempt)
        given = {} if verdict is None else verdict.to_dict()
        self._diary.tell(
            "decided", f"Kept {attempt.champion[:20]}: {why}", promoted=False,
            attempt=attempt.id, champion=attempt.champion, challenger=challenger,
            verdict=given, unconfirmed=verdict is not None and verdict.unconfirmed,
            silent=verdict is None or not verdict.checks[0].passed,
        )  # fmt: skip
