"""From written cells to typed columns: numbers, truth values, dates, and what stands for "missing".

A column takes a type only when *every* cell that is not missing can be read in it, so nothing is
ever nulled in silence: one word in a column of numbers makes it text, and a note says so. Digits
with leading zeros ("00123") are labels and stay text, as do whole numbers that 64 bits cannot
hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from loopline.data.table_format import MISSING_WORDS, dtype_name
from loopline.data.units import find_unit, plain_numbers, unit_note, units_of

_INTEGER = r"^[+-]?\d+$"
_LEADING_ZERO = r"^[+-]?0\d+$"
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
_COMMA_NUMBER = r"^[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?(?:[eE][+-]?\d+)?$"
_GROUPED_NUMBER = r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$|^[+-]?\d+(?:\.\d+)?$"
_NUM_CELLS_LOOKED_AT = 2_000
_MOSTLY = 0.9
_LONGEST_WORD = max(map(len, MISSING_WORDS))

# (shape, format); d and m may change places in the three with one or two digits first.
_DATES: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d{1,2}-\d{1,2}", "%Y-%m-%d"),
    (r"\d{4}/\d{1,2}/\d{1,2}", "%Y/%m/%d"),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", "%Y.%m.%d"),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", "%d.%m.%Y"),
    (r"\d{1,2}/\d{1,2}/\d{4}", "%d/%m/%Y"),
    (r"\d{1,2}/\d{1,2}/\d{4}", "%m/%d/%Y"),
    (r"\d{1,2}-\d{1,2}-\d{4}", "%d-%m-%Y"),
    (r"\d{1,2}-\d{1,2}-\d{4}", "%m-%d-%Y"),
    (r"\d{1,2}/\d{1,2}/\d{2}", "%d/%m/%y"),
    (r"\d{1,2}/\d{1,2}/\d{2}", "%m/%d/%y"),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", "%d.%m.%y"),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", "%d %b %Y"),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", "%d-%b-%Y"),
    (r"\d{1,2}-[A-Za-z]{3}-\d{2}", "%d-%b-%y"),
    (r"[A-Za-z]{3} \d{1,2}, \d{4}", "%b %d, %Y"),
    (r"\d{1,2} [A-Za-z]{4,9} \d{4}", "%d %B %Y"),
    (r"[A-Za-z]{4,9} \d{1,2}, \d{4}", "%B %d, %Y"),
)
_CLOCKS: tuple[tuple[str, str], ...] = (
    (r"\d{1,2}:\d{2}:\d{2}(?:\.\d{1,9})?", "%H:%M:%S%.f"),
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}:\d{2}:\d{2} ?[AaPp][Mm]", "%I:%M:%S %p"),
    (r"\d{1,2}:\d{2} ?[AaPp][Mm]", "%I:%M %p"),
)
_ZONES: tuple[tuple[str, str], ...] = (("", ""), (r" ?(?:Z|[+-]\d{2}(?::?\d{2})?)", "%#z"))
MONTH_FORMAT = "%Y-%m"
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


@dataclass(frozen=True, slots=True)
class CellRules:
    """What holds for all cells of a source.

    Args:
        missing: the words that stand for a missing cell.
        decimal: "." or ",".
        thousands: what groups digits, or "".
        strip: blanks around a cell are no part of it, in text columns too.
        day_first: how 03/04/2020 is read when no cell of the column decides it.
    """

    missing: Sequence[str]
    decimal: str = "."
    thousands: str = ""
    strip: bool = False
    day_first: bool = False


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One column after reading: its cells and what is worth telling about them."""

    series: pl.Series
    date_format: str | None = None
    markers: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unit: str | None = None
    unreadable: pl.Series | None = None  # True where a cell is not of the type asked for


