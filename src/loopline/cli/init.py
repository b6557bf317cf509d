"""`loopline init`: a settings file from a table and the name of its target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, reporter, same_file


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
    from loopline.data.writers import check_file_name, write_text
    from loopline.errors import InputError
    from loopline.line.proposal import propose

    output = output.expanduser()
    if output.exists() and not force:
        raise InputError(f"{output} exists. Use --force to replace it, or -o for another name.")
    check_file_name(output)
    if any(given and same_file(given, output) for given in (data, test)):
        raise InputError(f"{output} is the data itself; give the settings another name with -o.")
    proposal = propose(data, target, test=test, file=output, reporter=reporter(quiet=as_json))
    write_text(proposal.text, output)
    if as_json:
        show.print_json({"file": str(output), **proposal.to_dict()})
        return
    for sentence in proposal.sentences:
        show.say(f"• {sentence}")
    command = "loopline run" if output == Path("loopline.yaml") else f"loopline run {output}"
    show.say(f"\nWrote {output}. Read it, change what is wrong, then: {command}")
