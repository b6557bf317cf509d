"""Replay: rows that were kept at training are answered again by what is about to be served.

When a release is made, up to 1,000 training rows are chosen and what the model in the training
process says of them is stored: an artifact of the kind ``replay``, which the release names among
its inputs. It holds digests of rows and predictions, no cell: the rows stay where they are, in the
snapshot of the source, so a release that is copied to another machine carries nobody's data, and
whoever deletes a row there has deleted it here.

Before an alias moves, the rows are read *as they came from the source*, before any repair, and are
sent through the packaged release: in a fresh process as single rows and as a table, or to a
service. What differs by more than the tolerance refuses the promotion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loopline.data.multilabel import told_labels
from loopline.data.schema import has_labels
from loopline.data.snapshot import Snapshot, open_snapshot
from loopline.errors import IntegrityError, NotFoundError
from loopline.models.families import family
from loopline.release.bundle import Release
from loopline.store.artifacts import Store

KIND = "replay"
FILE = "replay.safetensors"
NUM_ROWS = 1_000
TOLERANCE = 1e-6
"""Largest difference of a probability, or of a value relative to its size (at least 1)."""
_SHOWN_COLUMNS = 8

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What was said of some rows.

    Args:
        raw: probabilities (rows, classes) or values (rows,), calibrated.
        codes: class codes (rows,), or which labels a row was given (rows, labels); empty for
            regression.
    """

    raw: Floats
    codes: Codes


Answer = Callable[[pl.DataFrame], Mapping[str, Answers]]
"""Answers raw rows, in one or several ways; each way by the words that name it."""


@dataclass(frozen=True)
class Kept:
    """The kept rows of a release.

    Args:
        frame: the features as they came from the source.
        expected: what the training process said of them.
    """

    frame: pl.DataFrame
    expected: Answers


@dataclass(frozen=True)
class Proof:
    """A replay that went well.

    Args:
        num_rows: rows that were answered.
        largest: the largest difference, by way.
        tolerance: what was allowed.
    """

    num_rows: int
    largest: Mapping[str, float]
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the ledger."""
        return {
            "num_rows": self.num_rows,
            "largest": dict(self.largest),
            "tolerance": self.tolerance,
        }

    def __str__(self) -> str:
        ways = " and ".join(self.largest)
        return (
            f"{self.num_rows:,} kept rows were answered as in training ({ways}; largest difference "
            f"{max(self.largest.values(), default=0.0):.1e}, allowed {self.tolerance:.0e})"
        )


def kept_rows(store: Store, release: Release) -> Kept:
    """The kept rows of a release, and what was said of them in training.

    Raises:
        NotFoundError: the release keeps none, or they are no longer in the store.
        IntegrityError: a kept row is not in the snapshot.
    """
    name = release.artifact.inputs.get(KIND)
    if name is None:
        raise NotFoundError(
            f"{release.id[:20]} keeps no rows to replay: it was made before Loopline kept them. "
            "Run its line again; the new release can be promoted."
        )
    replay = store.get(name)
    tensors = load_file(replay.path(FILE))
    snapshot = open_snapshot(store, replay.inputs["snapshot"])
    places = row_places(np.asarray(snapshot.rows()), tensors["rows"])
    if (places < 0).any():
        raise IntegrityError(
            f"{int((places < 0).sum())} kept rows of {release.id[:20]} are not in {snapshot.id}: "
            "one of the two is not what the release was made from. Run the line again."
        )
    features = [name for name in release.schema.features if name in snapshot.columns]
    frame = _some_rows(snapshot, features, places)
    return Kept(frame, Answers(tensors["raw"], tensors["codes"]))


def prove(
    release: Release,
    kept: Kept,
    answer: Answer,
    *,
    tolerance: float | None = None,
    doing: str = "promoted",
) -> Proof:
    """Send the kept rows through `answer` and compare with what was said in training.

    Args:
        release: the release.
        kept: its kept rows.
        answer: the packaged path.
        tolerance: by default 1e-6, or that of the family where its predictions depend on the rows
            beside them (networks: 1e-5 for texts, 1e-4 for images).
        doing: what a difference forbids, in a word.

    Raises:
        IntegrityError: an answer differs; names the row, its cells and both answers.
    """
    answered = answer(kept.frame)
    allowed = tolerance_of(release) if tolerance is None else tolerance
    largest: dict[str, float] = {}
    for way, given in answered.items():
        differences = _differences(kept.expected.raw, given.raw)
        wrong = differences > allowed
        wrong |= _other_label(release, kept.expected, given.codes, allowed)
        if wrong.any():
            told = _refusal(release, kept, given, wrong, way, allowed)
            raise IntegrityError(
                f"{release.id[:20]} does not answer as in training, so it is not {doing}. {told}"
            )
        largest[way] = float(differences.max(initial=0.0))
    return Proof(kept.frame.height, largest, allowed)


def tolerance_of(release: Release) -> float:
    """What a replayed prediction may differ by."""
    return max(TOLERANCE, *(family(name).tolerance for name in release.model.families))


def row_places(digests: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each wanted row digest first stands among others, -1 where it does not.

    >>> rows = np.array([[1, 1], [2, 2], [2, 2]], dtype=np.uint64)
    >>> row_places(rows, np.array([[2, 2], [9, 9]], dtype=np.uint64)).tolist()
    [1, -1]
    """
    known, wanted_keys = _keys(digests), _keys(wanted)
    if not len(known):
        return np.full(len(wanted_keys), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], wanted_keys)
    places = order[np.minimum(at, len(known) - 1)]
    found: NDArray[np.int64] = np.where(known[places] == wanted_keys, places, -1)
    return found


