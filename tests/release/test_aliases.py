"""Aliases: moved as events, told as sentences, safe when two move one at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.release.conftest import Two

from loopline.errors import ConflictError, InputError, IntegrityError, NotFoundError
from loopline.line.project import Project
from loopline.release import aliases as module
from loopline.release.aliases import EVENT, Aliases, is_alias, resolve
from loopline.store.ledger import Ledger


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def aliases(tmp_path: Path) -> Any:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield Aliases(ledger)


def test_an_alias_points_where_it_was_moved_last(aliases: Aliases) -> None:
    """Each alias of each line stands by itself."""
    aliases.promote("churn", "champion", "release-a")
    aliases.promote("churn", "challenger", "release-b")
    aliases.promote("fraud", "champion", "release-c")
    aliases.promote("churn", "champion", "release-b")
    assert aliases.all() == {
        "churn@challenger": "release-b",
        "churn@champion": "release-b",
        "fraud@champion": "release-c",
    }


def test_rollbacks_go_back_step_by_step(aliases: Aliases) -> None:
    """a, b, c rolled back twice is a, and a third time is refused."""
    for release in ("release-a", "release-b", "release-c"):
        aliases.promote("churn", "champion", release)
    assert aliases.rollback("churn").release == "release-b"
    assert aliases.rollback("churn").release == "release-a"
    with pytest.raises(NotFoundError, match="cannot be rolled back: it has pointed at no other"):
        aliases.rollback("churn")
    assert aliases.get("churn", "champion") == "release-a"


def test_what_follows_a_rollback_rolls_back_to_it(aliases: Aliases) -> None:
    """a, b, back to a, then c: the one before c is a, not b."""
    aliases.promote("churn", "champion", "release-a")
    aliases.promote("churn", "champion", "release-b")
    aliases.rollback("churn")
    aliases.promote("churn", "champion", "release-c")
    assert aliases.rollback("churn").release == "release-a"


def test_the_same_release_again_moves_nothing(aliases: Aliases) -> None:
    """A script that runs twice writes one move."""
    first = aliases.promote("churn", "champion", "release-a", why="good")
    assert aliases.promote("churn", "champion", "release-a", why="again") == first
    assert len(aliases.history()) == 1


def test_an_alias_can_be_taken_away(aliases: Aliases) -> None:
    """It points at nothing, cannot roll back to what was before, and its history stays."""
    aliases.promote("churn", "champion", "release-a")
    aliases.remove("churn", "champion", why="retired")
    with pytest.raises(NotFoundError, match="has no alias 'champion'"):
        aliases.get("churn", "champion")
    with pytest.raises(NotFoundError):
        aliases.remove("churn", "champion")
    assert aliases.all() == {}
    aliases.promote("churn", "champion", "release-b")
    with pytest.raises(NotFoundError, match="cannot be rolled back"):
        aliases.rollback("churn")
    assert [move.action for move in aliases.history()] == ["promote", "remove", "promote"]


def test_history_reads_as_sentences(aliases: Aliases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, when, from where to where, what was proved, and why."""
    monkeypatch.setattr(module, "_user", lambda: "ada")
    aliases.promote("churn", "champion", "release-" + "a" * 64)
    proof = {"num_rows": 1000}
    aliases.promote("churn", "champion", "release-" + "b" * 64, why="better recall", proof=proof)
    aliases.rollback("churn")
    told = [str(move).partition(": ")[2] for move in aliases.history()]
    assert told == [
        "ada made release-aaaaaaaaaaaa churn@champion, the first.",
        "ada made release-bbbbbbbbbbbb churn@champion, before it was release-aaaaaaaaaaaa; "
        "1,000 rows were answered as in training: better recall",
        "ada rolled churn@champion back to release-aaaaaaaaaaaa, before it was "
        "release-bbbbbbbbbbbb.",
    ]


def test_whoever_saw_an_older_state_is_refused(aliases: Aliases) -> None:
    """A move that follows one that was followed already does not count, and its author is told."""
    seen = aliases.promote("churn", "champion", "release-a").event
    aliases.promote("churn", "champion", "release-b", after=seen)
    with pytest.raises(ConflictError, match=r"moved by somebody else .* made release-b"):
        aliases.promote("churn", "champion", "release-c", after=seen)
    assert aliases.get("churn", "champion") == "release-b"
    assert aliases.rollback("churn").release == "release-a"


