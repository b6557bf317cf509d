"""Fewer folds where five are impossible, a refusal where none are possible."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import SplitError
from loopline.splits.feasible import make_feasible_split

CLASSES = (0, 1)


def sites(sizes: list[int]) -> tuple[pl.DataFrame, Schema]:
    """Sites of these sizes, half of the rows of each class."""
    site = np.repeat(np.arange(len(sizes)), sizes)
    frame = pl.DataFrame(
        {
            "site": site,
            "x": np.random.default_rng(0).normal(size=site.size),
            "y": np.arange(site.size) % 2,
        }
    )
    columns = (
        Column("site", "number", "group"),
        Column("x", "number"),
        Column("y", "category", "target"),
    )
    return frame, Schema(columns, "binary", CLASSES)


def test_uneven_sites_get_fewer_folds_and_the_reason_says_so() -> None:
    """One of eight sites holds a third of the training rows: three folds, not five."""
    frame, schema = sites([150, 80, 80, 70, 60, 60, 60, 60])
    split, reason = make_feasible_split(frame, schema, row_digests(frame))
    assert split.num_folds == 3
    assert "3 folds, because 5 are not possible" in reason
    assert not split.certificate.broken


def test_even_sites_keep_five_folds() -> None:
    """Nothing is lowered where nothing is in the way."""
    frame, schema = sites([40] * 25)
    split, reason = make_feasible_split(frame, schema, row_digests(frame))
    assert split.num_folds == 5
    assert "not possible" not in reason


def test_folds_that_were_asked_for_are_not_lowered() -> None:
    """A person's number is kept or refused."""
    frame, schema = sites([150, 80, 80, 70, 60, 60, 60, 60])
    with pytest.raises(SplitError, match="fold"):
        make_feasible_split(frame, schema, row_digests(frame), {"folds": 5})


def test_what_no_number_of_folds_can_divide_is_refused_with_the_first_reason() -> None:
    """Two sites: one for the test leaves one for all folds."""
    frame, schema = sites([300, 300])
    with pytest.raises(SplitError, match="test"):
        make_feasible_split(frame, schema, row_digests(frame))
