"""Runs a line from its settings to its release, or finds that it has been run before."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.digest import value_digest
from loopline.errors import IntegrityError, LooplineError, NotFoundError
from loopline.line.context import LineContext
from loopline.line.project import Project, read_json
from loopline.line.source import source_key
from loopline.line.spec import Spec
from loopline.progress import Reporter
from loopline.release.bundle import Release
from loopline.release.environment import code_digest, environment
from loopline.select.limits import speed_sentence
from loopline.store.artifacts import Artifact
from loopline.store.disk import disk_problems
from loopline.words import figure

if TYPE_CHECKING:
    from loopline.data.schema import Schema
    from loopline.line.measure import Measurement
    from loopline.line.race import Raced

ONE_COLUMN_SHARE, ONE_COLUMN_TIMES = 0.5, 5
"""A column that costs half of the lead over the baseline, and five times any other, is told of."""


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Args:
        summary: the JSON object that ``loopline run --json`` prints.
        found: whether the run had been finished before and nothing was computed.
    """

    summary: dict[str, Any]
    found: bool

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.summary["run"])

    @property
    def release(self) -> str:
        """The release's id."""
        return str(self.summary["release"])


def run_line(
    project: Project,
    spec: Spec,
    folder: Path,
    reporter: Reporter,
    frame: pl.DataFrame | None = None,
    source: Artifact | None = None,
    open_vault: str | None = "",
    started: float | None = None,
) -> Outcome:
    """Run a line, go on with it, or find it done.

    The run's id is the digest of its settings, its source's content and Loopline's code: the same
    line on the same data has the same id, whoever asks and however often it was interrupted.

    Args:
        project: store and ledger.
        spec: the settings.
        folder: where their relative paths start.
        reporter: hears of progress.
        frame: the table, for lines that were started from Python with a table in memory.
        source: a stored snapshot to start from, in place of reading the source.
        open_vault: why this model may be scored on test rows on which another was scored before;
            empty for no reason, None to leave the test labels closed in any case.
        started: when whoever waits began to wait, by the monotonic clock (default: now); a time
            budget counts from then.
    """
    context = LineContext(
        spec, folder, project.store, project.ledger, reporter, open_vault=open_vault
    )
    if started is not None:
        context.started = started
    key = source_key(context, frame) if source is None else {"snapshot": source.id}
    context.run = (
        "run-"
        + value_digest(
            {
                "spec": spec.digest(),
                "source": key,
                "code": code_digest(),
                "environment": environment(),
            }
        )[:16]
    )
    done = _finished(project, context.run, reporter)
    if done is not None and not _to_score(done, open_vault):
        return Outcome(done, found=True)
    with _one_at_a_time(project, context.run, reporter):
        done = _finished(project, context.run, reporter)
        if done is not None and not _to_score(done, open_vault):
            return Outcome(done, found=True)
        earlier = project.ledger.events(kind="run.started", run=context.run, limit=1)
        if earlier and done is None:
            reporter.note(f"{context.run} was interrupted before; going on from what is whole.")
        project.ledger.append(
            "run.started",
            run=context.run,
            data={
                "name": spec.line_name,
                "spec": spec.model_dump(mode="json", exclude_none=True),
                "folder": str(folder),
            },
        )
        try:
            summary = _run(context, key, frame, source)
        except LooplineError as error:
            project.ledger.append(
                "run.failed",
                run=context.run,
                data={"error": type(error).__name__, "message": str(error)},
            )
            raise
        project.ledger.append("run.finished", run=context.run, data=summary)
    return Outcome(summary, found=False)


def _to_score(summary: Mapping[str, Any], open_vault: str | None) -> bool:
    """Whether a finished run left the test labels closed and is now given a reason to open them."""
    return bool(open_vault) and not summary["test"] and summary["split"]["num_test"] > 0


def _finished(project: Project, run: str, reporter: Reporter) -> dict[str, Any] | None:
    """The summary of a run that is done and whose release is whole and can be traced."""
    try:
        summary = project.finished(run)
        if summary is not None:
            project.prove_usable(summary)
    except (IntegrityError, NotFoundError) as error:
        reporter.note(f"{run} was finished, but is no longer whole; running it again. {error}")
        return None
    if summary is not None and summary.get("search", {}).get("stopped") == "interrupted":
        return None
    return summary


