"""`loopline search`: the search of a line by itself, and what it would search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from loopline.cli.options import Json, place_overrides, reporter


def search(
    file: Annotated[
        Path | None, typer.Argument(help="The settings file (default: loopline.yaml here).")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    show_space: Annotated[
        bool,
        typer.Option("--show-space", help="Only tell what would be searched; nothing is fitted."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the candidates' parameters, without race, choice or test; a run finds the trials."""
    import time

    from loopline.cli import show
    from loopline.line.face import project_of
    from loopline.line.files import read_line
    from loopline.line.searching import search_alone, show_spaces

    began = time.monotonic()
    line = read_line(file, [*place_overrides(), *(override or [])])
    with project_of(line.spec, line.folder) as project:
        if show_space:
            spaces = show_spaces(project, line.spec, line.folder, reporter())
            told = spaces.to_dict()
        else:
            told = search_alone(project, line.spec, line.folder, reporter(), began)
    if as_json:
        show.print_json(told)
    elif show_space:
        _tell_spaces(told)
    else:
        _tell_study(told)


def _tell_spaces(told: Mapping[str, Any]) -> None:
    from loopline.cli import show
    from loopline.line.searching import described
    from loopline.words import counted

    facts = told["facts"]
    columns = ", ".join(f"{count} {kind}" for kind, count in facts["columns"].items())
    show.say(f"{facts['task']}, {counted(facts['num_rows'], 'row')} a fit, columns: {columns}")
    show.say(f"Proposals: {told['method']}.")
    show.say(f"A trial: {', then '.join(told['steps'])}.")
    for name, entry in told["candidates"].items():
        given = "".join(f", {key} {value} as given" for key, value in entry["given"].items())
        show.say(f"\n{name}{given}")
        show.table(
            ["  parameter", "range"],
            [[f"  {key}", described(value)] for key, value in entry["parameters"].items()],
        )
    for name, reason in told["not_searched"].items():
        show.say(f"\n{name}: not searched, {reason}")


def _tell_study(told: Mapping[str, Any]) -> None:
    from loopline.cli import show
    from loopline.words import figure

    rows = [
        [
            entry["name"],
            f"{entry['trials']:,}",
            f"{entry['complete']:,} / {entry['pruned']:,} / {entry['failed']:,}",
            figure(entry["defaults"]),
            figure(entry["best"]),
        ]
        for entry in told["candidates"]
    ]
    heads = ["candidate", "trials", "complete / given up / failed", "defaults", told["metric"]]
    show.table(heads, rows)
    for sentence in told["sentences"]:
        show.say(sentence)
    best = told["best"]
    show.say(f"\nFound for {best['candidate']}:")
    for name, value in best["params"].items():
        show.say(f"  {name}: {value}")
    show.say("\n`loopline run` with the same settings finds these trials and goes on to a release.")
