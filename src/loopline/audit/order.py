"""Does the row number, an id, a file's name or size tell the label?

None of these should: where they do, the table was put together class by class, or the id was given
after the outcome. They are no features, so nothing leaks by itself; but whatever follows the same
order will (a counter, a file name, a time of export), and a split by order would be one by class.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.finding import Finding, Remedy
from loopline.audit.skill import Skill, Skills, binned
from loopline.data.schema import has_classes
from loopline.splits.views import TrainView

Ints = NDArray[np.int64]
TELLS = 0.5
"""Skill (2·AUC - 1, or R²) of a row number or id that is a warning."""
HINTS = 0.2
MIN_ROWS = 60
BLOCKS = 50
MAX_PREFIXES = 1000


def order_findings(view: TrainView, skills: Skills, extra: pl.DataFrame | None) -> list[Finding]:
    """What row numbers and columns that are no features tell of the label.

    Args:
        view: training rows.
        skills: the rows to measure on (the view, or a sample of it).
        extra: columns that are no features (ids, ignored ones), rows as in the view.
    """
    if view.num_rows < MIN_ROWS:
        return []
    found = []
    rows = _row_number(view, skills)
    if rows is not None:
        found.append(rows)
    if extra is not None and extra.width:
        places = np.searchsorted(view.positions, skills.view.positions)
        same = np.array_equal(view.positions[np.minimum(places, view.num_rows - 1)],
                              skills.view.positions)  # fmt: skip
        if not same:  # a view in an order of its own
            where = {int(row): place for place, row in enumerate(view.positions.tolist())}
            places = np.asarray([where[int(row)] for row in skills.view.positions])
        part = extra[places]
        roles = {column.name: column.role for column in view.schema.columns}
        # Groups share labels by nature; `loopline.audit.groups` says what that is worth.
        names = [name for name in extra.columns if roles.get(name) != "group"]
        told = [
            _extra(part[name], skills, quiet=roles.get(name) in ("ignore", "time"))
            for name in names
        ]
        found += [each for each in told if each is not None]
    return found


def _row_number(view: TrainView, skills: Skills) -> Finding | None:
    """The label by the number of the row, in blocks, and how often neighbours agree."""
    positions = pl.Series("row", skills.view.positions)
    bins = min(BLOCKS, max(2, positions.len() // 40))
    codes = np.asarray(
        (positions.rank("ordinal").to_numpy() - 1) * bins // positions.len(), dtype=np.int64
    )
    skill = skills.of_codes(codes)
    if skill.value < HINTS or skill.estimate.low <= _chance(skill):
        return None
    score = neighbours_score(view)
    timed = view.order is not None
    severity: Literal["warning", "note"] = (
        "warning" if skill.value >= TELLS and not timed else "note"
    )
    text = (
        f"The number of a row alone tells the label ({skill.told()}; neighbouring rows agree "
        f"{score:,.0f} standard errors more often than chance)"
    )
    text += (
        ", as the declared time explains." if timed else
        ": the table stands in an order that follows the label."
    )  # fmt: skip
    return Finding(
        check="row_order",
        severity=severity,
        sentence=text,
        num_rows=view.num_rows,
        share=1.0,
        rows=tuple(int(row) for row in view.positions[:5]),
        confidence=round(min(0.99, 0.5 + skill.value / 2), 3),
        remedy=Remedy(
            "Keep counters, file names and export times out of the features; if the order is one "
            "of time, add the time and give it `role: time`."
        ),
        facts={"skill": round(skill.value, 4), "neighbours": round(score, 2), **_estimate(skill)},
    )


def _chance(skill: Skill) -> float:
    return 0.5 if skill.metric == "auc" else 0.0


def _estimate(skill: Skill) -> dict[str, object]:
    return {"metric": skill.metric, "estimate": skill.estimate.to_dict()}


def neighbours_score(view: TrainView) -> float:
    """How many standard errors more often neighbouring rows agree in their label than chance.

    For classes this is the runs test (Wald and Wolfowitz 1940) in its form for several kinds; for
    numbers, von Neumann's ratio of neighbouring to all differences (1941).

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> columns = (Column("x", "number"), Column("y", "category", "target"))
    >>> schema = Schema(columns, "binary", (0, 1))
    >>> view = view_of(pl.DataFrame({"x": range(100), "y": [0] * 50 + [1] * 50}), schema)
    >>> round(neighbours_score(view), 1)
    9.7
    """
    y = view.target[np.argsort(view.positions, kind="stable")]
    number = y.size - 1
    if number < 2:
        return 0.0
    if not has_classes(view.schema.task):
        ranks = pl.Series(y).rank("average").to_numpy()
        spread = float(((ranks - ranks.mean()) ** 2).mean())
        if spread == 0.0:
            return 0.0
        ratio = float((np.diff(ranks) ** 2).mean()) / (2.0 * spread)
        return (1.0 - ratio) * math.sqrt(number)
    shares = np.bincount(y) / y.size
    chance = float((shares**2).sum())
    if chance >= 1.0:
        return 0.0
    agree = float((y[1:] == y[:-1]).mean())
    return (agree - chance) / math.sqrt(chance * (1.0 - chance) / number)


def _extra(series: pl.Series, skills: Skills, *, quiet: bool) -> Finding | None:
    """What a column that is no feature tells: its order, its beginning, its length.

    Times order the rows by nature, and a column that a person ignores is ignored with a reason.
    """
    best: tuple[Skill, str] | None = None
    for how, codes in _readings(series):
        number = int(codes.max(initial=0)) + 1
        if number < 2 or number > max(2, codes.size // 4):
            continue
        skill = skills.of_codes(codes)
        if best is None or skill.value > best[0].value:
            best = (skill, how)
    if best is None or best[0].value < HINTS or best[0].estimate.low <= _chance(best[0]):
        return None
    skill, how = best
    name = series.name
    return Finding(
        check="id_tells",
        severity="warning" if skill.value >= TELLS and not quiet else "note",
        sentence=(
            f"{how.format(repr(name))} alone tells the label ({skill.told()}), though it is no "
            "feature: it must not come back as one, nor may what was made along with it."
        ),
        columns=(name,),
        num_rows=series.len(),
        share=1.0,
        confidence=round(min(0.99, 0.5 + skill.value / 2), 3),
        remedy=Remedy(
            f"Leave {name!r} out of the features and ask how it was given.",
            {"columns": {name: {"role": "ignore"}}},
        ),
        facts={"skill": round(skill.value, 4), "reading": how.format(name), **_estimate(skill)},
    )


def _readings(series: pl.Series) -> list[tuple[str, Ints]]:
    """Ways to read a column that is no feature: as codes for each row."""
    if series.dtype.is_nested() or series.dtype in (pl.Object(), pl.Binary()):
        return []
    found = [("Whether {} is empty", series.is_null().to_numpy().astype(np.int64))]
    if series.dtype != pl.String():
        return [("The value of {}", binned(series)), *found]
    texts = series.fill_null("")
    folder = texts.str.replace(r"[^/\\]*$", "")
    head = texts.str.extract(r"^([^\d]*)", 1).fill_null("")
    number = texts.str.extract(r"(\d{1,15})\D*$", 1).cast(pl.Int64, strict=False)
    ending = texts.str.extract(r"\.(\w{1,5})$", 1)
    found += [
        ("The folder in {}", binned(folder)),
        ("What {} begins with", binned(head)),
        ("The first two letters of {}", binned(texts.str.slice(0, 2))),
        ("The number in {}", binned(number)),
        ("The ending of {}", binned(ending)),
        ("The length of {}", binned(texts.str.len_chars())),
    ]
    if series.n_unique() <= MAX_PREFIXES:
        found.append(("The value of {}", binned(series)))
    return found
