"""The rows of a loop: their order, which are new, which decided before, and what is pending."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.loop.conftest import customers

import loopline
import loopline.loop.pool as pools
from loopline.data.fingerprint import row_digests
from loopline.data.snapshot import write_snapshot
from loopline.line.project import Project
from loopline.loop.diary import Diary
from loopline.loop.pool import Pool, gather


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with loopline.open_project(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def champion(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A release that was made of 100 known customers."""
    made = write_snapshot(project.store, customers(100, 0)).id
    monkeypatch.setattr(pools, "source_snapshot", lambda *given: made)
    return release()


def release(*times: str) -> Any:
    """What the pool asks of a release."""
    schema = SimpleNamespace(
        with_role=lambda role: times if role == "time" else (), target="bought"
    )
    return SimpleNamespace(id="release-1", schema=schema)


def begun(project: Project, attempt: str, gate: pl.DataFrame, known: pl.DataFrame) -> Diary:
    """A diary with an attempt in which some rows decided, while so many were known."""
    place = project.store.put(
        "known", lambda folder: np.save(folder / "rows.npy", row_digests(known))
    )
    diary = Diary(project.ledger, "shop")
    diary.tell(
        "triggered", "Begun.", attempt=attempt, champion="release-0",
        gate=write_snapshot(project.store, gate).id, known=place.id,
    )  # fmt: skip
    return diary


def test_rows_that_decided_are_marked(project: Project, champion: Any) -> None:
    """The 30 rows that an attempt decided with decide no more; the other new ones may."""
    new = customers(80, 1)
    diary = begun(project, "a", new.head(30), new)
    pool = gather(project, diary, champion, [customers(100, 0), new])
    assert pool.new.sum() == 80
    assert np.flatnonzero(pool.used).tolist() == list(range(100, 130))
    assert (pool.labels_since, pool.fresh_labels) == (50, 80)


def test_without_attempts_no_row_decided(project: Project, champion: Any) -> None:
    """All new labelled rows are labels since the last decision."""
    pool = gather(project, Diary(project.ledger, "shop"), champion, [customers(80, 1)])
    assert not pool.used.any()
    assert pool.labels_since == 80


def test_a_champion_of_the_loop_knew_what_its_attempt_knew(project: Project, champion: Any) -> None:
    """Not only what it was trained on: rows that were set aside for its attempt are no news."""
    new = customers(80, 1)
    diary = begun(project, "a", new.head(30), pl.concat([customers(100, 0), new]))
    assert gather(project, diary, champion, [new]).new.sum() == 80
    diary.tell("trained", "Trained.", attempt="a", release="release-1")
    assert gather(project, diary, champion, [new]).new.sum() == 0


def test_rows_stand_in_the_order_of_their_time(project: Project, champion: Any) -> None:
    """Whatever order files come in: the newest are those that happened last."""
    start = datetime(2026, 1, 1)

    def dated(day: int, seed: int) -> pl.DataFrame:
        return customers(5, seed).with_columns(when=pl.lit(start + timedelta(days=day)))

    diary = Diary(project.ledger, "shop")
    pool = gather(project, diary, release("when"), [dated(3, 1), dated(1, 2), dated(2, 3)])
    assert pool.seconds is not None
    assert (np.diff(pool.seconds) >= 0).all()
    assert pool.frame["when"].dt.day().to_list() == [2] * 5 + [3] * 5 + [4] * 5


def test_labels_are_counted_from_the_last_row_that_decided() -> None:
    """Of six labelled rows three come after the last one that decided."""
    flags = np.array([1, 1, 1, 1, 1, 1], dtype=bool)
    used = np.array([0, 1, 1, 0, 0, 0], dtype=bool)
    pool = Pool(
        pl.DataFrame({"x": range(6)}), np.zeros((6, 2), np.uint64), flags, flags, used, None
    )
    assert pool.labels_since == 3


def test_an_attempt_is_pending_until_it_is_decided(project: Project) -> None:
    """The second one too, though the first was decided; news are told once a decision."""
    diary = Diary(project.ledger, "shop")
    assert diary.pending() is None
    for number in (1, 2):
        begun = diary.tell("triggered", f"Attempt {number}.")
        assert diary.pending() == begun
        assert diary.tell_news("waiting", "A file is empty so far.") is not None
        assert diary.tell_news("waiting", "A file is empty so far.") is None
        diary.tell("decided", "Kept.")
        assert diary.pending() is None
