"""`loopline demo` goes on: the release is served, the world drifts, the loop renews the model."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.line.demo import DemoResult, demo_table, run_demo
from loopline.line.face import project_of
from loopline.line.files import LineFile, read_line
from loopline.line.project import Project
from loopline.line.report import write_report
from loopline.loop.controller import Controller
from loopline.loop.diary import Diary, Entry
from loopline.loop.monitored import MonitorWatch
from loopline.loop.serving import serve_champion
from loopline.loop.watching import Watch
from loopline.progress import Reporter
from loopline.serve.server import RunningService

TARGET = "diagnosis"
WEEKS = ((400, 1.0), (600, 1.35), (120, 1.35))
"""Patients of each week, and how large the microscope shows them."""
OVERRIDES = ("loop.gate_rows=150", "loop.settle=0")
_BATCH = 50


@dataclass(frozen=True)
class WholeDemo:
    """What the demo leaves behind.

    Args:
        line: the line's own part.
        timeline: what the loop did.
        report: the HTML report, with the timeline in it.
    """

    line: DemoResult
    timeline: tuple[Entry, ...]
    report: Path


def run_whole_demo(
    folder: Path,
    reporter: Reporter,
    say: Callable[[str], None] | None = None,
    program: str = "loopline",
) -> WholeDemo:
    """The line, and then three weeks of its life, in which a new microscope comes.

    Args:
        folder: where the files go.
        reporter: hears of progress.
        say: is told what happens, one sentence at a time.
        program: what starts the command line, for the commands that are offered.
    """
    tell = say or (lambda text: None)
    first = run_demo(folder, reporter, say, program)
    line = read_line(folder, OVERRIDES)
    with project_of(line.spec, line.folder) as project:
        if not Diary(project.ledger, line.spec.line_name).entries("decided"):
            live(
                project,
                line,
                first.summary["release"],
                reporter,
                tell,
                MonitorWatch(line.spec.monitor),
            )
        timeline = tuple(Diary(project.ledger, line.spec.line_name).timeline())
        report = write_report(project, first.summary["run"], None)
    tell("The loop's timeline, as `loopline watch --history` tells it and the report:")
    for entry in timeline:
        tell(f"   {entry}")
    return WholeDemo(first, timeline, report)


def live(
    project: Project,
    line: LineFile,
    release: str,
    reporter: Reporter,
    tell: Callable[[str], None],
    watch: Watch,
) -> None:
    """Serve a release, send it three weeks of patients, and let the loop act."""
    project.promote(release, why="the demo's first")
    name = line.spec.line_name
    settings = {"port": 0, "swap_seconds": 0.2, "log": {"flush_seconds": 1.0}}

    def heard(entry: Entry) -> None:
        if entry.what in ("alarm", "triggered", "trained", "decided"):
            tell(f"   {entry.what}: {entry.sentence}")

    with serve_champion(project, name, settings) as running:
        tell(f"5. {name}@champion is served: {running.url}/predict, on this machine only.")
        controller = Controller(project, line, reporter, watch=watch, tell=heard)
        for week, (count, size) in enumerate(WEEKS, 1):
            right = visit(running.url, patients(count, seed=week, size=size))
            new = " The new microscope shows everything larger." if size != 1 and week == 2 else ""
            tell(f"{5 + week}. Week {week}: {count} patients over HTTP, {right:.0%} right.{new}")
            assert running.service.log is not None
            running.service.log.flush()
            before = project.aliases.get(name, "champion")
            controller.once()
            now = project.aliases.get(name, "champion")
            if now != before and _swapped(running, name, now):
                tell(f"   The service answers with {now[:20]} from here on.")


def patients(count: int, *, seed: int, size: float) -> pl.DataFrame:
    """New patients between known ones of the same diagnosis, seen through some microscope.

    Args:
        count: how many.
        seed: of the draw.
        size: 1 for the microscope of the table; larger shows lengths larger, and areas by the
            square of it.
    """
    table = demo_table()
    rng = np.random.default_rng(seed)
    codes = (table[TARGET] == "malignant").to_numpy()
    one = rng.integers(0, table.height, count)
    other = np.array([rng.choice(np.flatnonzero(codes == codes[place])) for place in one])
    share = rng.uniform(0.0, 0.5, (count, 1))
    names = [name for name in table.columns if name != TARGET]
    values = table.select(names).to_numpy()
    drawn = (1 - share) * values[one] + share * values[other]
    powers = np.array([_power(name) for name in names])
    frame = pl.DataFrame(drawn * size**powers, schema=names, orient="row")
    return frame.with_columns(pl.Series(TARGET, table[TARGET][one]))


def _power(name: str) -> int:
    return 2 if "area" in name else int("radius" in name or "perimeter" in name)


def visit(url: str, rows: pl.DataFrame) -> float:
    """Ask for predictions and send the diagnoses after them; the share of right answers."""
    right = 0
    for part in rows.iter_slices(_BATCH):
        truth = part[TARGET].to_list()
        answer = _post(f"{url}/predict", part.drop(TARGET).to_dicts())
        given = [row["prediction"] for row in answer["predictions"]]
        right += sum(a == b for a, b in zip(given, truth, strict=True))
        labels = [
            {"id": answer["id"], "row": number, "label": label}
            for number, label in enumerate(truth)
        ]
        _post(f"{url}/feedback", labels)
    return right / rows.height


def _post(url: str, data: Any) -> Any:
    body = json.dumps(data).encode()
    request = urllib.request.Request(  # noqa: S310  # an address of this process's own service
        url, body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def _swapped(running: RunningService, name: str, release: str) -> bool:
    """Whether the service has taken the new champion within some seconds."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if running.service.deployments[name].champion.id == release:
            return True
        time.sleep(0.1)
    return False
