"""An exported model: rows in, predictions out, as the release it was exported from gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.cleaning.repair import Repair, repair_row
from loopline.errors import DataError
from loopline.evaluate.calibration import Calibration
from loopline.features.readers import Reader, Reading, open_reader
from loopline.models.portable import PortableModel, open_estimator
from loopline.runtime.contract import RowContract
from loopline.runtime.folder import read_folder

Floats = NDArray[np.float64]


class Runtime:
    """A model in an exported folder. Get one with `load`.

    Args:
        facts: contract, repairs, classes, calibration and threshold.
        model: how columns are read, and the estimator.
    """

    def __init__(self, facts: Mapping[str, Any], model: PortableModel) -> None:
        self.facts = dict(facts)
        self._contract = RowContract(facts["contract"], facts["units"])
        self._repairs = tuple(Repair.from_dict(data) for data in facts["repairs"])
        calibration = facts["calibration"]
        self._calibration = None if calibration is None else Calibration.from_dict(calibration)
        self._estimator = open_estimator(model.estimator)
        self._readers = [
            (column, _reader(column, reading))
            for column, reading in zip(model.columns, model.readings, strict=True)
        ]

    @property
    def id(self) -> str:
        """The id of the release that it was exported from."""
        return str(self.facts["release"])

    @property
    def name(self) -> str:
        """The name of the line."""
        return str(self.facts["name"])

    @property
    def task(self) -> str:
        """binary, multiclass or regression."""
        return str(self.facts["task"])

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels in the order of the probabilities."""
        return tuple(self.facts["classes"])

    @property
    def columns(self) -> Sequence[str]:
        """The columns that a row must have."""
        return self._contract.columns

    def predict_one(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Predict one row given as a mapping.

        Returns:
            ``{"prediction": value}`` for regression, else also ``"probability"``, a mapping from
            class to probability.

        Raises:
            DataError: the row breaks the input contract; every problem is told.
        """
        raw = self._estimator.predict_one(np.array([self._numbers(row)]))
        if self._calibration is not None:
            raw = self._calibration.apply(raw[None, :])[0]
        return self._told(raw)

    def predict(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict some rows at once, each as `predict_one` gives it.

        Raises:
            DataError: a row breaks the input contract; its number is told, counted from 0.
        """
        return [self._told(raw) for raw in self.probabilities(rows)]

    def probabilities(self, rows: Iterable[Mapping[str, Any]]) -> Floats:
        """Class probabilities of some rows, (rows, classes); values are (rows, 1)."""
        numbers = []
        for place, row in enumerate(rows):
            try:
                numbers.append(self._numbers(row))
            except DataError as error:
                raise DataError(f"Row {place}: {error}") from error
        matrix = np.array(numbers, dtype=np.float64).reshape(len(numbers), -1)
        raw = self._estimator.predict(matrix)
        if self._calibration is not None:
            raw = self._calibration.apply(raw)
        return raw.reshape(len(numbers), -1)

    def _numbers(self, row: Mapping[str, Any]) -> list[float]:
        repaired = repair_row(row, self._repairs) if self._repairs else row
        checked = self._contract.check_row(repaired)
        out: list[float] = []
        for column, read in self._readers:
            out += read(checked[column])
        return out

    def _told(self, raw: Floats) -> dict[str, Any]:
        if self.task == "regression":
            return {"prediction": float(raw[0])}
        threshold = self.facts["threshold"]
        code = int(raw[1] >= threshold) if threshold is not None else int(raw.argmax())
        classes = self.classes
        return {
            "prediction": classes[code],
            "probability": dict(zip(classes, raw.tolist(), strict=True)),
        }


def load(folder: str | Path) -> Runtime:
    """Load an exported model; every file's digest is checked, and no code is run from the folder.

    Args:
        folder: what `loopline export RELEASE --to folder` wrote.

    Raises:
        NotFoundError: there is no exported model in that folder.
        IntegrityError: a file is missing or damaged.
        EnvironmentProblem: the model's library is not installed; names it.
    """
    return Runtime(*read_folder(Path(folder)))


def _reader(column: str, reading: Reading) -> Reader:
    def refuse(value: Any) -> Sequence[float]:
        raise DataError(
            f"Column {column!r} got {value!r}, which `loopline.runtime` cannot read for certain; "
            "`Release.predict_one` may."
        )

    return open_reader(reading, refuse)
