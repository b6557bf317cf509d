"""`loopline verify`: prove an artifact again."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project, reporter


def verify(
    which: Annotated[str, typer.Argument(metavar="ID", help="An artifact, release or run.")] = (
        "latest"
    ),
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Prove bytes, rows, zero overlap and stored predictions again; exit code 4 if not so."""
    from loopline.cli import show
    from loopline.line.verify import verify as prove

    with project(store, ledger) as opened:
        proof = prove(opened, which, reporter())
    if as_json:
        show.print_json({"id": proof.id, "proved": list(proof.sentences)})
        return
    for sentence in proof.sentences:
        show.say(f"✓ {sentence}")
