"""Every command's happy path, with and without --json, on one finished project."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.cli.conftest import Call

COMMANDS = {
    "run": (["run"], "Nothing to do", "release"),
    "runs": (["runs"], "finished", None),
    "releases": (["releases"], "auc", None),
    "report": (["report"], ".html", "report"),
    "evaluate": (["evaluate", "latest", "labelled.csv"], "auc", "metrics"),
    "lineage": (["lineage"], "snapshot", "ancestors"),
    "verify": (["verify"], "made again bit by bit", "proved"),
    "doctor": (["doctor"], "✓ project", "checks"),
    "gc": (["gc", "--dry-run"], "would remove", "removed"),
    "schema": (["schema"], "Loopline settings", "properties"),
    "data show": (["data", "show", "d.csv"], "120 rows", "columns"),
    "data diff": (["data", "diff", "d.csv", "labelled.csv"], "row", None),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_people_get_text(name: str, call: Call, in_project: Path) -> None:
    """Each command ends with 0 and tells its result as text."""
    arguments, text, _ = COMMANDS[name]
    answer = call(*arguments)
    assert answer.code == 0, answer.message
    assert text in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_scripts_get_one_json_object(name: str, call: Call, in_project: Path) -> None:
    """With --json stdout is one JSON value and nothing else."""
    arguments, _, key = COMMANDS[name]
    answer = call(*arguments, "--json")
    assert answer.code == 0, answer.message
    assert key is None or key in answer.json


def test_init_writes_a_file_that_runs(call: Call, copied: Path) -> None:
    """What `init` writes, `run` accepts."""
    told = call("init", "d.csv", "--target", "bought", "-o", "made.yaml", "--json")
    assert (told.code, told.json["file"]) == (0, "made.yaml")
    assert call("run", "made.yaml", "--set", "models=baseline").code == 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_predict_writes_each_ending(ending: str, call: Call, copied: Path) -> None:
    """Twelve rows in, twelve predictions out, in every format that is promised."""
    answer = call("predict", "latest", "new.csv", "-o", f"out/p.{ending}", "--json")
    assert (answer.code, answer.json["num_rows"]) == (0, 12)
    assert [path.name for path in (copied / "out").iterdir()] == [f"p.{ending}"]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "arrow"])
def test_predict_reads_other_kinds_than_training_did(ending: str, call: Call, copied: Path) -> None:
    """A line trained on CSV predicts the same for the same rows in another kind of file."""
    new = pl.read_csv("new.csv")
    writers = {"parquet": new.write_parquet, "jsonl": new.write_ndjson, "arrow": new.write_ipc}
    writers[ending](f"new.{ending}")
    assert call("predict", "latest", "new.csv", "-o", "a.csv").code == 0
    answer = call("predict", "latest", f"new.{ending}", "-o", "b.csv")
    assert answer.code == 0, answer.message
    assert Path("a.csv").read_text() == Path("b.csv").read_text()


def test_environment_names_the_store_for_every_command(
    call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LOOPLINE_STORE rules over `run` as over `runs`, so both see one project."""
    monkeypatch.setenv("LOOPLINE_STORE", "elsewhere")
    assert call("run", "--set", "models=baseline").code == 0
    assert (copied / "elsewhere" / "format.json").exists()
    assert "finished" in call("runs").out


def test_home_sign_is_followed(call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a source, an output and a store is the home folder, never a folder of that name."""
    monkeypatch.setenv("HOME", str(copied))
    assert call("data", "show", "~/d.csv").code == 0
    assert call("predict", "latest", "~/new.csv", "-o", "~/p.csv").code == 0
    assert call("runs", "--store", "~/.loopline").code == 0
    assert (copied / "p.csv").exists()
    assert not (copied / "~").exists()


def test_symlinked_source_is_read(call: Call, copied: Path) -> None:
    """A link to the table is the table: the run is found again."""
    (copied / "d.csv").rename("real.csv")
    (copied / "d.csv").symlink_to("real.csv")
    assert call("run", "--json").json["found"]