def _run(
    context: LineContext,
    key: Mapping[str, Any],
    frame: pl.DataFrame | None,
    source: Artifact | None,
) -> dict[str, Any]:
    # Imported here: a run that finds itself done computes nothing and starts in half the time.
    from loopline.line.audit import audit, remarks, review, summary_of
    from loopline.line.blending import blends
    from loopline.line.choosing import choice
    from loopline.line.divide import split
    from loopline.line.finish import chosen, evaluate, final_fit, release
    from loopline.line.measure import (
        check_measurable,
        measure_candidates,
        measure_fold,
        measure_model,
    )
    from loopline.line.opening import vault_facts
    from loopline.line.prepare import ingest, plan
    from loopline.line.prices import row_prices
    from loopline.line.race import metric_name, race
    from loopline.line.replay import replay
    from loopline.line.structure import structure

    check_measurable(context.spec.constraints.limits())
    if source is None:
        source = ingest(context, key, frame)
    planned = plan(context, source)
    structured = structure(context, planned)
    audited, prepared = audit(context, split(context, planned, structured))
    row_prices(context, prepared, prepared.train.positions)  # refused before anything is fitted
    searched = None
    if context.spec.search is not None:
        from loopline.line.search import search

        searched = search(context, prepared)
    raced, skipped = race(context, prepared, None if searched is None else searched.entries)
    reviewed = review(context, prepared, raced)
    raced = [*raced, *blends(context, prepared, raced)]
    measured = measure_candidates(context, source, planned, prepared, raced)
    excluded: dict[str, tuple[str, ...]] = {}
    while True:
        decision = choice(context, prepared, raced, measured, excluded)
        winner = chosen(decision, raced)
        model = final_fit(context, prepared, decision, raced)
        final = measure_model(context, source, planned, prepared, model, winner.spec.name)
        if not final.broken:
            break
        excluded[winner.spec.name] = tuple(f"{text} as fitted on all rows" for text in final.broken)
    evaluation = evaluate(context, prepared, decision, raced, model)
    kept = replay(context, source, planned, prepared, decision, model)
    beside = {"audit": audited, "review": reviewed, "replay": kept}
    best = read_json(decision, "choice.json")["best"]
    if best not in measured and best != winner.spec.name:
        rival = next(entry for entry in raced if entry.spec.name == best)
        measured = {best: measure_fold(context, source, planned, prepared, rival)}
    measured = {**measured, winner.spec.name: final}
    beside |= {f"measured {name}": entry.artifact for name, entry in measured.items()}
    if searched is not None:
        beside["study"] = searched.artifact
    released = release(
        context,
        source,
        planned,
        prepared,
        decision,
        raced,
        model,
        evaluation,
        beside,
        final.values,
    )
    if searched is not None and context.spec.search and context.spec.search.budget:
        from loopline.line.search_budget import put_down

        put_down(context, searched.times)
    audit_findings = summary_of(structured, audited, reviewed, prepared)
    vault = vault_facts(context, prepared, evaluation, metric_name(context, prepared))
    digests = {
        "source": source.id,
        "snapshot": planned.snapshot_id,
        "plan": planned.artifact.id,
        "structure": structured.artifact.id,
        "split": prepared.split_artifact.id,
        "audit": audited.id,
        "review": reviewed.id,
        "choice": decision.id,
        "model": model.id,
        "evaluation": evaluation.id,
        "replay": kept.id,
        "release": released.id,
        **({} if searched is None else {"study": searched.artifact.id}),
    }
    return {
        "run": context.run,
        "name": context.spec.line_name,
        "release": released.id,
        "digests": digests,
        **_facts(raced, skipped, decision, evaluation, released, measured),
        "split": {
            "reason": prepared.split_artifact.meta["reason"],
            **{
                name: prepared.split_artifact.meta["certificate"][name]
                for name in ("num_train", "num_test", "num_excluded", "num_folds")
            },
            "excluded": prepared.split_artifact.meta["certificate"]["excluded"],
        },
        "findings": [
            {
                "kind": finding["kind"],
                "severity": finding["severity"],
                "sentence": finding["sentence"],
            }
            for finding in planned.data["findings"]
        ]
        + remarks(audit_findings)
        + _one_column(decision, evaluation, audited, prepared.schema)
        + _interval_remark(decision, evaluation),
        "audit": audit_findings,
        **({} if searched is None else {"search": searched.summary}),
        "vault": vault,
        "vault_openings": vault["openings"],
        "stages": context.stages,
        "times": {"total_seconds": round(context.elapsed_seconds, 3)},
    }


