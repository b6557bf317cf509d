"""A release answering in a process of its own, as it will where it is served.

    python -m loopline.release.fresh FOLDER

reads a table (Arrow) from its input and writes what the release in the folder says of it, row by
row and as a table. Rows go through pipes, so none is left on a disk.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import has_labels
from loopline.errors import LooplineError
from loopline.processes import said_by
from loopline.release.bundle import Release, load_release
from loopline.release.replay import Answers

ROWS, TABLE = "as single rows", "as a table"


def in_fresh_process(folder: Path, frame: pl.DataFrame) -> Mapping[str, Answers]:
    """What the release in a folder says of raw rows, in a process that has only the folder.

    Raises:
        IntegrityError: it cannot answer; the message holds what it said.
    """
    said = said_by(
        "loopline.release.fresh",
        [str(folder)],
        _packed_rows(frame),
        f"The release in {folder} cannot answer its kept rows in a fresh process",
    )
    arrays = np.load(io.BytesIO(said), allow_pickle=False)
    return {
        way: Answers(arrays[f"{name}_raw"], arrays[f"{name}_codes"])
        for name, way in (("rows", ROWS), ("table", TABLE))
    }


def of_rows(release: Release, answers: Sequence[Mapping[str, Any]]) -> Answers:
    """The answers to single rows, such as `Release.predict_one` and a service give, as arrays.

    Classes are found by their text too, since JSON knows no other keys.
    """
    if not has_labels(release.task):
        values = np.array([float(answer["prediction"]) for answer in answers])
        return Answers(values, np.empty(0, dtype=np.int64))
    codes = {str(label): code for code, label in enumerate(release.classes)}
    raw = np.full((len(answers), len(codes)), np.nan)
    several = release.task == "multilabel"
    labels = np.zeros((len(answers), len(codes)) if several else len(answers), dtype=np.int64)
    for row, answer in enumerate(answers):
        if several:
            labels[row, [codes[str(label)] for label in answer["prediction"]]] = 1
        else:
            labels[row] = codes.get(str(answer["prediction"]), -1)
        for label, value in answer["probability"].items():
            raw[row, codes[str(label)]] = value
    return Answers(raw, labels)


def _of_table(release: Release, frame: pl.DataFrame) -> Answers:
    raw, _ = release.probabilities(frame)
    codes = release.codes(raw) if has_labels(release.task) else np.empty(0, dtype=np.int64)
    return Answers(raw, codes)


def _packed_rows(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    # A frame without columns has no rows in Arrow: the count travels in a column of its own.
    frame.with_columns(pl.int_range(frame.height).alias(_NUMBER)).write_ipc(stream)
    return stream.getvalue()


_NUMBER = "row number of the replay"


def main(folder: str) -> None:
    """Answer the rows of the input."""
    frame = pl.read_ipc(io.BytesIO(sys.stdin.buffer.read())).drop(_NUMBER)
    release = load_release(folder)
    rows = of_rows(release, [release.predict_one(row) for row in frame.iter_rows(named=True)])
    table = _of_table(release, frame)
    stream = io.BytesIO()
    np.savez(
        stream,
        rows_raw=rows.raw,
        rows_codes=rows.codes,
        table_raw=table.raw,
        table_codes=table.codes,
    )
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except LooplineError as error:
        sys.exit(str(error).replace("\n", " "))
