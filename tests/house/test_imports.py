"""The house's floors: imports run downward only, without cycles, and starting stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import loopline

PACKAGE = Path(loopline.__file__).parent
FLOORS = {
    "errors": 0, "digest": 0, "seeds": 0, "progress": 0, "frames": 0, "words": 0, "cores": 0,
    "memory": 0, "processes": 0,
    "store": 1,
    "data": 2, "label": 2, "cluster": 2,
    "splits": 3, "features": 4, "engine": 3, "nets": 4,
    "models": 5, "evaluate": 5,
    "select": 6, "search": 6, "runtime": 6,
    "release": 7, "audit": 7, "serve": 8, "monitor": 8,
    "line": 9, "loop": 10, "cli": 11, "ui": 11, "testing": 12, "__main__": 12,
}  # fmt: skip
HEAVY = {
    "torch", "transformers", "lightgbm", "sklearn", "scipy", "xgboost", "catboost", "pandas",
    "pyarrow", "plotly", "sqlalchemy", "ray", "onnx", "onnxruntime", "fastexcel", "s3fs",
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, *, top_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    nodes = list(tree.body) if top_only else list(ast.walk(tree))
    while top_only and any(isinstance(node, ast.Try) for node in nodes):
        nodes = [
            inner
            for node in nodes
            for inner in (node.body if isinstance(node, ast.Try) else [node])
        ]
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _member(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "loopline" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_run_downward(path: Path) -> None:
    """No module imports a higher floor, nor another member of its own floor, anywhere in it."""
    own = _member(_name(path))
    if own is None:
        return
    for module in _imports(path, top_only=False):
        other = _member(module)
        if other is None or other == own:
            continue
        assert other in FLOORS, f"{_name(path)} imports {module}, which has no floor"
        both_ground = FLOORS[own] == 0 and FLOORS[other] == 0
        assert both_ground or FLOORS[other] < FLOORS[own], (
            f"{_name(path)} (floor {FLOORS[own]}) imports {module} (floor {FLOORS[other]})"
        )


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    """No module imports a heavy package when it is itself imported."""
    heavy = {module.split(".")[0] for module in _imports(path, top_only=True)} & HEAVY
    if _member(_name(path)) in ("engine", "nets"):
        heavy -= {"torch"}  # these are where torch is used
    assert not heavy, f"{_name(path)} imports {sorted(heavy)} at its top"


def test_there_is_no_cycle_of_modules() -> None:
    """The import graph of modules, as loaded at start, has no cycle."""
    names = {_name(path): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    targets.add(inner if inner in names else node.module)
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        graph[name] = {target for target in targets if target in names and target != name}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for target in sorted(graph[name]):
            walk(target, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        walk(name, ())


def test_importing_loopline_loads_nothing_heavy() -> None:
    """`import loopline` loads no other package than the standard library's."""
    code = (
        "import sys; before = set(sys.modules); import loopline; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not (set(loaded) & (HEAVY | {"numpy", "polars", "pydantic", "typer", "rich"}))


def test_help_loads_nothing_heavy() -> None:
    """`loopline --help` loads neither polars nor numpy nor any heavy package."""
    code = (
        "import sys; from loopline.cli import main; sys.argv = ['loopline', '--help']\n"
        "try:\n    main.main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split("LOADED")[1].split())
    assert not (loaded & (HEAVY | {"numpy", "polars", "pydantic"}))


def test_nothing_imports_the_testing_kits() -> None:
    """The public kits are for tests only."""
    for path in MODULES:
        if _member(_name(path)) != "testing":
            used = {module for module in _imports(path, top_only=False) if "testing" in module}
            assert not {module for module in used if module.startswith("loopline")}, _name(path)
