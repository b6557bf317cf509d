"""Streams in windows, real and simulated, and what four policies make of them.

Each window is predicted before its labels are seen. The loop's own rules decide (`cut_rows`, `due`,
`become_worse`, `judge`, `surely_worse` of `loopline.loop`); only the line is replaced by one fit of
LightGBM or of a logistic regression, so that hundreds of windows take minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.evaluate.rows import Rows
from loopline.line.loop_spec import LoopSpec
from loopline.loop.bout import Bout
from loopline.loop.checks import spent
from loopline.loop.cut import TooFew, cut_rows, set_aside
from loopline.loop.doubt import losses
from loopline.loop.gate import judge, surely_worse
from loopline.loop.triggers import become_worse, due

DATA = Path(os.environ.get("LOOPLINE_DATA", "../shared/data"))
SETTINGS = LoopSpec(new_labels=300)


@dataclass(frozen=True)
class Stream:
    """Windows of rows with labels.

    Args:
        name: of the stream.
        windows: (X, y) in the order of time; the first is what the first champion is made from.
        regression: whether y holds values.
        fit: makes a model: a function from X to predictions.
        metric: what ranks.
        truths: the true labels, where those that came are not.
    """

    name: str
    windows: list[tuple[np.ndarray, np.ndarray]]
    regression: bool
    fit: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]
    metric: str
    truths: list[np.ndarray] | None = None

    def truth(self, t: int) -> np.ndarray:
        """The true labels of a window."""
        return self.windows[t][1] if self.truths is None else self.truths[t]


def boosted(regression: bool) -> Callable[..., Any]:
    """A small LightGBM."""
    import lightgbm

    def fit(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        parameters = {
            "objective": "regression" if regression else "binary", "num_leaves": 15,
            "learning_rate": 0.1, "min_data_in_leaf": 20, "verbosity": -1, "num_threads": 1,
            "deterministic": True, "seed": 0,
        }  # fmt: skip
        return lightgbm.train(parameters, lightgbm.Dataset(X, y), 60).predict

    return fit


def linear(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(X, y)
    return lambda rows: model.predict_proba(rows)[:, 1]


def elec2() -> Stream:
    """Electricity prices, half-hourly, by week of 336 rows; the first champion knows 8 weeks."""
    frame = pl.read_csv(DATA / "elec2_drift" / "elec.csv")
    X = frame.drop("class").to_numpy().astype(np.float64)
    y = frame["class"].to_numpy().astype(np.int64)
    edges = [0, *range(8 * 336, len(y), 336)]
    windows = [(X[a:b], y[a:b]) for a, b in pairwise(edges)]
    return Stream("elec2 by week", windows, False, boosted(False), "log_loss")


def bikes() -> Stream:
    """Bicycles hired an hour, by month; the first champion knows 3 months."""
    frame = pl.read_csv(DATA / "bike_sharing" / "hour.csv", try_parse_dates=True)
    months = frame["yr"].to_numpy() * 12 + frame["mnth"].to_numpy() - 1
    drop = ["instant", "dteday", "yr", "casual", "registered", "cnt"]
    X, y = frame.drop(drop).to_numpy().astype(np.float64), frame["cnt"].to_numpy().astype(float)
    windows = [(X[months < 3], y[months < 3])]
    windows += [(X[months == m], y[months == m]) for m in range(3, 24)]
    return Stream("bike_sharing by month", windows, True, boosted(True), "rmse")


def simulated(kind: str, seed: int, num_windows: int = 40, rows: int = 500) -> Stream:
    """Two classes by a line through 5 numbers, whose direction moves as `kind` says.

    abrupt: turns by 70 degrees at a third; gradual: turns by 120 degrees over the whole stream;
    seasonal: the inputs' mean and the direction swing with a period of 12 windows; recurring: two
    directions take turns of 8 windows; stable: nothing moves; poisoned: nothing moves, but in every
    sixth window the labels of a third of the rows, those with a large first number, all say 0.
    """
    rng = np.random.default_rng(seed)

    def angle(t: int) -> float:
        return {
            "stable": 0.0,
            "poisoned": 0.0,
            "abrupt": 70.0 * (t >= num_windows // 3),
            "gradual": 120.0 * t / num_windows,
            "seasonal": 35.0 * np.sin(2 * np.pi * t / 12),
            "recurring": 60.0 * ((t // 8) % 2),
        }[kind]

    def window(t: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        X = rng.normal(size=(count, 5))
        if kind == "seasonal":
            X[:, 2] += np.cos(2 * np.pi * t / 12)
        turn = np.deg2rad(angle(t))
        score = 2 * (np.cos(turn) * X[:, 0] + np.sin(turn) * X[:, 1]) + 0.5 * X[:, 2]
        return X, (score + rng.logistic(size=count) > 0).astype(np.int64)

    windows = [window(0, 2_000), *(window(t, rows) for t in range(1, num_windows))]
    if kind != "poisoned":
        return Stream(f"simulated {kind}", windows, False, linear, "log_loss")
    came = [
        (X, np.where(X[:, 0] > 0.4, 0, y) if t and t % 6 == 0 else y)
        for t, (X, y) in enumerate(windows)
    ]
    return Stream("simulated poisoned", came, False, linear, "log_loss", [y for _, y in windows])


@dataclass
class Told:
    """What a policy did and how well it predicted.

    Args:
        losses: mean loss of each window, before its labels were seen.
        accuracy: share of right answers (binary) or minus the mean absolute error.
        promotions: windows after which the champion changed.
        attempts: retrainings.
        rollbacks: windows after which the champion went back.
    """

    losses: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    promotions: list[int] = field(default_factory=list)
    attempts: int = 0
    rollbacks: list[int] = field(default_factory=list)

    def score(self, stream: Stream, model: Any, X: np.ndarray, y: np.ndarray) -> None:
        """Predict a window before its labels are seen."""
        guess = model(X)
        self.losses.append(float(losses(rows_of(stream, y, guess)).mean()))
        right = -np.abs(guess - y) if stream.regression else (guess >= 0.5) == y
        self.accuracy.append(float(np.mean(right)))


def rows_of(stream: Stream, y: np.ndarray, guess: np.ndarray) -> Rows:
    """Truth and answers."""
    return Rows.build(y, guess, regression=stream.regression)


def never(stream: Stream) -> Told:
    """The first model for ever."""
    told = Told()
    model = stream.fit(*stream.windows[0])
    for t, (X, _) in enumerate(stream.windows[1:], 1):
        told.score(stream, model, X, stream.truth(t))
    return told


def always(stream: Stream, rows: int | None = None) -> Told:
    """A new model on everything so far, or the newest rows, after each window, promoted unseen."""
    told = Told()
    for t, (X, _) in enumerate(stream.windows[1:], 1):
        past = [part[-rows:] if rows else part for part in _joined(stream, 0, t)]
        told.score(stream, stream.fit(*past), X, stream.truth(t))
        told.promotions.append(t)
    told.attempts = len(told.promotions)
    return told


def hindsight(stream: Stream) -> Told:
    """Of the present model and new ones on everything or the last 4 windows, the best ahead."""
    told = Told()
    model = stream.fit(*stream.windows[0])
    for t, (X, _) in enumerate(stream.windows[1:], 1):
        y = stream.truth(t)
        options = [
            model,
            stream.fit(*_joined(stream, 0, t)),
            stream.fit(*_joined(stream, max(0, t - 4), t)),
        ]
        model = min(options, key=lambda one: losses(rows_of(stream, y, one(X))).mean())
        told.score(stream, model, X, y)
    return told


def _joined(stream: Stream, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    parts = stream.windows[start:stop]
    return np.concatenate([X for X, _ in parts]), np.concatenate([y for _, y in parts])


class Loop:
    """The loop's rules over a stream, without a store."""

    def __init__(self, stream: Stream, settings: LoopSpec = SETTINGS) -> None:
        self.stream, self.settings = stream, settings
        rng = np.random.default_rng(1)
        self.X, self.y = (part[:0] for part in stream.windows[0])
        self.digests = np.zeros((0, 2), np.uint64)
        self._rng = rng
        self.new = self.used = np.zeros(0, bool)
        self.told = Told()
        self.before: Any = None
        self.attempt = self.seen = self.looks = 0
        self._come(*stream.windows[0])
        self._fit(np.flatnonzero(~set_aside(self.digests)), set_aside(self.digests))

    def _come(self, X: np.ndarray, y: np.ndarray) -> None:
        more = self._rng.integers(0, 2**64, (len(y), 2), dtype=np.uint64)
        self.X, self.y = np.concatenate([self.X, X]), np.concatenate([self.y, y])
        self.digests = np.concatenate([self.digests, more])
        self.new = np.concatenate([self.new, np.ones(len(y), bool)])
        self.used = np.concatenate([self.used, np.zeros(len(y), bool)])

    def _fit(self, places: np.ndarray, aside: np.ndarray) -> None:
        self.model = self.stream.fit(self.X[places], self.y[places])
        self.new[:] = False
        self.reference = np.flatnonzero(aside)

    def _rows(self, model: Any, places: np.ndarray) -> Rows:
        return rows_of(self.stream, self.y[places], model(self.X[places]))

    def run(self) -> Told:
        """All windows."""
        for t, (X, y) in enumerate(self.stream.windows[1:], 1):
            self.told.score(self.stream, self.model, X, self.stream.truth(t))
            self._come(X, y)
            self._look(t)
        return self.told

    def _look(self, t: int) -> None:
        self.looks += 1
        error = spent(self.settings.error, self.looks)
        fresh = np.flatnonzero(self.new)
        if self.before is not None and len(fresh) >= self.settings.gate_rows // 2:
            newest = fresh[-1000:]
            bout = Bout(self._rows(self.before, newest), self._rows(self.model, newest))
            if surely_worse(bout, self.stream.metric, error) is not None:
                self.model, self.before = self.before, None
                self.told.rollbacks.append(t)
                self.attempt = self.seen = self.looks = 0
                return
        worse = become_worse(
            losses(self._rows(self.model, self.reference)),
            losses(self._rows(self.model, fresh[-1000:])), error,
        )  # fmt: skip
        last = np.flatnonzero(self.used)
        count = int(self.new[last[-1] + 1 if len(last) else 0 :].sum())
        if due(self.settings, worse=worse, num_labels=count) is None:
            return
        cut = cut_rows(
            self.digests, new=self.new, labelled=np.ones(len(self.y), bool), used=self.used,
            settings=self.settings,
        )  # fmt: skip
        if not isinstance(cut, TooFew):
            self._try(t, cut)

    def _try(self, t: int, cut: Any) -> None:
        self.attempt += 1
        self.told.attempts += 1
        model = self.stream.fit(self.X[cut.train], self.y[cut.train])
        self.used[cut.gate] = True
        verdict = judge(
            Bout(self._rows(self.model, cut.gate), self._rows(model, cut.gate)),
            Bout(self._rows(self.model, cut.history), self._rows(model, cut.history)),
            metric=self.stream.metric, settings=self.settings, attempt=self.attempt,
            seen_before=self.seen,
        )  # fmt: skip
        self.seen = self.seen + 1 if verdict.unconfirmed else 0
        if not verdict.promote:
            return
        self.before, self.model = self.model, model
        self.new[:] = False
        self.reference = cut.aside[-1000:]
        self.told.promotions.append(t)
        self.attempt = self.seen = self.looks = 0


def streams(seeds: int) -> Iterator[Stream]:
    """All streams, the simulated ones once a seed."""
    if DATA.is_dir():
        yield elec2()
        yield bikes()
    for kind in ("stable", "abrupt", "gradual", "seasonal", "recurring", "poisoned"):
        for seed in range(seeds):
            yield simulated(kind, seed)