def read_cells(
    cells: pl.Series,
    rules: CellRules,
    *,
    dtype: pl.DataType | None = None,
    date_format: str | None = None,
    unit: str | None = None,
) -> ReadColumn:
    """Give one column of written cells its type.

    Args:
        cells: the column as text, null where the cell is empty.
        rules: what stands for missing, how numbers are written.
        dtype: the type to read it in; None finds the one type that holds every cell.
        date_format: how its dates are written, when that is known.
        unit: how its amounts are written, when that is known; see `loopline.data.units`.

    >>> rules = CellRules(missing=["", "?"])
    >>> read_cells(pl.Series("a", ["1", "?", "3"]), rules).series.to_list()
    [1, None, 3]
    >>> read_cells(pl.Series("zip", ["00123", "4567"]), rules).series.dtype
    String
    """
    bare = cells.str.strip_chars()
    markers, is_missing = _find_missing(bare, rules)
    kept = cells if not rules.strip else bare
    if is_missing.any():
        bare = bare.set(is_missing, None)
        kept = kept.set(is_missing, None)
    if dtype is not None:
        return _read_as(bare, kept, dtype, rules, date_format, unit, markers)
    if unit is None:
        unit = find_unit(bare, decimal=rules.decimal)
    if unit is not None:
        numbers = plain_numbers(bare, unit).cast(pl.Float64())
        if _whole(numbers, bare):
            note = unit_note(cells.name, unit)
            return ReadColumn(numbers, None, markers, notes=(note,), unit=unit)
    series, found, notes = _detect(bare, kept, rules, date_format)
    if series.dtype == pl.String() and (is_word := _is_word(bare)).any():
        # "unknown" among numbers is a missing number, among words it is a word.
        rest = bare.set(is_word, None)
        read = read_cells(rest, rules, date_format=date_format)
        if read.series.dtype != pl.String() and rest.null_count() < len(rest):
            return replace(read, markers=markers, notes=(*read.notes, _word_note(bare, is_word)))
    return ReadColumn(series, found, markers, notes=notes or _mixed_note(bare))


def _read_as(
    bare: pl.Series,
    kept: pl.Series,
    dtype: pl.DataType,
    rules: CellRules,
    date_format: str | None,
    unit: str | None,
    markers: Mapping[str, int],
) -> ReadColumn:
    """A column in the type that is asked for, as a resolved format does."""
    if dtype != pl.String() and (is_word := _is_word(bare)).any():
        bare = bare.set(is_word, None)
    if unit is not None and dtype.is_numeric():
        series: pl.Series = plain_numbers(bare, unit).cast(dtype, strict=False)
        found = None
    else:
        series, found = convert(bare, kept, dtype, rules, date_format)
        if dtype.is_numeric() and not _whole(series, bare):
            # Databases without truth values store them as 0 and 1; files say true and false.
            truth, _ = convert(bare, kept, pl.Boolean(), rules, None)
            series = truth.cast(dtype) if _whole(truth, bare) else series
        if dtype.is_integer() and not _whole(series, bare):
            # Whole numbers may become fractions in a later file.
            floats, _ = convert(bare, kept, pl.Float64(), rules, None)
            series = floats if _whole(floats, bare) else series
    unreadable = series.is_null() & bare.is_not_null()
    return ReadColumn(
        series, found, markers, unit=unit, unreadable=unreadable if unreadable.any() else None
    )


def _is_word(bare: pl.Series) -> pl.Series:
    short = bare.str.len_bytes().fill_null(99) <= _LONGEST_WORD
    if not short.any():
        return short
    return short & bare.str.to_lowercase().is_in(list(MISSING_WORDS)).fill_null(value=False)


def _word_note(bare: pl.Series, is_word: pl.Series) -> str:
    words = bare.filter(is_word).unique(maintain_order=True).to_list()
    told = ", ".join(repr(word) for word in words[:3]) + (" …" if len(words) > 3 else "")
    count = int(is_word.sum())
    return (
        f"{told} in {bare.name!r} read as missing ({count:,} cell{'s' * (count > 1)}), the other "
        "cells are no words"
    )


