"""The fitted preprocessing: steps over named columns, evaluated for tables and for single rows.

A graph is data. `save` writes its plain fields as canonical JSON and its arrays as safetensors;
`load` builds the steps from them and executes nothing. What computed the training matrix computes
the serving matrix, and `transform_row` gives the same bits as `transform`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from loopline.digest import bytes_digest, canonical_json, combined_digest
from loopline.errors import DataError, EnvironmentProblem, IntegrityError
from loopline.features.base import Floats, Output, Step
from loopline.features.categories import OneHotStep, OrdinalStep
from loopline.features.dates import DatetimeStep
from loopline.features.numbers import NumberStep
from loopline.features.readers import Reader, SingleReader
from loopline.features.settings import MAX_OUTPUTS
from loopline.features.target import TargetStep
from loopline.features.texts import TextStep

if TYPE_CHECKING:
    from loopline.splits.views import TrainView

FORMAT = 1
GRAPH_FILE = "features.json"
ARRAYS_FILE = "features.safetensors"
BLOCK_CELLS = 2**18
"""Cells filled at a time: 2 MiB, so that a block stays in the cache while its columns come."""
BLOCK_ROWS = 8192
"""Fewest rows at a time, so that wide matrices do not pay polars' call overhead once a few rows."""

STEP_KINDS: dict[str, type[Step]] = {
    step.kind: step
    for step in (NumberStep, OrdinalStep, OneHotStep, TargetStep, DatetimeStep, TextStep)
}


