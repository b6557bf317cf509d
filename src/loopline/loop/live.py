"""The last thing a challenger may be asked: to answer live requests, unheard, before it serves.

It has passed the gate and the replay by then. The alias ``NAME@shadow`` points at it; every service
that follows ``NAME@champion`` sees that within `swap_seconds` and lets it answer the same requests
after the caller has the champion's answer. What the services saw of it comes back through the
ledger, so it does not matter whether they run in the controller's process or elsewhere, nor which
of them is killed. Where no request comes, the replay of logged ones has to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.errors import ConflictError, NotFoundError
from loopline.line.loop_spec import ShadowSpec
from loopline.line.project import Project
from loopline.line.spec import Spec
from loopline.loop.attempt import Attempt
from loopline.loop.bout import Check
from loopline.loop.diary import Diary, Entry
from loopline.loop.gate import Verdict
from loopline.loop.steady import Clock
from loopline.release.aliases import CHAMPION, SHADOW
from loopline.select.limits import duration
from loopline.serve.following import SHADOWED
from loopline.words import counted

WITHDRAWN = "serve.rolled_back"
FEWEST_TIMED = 20
"""With fewer answers than this nothing is said of their speed."""
SLOWDOWN = 2.0
"""A challenger may take so many times as long as the champion …"""
SLACK_SECONDS = 0.001
"""… or so much longer for a row, whichever is more: a shadow waits for its turn in a thread."""


@dataclass(frozen=True)
class Tried:
    """A challenger on its way through live requests.

    Args:
        challenger: its release.
        verdict: of the gate, before.
        proof: of the replay.
        entry: that began it.
    """

    challenger: str
    verdict: Verdict
    proof: Mapping[str, Any]
    entry: Entry


class LiveShadow:
    """Shows challengers to live requests, and says what came of it.

    Args:
        project: store and ledger.
        spec: the line's settings.
        diary: where everything is written down.
        clock: what time it is.
    """

    def __init__(self, project: Project, spec: Spec, diary: Diary, clock: Clock) -> None:
        self._project, self._spec, self._diary, self._clock = project, spec, diary, clock

    def begun(self, attempt: Attempt) -> Tried | None:
        """The trial that was begun for an attempt; None for none."""
        for entry in reversed(self._diary.entries("shadowing", after=attempt.event)):
            if entry.data["attempt"] == attempt.id:
                verdict = Verdict.from_dict(entry.data["verdict"])
                return Tried(entry.data["challenger"], verdict, entry.data["proof"], entry)
        return None

    def begin(
        self, attempt: Attempt, challenger: str, verdict: Verdict, proof: Mapping[str, Any]
    ) -> bool:
        """Begin a trial where the settings ask for one; whether they do."""
        asked = self._spec.loop.shadow
        if asked is None:
            return False
        self._diary.tell(
            "shadowing", f"{challenger[:20]} passed the gate. As a shadow it now answers live "
            f"requests beside the champion, unheard: {asked.requests:,} of them, or as many as "
            f"come within {duration(asked.within)}.",
            attempt=attempt.id, challenger=challenger, verdict=verdict.to_dict(),
            proof=dict(proof),
        )  # fmt: skip
        self._point_at(challenger)
        return True

    def outcome(self, attempt: Attempt, tried: Tried) -> Check | None:
        """What live requests say of a challenger; None while more of them are waited for.

        Raises:
            ConflictError: the champion was moved meanwhile, so it was tried beside another one.
        """
        name, asked = self._diary.name, self._spec.loop.shadow
        serving = self._project.aliases.get(name, CHAMPION)
        if serving not in (attempt.champion, tried.challenger):
            raise ConflictError(
                f"{name}@champion was moved to {serving[:20]} while the challenger was tried "
                "beside the one before."
            )
        events = [
            event.data
            for kind in (SHADOWED, WITHDRAWN)
            for event in self._project.ledger.events(kind=kind, subject=tried.challenger)
            if event.id > tried.entry.id
        ]
        if serving == tried.challenger:  # decided, and the controller died before it said so
            return Check("live", True, "It was promoted after it was tried on live requests.")
        check = judged([data for data in events if "reason" not in data], self._limit())
        reasons = [str(data["reason"]) for data in events if "reason" in data]
        if reasons:
            told = f"A service took the challenger back after live requests, {reasons[0]}."
            check = Check("live", False, told, check.facts)
        if not check.passed or asked is None:
            return check
        if check.facts["requests"] >= asked.requests or self._over(tried.entry, asked):
            return check
        self._point_at(tried.challenger)
        return None

    def end(self, attempt: Attempt) -> None:
        """Take the alias away again, if there is one for this attempt."""
        tried = self.begun(attempt)
        if tried is None:
            return
        name = self._diary.name
        if self._project.aliases.all().get(f"{name}@{SHADOW}") == tried.challenger:
            try:
                self._project.aliases.remove(name, SHADOW, why="the trial is over")
            except (NotFoundError, ConflictError):
                return  # somebody else moved it, and theirs counts

    def _point_at(self, challenger: str) -> None:
        self._project.aliases.promote(
            self._diary.name, SHADOW, challenger, why="to be tried on live requests"
        )

    def _over(self, entry: Entry, asked: ShadowSpec) -> bool:
        """Whether the time is up; a clock that went back ends it too."""
        passed = self._clock.now() - datetime.fromisoformat(entry.time).timestamp()
        return passed < 0 or passed >= asked.within

    def _limit(self) -> float | None:
        """The line's own limit for one row in the median, in seconds."""
        limits = self._spec.constraints
        told = [seconds for seconds in (limits.latency_p50, limits.latency_p99) if seconds]
        return min(told) if told else None


