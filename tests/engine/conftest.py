"""The engine's tests need torch; without it they are left out."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny nets are fastest on one thread, and equal bits need a fixed number."""
    import torch

    torch.set_num_threads(1)
