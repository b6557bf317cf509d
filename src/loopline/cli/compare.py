"""`loopline compare`: what differs between runs, and what that did to the scores."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN [RUN …]",
            help="Two or more runs: ids, starts of ids, line names, or latest. The others are seen "
            "from the first.",
        ),
    ],
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Say what differs between runs, and by how much the scores do, on the rows that both scored.

    Out-of-fold predictions are compared row by row, overall and in slices; test labels stay closed.
    """
    from loopline.cli import show
    from loopline.line.compare import compare_runs

    with project(store, ledger) as opened:
        found = compare_runs(opened, runs)
    if as_json:
        show.print_json(found.to_dict())
    else:
        show.say(str(found))
