"""The page about cleaning says what the policy is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loopline.data.cleaning.policy import KINDS, REPAIRABLE, CleanPolicy

PAGE = Path(__file__).resolve().parents[2] / "docs/cleaning.md"
LINE = re.compile(r"^\| `(\w+)` \| (.+) \| (\w+) \| (.+) \|$", re.M)


def test_every_kind_stands_in_the_page_once() -> None:
    """The table has one line for each kind of finding, and none besides."""
    named = [line[0] for line in LINE.findall(PAGE.read_text(encoding="utf-8"))]
    assert sorted(named) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_default_and_repair_are_those_of_the_code(kind: str) -> None:
    """The page tells the default action and whether there is a repair as the policy has them."""
    lines = {line[0]: line for line in LINE.findall(PAGE.read_text(encoding="utf-8"))}
    _, meaning, default, repair = lines[kind]
    assert len(meaning) > 10
    assert default == CleanPolicy().action(kind)
    assert (repair != "–") == (kind in REPAIRABLE)
