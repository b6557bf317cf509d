"""Proposing a split from the roles of the columns, with the reason for a person to judge.

A group column asks for groups to stay whole, a time column for training on the past; classes ask
for equal shares. What the settings say goes before; what they leave open is filled in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Schema, has_classes, has_labels
from loopline.errors import SettingsError
from loopline.splits.rows import digest_codes
from loopline.splits.spec import GROUP_METHODS, METHODS, TIME_METHODS, SplitSettings

TEST_SHARE = 0.2
NUM_FOLDS = 5
NUM_FOLDS_LARGE = 3
LARGE_ROWS = 100_000
"""Above so many training rows a fold's score is precise enough with fewer folds."""
TINY_ROWS = 100
INEVITABLE_ROWS = 10
"""With so many rows for each possible set of features equal rows are no copies."""
COMMON_SHARE = 0.05
COMMON_ROWS = 100
"""Equal rows are a common value above this share of the rows, and above so many rows."""

_NAMES = {"test": "test_share", "folds": "num_folds"}
_OPEN = (
    "method",
    "test_share",
    "num_folds",
    "gap",
    "label_end",
    "column",
    "group",
    "time",
    "duplicates",
    "common_share",
    "ignore_structure",
)


def propose_split(
    schema: Schema,
    frame: pl.DataFrame,
    given: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    feature_digests: Callable[[], NDArray[np.uint64]] | None = None,
) -> tuple[SplitSettings, str]:
    """Settings for the split of a table, and one sentence or more that say why.

    Args:
        schema: roles and task.
        frame: the rows; looked at for counts only (classes, groups, distinct values).
        given: what a person decided: any of `method` (or "auto"), `test` or `test_share`, `folds`
            or `num_folds`, `gap`, `label_end`, `column`, `group`, `time`, `duplicates`,
            `common_share`, `ignore_structure`.
        seed: of the split's random choices.
        feature_digests: gives the row digests of the feature columns, called where they are
            needed; by default they are computed.

    Raises:
        SettingsError: an unknown name, or settings that contradict each other.

    >>> from loopline.data.schema import Column
    >>> columns = (Column("day", "datetime", "time"), Column("y", "number", "target"))
    >>> frame = pl.DataFrame({"day": range(1000), "y": range(1000)})
    >>> settings, reason = propose_split(Schema(columns, "regression"), frame)
    >>> settings.method, settings.num_folds
    ('time', 5)
    >>> print(reason)
    Time: 'day' orders the rows; the latest 20% of them are for the test.
    """
    values = {_NAMES.get(name, name): value for name, value in (given or {}).items()}
    values = {name: value for name, value in values.items() if value is not None}
    unknown = sorted(set(values) - set(_OPEN))
    if unknown:
        raise SettingsError(
            [f"`{name}` is not a setting; there are {', '.join(_OPEN)}." for name in unknown],
            "split",
        )
    method = str(values.pop("method", "auto"))
    if method not in ("auto", *METHODS):
        raise SettingsError(
            [f"`method` must be auto or one of {', '.join(METHODS)}, got {method!r}."], "split"
        )
    asked = method != "auto"
    if not asked:
        method = _best_method(schema, values)
    elif method == "group" and has_labels(schema.task):
        method = "group_stratified"
    group = tuple(values.pop("group", ())) or schema.with_role("group")
    time = tuple(values.pop("time", ())) or schema.with_role("time")
    chosen: dict[str, Any] = {"method": method, "seed": seed, "test_share": TEST_SHARE}
    if method in GROUP_METHODS or method == "predefined":
        chosen["group"] = group
    if method in TIME_METHODS or (
        method == "predefined"
        and ("label_end" in values or _goes_forward(frame, time, values.get("column")))
    ):
        chosen["time"] = time
    told = ""
    if "duplicates" not in values and "common_share" not in values:
        repeats, told = _repeats(schema, frame, feature_digests)
        chosen |= repeats
    chosen |= values
    notes = [_why(method, schema, chosen, asked=asked)]
    if "num_folds" not in values:
        chosen["num_folds"], note = _folds(schema, frame, chosen)
        notes.append(note)
    notes.append(told)
    if "label_end" in values:
        notes.append(
            f"Rows whose label was known only in {values['label_end']!r} are left out of training "
            "where that reaches into what is held out."
        )
    if frame.height < TINY_ROWS:
        notes.append(
            f"With {frame.height:,} rows a test side of {chosen['test_share']:.0%} measures "
            "little; read the intervals, not the scores."
        )
    return SplitSettings(**chosen), " ".join(note for note in notes if note)


def _best_method(schema: Schema, values: Mapping[str, Any]) -> str:
    if values.get("column") is not None:
        return "predefined"
    group = bool(values.get("group") or schema.with_role("group"))
    time = bool(values.get("time") or schema.with_role("time"))
    classes = has_labels(schema.task)
    if group:
        return "group_time" if time else "group_stratified" if classes else "group"
    return "time" if time else "stratified" if classes else "random"


