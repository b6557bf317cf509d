"""The measure stage: what a model costs where it answers, in a process of its own.

A fold's model stands in for the final one until there is one: it has the same preprocessing and as
many trees or weights. The final model is measured again, and a choice whose final model breaks a
limit is made anew without it. Measured values are kept beside an artifact and are no part of its
id; which limits are broken is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.errors import EnvironmentProblem, LooplineError
from loopline.features.contract import InputContract
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.facts import copy_model, served_facts
from loopline.line.measuring import FEWEST_CALLS, ROUNDS, energy_meters
from loopline.line.prepare import Plan
from loopline.line.race import Raced
from loopline.models.families import family
from loopline.release.bundle import FACTS
from loopline.select.limits import Limits, Measured
from loopline.store.artifacts import Artifact, Store

MEASURED_FILE = "measured.json"
TIMES_FILE = "times.json"
CONTRACT_FILE = "contract.json"
SECONDS = 0.3
"""Time of one measurement, half of it single rows, where no limit is set."""
LIMIT_SECONDS = 2.0
"""The same where one is: the choice depends on it, and the model is asked over HTTP."""
START_SECONDS = 0.7
"""About what the process takes to start; a service takes as long again."""
BATCH_SHARE = 5
"""The batch has a fifth of the rows on which a family's importance is measured: 1,000 as a rule."""
PATIENCE_SECONDS = 900


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model.

    Args:
        values: the numbers.
        broken: the limits that it breaks, a sentence each.
        artifact: what holds them.
    """

    values: Measured
    broken: tuple[str, ...]
    artifact: Artifact


def expected_seconds(one_row: float, *, over_http: bool) -> float:
    """About how long a measurement takes, beside the start, for a model of that speed.

    Args:
        one_row: seconds for a row.
        over_http: whether a limit is set, so that it is measured through the service.
    """
    whole = LIMIT_SECONDS + START_SECONDS if over_http else SECONDS
    return max(whole, one_row * FEWEST_CALLS * (ROUNDS + 1))


def check_measurable(limits: Limits) -> None:
    """Refuse limits that this machine cannot measure, before anything is fitted.

    Raises:
        EnvironmentProblem: a limit on energy where no meter can be read.
    """
    if limits.energy is not None and not energy_meters():
        raise EnvironmentProblem(
            "`constraints.energy` needs a machine that tells how much energy its processor uses "
            "(RAPL, readable under /sys/class/powercap); this one does not. Run on one that does, "
            "or remove the limit."
        )


def measure_candidates(
    context: LineContext, source: Artifact, plan: Plan, prepared: Prepared, raced: Sequence[Raced]
) -> dict[str, Measurement]:
    """Measure every candidate by the model of its first fold, where limits are set."""
    if not context.spec.constraints.limits().given:
        return {}
    with context.reporter.step("measure the candidates", total=len(raced)) as step:
        found = {}
        for entry in raced:
            step.describe(entry.spec.name)
            found[entry.spec.name] = measure_fold(context, source, plan, prepared, entry)
            step.advance()
    return found


def measure_fold(
    context: LineContext, source: Artifact, plan: Plan, prepared: Prepared, entry: Raced
) -> Measurement:
    """Measure a candidate by the model of its first fold."""
    folds = entry.fold_roles
    parts = [context.store.get(entry.artifact.inputs[name]) for name in folds]
    seconds = sum(_fit_seconds(part) for part in parts) / len(parts)
    return measure_model(
        context, source, plan, prepared, parts[0], entry.spec.name, train_seconds=seconds
    )


def measure_model(
    context: LineContext,
    source: Artifact,
    plan: Plan,
    prepared: Prepared,
    model: Artifact,
    name: str,
    *,
    train_seconds: float | None = None,
) -> Measurement:
    """Measure one fitted model, or find what was measured of it before.

    Args:
        context: the line.
        source: the source's artifact.
        plan: repairs and schema.
        prepared: rows to answer.
        model: holds the fitted model under ``model/``.
        name: the candidate.
        train_seconds: how long its fit takes; by default what its artifact tells.
    """
    limits = context.spec.constraints.limits()
    seconds, way = (LIMIT_SECONDS, "http") if limits.given else (SECONDS, "python")

    def make() -> Artifact:
        facts = served_facts(context, source, plan, prepared, model, _contract(prepared, model))
        values = _measured(prepared, model, facts, seconds, way)
        values["train_time"] = _fit_seconds(model) if train_seconds is None else train_seconds
        measured = Measured.from_dict(values)
        text = json.dumps(measured.to_dict())
        return context.store.put(
            "measure",
            lambda folder: _write(folder / MEASURED_FILE, text),
            meta={"candidate": name, "broken": list(limits.broken(measured))},
            inputs={"model": model.id},
            unhashed=(MEASURED_FILE,),
        )

    artifact = context.stage(
        "measure",
        1,
        settings={"limits": limits.given, "name": name, "way": way},
        inputs={"model": model.id, "plan": plan.artifact.id},
        make=make,
        label=f"measure {name}",
    )
    values = Measured.from_dict(json.loads(artifact.path(MEASURED_FILE).read_text("utf-8")))
    return Measurement(values, tuple(artifact.meta["broken"]), artifact)


def _contract(prepared: Prepared, model: Artifact) -> dict[str, Any]:
    """The final model's own contract; a fold's model has none, and gets that of all rows."""
    if CONTRACT_FILE in model.files:
        found: dict[str, Any] = json.loads(model.path(CONTRACT_FILE).read_text("utf-8"))
        return found
    return InputContract.learn(prepared.train).to_dict()


def _measured(
    prepared: Prepared, model: Artifact, facts: Mapping[str, Any], seconds: float, way: str
) -> dict[str, Any]:
    num_rows = max(1, family(str(facts["family"])).importance_rows // BATCH_SHARE)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def write(inside: Path) -> None:
            copy_model(model, inside)
            _write(inside / FACTS, json.dumps(facts, ensure_ascii=False))

        release = Store.open(folder / "store").put("release", write)
        (folder / "release").symlink_to(release.path().parent)
        prepared.train.sample(num_rows, 0).frame().write_parquet(folder / "rows.parquet")
        command = [sys.executable, "-m", "loopline.line.measuring", place, str(seconds), way]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    if done.returncode:
        raise LooplineError(
            f"The model could not be measured: the process that answers ended with "
            f"{done.returncode}: {done.stderr.strip()[-500:]}"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    files = model.files.items()
    found["size"] = sum(entry.size for name, entry in files if name.startswith("model/"))
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _fit_seconds(artifact: Artifact) -> float:
    if TIMES_FILE not in artifact.files:
        return 0.0
    return float(json.loads(artifact.path(TIMES_FILE).read_text("utf-8"))["fit_seconds"])
