"""`loopline report`: write a run's HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def report(
    run: Annotated[
        str, typer.Argument(help="A run's id (or the start of it), name, or latest.")
    ] = ("latest"),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the HTML file.")
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Write the self-contained HTML report of a run and print its path."""
    from loopline.cli import show
    from loopline.line.report import write_report

    with project(store, ledger) as opened:
        record = opened.run(run)
        path = write_report(opened, record.id, output)
    if as_json:
        show.print_json({"run": record.id, "report": str(path)})
    else:
        show.say(str(path))
