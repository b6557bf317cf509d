"""A stage is found again by its name, version, settings and inputs, and by nothing less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopline.line import context as stages
from loopline.line.context import LineContext
from loopline.line.spec import Spec
from loopline.progress import SilentReporter
from loopline.store.artifacts import Artifact, Store
from loopline.store.ledger import Ledger

Run = Callable[..., bool]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a stage in a process of its own, so to say; says whether its answer was found."""
    store = Store.open(tmp_path / "store")
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    spec = Spec.model_validate({"data": {"source": "t.csv"}, "target": "y"})

    def run(
        name: str = "split",
        version: int = 1,
        settings: Any = None,
        inputs: dict[str, str] | None = None,
    ) -> bool:
        context = LineContext(spec, tmp_path, store, ledger, SilentReporter())

        def make() -> Artifact:
            text = repr((name, version, settings, inputs))
            return store.put("note", lambda folder: (folder / "a.txt").write_text(text) and None)

        context.stage(name, version, settings=settings, inputs=inputs or {}, make=make)
        return bool(context.stages[0]["found"])

    return run


def test_the_same_stage_is_found(run: Run) -> None:
    """The second time nothing is made."""
    assert not run(settings={"a": 1}, inputs={"x": "note-1"})
    assert run(settings={"a": 1}, inputs={"x": "note-1"})


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"version": 2},
        {"settings": {"a": 2}},
        {"inputs": {"x": "note-2"}},
        {"inputs": {"z": "note-1"}},
    ],
    ids=["name", "version", "settings", "input", "role"],
)
def test_another_stage_is_made_anew(run: Run, changed: dict[str, Any]) -> None:
    """Another name, version, setting, input or role of an input is another stage."""
    first: dict[str, Any] = {"settings": {"a": 1}, "inputs": {"x": "note-1"}}
    assert not run(**first)
    assert not run(**(first | changed))
    assert run(**first)


def test_worded_stages_are_made_again_by_another_version(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage with sentences belongs to the version that worded them; one of numbers does not."""
    assert not run("choice")
    assert not run("fit")
    monkeypatch.setattr(stages, "__version__", "999")
    assert not run("choice")
    assert run("fit")


def test_a_damaged_answer_is_made_again(run: Run, tmp_path: Path) -> None:
    """A flipped byte in what a stage made is seen before it is used; the stage runs once more."""
    assert not run()
    (file,) = (tmp_path / "store" / "artifacts" / "note").rglob("a.txt")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert not run()
    assert run()
