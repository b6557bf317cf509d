"""What the door lets in and what it holds, and which rows a retraining may see."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.loop.conftest import Shop, customers, told

import loopline.loop.attempt as attempts
import loopline.loop.controller as controllers
from loopline.errors import DataError, SettingsError
from loopline.evaluate.rows import Rows
from loopline.line.files import read_line
from loopline.line.spec import make_spec
from loopline.loop.arrivals import Arrivals, as_source, broken
from loopline.loop.attempt import _both_apart, retrained
from loopline.loop.checks import spent
from loopline.loop.diary import Diary
from loopline.loop.watching import Notice


def with_more(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Customers with a memo that four of five lack, and the quarter of the year."""
    rng = np.random.default_rng(seed)
    memo = np.where(rng.random(frame.height) < 0.8, np.nan, rng.normal(size=frame.height))
    quarter = rng.integers(1, 5, frame.height)
    return frame.with_columns(
        memo=pl.Series(memo).fill_nan(None), quarter=pl.Series(quarter)
    ).select("x", "z", "city", "memo", "quarter", "bought")


def test_what_stands_still_by_its_nature_is_taken(tmp_path: Path) -> None:
    """A column that is mostly missing may be missing in all rows of a file, and a season stands
    still in one: neither holds the file. Another unit does, also of a number of few values."""
    (tmp_path / "data").mkdir()
    shop = Shop(tmp_path)
    shop.settings(models=["baseline"])
    shop.put("a.csv", with_more(customers(1000, 0), 0))
    shop.look()
    calm = with_more(customers(300, 1), 1).with_columns(
        memo=pl.lit(None, pl.Float64), quarter=pl.lit(4)
    )
    shop.put("b.csv", calm)
    news = shop.look()
    assert told(news, "held") == []
    assert told(news, "arrived") == ["data/b.csv came with 300 rows."]
    shop.put("c.csv", with_more(customers(300, 2), 2).with_columns(pl.col("quarter") * 1000))
    assert "'quarter' looks times 1,000" in told(shop.look(), "held")[0]


def test_a_short_file_says_nothing_of_units(shop: Shop) -> None:
    """In 50 rows a value that stands still may be chance: taken."""
    shop.put("b.csv", customers(50, 1).with_columns(z=pl.lit(0.5)))
    assert told(shop.look(), "arrived") == ["data/b.csv came with 50 rows."]


def test_a_file_that_grows_keeps_the_rows_that_were_taken(shop: Shop) -> None:
    """While its next rows are being written, those that were taken before still count."""
    shop.settings(loop={"patience": 600})
    file = shop.put("b.csv", customers(300, 1))
    shop.look()
    with file.open("a") as opened:
        opened.write("0.1,0.2,Bo")
    old = time.time() - 100
    os.utime(file, (old, old))
    shop.put("c.csv", customers(100, 2))
    news = shop.look()
    assert "middle of a line" in told(news, "waiting")[0]
    assert told(news, "looked")[0].startswith("400 new rows, 400 of them labelled.")


def test_a_retraining_spends_no_row_on_a_test_side(shop: Shop) -> None:
    """The rows that decide are the test: the line is run on all the others, on nothing else."""
    shop.put("b.csv", customers(700, 1, flipped=1))
    shop.look()
    with shop.project() as project:
        (begun,) = Diary(project.ledger, "shop").entries("triggered")
        summary = project.run("latest").summary
    assert summary is not None
    assert summary["split"]["num_train"] == begun.data["rows"]["train"]
    assert summary["split"]["num_test"] == 0


@pytest.mark.parametrize(
    "fixed",
    [
        {"data": {"source": "a.csv", "test": "t.csv"}},
        {"split": {"method": "predefined", "column": "side"}},
    ],
)
def test_a_split_that_the_settings_fix_is_left_alone(fixed: dict) -> None:
    """A test table of its own, or a column that says each row's side, stays as it is said."""
    spec = make_spec({"data": {"source": "a.csv"}, "target": "y", **fixed})
    assert retrained(spec) is spec
    free = make_spec({"data": {"source": "a.csv"}, "target": "y"})
    assert retrained(free).split.test == 0.0


