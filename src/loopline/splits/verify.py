"""Proving a stored split again from the data."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Schema
from loopline.errors import IntegrityError
from loopline.splits.certificate import (
    ALIKE,
    WINDOW,
    Certificate,
    borders,
    in_window,
    known_structures,
    prove,
    straddling,
    too_late,
)
from loopline.splits.rows import SplitRows, read_rows
from loopline.splits.split import Split, ignored_structure, make_split


def verify(
    split: Split,
    table: pl.DataFrame,
    schema: Schema,
    *,
    digests: NDArray[np.uint64] | None = None,
    feature_digests: NDArray[np.uint64] | None = None,
    alike: NDArray[np.int64] | None = None,
) -> Certificate:
    """Prove from the data that a stored split is still the one that was certified.

    Every claim is counted anew and every digest made again; nothing is taken from the stored
    certificate. When the assignment differs, the split is replayed from its settings to name the
    row that was moved.

    Args:
        split: the stored split.
        table: the rows, in any order.
        schema: roles, task and classes.
        digests: the table's row digests; computed when absent.
        feature_digests: the digests of its feature columns; computed when absent.
        alike: codes of near duplicates in the table's order, found anew; needed when the stored
            certificate has a claim about them.

    Returns:
        The new certificate, equal to the stored one.

    Raises:
        IntegrityError: a row was added, removed, changed or moved (the message names it), or a
            claim does not hold.
    """
    known = row_digests(table) if digests is None else digests
    here = split.align(known)
    if alike is None and any(claim.structure == ALIKE for claim in here.certificate.claims):
        raise IntegrityError(
            "The certificate says that near duplicates stand on one side. To prove it, look for "
            "them in the rows again and give their codes as `alike`."
        )
    rows = read_rows(table, schema, known, here.settings, feature_digests, alike)
    ignored = {name: table[name] for name in ignored_structure(schema, here.settings)}
    _refuse_straddling(here, rows, known, ignored)
    again = prove(
        rows,
        known,
        here.side,
        here.folds,
        here.settings,
        excluded=here.certificate.excluded,
        ignored=ignored,
    )
    stored = here.certificate
    if again.assignment_digest != stored.assignment_digest:
        raise IntegrityError(_moved(here, table, schema, known, feature_digests, alike))
    if again != stored:
        wrong = [name for name, value in again.to_dict().items() if value != stored.to_dict()[name]]
        raise IntegrityError(
            f"The certificate is not that of this split: {', '.join(wrong)} differ."
        )
    return again


def _refuse_straddling(
    split: Split,
    rows: SplitRows,
    digests: NDArray[np.uint64],
    ignored: dict[str, pl.Series],
) -> None:
    structures = known_structures(rows, digests, split.settings, ignored)
    required = {
        (claim.structure, claim.border) for claim in split.certificate.claims if claim.required
    }
    for border, left, right in borders(split.side, split.folds):
        for name, codes, must in structures:
            count, row, other = straddling(codes, left, right)
            if must and count:
                raise IntegrityError(
                    f"The proof failed ({border}, {name}): row {row} is a training row and row "
                    f"{other}, which belongs with it, is held out; {count} such values. The split "
                    "or the data was changed."
                )
        if rows.order is not None and ("time", border) in required:
            late, _ = too_late(rows, left, right, split.settings.gap)
            if late.any():
                raise IntegrityError(
                    f"The proof failed ({border}, time): training row "
                    f"{int(np.flatnonzero(late)[0])} "
                    f"is not early enough; {int(late.sum())} such rows. The split or the data was "
                    "changed."
                )
        if rows.reach is not None:
            near = in_window(rows, left, right, split.settings.gap)
            if near.any():
                raise IntegrityError(
                    f"The proof failed ({border}, {WINDOW}): the label window of training row "
                    f"{int(np.flatnonzero(near)[0])} meets one that is held out; "
                    f"{int(near.sum())} such rows. The split or the data was changed."
                )


def _moved(
    split: Split,
    table: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64],
    feature_digests: NDArray[np.uint64] | None,
    alike: NDArray[np.int64] | None,
) -> str:
    fresh = make_split(
        table, schema, digests, split.settings, feature_digests=feature_digests, alike=alike
    )
    text = "The rows do not stand where the certificate says"
    if fresh.certificate.assignment_digest != split.certificate.assignment_digest:
        return text + ", and the settings no longer give the certified split either."
    sides = ("training", "test", "excluded")
    wrong = np.flatnonzero(split.side != fresh.side)
    if wrong.size:
        row = int(wrong[0])
        return (
            f"{text}: row {row} is {sides[split.side[row]]} and was certified as "
            f"{sides[fresh.side[row]]}; {wrong.size} rows were moved."
        )
    row, fold = (int(place[0]) for place in np.nonzero(split.folds != fresh.folds))
    return f"{text}: row {row} has another part in fold {fold} than was certified."
