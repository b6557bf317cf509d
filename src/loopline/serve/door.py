"""The door: rows come in as callers write them and go on as training knew them, or are refused.

What may come, and what is remarked on, is the release's input contract. On top of it stands one
policy a column:

- ``flag``: as in training. What the contract allows is answered, with remarks on odd cells.
- ``reject``: cells with a remark of this column (never seen, outside the training range, text that
  was a number) are refused, too.
- ``impute``: what cannot be read, is absent, was never seen or lies outside the training range is
  read as missing, and remarked on; the model then does what it does for missing cells.

With ``flag`` everywhere, which is the default, answers equal `Release.predict` to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from loopline.errors import DataError, SettingsError
from loopline.features.contract import InputColumn, InputContract, Remark
from loopline.release.bundle import Release
from loopline.serve.settings import InputSettings
from loopline.words import nearest

_ODD = ("unseen", "outside")


class Door:
    """Checks rows and tables for one release. Safe to use from several threads."""

    def __init__(self, release: Release, settings: InputSettings) -> None:
        self._release = release
        self._contract = release.contract
        names = [column.name for column in self._contract.columns]
        policies = {name: settings.columns.get(name, settings.policy) for name in names}
        _refuse_impossible(self._contract.columns, policies)
        self._rejected = frozenset(name for name in names if policies[name] == "reject")
        self._imputed = frozenset(name for name in names if policies[name] == "impute")
        self._strict = _part(self._contract, lambda name: name not in self._imputed)
        self._lenient = replace(
            _part(self._contract, lambda name: name in self._imputed),
            on_bad_value="missing",
            on_absent="missing",
        )
        self._expected = release.expected

    def row(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Remark, ...], bool]:
        """One row in training types, what is odd about it, and whether it came like that.

        Raises:
            DataError: the row breaks the contract or a policy.
        """
        repaired = self._release.repaired_row(row)
        if self._imputed:
            return *self._row_by_table(repaired), False
        checked, remarks, usual = self._contract.inspect_row(repaired, expected=self._expected)
        if remarks:
            remarks = self._judged(remarks)
        return checked, remarks, usual and repaired is row

    def frame(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Remark, ...]]:
        """A table in training types, and what is odd about it.

        Raises:
            DataError: the table breaks the contract or a policy.
        """
        return self._checked(self._release.repaired(frame))

    def _checked(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Remark, ...]]:
        if not self._imputed:
            checked, remarks = self._contract.check(frame)
            return checked, self._judged(remarks)
        absent = [n for n in self._imputed if n not in frame.columns]
        lenient, lost = self._lenient.check(
            frame.select(n for n in frame.columns if n in self._imputed)
            if len(absent) < len(self._imputed)
            else pl.DataFrame({absent[0]: [None] * frame.height})
        )
        lenient, remarks = self._blanked(lenient, lost)
        rest = frame.drop(self._imputed, strict=False)
        if self._strict.columns:
            strict, more = self._strict.check(rest)
            remarks = (*more, *remarks)
            lenient = lenient.hstack(strict)
        checked = lenient.select(column.name for column in self._contract.columns)
        return checked, self._judged(remarks)

    def _blanked(
        self, frame: pl.DataFrame, remarks: Iterable[Remark]
    ) -> tuple[pl.DataFrame, tuple[Remark, ...]]:
        told = []
        for remark in remarks:
            if remark.what in _ODD:
                values = frame[remark.column]
                odd = self._lenient.odd_cells(values)
                frame = frame.with_columns(values.set(odd, None))
                told.append(replace(remark, text=f"{remark.text} They are read as missing."))
            else:
                told.append(remark)
        return frame, tuple(told)

    def _row_by_table(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Remark, ...]]:
        try:
            checked, remarks, _ = self._contract.inspect_row(row, expected=self._expected)
        except DataError:
            pass
        else:
            if not any(remark.column in self._imputed for remark in remarks):
                return checked, self._judged(remarks) if remarks else remarks
        cells = {name: _cell(name, value) for name, value in row.items()}
        table = pl.DataFrame(list(cells.values())) if cells else pl.DataFrame({"": [None]})
        frame, remarks = self._checked(table)
        return frame.row(0, named=True), remarks

    def _judged(self, remarks: Iterable[Remark]) -> tuple[Remark, ...]:
        kept = tuple(r for r in remarks if r.what != "extra" or r.column not in self._expected)
        refused = [r.text for r in kept if r.column in self._rejected and r.what != "extra"]
        if refused:
            raise DataError(
                f"The rows do not fit what the model was trained on: {' '.join(refused)} "
                "This service refuses such cells."
            )
        return kept


def _cell(name: str, value: Any) -> pl.Series:
    if isinstance(value, (list, dict, tuple)):
        raise DataError(f"Column {name!r} got a list or mapping; give a number, text or null.")
    return pl.Series(name, [value], strict=False)


def _part(contract: InputContract, wanted: Callable[[str], bool]) -> InputContract:
    return replace(
        contract, columns=tuple(column for column in contract.columns if wanted(column.name))
    )


def refuse_unknown(contracts: Iterable[InputContract], named: Mapping[str, Iterable[str]]) -> None:
    """Refuse settings for columns that no served model reads: they would have no effect.

    Args:
        contracts: those of all served models.
        named: the columns that a setting names, by the setting.

    Raises:
        SettingsError: names each of them, and the nearest column.
    """
    names = sorted({column.name for contract in contracts for column in contract.columns})
    problems = [
        f"`{setting}` names {name!r}, which no served model reads. {nearest(name, names)}"
        for setting, columns in named.items()
        for name in columns
        if name not in names
    ]
    if problems:
        raise SettingsError(problems)


def _refuse_impossible(columns: Iterable[InputColumn], policies: Mapping[str, str]) -> None:
    problems = [
        f"`input` asks to impute column {column.name!r}, but its `missing` policy is error: it "
        "must have no missing cell. Choose flag or reject for it."
        for column in columns
        if policies[column.name] == "impute" and column.missing == "error"
    ]
    if problems:
        raise SettingsError(problems)
