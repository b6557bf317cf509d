"""What a newcomer reads: commands that work as printed, reasons that name their key, one order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Call
from tests.line.conftest import make_table

from loopline.cli.options import program


def test_init_looks_for_the_data_first(call: Call, copied: Path) -> None:
    """A missing table is told even where the settings file exists already."""
    call("init", "dd.csv", "--target", "bought").refuses(2, "no file 'dd.csv'", "'d.csv'")
    call("init", "d.csv", "--target", "bought", "--test", "t.csv").refuses(2, "no file 't.csv'")
    call("init", "d.csv", "--target", "bought").refuses(2, "loopline.yaml exists. Use --force")


@pytest.mark.parametrize(
    ("started", "on_path", "told"),
    [
        ("bin/loopline", "bin", "loopline"),
        ("bin/loopline", "other", "{here}/bin/loopline"),
        ("bin/loopline", None, "{here}/bin/loopline"),
        ("lib/__main__.py", "bin", f"{sys.executable} -m loopline"),
        ("pytest", "bin", "loopline"),
    ],
)
def test_commands_are_printed_so_that_they_work(
    started: str, on_path: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`loopline` only where that name finds the program which runs, else its path."""
    for name in ("bin", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loopline").write_text("#!/bin/sh\n")
        (tmp_path / name / "loopline").chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / started)])
    monkeypatch.setenv("PATH", str(tmp_path / on_path) if on_path else str(tmp_path / "empty"))
    assert program() == told.format(here=tmp_path)


def test_the_summary_says_each_thing_once(call: Call, in_project: Path) -> None:
    """One interval in the reason, one line on the openings, both thresholds, full stops."""
    out = call("run").out
    (why,) = re.findall(r"^linear scored best .*$", out, flags=re.M)
    assert why.count("[") == 1
    assert re.search(r"^  baseline   0\.5000  ", out, flags=re.M)
    assert out.count("The labels of these test rows were opened once, for this score.") == 1
    (decision,) = re.findall(r"^Decision threshold: .*$", out, flags=re.M)
    for part in ("for the goal F1: F1 0.", "precision 0.", "recall 0.", "At 0.5 it would be F1"):
        assert part in decision
    assert "`objective.threshold`, `objective.cost` or `objective.require` set another." in out


def test_what_init_wrote_is_not_called_a_wish(call: Call, here: Path) -> None:
    """Values that the settings file holds name their key; nobody is told that he said so."""
    make_table(120).write_csv("d.csv")
    assert call("init", "d.csv", "--target", "bought").code == 0
    told = call("run", "--set", "models=baseline", "--json")
    assert told.code == 0, told.message
    page = Path(told.json["report"]).read_text(encoding="utf-8")
    assert "set by <code>task</code>" in page
    assert "set by <code>positive</code>" in page
    for phrase in ("you said", "As the settings ask"):
        assert phrase not in page + str(told.json)


def test_metrics_begin_with_the_one_that_ranks(call: Call, here: Path) -> None:
    """`evaluate`, report and card list the ranking metric first, then one fixed order."""
    make_table(120).write_csv("d.csv")
    make_table(30, seed=6).write_csv("labelled.csv")
    call("init", "d.csv", "--target", "bought")
    ran = call("run", "--set", "models=baseline", "--set", "objective.metric=f1", "--json").json
    listed = call("evaluate", "latest", "labelled.csv").out.splitlines()
    names = [line.split()[0] for line in listed]
    names = names[names.index("metric") + 1 :]
    assert names[:4] == ["f1", "auc", "pr_auc", "log_loss"]
    page = Path(ran["report"]).read_text(encoding="utf-8")
    scores = page.split("Scores of the chosen model")[1].split("</table>")[0]
    assert re.findall(r"<tr><td>([^<]+)</td>", scores)[: len(names)] == names
    card = next(Path(".loopline").rglob("card.md")).read_text(encoding="utf-8")
    assert [row.split(" | ")[0][2:] for row in card.splitlines() if "| " in row][1:5] == names[:4]


def test_gc_says_what_stays_and_why(call: Call, copied: Path) -> None:
    """Every kept artifact is counted for one reason, with the options that change it."""
    call("run", "--set", "seed=1")
    out = call("gc", "--dry-run", "--keep", "1").out
    kept = int(re.search(r"would keep (\d+) artifacts", out)[1])
    counts = [int(number) for number in re.findall(r"^  (\d+): ", out, flags=re.M)]
    assert sum(counts) == kept
    assert "2 releases and what they were made from" in out
    told = call("gc", "--dry-run", "--json").json
    assert sum(told["kept"].values()) == kept


def test_gc_removes_the_checkpoints_of_fits_that_nobody_went_on_with(
    call: Call, copied: Path
) -> None:
    """One that was written an hour ago goes, one that is being written stays."""
    for name, age in (("old", 4_000), ("new", 10)):
        file = Path(".loopline/fits") / name / "checkpoints" / "weights"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(2_000))
        then = time.time() - age
        for path in (file, file.parent, file.parent.parent):
            os.utime(path, (then, then))
    assert call("gc", "--dry-run", "--grace", "0", "--json").json["fits"] == 1
    assert Path(".loopline/fits/old").exists()
    assert "and the checkpoints of 1 killed fit, " in call("gc", "--grace", "0").out
    assert [path.name for path in Path(".loopline/fits").iterdir()] == ["new"]


def test_cells_of_the_wrong_type_come_with_advice_that_works(call: Call, copied: Path) -> None:
    """The advice names the setting and the command; who follows it gets predictions."""
    bad = Path("new.csv").read_text(encoding="utf-8").splitlines()
    first = bad[1].split(",")
    bad[1] = ",".join(["abc", *first[1:]])
    Path("bad.csv").write_text("\n".join(bad) + "\n", encoding="utf-8")
    refused = call("predict", "latest", "bad.csv", "-o", "p.csv")
    refused.refuses(2, "1 cell of column 'x' cannot be read as Float64; the first is 'abc'")
    assert "set `unreadable: missing` under `data.format` in the settings" in refused.message
    assert call("run", "--set", "data.format.unreadable=missing").code == 0
    assert call("predict", "latest", "bad.csv", "-o", "p.csv").code == 0


@pytest.mark.parametrize("module", ["typer", "loopline.cli.run"])
def test_interrupted_while_it_starts(module: str, tmp_path: Path) -> None:
    """Ctrl-C while the commands are imported says the one sentence and gives 130, no traceback."""
    code = (
        "import sys, importlib.abc\n"
        "class Stop(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "sys.argv = ['loopline', 'runs']\n"
        "from loopline.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "error: Interrupted; run the same command to go on.\n"
