"""`loopline compare` and `loopline advise` as people and scripts call them."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.cli.conftest import Call


def test_advice_as_text_and_as_json(call: Call, in_project: Path) -> None:
    """Text names steps with their commands; JSON is one object with the same steps."""
    told = call("advise", "--budget", "0s")
    assert told.code == 0, told.message
    data = call("advise", "latest", "--budget", "0s", "--json").json
    assert {"run", "steps", "unpriced", "sentence", "level"} <= set(data)
    assert all(step["command"] in told.out for step in data["steps"])
    assert data["sentence"] in told.out


def test_two_runs_are_compared_from_the_command_line(call: Call, copied: Path) -> None:
    """A second run with one other setting: the sentence, the scores and that setting."""
    first = call("runs", "--json").json[0]["run"]
    assert call("run", "--set", "seed=1", "--json").code == 0
    second = next(each["run"] for each in call("runs", "--json").json if each["run"] != first)
    told = call("compare", first, second)
    assert told.code == 0, told.message
    assert "seed: 0 → 1" in told.out
    (pair,) = call("compare", first, second, "--json").json["pairs"]
    assert (pair["before"], pair["after"], pair["kind"]) == (first, second, "paired")
    assert pair["sentence"] in told.out


def test_wrong_questions_are_refused_in_a_sentence(call: Call, in_project: Path) -> None:
    """One run, no such run, a budget that is no time: exit code 2 and what to do."""
    call("compare", "latest").refuses(2, "at least two runs, got 1")
    call("compare", "latest", "latest").refuses(2, "given already")
    call("compare", "latest", "run-ffff").refuses(2, "There is no run 'run-ffff'")
    call("advise", "latest", "--budget", "soon").refuses(2, "`--budget`", "'soon'")
    call("advise", "run-ffff").refuses(2, "There is no run")


def test_a_command_of_advice_is_one_that_the_shell_understands(
    call: Call, in_project: Path
) -> None:
    """What advice prints is read by the shell as `loopline` with its arguments."""
    data = call("advise", "--budget", "0s", "--json").json
    for entry in (*data["steps"], *data["unpriced"]):
        if entry["command"]:
            assert shlex.split(entry["command"])[0] == "loopline"