def _keys(digests: NDArray[np.uint64]) -> NDArray[Any]:
    contiguous = np.ascontiguousarray(digests)
    return contiguous.view([("high", "<u8"), ("low", "<u8")]).reshape(-1)


def _some_rows(snapshot: Snapshot, columns: Sequence[str], places: NDArray[Any]) -> pl.DataFrame:
    """A few rows of a table that need not be whole in memory, in the order of `places`."""
    if not columns:
        return pl.DataFrame(height=len(places))
    number = "row number of the snapshot"
    found = (
        snapshot.scan()
        .select(columns)
        .with_row_index(number)
        .filter(pl.col(number).is_in(np.unique(places).tolist()))
        .collect()
    )
    at = np.searchsorted(found[number].to_numpy(), places)
    return found.drop(number)[at]


def _differences(expected: Floats, given: Floats) -> Floats:
    """The largest difference of each row; infinite where the shapes differ or a value is none."""
    if expected.shape != given.shape:
        return np.full(len(expected), np.inf)
    size = np.maximum(1.0, np.abs(expected)) if expected.ndim == 1 else np.ones_like(expected)
    differences = np.abs(expected - given) / size
    differences[np.isnan(differences)] = np.inf
    differences[(expected == given) | (np.isnan(expected) & np.isnan(given))] = 0.0
    rows: Floats = differences.reshape(len(expected), -1).max(axis=1, initial=0.0)
    return rows


def _other_label(
    release: Release, expected: Answers, codes: Codes, allowed: float
) -> NDArray[np.bool_]:
    """Rows whose class differs, where rounding cannot be the reason."""
    if not len(expected.codes):
        return np.zeros(len(expected.raw), dtype=np.bool_)
    if codes.shape != expected.codes.shape:
        return np.ones(len(expected.raw), dtype=np.bool_)
    if release.task == "multilabel":
        threshold = 0.5 if release.threshold is None else release.threshold
        far = np.abs(expected.raw - threshold) > allowed
        wrong: NDArray[np.bool_] = ((codes != expected.codes) & far).any(axis=1)
        return wrong
    if release.threshold is not None:
        close = np.abs(expected.raw[:, 1] - release.threshold) <= allowed
    else:
        ranked = np.sort(expected.raw, axis=1)
        close = ranked[:, -1] - ranked[:, -2] <= 2 * allowed
    different: NDArray[np.bool_] = (codes != expected.codes) & ~close
    return different


def _refusal(
    release: Release, kept: Kept, given: Answers, wrong: NDArray[np.bool_], way: str, allowed: float
) -> str:
    row = int(np.flatnonzero(wrong)[0])
    cells = kept.frame.row(row, named=True) if kept.frame.width else {}
    shown = ", ".join(f"{name}={_cell(cells[name])}" for name in list(cells)[:_SHOWN_COLUMNS])
    more = f" and {len(cells) - _SHOWN_COLUMNS} more" if len(cells) > _SHOWN_COLUMNS else ""
    return (
        f"Of {len(wrong):,} rows {int(wrong.sum()):,} differ {way} by more than {allowed:g}; the "
        f"first is row {row} ({shown}{more}): {_told(release, kept.expected, row)} in training, "
        f"{_told(release, given, row)} now. Look for what changed since it was made "
        "(`loopline verify`), whether a service serves another release, or run its line again."
    )


def _told(release: Release, answers: Answers, row: int) -> str:
    if row >= len(answers.raw):
        return "nothing"
    raw = np.atleast_1d(answers.raw[row])
    if not has_labels(release.task):
        return f"{raw[0]:.10g}"
    label: Any = "no class"
    if row < len(answers.codes):
        code = answers.codes[row]
        several = release.task == "multilabel"
        label = (
            told_labels(code[None] == 1, release.classes)[0] if several else release.classes[code]
        )
    numbers = ", ".join(f"{value:.8g}" for value in raw[:6])
    return f"{label!r} ({numbers}{', …' if len(raw) > 6 else ''})"


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
