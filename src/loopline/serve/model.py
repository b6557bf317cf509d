"""One release as the service holds it: loaded, proved, warmed up, and its cost for a row known."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loopline.data.multilabel import told_labels
from loopline.data.schema import Label
from loopline.errors import DataError
from loopline.features.contract import InputColumn, Remark
from loopline.models.base import Floats
from loopline.release.bundle import Release
from loopline.serve.door import Door
from loopline.serve.log_bodies import Bodies
from loopline.serve.settings import InputSettings

VERSION_DIGITS = 12
HEAVY_SECONDS = 0.001
"""A row that costs more leaves the event loop: others would wait for it."""
WARM_UP_ROWS = 50
_WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to some rows.

    Args:
        raw: calibrated probabilities (rows, classes) or values (rows,).
        checked: the rows as the model saw them.
        remarks: what is odd about them.
    """

    raw: Floats
    checked: pl.DataFrame
    remarks: tuple[Remark, ...]


class ServedModel:
    """A release that is ready to answer. A value but for the window that watches its inputs.

    Args:
        release: the release.
        settings: what happens to odd cells.
        name: the name it is served under; its line's name by default.

    Raises:
        IntegrityError: a file differs from the release's manifest.
        SettingsError: a policy that its contract does not allow.
    """

    def __init__(self, release: Release, settings: InputSettings, name: str | None = None) -> None:
        self.release = release
        self.name = name or release.name
        self.id = release.id
        self.version = version_of(release.id)
        self.task = release.task
        self.classes = release.classes
        self.keys = tuple(str(label) for label in release.classes)
        self.columns: tuple[InputColumn, ...] = release.contract.columns
        self.door = Door(release, settings)
        self.bodies = Bodies(self.columns)
        self._threshold = release.threshold
        self.several = release.task == "multilabel"
        release.model.quicken()
        self._raw_row = release.raw_row
        self.row_seconds = self._warm_up()

    @property
    def heavy(self) -> bool:
        """Whether a row costs so much that rows of several requests are worked on together."""
        return self.row_seconds > HEAVY_SECONDS

    def answer_row(
        self, row: Mapping[str, Any]
    ) -> tuple[Floats, Mapping[str, Any], tuple[Remark, ...], bool]:
        """Raw prediction of one row (classes,) or (1,), the row as the model saw it, remarks.

        At last whether the row came as the model saw it.

        Raises:
            DataError: the row breaks the contract or a policy.
        """
        checked, remarks, usual = self.door.row(row)
        return self._raw_row(checked), checked, remarks, usual

    def answer_frame(self, frame: pl.DataFrame) -> Answer:
        """Predict a table.

        Raises:
            DataError: the table breaks the contract or a policy.
        """
        checked, remarks = self.door.frame(frame)
        return Answer(self.release.raw(checked), checked, remarks)

    def told_row(self, raw: Floats) -> dict[str, Any]:
        """One row's prediction as JSON tells it: keys are text, as in `probability_<class>`."""
        if not self.classes:
            return {"prediction": float(raw[0])}
        if self.several:
            return self.told_rows(raw[None])[0]
        probabilities = raw.tolist()
        if self._threshold is None:
            code = int(raw.argmax())
        else:
            code = int(probabilities[1] >= self._threshold)
        return {
            "prediction": self.classes[code],
            "probability": dict(zip(self.keys, probabilities, strict=True)),
        }

    def told_rows(self, raw: Floats) -> list[dict[str, Any]]:
        """`told_row` of each row."""
        if not self.classes:
            return [{"prediction": value} for value in raw.tolist()]
        codes = self.release.codes(raw)
        if self.several:
            predictions: list[Any] = told_labels(codes == 1, self.classes)
        else:
            predictions = [self.classes[code] for code in codes.tolist()]
        return [
            {
                "prediction": prediction,
                "probability": dict(zip(self.keys, probabilities, strict=True)),
            }
            for prediction, probabilities in zip(predictions, raw.tolist(), strict=True)
        ]

    def check_label(self, label: Any) -> Label | list[Label]:
        """A label that comes with feedback, as training would read it.

        Of a model that gives several labels: a list of them, or a text in which the separator of
        the training's table stands between them.

        Raises:
            DataError: it is no class of the model, or no number, or a label that is none of its.
        """
        if self.several:
            return self._check_labels(label)
        if not self.classes:
            if type(label) in (int, float) and np.isfinite(label):
                return float(label)
            raise DataError(f"A label of {self.name!r} is a finite number, got {label!r}.")
        for known, key in zip(self.classes, self.keys, strict=True):
            if label == key or (type(label) is type(known) and label == known):
                return known
        shown = ", ".join(repr(known) for known in self.classes[:10])
        raise DataError(f"A label of {self.name!r} is one of {shown}; got {str(label)[:80]!r}.")

    def _check_labels(self, given: Any) -> list[Label]:
        separator = self.release.separator
        if isinstance(given, str) and separator is not None:
            given = [part for text in given.split(separator) if (part := text.strip())]
        if isinstance(given, list) and all(label in self.classes for label in given):
            return [label for label in self.classes if label in given]
        text = f", or a text with {separator!r} between them" if separator is not None else ""
        shown = ", ".join(repr(known) for known in self.classes[:10])
        raise DataError(
            f"The labels of a row of {self.name!r} are a list of those that it has{text}, each of "
            f"them one of {shown}; got {str(given)[:80]!r}."
        )

    def example(self) -> dict[str, Any]:
        """A row that could come: medians, and the first level of each category."""
        return {column.name: _example(column) for column in self.columns}

    def _warm_up(self) -> float:
        """Answer until everything is loaded; gives the seconds of the fastest row.

        The fastest, because what others on the machine add is not the model's cost.
        """
        row = self.example()
        taken: list[float] = []
        start = time.perf_counter()
        while len(taken) < WARM_UP_ROWS and time.perf_counter() - start < _WARM_UP_SECONDS:
            before = time.perf_counter()
            self._raw_row(self.release.contract.check_row(row))
            taken.append(time.perf_counter() - before)
        self.answer_frame(
            pl.DataFrame([_series(column, row[column.name]) for column in self.columns])
        )
        return min(taken)


