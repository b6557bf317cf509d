"""`loopline rollback`: point an alias at the release before."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def rollback(
    name: Annotated[str, typer.Argument(help="The line's name.")],
    alias: Annotated[str, typer.Option("--alias", help="Which alias.")] = "champion",
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the alias away instead; its history stays.")
    ] = False,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Point NAME@ALIAS at the release that it pointed at before its last promotion."""
    from loopline.cli import show

    with project(store, ledger) as opened:
        if remove:
            move = opened.aliases.remove(name, alias, why=why)
        else:
            move = opened.rollback(name, alias, why=why)
    if as_json:
        show.print_json(move.to_dict())
        return
    show.say(str(move))