def _mixed_note(bare: pl.Series) -> tuple[str, ...]:
    """That a column of amounts stays text because they are in several currencies."""
    signs = units_of(bare.drop_nulls())
    if signs is None or len(signs) < 2:
        return ()
    told = ", ".join(dict.fromkeys(front or behind for front, behind in signs[:6]))
    return (
        f"{bare.name!r} has amounts written in several ways ({told}) and stays text; give them one "
        "unit to have numbers",
    )


def direct_types(sample: pl.DataFrame) -> dict[str, tuple[pl.DataType, int]]:
    """Columns whose sampled cells are all plain numbers or truth values, with their type.

    One polars expression over all columns a question, so that 100,000 columns take seconds.

    Returns:
        Column to its type and, for whole numbers that all have the same number of digits, that
        number; else 0. Columns of anything else are left out.

    >>> direct_types(pl.DataFrame({"a": ["10", "20"], "b": ["1.5", "2"], "c": ["x", "y"]}))
    {'a': (Int64, 2), 'b': (Float64, 0)}
    """

    def asked(question: pl.Expr) -> tuple[object, ...]:
        return sample.select(question).row(0)

    cells = pl.all()
    whole = asked(cells.str.contains(_INTEGER).all())
    number = asked(cells.str.contains(_NUMBER).all())
    zeros = asked(cells.str.contains(_LEADING_ZERO).any())
    truth = asked(cells.str.contains(r"^(?i:true|false)$").all())
    empty = asked(cells.is_null().all())
    fits = asked(
        cells.cast(pl.Int64(), strict=False).null_count().eq(cells.null_count()).cast(pl.Boolean())
    )
    shortest, longest = asked(cells.str.len_bytes().min()), asked(cells.str.len_bytes().max())
    found: dict[str, tuple[pl.DataType, int]] = {}
    for place, name in enumerate(sample.columns):
        if empty[place] or zeros[place]:
            continue
        if whole[place] and fits[place]:
            same = shortest[place] == longest[place]
            found[name] = (pl.Int64(), int(str(longest[place])) if same else 0)
        elif number[place] and not whole[place]:
            found[name] = (pl.Float64(), 0)
        elif truth[place]:
            found[name] = (pl.Boolean(), 0)
    return found


def _find_missing(bare: pl.Series, rules: CellRules) -> tuple[dict[str, int], pl.Series]:
    words = list(dict.fromkeys(("", *rules.missing)))
    longest = max(len(word.encode()) for word in words)
    short = (bare.str.len_bytes() <= longest).fill_null(value=False)
    if not short.any():
        return {}, short
    is_missing = short & bare.is_in(words).fill_null(value=False)
    if not is_missing.any():
        return {}, is_missing
    counted = bare.filter(is_missing).value_counts(name="#").sort(bare.name)
    return dict(zip(counted[bare.name].to_list(), counted["#"].to_list(), strict=True)), is_missing


def _detect(
    bare: pl.Series, kept: pl.Series, rules: CellRules, date_format: str | None
) -> tuple[pl.Series, str | None, tuple[str, ...]]:
    head = bare.drop_nulls().head(_NUM_CELLS_LOOKED_AT)
    if head.is_empty():
        return kept, None, ()
    if date_format:
        series, found = convert(bare, kept, pl.Datetime("us"), rules, date_format)
        series = series if _has_clock(date_format) else series.cast(pl.Date())
        return (
            (series, found, ()) if _whole(series, bare) else (kept, None, _odd_note(bare, series))
        )
    if _matches(head, r"^(?i:true|false)$") == 1.0:
        series, _ = convert(bare, kept, pl.Boolean(), rules, None)
        return (series, None, ()) if _whole(series, bare) else (kept, None, _odd_note(bare, series))
    share = _number_share(head, rules)
    if share >= _MOSTLY:
        return _detect_number(bare, kept, rules)
    return _detect_date(bare, kept, head, rules)