def version_of(release_id: str) -> str:
    """The version that a release is served as.

    >>> version_of("release-8956ac1434196576417981fa87ba5982")
    '8956ac143419'
    """
    return release_id.partition("-")[2][:VERSION_DIGITS]


def _example(column: InputColumn) -> Any:
    if column.levels:
        return _typed(column, column.levels[0])
    if column.kind in ("float", "seconds", "integer"):
        middle = column.quantiles[3] if column.quantiles else 0.0
        return round(middle) if column.kind == "integer" else float(f"{middle:.6g}")
    if column.kind == "boolean":
        return True
    if column.kind in ("date", "datetime"):
        micros = 0 if column.high is None else int(column.high)
        moment = pl.Series([micros]).cast(pl.Datetime("us")).dt.to_string("iso:strict")[0]
        return moment[:10] if column.kind == "date" else moment
    if column.kind == "image":
        return None
    return "text"


def _typed(column: InputColumn, level: str) -> Any:
    if column.kind in ("integer", "float", "seconds"):
        return int(level) if column.kind == "integer" else float(level)
    return level == "true" if column.kind == "boolean" else level


def _series(column: InputColumn, value: Any) -> pl.Series:
    return pl.Series(column.name, [value], dtype=pl.Binary() if column.kind == "image" else None)


def frame_of(rows: Sequence[Mapping[str, Any]], needed: Collection[str] = ()) -> pl.DataFrame:
    """Rows as a table; null where a row lacks a column that is not needed.

    Raises:
        DataError: a cell is a list or a mapping, a column mixes text with numbers, or a row lacks
            a needed column that others have.

    >>> frame_of([{"x": 1}, {"x": 2.5, "note": "a"}], ["x"]).rows()
    [(1.0, None), (2.5, 'a')]
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        if name in needed and not all(name in row for row in rows):
            place = next(place for place, row in enumerate(rows) if name not in row)
            raise DataError(
                f"Row {place} lacks column {name!r}, which other rows have; send null where "
                "nothing is known."
            )
        kinds = set(map(type, values)) - {type(None)}
        if kinds & {list, dict}:
            raise DataError(f"Column {name!r} holds lists or objects; a cell is one value.")
        if len(kinds) > 1 and kinds <= {int, float}:
            columns.append(pl.Series(name, values, dtype=pl.Float64, strict=False))
        elif len(kinds) > 1:
            told = " and ".join(sorted(_WORDS.get(kind, kind.__name__) for kind in kinds))
            raise DataError(f"Column {name!r} holds {told}; send one kind of value a column.")
        elif kinds == {int} and any(not -(2**63) <= v < 2**63 for v in values if v is not None):
            columns.append(pl.Series(name, values, dtype=pl.Float64, strict=False))
        else:
            columns.append(pl.Series(name, values))
    return pl.DataFrame(columns) if columns else pl.DataFrame({"": [None] * len(rows)})


_WORDS = {str: "text", int: "numbers", float: "numbers", bool: "booleans"}
