"""The loop closes: what is good is promoted, what is not is told, and the champion goes on."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.loop.conftest import Shop, customers, told

import loopline.loop.controller as controller
import loopline.loop.decide as decide
from loopline.errors import (
    ConflictError,
    EnvironmentProblem,
    InputError,
    IntegrityError,
    LimitError,
    SettingsError,
)
from loopline.loop.diary import Diary
from loopline.loop.lease import lease
from loopline.loop.watching import Notice


def test_no_news_is_no_entry(shop: Shop) -> None:
    """A look at a folder in which nothing changed writes nothing."""
    assert shop.look() == []


def test_more_of_the_same_is_looked_at_and_left(shop: Shop) -> None:
    """New rows of the old world: arrived, looked at, nothing is trained."""
    shop.put("b.csv", customers(300, 1))
    news = shop.look()
    assert [entry.what for entry in news] == ["arrived", "looked"]
    assert "as good as it was" in told(news, "looked")[0]


def test_a_changed_world_renews_the_champion_in_two_windows(shop: Shop) -> None:
    """The concept turns: the first window is doubted, the second believed; sentences say why."""
    first = shop.champion()
    shop.put("b.csv", customers(1000, 1, turned=True))
    news = shop.look()
    assert [entry.what for entry in news] == [
        "arrived",
        "looked",
        "triggered",
        "trained",
        "decided",
    ]
    assert "seen in 1 of 2 windows" in told(news, "decided")[0]
    assert shop.champion() == first
    shop.put("c.csv", customers(1000, 2, turned=True))
    news = shop.look()
    assert "Promoted" in told(news, "decided")[0]
    assert shop.champion() != first
    assert shop.look() == []
    with shop.project() as project:
        gates = [e.data["gate"] for e in Diary(project.ledger, "shop").entries("triggered")]
        assert len(set(gates)) == 2
        assert project.rollback("shop").release == first


def test_a_person_may_confirm(shop: Shop) -> None:
    """After `--confirm` the next window is enough."""
    first = shop.champion()
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "A person confirmed it.", why="new prices")
    shop.put("b.csv", customers(1000, 1, turned=True))
    assert "A person confirmed the change: new prices" in told(shop.look(), "decided")[0]
    assert shop.champion() != first


def test_swapped_labels_never_pass(shop: Shop) -> None:
    """Every label of three files is the other one: kept each time, and the labels are doubted."""
    first = shop.champion()
    for number in range(3):
        shop.put(f"b{number}.csv", customers(700, 10 + number, flipped=1))
        assert "look swapped" in told(shop.look(), "decided")[0]
    assert shop.champion() == first


def test_a_page_of_the_monitor_is_a_trigger(shop: Shop) -> None:
    """The monitor pages: its sentence is an alarm, and the reason of the attempt."""
    shop.watch.notices = [Notice("drift", "x", "x moved up by 1 sigma since Monday.")]
    shop.put("b.csv", customers(600, 1))
    news = shop.look()
    assert told(news, "alarm") == ["x moved up by 1 sigma since Monday."]
    assert "x moved up" in told(news, "triggered")[0]
    assert "not measurably better" in told(news, "decided")[0]
    assert shop.watch.shown == [600]


def test_too_few_labels_are_waited_for(shop: Shop) -> None:
    """A trigger with 60 labelled rows trains nothing, says how many are needed, once."""
    shop.watch.notices = [Notice("drift", "x", "x moved.")]
    shop.put("b.csv", customers(60, 1))
    waiting = told(shop.look(), "waiting")
    assert "60 new labelled rows" in waiting[0]
    assert shop.look() == []


def test_a_window_of_one_row(shop: Shop) -> None:
    """One new row is taken, looked at, and changes nothing."""
    shop.put("b.csv", customers(1, 1))
    assert [entry.what for entry in shop.look()] == ["arrived", "looked"]


def held(shop: Shop, frame: pl.DataFrame, *parts: str) -> None:
    first = shop.champion()
    shop.put("b.csv", frame)
    news = shop.look()
    assert [entry.what for entry in news] == ["held"], news
    for part in (*parts, "loopline watch --accept data/b.csv"):
        assert part in news[0].sentence
    assert shop.champion() == first
    assert shop.look() == []


def test_a_column_that_vanished_is_held(shop: Shop) -> None:
    """A file without z is told of once, not used, and the champion stays."""
    held(shop, customers(500, 1).drop("z"), "'z'")


def test_a_column_with_nothing_in_it_is_held(shop: Shop) -> None:
    """All cells of z are missing where training had none missing."""
    held(
        shop, customers(500, 1).with_columns(z=pl.lit(None, pl.Float64)), "missing in all 500 rows"
    )


def test_another_unit_is_held(shop: Shop) -> None:
    """x a thousand times as large is another unit, not another world."""
    held(shop, customers(500, 1).with_columns(x=pl.col("x") * 1000), "'x' looks times 1,000")


def test_a_frozen_column_is_held(shop: Shop) -> None:
    """A measured number that stands still for 500 rows."""
    held(shop, customers(500, 1).with_columns(z=pl.lit(0.5)), "one and the same value")


def test_an_unknown_class_is_held(shop: Shop) -> None:
    """A label that training did not know cannot be compared: a person looks."""
    held(shop, customers(500, 1).with_columns(bought=pl.lit("maybe")), "maybe")


def test_a_file_without_rows_is_held(shop: Shop) -> None:
    """A header alone."""
    held(shop, customers(500, 1).clear(), "no rows")


def test_text_where_numbers_were_is_held(shop: Shop) -> None:
    """Cells that are not of their column's type."""
    held(shop, customers(500, 1).with_columns(x=pl.lit("high")), "x")


