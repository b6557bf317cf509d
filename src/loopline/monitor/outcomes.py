"""True quality from labels that come late, in any order, twice, or for rows nobody knows.

Labels are taken in the order in which they come, in chunks of a few dozen, and each chunk is judged
with all look-backs (`loopline.monitor.scan`): a rise of the error from 10 to 20 % is found after
some 200 labels, however they are spread over windows. Three things are asked: has the loss risen,
are the stated probabilities still honest, and has the loss risen in one of the named slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.monitor.clock import Clock, Span
from loopline.monitor.law import Law
from loopline.monitor.losses import Losses, codes_of
from loopline.monitor.reference import Reference
from loopline.monitor.scan import FINE, History, Scan
from loopline.monitor.scores import Column, Question
from loopline.words import counted

Floats = NDArray[np.float64]
CHUNK, LEAST_CHUNK, MOST_CHUNK = 25, 20, 1_000
CHUNKS_A_DAY = 40
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class Slicer:
    """Named parts of the rows: levels of categories, quarters of numbers.

    Args:
        titles: which rows, for people.
        columns: the columns, and for each its levels or edges.
    """

    titles: tuple[str, ...]
    columns: tuple[tuple[Column, Floats], ...]

    @staticmethod
    def learn(columns: Sequence[Column], frame: pl.DataFrame) -> Slicer:
        """From the reference's columns that are named in the settings."""
        titles: list[str] = []
        kept: list[tuple[Column, Floats]] = []
        for column in columns:
            edges = np.zeros(0)
            if column.type == "number":
                read = column.read(frame[column.name]).drop_nulls().to_numpy()
                edges = np.unique(np.quantile(read, QUARTERS))
                named = [f"{edge:g}" for edge in edges]
                titles.append(f"{column.name} <= {named[0]}")
                titles += [f"{a} < {column.name} <= {b}" for a, b in pairwise(named)]
                titles.append(f"{column.name} > {named[-1]}")
            elif column.type == "category":
                titles += [f"{column.name} = {level!r}" for level in column.levels]
            kept.append((column, edges))
        return Slicer(tuple(titles), tuple(kept))

    def masks(self, frame: pl.DataFrame) -> NDArray[np.bool_]:
        """Which rows lie in which slice, (rows, slices)."""
        parts: list[NDArray[np.bool_]] = [np.zeros((frame.height, 0), dtype=bool)]
        for column, edges in self.columns:
            num = edges.size + 1 if column.type == "number" else len(column.levels)
            if column.name not in frame.columns:
                parts.append(np.zeros((frame.height, num), dtype=bool))
                continue
            read = column.read(frame[column.name])
            if column.type == "number":
                x = read.fill_null(np.nan).to_numpy()
                place = np.searchsorted(edges, x)
                parts.append((place[:, None] == np.arange(num)) & np.isfinite(x)[:, None])
            elif column.type == "category":
                parts.append(
                    np.column_stack(
                        [(read == level).fill_null(False).to_numpy() for level in column.levels]
                    )
                    if column.levels
                    else np.zeros((frame.height, 0), dtype=bool)
                )
        return np.hstack(parts)


