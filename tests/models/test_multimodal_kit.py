"""The multimodal family passes the public conformance kit on rows of a table, a text, an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopline.data.schema import Task
from loopline.testing import families as kit

pytest.importorskip("torch", reason="the multimodal family needs the extra `neural`")
pytest.importorskip("transformers", reason="the multimodal family needs the extra `neural`")
pytest.importorskip("PIL", reason="images need the extra `images`")

from tests.models.tiny_mixed import TinyFromNothing, TinyMixed, TinyTuned

OWN_PROCESS = kit.check_load_runs_no_code
QUICK = [check for check in kit.CHECKS if check is not OWN_PROCESS]
CORE = [kit.check_shape, kit.check_determinism, kit.check_save_and_load, kit.check_blocks]


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_rows_of_three_parts_conform(check: kit.Check, tmp_path: Path) -> None:
    """With a frozen text encoder the family does what the kit's check promises."""
    check(TinyMixed(), "multiclass", tmp_path)


@pytest.mark.parametrize("check", [*CORE, kit.check_target_scale], ids=lambda c: c.__name__)
def test_rows_of_three_parts_conform_for_values(check: kit.Check, tmp_path: Path) -> None:
    """It does what the kit's core checks promise for a target of values."""
    check(TinyMixed(), "regression", tmp_path)


@pytest.mark.parametrize("check", CORE, ids=lambda check: check.__name__)
def test_bodies_that_learn_conform(check: kit.Check, tmp_path: Path) -> None:
    """With pretrained bodies that learn it does what the kit's core checks promise."""
    check(TinyTuned(), "binary", tmp_path)


@pytest.mark.parametrize("check", [kit.check_save_and_load], ids=lambda check: check.__name__)
def test_a_network_from_nothing_conforms(check: kit.Check, tmp_path: Path) -> None:
    """The network for images that starts from nothing is saved and loaded to the bit."""
    check(TinyFromNothing(), "binary", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", kit.TASKS)
@pytest.mark.parametrize("kind", [TinyMixed, TinyTuned, TinyFromNothing])
def test_every_check_in_every_task(
    kind: type, task: Task, check: kit.Check, tmp_path: Path
) -> None:
    """Every check of the kit holds, frozen or tuned, in every task."""
    check(kind(), task, tmp_path)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    """Loading a saved model of several parts only reads data."""
    OWN_PROCESS(TinyMixed(), "binary", tmp_path)
