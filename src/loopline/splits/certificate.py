"""The certificate of a split: for every border, how many values stand on both sides of it.

A border is the one between training and test, or between training and validation of a fold. At
each border every structure is counted anew from the codes of the rows, not taken from the splitter:
exact rows, rows with equal features, near duplicates, each group column, the order in time with its
gap, and the windows over which labels came about. A claim is `proven` when the settings require it
and nothing straddles. Structure that the settings leave out is counted too, and told, so that
nobody takes silence for proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import mixed
from loopline.digest import value_digest
from loopline.splits.clock import clock_gap
from loopline.splits.deal import Ints, num_codes
from loopline.splits.rows import SplitRows, digest_codes, group_codes
from loopline.splits.spec import (
    EXCLUDED,
    FOLD_TRAIN,
    FOLD_VALID,
    TEST,
    TRAIN,
    SplitSettings,
)
from loopline.splits.windows import meets

Mask = NDArray[np.bool_]
WINDOW, ALIKE = "label window", "near duplicates"


@dataclass(frozen=True)
class Claim:
    """What was counted at one border for one structure.

    Args:
        structure: `rows`, `features`, `near duplicates`, `time`, `label window` or
            ``group <column>``.
        border: `test` or ``fold <number>``.
        straddling: values on both sides (for time and windows: training rows that break it).
        required: whether the settings ask for none.
        sentence: the same for a person.
    """

    structure: str
    border: str
    straddling: int
    required: bool
    sentence: str

    @property
    def proven(self) -> bool:
        """Whether the claim was asked for and holds."""
        return self.required and self.straddling == 0


@dataclass(frozen=True)
class Certificate:
    """Counts, digests and claims; plain data inside the stored split.

    Digests are sums of scrambled row digests, so they do not depend on the order of the rows and
    change with every row. They guard against accidents, not against a forger. `num_common` rows
    were set apart from their equals (`SplitSettings.duplicates` and `common_share`).
    """

    num_rows: int
    num_train: int
    num_test: int
    num_excluded: int
    num_folds: int
    rows_digest: str
    num_units: int = 0
    num_common: int = 0
    train_digest: str = ""
    test_digest: str = ""
    assignment_digest: str = ""
    claims: tuple[Claim, ...] = ()
    class_shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fold_sizes: tuple[tuple[int, int], ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[Claim, ...]:
        """Required claims that do not hold; empty for every split that was ever stored."""
        return tuple(claim for claim in self.claims if claim.required and claim.straddling)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        data = asdict(self)
        data["claims"] = [asdict(claim) for claim in self.claims]
        data["fold_sizes"] = [list(sizes) for sizes in self.fold_sizes]
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Certificate:
        """Read what `to_dict` wrote."""
        values = dict(data)
        values["claims"] = tuple(Claim(**claim) for claim in values.get("claims", ()))
        values["fold_sizes"] = tuple(
            (int(train), int(valid)) for train, valid in values.get("fold_sizes", ())
        )
        return Certificate(**values)


def prove(
    rows: SplitRows,
    digests: NDArray[np.uint64],
    side: NDArray[np.int8],
    folds: NDArray[np.int8],
    settings: SplitSettings,
    *,
    excluded: Mapping[str, int],
    ignored: Mapping[str, pl.Series],
) -> Certificate:
    """Count at every border what stands on both sides.

    Args:
        rows: the rows as read from the table.
        digests: (rows, 2) row digests.
        side: (rows,) sides.
        folds: (rows, folds) parts.
        settings: what was asked for.
        excluded: reason → rows that were left out, as the splitter tells.
        ignored: group and time columns that the settings leave out on purpose.
    """
    claims: list[Claim] = []
    structures = known_structures(rows, digests, settings, ignored)
    for border, left, right in borders(side, folds):
        for name, codes, required in structures:
            count = straddling(codes, left, right)[0]
            claims.append(Claim(name, border, count, required, _told(name, border, count)))
        if rows.order is not None:
            late, distance = too_late(rows, left, right, settings.gap)
            count = int(late.sum())
            required = time_required(rows, settings, border, count)
            claims.append(
                Claim("time", border, count, required, _told_time(rows, border, count, distance))
            )
        if rows.reach is not None:
            count = int(in_window(rows, left, right, settings.gap).sum())
            claims.append(Claim(WINDOW, border, count, True, _told_window(border, count)))
    train, test = side == TRAIN, side == TEST
    words = _row_words(digests)
    return Certificate(
        num_rows=rows.num_rows,
        num_train=int(train.sum()),
        num_test=int(test.sum()),
        num_excluded=int((side == EXCLUDED).sum()),
        num_folds=int(folds.shape[1]),
        num_units=num_codes(rows.units),
        num_common=0 if rows.separate is None else int(rows.separate.sum()),
        rows_digest=_summed(*words),
        train_digest=_summed(*(word[train] for word in words)),
        test_digest=_summed(*(word[test] for word in words)),
        assignment_digest=assignment_digest(digests, side, folds),
        claims=tuple(claims),
        class_shares=_class_shares(rows, {"all": train | True, "train": train, "test": test}),
        fold_sizes=tuple(
            (int((part == FOLD_TRAIN).sum()), int((part == FOLD_VALID).sum())) for part in folds.T
        ),
        excluded=dict(excluded),
    )


def known_structures(
    rows: SplitRows,
    digests: NDArray[np.uint64],
    settings: SplitSettings,
    ignored: Mapping[str, pl.Series],
) -> list[tuple[str, Ints, bool]]:
    """(name, codes, whether nothing may straddle) of each structure that is not time."""
    exact = digest_codes(digests)
    if rows.separate is not None and settings.duplicates != "ignore":
        fresh = int(exact.max()) + 1 + np.arange(exact.size)
        exact = np.where(rows.separate, fresh, exact)  # common values make no claim
    found = [("rows", exact, settings.duplicates != "ignore")]
    if settings.duplicates == "features":
        found.append(("features", rows.twins, True))
    found += [(f"group {name}", codes, True) for name, codes in rows.groups.items()]
    if rows.alike is not None:
        found.append((ALIKE, rows.alike, True))
    for name, series in ignored.items():
        found.append((f"ignored {name}", group_codes(series, allow_empty=True), False))
    return found


def borders(side: NDArray[np.int8], folds: NDArray[np.int8]) -> Iterator[tuple[str, Mask, Mask]]:
    """(name, training rows, rows held out) of each border."""
    test = side == TEST
    if test.any():
        yield "test", side == TRAIN, test
    for number in range(folds.shape[1]):
        part = folds[:, number]
        yield f"fold {number}", part == FOLD_TRAIN, part == FOLD_VALID


def straddling(codes: Ints, left: Mask, right: Mask) -> tuple[int, int, int]:
    """How many codes stand on both sides, and a row of each side that shows it (or -1, -1).

    >>> left = np.array([True, False, True])
    >>> straddling(np.array([5, 5, 7]), left, ~left)
    (1, 0, 1)
    """
    size = int(codes.max()) + 1 if codes.size else 0
    here, there = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    here[codes[left]] = True
    there[codes[right]] = True
    both = here & there
    count = int(both.sum())
    if not count:
        return 0, -1, -1
    shared = both[codes]
    row = int(np.flatnonzero(left & shared)[0])
    return count, row, int(np.flatnonzero(right & (codes == codes[row]))[0])


def too_late(rows: SplitRows, left: Mask, right: Mask, gap: float) -> tuple[Mask, float]:
    """Training rows that are not before every held-out row by the gap; and the distance kept."""
    assert rows.order is not None
    assert rows.clock is not None
    if not left.any() or not right.any():
        return np.zeros(rows.num_rows, dtype=bool), 0.0
    first, last = rows.clock[right].min(), rows.clock[left].max()
    late = left & (rows.order >= rows.order[right].min())
    if gap > 0.0:
        late |= left & (rows.clock > first - clock_gap(gap, rows.clock))
    distance = float(first - last)
    return late, distance if rows.clock.dtype.kind == "f" else distance / 1e6


def time_required(rows: SplitRows, settings: SplitSettings, border: str, late: int) -> bool:
    """Whether nothing may be late at a border.

    A column that numbers the folds may put training rows behind validation rows. With label
    windows, one that says which rows test may do so as well: the windows keep the sides apart, and
    going forward is claimed where it holds.
    """
    if settings.method != "predefined":
        return True
    if rows.reach is not None and (border == "test" or _numbered(rows)):
        return late == 0
    return border == "test" or not _numbered(rows)


def in_window(rows: SplitRows, left: Mask, right: Mask, gap: float) -> Mask:
    """Training rows whose label window meets one held out, or comes nearer than the gap."""
    assert rows.order is not None
    assert rows.reach is not None
    assert rows.clock is not None
    assert rows.until is not None
    return meets(
        left,
        right,
        order=rows.order,
        reach=rows.reach,
        clock=rows.clock,
        until=rows.until,
        gap=clock_gap(gap, rows.clock),
    )


def rows_digest(digests: NDArray[np.uint64]) -> str:
    """Digest of a set of rows, free of their order, 64 hex characters.

    >>> rows = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    >>> rows_digest(rows) == rows_digest(rows[::-1])
    True
    """
    return _summed(*_row_words(digests))


def assignment_digest(
    digests: NDArray[np.uint64], side: NDArray[np.int8], folds: NDArray[np.int8]
) -> str:
    """Digest of which row stands where, free of the order of the rows."""
    place = side.astype(np.uint64)
    for number in range(folds.shape[1]):
        if number % 30 == 29:  # two bits a fold: scramble before 64 bits are full
            place = mixed(place)
        place = (place << np.uint64(2)) + folds[:, number].astype(np.uint64)
    first, second = _row_words(digests)
    place = mixed(place)
    return _summed(mixed(first ^ place), mixed(second + place))


def _row_words(digests: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    first, second = digests[:, 0], digests[:, 1]
    return mixed(mixed(first) + second), mixed(mixed(second) ^ first)


def _summed(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> str:
    return value_digest([int(first.size), f"{first.sum():016x}", f"{second.sum():016x}"])


def _numbered(rows: SplitRows) -> bool:
    return rows.part is not None and bool((rows.part >= 0).any())


def _told(name: str, border: str, count: int) -> str:
    what = {
        "rows": "exact row",
        "features": "set of equal features",
        ALIKE: "set of near duplicates",
    }.get(name, f"value of {name}")
    return f"{_where(border)}: {count or 'no'} {what}{'s' if count > 1 else ''} on both sides."


def _told_time(rows: SplitRows, border: str, count: int, distance: float) -> str:
    if count:
        return f"{_where(border)}: {count} training rows are not early enough."
    assert rows.clock is not None
    unit = "" if rows.clock.dtype.kind == "f" else " seconds"
    return f"{_where(border)}: every training row is earlier, the nearest by {distance:g}{unit}."


def _told_window(border: str, count: int) -> str:
    told = f"{count:,} label windows of training meet" if count else "no label window meets"
    return f"{_where(border)}: {told} one that is held out."


def _where(border: str) -> str:
    if border == "test":
        return "Training and test"
    return f"Training and validation of {border}"


def _class_shares(rows: SplitRows, sides: Mapping[str, Mask]) -> dict[str, dict[str, float]]:
    if rows.labels is None or not rows.classes:
        return {}
    shares = {}
    for name, chosen in sides.items():
        counts = np.bincount(rows.labels[chosen], minlength=len(rows.classes))
        total = max(int(counts.sum()), 1)
        shares[name] = {
            label: int(count) / total for label, count in zip(rows.classes, counts, strict=True)
        }
    return shares
