"""One pass of polars over a text table, and all that may go wrong on the way.

Columns of clean numbers go straight to their type; every other column is read as text and given
its type from all of its cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from loopline.data.cells import CellRules, ReadColumn, direct_types, read_cells
from loopline.data.csv_dialect import Dialect, joins_rows
from loopline.data.csv_rows import RowShapes, scan_rows
from loopline.data.table_format import UNREADABLE_ADVICE, TableFormat, dtype_name, dtype_of
from loopline.errors import DataError
from loopline.frames import canonical
from loopline.words import counted

_NUM_RETRIES = 3
_FAILED_COLUMN = re.compile(
    r"could not parse `(.*)` as dtype `\w+` at column '(.*)' \(column", re.S
)


class NotUtf8Error(Exception):
    """Bytes beyond the head are not UTF-8."""


@dataclass(frozen=True, slots=True)
class PassedTable:
    """What the pass gives: date formats, units and unreadable cells by column."""

    frame: pl.DataFrame
    dates: Mapping[str, str]
    units: Mapping[str, str]
    notes: tuple[str, ...]
    problems: Mapping[str, int]


class TablePass:
    """One text table on its way into a frame."""

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        fmt: TableFormat,
        dialect: Dialect,
        rules: CellRules,
    ) -> None:
        self.source, self.name, self.fmt = source, name, fmt
        self.dialect, self.rules = dialect, rules
        # A resolved format also reads files that lack a column, such as the target when predicting;
        # whoever needs the column says so.
        self.wanted = {
            column: dtype_of(told) for column, told in fmt.dtypes.items() if column in dialect.names
        }

    def read(self, sample: pl.DataFrame) -> PassedTable:
        """The table with its types."""
        schema, widths = self._plan(sample)
        frame = self._pass(schema)
        frame = self._checked_digits(frame, widths)
        frame, notes = self._checked_shape(frame)
        if self._swallowed_rows(frame):
            self.dialect = replace(self.dialect, quote="")
            frame, notes = self._checked_shape(self._pass(schema))
            notes.insert(0, "quote marks are read as ordinary characters")
        self._check_text(frame)
        notes.extend(self._row_like_cells(frame))
        columns = []
        dates: dict[str, str] = {}
        units: dict[str, str] = {}
        problems: dict[str, int] = {}
        markers: dict[str, tuple[int, int]] = {}
        for written in frame.get_columns():
            if written.dtype != pl.String():
                columns.append(written)
                continue
            column, read = written.name, self._read_column(written)
            columns.append(read.series)
            if read.date_format:
                dates[column] = read.date_format
            if read.unit:
                units[column] = read.unit
            notes.extend(read.notes)
            for word, count in read.markers.items():
                if word:
                    cells, places = markers.get(word, (0, 0))
                    markers[word] = (cells + count, places + 1)
            if blanks := read.markers.get("", 0):
                notes.extend(_blank_note(read.series, blanks))
            if read.unreadable is not None:
                problems[column] = int(read.unreadable.sum())
                notes.append(
                    f"{problems[column]:,} cells of {column!r} are not "
                    f"{dtype_name(read.series.dtype)} and read as missing"
                )
        notes = [*_marker_notes(markers), *notes]
        # A "nan" that no sample saw was read as a number by polars; here it is a missing cell.
        frame = canonical(pl.DataFrame(columns))
        return PassedTable(frame, dates, units, tuple(notes), problems)

    def _plan(self, sample: pl.DataFrame) -> tuple[dict[str, pl.DataType], dict[str, int]]:
        """The types to read directly, and for whole numbers their one number of digits, if one."""
        direct = (
            direct_types(sample)
            if self.rules.decimal == "." and not self.rules.thousands and sample.height
            else {}
        )
        schema: dict[str, pl.DataType] = {}
        widths: dict[str, int] = {}
        for column in self.dialect.names:
            dtype, width = direct.get(column, (pl.String(), 0))
            wanted = self.wanted.get(column, dtype)
            if wanted == pl.Float64() and dtype == pl.Int64():
                dtype = wanted
            schema[column] = dtype if dtype == wanted else pl.String()
            if dtype == pl.Int64() and column not in self.wanted and width > 1:
                widths[column] = width
        return schema, widths

    def _pass(self, schema: dict[str, pl.DataType]) -> pl.DataFrame:
        """One polars pass, repeated with a column as text when that one breaks its promise."""
        schema = dict(schema)
        for attempt in range(_NUM_RETRIES + 1):
            try:
                return self._polars(schema)
            except pl.exceptions.PolarsError as error:
                failed = _FAILED_COLUMN.search(str(error))
                column = str(failed.group(2)) if failed else ""
                if not failed or schema.get(column, pl.String()) == pl.String():
                    self._explain(error)
                schema[column] = pl.String()
                if attempt == _NUM_RETRIES - 1:
                    schema = dict.fromkeys(schema, pl.String())
        raise AssertionError("text columns cannot fail to parse")

    def _polars(
        self, schema: Mapping[str, pl.DataType], columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        lazy = pl.scan_csv(
            self.source,
            schema=dict(schema),
            has_header=False,
            skip_lines=self.dialect.skip_lines,
            separator=self.dialect.delimiter,
            quote_char=self.dialect.quote or None,
            comment_prefix=self.dialect.comment or None,
            glob=False,
        )
        if columns is not None:
            lazy = lazy.select(columns)
        return lazy.collect(engine="streaming")

    def _explain(self, error: pl.exceptions.PolarsError) -> None:
        """Turn what polars says into a sentence with line numbers."""
        told = str(error)
        if "utf-8" in told or "utf8" in told:
            raise NotUtf8Error from None
        shapes = self._scan()
        if shapes.num_ragged:
            raise DataError(
                f"{self.name}: every row must have {len(self.dialect.names)} cells as the first; "
                f"{shapes.told()}. Correct those lines, or enclose cells that contain "
                f"{self.dialect.delimiter!r} in quotes."
            ) from None
        if shapes.open_quote_line is not None:
            raise DataError(
                f"{self.name}: the quote opened in line {shapes.open_quote_line:,} is never "
                "closed. Close it, or give `quote: ''` if quote marks are ordinary characters here."
            ) from None
        raise DataError(
            f"{self.name} cannot be read as a table with delimiter {self.dialect.delimiter!r}: "
            f"{told.splitlines()[0]}. Check its quotes, or give `delimiter` and `quote`."
        ) from None

    def _scan(self, quote: str | None = None) -> RowShapes:
        return scan_rows(
            self.source,
            delimiter=self.dialect.delimiter,
            quote=self.dialect.quote if quote is None else quote,
            width=len(self.dialect.names),
            skip_lines=self.dialect.skip_lines,
            comment=self.dialect.comment,
        )

    def _checked_digits(self, frame: pl.DataFrame, widths: Mapping[str, int]) -> pl.DataFrame:
        """Read columns again as text where a code with leading zeros may have become a number.

        A column whose sampled whole numbers all have the same number of digits may be one of codes
        (postal codes); a smaller number in it then may have lost its zeros.
        """
        suspicious = []
        for column, width in widths.items():
            least = frame[column].min()
            if isinstance(least, int) and 0 <= least < 10 ** (width - 1):
                suspicious.append(column)
        if not suspicious:
            return frame
        schema = {
            column: pl.String() if column in suspicious else dtype
            for column, dtype in frame.schema.items()
        }
        again = self._polars(schema, suspicious)
        return frame.with_columns(again.get_columns())

    def _checked_shape(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """Refuse rows that are too short, and drop the blank lines that polars reads as rows."""
        if frame.is_empty():
            raise DataError(
                f"{self.name} has a header ({', '.join(map(repr, self.dialect.names[:6]))}"
                f"{' …' if frame.width > 6 else ''}) but no rows."
            )
        last = frame[frame.columns[-1]]
        if not last.null_count() or frame.width == 1:
            return frame, []
        shapes = self._scan()
        if shapes.num_ragged:
            raise DataError(
                f"{self.name}: every row must have {frame.width} cells; {shapes.told()}. Correct "
                "those lines, or give the right `delimiter` and `quote`."
            )
        if not shapes.blank_rows:
            return frame, []
        keep = pl.Series([True]).new_from_index(0, frame.height).scatter(shapes.blank_rows, False)
        count = len(shapes.blank_rows)
        frame = frame.filter(keep)
        if frame.is_empty():
            raise DataError(f"{self.name} has no rows: all {count:,} lines are blank.")
        return frame, [f"{count:,} blank line{'s' * (count > 1)} passed over"]

    def _swallowed_rows(self, frame: pl.DataFrame) -> bool:
        """Whether stray quote marks have joined lines that are each a whole row by themselves."""
        if self.fmt.quote is not None or not self.dialect.quote or self.dialect.multiline:
            return False
        if frame.width == 1 or not any(
            series.str.contains("\n", literal=True).any()
            for series in frame.get_columns()
            if series.dtype == pl.String()
        ):
            return False
        plain = self._scan(quote="")
        swallowed = plain.num_rows - len(plain.blank_rows) - frame.height
        return not plain.num_ragged and joins_rows(swallowed, frame.width)

    def _row_like_cells(self, frame: pl.DataFrame) -> list[str]:
        """Notes on cells that may have swallowed rows (a comma there is only prose)."""
        if self.dialect.delimiter == "," or not self.dialect.quote:
            return []
        pattern = rf"\n[^\n]*{re.escape(self.dialect.delimiter)}"
        notes = []
        for series in frame.get_columns():
            if series.dtype == pl.String() and series.str.contains("\n", literal=True).any():
                found = series.str.contains(pattern).arg_true()
                if len(found):
                    notes.append(
                        f"{len(found):,} quoted cells of {series.name!r} hold lines that look like "
                        f"rows, the first in data row {int(found[0]) + 1:,}: are its quotes right?"
                    )
        return notes

    def _check_text(self, frame: pl.DataFrame) -> None:
        for column, dtype in frame.schema.items():
            if dtype != pl.String():
                continue
            zero = frame[column].str.contains("\0", literal=True)
            if zero.any():
                row = int(zero.arg_true()[0])
                raise DataError(
                    f"{self.name}: column {column!r} has a zero byte in data row {row + 1:,}. "
                    "The file is damaged or no text; write it anew."
                )

    def _read_column(self, series: pl.Series) -> ReadColumn:
        column = series.name
        read = read_cells(
            series,
            self.rules,
            dtype=self.wanted.get(column),
            date_format=self.fmt.dates.get(column),
            unit=self.fmt.units.get(column),
        )
        if read.unreadable is not None and self.fmt.unreadable == "refuse":
            row = int(read.unreadable.arg_true()[0])
            raise DataError(
                f"{self.name}: {counted(int(read.unreadable.sum()), 'cell')} of column {column!r} "
                f"cannot be read as {self.fmt.dtypes[column]}{_as_written(self.fmt, column)}; "
                f"the first is {series[row]!r:.60} in {self._place(row)}. {UNREADABLE_ADVICE}"
            )
        return read

    def _place(self, row: int) -> str:
        if self.dialect.multiline or self.dialect.comment:
            return f"data row {row + 1:,}"
        return f"data row {row + 1:,} (line {row + 1 + self.dialect.skip_lines:,})"


def _as_written(fmt: TableFormat, column: str) -> str:
    unit = fmt.units.get(column)
    return f" written as {unit.replace('#,#', '#').replace('#', '1')!r}" if unit else ""


def _blank_note(series: pl.Series, blanks: int) -> list[str]:
    if series.dtype == pl.String():
        return []
    rest = "numbers" if series.dtype.is_numeric() else "dates"
    if series.dtype == pl.Boolean():
        rest = "truth values"
    return [
        f"{blanks:,} blank cell{'s' * (blanks > 1)} in {series.name} read as missing, "
        f"the rest are {rest}"
    ]


def _marker_notes(markers: Mapping[str, tuple[int, int]]) -> list[str]:
    return [
        f"{word!r} read as missing in {places} column{'s' * (places > 1)} ({cells:,} cells)"
        for word, (cells, places) in markers.items()
    ]
