"""`loopline reproduce`: run a release's line again and compare."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project, reporter


def reproduce(
    release: Annotated[
        str, typer.Argument(help="A release's id, line name, alias, or latest.")
    ] = "latest",
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Run a release's line again elsewhere: byte-identical, within tolerance, or where it differs.

    Exit code 4 when it is different.
    """
    from loopline.cli import show
    from loopline.errors import IntegrityError
    from loopline.line.reproduce import reproduce as again

    with project(store, ledger) as opened:
        result = again(opened, release, reporter())
    if as_json:
        show.print_json(
            {
                "release": result.release,
                "verdict": result.verdict,
                "sentence": result.sentence,
                "stages": {
                    name: {"then": then, "now": now, "equal": then == now}
                    for name, (then, now) in result.stages.items()
                },
            }
        )
    else:
        for name, (then, now) in result.stages.items():
            show.say(f"{'=' if then == now else '≠'} {name:<11} {now[:24]}")
        show.say(result.sentence)
    if result.verdict == "different":
        raise typer.Exit(IntegrityError.exit_code)
