"""Options that several commands share."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loopline.line.project import Project
    from loopline.progress import Reporter

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder or URL of the store (default: that of loopline.yaml here, else .loopline).",
        envvar="LOOPLINE_STORE",
    ),
]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="Database URL of the ledger (default: SQLite in the store).",
        envvar="LOOPLINE_LEDGER",
    ),
]


def project(store: str | None, ledger: str | None) -> Project:
    """The project that the options, or the settings file in this folder, name."""
    from loopline.errors import NotFoundError
    from loopline.line.files import DEFAULT_FILE, parse_yaml
    from loopline.line.project import open_project

    file = Path(DEFAULT_FILE)
    if store is None and file.exists():
        data, _ = parse_yaml(file)
        named = data.get("store")
        store = str(named) if named is not None else None
        given = data.get("ledger")
        ledger = ledger or (str(given) if given is not None else None)
    try:
        return open_project(store or ".loopline", ledger=ledger, create=False)
    except NotFoundError as error:
        raise NotFoundError(
            f"{error} `loopline run` makes one; name another place with --store."
        ) from None


def place_overrides() -> list[str]:
    """What LOOPLINE_STORE and LOOPLINE_LEDGER say: they rule over a line as over all commands."""
    given = []
    for name, variable in (("store", "LOOPLINE_STORE"), ("ledger", "LOOPLINE_LEDGER")):
        value = os.environ.get(variable)
        if value:
            # a relative path starts in this folder, not in that of the settings file
            place = value if "://" in value else str(Path(value).expanduser().resolve())
            given.append(f"{name}={json.dumps(place)}")
    return given


def program() -> str:
    """What to type for this program: `loopline` where that finds it, else what was started."""
    started = Path(sys.argv[0])
    if started.stem == "__main__":
        return f"{shlex.quote(sys.executable)} -m loopline"
    found = shutil.which("loopline")
    if started.stem != "loopline" or not started.exists():
        return "loopline"
    if found is not None and Path(found).samefile(started):
        return "loopline"
    return shlex.quote(str(started.absolute()))


def same_file(source: str, output: Path) -> bool:
    """Whether writing `output` would destroy the file that a command reads."""
    from glob import glob

    if "://" in source or not output.exists():
        return False
    place = Path(source).expanduser()
    files = [place] if place.exists() else [Path(name) for name in glob(str(place))]
    return any(file.exists() and file.samefile(output) for file in files)


def reporter(quiet: bool = False) -> Reporter:
    """Progress on the error stream, or none."""
    from loopline.line.console import console_reporter
    from loopline.progress import SilentReporter

    return SilentReporter() if quiet else console_reporter()
