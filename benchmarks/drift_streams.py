"""The streams of `drift.py`, made with numpy alone, so that a peer's environment can make them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUMBERS = 8
IMPORTANCE = {"x0": 1.0, "x1": 1.0, "x2": 0.5, "x3": 0.05, "c": 0.1}
CHANGES = (
    "shift 0.1", "shift 0.2", "shift 0.3", "shift 0.5", "shift 1.0", "unit x1000",
    "missing 30 %", "new category 10 %", "error 10 -> 20 %",
)  # fmt: skip
REFERENCE, STABLE = 5_000, 4_000
ROWS_A_DAY = 1_000


@dataclass
class Stream:
    """Rows in order: numbers (NaN for missing), one category, probability and outcome."""

    x: np.ndarray
    c: np.ndarray
    p: np.ndarray
    y: np.ndarray
    time: np.ndarray

    def part(self, start: int, stop: int) -> Stream:
        """Some rows."""
        s = slice(start, stop)
        return Stream(self.x[s], self.c[s], self.p[s], self.y[s], self.time[s])

    def columns(self) -> dict[str, np.ndarray]:
        """Feature columns by name."""
        return {f"x{k}": self.x[:, k] for k in range(NUMBERS)} | {"c": self.c}


def independent(seed: int, change: str | None, drifted: int) -> Stream:
    """A reference, stable rows, then rows with one change; rows are independent.

    The model answers with the truth's own probabilities, 0.9 or 0.1, so its error is 10 %.
    """
    rng = np.random.default_rng(seed)
    rows = REFERENCE + STABLE + drifted
    x = rng.normal(size=(rows, NUMBERS))
    c = rng.choice(np.array(["a", "b", "c", "d"]), size=rows, p=[0.5, 0.3, 0.15, 0.05])
    p = np.where(x[:, 0] + x[:, 1] + 0.5 * x[:, 2] > 0, 0.9, 0.1)
    error = np.full(rows, 0.1)
    after = np.arange(rows) >= REFERENCE + STABLE
    if change is not None and change.startswith("shift"):
        x[after, 0] += float(change.split()[1])
    if change == "unit x1000":
        x[:, 1] = x[:, 1] * 2 + 20
        x[after, 1] *= 1000
    if change == "missing 30 %":
        x[after & (rng.random(rows) < 0.3), 2] = np.nan
    if change == "new category 10 %":
        c[after & (rng.random(rows) < 0.1)] = "e"
    if change == "error 10 -> 20 %":
        error[after] = 0.2
    wrong = rng.random(rows) < error
    y = np.where(wrong, p < 0.5, p > 0.5).astype(np.int64)
    time = 1_700_000_000.0 + np.arange(rows) * (86_400.0 / ROWS_A_DAY)
    return Stream(x, c, p, y, time)


def seasonal(seed: int, days: int, rows_a_day: int) -> Stream:
    """Stable days with a weekly season, and days that differ and hang together (AR 0.5).

    A day's mean moves by 0.15 standard deviations beyond the season, whose size is up to 0.5.
    """
    rng = np.random.default_rng(seed)
    rows = days * rows_a_day
    within = np.sort(rng.random((days, rows_a_day)), axis=1).ravel()
    day = np.repeat(np.arange(days), rows_a_day)
    time = (day + within) * 86_400.0
    effect = np.zeros((days, NUMBERS))
    effect[0] = rng.normal(size=NUMBERS)
    for k in range(1, days):
        effect[k] = 0.5 * effect[k - 1] + np.sqrt(0.75) * rng.normal(size=NUMBERS)
    size, phase = rng.uniform(0, 0.5, NUMBERS), rng.uniform(0, 6.28, NUMBERS)
    x = rng.normal(size=(rows, NUMBERS)) + 0.15 * effect[day]
    x += size * np.sin(2 * np.pi * (day % 7)[:, None] / 7 + phase)
    x[:, 3] = np.exp(x[:, 3])
    x[rng.random(rows) < 0.05, 7] = np.nan
    c = rng.choice(np.array(["a", "b", "c", "d"]), size=rows, p=[0.5, 0.3, 0.15, 0.05])
    p = 1 / (1 + np.exp(-2 * (x[:, 0] + x[:, 1] - 0.5 * x[:, 2])))
    y = (rng.random(rows) < p).astype(np.int64)
    return Stream(x, c, p, y, time)
