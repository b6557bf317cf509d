"""Each claim of the certificate is proved anew by `verify`: one moved row breaks it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, IntegrityError, SplitError
from loopline.splits.certificate import ALIKE, prove
from loopline.splits.deal import shares_unit
from loopline.splits.rows import read_rows
from loopline.splits.spec import EXCLUDED, FOLD_TRAIN, FOLD_VALID, TEST, TRAIN, SplitSettings
from loopline.splits.split import Split, make_split
from loopline.splits.splitters import SPLITTERS
from loopline.splits.verify import verify

ROLES = {"home": "group", "day": "time", "known": "ignore", "part": "ignore"}


def schema_for(*used: str) -> Schema:
    roles = {name: role if name in used else "ignore" for name, role in ROLES.items()}
    columns = [Column("x", "number"), Column("z", "number")]
    columns += [Column(name, "number", role) for name, role in roles.items()]  # type: ignore[arg-type]
    return Schema((*columns, Column("y", "number", "target")), "regression")


def rows_of(num_rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Two exact copies, two rows with equal features, and a near copy, for many rows."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 200, num_rows)).astype(float)
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=num_rows),
            "z": rng.normal(size=num_rows),
            "home": rng.integers(0, 60, num_rows),
            "day": day,
            "known": day + rng.integers(0, 8, num_rows),
            "part": rng.choice(["train", "test"], num_rows, p=[0.8, 0.2]),
            "y": rng.normal(size=num_rows),
        }
    )
    copies = frame.head(40)
    return pl.concat([frame, copies, frame[40:80].with_columns(y=pl.col("y") + 1.0)])


def near_codes(frame: pl.DataFrame, seed: int = 0, share: float = 0.1) -> np.ndarray:
    """Made-up near duplicates: some rows belong with another row."""
    rng = np.random.default_rng(seed)
    codes = np.arange(frame.height)
    near = rng.random(frame.height) < share
    codes[near] = rng.integers(0, frame.height, int(near.sum()))
    return codes


CASES: dict[str, tuple[tuple[str, ...], SplitSettings, bool]] = {
    "rows": ((), SplitSettings("random", duplicates="rows"), False),
    "features": ((), SplitSettings("random"), False),
    ALIKE: ((), SplitSettings("random"), True),
    "group home": (
        ("home",),
        SplitSettings("group", group=("home",), duplicates="ignore"),
        False,
    ),
    "time": (("day",), SplitSettings("time", time=("day",), duplicates="ignore"), False),
    "gap": (("day",), SplitSettings("time", time=("day",), gap=9.0, duplicates="ignore"), False),
    "label window": (
        ("day",),
        SplitSettings("time", time=("day",), label_end="known", duplicates="ignore"),
        False,
    ),
}


def made(name: str) -> tuple[Split, pl.DataFrame, Schema, np.ndarray | None]:
    used, asked, near = CASES[name]
    frame, schema = rows_of(), schema_for(*used)
    alike = near_codes(frame) if near else None
    return make_split(frame, schema, row_digests(frame), asked, alike=alike), frame, schema, alike


def moved(name: str, split: Split, frame: pl.DataFrame, alike: np.ndarray | None) -> int:
    """A row that breaks exactly this structure when it is put on the training side."""
    test = split.side == TEST
    if name == "rows":
        return int(np.flatnonzero(test & frame.is_duplicated().to_numpy())[0])
    if name == "features":
        equal = frame.select("x", "z").is_duplicated() & ~frame.is_duplicated()
        return int(np.flatnonzero(test & equal.to_numpy())[0])
    if name == ALIKE:
        assert alike is not None
        sizes = np.bincount(alike)
        single = ~frame.select("x", "z").is_duplicated().to_numpy()
        return int(np.flatnonzero(test & (sizes[alike] > 1) & single)[0])
    if name in ("gap", "label window"):
        return int(np.flatnonzero(split.side == EXCLUDED)[0])
    return int(np.flatnonzero(test)[5])


@pytest.mark.parametrize("name", sorted(CASES))
def test_one_moved_row_breaks_the_claim(name: str) -> None:
    """The claim is proven and verifies; with one row moved, `verify` names the structure."""
    split, frame, schema, alike = made(name)
    structure = "time" if name == "gap" else name
    claims = [claim for claim in split.certificate.claims if claim.structure == structure]
    assert claims
    assert all(claim.proven for claim in claims)
    assert verify(split, frame, schema, alike=alike) == split.certificate
    row = moved(name, split, frame, alike)
    side, folds = split.side.copy(), split.folds.copy()
    side[row], folds[row] = TRAIN, 0
    with pytest.raises(IntegrityError, match=rf"The proof failed \(test, {structure}\)"):
        verify(replace(split, side=side, folds=folds), frame, schema, alike=alike)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_certificate_counts_the_moved_row(name: str) -> None:
    """A certificate made of sides with one row moved has a broken claim on that structure."""
    split, frame, schema, alike = made(name)
    row, digests = moved(name, split, frame, alike), row_digests(frame)
    side = split.side.copy()
    side[row] = TRAIN
    rows = read_rows(frame, schema, digests, split.settings, None, alike)
    again = prove(rows, digests, side, split.folds, split.settings, excluded={}, ignored={})
    broken = [claim for claim in again.broken if claim.border == "test"]
    assert ("time" if name == "gap" else name) in {claim.structure for claim in broken}
    assert not any(claim.proven for claim in broken)


def test_near_duplicates_are_needed_to_prove_them() -> None:
    """A claim about near duplicates is not taken from the certificate."""
    split, frame, schema, _ = made(ALIKE)
    with pytest.raises(IntegrityError, match=r"look for them in the rows again and give"):
        verify(split, frame, schema)


def test_other_near_duplicates_are_another_certificate() -> None:
    """When more rows belong together than were kept together, the proof fails."""
    split, frame, schema, alike = made(ALIKE)
    assert alike is not None
    more = alike.copy()
    more[:30] = more[0]
    with pytest.raises(IntegrityError, match=r"\(test, near duplicates\)"):
        verify(split, frame, schema, alike=more)


def test_ignored_duplicates_claim_nothing_of_near_ones() -> None:
    """Where equal rows are separate observations, rows that are nearly equal are as well."""
    frame, asked = rows_of(), SplitSettings("random", duplicates="ignore")
    split = make_split(
        frame, schema_for(), row_digests(frame), asked, alike=near_codes(frame, share=0.9)
    )
    assert ALIKE not in {claim.structure for claim in split.certificate.claims}
    assert split.certificate.num_units == frame.height


def test_codes_of_another_table_are_refused() -> None:
    """One code for each row, no more and no fewer."""
    frame = rows_of()
    with pytest.raises(DataError, match=r"must have shape \(480,\), got \(3,\)"):
        make_split(
            frame, schema_for(), row_digests(frame), SplitSettings("random"), alike=np.arange(3)
        )


ASKED = {
    "random": ((), SplitSettings("random")),
    "stratified": ((), SplitSettings("stratified")),
    "group": (("home",), SplitSettings("group", group=("home",))),
    "group_stratified": (("home",), SplitSettings("group_stratified", group=("home",))),
    "time": (("day",), SplitSettings("time", time=("day",), label_end="known", num_folds=3)),
    "group_time": (
        ("home", "day"),
        SplitSettings("group_time", group=("home",), time=("day",), num_folds=2),
    ),
    "predefined": ((), SplitSettings("predefined", column="part", num_folds=2)),
}


@given(
    method=st.sampled_from(sorted(SPLITTERS)),
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.02, 0.2, 0.8]),
    num_rows=st.integers(40, 200),
)
@settings(max_examples=70, deadline=None)
def test_near_duplicates_never_straddle(
    method: str, seed: int, share: float, num_rows: int
) -> None:
    """Whatever belongs together, by whatever method: one side, in any order of the rows."""
    used, asked = ASKED[method]
    schema = schema_for(*used)
    frame = rows_of(num_rows, seed).unique(["x", "z"], keep="first", maintain_order=True)
    alike, digests = near_codes(frame, seed, share), row_digests(frame)
    try:
        split = make_split(frame, schema, digests, replace(asked, seed=seed), alike=alike)
    except SplitError:
        return
    pairs = [(split.side == TRAIN, split.side == TEST)]
    pairs += [(part == FOLD_TRAIN, part == FOLD_VALID) for part in split.folds.T]
    for left, right in pairs:
        assert not (left & shares_unit(alike, right)).any()
    order = np.random.default_rng(seed).permutation(frame.height)
    again = make_split(
        frame[order], schema, digests[order], replace(asked, seed=seed), alike=alike[order]
    )
    assert np.array_equal(again.side, split.side[order])
    assert np.array_equal(again.folds, split.folds[order])
    renamed = np.unique(alike, return_inverse=True)[1][order] * 3 + 1
    assert verify(split, frame[order], schema, alike=renamed) == split.certificate
