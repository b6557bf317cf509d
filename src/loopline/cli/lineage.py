"""`loopline lineage`: where an artifact comes from and what was made of it."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def lineage(
    which: Annotated[str, typer.Argument(metavar="ID", help="An artifact, release or run.")] = (
        "latest"
    ),
    whole: Annotated[bool, typer.Option("--all", help="Show the whole tree.")] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Show the chain of an artifact in both directions: its sources and what was made from it."""
    from loopline.cli import show
    from loopline.release.lineage import lineage as follow

    with project(store, ledger) as opened:
        found = follow(opened.store, opened.resolve(which).id)
    if as_json:
        show.print_json(found.to_dict())
    else:
        show.say(str(found) if whole else found.chain())
