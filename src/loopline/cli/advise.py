"""`loopline advise`: what to do next about a run, and what each step is worth."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project, reporter


def advise(
    run: Annotated[
        str, typer.Argument(help="A run's id (or the start of it), name, or latest.")
    ] = ("latest"),
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="How long pricing may take, such as 90, 90s, 10m or 2h (default: five times what "
            "the race took to fit, and a minute at least).",
        ),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Rank the next steps by what they are worth, each with an interval and the command for it.

    More rows, labels, columns, families, thresholds, calibration: priced on out-of-fold rows; test
    labels stay closed. What is fitted for it is kept, so asking again costs nothing.
    """
    from loopline.cli import show
    from loopline.errors import SettingsError
    from loopline.line.advise import advise as ask
    from loopline.line.quantities import read_duration

    try:
        seconds = None if budget is None else read_duration(budget)
    except ValueError as error:
        raise SettingsError([f"`--budget`: {error}"]) from None
    with project(store, ledger) as opened:
        found = ask(opened, run, budget_seconds=seconds, reporter=reporter(as_json))
    if as_json:
        show.print_json(found.to_dict())
    else:
        show.say(str(found))
