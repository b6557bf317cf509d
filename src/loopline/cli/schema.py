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
    from loopline.line.spec import json_schema

    del as_json
    if output is None:
        show.print_json(json_schema())
    else:
        output.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
        show.say(str(output))