@dataclass(frozen=True, eq=False)
class FeatureGraph:
    """The fitted preprocessing of a model.

    Args:
        steps: one a raw column, in the order of their outputs.
        recipe: the recipe it was fitted with, for people.

    Raises:
        DataError: more than 100,000 outputs, or two outputs with one name.
    """

    steps: tuple[Step, ...]
    recipe: str = ""

    def __post_init__(self) -> None:
        if len(self.outputs) > MAX_OUTPUTS:
            widest = max(self.steps, key=lambda step: len(step.outputs))
            raise DataError(
                f"The features would make {len(self.outputs):,} columns, more than the limit of "
                f"{MAX_OUTPUTS:,}; column {widest.source!r} alone makes {len(widest.outputs):,}. "
                f"Lower its `max_levels` or `text_size`, or give it the role ignore."
            )

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of the transformed matrix, in their order."""
        return tuple(output for step in self.steps for output in step.outputs)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that a table must have."""
        return tuple(step.source for step in self.steps)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and past-the-last output of each step."""
        ends = np.cumsum([0, *(step.width for step in self.steps)]).tolist()
        return tuple(pairwise(ends))

    def transform(self, data: pl.DataFrame | TrainView) -> Floats:
        """Turn a table of raw columns into numbers.

        Args:
            data: a table with the graph's columns (others are ignored), or a training view.

        Returns:
            float64 of shape (rows, outputs) in C order; NaN only where the recipe keeps it.

        Raises:
            DataError: a column is absent, holds the wrong type, or misses a cell it must have.
        """
        if not isinstance(data, pl.DataFrame):
            out = np.empty((data.num_rows, len(self.outputs)))
            for step, (start, stop) in zip(self.steps, self.spans, strict=True):
                step.fill(data.column(step.source), out[:, start:stop])
            return out
        out = np.empty((data.height, len(self.outputs)))
        self.fill(data, out)
        return out

    def fill(self, frame: pl.DataFrame, out: Floats, *, skip: Collection[int] = ()) -> None:
        """Write what `transform` gives into a matrix that is there already.

        Args:
            frame: a table with the graph's columns.
            out: float64 of shape (rows, outputs).
            skip: places of steps whose outputs are left as they are.

        Raises:
            DataError: as for `transform`.
        """
        self._refuse_absent(frame.columns)
        wanted = [
            (step, frame.get_column(step.source), span)
            for place, (step, span) in enumerate(zip(self.steps, self.spans, strict=True))
            if place not in skip
        ]
        block = max(BLOCK_ROWS, BLOCK_CELLS // max(1, len(self.outputs)))
        for first in range(0, frame.height, block):
            rows = out[first : first + block]
            for step, values, (start, stop) in wanted:
                step.fill(values.slice(first, block), rows[:, start:stop])

    def transform_row(self, row: Mapping[str, Any]) -> Floats:
        """Turn one row into numbers, bit-equal to `transform` of a table with that row.

        Args:
            row: raw values by column name; others are ignored, None is missing.

        Returns:
            float64 of shape (1, outputs).

        Raises:
            DataError: as for `transform`.
        """
        out: list[float] = []
        try:
            if self._singles is not None:
                return np.array([[read(row[name]) for name, read in self._singles]])
            for name, read in self._readers:
                out += read(row[name])
        except KeyError:
            self._refuse_absent(row)
            raise
        return np.array([out])

    @cached_property
    def _singles(self) -> list[tuple[str, SingleReader]] | None:
        """Readers of steps that have one output each, as the graphs of trees have; else None."""
        if not self.steps or any(step.width != 1 for step in self.steps):
            return None
        return [(step.source, step.single_reader()) for step in self.steps]

    @cached_property
    def _readers(self) -> list[tuple[str, Reader]]:
        return [(step.source, step.row_reader()) for step in self.steps]

    @cached_property
    def digest(self) -> str:
        """Content digest: equal graphs, equal digests."""
        parts = [bytes_digest(self._json().encode())]
        for name, array in sorted(self._arrays().items()):
            parts += [name, str(array.dtype), str(array.shape), bytes_digest(array.tobytes())]
        return combined_digest(parts)

    def save(self, folder: Path) -> None:
        """Write the graph into a folder as two data files; equal graphs give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPH_FILE).write_text(self._json(), encoding="utf-8")
        save_file(self._arrays(), folder / ARRAYS_FILE)

    @staticmethod
    def load(folder: Path) -> FeatureGraph:
        """Read what `save` wrote.

        Raises:
            IntegrityError: a file is absent or damaged.
            EnvironmentProblem: a newer Loopline wrote the graph.
        """
        try:
            data = json.loads((folder / GRAPH_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS_FILE)
            if data["format"] > FORMAT:
                raise EnvironmentProblem(
                    f"{folder / GRAPH_FILE} has format {data['format']}, this Loopline reads up to "
                    f"{FORMAT}; install the version that wrote it, or a newer one."
                )
            steps = tuple(
                _read_step(part, _arrays_of(arrays, place))
                for place, part in enumerate(data["steps"])
            )
            return FeatureGraph(steps, data["recipe"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise IntegrityError(
                f"The feature graph in {folder} cannot be read ({type(error).__name__}: {error}); "
                f"restore {GRAPH_FILE} and {ARRAYS_FILE} from the release or the store."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The plain part of the graph (its arrays are in the safetensors file)."""
        steps = [step.data() for step in self.steps]
        return {"format": FORMAT, "recipe": self.recipe, "steps": steps}

    def _json(self) -> str:
        return canonical_json(self.to_dict())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            f"{place:05d}.{name}": np.ascontiguousarray(array)
            for place, step in enumerate(self.steps)
            for name, array in step.arrays().items()
        }

    def _refuse_absent(self, present: Sequence[str] | Mapping[str, Any]) -> None:
        known = set(present)
        absent = [name for name in self.columns if name not in known]
        if absent:
            raise DataError(
                f"The features need the column{'s' if len(absent) > 1 else ''} "
                f"{', '.join(map(repr, absent))}, which the table does not have; add "
                f"{'them' if len(absent) > 1 else 'it'} (empty cells where nothing is known)."
            )


def _read_step(data: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Step:
    kind = data.pop("kind")
    return STEP_KINDS[kind].from_parts(data, arrays)


def _arrays_of(arrays: Mapping[str, NDArray[Any]], place: int) -> dict[str, NDArray[Any]]:
    prefix = f"{place:05d}."
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