def test_trusted_rows_that_the_champion_was_trained_on_have_its_guesses_out_of_fold(
    shop: Shop,
) -> None:
    """What the first champion says of its own training rows would flatter it: for these stands
    what it said of them before it had seen them."""
    rows = customers(1000, 0)
    with shop.project() as project:
        assert read_line(shop.folder).spec.line_name == "shop"
        champion = project.release("shop@champion")
        found = _both_apart(project, champion, champion, rows)
        assert found is not None
        seen = champion.probabilities(rows)[0][:, 1]
    assert 600 < found.num_rows < 1000
    flattered = np.isin(found.champion.prediction.round(12), seen.round(12))
    assert flattered.mean() < 0.1
    assert np.isin(found.challenger.prediction.round(12), seen.round(12)).all()


def test_a_table_without_rows_is_unfit(shop: Shop) -> None:
    """Whatever way it came: nothing can be asked of no row."""
    with shop.project() as project:
        champion = project.release("shop@champion")
        assert broken(champion, customers(5, 0).clear(), time.time()) == ["It holds no rows."]


def test_a_column_that_no_model_reads_may_be_absent(shop: Shop) -> None:
    """It is filled with nothing, in the type of the source; a cell of another type is an error."""
    types = dict(customers(5, 0).schema)
    found = as_source(customers(5, 0).drop("city"), types)
    assert (found.columns, found["city"].null_count()) == (list(types), 5)
    with pytest.raises(DataError, match="not of their column's type"):
        as_source(customers(5, 0).with_columns(x=pl.lit("high")), types)


def test_a_look_that_the_disk_refuses_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be read: the champion goes on, and it is told once."""

    def fail(*given: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Arrivals, "look", fail)
    assert "This look failed, the champion goes on: " in told(shop.look(), "failed")[0]
    assert shop.look() == []


def test_a_page_is_answered_by_one_attempt(shop: Shop) -> None:
    """An alarm that an attempt has answered starts no second one when more rows come."""
    shop.watch.notices = [Notice("drift", "x", "x moved.")]
    shop.put("b.csv", customers(600, 1))
    assert told(shop.look(), "triggered")
    shop.watch.notices = []
    shop.put("c.csv", customers(600, 2))
    assert told(shop.look(), "triggered") == []


@pytest.fixture(scope="session")
def _believed(_opened: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("believed") / "shop"
    shop = Shop(Path(shutil.copytree(_opened, folder)))
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(2000, 1, turned=True))
    shop.look()
    assert len(moves(shop)) == 2
    return folder


@pytest.fixture
def promoted(_believed: Path, tmp_path: Path) -> Shop:
    """A shop that believed in a turned world and promoted, in a folder of its own."""
    return Shop(Path(shutil.copytree(_believed, tmp_path / "promoted")))


def moves(shop: Shop) -> list[str]:
    """What was done to the champion's alias."""
    with shop.project() as project:
        return [move.action for move in project.aliases.history("shop", "champion")]


def test_a_rollback_happens_once(promoted: Shop) -> None:
    """Labels contradict the promotion: back; more of the same takes nothing further back."""
    promoted.put("c.csv", customers(400, 2))
    promoted.look()
    assert moves(promoted) == ["promote", "promote", "rollback"]
    promoted.put("d.csv", customers(400, 3))
    assert told(promoted.look(), "rolled_back") == []
    assert moves(promoted) == ["promote", "promote", "rollback"]


def test_a_few_rows_take_no_promotion_back(promoted: Shop) -> None:
    """Sixty contradicting rows, where half of `gate_rows` are asked for, decide nothing."""
    promoted.put("c.csv", customers(60, 2))
    promoted.look()
    assert moves(promoted) == ["promote", "promote"]


def test_rollbacks_may_be_turned_off(promoted: Shop) -> None:
    """`rollback: false`: told as worse, and the champion stays until a person acts."""
    promoted.settings(loop={"rollback": False})
    promoted.put("c.csv", customers(150, 2))
    news = promoted.look()
    assert "The" in told(news, "looked")[0]
    assert "rose from" in told(news, "looked")[0]
    assert moves(promoted) == ["promote", "promote"]


