"""The gate: may a challenger take the champion's place?

Both answer the same *fresh* rows: the newest labelled ones, cut off before the retraining, so
neither was trained on them, and looked at once, so no earlier decision leans on them. The
challenger is promoted when all of these hold, else the champion stays and the first reason is told:

- **enough**: there are enough fresh rows, of every class.
- **better**: the paired difference is above 0 in the metric that ranks the line's candidates or in
  the loss of what is served (log loss, RMSE), and surely below 0 in neither. The loss is asked
  beside a metric of ranks because an AUC stays perfect while every probability is off. The error is
  shared by both and by all attempts against one champion: attempt k may err with
  ``error / (k (k + 1))``, and these sum to ``error``. When an attempt is made depends on earlier
  rows only, and its own rows are looked at once, so the sum bounds the chance that a challenger
  which is no better is ever promoted, whatever the triggers did (a union bound; no optional
  stopping is left).
- **slices**: in no protected part it is measurably worse by more than the margin (Holm).
- **labels**: the labels are not reversed: a champion that ranks fresh rows the wrong way round has
  met swapped labels more often than a world turned upside down. A person decides.
- **origin**: where the data says who gave a label, the change does not come from one of several.
- **history**: on *trusted* rows, held back from before the change, it is not worse. Poisoned labels
  make a challenger that is better on poisoned rows, and so does a world that truly changed; trusted
  rows contradict both alike. So a challenger that is worse there waits: the same must be seen again
  in rows that came later (`confirm_windows`), or be confirmed by a person.
  The same holds for a gain that may come from labels at random, which reward whoever is less sure,
  and for a class whose share jumps while the inputs stay.

What this cannot see: labels that are wrong in the same way, from every origin, for longer than
``confirm_windows`` windows. Nothing in the data tells them from a world that changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopline.evaluate.intervals import Estimate
from loopline.evaluate.slices import Slice
from loopline.line.loop_spec import LoopSpec
from loopline.loop import checks
from loopline.loop.bout import Bout, Check, asked_metrics
from loopline.select.compare import chance_beyond


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Args:
        checks: all that was asked.
        unconfirmed: whether only the confirmation of the change is missing.
    """

    checks: tuple[Check, ...]
    unconfirmed: bool = False

    @property
    def promote(self) -> bool:
        """Whether everything holds."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        failed = [check.sentence for check in self.checks if not check.passed]
        if failed:
            return failed[0]
        told = [
            check.sentence
            for check in self.checks
            if check.name in ("better", "live") or check.facts.get("believed")
        ]
        return " ".join(told)

    def with_checks(self, *more: Check) -> Verdict:
        """The verdict with further things asked, such as the audit and the replay."""
        return Verdict((*self.checks, *more), self.unconfirmed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "promote": self.promote,
            "unconfirmed": self.unconfirmed,
            "checks": [check.to_dict() for check in self.checks],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Verdict:
        """Read what `to_dict` wrote."""
        checks = tuple(Check(**check) for check in data["checks"])
        return Verdict(checks, bool(data["unconfirmed"]))


def judge(
    fresh: Bout,
    history: Bout | None,
    *,
    metric: str,
    settings: LoopSpec,
    attempt: int = 1,
    seen_before: int = 0,
    confirmed: str = "",
    parts: Sequence[Slice] = (),
) -> Verdict:
    """Compare challenger and champion; see the module for the rules.

    Args:
        fresh: the newest labelled rows; neither was trained on them and no gate used them.
        history: trusted rows from before the change, on which neither was trained; None where there
            are none.
        metric: the metric that ranks the line's candidates.
        settings: error, margin, fewest rows and windows of confirmation.
        attempt: the how-manieth attempt against this champion, from 1.
        seen_before: windows in a row, directly before, that showed an unconfirmed change.
        confirmed: a person's reason for believing in the change; empty for none.
        parts: protected slices of the fresh rows.
    """
    first = checks.enough(fresh, settings)
    if not first.passed:
        return Verdict((first,))
    metrics = asked_metrics(metric, fresh.champion.task)
    asked = [
        first,
        checks.labels(fresh, confirmed),
        checks.better(fresh, metrics, settings, attempt),
        checks.slices(fresh, parts, metrics, settings) if parts else None,
        checks.origin(fresh, confirmed),
    ]
    past = checks.history(fresh, history, metrics, settings, seen_before, confirmed)
    rest = [check for check in asked if check is not None]
    waits = not past.passed and all(check.passed for check in rest)
    return Verdict((*rest, past), waits)


def surely_worse(bout: Bout, metric: str, error: float) -> tuple[str, Estimate] | None:
    """In which metric the challenger is surely worse and by how much; None for none.

    After a promotion the old champion is the `champion` here and the new one the `challenger`: a
    loss that labels show is a reason to go back.

    Args:
        bout: rows that came after the promotion.
        metric: the metric that ranks the line's candidates.
        error: chance of a false word.
    """
    names = asked_metrics(metric, bout.champion.task)
    for name in names:
        worse = bout.worse(name)
        if chance_beyond(worse, 0.0) / 2 < error / len(names):
            return name, worse
    return None
