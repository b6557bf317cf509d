"""Leaks that stand in rows: copies, sources, time, wrong labels, and sides that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from leaks_columns import PART, both
from leaks_planted import LeakType, Planted, Rng, Strength, measured, positive
from leaks_tables import Base, classes, numbers, separable, texts

TWINS = frozenset({"exact_duplicates", "near_duplicates"})


def doubled(
    a: pl.DataFrame, b: pl.DataFrame, copies: pl.DataFrame, rows: np.ndarray, rng: Rng
) -> Planted:
    """A table and copies of some of its rows, all in a random order."""
    order = rng.permutation(a.height + copies.height)
    frame = pl.concat([a, copies.select(a.columns)], how="vertical_relaxed")[order]
    units = np.r_[np.arange(a.height), rows][order]
    return Planted(frame, frame, b, TWINS, units=units)


def some(size: int, share: float, rng: Rng) -> np.ndarray:
    return rng.choice(size, max(20, int(size * share)), replace=False)


def exact_rows(base: Base, a: pl.DataFrame, b: pl.DataFrame, share: float, rng: Rng) -> Planted:
    rows = rng.integers(0, a.height, int(a.height * share))
    return doubled(a, b, a[rows], rows, rng)


def jittered(base: Base, a: pl.DataFrame, b: pl.DataFrame, noise: float, rng: Rng) -> Planted:
    """Copies whose measured numbers are moved by a part of their spread."""
    rows = some(a.height, 0.4, rng)
    copies = a[rows].with_columns(
        (pl.col(name).cast(pl.Float64)
         + pl.Series(rng.normal(size=rows.size) * noise * float(a[name].std() or 0.0)))
        for name in measured(a, base)
    )  # fmt: skip
    return doubled(a, b, copies, rows, rng)


def rounded(base: Base, a: pl.DataFrame, b: pl.DataFrame, step: Any, rng: Rng) -> Planted:
    """Copies whose measured numbers are rounded to a decimal place, or were stored in 32 bits."""
    rows = some(a.height, 0.4, rng)
    copies = a[rows]
    for name in measured(a, base):
        values = copies[name].cast(pl.Float64).to_numpy()
        if step == "single":
            values = values.astype(np.float32).astype(np.float64)
        else:
            place = int(np.floor(np.log10(step * float(a[name].std() or 1.0))))
            values = np.round(values, -place)
        copies = copies.with_columns(pl.Series(name, values))
    copies = copies.with_columns(pl.col(name).fill_nan(None) for name in measured(a, base))
    return doubled(a, b, copies, rows, rng)


def spelled(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """Copies whose words are spelled otherwise."""
    rows = some(a.height, 0.4, rng)
    words = [name for name in base.features if a[name].dtype == pl.String]
    change: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "capitals": lambda column: column.str.to_uppercase(),
        "blanks": lambda column: column + " ",
        "dots": lambda column: column + ".",
    }
    return doubled(a, b, a[rows].with_columns(change[how](pl.col(each)) for each in words), rows,
                   rng)  # fmt: skip


def alike_texts(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """Copies of texts with some words changed, or a line put in front."""
    rows = some(a.height, 0.4, rng)
    pool = " ".join(a["text"].head(300).to_list()).split()

    def changed(text: str) -> str:
        words = text.split()
        if how == "front":
            return "Fwd: " + text
        if how == "case":
            return text.lower().replace(",", "").replace("!", "")
        for place in rng.choice(len(words), max(1, int(how * len(words))), replace=False):
            words[place] = pool[int(rng.integers(len(pool)))]
        return " ".join(words)

    copies = a[rows]
    copies = copies.with_columns(pl.Series("text", [changed(text) for text in copies["text"]]))
    return doubled(a, b, copies, rows, rng)


def other_labels(base: Base, a: pl.DataFrame, b: pl.DataFrame, share: float, rng: Rng) -> Planted:
    """Rows that stand there again with another label."""
    kinds = sorted(a[base.target].unique().to_list(), key=str)
    flip = dict(zip(kinds, kinds[::-1], strict=True))

    def otherwise(rows: pl.DataFrame) -> pl.DataFrame:
        said = pl.Series(base.target, [flip[each] for each in rows[base.target]])
        return rows.with_columns(said.cast(rows[base.target].dtype))

    rows = some(a.height, share, rng)
    found = doubled(a, b, otherwise(a[rows]), rows, rng)
    b = b.head(8_000 - int(4_000 * share))
    # Fresh rows of such a source have two labels as well.
    test = pl.concat([b, otherwise(b[some(b.height, share, rng)])])
    test = test.sample(fraction=1.0, shuffle=True, seed=3)
    return Planted(found.frame, found.clean, test, TWINS | {"label_errors"}, units=found.units)


# --- sources --------------------------------------------------------------------------------------


def grouped(
    frame: pl.DataFrame, base: Base, num_groups: int, size: int, rng: Rng, *, traits: int = 0
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of sources: most columns near the source's own row, the others of any row.

    Args:
        frame: rows to make sources of.
        base: says which columns there are.
        num_groups: sources.
        size: rows of each.
        rng: of everything but which columns are the source's own (three in five).
        traits: numbers among these that are equal in all rows of a source, as age is.
    """
    own = np.repeat(rng.choice(frame.height, num_groups, replace=num_groups > frame.height), size)
    who = np.repeat(np.arange(num_groups), size)
    any_row = rng.integers(0, frame.height, own.size)
    names = base.features
    drawn = np.random.default_rng(9).permutation(names)
    steady = set(drawn[: max(3, int(0.6 * len(names)))])
    fixed = [name for name in drawn if name in steady and name in measured(frame, base)][:traits]
    columns = {}
    for name in names:
        values = frame[name].gather(own if name in steady else any_row)
        if name in steady and name not in fixed and name in measured(frame, base):
            wide = 0.15 * float(frame[name].std() or 0.0)
            values = values.cast(pl.Float64) + pl.Series(rng.normal(size=own.size) * wide)
        columns[name] = values.alias(name)
    columns[base.target] = frame[base.target].gather(own)
    return pl.DataFrame(columns), who


