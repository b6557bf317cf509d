"""The rows that count as normal: how features, predictions and losses were when all was well.

Best are rows that the model was not fitted on, with their times and outcomes: out-of-fold
predictions of training, or the first weeks of the service. Without times nothing can be learned of
seasons and of how days differ, and rows then count as independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.errors import DataError

Floats = NDArray[np.float64]
MOST_ROWS = 100_000
FEWEST_ROWS = 50
_TABLE, _FACTS = "reference.parquet", "reference.json"
_TIME, _TARGET, _PREDICTION = "::time", "::target", "::prediction"


def as_seconds(times: Any) -> Floats:
    """Times as seconds since 1970 in UTC, NaN where there is none.

    Args:
        times: a polars series of dates, times or numbers of seconds, or an array of numbers.
    """
    if isinstance(times, pl.Series):
        if times.dtype.is_temporal():
            zoned = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)))
            micros = zoned.to_physical().cast(pl.Float64).to_numpy()
            return np.asarray(micros, dtype=np.float64) / 1e6
        times = times.cast(pl.Float64).to_numpy()
    return np.asarray(times, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Reference:
    """Normal rows, oldest first where they have times.

    Args:
        frame: the raw feature columns as the model saw them.
        prediction: probabilities (rows, classes), or binary (rows,) of class 1, or values (rows,),
            as `Losses.stated` gives them; None where there is no model to watch.
        target: class codes or values of the rows, or 0 and 1 (rows, labels); None when unknown, or
            where the rows themselves hold their answer.
        time: seconds since 1970 (UTC); None where rows have no times.
        task: what the model predicts.
        classes: labels in the order of their codes; empty where there are none.
        metric: the metric that the model was chosen by.
        importances: how much the model leans on each column, any unit; empty when unknown.
        threshold: where a probability becomes class 1 (binary).
        rows_a_day: how many rows came a day, before any were left out.

    Raises:
        DataError: too few rows, or parts that do not fit together.
    """

    frame: pl.DataFrame
    prediction: Floats | None = None
    target: NDArray[Any] | None = None
    time: Floats | None = None
    task: Task = "binary"
    classes: tuple[Any, ...] = ()
    metric: str = ""
    importances: Mapping[str, float] = field(default_factory=dict)
    threshold: float = 0.5
    rows_a_day: float | None = None

    def __post_init__(self) -> None:
        rows = self.frame.height
        if rows < FEWEST_ROWS:
            raise DataError(
                f"A reference needs at least {FEWEST_ROWS} rows to say what is normal; this one "
                f"has {rows}. Give it more rows of a time when all was well."
            )
        if self.target is not None and self.prediction is None:
            raise DataError("A reference with outcomes needs the predictions of the same rows.")
        for name in ("prediction", "target", "time"):
            part = getattr(self, name)
            if part is not None and len(part) != rows:
                raise DataError(f"The reference has {rows} rows, but its {name} has {len(part)}.")
        if self.time is not None:
            self._put_in_order()

    def _put_in_order(self) -> None:
        assert self.time is not None
        time = np.asarray(self.time, dtype=np.float64)
        if not np.isfinite(time).all():
            raise DataError("Every row of a reference with times needs one; some have none.")
        if (np.diff(time) < 0).any():
            order = np.argsort(time, kind="stable")
            object.__setattr__(self, "frame", self.frame[order])
            for name in ("prediction", "target"):
                part = getattr(self, name)
                object.__setattr__(self, name, None if part is None else np.asarray(part)[order])
            time = time[order]
        object.__setattr__(self, "time", time)
        if self.rows_a_day is None and time[-1] > time[0]:
            days = (time[-1] - time[0]) / 86_400
            object.__setattr__(self, "rows_a_day", self.frame.height / days)

    @property
    def num_rows(self) -> int:
        """Rows of it."""
        return self.frame.height

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's prediction: () for a number, (classes,) for probabilities."""
        return () if self.prediction is None else np.shape(self.prediction)[1:]

    def thinned(self, most: int = MOST_ROWS) -> Reference:
        """At most so many rows, evenly spaced in order, so that days and seasons stay whole."""
        if self.num_rows <= most:
            return self
        keep = np.unique(np.linspace(0, self.num_rows - 1, most).round().astype(np.int64))

        def kept(part: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if part is None else np.asarray(part)[keep]

        return Reference(
            self.frame[keep],
            kept(self.prediction),
            kept(self.target),
            kept(self.time),
            self.task,
            self.classes,
            self.metric,
            self.importances,
            self.threshold,
            self.rows_a_day,
        )

    def save(self, folder: Path) -> None:
        """Write it as data: one Parquet file and one of JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        extra: list[pl.Series] = []
        if self.time is not None:
            extra.append(pl.Series(_TIME, self.time))
        if self.target is not None:
            extra.append(pl.Series(_TARGET, np.asarray(self.target)))
        if self.prediction is not None:
            parts = np.asarray(self.prediction, dtype=np.float64).reshape(self.num_rows, -1)
            extra += [pl.Series(f"{_PREDICTION}{k}", parts[:, k]) for k in range(parts.shape[1])]
        self.frame.hstack(extra).write_parquet(folder / _TABLE)
        facts = {
            "task": self.task,
            "classes": list(self.classes),
            "metric": self.metric,
            "importances": dict(self.importances),
            "threshold": self.threshold,
            "rows_a_day": self.rows_a_day,
            "flat": self.prediction is not None and np.ndim(self.prediction) == 1,
        }
        (folder / _FACTS).write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Reference:
        """Read what `save` wrote."""
        table = pl.read_parquet(folder / _TABLE)
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        names = [name for name in table.columns if name.startswith(_PREDICTION)]
        prediction = table.select(names).to_numpy() if names else None
        if prediction is not None and facts["flat"]:
            prediction = prediction[:, 0]
        own = [name for name in table.columns if not name.startswith("::")]
        return Reference(
            frame=table.select(own),
            prediction=prediction,
            target=table[_TARGET].to_numpy() if _TARGET in table.columns else None,
            time=table[_TIME].to_numpy() if _TIME in table.columns else None,
            task=cast("Task", facts["task"]),
            classes=tuple(facts["classes"]),
            metric=facts["metric"],
            importances=facts["importances"],
            threshold=facts["threshold"],
            rows_a_day=facts["rows_a_day"],
        )


def importance_shares(importances: Mapping[str, float]) -> dict[str, float]:
    """Importances as shares of the largest one; empty when none is above 0.

    >>> importance_shares({"a": 2.0, "b": 0.5, "c": -0.1})
    {'a': 1.0, 'b': 0.25, 'c': 0.0}
    """
    largest = max((value for value in importances.values() if math.isfinite(value)), default=0.0)
    if largest <= 0:
        return {}
    return {name: max(0.0, value) / largest for name, value in importances.items()}
