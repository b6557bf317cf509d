"""What a splitter is told about the rows: who belongs together, when, which class.

`read_rows` turns a table and its settings into `SplitRows`, once. All refusals that concern the
data alone (empty group cells, times that cannot be ordered, labels that are no class) happen here,
so splitters deal with whole numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import connected as components
from loopline.data.duplicates.clusters import mixed, sorted_order
from loopline.data.fingerprint import digests_without, row_digests
from loopline.data.schema import Schema, has_classes
from loopline.errors import DataError
from loopline.splits.clock import rows_named, time_ranks
from loopline.splits.deal import Ints, dense, row_keys
from loopline.splits.spec import SplitSettings
from loopline.splits.views import encode_target, strata
from loopline.splits.windows import refuse_as_feature, window_ends, window_reach

Digests = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class SplitRows:
    """The rows as a splitter sees them; every array has one entry a row.

    Args:
        keys: scrambled identity; the source of all randomness.
        units: rows with the same code must share a side.
        twins: rows with the same code are duplicates in the sense of the settings.
        separate: rows whose equals count as separate observations (common values); None for none.
        groups: one array of codes for each group column, by name.
        alike: rows with the same code are near duplicates; None when nobody looked for them.
        order: rank in time, equal for equal times; None when the method knows no time.
        clock: the first time column: microseconds (int64) or numbers (float64).
        until: the end of the label's window on that clock; None without label windows.
        reach: the latest rank in time that lies within the window; None without label windows.
        labels: class codes, a row's rarest label where it has several, or bins of a numeric target;
            None when there is nothing to stratify.
        classes: names of the labels, for messages; empty for bins and where rows have several.
        part: for a predefined split: -1 test, -2 train, or the number of the validation fold.
        places: where the rows stand in the table.
    """

    keys: NDArray[np.uint64]
    units: Ints
    twins: Ints
    separate: NDArray[np.bool_] | None = None
    groups: dict[str, Ints] = field(default_factory=dict)
    alike: Ints | None = None
    order: Ints | None = None
    clock: NDArray[Any] | None = None
    until: NDArray[Any] | None = None
    reach: Ints | None = None
    labels: Ints | None = None
    classes: tuple[str, ...] = ()
    part: Ints | None = None
    places: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.keys.size)

    def only(self, chosen: NDArray[np.bool_]) -> SplitRows:
        """The chosen rows."""
        if chosen.all():
            return self

        def cut(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[chosen]

        return replace(
            self,
            keys=cut(self.keys),
            units=cut(self.units),
            twins=cut(self.twins),
            separate=cut(self.separate),
            groups={name: cut(codes) for name, codes in self.groups.items()},
            alike=cut(self.alike),
            order=cut(self.order),
            clock=cut(self.clock),
            until=cut(self.until),
            reach=cut(self.reach),
            labels=cut(self.labels),
            part=cut(self.part),
            places=cut(self.places),
        )


def read_rows(
    table: pl.DataFrame,
    schema: Schema,
    digests: Digests,
    settings: SplitSettings,
    feature_digests: Digests | None = None,
    alike: Ints | None = None,
) -> SplitRows:
    """Read from a table what its split depends on.

    Args:
        table: all rows, all columns that schema and settings name.
        schema: roles, task and classes.
        digests: (rows, 2) row digests of the table.
        settings: which columns make groups and time, and what counts as a duplicate.
        feature_digests: (rows, 2) row digests of the feature columns alone; computed when absent.
        alike: codes of near duplicates, equal where rows belong together
            (`loopline.data.duplicates.find`); no effect with ``duplicates: ignore``.

    Raises:
        DataError: a column is missing, a group or time cell is empty, a time cannot be ordered, a
            label is no class, a label window ends before it starts. Rows are named.
        LeakError: the column that ends the label windows is left a feature.
    """
    wanted = [schema.target, *settings.group, *settings.time]
    wanted += [name for name in (settings.column, settings.label_end) if name]
    missing = sorted({name for name in wanted if name not in table.columns})
    if missing:
        raise DataError(f"The split needs columns that the table lacks: {', '.join(missing)}.")
    if digests.shape != (table.height, 2):
        raise DataError(
            f"Row digests must have shape ({table.height}, 2), one for each row of the table, got "
            f"{digests.shape}."
        )
    if not table.height:
        raise DataError("There is nothing to split: the table has no rows.")
    twins, separate, occurrence = _twins(table, schema, digests, settings, feature_digests)
    groups = {name: group_codes(table[name]) for name in settings.group}
    order, clock = (None, None)
    if settings.time:
        order, clock = time_ranks(table.select(settings.time))
    until, reach = (None, None)
    if settings.label_end is not None:
        assert order is not None
        assert clock is not None
        refuse_as_feature(schema, settings.label_end)
        until = window_ends(table[settings.time[0]], table[settings.label_end], clock)
        reach = window_reach(order, clock, until)
    labels, classes = _labels(table, schema, settings)
    if alike is not None and settings.duplicates == "ignore":
        alike = None  # equal rows are separate observations, so rows that are alike are as well
    if alike is not None:
        if alike.shape != (table.height,):
            raise DataError(
                f"Codes of near duplicates must have shape ({table.height},), got {alike.shape}."
            )
        alike = _leaders(alike, twins, separate)
    together = [*groups.values()] if alike is None else [*groups.values(), alike]
    return SplitRows(
        keys=row_keys(digests) if occurrence is None else mixed(row_keys(digests) + occurrence),
        units=connected(twins, together),
        twins=twins,
        separate=separate,
        groups=groups,
        alike=alike,
        order=order,
        clock=clock,
        until=until,
        reach=reach,
        labels=labels,
        classes=classes,
        part=_parts(table[settings.column], settings) if settings.column else None,
        places=np.arange(table.height, dtype=np.int64),
    )


def _leaders(alike: Ints, twins: Ints, separate: NDArray[np.bool_] | None) -> Ints:
    """Codes of near duplicates, named by their smallest duplicate code; common values stand alone.

    So the names do not depend on the order of the rows.
    """
    codes, count = dense(alike)
    if separate is not None and separate.any():
        codes = dense(np.where(separate, count + np.arange(codes.size), codes))[0]
    return connected(twins, [codes])


def feature_digests_of(table: pl.DataFrame, schema: Schema, digests: Digests) -> Digests:
    """Row digests of the feature columns alone, made from those of the whole table.

    Args:
        table: all rows.
        schema: which columns are features.
        digests: (rows, 2) `row_digests` of the table.
    """
    return digests_without(table, digests, set(table.columns) - set(schema.features))


def digest_codes(digests: Digests) -> Ints:
    """Codes 0 … that are equal where digests are equal, numbered in the order of the digests.

    >>> digest_codes(np.array([[9, 1], [2, 2], [9, 1]], dtype=np.uint64))
    array([1, 0, 1])
    """
    order = sorted_order(digests[:, 0])
    first = digests[order, 0]
    second = digests[order, 1]
    same = first[1:] == first[:-1]
    if np.any(same & (second[1:] != second[:-1])):  # two digests that agree in their first half
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        first, second = digests[order, 0], digests[order, 1]
        same = first[1:] == first[:-1]
    codes = np.empty(order.size, dtype=np.int64)
    new = np.ones(order.size, dtype=np.int64)
    new[1:] = ~(same & (second[1:] == second[:-1]))
    codes[order] = np.cumsum(new) - 1
    return codes


def numbered(codes: Ints) -> tuple[Ints, NDArray[np.uint64]]:
    """Rows numbered in the order of their codes, and the how-manieth of its equals each row is.

    >>> number, occurrence = numbered(np.array([1, 0, 1]))
    >>> number.tolist(), occurrence.tolist()
    ([1, 0, 2], [0, 0, 1])
    """
    place = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[place], np.arange(int(codes.max(initial=-1)) + 1))
    number = np.empty(codes.size, dtype=np.int64)
    number[place] = np.arange(codes.size)
    return number, (number - starts[codes]).astype(np.uint64)


def _twins(
    table: pl.DataFrame,
    schema: Schema,
    digests: Digests,
    settings: SplitSettings,
    feature_digests: Digests | None,
) -> tuple[Ints, NDArray[np.bool_] | None, NDArray[np.uint64] | None]:
    """Duplicate codes, the rows set apart from their equals, and the how-manieth equal each is."""
    by_features = settings.duplicates == "features" and bool(schema.features)
    if by_features and feature_digests is None:
        feature_digests = row_digests(table.select(schema.features))
    codes = digest_codes(
        feature_digests if by_features and feature_digests is not None else digests
    )
    sizes = np.bincount(codes)
    limit = 0.0 if settings.duplicates == "ignore" else settings.common_share * table.height
    common = sizes > limit
    if settings.duplicates != "ignore" and (settings.common_share >= 1.0 or not common.any()):
        return codes, None, None
    exact = digest_codes(digests) if by_features else codes
    number, occurrence = numbered(exact)
    separate = common[codes]
    apart = np.where(separate, sizes.size + number, codes)
    return dense(apart)[0], separate, occurrence


def group_codes(series: pl.Series, *, allow_empty: bool = False) -> Ints:
    """Codes that are equal where the values of a group column are equal.

    Args:
        series: the column.
        allow_empty: treat empty cells as one more value; only for structure that is ignored.

    Raises:
        DataError: an empty cell (the rows are named): nobody knows where such a row belongs.
    """
    empty = series.is_null()
    if series.dtype.is_float():
        empty |= series.is_nan()
    if empty.any() and not allow_empty:
        raise DataError(
            f"The group column {series.name!r} is empty in {rows_named(empty)}; nobody can tell "
            "which rows belong with them. Fill the cells, drop the rows, or give each its own "
            "value."
        )
    frame = pl.DataFrame({"group": series}).with_row_index("row")
    first = frame.select(pl.col("row").first().over("group"))["row"]
    return dense(first.to_numpy().astype(np.int64))[0]


def connected(base: Ints, others: Sequence[Ints]) -> Ints:
    """Codes of the connected components of rows that share a code in any of the arrays.

    The components are numbered by their smallest `base` code, so the numbers do not depend on the
    order of the rows where `base` does not. The graph is the bipartite one of codes, the rows its
    edges (`loopline.data.duplicates.clusters`).

    >>> connected(np.array([0, 1, 2, 3]), [np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])])
    array([0, 0, 0, 1])
    """
    units, num_units = dense(base)
    for other in others:
        codes, num_codes = dense(other)
        units, num_units = _joined(units, num_units, codes, num_codes)
    return units


def _joined(a: Ints, num_a: int, b: Ints, num_b: int) -> tuple[Ints, int]:
    lowest = np.full(num_b, num_a, dtype=np.int64)
    np.minimum.at(lowest, b, a)
    leader = lowest[b]  # the smallest unit among the rows of the same code
    apart = leader != a
    if not apart.any():
        return a, num_a
    return dense(components(num_a, leader[apart], a[apart])[a])


def _labels(
    table: pl.DataFrame, schema: Schema, settings: SplitSettings
) -> tuple[Ints | None, tuple[str, ...]]:
    target = encode_target(table[schema.target], schema, np.arange(table.height))
    if schema.task == "multilabel":
        return strata(target, schema.task), ()
    if has_classes(schema.task):
        return target.astype(np.int64), tuple(str(label) for label in schema.classes)
    if settings.method not in ("stratified", "group_stratified"):
        return None, ()
    num_bins = int(np.clip(table.height // 50, 2, 10))
    edges = np.quantile(target, np.arange(1, num_bins) / num_bins)
    return np.searchsorted(np.unique(edges), target, side="right").astype(np.int64), ()


TEST_WORDS = ("test",)
TRAIN_WORDS = ("train", "training")
VALID_WORDS = ("validation", "valid", "val")


def _parts(series: pl.Series, settings: SplitSettings) -> Ints:
    """-1 test, -2 train, else the number of the fold that the row validates."""
    text = series.cast(pl.String).str.strip_chars().str.to_lowercase()
    empty = text.is_null()
    if empty.any():
        raise DataError(f"The split column {series.name!r} is empty in {rows_named(empty)}.")
    values = text.unique().sort().to_list()
    code: dict[str, int] = {}
    strange = []
    for value in values:
        if value in TEST_WORDS:
            code[value] = -1
        elif value in TRAIN_WORDS:
            code[value] = -2
        elif value in VALID_WORDS:
            code[value] = 0
        elif value.isdecimal():
            code[value] = int(value)
        else:
            strange.append(value)
    numbers = [value for value in values if value.isdecimal()]
    words = [value for value in values if value in VALID_WORDS]
    if strange:
        row = int((text == strange[0]).arg_max() or 0)
        raise DataError(
            f"The split column {series.name!r} holds {strange[0]!r} (row {row}); it may hold "
            "train, "
            "validation and test, or train, test and fold numbers from 0."
        )
    if numbers and words:
        raise DataError(
            f"The split column {series.name!r} holds both {words[0]!r} and fold numbers "
            f"({', '.join(numbers[:5])}); use one of the two."
        )
    del settings
    return text.replace_strict(
        values, [code[value] for value in values], return_dtype=pl.Int64
    ).to_numpy()