def judged(told: Sequence[Mapping[str, Any]], limit: float | None) -> Check:
    """What services saw of a challenger: without error, and fast enough.

    Args:
        told: events of services, oldest first; of each trial the newest counts.
        limit: seconds for a row in the median, where the line states a limit; it counts where the
            champion keeps it here.

    >>> seen = {"trial": "a", "requests": 300, "failed": 0, "failure": "", "dropped": 0,
    ...         "rows": 300, "differing": 6, "seconds": 5e-5, "champion_seconds": 4e-5}
    >>> print(judged([seen], None).sentence)
    As a shadow it answered 300 live requests, agrees on 98.0%, and takes 0.05 ms for a row (the champion 0.04 ms).
    """  # noqa: E501  # one sentence
    trials = list({data["trial"]: data for data in told}.values())
    requests, failed, rows, differing, dropped = (
        sum(int(data[name] or 0) for data in trials)
        for name in ("requests", "failed", "rows", "differing", "dropped")
    )
    facts: dict[str, Any] = {
        "requests": requests, "failed": failed, "rows": rows, "differing": differing,
        "dropped": dropped, "services": len(trials),
    }  # fmt: skip
    if failed:
        kinds = sorted({str(data["failure"]) for data in trials if data["failed"]})
        asked = counted(requests + failed, "live request")
        return Check("live", False, f"It failed at {failed:,} of {asked} ({kinds[0]}).", facts)
    if not requests:
        return Check("live", True, "No live request came; logged ones had to do.", facts)
    mine, theirs = (_mean(trials, name) for name in ("seconds", "champion_seconds"))
    facts |= {"seconds": mine, "champion_seconds": theirs}
    speed = f"{mine * 1e3:.3g} ms for a row (the champion {theirs * 1e3:.3g} ms)"
    kept = limit is not None and theirs <= limit  # else this place is slower than was measured
    allowed = limit if kept and limit else max(SLOWDOWN * theirs, theirs + SLACK_SECONDS)
    if requests >= FEWEST_TIMED and mine > allowed:
        told_limit = f"the limit is {allowed * 1e3:.3g} ms" if kept else "more than twice as long"
        return Check("live", False, f"On live requests it takes {speed}: {told_limit}.", facts)
    named = all(data["differing"] is not None for data in trials)
    agrees = f"agrees on {1 - differing / max(1, rows):.1%}, " if named else ""
    let_go = f"; {dropped:,} came too fast for it and were let go" if dropped else ""
    return Check(
        "live", True, f"As a shadow it answered {counted(requests, 'live request')}{let_go}, "
        f"{agrees}and takes {speed}.", facts,
    )  # fmt: skip


def _mean(trials: Sequence[Mapping[str, Any]], name: str) -> float:
    """Of the services' medians, by how many requests each saw."""
    able = [data for data in trials if data[name] is not None and data["requests"]]
    total = sum(int(data["requests"]) for data in able)
    return sum(float(data[name]) * int(data["requests"]) for data in able) / max(1, total)
