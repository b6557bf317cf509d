"""The vault hands out test labels, for a reason, and writes it down first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import LeakError, SettingsError, SplitError
from loopline.splits.spec import SplitSettings
from loopline.splits.split import make_split
from loopline.splits.vault import (
    Look,
    Vault,
    inflation,
    told_closed,
    told_looks,
    told_openings,
)

SCHEMA = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
FRAME = pl.DataFrame({"x": range(50), "y": [0.5 * i for i in range(50)]})


class Event(NamedTuple):
    kind: str
    run: str | None
    subject: str | None
    data: dict


class Book:
    """A ledger in memory."""

    def __init__(self):
        self.written = []

    def append(self, kind, *, run=None, subject=None, data=None):
        self.written.append(Event(kind, run, subject, dict(data)))

    def events(self, *, kind=None, run=None, subject=None):
        return [e for e in self.written if e.kind == kind and e.subject == subject]


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
    assert again.open("once more", justification="to count").opening == 2
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


def test_a_second_look_needs_a_justification():
    """Other predictions on the same test rows are refused, with who looked before and a way out."""
    split, book = split_of(FRAME), Book()
    Vault(split, FRAME, SCHEMA, book, run="run-1").open("evaluate linear", look="a")
    vault = Vault(split, FRAME, SCHEMA, book, run="run-2")
    assert vault.is_open_for("a")
    assert not vault.is_open_for("b")
    with pytest.raises(LeakError, match=r"opened before: by run-1 \(evaluate linear\)\. Another"):
        vault.open("evaluate lightgbm", look="b")
    assert vault.openings == 1
    assert vault.open("evaluate linear again", look="a").opening == 2
    assert vault.open("evaluate lightgbm", look="b", justification="final choice").opening == 3
    assert [(look.key, look.run, look.justification) for look in vault.looks()] == [
        ("a", "run-1", ""),
        ("b", "run-2", "final choice"),
    ]


def test_the_same_line_on_the_same_rows_is_the_same_look():
    """Predictions that another library version rounds otherwise need no justification."""
    split, book = split_of(FRAME), Book()
    vault = Vault(split, FRAME, SCHEMA, book)
    vault.open("evaluate", look="a", line="mine")
    vault.open("evaluate", look="a rounded", line="mine")
    assert len(vault.looks()) == 1
    assert not vault.is_open_for("b", "other")
    assert not vault.is_open_for("b", "")


def test_openings_without_a_look_count_each():
    """Whoever does not say what is scored takes a new look each time."""
    book = Book()
    vault = Vault(split_of(FRAME), FRAME, SCHEMA, book, free=2)
    vault.open("evaluate")
    vault.open("evaluate")
    assert len(vault.looks()) == 2
    with pytest.raises(LeakError, match="Choose by the out-of-fold scores"):
        vault.open("evaluate")


def test_the_bound_covers_the_best_of_many_looks():
    """The mean of the largest of k equal scores' errors stays below it, and near it for many."""
    rng = np.random.default_rng(0)
    for looks in (1, 2, 3, 10, 100):
        best = rng.normal(scale=0.01, size=(20_000, looks)).max(axis=1).mean()
        assert best <= inflation(0.01, looks) + 3e-4
    assert best > 0.8 * inflation(0.01, 100)


def test_what_is_told_of_looks():
    """One look, several with reasons and a bound, and a closed vault with the way to open it."""
    looks = [Look(str(n), f"run-{n}", "evaluate", "" if n == 1 else f"r{n}") for n in range(1, 6)]
    assert told_openings(looks[:1], "auc", 0.01).endswith("opened once, for this score.")
    assert told_openings(looks[:3], "auc", 0.01) == (
        "The labels of these test rows were opened for 3 models (r2; r3); the best of 3 looks can "
        "be 0.0148 (auc) better than the truth. Choose by the out-of-fold scores."
    )
    assert told_looks(looks) == (
        "The labels of these test rows were opened before: 2 more, and by run-3 (r3); by run-4 "
        "(r4); by run-5 (r5)."
    )
    assert told_closed(looks[:1], 12_000).startswith("No test score: the 12,000 test rows were not")