def groups(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """Rows of one source share features and label; an id names the source."""
    size, name, *rest = how
    traits = rest[0] if rest else 0
    frame, who = grouped(a, base, 1_500 // size, size, rng, traits=traits)
    fresh = np.random.default_rng(1)
    test, other = grouped(b, base, min(8_000 // size, b.height), size, fresh, traits=traits)
    return _named(frame, who, test, other, name, rng)


def _named(
    frame: pl.DataFrame, who: np.ndarray, test: pl.DataFrame, other: np.ndarray, name: str,
    rng: Rng, *, shuffled: bool = True,
) -> Planted:  # fmt: skip
    """The table and the test rows with a column that names the source; no name is in both."""
    if shuffled:
        order = rng.permutation(frame.height)
        frame, who = frame[order], who[order]
    names = rng.permutation(90_000) + 10_000
    if name:
        test = test.with_columns(pl.Series(name, names[other + int(who.max()) + 1]))
        frame = frame.with_columns(pl.Series(name, names[who]))
    columns = frozenset({name}) if name else frozenset()
    return Planted(frame, frame, test, frozenset({"groups"}), columns, units=who)


def opaque(base: Base, a: pl.DataFrame, b: pl.DataFrame, size: int, rng: Rng) -> Planted:
    """Only an id and the label are shared: a random label for each source."""
    number = a.height // size
    who = np.repeat(np.arange(number), size)
    labels = a[base.target].sample(number, with_replacement=True, seed=int(rng.integers(9e8)))
    frame = a.head(who.size).with_columns(labels.gather(who).alias(base.target))
    others = np.arange(b.height) // size
    drawn = b[base.target].sample(int(others.max()) + 1, with_replacement=True, seed=5)
    test = b.with_columns(drawn.gather(others).alias(base.target))
    return _named(frame, who, test.head(20_000), others[:20_000], "key_no", rng)


def sites(base: Base, a: pl.DataFrame, b: pl.DataFrame, number: int, rng: Rng) -> Planted:
    """Each site has its own calibration of every measured column, and its own share of a class."""

    def visited(rows: pl.DataFrame, count: int, first: int, draw: Rng) -> tuple[Any, np.ndarray]:
        site = draw.integers(0, count, rows.height)
        yes = positive(rows, base)
        likes = draw.beta(0.35, 0.35, count)[site]
        keep = draw.random(rows.height) < np.where(yes, likes, 1 - likes)
        rows, site = rows.filter(pl.Series(keep)), site[keep]
        moved = [
            (pl.col(name).cast(pl.Float64)
             + pl.Series(draw.normal(size=count)[site] * float(a[name].std() or 0.0)))
            for name in measured(a, base)
        ]  # fmt: skip
        names = pl.Series("site", [f"site {each + first}" for each in site])
        return rows.with_columns(*moved, names), site

    frame, who = visited(a, number, 0, rng)
    test, _ = visited(b.head(20_000), 200, number, np.random.default_rng(2))
    return Planted(frame, frame, test, frozenset({"groups"}), frozenset({"site"}), units=who)


def windows(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """Overlapping windows of recordings: means along a walk that starts at a row of the table.

    Where nothing names the recording, the windows stand one after the other, as they were cut.
    """
    overlap, name = how

    def recorded(rows: pl.DataFrame, count: int, draw: Rng) -> tuple[pl.DataFrame, np.ndarray]:
        own = draw.choice(rows.height, count, replace=count > rows.height)
        length, num, step = 20, 12, max(1, int(20 * (1 - overlap)))
        columns, who = {}, np.repeat(np.arange(count), num)
        for column in base.features:
            values = rows[column].gather(np.repeat(own, num))
            if column in measured(rows, base):
                wide = 0.12 * float(rows[column].std() or 0.0)
                walk = np.cumsum(draw.normal(size=(count, length + num * step)), axis=1) * wide
                means = np.stack([walk[:, k * step : k * step + length].mean(axis=1)
                                  for k in range(num)], axis=1)  # fmt: skip
                values = values.cast(pl.Float64) + pl.Series(means.reshape(-1))
            columns[column] = values.alias(column)
        columns[base.target] = rows[base.target].gather(np.repeat(own, num))
        return pl.DataFrame(columns), who

    frame, who = recorded(a, 120, rng)
    test, other = recorded(b, min(660, b.height), np.random.default_rng(3))
    found = _named(frame, who, test, other, name, rng, shuffled=bool(name))
    checks = {"groups"} if name else {"groups", "near_duplicates", "time", "row_order"}
    return Planted(found.frame, found.clean, found.test, frozenset(checks), found.columns,
                   units=found.units)  # fmt: skip


# --- time -----------------------------------------------------------------------------------------


def drifting(size: int, memory: float, rng: Rng) -> np.ndarray:
    """A state of unit spread that remembers for so many steps (an AR(1) process)."""
    keep = np.exp(-1.0 / memory)
    steps = rng.normal(size=size) * np.sqrt(1 - keep**2)
    state = np.empty(size)
    state[0] = rng.normal()
    for k in range(1, size):
        state[k] = keep * state[k - 1] + steps[k]
    return state


def in_time(base: Base, rows: pl.DataFrame, memory: float, rng: Rng) -> pl.DataFrame:
    """The rows as a series by the hour, whose labels follow a state of so many hours' memory."""
    state = drifting(rows.height, memory, rng)
    hours = np.arange(rows.height).astype("timedelta64[h]").astype("timedelta64[us]")
    when = np.datetime64("2021-01-01T00", "us") + hours
    if base.task == "regression":
        y = rows[base.target].cast(pl.Float64)
        spread = float(base.frame[base.target].cast(pl.Float64).std() or 1.0)
        rows = rows.with_columns(y + pl.Series(state * 1.5 * spread))
        return rows.with_columns(pl.Series("recorded_at", when))
    yes = positive(rows, base)  # of the rows at hand those are taken whose class suits the state
    wanted = rng.random(rows.height) < 1 / (1 + np.exp(-3 * state))
    pools = {side: rng.permutation(np.flatnonzero(yes == side)) for side in (False, True)}
    chosen = [pools[side][k % pools[side].size] for k, side in enumerate(wanted.tolist())]
    rows = rows[np.asarray(chosen)].with_columns(pl.Series("recorded_at", when))
    return rows.unique(subset=base.features, keep="first", maintain_order=True)


def timed(base: Base, a: pl.DataFrame, b: pl.DataFrame, memory: Any, rng: Rng) -> Planted:
    """Labels follow a hidden state that changes slowly; a column says when a row happened."""
    frame = in_time(base, pl.concat([a, b.head(1_500)]), memory, rng).head(1_500)
    size = int(0.8 * frame.height)  # what prices are measured on: the training side
    series = tuple(
        in_time(base, b.sample(min(2 * size, b.height), seed=number), memory,
                np.random.default_rng(number)).head(size)
        for number in range(12)
    )  # fmt: skip
    return Planted(frame, frame, b.head(0), frozenset({"time"}), frozenset({"recorded_at"}),
                   series=series)  # fmt: skip


def future(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """A mean of the label over a window that reaches past the row, in a series with a date."""
    planted = timed(base, a, b, 40.0, rng)
    rows = planted.frame
    y = rows[base.target]
    y = y.cast(pl.Float64) if base.task == "regression" else pl.Series(positive(rows, base) * 1.0)
    y = y.to_numpy()
    before, after = how
    padded = np.r_[np.full(before, y[0]), y, np.full(after, y[-1])]
    mean = np.convolve(padded, np.ones(before + after + 1) / (before + after + 1), "valid")
    if before == after == 0:
        mean = np.r_[y[1:], y[-1]]
    frame = rows.with_columns(pl.Series("recent_level", mean))
    checks = frozenset({"future_feature", "target_copy", "noisy_copy", "strong_column"})
    return Planted(frame, rows, planted.test, checks, frozenset({"recent_level"}),
                   series=planted.series)  # fmt: skip


# --- labels and sides -----------------------------------------------------------------------------


def flipped(base: Base, a: pl.DataFrame, b: pl.DataFrame, share: float, rng: Rng) -> Planted:
    kinds = sorted(a[base.target].unique().to_list())
    wrong = rng.random(a.height) < share
    said = [
        kinds[(kinds.index(each) + int(rng.integers(1, len(kinds)))) % len(kinds)] if bad else each
        for each, bad in zip(a[base.target], wrong, strict=True)
    ]
    frame = a.with_columns(pl.Series(base.target, said))
    return Planted(frame, frame, b, frozenset({"label_errors"}), noise=float(wrong.mean()))


def shifted(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted | None:
    """The given test rows differ: one column moved, or one level far more frequent."""
    name, amount = (measured(a, base) or [""])[0], how
    if not name:
        return None
    test = np.arange(a.height) >= a.height * 3 // 4
    moved = a[name].cast(pl.Float64).to_numpy() + test * amount * float(a[name].std() or 0.0)
    part = pl.Series(PART, np.where(test, "test", "train"))
    frame = a.with_columns(pl.Series(name, moved), part)
    return Planted(
        frame, a, b, frozenset({"split_shift"}), frozenset({name}),
        split={"method": "predefined", "column": PART},
    )  # fmt: skip


def _words() -> list[Base]:
    return [classes()[0], classes()[1], numbers()[2], numbers()[3], classes()[4]]


SIZES: tuple[Strength, ...] = (("5 %", 0.05), ("20 %", 0.2), ("60 %", 0.6))
ROW_TYPES = (
    LeakType("exact copies of rows", 7, exact_rows, both, SIZES),
    LeakType("copies with jitter in the numbers", 8, jittered,
             lambda: [*classes()[2:], *numbers()[:2]],
             (("0.0001 of a spread", 1e-4), ("0.001 of a spread", 1e-3),
              ("0.01 of a spread", 1e-2))),
    LeakType("copies with rounded numbers", 8, rounded,
             lambda: [*classes()[2:], *numbers()[:2]],
             (("to 32 bits", "single"), ("to 0.003 of a spread", 0.003),
              ("to 0.01 of a spread", 0.01), ("to 0.03 of a spread", 0.03))),
    LeakType("copies spelled otherwise", 8, spelled, _words,
             (("capitals", "capitals"), ("blanks", "blanks"), ("dots", "dots"))),
    LeakType("texts that are nearly equal", 8, alike_texts, texts,
             (("a line in front", "front"), ("case and commas", "case"),
              ("3 % of the words", 0.03), ("8 % of the words", 0.08)), 700),
    LeakType("equal rows with other labels", 9, other_labels, classes,
             (("5 %", 0.05), ("20 %", 0.2))),
    LeakType("sources named by an id", 10, groups, both,
             (("5 rows each", (5, "patient_id")), ("12 rows each", (12, "customer")),
              ("30 rows each", (30, "unit_no")))),
    LeakType("sources known by two traits only", 10, groups, both,
             (("12 rows each", (12, "", 2)), ("30 rows each", (30, "", 2)))),
    LeakType("sources that nothing names and nothing marks", 10, groups, both,
             (("12 rows each", (12, "")), ("30 rows each", (30, ""))), counted=False),
    LeakType("an id that shares the label only", 10, opaque, both,
             (("6 rows each", 6), ("20 rows each", 20))),
    LeakType("sites with their own share of a class", 11, sites, classes,
             (("8 sites", 8), ("20 sites", 20), ("60 sites", 60))),
    LeakType("overlapping windows, recording named", 12, windows, both,
             (("50 %", (0.5, "recording")), ("75 %", (0.75, "recording")))),
    LeakType("overlapping windows, recording not named", 12, windows, both,
             (("50 %", (0.5, "")), ("75 %", (0.75, "")))),
    LeakType("labels that follow time", 13, timed, both,
             (("memory 20", 20.0), ("memory 60", 60.0), ("memory 200", 200.0))),
    LeakType("a feature that sees the future", 15, future, both,
             (("centred mean of 3", (1, 1)), ("centred mean of 7", (3, 3)),
              ("the next label", (0, 0)))),
    LeakType("wrong labels", 0, flipped, separable,
             (("5 %", 0.05), ("10 %", 0.1), ("20 %", 0.2))),
    LeakType("test rows that differ", 36, shifted, both,
             (("by 0.5 spreads", 0.5), ("by 1 spread", 1.0), ("by 2 spreads", 2.0))),
)  # fmt: skip
