"""`loopline demo`: a table as a newcomer would have it, and the whole line on it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from loopline.data.writers import check_file_name, write_table, write_text
from loopline.line.face import project_of
from loopline.line.files import read_line
from loopline.line.proposal import propose
from loopline.line.report import write_report
from loopline.line.runner import run_line
from loopline.progress import Reporter
from loopline.release.bundle import Release

NUM_NEW_ROWS = 20


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Args:
        summary: the run's summary.
        report: the HTML report.
        next_steps: commands to try.
    """

    summary: dict[str, Any]
    report: Path
    next_steps: tuple[str, ...]


def demo_table() -> pl.DataFrame:
    """569 breast tumours with 30 measurements each, from the files inside scikit-learn's wheel."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = {
        str(name).replace(" ", "_"): data.data[:, place]
        for place, name in enumerate(data.feature_names)
    }
    diagnosis = ["malignant" if code == 0 else "benign" for code in data.target]
    return pl.DataFrame({**columns, "diagnosis": diagnosis})


def run_demo(
    folder: Path,
    reporter: Reporter,
    say: Callable[[str], None] | None = None,
    program: str = "loopline",
) -> DemoResult:
    """Write the table and its settings file, run the line, predict rows kept aside for that.

    Args:
        folder: where the files go.
        reporter: hears of progress.
        say: is told what happens, one sentence at a time.
        program: what starts the command line, for the commands that are offered.
    """
    tell = say or (lambda text: None)
    check_file_name(folder / "tumours.csv")
    table = demo_table()
    known, new = table.head(-NUM_NEW_ROWS), table.tail(NUM_NEW_ROWS).drop("diagnosis")
    source = folder / "tumours.csv"
    write_table(known, source)
    write_table(new, folder / "new_tumours.csv")
    file = folder / "loopline.yaml"
    tell(f"1. A table: {source}, {known.height:,} tumours with 30 measurements and a diagnosis.")
    if not file.exists():
        proposal = propose(str(source), "diagnosis", test=None, file=file, reporter=reporter)
        write_text(proposal.text, file)
    tell(f"2. Its settings: {file}, as `loopline init` writes them.")
    tell("3. The line, as `loopline run` runs it.")
    line = read_line(file)
    with project_of(line.spec, line.folder) as project:
        outcome = run_line(project, line.spec, line.folder, reporter)
        report = write_report(project, outcome.run, None)
        release = Release(project.store.get(outcome.release))
        predicted = release.predict(str(folder / "new_tumours.csv"))
    output = folder / "predictions.csv"
    write_table(predicted, output)
    tell(f"4. The release predicts {predicted.height} new tumours: {output}.")
    return DemoResult(outcome.summary, report, _next_steps(folder, program))


def _next_steps(folder: Path, program: str) -> tuple[str, ...]:
    commands = {
        f"cd {shlex.quote(str(folder))}": "",
        f"{program} run": "finds that there is nothing to do",
        f"{program} lineage": "from the release back to the rows",
        f"{program} verify": "proves bytes, rows, split and predictions again",
        f"{program} reproduce": "runs it all again and compares",
    }
    width = max(map(len, commands))
    return (
        "Next:",
        *(
            f"  {command.ljust(width)}  # {what}" if what else f"  {command}"
            for command, what in commands.items()
        ),
        f"Then your own table: {program} init YOUR.csv --target COLUMN && {program} run",
    )
