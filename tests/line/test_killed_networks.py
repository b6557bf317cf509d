"""Lines over language, pairs and mixed rows: killed in the midst of training, they go on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch", reason="networks need the extra `neural`")
pytest.importorskip("PIL", reason="networks on images need the extra `images`")

from tests.line.processes import SECONDS, finish, outcome, summary_of
from tests.models.tiny_clip import make_pairs

from loopline.testing.families import make_documents, make_mixed_table

OFTEN = (
    "import sys; from loopline.nets import training; training.SAVE_SECONDS = 0.0; "
    "from loopline.cli.main import main; sys.exit(main())"
)
"""`loopline` with a checkpoint after each step instead of each minute."""


def language(folder: Path) -> dict[str, Any]:
    """Sixty short documents and a decoder of one layer."""
    make_documents(60).select("note").write_parquet(folder / "rows.parquet")
    small = {"width": 16, "head_width": 8, "layers": 1, "vocabulary": 280, "length": 32}
    learned = {"epochs": 30, "learning_rate": 0.01, "batch_size": 2}
    return {"target": "note", "task": "language", "models": [{"lm": {**small, **learned}}]}


def pairs(folder: Path) -> dict[str, Any]:
    """Pictures with captions and two small encoders."""
    make_pairs(48).write_parquet(folder / "rows.parquet")
    small = {"width": 16, "layers": 1, "batch_size": 16, "epochs": 8.0}
    return {
        "target": "caption",
        "task": "retrieval",
        "columns": {"picture": {"type": "image"}},
        "models": [{"clip": small}],
    }


def mixed(folder: Path) -> dict[str, Any]:
    """Rows of a table, a text and an image."""
    make_mixed_table("binary", 80).write_parquet(folder / "rows.parquet")
    small = {"text_model": "terms", "epochs": 8.0, "batch_size": 16, "width": 16, "members": 2}
    return {
        "target": "target",
        "columns": {"note": {"type": "text"}, "picture": {"type": "image"}},
        "models": [{"multimodal": {**small, "patience": 0}}],
    }


KINDS = {"lm": language, "clip": pairs, "multimodal": mixed}


def project(folder: Path, kind: Callable[[Path], dict[str, Any]]) -> Path:
    """A line of two folds over a small table."""
    folder.mkdir()
    given = kind(folder)
    settings = {
        "data": {"source": "rows.parquet"},
        "threads": 1,
        "split": {"folds": 2},
        **given,
    }
    (folder / "loopline.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    """Run the line in a process of its own, with a checkpoint after each step."""
    return subprocess.Popen(
        [sys.executable, "-c", OFTEN, "run", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def saved_steps(folder: Path) -> set[Path]:
    """The checkpoints of fits that are going on."""
    return set((folder / ".loopline" / "fits").glob("*/checkpoints/*"))


def kill_while_training(folder: Path, checkpoints: int) -> set[Path]:
    """`kill -9` a line once it wrote so many checkpoints; those that were left."""
    child, seen = start(folder), set[Path]()
    end = time.monotonic() + SECONDS
    while len(seen) < checkpoints and child.poll() is None and time.monotonic() < end:
        seen |= saved_steps(folder)
        time.sleep(0.001)
    child.kill()
    _, out, err = finish(child)
    assert len(seen) >= checkpoints, f"ended before: {out[-300:]} {err[-2000:]}"
    return saved_steps(folder)


def compare(kind: str, folder: Path, kills: int, chance: random.Random) -> None:
    """A quiet run and one that was killed so often give the same digests."""
    whole = summary_of(start(project(folder / "whole", KINDS[kind])))
    assert whole["chosen"] == kind
    place = project(folder / "killed", KINDS[kind])
    for _ in range(kills):
        assert kill_while_training(place, chance.randint(2, 12))  # in the midst of a fit
    assert outcome(summary_of(start(place))) == outcome(whole)
    assert list((place / ".loopline" / "fits").glob("*")) == []


@pytest.mark.parametrize("kind", ["clip", "multimodal"])
def test_a_killed_line_gives_the_digests_of_a_quiet_one(kind: str, tmp_path: Path) -> None:
    """Killed at a random step, the same command gives the same release."""
    compare(kind, tmp_path, 1, random.Random())


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_many_kills_change_nothing(kind: str, tmp_path: Path) -> None:
    """Killed six times at random steps, in all fits of the line, it gives the same release."""
    compare(kind, tmp_path, 6, random.Random(5))
