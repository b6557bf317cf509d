"""The text family passes the public conformance kit in each of its ways to learn."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.tiny_text import TinyFull, TinyLora, TinyText

from loopline.data.schema import Task
from loopline.testing import families as kit

for package in ("torch", "transformers", "tokenizers"):
    pytest.importorskip(package, reason="the text family needs the extra `neural`")

OWN_PROCESS = kit.check_load_runs_no_code
QUICK = [check for check in kit.CHECKS if check is not OWN_PROCESS]
CORE = [kit.check_shape, kit.check_determinism, kit.check_save_and_load, kit.check_blocks]


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", kit.TASKS)
def test_a_head_conforms(task: Task, check: kit.Check, tmp_path: Path) -> None:
    """A frozen encoder with a linear head does what the kit's check promises."""
    check(TinyText(), task, tmp_path)


@pytest.mark.parametrize("check", CORE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", [TinyFull, TinyLora])
def test_a_tuned_encoder_conforms(kind: type, check: kit.Check, tmp_path: Path) -> None:
    """A tuned encoder, whole or by adapters, does what the kit's core checks promise."""
    if kind is TinyLora:
        pytest.importorskip("peft")
    check(kind(), "multiclass", tmp_path)


@pytest.mark.parametrize("check", kit.MULTILABEL_CHECKS, ids=lambda check: check.__name__)
def test_a_head_conforms_where_rows_have_several_labels(check: kit.Check, tmp_path: Path) -> None:
    """A frozen encoder with one logistic regression a label does what the kit promises."""
    check(TinyText(), "multilabel", tmp_path)


@pytest.mark.parametrize("check", [*CORE, kit.check_weights, kit.check_class_order])
@pytest.mark.parametrize("kind", [TinyFull, TinyLora])
def test_a_tuned_encoder_conforms_where_rows_have_several_labels(
    kind: type, check: kit.Check, tmp_path: Path
) -> None:
    """A tuned encoder with a sigmoid a label does what the kit's core checks promise."""
    if kind is TinyLora:
        pytest.importorskip("peft")
    check(kind(), "multilabel", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", kit.TASKS)
@pytest.mark.parametrize("kind", [TinyFull, TinyLora])
def test_tuning_conforms_in_every_task(
    kind: type, task: Task, check: kit.Check, tmp_path: Path
) -> None:
    """Every check of the kit holds for full tuning and for adapters."""
    if kind is TinyLora:
        pytest.importorskip("peft")
    check(kind(), task, tmp_path)


@pytest.mark.parametrize("kind", [TinyText, TinyFull])
def test_loading_runs_no_code(kind: type, tmp_path: Path) -> None:
    """Loading a saved text model only reads data."""
    OWN_PROCESS(kind(), "binary", tmp_path)
