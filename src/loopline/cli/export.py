"""`loopline export`: a release in the form that another server reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def export(
    release: Annotated[
        str,
        typer.Argument(
            help="A release's id (or the start of it), line name, alias, folder, or latest."
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", help="folder, onnx, docker, kserve, triton or mlflow.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to write; it must not exist yet.")
    ],
    repaired: Annotated[
        bool,
        typer.Option(
            "--repaired",
            help="ONNX, triton: whoever asks the model makes the line's repairs beforehand.",
        ),
    ] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Write a release in another form, proved on rows to answer as the release does.

    The folder appears whole or not at all. Exit code 4 when the proof fails.
    """
    from loopline.cli import show
    from loopline.errors import NotFoundError
    from loopline.release.bundle import is_release_folder, load_release
    from loopline.release.exports.forms import export as write

    try:
        opened = project(store, ledger)
    except NotFoundError:
        if not is_release_folder(release):
            raise
        opened = None
    if opened is None:
        found = load_release(release)
        done = write(found, to, output, repaired=repaired)
    else:
        with opened:
            found = opened.release(release)
            done = write(found, to, output, store=opened.store, repaired=repaired)
    if as_json:
        show.print_json(
            {
                "release": found.id,
                "to": to,
                "folder": str(done.folder),
                "files": list(done.files),
                "remarks": list(done.remarks),
            }
        )
        return
    show.say(f"{found.name} ({found.id[:20]}) → {done.folder}: {', '.join(done.files)}")
    for remark in done.remarks:
        show.say(remark)
