"""Every family passes the public conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopline.data.schema import Task
from loopline.models.families import FAMILY_NAMES, family
from loopline.testing import families as kit

OWN_PROCESS = kit.check_load_runs_no_code
QUICK = [check for check in kit.CHECKS if check is not OWN_PROCESS]


OWN_COLUMNS = {"image", "text", "ngram", "lm", "clip", "multimodal"}
"""Families that read certain types of columns, which have tests of their own."""
LABELS = [name for name in FAMILY_NAMES if "multilabel" in family(name).tasks]
LANGUAGE = [name for name in FAMILY_NAMES if "language" in family(name).tasks]


@pytest.fixture(params=[name for name in FAMILY_NAMES if name not in OWN_COLUMNS])
def name(request: pytest.FixtureRequest) -> str:
    """The name of each family; an extra that is not installed is skipped."""
    if request.param in ("xgboost", "catboost"):
        pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", kit.TASKS)
def test_family_conforms(name: str, task: Task, check: kit.Check, tmp_path: Path) -> None:
    """The family does what the kit's check promises."""
    check(family(name), task, tmp_path)


def test_loading_runs_no_code(name: str, tmp_path: Path) -> None:
    """Loading a saved model only reads data."""
    OWN_PROCESS(family(name), "binary", tmp_path)


@pytest.mark.parametrize("check", kit.LANGUAGE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("which", LANGUAGE)
def test_family_of_language_conforms(which: str, check: kit.Check, tmp_path: Path) -> None:
    """A family that predicts texts themselves does what the kit's check promises."""
    if which == "lm":
        pytest.importorskip("torch")
    check(family(which), "language", tmp_path)


@pytest.mark.parametrize("check", kit.MULTILABEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("which", [name for name in LABELS if name not in OWN_COLUMNS])
def test_family_of_labels_conforms(which: str, check: kit.Check, tmp_path: Path) -> None:
    """A family that gives a row any of several labels does what the kit's check promises."""
    check(family(which), "multilabel", tmp_path)