def _detect_number(
    bare: pl.Series, kept: pl.Series, rules: CellRules
) -> tuple[pl.Series, str | None, tuple[str, ...]]:
    name = bare.name
    if bare.str.contains(_LEADING_ZERO).any() and _matches(bare, _INTEGER) > _MOSTLY:
        return kept, None, (f"{name!r} has numbers with leading zeros and stays text",)
    floats, _ = convert(bare, kept, pl.Float64(), rules, None)
    if not _whole(floats, bare):
        return kept, None, _odd_note(bare, floats)
    if _matches(_plain_digits(bare, rules), _INTEGER) < 1.0:
        return floats, None, ()
    whole, _ = convert(bare, kept, pl.Int64(), rules, None)
    if _whole(whole, bare):
        return whole, None, ()
    return kept, None, (f"{name!r} has whole numbers beyond 64 bits and stays text",)


def _detect_date(
    bare: pl.Series, kept: pl.Series, head: pl.Series, rules: CellRules
) -> tuple[pl.Series, str | None, tuple[str, ...]]:
    fits = _date_formats(head)
    results = []
    for found in fits:
        series, _ = convert(bare, kept, _date_dtype(found), rules, found)
        if _whole(series, bare):
            results.append((series, found))
    if not results:
        return kept, None, ()
    if len(results) == 1:
        return results[0][0], results[0][1], _month_note(bare.name, results[0][1])
    day_first = [entry for entry in results if entry[1].startswith("%d")]
    month_first = [entry for entry in results if entry[1].startswith("%m")]
    if not (day_first and month_first):
        return results[0][0], results[0][1], ()
    chosen = (day_first if rules.day_first else month_first)[0]
    order = "day first" if rules.day_first else "month first"
    note = (
        f"{bare.name!r} has dates that read day first or month first ({head[0]!r}); "
        f"read {order} (set `dates` to change it)"
    )
    return chosen[0], chosen[1], (note,)


def _month_note(name: str, found: str) -> tuple[str, ...]:
    if found == MONTH_FORMAT:
        return (f"{name!r} has months; each is read as its first day",)
    return ()


def _date_formats(head: pl.Series) -> list[str]:
    """Formats in which every cell of the head can be read."""
    first = head[0]
    assert isinstance(first, str)
    if not first[:1].isalnum() or not any(mark in first for mark in "-/.: "):
        return []
    if _matches(head, r"^\d{4}-(?:0[1-9]|1[0-2])$") == 1.0:
        return [MONTH_FORMAT]
    found = []
    for shape, written in _DATES:
        if _matches(head.head(1), rf"^{shape}(?:[T ].*)?$") < 1.0:
            continue
        if _matches(head, rf"^{shape}$") == 1.0:
            found.append(written)
            continue
        for between in ("T", " "):
            for clock, clock_written in _CLOCKS:
                for zone, zone_written in _ZONES:
                    if _matches(head, rf"^{shape}{between}{clock}{zone}$") == 1.0:
                        found.append(f"{written}{between}{clock_written}{zone_written}")
    if not found:
        found = [written for shape, written in _CLOCKS[:2] if _matches(head, rf"^{shape}$") == 1.0]
    return found


def _has_clock(written: str) -> bool:
    return "%H" in written or "%I" in written


def _date_dtype(written: str) -> pl.DataType:
    if not _has_clock(written):
        return pl.Date()
    if "%Y" not in written and "%y" not in written:
        return pl.Time()
    return pl.Datetime("us", "UTC") if "z" in written else pl.Datetime("us")