def test_of_many_at_once_one_wins(url: str) -> None:
    """Eight threads with ledgers of their own, all from the same state: one move counts."""
    with Ledger.open(url) as ledger:
        seen = Aliases(ledger).promote("churn", "champion", "release-first").event
    barrier, won, told = threading.Barrier(8), [], []

    def promote(number: int) -> None:
        with Ledger.open(url) as own:
            barrier.wait()
            try:
                move = Aliases(own).promote("churn", "champion", f"release-{number}", after=seen)
                won.append(move.release)
            except ConflictError as error:
                told.append(str(error))

    threads = [threading.Thread(target=promote, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(told) == 7
    with Ledger.open(url) as ledger:
        assert Aliases(ledger).get("churn", "champion") == won[0]
        assert all(won[0] in text for text in told)
        assert len(ledger.events(kind=EVENT)) == 9, "every attempt is written down"


@pytest.mark.parametrize(
    ("alias", "part"),
    [
        ("Champion", "a word of small letters"),
        ("", "a word of small letters"),
        ("latest", "not 'latest'"),
        ("a b", "a word of small letters"),
        ("x" * 64, "at most 63"),
        ("other@champion", "give 'champion', not 'other@champion'"),
    ],
)
def test_names_that_no_alias_may_have(aliases: Aliases, alias: str, part: str) -> None:
    """Each refusal tells the rule and nothing is written."""
    with pytest.raises(InputError, match=part):
        aliases.promote("churn", alias, "release-a")
    assert aliases.history() == []


def test_an_unknown_alias_names_near_ones(project: Project, made: Two) -> None:
    """A slip of the pen, another line's alias, and an alias of nothing."""
    with pytest.raises(NotFoundError, match="There is no alias yet"):
        project.release("churn@champion")
    project.aliases.promote("churn", "champion", made.trees)
    with pytest.raises(NotFoundError, match="Did you mean `churn@champion`"):
        project.release("churn@champon")
    with pytest.raises(NotFoundError, match="line 'fraud' has no alias 'champion'"):
        resolve(project, "fraud@champion")
    with pytest.raises(NotFoundError, match="is no alias"):
        resolve(project, "champion")


def test_every_way_to_name_a_release_takes_an_alias(project: Project, made: Two) -> None:
    """`release`, `resolve` and the function that services use agree."""
    project.aliases.promote("churn", "champion", made.linear)
    assert project.release("churn@champion").id == made.linear
    assert project.resolve("churn@champion").id == made.linear
    assert resolve(project, "churn@champion") == made.linear


@pytest.mark.parametrize(
    ("text", "expected"),
    [("churn@champion", True), ("a@b@x1", True), ("churn", False), ("@champion", False)],
)
def test_how_an_alias_is_written(text: str, expected: bool) -> None:
    """A name, an at sign and a word; names of lines may hold an at sign themselves."""
    assert is_alias(text) is expected


def test_roots_are_what_aliases_point_at_or_roll_back_to(aliases: Aliases) -> None:
    """The present release and those before it; not one that was rolled back from."""
    for release in ("release-a", "release-b", "release-c"):
        aliases.promote("churn", "champion", release)
    aliases.rollback("churn")
    aliases.promote("churn", "challenger", "release-d")
    assert aliases.roots() == {"release-a", "release-b", "release-d"}


def test_aliases_are_roots_of_collection(project: Project, made: Two) -> None:
    """What an alias points at is kept for that reason alone, whatever else the ledger knows."""
    project.aliases.promote("other", "champion", "release-" + "0" * 64)
    assert "release-" + "0" * 64 in project.roots(keep=0)
    project.collect(keep=0, grace_seconds=0)
    assert project.release(made.linear).artifact.inputs["replay"] in project.store.ids()


def test_rolling_back_to_a_damaged_release_is_refused(project: Project, made: Two) -> None:
    """The alias stays where it is."""
    project.aliases.promote("churn", "champion", made.linear)
    project.aliases.promote("churn", "champion", made.trees)
    file = project.store.get(made.linear).path("card.md")
    file.chmod(0o644)
    file.write_text("# another card")
    with pytest.raises(IntegrityError, match="is not rolled back to"):
        project.rollback("churn")
    assert project.aliases.get("churn", "champion") == made.trees


def test_a_kill_while_promoting_leaves_the_alias_or_moves_it(project: Project, made: Two) -> None:
    """A process that dies at any point of the write leaves a ledger that can be read and moved."""
    code = (
        "import os, sys; from loopline.line.project import open_project\n"
        "project = open_project(sys.argv[1], create=False)\n"
        "append = project.ledger.append\n"
        "def dying(*a, **k):\n"
        "    if sys.argv[3] == 'after': append(*a, **k)\n"
        "    os.kill(os.getpid(), 9)\n"
        "project.ledger.append = dying\n"
        "project.aliases.promote('churn', 'champion', sys.argv[2])\n"
    )
    for when, expected in (("before", {}), ("after", {"churn@champion": made.trees})):
        arguments = [str(project.local_folder), made.trees, when]
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
        assert done.returncode == -9
        assert project.aliases.all() == expected
    assert project.promote(made.linear).release == made.linear
