"""The vault hands out test labels, for a reason, and writes it down first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import SettingsError, SplitError
from loopline.splits.spec import SplitSettings
from loopline.splits.split import make_split
from loopline.splits.vault import Vault

SCHEMA = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
FRAME = pl.DataFrame({"x": range(50), "y": [0.5 * i for i in range(50)]})


class Book:
    """A ledger in memory."""

    def __init__(self):
        self.written = []

    def append(self, kind, *, run=None, subject=None, data=None):
        self.written.append((kind, run, subject, dict(data)))

    def events(self, *, kind=None, run=None, subject=None):
        return [event for event in self.written if event[0] == kind and event[2] == subject]


def split_of(frame, **given):
    return make_split(frame, SCHEMA, row_digests(frame), SplitSettings("random", **given))


def test_labels_come_in_the_order_of_the_test_view():
    """Label i belongs to row i of the test view."""
    split = split_of(FRAME)
    labels = Vault(split, FRAME, SCHEMA, Book()).open("evaluate")
    assert labels.target.tolist() == (0.5 * split.test_view(FRAME, SCHEMA).column("x")).to_list()
    assert labels.units.tolist() == split.test_view(FRAME, SCHEMA).units.tolist()
    assert labels.weight is None


def test_every_opening_is_written_down_and_counted():
    """Run, reason and test-set digest go into the ledger; the same test set counts on."""
    split, book = split_of(FRAME), Book()
    vault = Vault(split, FRAME, SCHEMA, book, run="run-1")
    assert vault.openings == 0
    assert vault.open("evaluate").opening == 1
    back = FRAME.reverse()
    again = Vault(split.align(row_digests(back)), back, SCHEMA, book, run="run-2")
    assert again.open("once more").opening == 2
    assert [(kind, run, data["reason"]) for kind, run, _, data in book.written] == [
        ("vault.opened", "run-1", "evaluate"),
        ("vault.opened", "run-2", "once more"),
    ]
    assert {event[2] for event in book.written} == {split.certificate.test_digest}
    other = Vault(split_of(FRAME, seed=1), FRAME, SCHEMA, book)
    assert other.openings == 0


def test_it_is_written_before_labels_are_handed_out():
    """When the ledger cannot write, nobody gets labels."""

    class Full(Book):
        def append(self, kind, **given):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Vault(split_of(FRAME), FRAME, SCHEMA, Full()).open("evaluate")


def test_no_reason_no_labels():
    """An empty reason is refused and leaves no trace."""
    book = Book()
    with pytest.raises(SettingsError, match="opens for a reason only"):
        Vault(split_of(FRAME), FRAME, SCHEMA, book).open("  ")
    assert book.written == []


def test_an_empty_vault_says_so():
    """A split without a test side has no labels to give."""
    split = split_of(FRAME, test_share=0.0)
    assert split.counts() == {"train": 50, "test": 0, "excluded": 0}
    with pytest.raises(SplitError, match="no test side"):
        Vault(split, FRAME, SCHEMA, Book()).open("evaluate")
    assert np.all(split.folds.sum(axis=1) == 6)
