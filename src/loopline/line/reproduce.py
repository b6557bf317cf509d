"""`loopline reproduce`: run a release's line again elsewhere and say how equal the result is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file

from loopline.data.snapshot import open_snapshot, write_snapshot
from loopline.line.project import Project, open_project
from loopline.line.runner import run_line
from loopline.line.spec import make_spec
from loopline.progress import Reporter
from loopline.release.bundle import Release
from loopline.release.environment import code_digest, environment

TOLERANCE = 1e-6
STAGES = ("source", "snapshot", "plan", "split", "choice", "model", "evaluation", "release")


@dataclass(frozen=True)
class Reproduction:
    """How a second run compares with the release.

    Args:
        release: the release's id.
        verdict: byte-identical, within tolerance, or different.
        sentence: the verdict in words, with the first stage that differs.
        stages: for each stage the ids then and now.
    """

    release: str
    verdict: Literal["byte-identical", "within tolerance", "different"]
    sentence: str
    stages: dict[str, tuple[str, str]]


def reproduce(project: Project, which: str, reporter: Reporter) -> Reproduction:
    """Run the line of a release again in a store of its own and compare every stage.

    The run starts from the stored source snapshot, with the settings, seed and threads that the
    release carries.

    Raises:
        NotFoundError: the release or its source snapshot is not in the store.
    """
    release = project.release(which)
    source = project.store.get(release.facts["lineage"]["source"])
    rows = open_snapshot(project.store, source.inputs["snapshot"])
    with (
        tempfile.TemporaryDirectory(prefix="loopline-reproduce-") as folder,
        open_project(Path(folder) / "store") as fresh,
    ):
        snapshot = write_snapshot(fresh.store, rows.frame())
        copied = fresh.store.put(
            "source", lambda _: None, meta=source.meta, inputs={"snapshot": snapshot.id}
        )
        spec = make_spec(release.facts["spec"] | {"threads": release.facts["threads"]})
        closed = not release.facts["metrics"]["test"]  # then its labels stay closed here too
        outcome = run_line(
            fresh,
            spec,
            Path(folder),
            reporter,
            source=copied,
            open_vault=None if closed else "",
        )
        return _compare(project, release, fresh, outcome.summary["digests"])


def _compare(
    project: Project, release: Release, fresh: Project, digests: dict[str, Any]
) -> Reproduction:
    then = {**release.facts["lineage"], "release": release.id}
    stages = {name: (then[name], digests[name]) for name in STAGES if name in then}
    first = next((name for name, (old, new) in stages.items() if old != new), None)
    if first is None:
        return Reproduction(
            release.id,
            "byte-identical",
            "Byte-identical: every stage of the second run gave the same bytes.",
            stages,
        )
    changes = _what_changed(release)
    largest = _largest_difference(project, fresh, *stages["evaluation"])
    if largest is not None and largest <= TOLERANCE:
        verdict: Literal["within tolerance", "different"] = "within tolerance"
        if largest == 0:
            sentence = (
                "Within tolerance: every test prediction is the same, bit by bit; "
                f"what is written beside it differs from the stage `{first}` on."
            )
        else:
            sentence = (
                f"Within tolerance: the first stage that differs is `{first}`; test predictions "
                f"differ by at most {largest:.1e}."
            )
    else:
        verdict = "different"
        size = "the test rows differ" if largest is None else f"predictions by up to {largest:.3g}"
        sentence = f"Different: the first stage that differs is `{first}`; {size}."
    return Reproduction(release.id, verdict, sentence + changes, stages)


def _what_changed(release: Release) -> str:
    now = environment()
    before = release.facts["environment"]
    changed = [
        f"{name} {before.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if release.facts["code"] != code_digest():
        changed.append("Loopline's code")
    return f" Changed since: {', '.join(changed)}." if changed else ""


def _largest_difference(project: Project, fresh: Project, old: str, new: str) -> float | None:
    """Largest relative difference of test predictions; None when they cannot be compared."""
    name = "prediction.safetensors"
    before, after = project.store.get(old), fresh.store.get(new)
    if name not in before.files or name not in after.files:
        return None
    then = load_file(before.path(name))["prediction"]
    now = load_file(after.path(name))["prediction"]
    if then.shape != now.shape:
        return None
    scale = max(1.0, float(np.max(np.abs(then), initial=0.0)))
    return float(np.max(np.abs(then - now), initial=0.0)) / scale
