"""What the loop did with a line, as a section of the report."""

from __future__ import annotations

from loopline.line.page import block, table
from loopline.line.project import Project

SHOWN = 200
_PREFIX = "loop."


def loop_section(project: Project, name: str) -> str:
    """The loop's diary of a line, newest last; empty where nothing watches it."""
    rows = [
        [
            event.time[:19].replace("T", " "),
            event.kind.removeprefix(_PREFIX).replace("_", " "),
            str(event.data.get("sentence", "")),
        ]
        for event in project.ledger.events(subject=name)
        if event.kind.startswith(_PREFIX)
    ]
    if not rows:
        return ""
    return block("What the loop did", table(["UTC", "", "what"], rows[-SHOWN:]))
