"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.postgres_server import postgres_server, postgres_url

__all__ = ["data_dir", "postgres_server", "postgres_url"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """Finds a folder of real data by name, or skips and says where it was looked for."""
    base = Path(os.environ.get("LOOPLINE_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = base / name
        if not folder.is_dir():
            pytest.skip(f"real data {name!r} is not in {base} (set LOOPLINE_DATA)")
        return folder

    return find
