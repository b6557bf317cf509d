"""`loopline promote`: point an alias such as NAME@champion at a release, after a proof."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def promote(
    release: Annotated[
        str,
        typer.Argument(help="A release's id (or the start of it), line name, alias, or latest."),
    ],
    alias: Annotated[
        str, typer.Option("--as", help="The alias: champion, challenger or a word of your own.")
    ] = "champion",
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
    through: Annotated[
        str | None,
        typer.Option(
            "--through",
            help="A running service that must answer the kept rows too, such as "
            "http://127.0.0.1:8000/predict (token: LOOPLINE_SERVE_TOKEN).",
        ),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Prove that a release answers as in training, and point NAME@ALIAS at it.

    Exit code 4 when a byte or an answer differs; the alias then stays where it was.
    """
    from loopline.cli import show

    with project(store, ledger) as opened:
        known = {move.event for move in opened.aliases.history()}
        token = os.environ.get("LOOPLINE_SERVE_TOKEN")
        move = opened.promote(release, alias, why=why, through=through, token=token)
    moved = move.event not in known
    if as_json:
        show.print_json({**move.to_dict(), "moved": moved})
        return
    if not moved:
        show.say(f"{move.full_name} points at {str(move.release)[:20]} already; nothing was moved.")
    show.say(str(move))
