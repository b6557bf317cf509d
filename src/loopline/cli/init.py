"""`loopline init`: a settings file from a table and the name of its target."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from loopline.cli.options import Json, program, reporter, same_file


def init(
    data: Annotated[str, typer.Argument(help="A file, glob or URL of rows.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="The column to predict. A file of plain text (.txt, .md) needs none: "
            "what it says is predicted.",
        ),
    ] = None,
    task: Annotated[
        Literal["multilabel", "language", "retrieval"] | None,
        typer.Option(
            "--task",
            help="`multilabel`: the target holds any of several labels a row (inferred where its "
            "cells are lists); `language`: the target's texts themselves are predicted; "
            "`retrieval`: images are found by the target's words.",
        ),
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="An official test file, if there is one.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Names for files without a header row: a,b,c, or a file with one name a line.",
        ),
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
    from loopline.line.pair import column_names
    from loopline.line.proposal_labels import propose_labels, propose_table
    from loopline.line.proposal_language import propose_language
    from loopline.line.proposal_pairs import propose_pairs

    if target is None:
        target, task = _of_plain_text(data, task)
    output = output.expanduser()
    for given in (data, *([] if test is None else [test])):
        _find(given)
        if same_file(given, output):
            raise InputError(f"{output} is the data itself. Name the settings file with -o.")
    if output.exists() and not force:
        raise InputError(f"{output} exists. Use --force to replace it, or -o for another name.")
    check_file_name(output)
    names = column_names(columns) if columns is not None else None
    heard = reporter(quiet=as_json)
    makers = {
        "multilabel": propose_labels,
        "language": propose_language,
        "retrieval": propose_pairs,
    }
    make = makers.get(task or "", propose_table)
    proposal = make(data, target, test=test, file=output, reporter=heard, columns=names)
    write_text(proposal.text, output)
    if as_json:
        show.print_json({"file": str(output), **proposal.to_dict()})
        return
    for told in proposal.sentences:
        show.say(f"• {told}")
    place = "" if output == Path("loopline.yaml") else f" {shlex.quote(str(output))}"
    show.say(f"\nWrote {output}. Read it, change what is wrong, then: {program()} run{place}")


def _of_plain_text(data: str, task: str | None) -> tuple[str, Literal["language"]]:
    """Target and task of a file without columns."""
    from loopline.data.documents import PLAIN_TEXT, TEXT
    from loopline.errors import InputError

    if Path(data).suffix.lower() not in PLAIN_TEXT or task not in (None, "language"):
        raise InputError(
            "Missing option '--target': which column is to be predicted? Only a file of plain text "
            f"({', '.join(PLAIN_TEXT)}) needs none."
        )
    return TEXT, "language"


def _find(source: str) -> None:
    """Refuse a file that is not there, before anything is said about the settings file."""
    from glob import glob

    from loopline.data.sources import read_table

    place = Path(source).expanduser()
    if "://" not in source and not place.exists() and not glob(str(place), recursive=True):
        read_table(source)  # knows the names that are near
