"""The mark of the rows of an official test file, and what counts as a copy beside it."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import digests_without, row_digests

PART = "loopline_part"
"""Column that marks the rows of an official test file."""


def whole_rows(
    frame: pl.DataFrame, digests: NDArray[np.uint64] | None = None
) -> NDArray[np.uint64]:
    """Digests of the rows without the mark of the official test file.

    With an official test file rows count as copies when they are equal in every column: people
    who merely resemble each other in the features may stand on both sides, as their makers chose.

    Args:
        frame: all rows.
        digests: (rows, 2) their digests, the mark among the columns, where they are at hand.
    """
    if digests is None:
        return row_digests(frame.drop(PART))
    return digests_without(frame, digests, [PART])
