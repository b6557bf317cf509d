"""What was read while a network was trained: kept beside its artifact, drawn in the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loopline.line.charts import PALETTE, Figure, axis
from loopline.line.project import Project
from loopline.models.base import FittedModel
from loopline.words import size

TRAINING_LOG = "training.jsonl"
"""In the artifact of a fit: loss, speed and memory while it went on, one JSON object a line."""

Entries = Sequence[Mapping[str, Any]]


def write_log(model: FittedModel, folder: Path) -> None:
    """Keep what was read during a long fit."""
    if model.log:
        (folder / TRAINING_LOG).write_text(model.log, encoding="utf-8")


def log_names(model: FittedModel) -> tuple[str, ...]:
    """The files of a fit's artifact whose bytes are times, which its id does not cover."""
    return (TRAINING_LOG,) if model.log else ()


def read_logs(project: Project, summary: Mapping[str, Any]) -> dict[str, Entries]:
    """The logs of the chosen candidate's folds and of its final fit, by what they are called."""
    chosen = next(entry for entry in summary["candidates"] if entry["name"] == summary["chosen"])
    inputs = project.store.get(chosen["artifact"]).inputs
    ids = {f"fold {number + 1}": inputs[name] for number, name in enumerate(inputs)}
    ids["all training rows"] = summary["digests"]["model"]
    logs: dict[str, Entries] = {}
    for label, name in ids.items():
        artifact = project.store.get(name)
        if TRAINING_LOG in artifact.files:
            text = artifact.path(TRAINING_LOG).read_text(encoding="utf-8")
            logs[label] = [json.loads(line) for line in text.splitlines()]
    return logs


def training_chart(logs: Mapping[str, Entries]) -> Figure | None:
    """Training loss (thin) and the loss on rows held out for early stopping (points), by step."""
    traces = []
    for number, (label, entries) in enumerate(logs.items()):
        colour = PALETTE[number % len(PALETTE)]
        for kind, mode, name in (
            ("train", "lines", label),
            ("evaluation", "lines+markers", f"{label}, held out"),
        ):
            found = [entry for entry in entries if entry["kind"] == kind]
            if found:
                traces.append(
                    {
                        "type": "scatter",
                        "mode": mode,
                        "name": name,
                        "x": [entry["step"] for entry in found],
                        "y": [entry["loss"] for entry in found],
                        "line": {"color": colour, "width": 1 if kind == "train" else 2},
                    }
                )
    if not traces:
        return None
    return Figure(
        "chart-training",
        "Loss while the network was trained; points: on rows held out for early stopping.",
        traces,
        {"xaxis": axis("step"), "yaxis": axis("loss")},
    )


def training_sentence(logs: Mapping[str, Entries]) -> str:
    """How fast the final fit was, and how much memory it took; empty where nothing was read."""
    readings = [entry for entry in logs.get("all training rows", ()) if entry["kind"] == "train"]
    if not readings:
        return ""
    speeds = sorted(entry["samples_per_second"] for entry in readings)
    waits = [entry["wait_share"] for entry in readings]
    return (
        f"The final fit took {speeds[len(speeds) // 2]:,.0f} rows a second (median), waited for "
        f"batches {sum(waits) / len(waits):.1%} of the time and held at most "
        f"{size(max(entry['peak_bytes'] for entry in readings))}."
    )
