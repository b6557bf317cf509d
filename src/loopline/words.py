"""How numbers and names stand in sentences: one way, for terminal, report, card and messages.

A score is told with its interval in brackets, all three with the same number of decimals, so that
they can be compared by eye. Imports the standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

NEAR = 0.6
"""How alike two names must be for the one to be offered in place of the other."""


def figure(number: float | None, scale: float | None = None) -> str:
    """A number with about four digits that count, thousands grouped; a dash for none.

    Args:
        number: what to write.
        scale: the size that decides on the decimals (default: the number's own).

    >>> figure(45210.123), figure(63.218), figure(0.5), figure(0.000341)
    ('45,210', '63.22', '0.5000', '0.000341')
    """
    if number is None or not math.isfinite(number):
        return "–"
    size = abs(number if scale is None else scale)
    if 0 < size < 1e-6:
        return f"{number:.2e}"
    text = f"{number:,.{_decimals(size)}f}"
    return text.removeprefix("-") if not any(digit in text for digit in "123456789") else text


def _decimals(size: float) -> int:
    if size >= 1000:
        return 0
    if size >= 0.1 or size == 0:
        return 3 - math.floor(math.log10(size)) if size >= 1 else 4
    return max(4, 2 - math.floor(math.log10(size)))


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval, or alone when it has none or one without length.

    >>> interval(0.91234, 0.9, 0.92)
    '0.9123 [0.9000, 0.9200]'
    >>> interval(0.5, 0.5, 0.5), interval(None, None, None)
    ('0.5000', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return figure(value)
    if low == value == high:
        return figure(value)
    scale = max(abs(value), (high - low) / 2)
    return f"{figure(value, scale)} [{figure(low, scale)}, {figure(high, scale)}]"


def estimate(stored: Mapping[str, Any] | None) -> str:
    """`interval` of an estimate as artifacts and summaries hold it; a dash for none.

    >>> estimate({"value": 12.3456, "low": 11.0, "high": 13.5})
    '12.35 [11.00, 13.50]'
    """
    if stored is None:
        return "–"
    return interval(stored["value"], stored.get("low"), stored.get("high"))


def size(num_bytes: int) -> str:
    """Bytes for people.

    >>> size(2048)
    '2.0 kB'
    """
    if num_bytes < 1000:
        return f"{num_bytes} B"
    if num_bytes < 1_000_000:
        return f"{num_bytes / 1000:.1f} kB"
    if num_bytes < 1_000_000_000:
        return f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:.1f} GB"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it needs one.

    >>> counted(1, "artifact"), counted(1200, "row")
    ('1 artifact', '1,200 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def times(number: int) -> str:
    """How often.

    >>> times(1), times(2), times(12)
    ('once', 'twice', '12 times')
    """
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def sentence(text: str) -> str:
    """A remark made a sentence: a capital where it starts with a word, a full stop at its end.

    >>> sentence("no header row: columns named column_1 …"), sentence("run-3fa was done before")
    ('No header row: columns named column_1 ….', 'run-3fa was done before.')
    """
    if re.match(r"[a-z]+[ :]", text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def nearest(name: str, names: Iterable[str], cutoff: float = NEAR) -> str:
    """A sentence with the nearest of the right names, or with all of them.

    >>> nearest("splt", ["data", "split"])
    'Did you mean `split`?'
    >>> nearest("colour", ["data", "split"])
    'Known here: `data`, `split`.'
    """
    known = list(names)
    folded = {each.casefold(): each for each in reversed(known)}
    found = get_close_matches(name.casefold(), list(folded), n=1, cutoff=cutoff)
    if found:
        return f"Did you mean `{folded[found[0]]}`?"
    return f"Known here: {', '.join(f'`{each}`' for each in known) or 'none'}."


def listed_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text for messages: columns of equal width, a line a row.

    >>> print(listed_table(["name", "auc"], [["trees", "0.9"]]))
      name   auc
      trees  0.9
    """
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    return "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
