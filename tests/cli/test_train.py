"""`loopline train`: advice on a network's learning rate and batch size."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Call
from tests.line.conftest import make_table


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line of 300 rows with one small network."""
    monkeypatch.chdir(tmp_path)
    make_table(300).write_csv("customers.csv")
    settings = {
        "data": {"source": "customers.csv"},
        "target": "bought",
        "threads": 1,
        "split": {"folds": 2},
        "audit": "report",
        "models": ["linear", {"mlp": {"width": 16, "members": 2, "epochs": 2}}],
    }
    Path("loopline.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return tmp_path


def test_a_learning_rate_is_advised(line: Path, call: Call) -> None:
    """Rates and losses are told, the suggestion lies below the limit, the curve is drawn."""
    answer = call("train", "--find-lr", "-o", "lr.html", "--json")
    assert answer.code == 0, answer.message
    found = answer.json
    assert found["candidate"] == "mlp"
    assert len(found["rates"]) == len(found["losses"]) >= 10
    assert found["rates"][0] < found["suggested"] <= found["limit"] <= found["rates"][-1]
    assert "chart-advice" in (line / "lr.html").read_text(encoding="utf-8")


def test_a_batch_size_is_advised(line: Path, call: Call) -> None:
    """The noise scale is told as JSON knows numbers, with a sentence."""
    del line
    answer = call("train", "--find-batch", "--json")
    assert answer.code == 0, answer.message
    found = answer.json
    assert "The settings say 32." in found["sentence"]
    assert len(found["scales"]) == found["steps"] == 20
    assert "Infinity" not in answer.out


@pytest.mark.parametrize("flags", [(), ("--find-lr", "--find-batch")])
def test_one_question_at_a_time(line: Path, call: Call, flags: tuple[str, ...]) -> None:
    """Neither flag, or both, is refused."""
    del line
    call("train", *flags).refuses(2, "one question at a time")


def test_a_line_without_networks_is_refused(line: Path, call: Call) -> None:
    """Trees have no learning rate of this kind: the sentence says which candidates could."""
    del line
    call("train", "--find-lr", "--set", "models=linear").refuses(2, "networks are: none")
    call("train", "--find-lr", "--candidate", "linear").refuses(
        2, "no network named 'linear'", "networks are: mlp"
    )


def test_processes_without_a_network_have_no_effect(line: Path, call: Call) -> None:
    """`parallel` in a line of trees is a setting without effect."""
    del line
    call("run", "--set", "models=linear", "--set", "parallel.processes=2").refuses(
        2, "`parallel` has no effect"
    )
