"""Small streams for the tests of the watch."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from loopline.monitor.reference import Reference
from loopline.monitor.window import Window

DAY = 86_400.0
CLASSES = ("no", "yes")


def rows(
    num_rows: int, seed: int, *, shift: float = 0.0, error: float = 0.1, start: float = 0.0
) -> dict[str, Any]:
    """Two numbers, a category and a model that is right in 1 - `error` of the rows; 500 a day."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=num_rows) + shift, rng.normal(50, 10, size=num_rows)
    city = rng.choice(np.array(["Lima", "Oslo", "Rome"]), num_rows, p=[0.5, 0.3, 0.2])
    p = np.where(x > 0, 0.9, 0.1)
    y = np.where(rng.random(num_rows) < error, p < 0.5, p > 0.5).astype(np.int64)
    return {
        "frame": pl.DataFrame({"x": x, "z": z, "city": city}),
        "prediction": p,
        "y": y,
        "time": start + np.arange(num_rows) * DAY / 500,
    }


def reference(num_rows: int = 4_000, *, timed: bool = True, **parts: Any) -> Reference:
    """Normal rows."""
    made = rows(num_rows, 1)
    time = made["time"] if timed else None
    return Reference(made["frame"], made["prediction"], made["y"], time, classes=CLASSES, **parts)


def window(
    num_rows: int,
    seed: int,
    *,
    labels: bool = False,
    frame: pl.DataFrame | None = None,
    **change: Any,
) -> Window:
    """Rows as a service would have answered them; ids are ``seed-place``."""
    made = rows(num_rows, seed, **change)
    return Window(
        made["frame"] if frame is None else frame,
        made["prediction"],
        tuple(f"{seed}-{place}" for place in range(num_rows)),
        made["time"],
        made["y"].astype(np.float64) if labels else None,
    )