@dataclass(eq=False)
class Outcomes:
    """Waits for labels of answered rows and judges them.

    Args:
        losses: how rows are scored.
        slicer: the named slices.
        classes: labels in the order of their codes.
        history: of the chunks.
        clock: how time is cut.
        chunk: labels of a chunk.
        most_pending: rows that are remembered until a label comes.
    """

    losses: Losses
    slicer: Slicer
    classes: tuple[Any, ...]
    history: History
    clock: Clock
    chunk: int
    most_pending: int
    pending: dict[str, tuple[float, ...]] = field(default_factory=dict)
    labelled: dict[str, float] = field(default_factory=dict)
    buffer: list[tuple[float, ...]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    worst: list[tuple[float, str]] = field(default_factory=list)
    taken: int = 0
    width: int = 1

    @staticmethod
    def learn(
        reference: Reference, losses: Losses, slicer: Slicer, clock: Clock, most_pending: int
    ) -> Outcomes:
        """From a reference with outcomes."""
        assert reference.prediction is not None
        assert reference.target is not None
        prediction = np.asarray(reference.prediction, dtype=np.float64)
        target = np.asarray(reference.target, dtype=np.float64)
        scores = _scores(losses, prediction, target, slicer.masks(reference.frame))
        law = Law.learn(scores, clock, reference.time)
        rate = reference.rows_a_day
        chunk = (
            CHUNK if rate is None else int(np.clip(rate / CHUNKS_A_DAY, LEAST_CHUNK, MOST_CHUNK))
        )
        asked = [
            Question("", "worse", losses.name, side=1),
            Question("", "bias", "share"),
            Question("", "slope", "share"),
            *(Question(title, "worse", losses.name, side=1) for title in slicer.titles),
        ]
        width = 1 if prediction.ndim == 1 else prediction.shape[1]
        return Outcomes(
            losses, slicer, reference.classes, History(law, asked, FINE), clock, chunk,
            most_pending, width=width,
        )  # fmt: skip

    def remember(
        self, ids: Sequence[str], time: Floats | None, prediction: Floats, frame: pl.DataFrame
    ) -> list[str]:
        """Keep answered rows until their labels come.

        Returns:
            What was odd: rows that are known already, rows forgotten because too many wait.
        """
        times = np.full(len(ids), np.nan) if time is None else time
        parts = prediction.reshape(len(ids), -1)
        masks = self.slicer.masks(frame).astype(np.float64)
        again = 0
        for place, name in enumerate(ids):
            if name in self.pending or name in self.labelled:
                again += 1
                continue
            self.pending[name] = (
                float(times[place]),
                *parts[place].tolist(),
                *masks[place].tolist(),
            )
        remarks = []
        if again:
            remarks.append(f"{counted(again, 'row')} had been seen before and count once.")
        forgotten = len(self.pending) - self.most_pending
        for name in list(self.pending)[: max(forgotten, 0)]:
            del self.pending[name]
        if forgotten > 0:
            remarks.append(f"{counted(forgotten, 'row')} without a label were forgotten.")
        return remarks

    def take(self, labels: Mapping[str, Any]) -> list[str]:
        """Take labels; they are judged by `judge`.

        Returns:
            What was odd about labels that do not count.
        """
        codes = codes_of(labels, self.classes)
        unknown = again = changed = unread = 0
        for name, code in codes.items():
            if not np.isfinite(code):
                unread += 1
            elif name in self.pending:
                self.buffer.append((code, *self.pending.pop(name)))
                self.names.append(name)
                self.labelled[name] = code
            elif name in self.labelled:
                changed += self.labelled[name] != code
                again += self.labelled[name] == code
            else:
                unknown += 1
        for name in list(self.labelled)[: max(len(self.labelled) - self.most_pending, 0)]:
            del self.labelled[name]
        told = [
            (unread, "could not be read as an outcome of this task"),
            (unknown, "named rows that are not known (never answered, or answered too long ago)"),
            (again, "came again and counted once"),
            (changed, "contradicted an earlier one; the first counts here"),
        ]
        return [f"{counted(n, 'label')} {words}." for n, words in told if n]

    def judge(self) -> list[Scan]:
        """Judge every whole chunk of labels."""
        scans = []
        while len(self.buffer) >= self.chunk:
            rows = np.array(self.buffer[: self.chunk], dtype=np.float64)
            names = self.names[: self.chunk]
            del self.buffer[: self.chunk], self.names[: self.chunk]
            outcome, time = rows[:, 0], rows[:, 1]
            prediction = rows[:, 2 : 2 + self.width]
            if self.width == 1:
                prediction = prediction[:, 0]
            masks = rows[:, 2 + self.width :] > 0
            scores = _scores(self.losses, prediction, outcome, masks)
            timed = time if np.isfinite(time).all() else None
            start = f"label {self.taken + 1:,}" if timed is None else str(float(timed.min()))
            self.history.add(scores, Span.of(self.clock, timed, self.taken, len(rows)), start)
            self.taken += len(rows)
            order = np.argsort(-scores[:, 0], kind="stable")[:5]
            self.worst = [(float(scores[k, 0]), names[int(k)]) for k in order]
            scans.append(self.history.scan())
        return scans

    def save(self, folder: Path) -> dict[str, Any]:
        """Write waiting rows as Parquet; the rest is returned as plain data."""
        rows = list(self.pending.values())
        width = len(rows[0]) if rows else 0
        columns = {
            f"c{k}": pl.Series([row[k] for row in rows], dtype=pl.Float64) for k in range(width)
        }
        ids = pl.Series("id", list(self.pending), dtype=pl.String)
        pl.DataFrame([ids, *(s.alias(name) for name, s in columns.items())]).write_parquet(
            folder / "pending.parquet"
        )
        pl.DataFrame(
            {
                "id": pl.Series(list(self.labelled), dtype=pl.String),
                "code": pl.Series(list(self.labelled.values()), dtype=pl.Float64),
            }
        ).write_parquet(folder / "labelled.parquet")
        return {
            "history": self.history.to_dict(),
            "buffer": [[None if np.isnan(x) else x for x in row] for row in self.buffer],
            "names": list(self.names),
            "worst": [[loss, name] for loss, name in self.worst],
            "taken": self.taken,
        }

    def restore(self, folder: Path, data: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote."""
        table = pl.read_parquet(folder / "pending.parquet")
        self.pending = {row[0]: tuple(row[1:]) for row in table.iter_rows()}
        known = pl.read_parquet(folder / "labelled.parquet")
        self.labelled = dict(known.iter_rows())
        self.history.restore(data["history"])
        self.buffer = [tuple(np.nan if x is None else x for x in row) for row in data["buffer"]]
        self.names = list(data["names"])
        self.worst = [(loss, name) for loss, name in data["worst"]]
        self.taken = int(data["taken"])


def _scores(
    losses: Losses, prediction: Floats, outcome: Floats, masks: NDArray[np.bool_]
) -> Floats:
    loss = losses.of(prediction, outcome)
    bias, slope = losses.residual(prediction, outcome)
    return np.column_stack([loss, bias, slope, np.where(masks, loss[:, None], np.nan)])