def _one_column(
    decision: Artifact, evaluation: Artifact, audited: Artifact, schema: Schema
) -> list[dict[str, str]]:
    """A remark when one column carries nearly all of the score, as those written afterwards do.

    Columns that the search for leaks has told of are not told of twice. A text or an image is the
    matter itself and may well carry everything.
    """
    choice = read_json(decision, "choice.json")
    scores = {line["name"]: line["score"]["value"] for line in choice["comparisons"]}
    baselines = [line["name"] for line in choice["comparisons"] if line["complexity"] == 0]
    costs = [
        (name, entry["value"])
        for name, entry in read_json(evaluation, "evaluation.json")["importance"].items()
        if entry["value"] is not None
    ]
    costs.sort(key=lambda pair: -pair[1])
    if not baselines or choice["chosen"] == baselines[0] or len(costs) < 2:
        return []
    of_model, of_baseline = scores[choice["chosen"]], scores[baselines[0]]
    (name, cost), (_, second) = costs[:2]
    told = {column for finding in audited.meta["findings"] for column in finding["columns"]}
    whole = schema.named(name).type in ("text", "image")
    if None in (of_model, of_baseline) or name in told or whole:
        return []
    if cost < ONE_COLUMN_SHARE * abs(of_model - of_baseline) or cost <= ONE_COLUMN_TIMES * second:
        return []
    return [
        {
            "kind": "one_column",
            "severity": "warning",
            "sentence": (
                f"The score lives on {name!r}: shuffling it worsens {choice['metric']} by "
                f"{figure(cost)}, more than {ONE_COLUMN_TIMES} times as much as any other column. "
                "Make sure it is known when predicting; if it is filled in later, give it "
                "`role: ignore`."
            ),
        }
    ]


def _interval_remark(decision: Artifact, evaluation: Artifact) -> list[dict[str, str]]:
    """A remark when the interval of the test score leans on few rows."""
    name = str(read_json(decision, "choice.json")["metric"])
    score = evaluation.meta["metrics"].get(name)
    if score is None or not score["note"] or score["low"] is None:
        return []
    sentence = f"{name} on the test rows: {score['note']}."
    return [{"kind": "interval", "severity": "warning", "sentence": sentence}]


def _facts(
    raced: Sequence[Raced],
    skipped: Sequence[str],
    decision: Artifact,
    evaluation: Artifact,
    released: Artifact,
    measured: Mapping[str, Measurement],
) -> dict[str, Any]:
    data = read_json(decision, "choice.json")
    bundle = Release(released)
    return {
        "task": bundle.task,
        "target": bundle.facts["spec"]["target"],
        "metric": data["metric"],
        "candidates": [
            {
                "name": entry.spec.name,
                "family": entry.spec.family,
                "artifact": entry.artifact.id,
                "metrics": entry.meta["metrics"],
                "size_bytes": entry.meta["size_bytes"],
                "measured": measured[entry.spec.name].values.to_dict()
                if entry.spec.name in measured
                else None,
            }
            for entry in raced
        ],
        "limits": bundle.facts["spec"].get("constraints", {}),
        "skipped": list(skipped),
        "chosen": data["chosen"],
        "why": f"{data['sentence']}{_speed(data, measured)}",
        "threshold": data["threshold"],
        "out_of_fold": data["metrics"],
        "test": evaluation.meta["metrics"],
        "num_test_rows": evaluation.meta["num_rows"],
        "measured": bundle.measured,
    }


def _speed(decision: Mapping[str, Any], measured: Mapping[str, Measurement]) -> str:
    """How fast the chosen model answers beside the best scorer, where they are two."""
    chosen, best = decision["chosen"], decision["best"]
    baselines = {line["name"] for line in decision["comparisons"] if line["complexity"] == 0}
    if best == chosen or chosen in baselines or not {chosen, best} <= measured.keys():
        return ""
    speeds = (measured[name].values.latency_p50 for name in (chosen, best))
    return f" {speed_sentence(chosen, next(speeds), best, next(speeds))}"


@contextmanager
def _one_at_a_time(project: Project, run: str, reporter: Reporter) -> Iterator[None]:
    """Two processes with the same line: the second waits, then finds everything done."""
    locks = project.store.scratch("locks")  # behind a URL: between processes of this machine
    with disk_problems(f"run a line in the store at {project.store.address}"):
        opened = (locks / f"{run}.lock").open("w")
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.note("Another process is running this very line; waiting for it.")
            began = time.monotonic()
            fcntl.flock(lock, fcntl.LOCK_EX)
            reporter.note(f"It ended after {time.monotonic() - began:.0f} s; going on.")
        elsewhere = "Another machine is running this very line; waiting for it."
        with project.ledger.alone(run, lambda: reporter.note(elsewhere)):
            yield
