"""The shape of a text table's rows: found in blocks of any size, with the lines they stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import csv_rows
from loopline.data.csv_rows import RowShapes, scan_rows

CELLS = st.sampled_from(["1", "", "two", '"a,b"', '"x\ny"', '"He said ""no"""'])
LINES = st.one_of(
    st.lists(CELLS, min_size=1, max_size=4).map(",".join), st.just("# a remark"), st.just("")
)


def scanned(source: Path | bytes, block: int, quote: str = '"') -> RowShapes:
    before, csv_rows.BLOCK_BYTES = csv_rows.BLOCK_BYTES, block
    try:
        return scan_rows(source, delimiter=",", quote=quote, width=2, skip_lines=1, comment="#")
    finally:
        csv_rows.BLOCK_BYTES = before


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=25), st.integers(1, 40))
def test_blocks_take_no_part(lines: list[str], block: int) -> None:
    """Cut into blocks anywhere, in a cell, a quote or a line end, the rows have the same shapes."""
    data = "\n".join(["a,b", *lines]).encode()
    assert scanned(data, max(block, len(data) // 8 + 1)) == scanned(data, 1 << 20)


def test_a_file_is_scanned_as_its_bytes_are(tmp_path: Path) -> None:
    """From a file in small blocks or from memory at once: the same."""
    data = b"a,b\n" + b"".join(b"%d,x\n" % k for k in range(50)) + b"3\n\n4,5,6\n"
    (tmp_path / "t.csv").write_bytes(data)
    assert scanned(tmp_path / "t.csv", 64) == scanned(data, 1 << 20)


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_wrong_rows_are_named_by_their_line(block: int) -> None:
    """Lines are counted from 1 with the header, and a line break within quotes counts."""
    rows = [b"a,b", *[b"1,2"] * 30, b'"x\ny",2', *[b"1,2"] * 30, b"1,2,3", b"", b"9"]
    found = scanned(b"\n".join(rows) + b"\n", block)
    assert found.ragged == [(64, 3), (66, 1)]
    assert (found.num_ragged, found.blank_rows, found.num_rows) == (2, [62], 64)


def test_a_quote_left_open_is_told_by_its_line() -> None:
    """The last row that began and never ended."""
    assert scanned(b'a,b\n1,2\n"3,4\n5,6\n', 1 << 20).open_quote_line == 3
