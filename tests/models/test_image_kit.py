"""The image family passes the public conformance kit in each of its ways to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loopline.data.schema import Task
from loopline.models.base import FitContext
from loopline.testing import families as kit

pytest.importorskip("torch", reason="the image family needs the extra `neural`")
pytest.importorskip("transformers", reason="the image family needs the extra `neural`")
pytest.importorskip("PIL", reason="the image family needs the extra `images`")

from tests.models.tiny_images import TinyResNet, TinySmall, TinyViT

OWN_PROCESS = kit.check_load_runs_no_code
QUICK = [check for check in kit.CHECKS if check is not OWN_PROCESS]
CORE = [kit.check_shape, kit.check_determinism, kit.check_save_and_load, kit.check_blocks]


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_the_small_network_conforms(check: kit.Check, tmp_path: Path) -> None:
    """A network trained from nothing does what the kit's check promises, for several classes."""
    check(TinySmall(), "multiclass", tmp_path)


@pytest.mark.parametrize("check", [*CORE, kit.check_target_scale], ids=lambda c: c.__name__)
def test_the_small_network_conforms_for_values(check: kit.Check, tmp_path: Path) -> None:
    """It does what the kit's core checks promise for a target of values."""
    check(TinySmall(), "regression", tmp_path)


@pytest.mark.parametrize("check", CORE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", [TinyResNet, TinyViT])
def test_a_pretrained_network_conforms(kind: type, check: kit.Check, tmp_path: Path) -> None:
    """A pretrained body, frozen or tuned, does what the kit's core checks promise."""
    check(kind(), "multiclass", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", kit.TASKS)
@pytest.mark.parametrize("kind", [TinySmall, TinyResNet, TinyViT])
def test_networks_conform_in_every_task(
    kind: type, task: Task, check: kit.Check, tmp_path: Path
) -> None:
    """Every check of the kit holds for every way to learn and every task."""
    check(kind(), task, tmp_path)


@pytest.mark.parametrize("kind", [TinySmall, pytest.param(TinyResNet, marks=pytest.mark.slow)])
def test_loading_runs_no_code(kind: type, tmp_path: Path) -> None:
    """Loading a saved image model only reads data."""
    OWN_PROCESS(kind(), "binary", tmp_path)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns() -> None:
    """The same rows, draws and gradients, however many processes share a batch."""
    table = kit.table_for(TinySmall(), "binary", 60)
    view = kit.make_view("binary", table)
    params = {"epochs": 2.0, "dropout": 0.0, "augment": "shift"}
    answers = [
        TinySmall().fit(view, None, params, FitContext(seed=5, processes=processes)).predict(table)
        for processes in (1, 2)
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=2e-5)
