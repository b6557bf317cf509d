"""`loopline parity`: errors of layouts against one process, and an exit code."""

from __future__ import annotations

import importlib.util

import pytest
from tests.cli.conftest import Call

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs the extra neural"
)


def test_both_layouts_hold_in_fp32(call: Call) -> None:
    """Loss and gradient of DDP and FSDP2 on two processes are within 1e-6 of one process."""
    answer = call("parity", "--precision", "fp32", "--json")
    assert answer.code == 0, answer.message
    assert answer.json["holds"] is True
    lines = answer.json["layouts"]
    assert [(line["layout"], line["world"], line["steps"]) for line in lines] == [
        ("ddp", 2, 3), ("fsdp", 2, 3),
    ]  # fmt: skip
    for line in lines:
        assert line["loss"] < 1e-6
        assert 0.0 < line["gradient"] < 1e-6


def test_over_the_threshold_it_fails(call: Call) -> None:
    """Under a threshold that rounding breaks: the table, a sentence, exit code 4."""
    answer = call("parity", "--layouts", "fsdp2", "--precision", "bf16", "--threshold", "1e-9")
    answer.refuses(4, "fsdp in bf16: further from one process than the threshold")
    assert "NO" in answer.out


def test_wrong_names_are_told_together(call: Call) -> None:
    """An unknown layout, an unknown format and a threshold of nothing: three sentences."""
    answer = call("parity", "--layouts", "tp", "--precision", "fp8", "--threshold", "0")
    answer.refuses(2, "3 problems", "There is no layout 'tp'", "There is no format 'fp8'")


def test_one_process_has_nothing_to_compare(call: Call) -> None:
    """At least two."""
    call("parity", "--processes", "1").refuses(2, "--processes")
