"""`loopline init`: a settings file from a table and the name of its target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, reporter


def init(
    data: Annotated[str, typer.Argument(help="A file, glob or URL of rows.")],
    target: Annotated[str, typer.Option("--target", help="The column to predict.")],
    test: Annotated[
        str | None, typer.Option("--test", help="An official test file, if there is one.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The settings file to write.")
    ] = Path("loopline.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Read the data, infer what its columns are and are for, and write it down with reasons."""
    from loopline.cli import show
    from loopline.errors import InputError
    from loopline.line.proposal import propose

    if output.exists() and not force:
        raise InputError(f"{output} exists. Use --force to replace it, or -o for another name.")
    proposal = propose(data, target, test=test, file=output, reporter=reporter(quiet=as_json))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(proposal.text, encoding="utf-8")
    if as_json:
        show.print_json({"file": str(output), **proposal.to_dict()})
        return
    for sentence in proposal.sentences:
        show.say(f"• {sentence}")
    command = "loopline run" if output == Path("loopline.yaml") else f"loopline run {output}"
    show.say(f"\nWrote {output}. Read it, change what is wrong, then: {command}")
