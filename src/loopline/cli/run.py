"""`loopline run`: run or continue the line of a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, place_overrides, reporter


def run(
    file: Annotated[
        Path | None, typer.Argument(help="The settings file (default: loopline.yaml here).")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    open_vault: Annotated[
        str | None,
        typer.Option(
            "--open-vault",
            metavar="REASON",
            help="Score this model on test rows on which another was scored before, and why.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the line, or go on with it; what was computed before is found, not computed again."""
    import time

    from loopline.models.together import dismiss, follow, leads, num_started

    if not leads():
        follow()
        return
    from loopline.cli import show
    from loopline.errors import SettingsError
    from loopline.line.face import project_of
    from loopline.line.files import read_line
    from loopline.line.report import write_report
    from loopline.line.runner import run_line

    if open_vault is not None and not open_vault.strip():
        raise SettingsError(
            ['`--open-vault` needs a reason, such as "final choice"; it is printed in reports.']
        )
    began = _process_start()
    line = read_line(file, [*place_overrides(), *(override or [])])
    with project_of(line.spec, line.folder) as project:
        try:
            outcome = run_line(
                project, line.spec, line.folder, reporter(),
                open_vault=open_vault or "", started=began,
            )  # fmt: skip
        finally:
            if num_started() > 1:
                dismiss()
        report = write_report(project, outcome.run, None, again=not outcome.found)
    summary = {**outcome.summary, "found": outcome.found, "report": str(report)}
    if as_json:
        show.print_json(summary)
        return
    show.summary(summary, str(report))
    if outcome.found:
        show.say(
            f"\nNothing to do: this line was run before on the same data and settings "
            f"(found in {time.monotonic() - began:.1f} s)."
        )


def _process_start() -> float:
    """When this process began, by the monotonic clock; now, where the system does not tell."""
    import os
    import time

    now = time.monotonic()
    try:
        ticks = int(
            Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
        )
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - max(0.0, since_boot - ticks / os.sysconf("SC_CLK_TCK"))
