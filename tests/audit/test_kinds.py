"""Each of the forty kinds of leak is planted, prevented, or stated with the reason."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def planted_leaks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/planted_leaks.py` as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import planted_leaks

    return planted_leaks


def test_none_of_the_forty_kinds_is_left_out(planted_leaks: ModuleType) -> None:
    """Every number has something to its right."""
    rows = [re.split(r" *\| *", line)[1:4] for line in planted_leaks.kinds()[2:]]
    assert [int(number) for number, _, _ in rows] == list(range(1, 41))
    assert all(name and done for _, name, done in rows)


def test_the_page_shows_the_kinds_as_they_are(planted_leaks: ModuleType) -> None:
    """`docs/audit.md` holds the table that the benchmark makes."""
    page = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    assert "\n".join(planted_leaks.kinds()) in page


def test_every_test_that_cheats_is_there(planted_leaks: ModuleType) -> None:
    """The names in the table of practices are those of tests."""
    tests = (ROOT / "tests/audit/test_practice.py").read_text(encoding="utf-8")
    for _, _, names in planted_leaks.PREVENTED:
        for name in names:
            assert f"def {name}(" in tests
