"""`loopline search`: spaces shown, studies made alone, trials found again by a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.line.processes import write_project

from loopline.cli.app import app
from loopline.cli.edge import guarded
from loopline.line.project import open_project
from loopline.splits.vault import EVENT

SETTINGS: dict[str, Any] = {
    "models": ["baseline", {"linear": {"max_iter": 150}}, {"lightgbm": {"rounds": 10}}],
    "search": {"trials": 5, "space": {"lightgbm": {"num_leaves": [4, 9]}}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_project(tmp_path, **SETTINGS))
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code = guarded(app, [*arguments, "--json"])
    out = capsys.readouterr().out
    assert code == 0, out
    found: dict[str, Any] = json.loads(out)
    return found


def test_spaces_are_shown_and_nothing_is_fitted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranges, defaults and reasons, by the facts of this table; no model is made."""
    told = answer(capsys, "search", "--show-space")
    assert told["facts"]["num_rows"] == 160
    assert told["facts"]["columns"] == {"category": 1, "number": 2}
    trees = told["candidates"]["lightgbm"]
    assert trees["given"] == {"rounds": 10}
    leaves = trees["parameters"]["num_leaves"]
    assert (leaves["low"], leaves["high"], leaves["log"], leaves["default"]) == (4, 9, True, 31)
    assert "cat_smooth" in trees["parameters"]
    assert told["not_searched"] == {"baseline": "the family has nothing to search here"}
    assert told["method"].startswith("random: 5 trials for 2 candidates")
    with open_project(folder / ".loopline") as project:
        assert not {
            name for name in project.store.ids() if name.split("-")[0] in ("foldfit", "trial")
        }


def test_spaces_are_told_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for a person."""
    assert guarded(app, ["search", "--show-space"]) == 0
    out = capsys.readouterr().out
    assert "num_leaves         4 … 9, log scale, default 31" in out
    assert "baseline: not searched" in out


def test_a_search_alone_is_found_by_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`search` makes 5 trials, looks at no test row; `run` finds all of them, and the same best."""
    alone = answer(capsys, "search")
    assert alone["trials"]["asked"] == 5
    with open_project(folder / ".loopline") as project:
        assert not project.ledger.events(kind=EVENT)
        assert not [name for name in project.store.ids() if name.startswith(("model", "release"))]
        kept = project.collect(keep=0, grace_seconds=0.0, dry_run=True).ids
        assert not [name for name in kept if name.startswith(("trial", "study"))]
    whole = answer(capsys, "run")["search"]
    assert whole["trials"]["restored"] == 5
    assert whole["best"] == alone["best"]


def test_a_search_alone_is_told_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of candidates, what was found, what comes next."""
    assert guarded(app, ["search", "--set", "search.trials=3"]) == 0
    out = capsys.readouterr().out
    assert "complete / given up / failed" in out
    assert "`loopline run` with the same settings finds these trials" in out


def test_without_search_in_the_file_its_defaults_hold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--set search=null` searches what a plain `search: {}` would."""
    told = answer(capsys, "search", "--show-space", "--set", "search=null")
    assert told["candidates"]["lightgbm"]["parameters"]["num_leaves"]["high"] == 16
    assert told["method"] == "bayesian, TPE: trials are cheap"
