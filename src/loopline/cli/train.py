"""`loopline train`: advice on a network's learning rate and batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, place_overrides, reporter


def train(
    file: Annotated[
        Path | None, typer.Argument(help="The settings file (default: loopline.yaml here).")
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", help="Which network of the line (default: the only one)."),
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try learning rates from low to high.")
    ] = False,
    find_batch: Annotated[
        bool, typer.Option("--find-batch", help="Measure the gradient noise scale.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the curve as an HTML page.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which learning rate or batch size suits a network of the line, from short trials.

    Nothing is trained that is kept; the trials see the first fold's training rows only.
    """
    from loopline.cli import show
    from loopline.errors import SettingsError
    from loopline.line.advice import advice_chart, advise
    from loopline.line.context import LineContext
    from loopline.line.face import project_of
    from loopline.line.files import read_line
    from loopline.line.page import block, chart_place, page

    if find_lr == find_batch:
        raise SettingsError(
            ["`loopline train` answers one question at a time: give --find-lr or --find-batch."]
        )
    line = read_line(file, [*place_overrides(), *(override or [])])
    with project_of(line.spec, line.folder) as project:
        context = LineContext(
            line.spec, line.folder, project.store, project.ledger, reporter(as_json)
        )
        found = advise(context, candidate, "lr" if find_lr else "batch")
    if output is not None:
        chart = advice_chart(found)
        title = f"{found['candidate']}: {'learning rate' if find_lr else 'batch size'}"
        output.write_text(page(title, block(title, chart_place(chart)), [chart]), encoding="utf-8")
    if as_json:
        show.print_json(found)
        return
    show.say(str(found["sentence"]))
    if output is not None:
        show.say(f"curve  {output}")
