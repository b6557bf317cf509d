"""Freed memory goes back to the system where a command asks for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

KEPT = """
import sys
if sys.argv[1] == "asked":
    from loopline.memory import give_back_at_once
    give_back_at_once()
import numpy as np

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

np.ones(3_500_000)  # 28 MB, mapped: glibc now takes blocks of that size from its heap
before = resident()
blocks = [np.ones(100_000) for _ in range(100)]  # 80 MB
last = np.ones(10)
del blocks
print(resident() - before)
"""

ORDER = """
import os, sys
from typer.testing import CliRunner
from loopline.cli.app import app
assert "polars" not in sys.modules, "the command line imports polars before a command runs"
done = CliRunner().invoke(app, [sys.argv[1], "no-such-thing"])
print(os.environ["_RJEM_MALLOC_CONF"])
"""


def printed(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by /proc")
def test_freed_blocks_leave_the_process() -> None:
    """Of 80 MB in freed blocks less than 8 MB stay; without asking far more."""
    assert int(printed(KEPT, "asked")) < 8_000_000
    assert int(printed(KEPT, "plain")) > 16_000_000


@pytest.mark.parametrize(
    ("command", "asked"),
    [("audit", "dirty_decay_ms:0,muzzy_decay_ms:0"), ("serve", "narenas:1")],
)
def test_commands_ask_before_polars_is_loaded(command: str, asked: str) -> None:
    """The variable that polars reads at its import is set by `audit` and `serve` before."""
    assert printed(ORDER, command).splitlines()[-1].endswith(asked)