def _why(method: str, schema: Schema, chosen: Mapping[str, Any], *, asked: bool) -> str:
    kept = "class shares" if has_classes(schema.task) else "share of each row's rarest label"
    group = ", ".join(repr(name) for name in chosen.get("group", ()))
    time = ", ".join(repr(name) for name in chosen.get("time", ()))
    share = f"{chosen['test_share']:.0%}"
    test = f"{share} of the rows are for the test"
    text = {
        "random": f"Random: no column groups or orders the rows; {test}.",
        "stratified": f"Stratified: {test}, with the {kept} of {schema.target!r} kept.",
        "group": f"Group: rows of one {group} stay together; {test}.",
        "group_stratified": (
            f"Group: rows of one {group} stay together; {test}, with the {kept} of "
            f"{schema.target!r} kept as well as groups allow."
        ),
        "time": f"Time: {time} orders the rows; the latest {share} of them are for the test.",
        "group_time": (
            f"Group and time: the test rows are later in {time} and of a {group} that training "
            "never saw."
        ),
        "predefined": f"Predefined: the column {chosen.get('column')!r} says which rows are test.",
    }[method]
    return text.replace(":", " (set by `split.method`):", 1) if asked else text


def _goes_forward(frame: pl.DataFrame, time: tuple[str, ...], column: str | None) -> bool:
    """Whether the given test rows are all later than the given training rows."""
    if not time or column is None or column not in frame.columns:
        return False
    if any(name not in frame.columns or frame[name].null_count() for name in time):
        return False
    is_test = frame[column].cast(pl.String).str.strip_chars().str.to_lowercase() == "test"
    first = frame.filter(is_test).select(time).unique().sort(time).head(1)
    last = frame.filter(~is_test).select(time).unique().sort(time).tail(1)
    return bool(first.height and last.height and last.row(0) < first.row(0))


def _folds(schema: Schema, frame: pl.DataFrame, chosen: Mapping[str, Any]) -> tuple[int, str]:
    """Number of folds, lowered where classes or groups are too few, and why."""
    share = float(chosen["test_share"])
    train_rows = frame.height * (1.0 - share)
    folds = NUM_FOLDS_LARGE if train_rows > LARGE_ROWS else NUM_FOLDS
    method = chosen["method"]
    if has_classes(schema.task) and method not in TIME_METHODS:
        counts = frame[schema.target].drop_nulls().value_counts(sort=True)
        rarest = int(counts["count"].min() or 0)  # type: ignore[arg-type]
        left = rarest - (max(1, round(share * rarest)) if share else 0)
        if 2 <= left < folds:
            label = counts[schema.target][-1]
            return left, f"{left} folds, because class {label!r} has only {rarest} rows."
    if method in GROUP_METHODS and chosen["group"]:
        fewest = min(frame[name].n_unique() for name in chosen["group"])
        left = int(np.floor(fewest * (1.0 - share)))
        if 2 <= left < folds:
            return left, f"{left} folds, because there are only {fewest} groups."
    return folds, ""


def _repeats(
    schema: Schema,
    frame: pl.DataFrame,
    feature_digests: Callable[[], NDArray[np.uint64]] | None,
) -> tuple[dict[str, Any], str]:
    """Settings for equal rows that are no repeated records, and why.

    Where features can take so few values together that each stands on many rows, repeats are
    inevitable; texts can take any number of values, so a text that stands twice is a copy. Where
    one set of equal features holds more than a twentieth of the rows, it is a common value (an
    empty form, a default reading): a model learns its average from it and nothing to remember.
    """
    possible = 1
    for column in schema.columns:
        if column.role != "feature":
            continue
        possible *= max(1, frame[column.name].n_unique())
        if column.type == "text" or possible * INEVITABLE_ROWS > frame.height:
            break
    else:
        if not schema.features:
            return {"duplicates": "ignore"}, ""
        return {"duplicates": "ignore"}, (
            f"Equal rows count as separate observations, because the features can only take "
            f"{possible:,} different values together and there are {frame.height:,} rows."
        )
    share = max(COMMON_SHARE, COMMON_ROWS / max(frame.height, 1))
    if share >= 1.0:
        return {}, ""
    digests = feature_digests or (lambda: row_digests(frame.select(schema.features)))
    sizes = np.bincount(digest_codes(digests()))
    largest = int(sizes.max())
    if largest <= share * frame.height:
        return {}, ""
    return {"common_share": share}, (
        f"Values as common as the one that {largest:,} rows share in all features "
        f"({largest / frame.height:.1%} of the rows) count as separate observations, not as "
        "repeated records."
    )
