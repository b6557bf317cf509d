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
from loopline.monitor.losses import Losses
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
        history: of the chunks.
        clock: how time is cut.
        chunk: labels of a chunk.
        most_pending: rows that are remembered until a label comes.
    """

    losses: Losses
    slicer: Slicer
    history: History
    clock: Clock
    chunk: int
    most_pending: int
    pending: dict[str, tuple[float, ...]] = field(default_factory=dict)
    labelled: dict[str, tuple[float, ...]] = field(default_factory=dict)
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
            losses, slicer, History(law, asked, FINE), clock, chunk, most_pending, width=width
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

    def take(self, outcomes: Mapping[str, Floats]) -> list[str]:
        """Take outcomes by row id, as `Losses.read` gives them; they are judged by `judge`.

        Returns:
            What was odd about labels that do not count.
        """
        unknown = again = changed = unread = 0
        for name, given in outcomes.items():
            outcome = tuple(given.tolist())
            if not np.isfinite(given).all():
                unread += 1
            elif name in self.pending:
                self.buffer.append((*outcome, *self.pending.pop(name)))
                self.names.append(name)
                self.labelled[name] = outcome
            elif name in self.labelled:
                changed += self.labelled[name] != outcome
                again += self.labelled[name] == outcome
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
            ends = np.cumsum([self.losses.num_outcomes, 1, self.width])
            parts = np.split(rows, ends, axis=1)
            outcome, time, prediction = (
                part[:, 0] if part.shape[1] == 1 else part for part in parts[:3]
            )
            masks = parts[3] > 0
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
        _by_id(self.pending).write_parquet(folder / "pending.parquet")
        _by_id(self.labelled).write_parquet(folder / "labelled.parquet")
        return {
            "history": self.history.to_dict(),
            "buffer": [[None if np.isnan(x) else x for x in row] for row in self.buffer],
            "names": list(self.names),
            "worst": [[loss, name] for loss, name in self.worst],
            "taken": self.taken,
        }

    def restore(self, folder: Path, data: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote."""
        self.pending, self.labelled = (
            {row[0]: tuple(row[1:]) for row in pl.read_parquet(folder / file).iter_rows()}
            for file in ("pending.parquet", "labelled.parquet")
        )
        self.history.restore(data["history"])
        self.buffer = [tuple(np.nan if x is None else x for x in row) for row in data["buffer"]]
        self.names = list(data["names"])
        self.worst = [(loss, name) for loss, name in data["worst"]]
        self.taken = int(data["taken"])


def _by_id(rows: Mapping[str, tuple[float, ...]]) -> pl.DataFrame:
    """Numbers of rows as a table with their ids."""
    ids = pl.Series("id", list(rows), dtype=pl.String)
    width = len(next(iter(rows.values()), ()))
    return pl.DataFrame(
        [
            ids,
            *(
                pl.Series(f"c{k}", [row[k] for row in rows.values()], dtype=pl.Float64)
                for k in range(width)
            ),
        ]
    )


def _scores(
    losses: Losses, prediction: Floats, outcome: Floats, masks: NDArray[np.bool_]
) -> Floats:
    loss = losses.of(prediction, outcome)
    bias, slope = losses.residual(prediction, outcome)
    return np.column_stack([loss, bias, slope, np.where(masks, loss[:, None], np.nan)])
