"""The mark of the rows of an official test file, and what counts as a copy beside it."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests

PART = "loopline_part"
"""Column that marks the rows of an official test file."""


def whole_rows(frame: pl.DataFrame) -> NDArray[np.uint64]:
    """Digests of the rows without the mark of the official test file.

    With an official test file rows count as copies when they are equal in every column: people
    who merely resemble each other in the features may stand on both sides, as their makers chose.
    """
    return row_digests(frame.drop(PART))
