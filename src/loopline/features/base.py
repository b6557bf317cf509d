"""Steps: what turns one raw column into numbers, how a step lives, and what it must promise.

**Lifetime.** `fit_features` looks at one column of a training view and makes one `Step`: a frozen
value that holds every number it learned. From then on a step only reads. `fill` is called with a
block of rows by whoever transforms a table (training, evaluation, batch scoring); `row_reader` is
called once after a graph is built or loaded, and the reader it returns answers for one value at a
time in the serving process; it is made from `reading`, which is what `loopline.runtime` keeps of a
step. `data` and `arrays` are called when the graph is saved, `from_parts`
when it is loaded; nothing in a saved step is ever executed.

**Promise.** For every value, `row_reader` gives the same bits as `fill`. A reader keeps a fast path
for the plain Python types that JSON gives (float, int, str, None) and hands everything else to
`one_by_table`, which is `fill` on a table of one row.

A new kind of step is one file and one line in `graph.STEP_KINDS`; `loopline.testing.steps` is its
kit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.readers import Reader, Reading, SingleReader, open_reader, open_single

Floats = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the transformed matrix.

    Args:
        name: unique in its graph, for example ``age``, ``age=missing``, ``job=clerk``.
        source: the raw column that it was made from.
        levels: number of codes when the output is a category code (0, 1, …), else 0.
    """

    name: str
    source: str
    levels: int = 0


class Step(ABC):
    """One fitted step: reads the raw column `source`, gives `outputs`. Subclasses are frozen."""

    kind: ClassVar[str]
    """The name under which the step is saved."""
    source: str

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """The columns that the step makes, in their order."""

    @cached_property
    def width(self) -> int:
        """Number of outputs."""
        return len(self.outputs)

    @abstractmethod
    def fill(self, values: pl.Series, out: Floats) -> None:
        """Write the outputs of a run of rows.

        Args:
            values: the raw column, any number of rows (0 too).
            out: float64 of shape (rows, outputs), possibly strided; every cell is overwritten.

        Raises:
            DataError: a value that cannot be read as the column's type, or a missing one where the
                column's policy is ``error``.
        """

    @abstractmethod
    def reading(self) -> Reading:
        """What the step does to one value, as plain data that `loopline.features.readers` reads."""

    def row_reader(self) -> Reader:
        """A function from one raw value to the step's outputs, bit-equal to `fill`."""
        return open_reader(self.reading(), self.one_by_table)

    def single_reader(self) -> SingleReader:
        """`row_reader` of a step of one output."""
        return open_single(self.reading(), self.one_by_table)

    def one_by_table(self, value: Any) -> Sequence[float]:
        """The outputs of one value of any type, by way of a table of one row."""
        try:
            values = pl.Series(self.source, [value])
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"Column {self.source!r} got {value!r} ({type(value).__name__}), which is not a "
                f"value of a table; give a number, text, date or None."
            ) from error
        out = np.empty((1, self.width))
        self.fill(values, out)
        return [float(number) for number in out[0]]

    def data(self) -> dict[str, Any]:
        """The step's plain fields; arrays are left to `arrays`."""
        plain = {
            field.name: getattr(self, field.name)
            for field in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            if not isinstance(getattr(self, field.name), np.ndarray)
        }
        return {
            "kind": self.kind,
            **{name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()},
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The step's learned arrays by field name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            if isinstance(getattr(self, field.name), np.ndarray)
        }

    @classmethod
    def from_parts(cls, data: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the step from what `data` (less its kind) and `arrays` gave."""
        plain = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**plain, **arrays)


def refuse_missing(source: str, missing: NDArray[np.bool_]) -> None:
    """Refuse missing cells in a column whose policy is ``error``.

    Raises:
        DataError: names the column, how many cells are missing and the first rows.
    """
    rows = np.flatnonzero(missing)
    if len(rows):
        first = ", ".join(str(row) for row in rows[:5])
        raise DataError(
            f"Column {source!r} must have no missing cell (missing='error'), but {len(rows)} of "
            f"{len(missing)} rows have none (first rows counted from 0: {first}). Fill them in, or "
            f"choose another `missing` for the column."
        )
