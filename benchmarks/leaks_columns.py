"""Leaks that stand in columns: the answer itself, in part, renamed, added up, or by other means.

In every one the column is gone when serving, so the truth is the score without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from leaks_planted import LeakType, Planted, Rng, positive, with_column
from leaks_tables import Base, classes, numbers, texts

COPIES = frozenset(
    {
        "target_copy", "noisy_copy", "deciding_column", "deciding_pair", "strong_column",
        "missing_tells", "not_when_serving", "id_tells", "future_feature",
    }
)  # fmt: skip
GONE = frozenset({"not_when_serving"}) | COPIES
PART = "part"


def beside(a: pl.DataFrame, b: pl.DataFrame, columns: Mapping[str, Any]) -> Planted:
    """The table with further columns that leak."""
    frame = a.clone()
    for name, values in columns.items():
        frame = with_column(frame, name, values)
    return Planted(frame, a, b, COPIES, frozenset(columns))


def target_copy(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    y = a[base.target]
    if how == "same":
        return beside(a, b, {"result": y})
    if how == "blanks":  # filled in on two rows of three
        return beside(a, b, {"x9": [v if keep else None for v, keep in
                                    zip(y, rng.random(len(y)) < 0.67, strict=True)]})  # fmt: skip
    return beside(a, b, {"state": y.cast(pl.String)})


def renamed(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    y = a[base.target]
    if base.task == "regression":
        values = y.cast(pl.Float64).to_numpy()
        formulas = {
            "scaled": values * 1.8 + 32,
            "log": np.log(values - values.min() + 1.0),
            "rounded": np.round(values, 0 if values.std() > 5 else 2),
        }
        return beside(a, b, {"reading": formulas[how]})
    yes = positive(a, base)
    words = {
        "scaled": np.where(yes, 17, 4),
        "log": np.where(yes, "closed", "open"),
        # several names for one class, as codes of reasons are
        "rounded": [
            f"R{10 + rng.integers(0, 4)}" if each else f"N{20 + rng.integers(0, 4)}" for each in yes
        ],
    }
    return beside(a, b, {"code": words[how]})


def noisy_copy(base: Base, a: pl.DataFrame, b: pl.DataFrame, noise: float, rng: Rng) -> Planted:
    """A copy with some wrong cells, known for training rows only."""
    y = a[base.target]
    wrong = rng.random(len(y)) < noise
    other = y.sample(fraction=1.0, with_replacement=True, shuffle=True, seed=int(rng.integers(9e8)))
    if base.task != "regression":
        flip = dict(zip(*_two(base), strict=True))
        other = pl.Series([flip[each] for each in y])
    values = [q if bad else p for p, q, bad in zip(y, other, wrong, strict=True)]
    return beside(a, b, {"checked": pl.Series("checked", values, dtype=y.dtype)})


def _two(base: Base) -> tuple[list[Any], list[Any]]:
    found = sorted(base.frame[base.target].unique().to_list(), key=str)
    return found, found[::-1]


def arithmetic(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """Columns of which the target is the sum, difference, product or ratio."""
    y = a[base.target].cast(pl.Float64).to_numpy()
    spread, size = y.std(), len(y)
    first = rng.uniform(0.5, 2.0, size) * (np.abs(y).mean() + spread)
    second = rng.gamma(2.0, spread / 2, size)
    share = rng.uniform(0.2, 0.8, size)
    scale = rng.uniform(0.5, 3.0, size)
    shapes: dict[str, dict[str, np.ndarray]] = {
        "a + b": {"cash": y * share, "credit": y - y * share},
        "a - b": {"gross": y + first, "costs": first},
        "a * b": {"rate": y / scale, "units": scale},
        "a / b": {"total": y * scale, "units": scale},
        "a + b + c": {"one": y * share / 2, "two": y * share / 2 + second,
                      "three": y - y * share - second},
        "a - b - c": {"gross": y + first + second, "costs": first, "fees": second},
        "a * b * c": {"rate": y / scale / share, "units": scale, "part": share},
        "a * b / c": {"rate": y * share / scale, "units": scale, "part": share},
    }  # fmt: skip
    return beside(a, b, shapes[how])


def class_of_two(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """The class is whether one column is above another, or their sum above a limit."""
    yes, size = positive(a, base), a.height
    gap = rng.gamma(2.0, 1.0, size) + 0.01
    middle = rng.normal(size=size) * 20
    if how == "difference":
        return beside(a, b, {"score": middle + np.where(yes, gap, -gap), "limit": middle})
    return beside(a, b, {"before": middle, "after": 50 + np.where(yes, gap, -gap) - middle})


def post_outcome(base: Base, a: pl.DataFrame, b: pl.DataFrame, exact: float, rng: Rng) -> Planted:
    """An amount that is paid only after the outcome; zero before, with exceptions."""
    yes, size = positive(a, base), a.height
    amount = np.where(yes, rng.lognormal(5, 1, size), 0.0)
    if base.task == "regression":
        y = a[base.target].cast(pl.Float64).to_numpy()
        wide = y.std() * (1 - exact)
        return beside(a, b, {"settled_amount": np.round(y + rng.normal(size=size) * wide, 3)})
    flip = rng.random(size) > exact
    amount = np.where(flip, np.where(yes, 0.0, rng.lognormal(5, 1, size)), amount)
    return beside(a, b, {"recovered": np.round(amount, 2)})


def mask(base: Base, a: pl.DataFrame, b: pl.DataFrame, rates: Any, rng: Rng) -> Planted:
    """Only whether the cell is filled in tells the class; its value is noise."""
    inside, outside = rates
    yes, size = positive(a, base), a.height
    filled = rng.random(size) < np.where(yes, inside, outside)
    values = [float(v) if keep else None for v, keep in
              zip(rng.normal(50, 9, size).round(1), filled, strict=True)]  # fmt: skip
    return beside(a, b, {"visit": values})


def join_rows(base: Base, a: pl.DataFrame, b: pl.DataFrame, share: float, rng: Rng) -> Planted:
    """Three columns of a joined table that has rows for one class only."""
    yes, size = positive(a, base), a.height
    there = yes & (rng.random(size) < share)
    columns = {
        name: [float(v) if keep else None for v, keep in
               zip(rng.normal(size=size).round(3), there, strict=True)]
        for name in ("j_amount", "j_days", "j_rate")
    }  # fmt: skip
    return beside(a, b, columns)


def not_served(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """A good column that is filled in on the training rows and not on the given test rows."""
    yes, size = positive(a, base), a.height
    strong = np.where(yes, 1.0, -1.0) * how[0] + rng.normal(size=size)
    test = np.arange(size) >= size * 3 // 4
    values = np.where(test, how[1], strong)
    frame = with_column(a.clone(), "signal_x", pl.Series(values).fill_nan(None))
    part = np.where(test, "test", "train")
    return Planted(
        frame.with_columns(pl.Series(PART, part)), a, b, GONE, frozenset({"signal_x"}),
        split={"method": "predefined", "column": PART},
    )  # fmt: skip


# --- what was made along with the table ---------------------------------------------------------


def row_order(base: Base, a: pl.DataFrame, b: pl.DataFrame, share: float, rng: Rng) -> Planted:
    """Rows sorted by class, or nearly."""
    key = np.where(rng.random(a.height) < share, positive(a, base), rng.random(a.height))
    order = np.argsort(key + 1e-9 * rng.random(a.height), kind="stable")
    return Planted(a[order], a[order], b, frozenset({"row_order"}))


def _numbered(yes: np.ndarray, exact: float, rng: Rng) -> np.ndarray:
    """Counters of which the lower ones were given to one class."""
    key = np.where(rng.random(yes.size) < exact, yes, rng.random(yes.size) < 0.5)
    return np.argsort(np.argsort(key + rng.random(yes.size) * 0.999))


def id_number(base: Base, a: pl.DataFrame, b: pl.DataFrame, exact: float, rng: Rng) -> Planted:
    return beside(a, b, {"record_id": 100_000 + 3 * _numbered(positive(a, base), exact, rng)})


def id_prefix(base: Base, a: pl.DataFrame, b: pl.DataFrame, exact: float, rng: Rng) -> Planted:
    yes = positive(a, base)
    key = np.where(rng.random(yes.size) < exact, yes, rng.random(yes.size) < 0.5)
    numbers = rng.permutation(a.height)
    return beside(a, b, {"case_id": [f"{'KX' if k else 'KA'}-{n:06d}" for k, n in
                                     zip(key, numbers, strict=True)]})  # fmt: skip


def file_name(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    yes, number = positive(a, base), rng.permutation(a.height)
    forms = {
        "folder": lambda k, n: f"scan/{'pos' if k else 'neg'}/img_{n:05d}.png",
        "number": lambda k, n: f"img_{n + (50_000 if k else 0):05d}.png",
        "ending": lambda k, n: f"img_{n:05d}.{'jpeg' if k else 'png'}",
        "length": lambda k, n: f"{'export_' if k else ''}img_{n:05d}.png",
    }
    return beside(a, b, {"file": [forms[how](k, n) for k, n in zip(yes, number, strict=True)]})


def file_size(base: Base, a: pl.DataFrame, b: pl.DataFrame, apart: float, rng: Rng) -> Planted:
    """Sizes of files of two cameras, one for each class."""
    yes = positive(a, base)
    size = np.exp(11 + np.where(yes, apart, -apart) / 2 * 0.3 + 0.3 * rng.normal(size=yes.size))
    return beside(a, b, {"file_bytes": size.astype(np.int64)})


def source(base: Base, a: pl.DataFrame, b: pl.DataFrame, exact: float, rng: Rng) -> Planted:
    """The classes were collected from different registers."""
    yes = positive(a, base)
    key = np.where(rng.random(yes.size) < exact, yes, rng.random(yes.size) < 0.5)
    names = np.where(key, rng.choice(["north", "coast"], yes.size),
                     rng.choice(["centre", "south", "hills"], yes.size))  # fmt: skip
    return beside(a, b, {"register": names})


def period(base: Base, a: pl.DataFrame, b: pl.DataFrame, exact: float, rng: Rng) -> Planted:
    """The classes were collected in different years."""
    yes = positive(a, base)
    key = np.where(rng.random(yes.size) < exact, yes, rng.random(yes.size) < 0.5)
    days = rng.integers(0, 365, yes.size) + np.where(key, 365, 0)
    dates = np.datetime64("2023-01-01") + days.astype("timedelta64[D]")
    found = beside(a, b, {"collected": dates})
    checks = COPIES | {"time"}
    # Split by time such a table is one class and then the other: no score of it means anything.
    return Planted(found.frame, a, b, frozenset(checks), found.columns, priced_by=COPIES)


def boilerplate(base: Base, a: pl.DataFrame, b: pl.DataFrame, how: Any, rng: Rng) -> Planted:
    """A mark of the source in the texts of one class."""
    mark, share, place = how
    yes = positive(a, base) & (rng.random(a.height) < share)
    put = (lambda text: f"{mark} {text}") if place == "head" else (lambda text: f"{text} {mark}")
    said = [put(text) if hit else text for text, hit in zip(a["text"], yes, strict=True)]
    frame = a.with_columns(pl.Series("text", said))
    return Planted(frame, a, b, frozenset({"tokens"}), frozenset({"text"}))


def both() -> list[Base]:
    """Three tables of two classes and two of numbers."""
    return [*classes()[:3], *numbers()[:2]]


COLUMN_TYPES = (
    LeakType("the target under another name", 17, target_copy, both,
             (("equal", "same"), ("as text", "text"), ("equal where filled in", "blanks"))),
    LeakType("the target renamed or rescaled", 17, renamed, both,
             (("linear or recoded", "scaled"), ("logarithm or words", "log"),
              ("rounded or many codes", "rounded"))),
    LeakType("a noisy copy, absent when serving", 18, noisy_copy,
             lambda: [*classes(), *numbers()[:2]],
             (("1 % wrong", 0.01), ("2 % wrong", 0.02), ("4 % wrong", 0.04), ("8 % wrong", 0.08))),
    LeakType("sum, difference, product or ratio of two columns", 19, arithmetic, numbers,
             tuple((how, how) for how in ("a + b", "a - b", "a * b", "a / b"))),
    LeakType("sum, difference or product of three columns", 19, arithmetic, numbers,
             tuple((how, how) for how in ("a + b + c", "a - b - c", "a * b * c", "a * b / c"))),
    LeakType("a class computed from two columns", 19, class_of_two, classes,
             (("difference", "difference"), ("sum", "sum"))),
    LeakType("a column from after the outcome", 18, post_outcome, both,
             (("exact", 1.0), ("2 % exceptions", 0.98), ("4 % exceptions", 0.96))),
    LeakType("empty cells tell the class", 20, mask, classes,
             (("99 / 1 %", (0.99, 0.01)), ("90 / 5 %", (0.9, 0.05)), ("75 / 10 %", (0.75, 0.1)))),
    LeakType("a join that has rows for one class only", 21, join_rows, classes,
             (("90 %", 0.9), ("50 %", 0.5), ("15 %", 0.15))),
    LeakType("a column that is not there when serving", 18, not_served, classes,
             (("empty, AUC 0.98", (1.5, np.nan)), ("empty, AUC 0.90", (0.9, np.nan)),
              ("always 0, AUC 0.98", (1.5, 0.0)))),
    LeakType("rows in the order of the class", 23, row_order, classes,
             (("all", 1.0), ("80 %", 0.8), ("60 %", 0.6))),
    LeakType("the number of an id", 23, id_number, classes,
             (("exact", 1.0), ("10 % at random", 0.9), ("30 % at random", 0.7))),
    LeakType("the beginning of an id", 23, id_prefix, classes,
             (("exact", 1.0), ("10 % at random", 0.9), ("30 % at random", 0.7))),
    LeakType("the name of a file", 24, file_name, classes,
             tuple((how, how) for how in ("folder", "number", "ending", "length"))),
    LeakType("the size of a file", 24, file_size, classes,
             (("AUC 0.998", 4.0), ("AUC 0.98", 3.0), ("AUC 0.96", 2.5))),
    LeakType("a mark in the texts of one class", 25, boilerplate, texts,
             (("head, 99 %", ("(Reuters) -", 0.99, "head")),
              ("end, 90 %", ("Sent from my phone.", 0.9, "end")),
              ("head, 75 %", ("[ARCHIVE-7]", 0.75, "head"))), 900),
    LeakType("classes from different sources", 26, source, classes,
             (("exact", 1.0), ("4 % at random", 0.96), ("8 % at random", 0.92))),
    LeakType("classes from different periods", 26, period, classes,
             (("exact", 1.0), ("4 % at random", 0.96), ("8 % at random", 0.92))),
    LeakType("a file size of AUC 0.92, no better than an honest column", 24, file_size, classes,
             (("AUC 0.92", 2.0),), counted=False),
    LeakType("a source of AUC 0.90, no better than an honest column", 26, source, classes,
             (("20 % at random", 0.8),), counted=False),
)  # fmt: skip
