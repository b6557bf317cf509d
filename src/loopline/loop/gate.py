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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import Estimate, estimate_rows
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Rows, Units, plain
from loopline.evaluate.slices import Slice, holm
from loopline.line.loop_spec import LoopSpec
from loopline.loop.doubt import losses, moved_labels, one_origin, reversed_labels
from loopline.loop.triggers import become_worse
from loopline.select.compare import chance_beyond, compare_rows
from loopline.words import counted, estimate

Floats = NDArray[np.float64]
FEWEST_OF_CLASS = 10
"""Fresh rows of each class below this decide nothing."""
HISTORY_ERROR = 0.1
"""Trusted rows speak up at this error: a false word costs one more window, a missed one a model."""
SLICE_ERROR = 0.05
WORSE_ERROR = 0.05
"""Surely worse in one of the two metrics, at this error, a challenger is not better."""
NOISE_ERROR = 0.05
RANKS = {"binary": "auc", "multiclass": "accuracy"}
"""What labels at random cannot better."""
LOSS = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}


@dataclass(frozen=True, eq=False)
class Bout:
    """The same rows as champion and challenger answer them.

    Args:
        champion: truth and the champion's answers.
        challenger: truth and the challenger's, row for row.
        units: rows that count as one observation; None when all are independent.
        origins: who gave each label, where that is known.
    """

    champion: Rows
    challenger: Rows
    units: NDArray[Any] | None = None
    origins: NDArray[Any] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return self.champion.num_rows

    def difference(self, metric: str, rows: NDArray[np.int64] | None = None) -> Estimate:
        """How much better the challenger is (positive: better), paired."""
        entry = read_metric(metric)
        units = Units.build(self.units, self.num_rows)
        if rows is None:
            return compare_rows(entry, self.challenger, self.champion, units)
        return compare_rows(
            entry, self.challenger.take(rows), self.champion.take(rows), units.take(rows)
        )


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the challenger.

    Args:
        name: enough, better, slices, labels, origin, history, or what the caller added.
        passed: whether it holds.
        sentence: what was found.
        facts: the numbers, as plain data.
    """

    name: str
    passed: bool
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "passed": self.passed,
            "sentence": self.sentence,
            "facts": plain(dict(self.facts)),
        }


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
            if check.name == "better" or check.facts.get("believed")
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


def spent(error: float, attempt: int) -> float:
    """The error that the k-th attempt may make, so that all of them together make `error`.

    >>> [round(spent(0.05, k), 4) for k in (1, 2, 3)]
    [0.025, 0.0083, 0.0042]
    >>> round(sum(spent(0.05, k) for k in range(1, 10_000)), 4)
    0.05
    """
    return error / (attempt * (attempt + 1))


def asked_metrics(metric: str, task: str) -> tuple[str, ...]:
    """The metric that ranks the line's candidates, and the loss of what is served beside it.

    >>> asked_metrics("auc", "binary"), asked_metrics("rmse", "regression")
    (('auc', 'log_loss'), ('rmse',))
    """
    return tuple(dict.fromkeys((metric, LOSS[task])))


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
    enough = _enough(fresh, settings)
    if not enough.passed:
        return Verdict((enough,))
    metrics = asked_metrics(metric, fresh.champion.task)
    asked = [
        enough,
        _labels(fresh, confirmed),
        _better(fresh, metrics, settings, attempt),
        _slices(fresh, parts, metrics, settings) if parts else None,
        _origin(fresh, confirmed),
    ]
    past = _history(fresh, history, metrics, settings, seen_before, confirmed)
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
        worse = _worse(bout.difference(name))
        if chance_beyond(worse, 0.0) / 2 < error / len(names):
            return name, worse
    return None


def _enough(fresh: Bout, settings: LoopSpec) -> Check:
    rows = fresh.num_rows
    facts = {"num_rows": rows, "needed": settings.gate_rows}
    if rows < settings.gate_rows:
        told = (
            f"Only {counted(rows, 'fresh labelled row')} could decide; "
            f"`loop.gate_rows` asks for {settings.gate_rows:,}."
        )
        return Check("enough", False, told, facts)
    if fresh.champion.task == "binary":
        fewest = int(np.bincount(fresh.champion.y, minlength=2).min())
        if fewest < FEWEST_OF_CLASS:
            told = (
                f"The rarer class has only {counted(fewest, 'row')} among the {rows:,} fresh rows; "
                f"{FEWEST_OF_CLASS} are needed to tell two models apart."
            )
            return Check("enough", False, told, facts | {"rarest": fewest})
    return Check("enough", True, f"{rows:,} fresh labelled rows decide.", facts)


def _better(fresh: Bout, metrics: Sequence[str], settings: LoopSpec, attempt: int) -> Check:
    found = {name: fresh.difference(name) for name in metrics}
    allowed = spent(settings.error, attempt) / len(metrics)
    facts = {
        "allowed": allowed, "attempt": attempt,
        "metrics": {
            name: {
                "difference": difference.to_dict(),
                "chance": chance_beyond(difference, 0.0) / 2,
                "champion": estimate_rows(read_metric(name), fresh.champion, _all(fresh)).value,
                "challenger": estimate_rows(read_metric(name), fresh.challenger, _all(fresh)).value,
            }
            for name, difference in found.items()
        },
    }  # fmt: skip
    able = {name: d for name, d in found.items() if not math.isnan(d.low)}
    if not able:
        return Check(
            "better", False, f"The two cannot be compared: {found[metrics[0]].note}.", facts
        )
    told = (
        " and ".join(f"{name} differs by {estimate(d.to_dict())}" for name, d in able.items())
        + f" on {fresh.num_rows:,} fresh rows"
    )
    worse = [n for n, d in able.items() if chance_beyond(_worse(d), 0.0) / 2 < WORSE_ERROR]
    if worse:
        return Check("better", False, f"The challenger is worse in {worse[0]}: {told}.", facts)
    if any(chance_beyond(difference, 0.0) / 2 < allowed for difference in able.values()):
        return Check("better", True, f"The challenger is better: {told}.", facts)
    why = "" if attempt == 1 else f" at the error of attempt {attempt} ({allowed:.1e})"
    return Check("better", False, f"The challenger is not measurably better{why}: {told}.", facts)


def _all(bout: Bout) -> Units:
    return Units.build(bout.units, bout.num_rows)


def _slices(
    fresh: Bout, parts: Sequence[Slice], metrics: Sequence[str], settings: LoopSpec
) -> Check:
    able = [part for part in parts if not _poor(fresh.champion.take(part.rows))]
    told = [
        (part, name, _worse(fresh.difference(name, part.rows))) for part in able for name in metrics
    ]
    chances = holm([chance_beyond(worse, settings.margin) / 2 for _, _, worse in told])
    bad = [entry for entry, chance in zip(told, chances, strict=True) if chance < SLICE_ERROR]
    facts = {"num_slices": len(able), "worse": sorted({part.title for part, _, _ in bad})}
    if bad:
        part, name, worse = bad[0]
        text = (
            f"Where {part.title}, a protected part of {len(part):,} fresh rows, the challenger is "
            f"worse in {name} by {estimate(worse.to_dict())}."
        )
        return Check("slices", False, text, facts)
    small = len(parts) - len(able)
    more = f" {counted(small, 'part')} had too few rows of a class to say." if small else ""
    text = f"In {counted(len(able), 'protected part')} the challenger is not measurably worse."
    return Check("slices", True, text + more, facts)


def _poor(rows: Rows) -> bool:
    return rows.task == "binary" and bool(np.bincount(rows.y, minlength=2).min() < FEWEST_OF_CLASS)


def _labels(fresh: Bout, confirmed: str) -> Check:
    told = reversed_labels(fresh.champion)
    if told is None:
        return Check("labels", True, "The fresh labels are not reversed.")
    if confirmed:
        return Check("labels", True, f"{told} A person confirmed it: {confirmed}")
    ask = "Look at the labels; `loopline watch --confirm REASON` says that they are right."
    return Check("labels", False, f"{told} {ask}")


def _origin(fresh: Bout, confirmed: str) -> Check | None:
    if fresh.origins is None:
        return None
    told = one_origin(fresh.champion, fresh.challenger, fresh.origins)
    if told is None:
        return Check("origin", True, "The change does not come from one origin alone.")
    if confirmed:
        return Check("origin", True, f"{told} A person confirmed it: {confirmed}")
    ask = "Look at what it sent; `loopline watch --confirm REASON` says that it is right."
    return Check("origin", False, f"{told} {ask}")


def _history(
    fresh: Bout,
    history: Bout | None,
    metrics: Sequence[str],
    settings: LoopSpec,
    seen_before: int,
    confirmed: str,
) -> Check:
    if history is None or history.num_rows < settings.gate_rows // 2:
        doubt, told, facts = True, "There are too few trusted older rows to compare on.", {}
    else:
        found = {name: _worse(history.difference(name)) for name in metrics}
        chances = {name: chance_beyond(w, settings.margin) / 2 for name, w in found.items()}
        name = min(chances, key=lambda one: chances[one])
        facts = {"differences": {n: w.to_dict() for n, w in found.items()}, "chances": chances}
        doubt = chances[name] < HISTORY_ERROR
        told = (
            f"On {history.num_rows:,} trusted older rows the challenger is "
            + ("worse" if doubt else "not measurably worse")
            + f" ({name} worse by {estimate(found[name].to_dict())})."
        )
        for reason in (moved_labels(history.champion, fresh.champion), _noisy(fresh, history)):
            if reason is not None:
                doubt, told = True, f"{told} {reason}"
    if not doubt:
        return Check("history", True, told, facts)
    if confirmed:
        why = f"{told} A person confirmed the change: {confirmed}"
        return Check("history", True, why, facts | {"believed": True})
    windows = seen_before + 1
    facts = {**facts, "windows": windows, "needed": settings.confirm_windows}
    if windows >= settings.confirm_windows:
        seen = f"The change was seen in {counted(windows, 'window')} in a row, so it is believed."
        return Check("history", True, f"{told} {seen}", facts | {"believed": True})
    wait = (
        f"A changed world and wrong labels look alike here: seen in {windows} of "
        f"{counted(settings.confirm_windows, 'window')}; it is believed when later rows show it "
        "too, or with `loopline watch --confirm REASON`."
    )
    return Check("history", False, f"{told} {wait}", facts)


def _noisy(fresh: Bout, history: Bout) -> str | None:
    """A sentence when the gain may be one of doubt alone: labels at random reward to be unsure.

    The challenger orders the fresh rows no better, and does itself worse on them than on trusted
    ones.
    """
    task = fresh.champion.task
    if task not in RANKS:
        return None
    gains = {
        name: chance_beyond(fresh.difference(name), 0.0) / 2 < WORSE_ERROR
        for name in (RANKS[task], LOSS[task])
    }
    if gains[RANKS[task]] or not gains[LOSS[task]]:
        return None
    told = become_worse(losses(history.challenger), losses(fresh.challenger), NOISE_ERROR)
    if told is None:
        return None
    return "It tells the fresh rows apart no better, and is less sure of all: labels may be noisy."


def _worse(difference: Estimate) -> Estimate:
    """The same difference seen the other way: positive means that the challenger is worse."""
    return Estimate(
        -difference.value, -difference.high, -difference.low, difference.method,
        difference.num_units, difference.level, difference.standard_error, difference.freedom,
        difference.note,
    )  # fmt: skip
