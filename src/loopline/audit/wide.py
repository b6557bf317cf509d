"""Wide tables: the columns worth a closer look, chosen by what each tells alone.

Models of single columns, pairs and all-but-one take time in proportion to the columns, or to their
square. A column that gives the answer away stands out alone, so of thousands only those most
related to the target are looked at closely.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import has_classes
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
WIDE = 1_000
"""Above so many features not all of them are looked at closely."""
LOOKED_AT = 300
SAMPLE_ROWS = 5_000
BLOCK = 500


def narrowed(view: TrainView) -> TrainView:
    """The view with the features that are most related to the target; the same if it is not wide.

    Numbers are measured by the largest |rank correlation| with a class or the value, everything
    else by the share of the target that its values settle beyond their number.
    """
    names = view.schema.features
    if len(names) <= WIDE:
        return view
    part = view.sample(SAMPLE_ROWS, 0)
    targets = _targets(part)
    strength: dict[str, float] = {}
    for start in range(0, len(names), BLOCK):
        frame = part.frame(names[start : start + BLOCK])
        strength.update({series.name: _strength(series, targets) for series in frame})
    best = sorted(names, key=lambda name: (-strength[name], name))[:LOOKED_AT]
    kept = set(best)
    return view.without([name for name in names if name not in kept])


def _targets(view: TrainView) -> Floats:
    """Centred columns to correlate with: one a class, or the ranks of the value."""
    if not has_classes(view.schema.task):
        ranks = pl.Series(view.target).rank("average").to_numpy()[:, None]
    else:
        ranks = (view.target[:, None] == np.arange(view.schema.num_classes)).astype(np.float64)
    centred = ranks - ranks.mean(axis=0)
    return np.asarray(centred / np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-12))


def _strength(series: pl.Series, targets: Floats) -> float:
    if series.dtype.is_nested() or series.dtype in (pl.Object(), pl.Binary()):
        return 0.0
    empty = series.is_null().to_numpy().astype(np.float64)
    found = _correlation(empty, targets) if 0 < empty.sum() < empty.size else 0.0
    if series.dtype.is_numeric() or series.dtype.is_temporal() or series.dtype == pl.Boolean():
        ranks = series.cast(pl.Float64 if series.dtype == pl.Boolean() else series.dtype)
        values = ranks.rank("average").fill_null(series.len() / 2).to_numpy()
        return max(found, _correlation(values, targets))
    codes = series.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    sizes = np.bincount(codes)
    sums = np.stack([np.bincount(codes, weights=column) for column in targets.T], axis=1)
    settled = (sums**2 / np.maximum(sizes, 1)[:, None]).sum(axis=0)
    by_chance = np.count_nonzero(sizes) / codes.size
    return max(found, float(np.sqrt(np.maximum(settled - by_chance, 0.0)).max()))


def _correlation(values: Floats, targets: Floats) -> float:
    centred = values - values.mean()
    size = float(np.sqrt(centred @ centred))
    return float(np.abs(centred @ targets).max() / size) if size > 0 else 0.0
