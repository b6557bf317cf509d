"""The input contract for rows, without tables: the same values as `InputContract.check_row`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loopline.errors import DataError
from loopline.features.cells import WANTED, CellReader, UnreadError, cell_reader
from loopline.runtime.unusual import unusual_cell


class RowContract:
    """What a row must look like.

    Args:
        data: what `InputContract.to_dict` gave: columns, `on_bad_value` and `on_absent`.
        units: columns of amounts, which `Release.predict_one` reads as they are written.
    """

    def __init__(self, data: Mapping[str, Any], units: Mapping[str, str]) -> None:
        self._columns = {column["name"]: column for column in data["columns"]}
        self._bad_allowed = data["on_bad_value"] == "missing"
        self._absent_allowed = data["on_absent"] == "missing"
        self._units = dict(units)
        self._readers: list[tuple[str, CellReader]] = [
            (
                name,
                cell_reader(
                    column["kind"], column["zone"], none_allowed=column["missing"] != "error"
                ),
            )
            for name, column in self._columns.items()
        ]

    @property
    def columns(self) -> Sequence[str]:
        """The columns that a row must have."""
        return tuple(self._columns)

    def check_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row in training types; extra keys are dropped.

        Raises:
            DataError: the row breaks the contract; every problem is told.
        """
        try:
            return {name: read(row[name]) for name, read in self._readers}
        except (KeyError, UnreadError):
            return self._closely(row)

    def _closely(self, row: Mapping[str, Any]) -> dict[str, Any]:
        problems: list[str] = []
        checked = {}
        for name, read in self._readers:
            try:
                checked[name] = self._cell(name, read, row)
            except UnreadError as error:
                problems.append(str(error))
        if problems:
            raise DataError(
                f"The row does not fit the model's input contract: {' '.join(problems)}"
            )
        return checked

    def _cell(self, name: str, read: CellReader, row: Mapping[str, Any]) -> Any:
        column = self._columns[name]
        wanted, must = WANTED[column["kind"]], column["missing"] == "error"
        if name not in row:
            if self._absent_allowed and not must:
                return None
            raise UnreadError(f"Column {name!r} ({wanted}) is absent; add it.")
        value = row[name]
        if name in self._units and type(value) is str:
            raise UnreadError(
                f"Column {name!r} got {value!r}: give the amount as a number, without its unit."
            )
        try:
            return read(value)
        except UnreadError:
            found = self._unusual(name, column["kind"], value, wanted)
        if found is None and must:
            raise UnreadError(f"Column {name!r} must have no missing cell, and it is missing.")
        return found

    def _unusual(self, name: str, kind: str, value: Any, wanted: str) -> Any:
        try:
            return unusual_cell(kind, value)
        except UnreadError:
            if self._bad_allowed and type(value) is str and kind != "text":
                return None
        raise UnreadError(
            f"Column {name!r} must hold {wanted}, it got {value!r} ({type(value).__name__})."
        )