def test_a_rollback_that_somebody_did_already_is_not_done_again(
    promoted: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person rolls back while the controller compares: the controller takes nothing more back."""
    worse = controllers.surely_worse

    def meddle(*given: Any) -> Any:
        with promoted.project() as project:
            project.rollback("shop")
            project.aliases.promote("shop", "champion", "release-" + "0" * 64)
        return worse(*given)

    monkeypatch.setattr(controllers, "surely_worse", meddle)
    promoted.put("c.csv", customers(400, 2))
    assert "moved by somebody else" in told(promoted.look(), "failed")[0]
    assert moves(promoted) == ["promote", "promote", "rollback", "promote"]


def test_lines_that_the_loop_cannot_renew_are_refused(shop: Shop) -> None:
    """Rows with several labels: one sentence that says what to do."""
    spec = read_line(shop.folder).spec
    several = SimpleNamespace(task="multilabel")
    with pytest.raises(SettingsError, match="renews models that predict a class or a number"):
        controllers.check_settings(spec, several)  # type: ignore[arg-type]


@pytest.mark.parametrize(("times", "trusted"), [((), True), (("when",), False)])
def test_guesses_out_of_fold_are_no_witnesses_where_time_runs(
    monkeypatch: pytest.MonkeyPatch, times: tuple[str, ...], trusted: bool
) -> None:
    """Rows that both runs predicted out of fold are trusted, unless folds run forward in time:
    then the challenger had seen later rows. With no row set aside there are no others."""
    rows = answers_of(customers(50, 0))
    pair = SimpleNamespace(before=rows, after=rows, observed=None)
    monkeypatch.setattr(attempts, "run_of", lambda *given: None)
    monkeypatch.setattr(attempts, "pair_of", lambda *given: pair)
    release: Any = SimpleNamespace(schema=SimpleNamespace(with_role=lambda role: times), id="r")
    nothing: Any = None
    found = attempts.history_bout(nothing, release, release, customers(5, 0).clear())
    assert (found is not None) == trusted


def answers_of(frame: pl.DataFrame) -> Rows:
    """Truth and a guess."""
    return Rows.build((frame["bought"] == "yes").to_numpy().astype(int), np.full(frame.height, 0.5))


def test_an_alarm_is_told_once_though_the_controller_dies(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the alarm and the entry of the look: the next look tells no alarm again."""
    tell = Diary.tell

    def die(self: Diary, what: str, sentence: str, **data: Any) -> Any:
        if what == "looked":
            raise KeyboardInterrupt
        return tell(self, what, sentence, **data)

    shop.watch.notices = [Notice("drift", "x", "x moved.", page=False)]
    shop.put("b.csv", customers(100, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Diary, "tell", die)
        with pytest.raises(KeyboardInterrupt):
            shop.look()
    assert told(shop.look(), "looked")
    with shop.project() as project:
        assert len(Diary(project.ledger, "shop").entries("alarm")) == 1


def test_what_was_rolled_back_to_is_not_rolled_back(promoted: Shop) -> None:
    """Only a promotion is taken back: a champion that a rollback brought stays, though labels
    contradict it, until a challenger is better."""
    with promoted.project() as project:
        first, _ = (move.release for move in project.aliases.history("shop", "champion"))
        project.aliases.promote("shop", "champion", str(first))
        project.rollback("shop")
    promoted.put("c.csv", customers(150, 2))
    promoted.look()
    assert moves(promoted)[2:] == ["promote", "rollback"]


def test_many_looks_share_the_error_of_a_false_word(
    promoted: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look at a champion may err with half of the error, the second with a sixth: in
    taking it back as in calling it worse."""
    errors: dict[str, list[float]] = {"back": [], "worse": []}
    worse = controllers.become_worse

    def back(bout: Any, metric: str, error: float) -> None:
        del bout, metric
        errors["back"].append(error)

    def risen(before: Any, now: Any, error: float, *more: Any) -> Any:
        errors["worse"].append(error)
        return worse(before, now, error, *more)

    monkeypatch.setattr(controllers, "surely_worse", back)
    monkeypatch.setattr(controllers, "become_worse", risen)
    for number in (1, 2):
        promoted.put(f"c{number}.csv", customers(120, number, turned=True))
        promoted.look()
    shared = pytest.approx([spent(0.05, 1), spent(0.05, 2)])
    assert errors == {"back": shared, "worse": shared}


def test_a_doubted_change_is_asked_again_of_the_same_champion(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a doubted window the next one is a trigger by itself; not so once a person has
    promoted another release."""
    shop.put("b.csv", customers(1000, 1, turned=True))
    assert "seen in 1 of 2 windows" in told(shop.look(), "decided")[0]
    asked: list[bool] = []
    monkeypatch.setattr(
        controllers, "due", lambda spec, **state: asked.append(state["unconfirmed"])
    )
    shop.put("c.csv", customers(60, 2, turned=True))
    shop.look()
    with shop.project() as project:
        decided = Diary(project.ledger, "shop").last("decided")
        assert decided is not None
        project.promote(decided.data["challenger"])
    shop.put("d.csv", customers(60, 3, turned=True))
    shop.look()
    assert asked == [True, False]
