"""The choice in sentences: what was chosen, over what, by how much, and what could not be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from loopline.evaluate.intervals import Estimate
from loopline.select.candidates import Candidate, Comparison, Pairs
from loopline.words import figure, interval


def explain(
    chosen: Candidate,
    best: Candidate,
    baseline: Candidate | None,
    gain: Estimate | None,
    *,
    table: Sequence[Comparison],
    race: Pairs,
    margin: float,
    by_score: bool = False,
) -> str:
    """The reason for a choice, for a person.

    Args:
        chosen: what was chosen.
        best: the best scorer among those that keep the limits.
        baseline: the best baseline.
        gain: how much better the chosen one is than it.
        table: every candidate's line.
        race: gives the metric and the rows.
        margin: how much worse a simpler candidate may be.
        by_score: the best score was asked for, not the simplest of the good.
    """
    able = [line for line in table if not line.broken]
    text = _explain(chosen, best, baseline, gain, able, race, margin, by_score)
    return text + _set_aside(table, chosen, lines_of(able)[best.name], race, margin)


def lines_of(table: Sequence[Comparison]) -> dict[str, Comparison]:
    """The table's lines by the candidates' names."""
    return {line.name: line for line in table}


def _explain(
    chosen: Candidate,
    best: Candidate,
    baseline: Candidate | None,
    gain: Estimate | None,
    table: Sequence[Comparison],
    race: Pairs,
    margin: float,
    by_score: bool,
) -> str:
    lines = lines_of(table)
    if len(table) == 1:
        return f"{chosen.name} is the only candidate: {_score(lines[chosen.name], race)}."
    if by_score and chosen.complexity > 0:
        return (
            f"{chosen.name} scored best with {_score(lines[chosen.name], race)} and was chosen, as "
            f"`select: best` asks{_next_best(chosen, table)}." + _against_baseline(baseline, gain)
        )
    if chosen.complexity == 0:
        return _explain_baseline(chosen, best, lines, race, margin)
    if chosen is best:
        return _explain_best(chosen, baseline, table, race, margin)
    return _explain_simpler(chosen, best, lines, race, margin) + _against_baseline(baseline, gain)


def _next_best(chosen: Candidate, table: Sequence[Comparison]) -> str:
    """How far the simplest that is not measurably worse is behind, for who would rather have it."""
    others = [line for line in table if line.name != chosen.name and not line.worse]
    simpler = [line for line in others if _place(line) < chosen.simplicity and line.complexity > 0]
    if not simpler:
        return ""
    line = min(simpler, key=_place)
    return f"; {line.name} is simpler and not measurably worse ({_interval(line.behind_best)})"


def _set_aside(
    table: Sequence[Comparison], chosen: Candidate, best: Comparison, race: Pairs, margin: float
) -> str:
    """Who would have been chosen but for the limits: better scorers, and simpler ones as good."""
    told = ""
    for line in table:
        if not line.broken:
            continue
        behind = line.behind_best
        ahead = race.metric.sign * (line.score.value - best.score.value) > 0
        simpler = line.complexity > 0 and _place(line) < chosen.simplicity
        if ahead:
            told += f" {line.name} scored {_number(line.score.value)} and was set aside: "
        elif simpler and behind is not None and not behind.low > margin:
            told += f" {line.name} is simpler and not measurably worse, but was set aside: "
        else:
            continue
        told += f"{'; '.join(line.broken)}."
    return told


def _explain_best(
    chosen: Candidate,
    baseline: Candidate | None,
    table: Sequence[Comparison],
    race: Pairs,
    margin: float,
) -> str:
    """Why the best scorer was not undercut: each simpler one is measurably worse.

    The baseline's distance is told once, by the interval that decided.
    """
    text = f"{chosen.name} scored best with {_score(table[0], race)}"
    simpler = [line for line in table if _place(line) < chosen.simplicity and line.worse]
    against = next((line for line in simpler if baseline and line.name == baseline.name), None)
    others = [line for line in simpler if line is not against]
    beyond = f", more than the margin of {margin:g}" if margin > 0 else ""
    lead = "" if against is None else _interval(against.behind_best)
    named = "" if baseline is None else _named(baseline)
    if not others:
        if against is None:
            text += ", and no candidate is simpler, so it was chosen."
            return text + _against_baseline(baseline, None)
        return f"{text} and beats the baseline{named} by {lead}{beyond}, so it was chosen."
    nearest = others[0]
    more = {1: "", 2: " (and so is one more simpler candidate)"}.get(
        len(others), f" (and so are {len(others) - 1} more simpler candidates)"
    )
    return (
        f"{text}; the simpler {nearest.name} {_number(nearest.score.value)} is worse by "
        f"{_interval(nearest.behind_best)}{beyond}{more}, so {chosen.name} was chosen."
        + (f" It beats the baseline{named} by {lead}." if lead else " No baseline was in the race.")
    )


def _place(line: Comparison) -> tuple[int, int, str]:
    return line.complexity, line.size_bytes, line.name


def _explain_simpler(
    chosen: Candidate,
    best: Candidate,
    lines: Mapping[str, Comparison],
    race: Pairs,
    margin: float,
) -> str:
    behind = lines[chosen.name].behind_best
    assert behind is not None
    allowed = f" by more than the margin of {margin:g}" if margin > 0 else ""
    return (
        f"{best.name} scored best with {_score(lines[best.name], race)}; {chosen.name} "
        f"{_number(lines[chosen.name].score.value)} is simpler and {_not_worse(behind, allowed)}, "
        f"so {chosen.name} was chosen{_power(lines[chosen.name], race)}."
    )


def _explain_baseline(
    chosen: Candidate,
    best: Candidate,
    lines: Mapping[str, Comparison],
    race: Pairs,
    margin: float,
) -> str:
    beyond = f" by more than the margin of {margin:g}" if margin > 0 else ""
    if chosen is best:
        return (
            f"Nothing beats the baseline{_named(chosen)}, which itself scored best with "
            f"{_score(lines[chosen.name], race)}; the baseline was chosen: this data does not "
            "support a model better than the baseline."
        )
    behind = lines[chosen.name].behind_best
    assert behind is not None
    return (
        f"Nothing beats the baseline{_named(chosen)} measurably{beyond}: the best model, "
        f"{best.name} with {_score(lines[best.name], race)}, is ahead by {_interval(behind)}; "
        f"the baseline was chosen: this data does not support a model better than the "
        f"baseline{_power(lines[chosen.name], race)}."
    )


def _not_worse(behind: Estimate, allowed: str) -> str:
    if behind.value == 0 and behind.standard_error == 0:
        return "scores the same" if behind.note != "equal predictions" else "predicts the same"
    if math.isnan(behind.low):
        return f"cannot be compared ({behind.note})"
    return f"not measurably worse{allowed} ({_interval(behind)})"


def _power(line: Comparison, race: Pairs) -> str:
    if not math.isfinite(line.visible) or line.visible <= 0:
        return ""
    what = "rows" if race.units.code is None else "independent units"
    return (
        f" (on {race.units.count:,} {what} a true difference below {_number(line.visible)} "
        "is likely to go unseen)"
    )


def _against_baseline(baseline: Candidate | None, gain: Estimate | None) -> str:
    if baseline is None:
        return " No baseline was in the race."
    if gain is None or math.isnan(gain.low):
        reason = gain.note if gain is not None else "no comparison"
        return f" It could not be compared with the baseline{_named(baseline)}: {reason}."
    if gain.low > 0:
        return f" It beats the baseline{_named(baseline)} by {_interval(gain)}."
    if gain.value <= 0:
        return f" It does not beat the baseline{_named(baseline)}: {_interval(gain)}."
    return f" Its lead over the baseline{_named(baseline)} is not certain: {_interval(gain)}."


def _named(baseline: Candidate) -> str:
    """The baseline's name in brackets, where it says more than "baseline"."""
    return "" if baseline.name == "baseline" else f" ({baseline.name})"


def _score(line: Comparison, race: Pairs) -> str:
    return f"{_number(line.score.value)} {_TITLES.get(race.metric.name, race.metric.name)}"


_TITLES = {"auc": "AUC", "pr_auc": "PR AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R2", "mcc": "MCC"}


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else figure(value)


def _interval(difference: Estimate | None) -> str:
    assert difference is not None
    if math.isnan(difference.low):
        return f"{_number(difference.value)} ({difference.note})"
    return interval(difference.value, difference.low, difference.high)
