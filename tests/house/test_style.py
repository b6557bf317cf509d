"""House rules that a reader would otherwise have to watch."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import loopline

PACKAGE = Path(loopline.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [path.relative_to(PACKAGE).as_posix() for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_pickle_and_no_code_from_data(path: Path) -> None:
    """No module uses pickle, joblib, marshal, shelve, eval, exec or an unsafe YAML loader."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        assert not names & {"pickle", "joblib", "cloudpickle", "marshal", "shelve", "dill"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"unsafe_load", "full_load"}, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_broad_except_only_at_the_edge(path: Path) -> None:
    """`except Exception` and bare `except` stand at the process edge only."""
    if path.name == "edge.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            name = getattr(node.type, "id", None)
            assert node.type is not None, f"line {node.lineno}"
            last = node.body[-1]
            if name == "BaseException" and isinstance(last, ast.Raise) and last.exc is None:
                continue  # tidies up and lets the error pass
            assert name not in {"Exception", "BaseException"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Every module begins with a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "write one"


def test_no_dumping_grounds() -> None:
    """There is no utils.py, helpers.py or manager.py."""
    assert not [path for path in MODULES if re.match(r"(utils?|helpers?|managers?)\.py", path.name)]


def test_every_test_states_its_claim() -> None:
    """Every test function has a docstring."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef)
                and node.name.startswith("test_")
                and not ast.get_docstring(node)
            ):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not silent
