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
    from loopline.line.advise import advise as ask

    seconds = None if budget is None else seconds_of(budget)
    with project(store, ledger) as opened:
        found = ask(opened, run, budget_seconds=seconds, reporter=reporter(as_json))
    if as_json:
        show.print_json(found.to_dict())
    else:
        show.say(str(found))


def seconds_of(text: str) -> float:
    """A duration as people write it, in seconds.

    Raises:
        SettingsError: it cannot be read as one.

    >>> seconds_of("90"), seconds_of("1.5m"), seconds_of("2h")
    (90.0, 90.0, 7200.0)
    """
    from loopline.errors import SettingsError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    given = text.strip().lower()
    number, unit = (given[:-1], units[given[-1]]) if given[-1:] in units else (given, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise SettingsError(
            [f"`--budget` must be a time such as 90, 90s, 10m or 2h, got {text!r}."]
        )
    return seconds
