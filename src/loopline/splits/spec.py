"""What a person may ask of a split, checked before any row is looked at.

`SplitSettings` is plain data: it goes into the stored split, so that the same settings on the same
rows can be replayed and compared years later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from loopline.errors import SettingsError

Method = Literal[
    "random", "stratified", "group", "group_stratified", "time", "group_time", "predefined"
]
Duplicates = Literal["features", "rows", "ignore"]

METHODS: tuple[str, ...] = get_args(Method)
GROUP_METHODS = frozenset({"group", "group_stratified", "group_time"})
TIME_METHODS = frozenset({"time", "group_time"})

TRAIN, TEST, EXCLUDED = 0, 1, 2
"""Values of `Split.side`."""
UNUSED, FOLD_TRAIN, FOLD_VALID = 0, 1, 2
"""Values of `Split.folds`."""


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How the rows are to be divided.

    Args:
        method: which splitter (see `loopline.splits.splitters`).
        test_share: share of the rows for the test side, in (0, 1), or 0 for no test side. For
            ``predefined`` only 0 has an effect: it allows a column that marks no test rows.
        num_folds: number of folds of the training side, 2 to 100, or 0 for none. No effect where a
            ``predefined`` column marks the validation rows itself.
        group: columns whose equal values must share a side. Several columns mean several
            structures: rows that share a value in *any* of them stay together.
        time: columns that order the rows, compared from the first to the last.
        gap: least distance between the last training and the first test time, on the first time
            column: seconds for dates and times, the column's own units for numbers. With label
            windows it counts from the end of the window, and to both sides of what is held out.
        label_end: column with the end of the window over which a row's label came about; the first
            time column is its start, and an empty cell means that start. A training row whose
            window meets that of a row held out against it is left out (purged).
            Source: M. López de Prado, "Advances in Financial Machine Learning", 2018, section 7.4.
        column: for ``predefined``: the column that says `train`, `validation` or `test`, or the
            number of the fold that a training row validates.
        duplicates: which rows count as the same row. `features`: rows whose features are all
            equal, whatever their target. `rows`: rows that are equal in every column. `ignore`:
            none; for tables of few distinct values, where equal rows are separate observations.
        common_share: a set of equal rows that holds more than this share of all rows is a common
            value, not a repeated record, and its rows count as separate observations. 1: never.
        ignore_structure: allow a method that does not honour a column whose role is `group` or
            `time`. The certificate then counts what straddles instead of proving that nothing does.
        seed: the seed of every random choice, 0 or larger.

    Raises:
        SettingsError: all wrong or contradictory settings at once.

    >>> SplitSettings("random", test_share=0.25).num_folds
    5
    >>> SplitSettings("random", num_folds=1)
    Traceback (most recent call last):
    loopline.errors.SettingsError: split: `num_folds` must be 0 (no folds) or 2 to 100, got 1.
    """

    method: Method
    test_share: float = 0.2
    num_folds: int = 5
    group: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    gap: float = 0.0
    label_end: str | None = None
    column: str | None = None
    duplicates: Duplicates = "features"
    common_share: float = 1.0
    ignore_structure: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise SettingsError(problems, "split")

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        data = asdict(self)
        if self.label_end is None:  # settings of before it was known keep their identity
            del data["label_end"]
        return data | {"group": list(self.group), "time": list(self.time)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> SplitSettings:
        """Read what `to_dict` wrote. Raises `SettingsError` for unknown names."""
        known = {field.name for field in fields(SplitSettings)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise SettingsError(
                [
                    f"`{name}` is not a setting; there are {', '.join(sorted(known))}."
                    for name in unknown
                ],
                "split",
            )
        values = dict(data)
        for name in ("group", "time"):
            values[name] = tuple(values.get(name, ()))
        return SplitSettings(**values)


def _problems(settings: SplitSettings) -> list[str]:
    found: list[str] = []
    method = settings.method
    if method not in METHODS:
        found.append(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
        return found
    if not 0.0 <= settings.test_share < 1.0:
        found.append(
            "`test_share` must lie between 0 (no test side) and 1 (excluded), got "
            f"{settings.test_share}."
        )
    if settings.num_folds != 0 and not 2 <= settings.num_folds <= 100:
        found.append(f"`num_folds` must be 0 (no folds) or 2 to 100, got {settings.num_folds}.")
    if not (math.isfinite(settings.gap) and settings.gap >= 0.0):
        found.append(f"`gap` must be a number >= 0, got {settings.gap}.")
    elif settings.gap > 0.0 and not _knows_distance(settings):
        found.append(
            f"`gap` needs a method that knows time (time, group_time), got method {method!r}."
        )
    found += _window_problems(settings)
    if method in TIME_METHODS and not settings.time:
        found.append(
            f"method {method!r} needs `time`: the column (or columns) that orders the rows."
        )
    if method in GROUP_METHODS and not settings.group:
        found.append(
            f"method {method!r} needs `group`: the column (or columns) whose values stay together."
        )
    if settings.time and method not in TIME_METHODS | {"predefined"}:
        found.append(f"`time` has no effect with method {method!r}; use time or group_time.")
    if settings.group and method not in GROUP_METHODS | {"predefined"}:
        found.append(
            f"`group` has no effect with method {method!r}; use group, group_stratified or "
            "group_time."
        )
    if settings.column is not None and method != "predefined":
        found.append(f"`column` has no effect with method {method!r}; use predefined.")
    for name, columns in (("group", settings.group), ("time", settings.time)):
        if len(set(columns)) < len(columns):
            found.append(f"`{name}` names a column twice: {', '.join(columns)}.")
    if settings.duplicates not in get_args(Duplicates):
        found.append(
            f"`duplicates` must be one of {', '.join(get_args(Duplicates))}, got "
            f"{settings.duplicates!r}."
        )
    if not 0.0 < settings.common_share <= 1.0:
        found.append(f"`common_share` must lie in (0, 1], got {settings.common_share}.")
    elif settings.common_share < 1.0 and settings.duplicates == "ignore":
        found.append("`common_share` has no effect with `duplicates: ignore`.")
    if settings.seed < 0:
        found.append(f"`seed` must be >= 0, got {settings.seed}.")
    return found


def _knows_distance(settings: SplitSettings) -> bool:
    if settings.method in TIME_METHODS:
        return True
    return settings.method == "predefined" and settings.label_end is not None


def _window_problems(settings: SplitSettings) -> list[str]:
    if settings.label_end is None:
        return []
    if settings.method not in TIME_METHODS | {"predefined"}:
        return [
            "`label_end` needs a method that knows time (time, group_time, predefined), got method "
            f"{settings.method!r}: dealt at random, nearly every label window would meet a "
            "held-out one. Name the start of the window as the time column."
        ]
    if not settings.time:
        return ["`label_end` needs `time`: the column in which the label's window starts."]
    if settings.label_end in settings.time:
        return [
            f"`label_end` and `time` both name {settings.label_end!r}; the end of a window is "
            "another column than its start."
        ]
    return []