def convert(
    bare: pl.Series,
    kept: pl.Series,
    dtype: pl.DataType,
    rules: CellRules,
    date_format: str | None,
) -> tuple[pl.Series, str | None]:
    """The cells in that type, null where a cell cannot be read in it, and the date format used.

    ISO 8601 has one meaning, so dates written so are read whatever format is known.
    """
    if dtype == pl.String():
        return kept, None
    if dtype == pl.Boolean():
        low = bare.str.to_lowercase()
        values = low.replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean())
        return values.cast(pl.Boolean()), None
    if dtype.is_integer():
        digits = _plain_digits(bare, rules)
        whole = digits.cast(dtype, strict=False)
        if whole.null_count() > digits.null_count():
            # "3.0" in a column of whole numbers is a whole number.
            floats = _floats(digits)
            exact = ((floats == floats.round(0)) & (floats.abs() < 2**53)).fill_null(value=False)
            whole = whole.zip_with(
                whole.is_not_null() | ~exact, floats.set(~exact, None).cast(dtype, strict=False)
            )
        return whole.set(~bare.str.contains(r"\d").fill_null(value=False), None), None
    if dtype.is_float():
        return _floats(_plain_digits(bare, rules)), None
    if isinstance(dtype, pl.Duration):
        seconds = _floats(_plain_digits(bare, rules))
        return (seconds * 1_000_000).cast(pl.Int64()).cast(pl.Duration("us")), None
    series, found = _dates(bare, dtype, date_format)
    if date_format and not _whole(series, bare):
        formats = _date_formats(bare.drop_nulls().head(_NUM_CELLS_LOOKED_AT))
        if formats and formats[0].startswith("%Y"):
            again, written = _dates(bare, dtype, formats[0])
            if _whole(again, bare):
                return again, written
    return series, found


def _dates(
    bare: pl.Series, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Series, str | None]:
    written = date_format
    if written is None:
        formats = _date_formats(bare.drop_nulls().head(_NUM_CELLS_LOOKED_AT)) if len(bare) else []
        written = formats[0] if formats else "%Y-%m-%d"
    if isinstance(dtype, pl.Time):
        return bare.str.to_time(written, strict=False), written
    if not _has_clock(written):
        text, pattern = (bare + "-01", "%Y-%m-%d") if written == MONTH_FORMAT else (bare, written)
        return text.str.to_date(pattern, strict=False).cast(dtype), written
    series = bare.str.to_datetime(written, time_unit="us", strict=False)
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    has = series.dtype.time_zone if isinstance(series.dtype, pl.Datetime) else None
    if zone and not has:
        series = series.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    elif zone != has:
        series = series.dt.convert_time_zone(zone or "UTC")
        if not zone:
            series = series.dt.replace_time_zone(None)
    return series.cast(dtype), written


def _floats(digits: pl.Series) -> pl.Series:
    guarded = digits.set(~digits.str.contains(_NUMBER).fill_null(value=False), None)
    return guarded.cast(pl.Float64(), strict=False)


def _plain_digits(bare: pl.Series, rules: CellRules) -> pl.Series:
    """Numbers as this source writes them, respelt the way polars reads them."""
    if rules.decimal == ",":
        readable = bare.set(~bare.str.contains(_COMMA_NUMBER).fill_null(value=False), None)
        return readable.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    if rules.thousands == ",":
        grouped = bare.str.contains(_GROUPED_NUMBER).fill_null(value=False)
        plain = bare.str.replace_all(",", "", literal=True)
        return bare.zip_with(~grouped, plain)
    if rules.thousands:
        return bare.str.replace_all(rules.thousands, "", literal=True)
    return bare


def _number_share(head: pl.Series, rules: CellRules) -> float:
    return _matches(_plain_digits(head, rules).fill_null("x"), _NUMBER)


def _matches(cells: pl.Series, pattern: str) -> float:
    found = cells.drop_nulls().str.contains(pattern)
    return int(found.sum()) / max(len(found), 1)


def _whole(series: pl.Series, bare: pl.Series) -> bool:
    return series.null_count() == bare.null_count()


def _odd_note(bare: pl.Series, series: pl.Series) -> tuple[str, ...]:
    odd = (series.is_null() & bare.is_not_null()).arg_true()
    first = int(odd[0])
    kind = {"Float64": "numbers", "Boolean": "true or false"}.get(
        dtype_name(series.dtype) or "", "dates"
    )
    return (
        f"{bare.name!r} is read as text: {len(odd):,} of {len(bare):,} cells are not {kind}, "
        f"the first is {bare[first]!r:.40} in data row {first + 1:,}",
    )
