"""`loopline schema`: the JSON Schema of the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json


def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: print).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the JSON Schema of the settings file, so that editors complete the YAML."""
    import json

    from loopline.cli import show
    from loopline.data.writers import write_text
    from loopline.line.spec import json_schema

    if output is None:
        show.print_json(json_schema())
    else:
        write_text(json.dumps(json_schema(), indent=1) + "\n", output.expanduser())
        if as_json:
            show.print_json({"file": str(output)})
        else:
            show.say(str(output))
