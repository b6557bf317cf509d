"""Which rows decide, which are trained on, and which are never trained on.

The cut is made before anything is fitted, and written down:

- **gate**: the newest new labelled rows; all training rows come before the oldest of them.
- **aside**: a tenth of the rows before the gate, chosen by their digests, so that every attempt
  sets the same ones aside and no model of the loop is ever trained on them. Those of them that were
  known before the champion was made are the trusted **history**.
- **train**: all other rows before the gate, or the newest of them (`window`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.line.loop_spec import DAY_SECONDS, LoopSpec
from loopline.words import counted

MOST_GATE_ROWS = 5_000
ASIDE_SHARE = 0.1
MOST_ASIDE_ROWS = 4_000
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cut:
    """Places of rows in the table that was cut, rising.

    Args:
        train: to be trained on.
        gate: to decide with.
        aside: kept from training.
        history: those of `aside` that were known before the champion was made.
    """

    train: Ints
    gate: Ints
    aside: Ints
    history: Ints


@dataclass(frozen=True)
class TooFew:
    """There is nothing to cut yet; `sentence` says what is missing."""

    sentence: str


def cut_rows(
    digests: NDArray[np.uint64],
    *,
    new: Mask,
    labelled: Mask,
    used: Mask,
    settings: LoopSpec,
    seconds: NDArray[np.float64] | None = None,
) -> Cut | TooFew:
    """Cut a table whose rows stand in the order of their time or arrival.

    Args:
        digests: (rows, 2) the rows' identities.
        new: rows that the champion's makers did not know.
        labelled: rows with a label.
        used: rows that decided before.
        settings: sizes and window.
        seconds: time of each row, for a window of days.
    """
    able = np.flatnonzero(new & labelled)
    if used.any():  # a row that lies among those that decided is no news from later on
        able = able[able > np.flatnonzero(used)[-1]]
    if len(able) < settings.gate_rows:
        return TooFew(
            f"{counted(len(able), 'new labelled row')} after those that decided last; "
            f"{settings.gate_rows:,} are needed (`loop.gate_rows`)."
        )
    size = max(settings.gate_rows, min(MOST_GATE_ROWS, int(settings.gate_share * len(able))))
    gate = able[-size:]
    before = np.zeros(len(new), dtype=np.bool_)
    before[: gate[0]] = True
    before &= labelled
    aside = before & set_aside(digests)
    train = before & ~aside
    if settings.window_days is not None and seconds is not None:
        train &= seconds > seconds[gate[0]] - settings.window_days * DAY_SECONDS
    places = np.flatnonzero(train)
    if settings.window_rows is not None:
        places = places[-settings.window_rows :]
    if not len(places):
        return TooFew("No labelled row stands before those that would decide.")
    return Cut(places, gate, np.flatnonzero(aside), np.flatnonzero(aside & ~new))


def set_aside(digests: NDArray[np.uint64]) -> Mask:
    """Which rows are kept from training: a tenth, at most 4,000, by the rows' own digests.

    As a table grows the share can only shrink, so a row that is aside now always was.

    >>> rows = np.random.default_rng(0).integers(0, 2**64, (10_000, 2), dtype=np.uint64)
    >>> int(set_aside(rows).sum()), bool(set_aside(rows[:5000])[set_aside(rows)[:5000]].all())
    (1028, True)
    """
    share = min(ASIDE_SHARE, MOST_ASIDE_ROWS / max(1, len(digests)))
    mask: Mask = digests[:, 0] < np.uint64(int(share * 2**64))
    return mask


def not_among(digests: NDArray[np.uint64], known: NDArray[np.uint64]) -> Mask:
    """Which rows are beyond the copies that are known: the k-th copy here needs a k-th there.

    >>> here = np.array([[1, 1], [2, 2], [2, 2], [3, 3]], dtype=np.uint64)
    >>> not_among(here, np.array([[2, 2], [1, 1]], dtype=np.uint64)).tolist()
    [False, False, True, True]
    """
    import polars as pl

    def keyed(rows: NDArray[np.uint64]) -> pl.DataFrame:
        table = pl.DataFrame(
            {"a": np.ascontiguousarray(rows[:, 0]), "b": np.ascontiguousarray(rows[:, 1])}
        )
        return table.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).over("a", "b").alias("k"))

    here = keyed(digests).with_row_index("row")
    beyond = here.join(keyed(known), on=["a", "b", "k"], how="anti")["row"].to_numpy()
    mask = np.zeros(len(digests), dtype=np.bool_)
    mask[beyond] = True
    return mask
