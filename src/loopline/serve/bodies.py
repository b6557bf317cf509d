"""Bodies: rows as JSON, CSV or Arrow in, and answers of the same kind out."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from loopline.data.writers import flat_lists
from loopline.errors import DataError, LooplineError
from loopline.serve.model import ServedModel, frame_of
from loopline.serve.reply import ARROW, CSV, JSON, Refusal, Reply, as_json

ARROW_KINDS = (ARROW, b"application/vnd.apache.arrow.file")
CSV_KIND = b"text/csv"
UNPACKED_BYTES = 67_108_864
"""What the compressed columns of an Arrow body may grow to: eight times the usual largest body."""
_MARKS = (b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


def read_json(body: bytes) -> Any:
    """A JSON body: one row (a mapping) or a list of rows.

    NaN, infinity, text that is not UTF-8 and nesting of more than 1,024 levels are refused.

    Raises:
        Refusal: 400; not JSON, or neither a row nor a list of rows.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from None
    if type(data) is dict:
        return data
    if type(data) is list and data and all(type(row) is dict for row in data):
        return data
    raise Refusal(400, 'Send one row, {"column": value, …}, or a list of one or more such rows.')


def reader(kind: bytes, body: bytes, model: ServedModel) -> Callable[[], pl.DataFrame]:
    """What makes a table of a body; to be called in a thread, as long tables take their time.

    Raises:
        Refusal: 415; a content type that is none of these.
    """
    if kind == CSV_KIND:
        return lambda: _read_csv(body, model)
    if kind in ARROW_KINDS:
        return lambda: _read_arrow(body, model)
    raise Refusal(
        415,
        "Send application/json, text/csv or application/vnd.apache.arrow.stream, and say which in "
        "Content-Type.",
    )


def rows_frame(rows: Sequence[dict[str, Any]], model: ServedModel) -> pl.DataFrame:
    """JSON rows as a table."""
    needed = [column.name for column in model.columns]
    return frame_of(rows, needed if model.release.contract.on_absent == "error" else ())


def table_reply(kind: bytes, predicted: pl.DataFrame) -> Reply:
    """Predictions as CSV or Arrow, whichever came."""
    buffer = io.BytesIO()
    if kind == CSV_KIND:
        flat_lists(predicted).write_csv(buffer)
        return Reply(200, buffer.getvalue(), CSV)
    predicted.write_ipc_stream(buffer)
    return Reply(200, buffer.getvalue(), ARROW)


def json_reply(data: Any) -> Reply:
    """A JSON answer."""
    return Reply(200, as_json(data), JSON)


def _read_csv(body: bytes, model: ServedModel) -> pl.DataFrame:
    """The body as the release reads a file: its missing marks, dates and decimal signs."""
    with tempfile.TemporaryDirectory(prefix="loopline-") as folder:
        path = Path(folder) / "body.csv"
        path.write_bytes(body)
        try:
            return model.release.read(path).frame
        except LooplineError as error:
            told = str(error).replace(str(path), "the body").replace(path.name, "the body")
            raise DataError(told) from None


def _read_arrow(body: bytes, model: ServedModel) -> pl.DataFrame:
    _refuse_bomb(body)
    is_file = body.startswith(b"ARROW1")
    try:
        read = pl.read_ipc if is_file else pl.read_ipc_stream
        frame = read(io.BytesIO(body))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        raise Refusal(400, "The body cannot be read as Arrow data.") from None
    return model.release.read(frame).frame


def _refuse_bomb(body: bytes) -> None:
    """Refuse columns that say they unpack to more than a service should hold for one caller.

    A compressed buffer begins with its unpacked length in eight bytes, then the mark of Zstandard
    or LZ4; a reader allocates what the length says.
    """
    total = 0
    for mark in _MARKS:
        place = body.find(mark)
        while place >= 0:
            if place >= 8 and place % 8 == 0:
                total += max(0, int.from_bytes(body[place - 8 : place], "little", signed=True))
            place = body.find(mark, place + 1)
    if total > UNPACKED_BYTES:
        raise Refusal(
            413, f"Compressed columns may unpack to {UNPACKED_BYTES:,} bytes; these say {total:,}."
        )
