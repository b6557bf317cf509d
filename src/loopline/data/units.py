"""Amounts written with their unit: "$68.35", "€1.234,50", "1,234 USD", "12 %".

A column is one of numbers with a unit when all of its cells that are not missing carry the same
sign in the same place. The way of writing is kept as a short pattern in the resolved format, so
that the next file is read alike: "$#" for a sign before the number, "#%" for one behind it, and
"€#,#" where a comma is the decimal mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

CODES = (
    *("USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK"),
    *("PLN", "CZK", "HUF", "RON", "BGN", "TRY", "RUB", "UAH", "ILS", "ZAR", "BRL", "MXN", "ARS"),
    *("CLP", "COP", "KRW", "SGD", "HKD", "TWD", "THB", "IDR", "MYR", "PHP", "VND", "AED", "SAR"),
)
_UNIT = rf"(?:[A-Z]{{0,3}}\p{{Sc}}|%|‰|{'|'.join(CODES)})"
_SPACE = r"[\s\u00a0\u202f]*"
_DIGITS = r"(?:\d[\d.,'\u00a0\u202f ]*|[.,]\d+)"
BEFORE = rf"^([+-]?){_SPACE}({_UNIT}){_SPACE}([+-]?)({_DIGITS})$"
BEHIND = rf"^([+-]?)({_DIGITS}?){_SPACE}({_UNIT})$"
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)$"
_POINT = r"^[+-]?(?:\d{1,3}(?:[,' \u00a0\u202f]\d{3})+|\d+)?(?:\.\d*)?$"
_COMMA = r"^[+-]?(?:\d{1,3}(?:[.' \u00a0\u202f]\d{3})+|\d+)?(?:,\d*)?$"


def find_unit(bare: pl.Series, *, decimal: str = ".") -> str | None:
    """The pattern in which all cells of a column are written; None when there is none.

    Args:
        bare: cells without blanks around them, null where missing.
        decimal: the decimal mark of the source, for columns whose cells do not tell their own.

    >>> find_unit(pl.Series(["$1,204.50", "$3"])), find_unit(pl.Series(["1.204,50 €", "3 €"]))
    ('$#', '#,#€')
    >>> find_unit(pl.Series(["$3", "€3"])) is None
    True
    """
    cells = bare.drop_nulls()
    signs = units_of(cells)
    if signs is None or len(signs) != 1:
        return None
    front, behind = signs[0]
    numbers = _without(cells, front, behind)
    point, comma = (bool(numbers.str.contains(rule).all()) for rule in (_POINT, _COMMA))
    if not (point or comma) or not numbers.str.contains(r"\d").all():
        return None
    mark = decimal if point and comma else "." if point else ","
    return f"{front}{'#' if mark == '.' else '#,#'}{behind}"


def units_of(cells: pl.Series) -> list[tuple[str, str]] | None:
    """The signs before and behind the numbers, each pair once; None when a cell has no sign.

    >>> units_of(pl.Series(["$3", "4 €"])), units_of(pl.Series(["$3", "4"]))
    ([('$', ''), ('', '€')], None)
    """
    if cells.is_empty():
        return None
    before = cells.str.extract(BEFORE, 2)
    behind = cells.str.extract(BEHIND, 3)
    if (before.is_null() & behind.is_null()).any():
        return None
    found = pl.DataFrame([before.fill_null("").alias("a"), behind.fill_null("").alias("b")])
    return [(str(a), str(b)) for a, b in found.unique(maintain_order=True).iter_rows()]


def plain_numbers(bare: pl.Series, unit: str) -> pl.Series:
    """The cells as numbers that Python reads; null where one is none or has another unit.

    Cells without any unit count as numbers too: an exporter may leave it out.

    >>> plain_numbers(pl.Series(["-$1,204.50", "7", "€3"]), "$#").to_list()
    ['-1204.50', '7', None]
    """
    front, mark, behind = split_unit(unit)
    numbers = _without(bare, front, behind)
    rule = _POINT if mark == "." else _COMMA
    numbers = numbers.set(~numbers.str.contains(rule).fill_null(value=False), None)
    numbers = numbers.str.replace_all("[' \u00a0\u202f]", "")
    if mark == ".":
        numbers = numbers.str.replace_all(",", "", literal=True)
    else:
        numbers = numbers.str.replace_all(".", "", literal=True)
        numbers = numbers.str.replace(",", ".", literal=True)
    return numbers.set(~numbers.str.contains(_NUMBER).fill_null(value=False), None)


def read_units(frame: pl.DataFrame, units: Mapping[str, str]) -> pl.DataFrame:
    """A table whose text columns with a known unit are numbers, where every cell is one.

    >>> read_units(pl.DataFrame({"price": ["$5", None]}), {"price": "$#"})["price"].to_list()
    [5.0, None]
    """
    changed = []
    known = set(frame.columns)
    for name, unit in units.items():
        if name in known and frame[name].dtype == pl.String():
            bare = frame[name].str.strip_chars()
            numbers = plain_numbers(bare, unit).cast(pl.Float64())
            if not (numbers.is_null() & bare.is_not_null()).any():
                changed.append(numbers)
    return frame.with_columns(changed) if changed else frame


def read_unit_row(row: Mapping[str, Any], units: Mapping[str, str]) -> Mapping[str, Any]:
    """`read_units` for one row.

    >>> read_unit_row({"price": "$5", "city": "Bonn"}, {"price": "$#"})
    {'price': 5.0, 'city': 'Bonn'}
    """
    written = {name: row[name] for name in units if isinstance(row.get(name), str)}
    if not written:
        return row
    read = read_units(pl.DataFrame({name: [cell] for name, cell in written.items()}), units)
    return {**row, **read.row(0, named=True)}


def split_unit(unit: str) -> tuple[str, str, str]:
    """The sign before, the decimal mark, and the sign behind.

    >>> split_unit("€#,#"), split_unit("#%")
    (('€', ',', ''), ('', '.', '%'))
    """
    mark = "," if "#,#" in unit else "."
    front, _, behind = unit.partition("#,#" if mark == "," else "#")
    return front, mark, behind


def unit_note(name: str, unit: str) -> str:
    """What reading a column with a unit tells."""
    front, mark, behind = split_unit(unit)
    sign = front or behind
    comma = ", with a decimal comma" if mark == "," else ""
    if sign in ("%", "‰"):
        return f"{name!r} has numbers with {sign}{comma}; 12 {sign} is read as 12"
    place = "before" if front else "behind"
    return f"{name!r} has amounts with {sign} {place} the number{comma}; read as numbers"


def _without(cells: pl.Series, front: str, behind: str) -> pl.Series:
    """The cells without their sign, the minus kept; a cell without the sign stays as it is."""
    bare = cells.str.strip_chars()
    if front:
        sign = re.escape(front)
        return bare.str.replace(rf"^([+-]?){_SPACE}{sign}{_SPACE}([+-]?)", "${1}${2}")
    return bare.str.replace(rf"{_SPACE}{re.escape(behind)}$", "")
