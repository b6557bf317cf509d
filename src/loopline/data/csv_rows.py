"""Find the rows of a text table that do not have the table's shape.

polars reads a row with too few cells as one with missing cells, and says neither which row has too
many nor where a quote was left open. This looks at the bytes themselves, in blocks of fixed size,
with the same rule for quotes: a line break or delimiter between an odd and an even quote is part
of a cell. About 200 MB a second, needed only when something looks wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 8 << 20
_NEWLINE, _RETURN = 10, 13
_NUM_TOLD = 5


@dataclass(slots=True)
class RowShapes:
    """What a scan has found; rows are counted from 0 after the skipped lines, lines from 1."""

    num_rows: int = 0
    blank_rows: list[int] = field(default_factory=list)
    ragged: list[tuple[int, int]] = field(default_factory=list)  # (line, number of cells)
    num_ragged: int = 0
    open_quote_line: int | None = None

    def told(self) -> str:
        """The first offending lines for an error sentence."""
        lines = ", ".join(f"line {line:,} has {cells:,}" for line, cells in self.ragged)
        return lines + (
            f", and {self.num_ragged - len(self.ragged):,} more"
            * (self.num_ragged > len(self.ragged))
        )


def scan_rows(
    source: Path | bytes, *, delimiter: str, quote: str, width: int, skip_lines: int, comment: str
) -> RowShapes:
    r"""Compare the number of cells of every row with `width`.

    Args:
        source: the file, or its bytes when it had to be decoded first.
        delimiter: what stands between cells.
        quote: what encloses cells; "" when nothing does.
        width: cells a row must have.
        skip_lines: lines before the first row to look at.
        comment: rows that start with it are passed over; "" for none.

    >>> scan_rows(b"1,2\n3\n", delimiter=",", quote="", width=2, skip_lines=0, comment="").ragged
    [(2, 1)]
    """
    shapes = RowShapes()
    line, inside, quotes_seen_line = skip_lines + 1, 0, 0
    rest = b""
    blocks = _blocks(source, skip_lines)
    for block, is_last in blocks:
        data = rest + block
        if is_last and data and not data.endswith(b"\n"):
            data += b"\n"
        codes = np.frombuffer(data, dtype=np.uint8)
        outside = np.ones(len(codes), dtype=bool)
        if quote:
            marks = codes == ord(quote)
            outside = (np.cumsum(marks, dtype=np.uint8) & 1) == 0
        breaks = codes == _NEWLINE
        ends = np.flatnonzero(breaks & outside)
        if not len(ends):
            if is_last and data:
                inside = 1
                quotes_seen_line = line
            rest = data
            if len(rest) > 8 * BLOCK_BYTES:
                shapes.open_quote_line = line
                return shapes
            continue
        used = int(ends[-1]) + 1
        _count_block(
            shapes,
            codes[:used],
            outside[:used],
            breaks[:used],
            ends,
            line=line,
            delimiter=delimiter,
            width=width,
            comment=comment,
        )
        line += int(np.count_nonzero(breaks[:used]))
        rest = data[used:]
        if is_last and rest:
            inside, quotes_seen_line = 1, line
    if inside:
        shapes.open_quote_line = quotes_seen_line
    return shapes


def _count_block(
    shapes: RowShapes,
    codes: NDArray[np.uint8],
    outside: NDArray[np.bool_],
    breaks: NDArray[np.bool_],
    ends: NDArray[np.intp],
    *,
    line: int,
    delimiter: str,
    width: int,
    comment: str,
) -> None:
    starts = np.concatenate(([0], ends[:-1] + 1))
    delimiters = np.cumsum((codes == ord(delimiter)) & outside, dtype=np.int64)
    cells = np.diff(delimiters[ends], prepend=0) + 1
    lengths = ends - starts - (codes[np.maximum(ends - 1, 0)] == _RETURN)
    blank = lengths <= 0
    skipped = np.zeros(len(ends), dtype=bool)
    if comment:
        # A prefix of several characters is compared by its first one only where that one stands.
        prefix = comment.encode()
        for place in np.flatnonzero(codes[starts] == prefix[0]):
            start = int(starts[place])
            skipped[place] = codes[start : start + len(prefix)].tobytes() == prefix
    wrong = (cells != width) & ~blank & ~skipped
    rows = np.cumsum(~skipped) - 1 + shapes.num_rows
    shapes.blank_rows.extend(rows[blank & ~skipped].tolist())
    shapes.num_rows += int(np.count_nonzero(~skipped))
    shapes.num_ragged += int(np.count_nonzero(wrong))
    if len(shapes.ragged) < _NUM_TOLD and wrong.any():
        lines = line + np.cumsum(breaks)[starts] - breaks[starts]
        for place in np.flatnonzero(wrong)[: _NUM_TOLD - len(shapes.ragged)]:
            shapes.ragged.append((int(lines[place]), int(cells[place])))


def _blocks(source: Path | bytes, skip_lines: int) -> Iterator[tuple[bytes, bool]]:
    if isinstance(source, bytes):
        start = 0
        for _ in range(skip_lines):
            start = source.find(b"\n", start) + 1
        for place in range(start, len(source), BLOCK_BYTES):
            yield source[place : place + BLOCK_BYTES], place + BLOCK_BYTES >= len(source)
        return
    with source.open("rb") as file:
        for _ in range(skip_lines):
            file.readline()
        block = file.read(BLOCK_BYTES)
        while block:
            following = file.read(BLOCK_BYTES)
            yield block, not following
            block = following
