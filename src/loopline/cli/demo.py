"""`loopline demo`: the whole line on a real table that ships inside scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, program, reporter


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo's files go.")] = Path(
        "loopline-demo"
    ),
    as_json: Json = False,
) -> None:
    """Run a whole line on real data: which breast tumours are malignant?

    Writes the table and a settings file as you would have them, runs the line, predicts a few rows.
    """
    from loopline.cli import show
    from loopline.line.demo import run_demo

    result = run_demo(folder, reporter(quiet=as_json), show.say if not as_json else None, program())
    if as_json:
        show.print_json(result.summary)
        return
    show.summary(result.summary, str(result.report))
    show.say()
    for line in result.next_steps:
        show.say(line)
