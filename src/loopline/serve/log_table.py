"""The prediction log's table: answers of one release as rows with cells, prediction and remarks.

What the request path leaves is of two kinds. `UsualRows` gathers single rows that came as the model
saw them, column by column: appending to four lists is all that a request pays, and nothing of it is
looked at again one by one. Everything else is an `Entry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl

from loopline.errors import DataError
from loopline.features.contract import InputColumn, Remark
from loopline.models.base import Floats
from loopline.serve.model import ServedModel
from loopline.serve.settings import LogSettings


class Entry(NamedTuple):
    """One answered request, as the request path leaves it.

    Args:
        model: who answered.
        role: champion, challenger, shadow or version.
        request_id: the request.
        micros: when, in microseconds since 1970: answers keep their order.
        rows: the cells of one row in the model's order, which weigh half of a mapping; or a table.
        raw: what was predicted.
        remarks: what was odd.
    """

    model: ServedModel
    role: str
    request_id: str
    micros: int
    rows: tuple[Any, ...] | pl.DataFrame
    raw: Floats
    remarks: tuple[Remark, ...]

    @property
    def num_rows(self) -> int:
        """Answered rows."""
        return self.rows.height if isinstance(self.rows, pl.DataFrame) else 1


class UsualRows:
    """Answers to usual rows (`loopline.serve.log_bodies`) by one model in one role.

    Args:
        model: who answered.
        role: champion, challenger, shadow or version.
    """

    __slots__ = ("_bodies", "_ids", "_raws", "_times", "model", "role")

    def __init__(self, model: ServedModel, role: str) -> None:
        self.model = model
        self.role = role
        self._ids: list[str] = []
        self._times: list[int] = []
        self._bodies: list[bytes] = []
        self._raws: list[bytes] = []

    def add(self, request_id: str, micros: int, body: bytes, raw: Floats) -> None:
        """Append an answer."""
        self._ids.append(request_id)
        self._times.append(micros)
        self._bodies.append(body)
        self._raws.append(raw.tobytes())

    def table(self, settings: LogSettings, key: bytes) -> pl.DataFrame:
        """The answers as the log's table."""
        count = len(self._ids)
        head = {
            "request_id": pl.Series(self._ids, dtype=pl.String),
            "row": pl.Series(np.zeros(count, dtype=np.int32)),
            "time": pl.Series(np.array(self._times, dtype=np.int64)),
            "role": pl.Series([self.role] * count, dtype=pl.String),
            "odd": pl.Series([None] * count, dtype=pl.String),
        }
        raw = np.frombuffer(b"".join(self._raws)).reshape(count, -1)
        raw = raw if self.model.classes else raw[:, 0]
        return _without_persons(_joined(self.model, head, self._cells(), raw), settings, key)

    def _cells(self) -> pl.DataFrame:
        try:
            return self.model.bodies.read(self._bodies)
        except (pl.exceptions.PolarsError, DataError):
            # one by one, as it was answered: no row may be lost
            rows = [self.model.door.row(orjson.loads(body))[0] for body in self._bodies]
            return _columns(self.model, [tuple(row.values()) for row in rows])


def log_table(entries: Sequence[Entry], settings: LogSettings, key: bytes) -> pl.DataFrame:
    """Answers of one release as the log's table."""
    model: ServedModel = entries[0].model
    frames = [_frame_of(model, entry) for entry in entries if isinstance(entry.rows, pl.DataFrame)]
    single = [entry for entry in entries if isinstance(entry.rows, tuple)]
    if single:
        frames.append(_frame_of_rows(model, single))
    # one by one and only where asked: each call that polars plans wakes its threads
    table = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
    return _without_persons(table, settings, key)


def _without_persons(table: pl.DataFrame, settings: LogSettings, key: bytes) -> pl.DataFrame:
    hidden = {f"input.{name}" for name in settings.leave_out} & set(table.columns)
    hashed = {f"input.{name}" for name in settings.hash} & set(table.columns)
    if hidden:
        table = table.drop(hidden)
    if hashed:
        table = table.with_columns(_hashed(table[name], key) for name in sorted(hashed))
    return table


def _frame_of(model: ServedModel, entry: Entry) -> pl.DataFrame:
    rows = entry.rows
    assert isinstance(rows, pl.DataFrame)
    head = {
        "request_id": pl.repeat(entry.request_id, rows.height, eager=True),
        "row": pl.int_range(rows.height, eager=True, dtype=pl.Int32),
        "time": pl.repeat(entry.micros, rows.height, eager=True, dtype=pl.Int64),
        "role": pl.repeat(entry.role, rows.height, eager=True),
        "odd": pl.repeat(_odd(entry.remarks), rows.height, eager=True, dtype=pl.String),
    }
    return _joined(model, head, rows.select([column.name for column in model.columns]), entry.raw)


def _frame_of_rows(model: ServedModel, entries: Sequence[Entry]) -> pl.DataFrame:
    head = {
        "request_id": pl.Series([entry.request_id for entry in entries], dtype=pl.String),
        "row": pl.Series(np.zeros(len(entries), dtype=np.int32)),
        "time": pl.Series([entry.micros for entry in entries], dtype=pl.Int64),
        "role": pl.Series([entry.role for entry in entries], dtype=pl.String),
        "odd": pl.Series([_odd(entry.remarks) for entry in entries], dtype=pl.String),
    }
    columns = _columns(model, [e.rows for e in entries if isinstance(e.rows, tuple)])
    raw = np.stack([entry.raw for entry in entries])
    return _joined(model, head, columns, raw if model.classes else raw[:, 0])


def _columns(model: ServedModel, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    cells = zip(*rows, strict=True)
    return pl.DataFrame([_column(*pair) for pair in zip(model.columns, cells, strict=True)])


def _odd(remarks: Sequence[Remark]) -> str | None:
    """Which cells were odd and how, ``age:outside;city:unseen``; without their values."""
    if not remarks:
        return None
    cells = {f"{r.column}:{r.what}" for r in remarks if r.what != "extra"}
    return ";".join(sorted(cells)) or None


def _column(column: InputColumn, values: Sequence[Any]) -> pl.Series:
    fractions = column.kind == "integer" and any(type(value) is float for value in values)
    return pl.Series(column.name, values, dtype=pl.Float64 if fractions else column.dtype)


def _joined(
    model: ServedModel, head: Mapping[str, pl.Series], inputs: pl.DataFrame, raw: Floats
) -> pl.DataFrame:
    time = head["time"].cast(pl.Datetime("us", "UTC"))
    inputs.columns = [f"input.{name}" for name in inputs.columns]
    told = model.release.as_table(raw)
    return pl.concat([pl.DataFrame({**head, "time": time}), inputs, told], how="horizontal")


def _hashed(values: pl.Series, key: bytes) -> pl.Series:
    texts = values.cast(pl.String).to_list()
    told = [
        None if text is None else blake2s(text.encode(), key=key, digest_size=16).hexdigest()
        for text in texts
    ]
    return pl.Series(values.name, told, dtype=pl.String)
