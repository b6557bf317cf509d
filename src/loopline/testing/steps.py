"""The kit for feature steps: what every member of `graph.STEP_KINDS` must obey.

For a step of your own, make a `StepCase` and call each of `CHECKS` in your tests:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_step(check, tmp_path):
        check(StepCase(step, values, wrong="no number"), tmp_path)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.digest import canonical_json
from loopline.errors import DataError
from loopline.features.base import Floats, Step
from loopline.features.graph import FeatureGraph
from loopline.features.readers import Reading, open_reader


@dataclass(frozen=True)
class StepCase:
    """A fitted step and raw values to try it on.

    Args:
        step: the step; its policy must allow missing cells.
        values: cells as a table may hold them: usual, missing, never seen, extreme.
        wrong: a value that the step must refuse by name, or None when it reads anything.
        row_only: values that only a single row may hold (mixed types), read without error.
    """

    step: Step
    values: pl.Series
    wrong: Any = None
    row_only: tuple[Any, ...] = field(default=())


def transform(step: Step, values: pl.Series) -> Floats:
    """The outputs of a step for a column, into a buffer that was full of rubbish."""
    out = np.full((len(values), len(step.outputs)), -12345.678)
    step.fill(values.alias(step.source), out)
    return out


def check_shapes(case: StepCase, folder: Path) -> None:
    """Outputs have unique names, name the step's column, and every cell is written."""
    del folder
    names = [output.name for output in case.step.outputs]
    assert len(set(names)) == len(names)
    assert {output.source for output in case.step.outputs} <= {case.step.source}
    out = transform(case.step, case.values)
    assert out.shape == (len(case.values), len(names))
    assert not (out == -12345.678).any()


def check_no_infinity(case: StepCase, folder: Path) -> None:
    """No output is infinite, whatever comes in."""
    del folder
    assert not np.isinf(transform(case.step, case.values)).any()


def check_row_equals_table(case: StepCase, folder: Path) -> None:
    """The row path gives the same bits as the table path, value by value."""
    del folder
    read = case.step.row_reader()
    table = transform(case.step, case.values)
    for place, value in enumerate(case.values.to_list()):
        row = np.array(read(value), dtype=np.float64)
        assert row.tobytes() == table[place].tobytes(), (value, row, table[place])
    for value in case.row_only:
        row = np.array(read(value), dtype=np.float64)
        alone = transform(case.step, pl.Series([value]))
        assert row.tobytes() == alone.tobytes(), (value, row, alone)
    if case.step.width == 1:
        single = case.step.single_reader()
        for value in (*case.values.to_list(), *case.row_only):
            assert np.float64(single(value)).tobytes() == np.float64(read(value)[0]).tobytes()


def check_reading_is_plain(case: StepCase, folder: Path) -> None:
    """What the step says of itself goes through JSON and arrays, and reads the same."""
    reading = case.step.reading()
    np.savez(folder / "arrays.npz", **reading.arrays)  # type: ignore[arg-type]  # names of arrays
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    again = Reading(reading.kind, json.loads(json.dumps(reading.data)), arrays)
    read, expected = (open_reader(each, case.step.one_by_table) for each in (again, reading))
    for value in case.values.to_list():
        assert np.array(read(value)).tobytes() == np.array(expected(value)).tobytes(), value


def check_rows_are_independent(case: StepCase, folder: Path) -> None:
    """A row's outputs depend on that row only: blocks, order and neighbours do not matter."""
    del folder
    table = transform(case.step, case.values)
    backwards = transform(case.step, case.values.reverse())[::-1]
    assert table.tobytes() == np.ascontiguousarray(backwards).tobytes()
    half = len(case.values) // 2
    parts = [transform(case.step, part) for part in (case.values[:half], case.values[half:])]
    assert table.tobytes() == np.vstack(parts).tobytes()


def check_strided_buffer(case: StepCase, folder: Path) -> None:
    """The step can write into some columns of a wider matrix, and touches no other."""
    del folder
    width = len(case.step.outputs)
    wide = np.full((len(case.values), width + 2), 7.0)
    case.step.fill(case.values.alias(case.step.source), wide[:, 1:-1])
    inside = np.ascontiguousarray(wide[:, 1:-1])
    assert inside.tobytes() == transform(case.step, case.values).tobytes()
    assert (wide[:, [0, -1]] == 7.0).all()


def check_empty_and_single(case: StepCase, folder: Path) -> None:
    """Tables of no row and of one row work."""
    del folder
    assert transform(case.step, case.values.clear()).shape == (0, len(case.step.outputs))
    one = transform(case.step, case.values.head(1))
    assert one.tobytes() == transform(case.step, case.values)[:1].tobytes()


def check_all_missing(case: StepCase, folder: Path) -> None:
    """A column of nulls without a type is read as missing."""
    del folder
    untyped = transform(case.step, pl.Series([None, None], dtype=pl.Null))
    typed = transform(case.step, pl.Series([None, None], dtype=case.values.dtype))
    assert untyped.tobytes() == typed.tobytes()


def check_save_and_load(case: StepCase, folder: Path) -> None:
    """A saved step is plain data, loads equal to the bit, and saves to the same bytes again."""
    canonical_json(case.step.data())
    graph = FeatureGraph((case.step,))
    graph.save(folder / "one")
    loaded = FeatureGraph.load(folder / "one")
    loaded.save(folder / "two")
    assert loaded.digest == graph.digest
    for file in sorted((folder / "one").iterdir()):
        assert file.read_bytes() == (folder / "two" / file.name).read_bytes()
    again = transform(loaded.steps[0], case.values)
    assert again.tobytes() == transform(case.step, case.values).tobytes()


def check_wrong_type(case: StepCase, folder: Path) -> None:
    """A value of the wrong type is refused, by column, on both paths."""
    del folder
    if case.wrong is None:
        return
    read = case.step.row_reader()
    for attempt in (
        lambda: transform(case.step, pl.Series([case.wrong])),
        lambda: read(case.wrong),
    ):
        told = ""
        try:
            attempt()
        except DataError as error:
            told = str(error)
        assert repr(case.step.source) in told, f"{case.wrong!r} was read, or refused without name"


CHECKS: tuple[Callable[[StepCase, Path], None], ...] = (
    check_shapes,
    check_no_infinity,
    check_row_equals_table,
    check_reading_is_plain,
    check_rows_are_independent,
    check_strided_buffer,
    check_empty_and_single,
    check_all_missing,
    check_save_and_load,
    check_wrong_type,
)
"""Every check of the kit, each with the signature ``check(case, empty_folder)``."""