def test_an_accepted_file_is_used(shop: Shop) -> None:
    """A held file that a person accepts arrives."""
    shop.put("b.csv", customers(500, 1).with_columns(z=pl.lit(0.5)))
    entry = shop.look()[0]
    with shop.project() as project:
        Diary(project.ledger, "shop").tell(
            "accepted", "used", file=entry.data["file"], digest=entry.data["digest"]
        )
    assert "arrived" in [entry.what for entry in shop.look()]


def test_a_half_arrived_file_waits_and_then_counts_whole(shop: Shop) -> None:
    """A packed file that is cut off is waited for; whole, all of its rows count."""
    shop.settings(data={"source": "data/*"}, loop={"patience": 600})
    data = gzip.compress(customers(300, 1).write_csv().encode())
    file = shop.folder / "data" / "b.csv.gz"
    file.write_bytes(data[: len(data) // 2])
    assert [entry.what for entry in shop.look()] == ["waiting"]
    file.write_bytes(data)
    news = shop.look()
    assert "came with 300 rows" in told(news, "arrived")[0]


def test_rows_that_came_before_are_not_new(shop: Shop) -> None:
    """A file that grew counts its new rows once; a copy of a known file brings nothing."""
    old = customers(1000, 0)
    shop.put("a.csv", pl.concat([old, customers(250, 1)]))
    news = shop.look()
    assert told(news, "looked")[0].startswith("250 new rows")


def test_a_failing_retraining_is_told_and_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: told, the champion serves; not at once again, but after the pause."""
    first = shop.champion()
    calls: list[int] = []

    def fail(*given: Any) -> Any:
        calls.append(1)
        raise EnvironmentProblem("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(decide, "train", fail)
        shop.put("b.csv", customers(700, 1, flipped=1))
        news = shop.look()
        assert "The disk is full" in told(news, "failed")[0]
        assert shop.look() == []
        shop.time.offset = 61
        assert "tried again in 120 s" in told(shop.look(), "failed")[0]
        assert len(calls) == 2
    shop.time.offset = 300
    assert "look swapped" in told(shop.look(), "decided")[0]
    assert shop.champion() == first


def test_a_retraining_that_always_fails_is_given_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five failures decide: the champion stays, and the loop goes on with the next window."""

    def fail(*given: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(decide, "train", fail)
    shop.put("b.csv", customers(700, 1, flipped=1))
    for number in range(5):
        shop.time.offset = 100_000 * number
        news = shop.look()
    assert "It failed 5 times" in told(news, "decided")[0]


def test_a_killed_attempt_is_finished_with_the_same_rows(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Death between training and decision: the next look decides the attempt that was begun."""

    def die(*given: Any) -> Any:
        raise KeyboardInterrupt

    shop.put("b.csv", customers(700, 1, flipped=1))
    with monkeypatch.context() as patch:
        patch.setattr(decide.Decider, "_judged", die)
        with pytest.raises(KeyboardInterrupt):
            shop.look()
    shop.put("c.csv", customers(700, 2, flipped=1))
    news = shop.look()
    assert news[0].what == "decided"
    assert told(news, "triggered")[0].startswith("Attempt 2")
    assert sum(entry.what == "trained" for entry in news) == 1


def test_death_after_the_alias_moved_promotes_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the alias's move and its entry: the next look writes it, moves nothing."""
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(1000, 1, turned=True))
    tell = Diary.tell

    def die(self: Diary, what: str, sentence: str, **data: Any) -> Any:
        if what == "decided":
            raise KeyboardInterrupt
        return tell(self, what, sentence, **data)

    with monkeypatch.context() as patch:
        patch.setattr(Diary, "tell", die)
        with pytest.raises(KeyboardInterrupt):
            shop.look()
    moved = shop.champion()
    assert "Promoted" in told(shop.look(), "decided")[0]
    assert shop.champion() == moved
    with shop.project() as project:
        assert len(project.aliases.history("shop", "champion")) == 2


def test_a_promotion_that_labels_contradict_is_rolled_back(shop: Shop) -> None:
    """The world turns, is believed, and turns back: labels show it, and the loop goes back."""
    first = shop.champion()
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(2000, 1, turned=True))
    shop.look()
    assert shop.champion() != first
    shop.put("c.csv", customers(400, 2))
    news = shop.look()
    assert "Rolled back" in told(news, "rolled_back")[0]
    assert shop.champion() == first


def test_somebody_else_moved_the_champion(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person promoted meanwhile: the attempt compared with another release, and ends."""
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(1000, 1, turned=True))
    judged = decide.Decider._judged

    def meddle(self: Any, attempt: Any, summary: Any) -> Any:
        verdict = judged(self, attempt, summary)
        self._project.aliases.promote("shop", "champion", "release-" + "0" * 64)
        return verdict

    monkeypatch.setattr(decide.Decider, "_judged", meddle)
    assert "was moved to release-000000000000 meanwhile" in told(shop.look(), "decided")[0]


def test_the_schedule_and_a_clock_that_goes_back(shop: Shop) -> None:
    """A day later the schedule trains; with the clock a year back it waits and says so."""
    shop.settings(loop={"every": "1d"})
    shop.put("b.csv", customers(600, 1))
    shop.time.offset = -365 * 86_400
    news = shop.look()
    assert "clock has gone back" in told(news, "waiting")[0]
    assert not told(news, "triggered")
    shop.time.offset = 86_400
    assert "have passed" in told(shop.look(), "triggered")[0]


def test_rows_from_the_future_are_held(tmp_path: Path) -> None:
    """Rows whose time lies days ahead of the machine's clock would always be the newest."""
    (tmp_path / "data").mkdir()
    shop = Shop(tmp_path)
    start = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=30)

    def dated(n: int, seed: int, since: datetime) -> pl.DataFrame:
        when = [since + timedelta(minutes=10 * k) for k in range(n)]
        return customers(n, seed).with_columns(when=pl.Series(when))

    shop.settings(columns={"when": {"role": "time"}})
    shop.put("a.csv", dated(600, 0, start))
    shop.look()
    shop.put("b.csv", dated(300, 1, start + timedelta(days=400)))
    assert "ahead of this machine's clock" in told(shop.look(), "held")[0]


def test_a_second_controller_is_told_who_watches(shop: Shop) -> None:
    """While one holds the lease, another learns its process and ends, exit code 2."""
    with shop.project() as project:
        with (
            lease(project, "shop", wait=False, tell=print),
            pytest.raises(ConflictError, match=r"Process \d+ on .* watches 'shop' already"),
            lease(project, "shop", wait=False, tell=print),
        ):
            pass
        with lease(project, "shop", wait=False, tell=print):
            pass


def test_folders_of_images_are_refused(shop: Shop) -> None:
    """The loop follows files; another kind of source is told at once."""
    shop.settings(data={"source": "data"})
    assert any("follows files" in entry.sentence for entry in shop.look())


def test_a_store_of_a_removed_file_keeps_its_rows(shop: Shop) -> None:
    """A file that was taken and then removed is simply not there any more; nothing breaks."""
    shop.put("b.csv", customers(300, 1))
    shop.look()
    (shop.folder / "data" / "b.csv").unlink()
    assert shop.look() == []
    shutil.rmtree(shop.folder / "data")
    assert shop.look() == []


def test_input_errors_name_held_files(shop: Shop) -> None:
    """Accepting a file that is not held names those that are."""
    from loopline.loop.arrivals import held_digest

    with shop.project() as project, pytest.raises(InputError, match="Held are: none"):
        held_digest(Diary(project.ledger, "shop"), "data/b.csv")


def test_settings_without_effect_are_refused(shop: Shop) -> None:
    """Unknown columns and a window of days without dates: all told at once."""
    shop.settings(loop={"protect": ["citty"], "origin": "who", "window": "30 days"})
    with pytest.raises(SettingsError) as caught:
        shop.look()
    assert len(caught.value.problems) == 3
    assert "city" in caught.value.problems[0]


def test_the_first_run_waits_for_whole_files(tmp_path: Path) -> None:
    """Where nothing serves yet, half a file keeps the first run from being made on it."""
    (tmp_path / "data").mkdir()
    shop = Shop(tmp_path)
    shop.settings(loop={"settle": 0, "patience": 600})
    shop.put("a.csv", customers(300, 0))
    half = shop.folder / "data" / "b.csv"
    half.write_text("x,z,city,bought\n0.1,0.2,Bo")
    assert "The first run waits" in told(shop.look(), "waiting")[0]
    assert shop.look() == []
    half.unlink()
    assert "made release-" in told(shop.look(), "alias")[0]


def test_a_line_that_is_called_otherwise_now_is_told(shop: Shop) -> None:
    """The same rows were run under another name: no champion of a name that nobody serves."""
    shop.settings(name="store")
    with pytest.raises(SettingsError, match="Say `name: shop` in the settings"):
        shop.look()


def test_a_promotion_is_told_once(shop: Shop) -> None:
    """The decision tells of the alias's move; a move by hand is told for itself."""
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "A person confirmed it.", why="new prices")
    shop.put("b.csv", customers(1000, 1, turned=True))
    news = shop.look()
    assert told(news, "decided")[0].startswith("Promoted")
    assert told(news, "alias") == []
    with shop.project() as project:
        project.rollback("shop", why="by hand")
        diary = Diary(project.ledger, "shop")
        assert [e.sentence for e in diary.timeline()][-1].endswith("by hand")


def test_a_protected_part_is_asked_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """`protect: city` gives the gate the three cities of the fresh rows."""
    shop.settings(loop={"protect": "city"})
    seen: list[list[str]] = []
    judge = decide.judge

    def listen(*given: Any, **more: Any) -> Any:
        seen.append([part.title for part in more["parts"]])
        return judge(*given, **more)

    monkeypatch.setattr(decide, "judge", listen)
    shop.put("b.csv", customers(1000, 1, turned=True))
    shop.look()
    assert seen == [["city = 'Bonn'", "city = 'Kyoto'", "city = 'Lima'"]]


def test_death_after_a_look_is_followed_by_its_attempt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the look and the attempt: the next look begins it, and tells no look twice."""

    def die(*given: Any) -> Any:
        raise KeyboardInterrupt

    shop.watch.notices = [Notice("drift", "x", "x moved.")]
    shop.put("b.csv", customers(700, 1, flipped=1))
    with monkeypatch.context() as patch:
        patch.setattr(controller, "begin", die)
        with pytest.raises(KeyboardInterrupt):
            shop.look()
    assert [entry.what for entry in shop.look()] == ["triggered", "trained", "decided"]
    assert shop.look() == []


@pytest.fixture
def changed(shop: Shop) -> Shop:
    """A shop whose next look would promote: the world turned, and a person confirmed it."""
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(1000, 1, turned=True))
    return shop


def test_a_challenger_that_fails_its_replay_is_kept_out(
    changed: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packaged release that does not answer as in training: the champion stays."""

    def refuse(*given: Any) -> Any:
        raise IntegrityError("It does not answer as in training.")

    first = changed.champion()
    monkeypatch.setattr(decide, "prove_release", refuse)
    assert "does not answer as in training" in told(changed.look(), "decided")[0]
    assert changed.champion() == first


def test_a_new_leak_keeps_the_challenger_out(
    changed: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit of the new window finds a column that gives the answer away: kept out."""
    run = decide.train

    def leaky(*given: Any) -> Any:
        outcome = run(*given)
        leak = {"severity": "leak", "columns": ["x"], "remedy": None, "sentence": "x is a copy."}
        return replace(outcome, summary={**outcome.summary, "audit": [leak]})

    first = changed.champion()
    monkeypatch.setattr(decide, "train", leaky)
    assert "The audit found: x is a copy." in told(changed.look(), "decided")[0]
    assert changed.champion() == first


def test_a_line_that_refuses_the_window_is_decided_at_once(
    changed: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits that no candidate meets, a leak that stops the run: kept, and not tried again."""

    def refuse(*given: Any) -> Any:
        raise LimitError("No candidate is within the limits.")

    monkeypatch.setattr(decide, "train", refuse)
    assert "No candidate is within the limits" in told(changed.look(), "decided")[0]
    assert changed.look() == []


def test_garbage_collection_leaves_the_loop_its_rows(shop: Shop) -> None:
    """After `loopline gc` the loop goes on with what it knew: files, attempts, used rows."""
    shop.put("b.csv", customers(1000, 1, turned=True))
    shop.look()
    with shop.project() as project:
        project.collect(keep=0, grace_seconds=0.0)
    assert shop.look() == []
    shop.put("c.csv", customers(1000, 2, turned=True))
    assert "Promoted" in told(shop.look(), "decided")[0]
