"""What a look at the table itself shows: a column that is gone, of another type, in another unit.

These need no statistics over time: a column that vanished, holds one and the same value where it
never did, or lies a thousand times off is a fact of one window. What depends on chance (a frozen
column of a short window) asks for the same certainty as the other checks.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from loopline.features.turns import TURNS
from loopline.monitor.alarm import Alarm, Kind
from loopline.monitor.scores import Column
from loopline.words import counted, figure

FAR, NEAR, CLEARER = 1.0, 0.15, 5.0
LIKE_WIDTH = 2.5
"""Values in another unit, turned back, spread as the reference's do, within this factor."""
FEWEST_UNIT, FEWEST_FROZEN = 10, 10
LONGER = 2
"""A frozen column stands at least so many times as long as its longest stand in the reference."""
_POINTS = (0.05, 0.25, 0.5, 0.75, 0.95)


def schema_alarms(
    columns: Sequence[Column], frame: pl.DataFrame, since: str, names: Collection[str]
) -> list[Alarm]:
    """Columns that are absent, new, or of a type that does not read as the reference's.

    Args:
        columns: those that are watched.
        frame: the window's rows.
        since: when the window began.
        names: all columns of the reference, watched or not.
    """
    found: list[Alarm] = []
    for column in columns:
        if column.name not in frame.columns:
            rows = counted(frame.height, "row")
            text = f"Column {column.name!r} is gone: the window's {rows} do not have it."
            found.append(_fact("schema", "absent", column.name, text, since, 1.0))
            continue
        values = frame[column.name]
        if str(values.dtype) == column.dtype or values.null_count() == len(values):
            continue
        read = column.read(values)
        lost = (read.null_count() - values.null_count()) / max(len(values), 1)
        if lost > 0.01 or _other_family(str(values.dtype), column.dtype):
            text = (
                f"Column {column.name!r} is {values.dtype} where the reference has {column.dtype}; "
                f"{lost:.0%} of its cells cannot be read so."
            )
            found.append(_fact("schema", "type", column.name, text, since, lost))
    new = [name for name in frame.columns if name not in set(names)]
    if new:
        listed = ", ".join(repr(name) for name in new[:5]) + (" …" if len(new) > 5 else "")
        text = f"{counted(len(new), 'column')} that the reference does not have: {listed}."
        found.append(_fact("schema", "new", "new columns", text, since, 0.0))
    return found


def _other_family(one: str, other: str) -> bool:
    def family(name: str) -> str:
        if name.startswith(("Int", "UInt", "Float", "Decimal")):
            return "number"
        return "text" if name.startswith(("String", "Categorical", "Enum")) else name

    return family(one) != family(other)


def look_alarm(column: Column, read: pl.Series, chance: float, since: str) -> Alarm | None:
    """What is odd about one column's cells: none left, one and the same, another unit.

    Args:
        column: what the reference knows.
        read: cells of the window, in the reference's type.
        chance: of a false alarm that is allowed.
        since: when the window began.
    """
    rows = len(read)
    count = rows - read.null_count()
    if rows >= FEWEST_FROZEN and not count:
        if column.missing > 0 and rows * math.log(column.missing) > math.log(chance):
            return None
        text = f"Column {column.name!r} is missing in all of {counted(rows, 'row')}."
        return _fact("quality", "all missing", column.name, text, since, 1.0 - column.missing)
    if column.type not in ("number", "category"):
        return None
    if column.top_share < 1 and count >= FEWEST_FROZEN and read.min() == read.max():
        unlikely = (count - 1) * math.log(column.top_share) < math.log(chance)
        if unlikely and count > LONGER * column.run:
            text = (
                f"Column {column.name!r} holds one and the same value in all of "
                f"{counted(count, 'row')}; in the reference it never stood for more than "
                f"{column.run:,}."
            )
            return _fact("quality", "frozen", column.name, text, since, 1.0 - column.top_share)
    if column.type == "number" and count >= FEWEST_UNIT:
        return _unit(column, read.to_numpy(), since)
    return None


@np.errstate(over="ignore", invalid="ignore")
def _unit(column: Column, values: np.ndarray, since: str) -> Alarm | None:
    known = np.array(column.quantiles)
    spread = known[-1] - known[0]
    finite = values[np.isfinite(values)]
    if spread <= 0 or finite.size < FEWEST_UNIT:
        return None
    found = np.quantile(finite, _POINTS)
    distance = float(np.abs(found - known).mean() / spread)
    if distance <= FAR:
        return None
    near = NEAR + 2.0 / math.sqrt(finite.size)
    turned = {
        words: float(np.abs(turn(found) - known).mean() / spread) for words, turn in TURNS.items()
    }
    words = min(turned, key=lambda name: turned[name])
    if not (turned[words] < near and turned[words] * CLEARER < distance):
        return None
    width = float(np.ptp(TURNS[words](found[[0, -1]]))) / spread
    if not 1 / LIKE_WIDTH < width < LIKE_WIDTH:
        return None
    text = (
        f"Column {column.name!r} looks {words}: its median is {figure(float(found[2]))}, the "
        f"reference's {figure(float(known[2]))}."
    )
    return _fact("quality", "unit", column.name, text, since, distance)


def _fact(kind: Kind, what: str, subject: str, sentence: str, since: str, effect: float) -> Alarm:
    unit = "ranges" if what == "unit" else "share"
    return Alarm(kind, what, subject, True, sentence, effect, unit=unit, since=since, p=0.0)
