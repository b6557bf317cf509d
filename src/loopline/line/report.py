"""The report of a run: one self-contained HTML file, written from artifacts and ledger alone.

It can be written again at any time and gives the same page. Charts are drawn by plotly, whose
script stands inside the file, so the report opens anywhere, offline, on a phone, and prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loopline.data.writers import check_file_name, write_text
from loopline.errors import NotFoundError
from loopline.evaluate.evaluation import resolvable_difference
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import in_order
from loopline.line.audit_page import audit_section
from loopline.line.charts import (
    Figure,
    candidates_chart,
    confusion_chart,
    contributions_chart,
    curve_charts,
    importance_chart,
)
from loopline.line.cost_page import cost_section
from loopline.line.page import block, bullets, chart_place, columns_of, escape, page, prose, table
from loopline.line.project import Project, read_json
from loopline.line.search_page import read_study, search_section
from loopline.line.timeline import loop_section
from loopline.line.training import Entries, read_logs, training_chart, training_sentence
from loopline.release.bundle import Release
from loopline.words import counted, estimate, figure, sentence, size

QUIET = ("info", "note")
"""Severities that are told below the fold."""


@dataclass(frozen=True)
class Facts:
    """Everything a report is written from.

    Args:
        summary: the run's summary.
        release: the release's facts.
        plan: findings and repairs.
        choice: the comparison of candidates.
        evaluation: test metrics and curves.
        logs: what was read while the chosen network was trained; empty for others.
        study: the search, None without one.
        loop: the section on what the loop did with the line; empty where nothing watches it.
    """

    summary: Mapping[str, Any]
    release: Mapping[str, Any]
    plan: Mapping[str, Any]
    choice: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    logs: Mapping[str, Entries]
    study: Mapping[str, Any] | None = None
    loop: str = ""


def write_report(
    project: Project, run: str, path: str | Path | None = None, *, again: bool = True
) -> Path:
    """Write a run's report.

    Args:
        project: where the run is.
        run: the run's id.
        path: the file to write (default: ``reports/<run>.html`` in a local store, else here).
        again: whether to write a report that is already there anew.

    Raises:
        NotFoundError: the run is not finished.
        EnvironmentProblem: the file cannot be written.
    """
    summary = project.finished(run)
    if summary is None:
        raise NotFoundError(
            f"{run} has no report: it is not finished, or its release has been removed. "
            "Run its line again."
        )
    folder = Path() if project.local_folder is None else project.local_folder / "reports"
    target = Path(path).expanduser() if path is not None else folder / f"{run}.html"
    if target.exists() and not again:
        return target
    check_file_name(target)
    text = render(_facts(project, summary))
    write_text(text, target)
    return target


def _facts(project: Project, summary: Mapping[str, Any]) -> Facts:
    digests = summary["digests"]

    def read(stage: str, name: str) -> Mapping[str, Any]:
        data: Mapping[str, Any] = read_json(project.store.get(digests[stage]), name)
        return data

    return Facts(
        summary,
        Release(project.store.get(summary["release"])).facts,
        read("plan", "plan.json"),
        read("choice", "choice.json"),
        read("evaluation", "evaluation.json"),
        read_logs(project, summary),
        read_study(project, summary),
        loop_section(project, str(summary["name"])),
    )


def render(facts: Facts) -> str:
    """The page's HTML."""
    summary, release = facts.summary, facts.release
    figures: list[Figure] = []

    def chart(figure: Figure | None) -> str:
        if figure is None:
            return ""
        figures.append(figure)
        return chart_place(figure)

    told_findings, priced = audit_section(summary["audit"])
    body = [
        _head(facts),
        block("Can this be believed?", bullets(_reasons(facts))),
        block("What the audit found", chart(priced) + told_findings),
        block(
            "The race",
            chart(candidates_chart(summary)) + _candidates(facts),
        ),
        block("Scores of the chosen model", _scores(facts)),
    ]
    if facts.study is not None:
        told, charts = search_section(summary["search"], facts.study)
        body.append(block("The search", told + "".join(chart(figure) for figure in charts)))
    costs, compared = cost_section(summary)
    if costs:
        body.append(block("What it costs", chart(compared) + costs))
    drawn = [chart(figure) for figure in curve_charts(facts.evaluation["curves"], release["task"])]
    confusion = chart(confusion_chart(facts.evaluation.get("confusion")))
    decision = release["threshold"]
    if drawn or confusion or decision:
        told = f"<p>Decision threshold: {prose(decision['sentence'])}</p>" if decision else ""
        body.append(block("On the test rows", told + columns_of([*drawn, confusion])))
    importance = chart(importance_chart(facts.evaluation["importance"], summary["metric"]))
    importance += chart(contributions_chart(facts.evaluation["contributions"]))
    if importance:
        body.append(
            block(
                "What it lives on",
                "<p>How much the score drops on validation rows when one column is shuffled. "
                "Columns that say the same share the credit.</p>" + importance,
            )
        )
    trained = chart(training_chart(facts.logs))
    if trained:
        body.append(block("The training", trained + bullets([training_sentence(facts.logs)])))
    body += [
        facts.loop,
        block("The columns", _columns(release)),
        block("What was found in the data", _findings(facts)),
        block("Where it comes from", _origin(facts)),
    ]
    return page(f"{summary['name']} · {summary['run']}", "\n".join(body), figures)


def _head(facts: Facts) -> str:
    summary = facts.summary
    name = summary["metric"]
    on_test = bool(summary["test"])
    score = (summary["test"] if on_test else summary["out_of_fold"])[name]
    where = f"on {summary['num_test_rows']:,} test rows" if on_test else "out of fold"
    return (
        f"<header><p class=kind>predict {escape(repr(summary['target']))} "
        f"({escape(summary['task'])})</p>"
        f"<h1>{escape(summary['name'])}</h1>"
        f"<p class=score><b>{figure(score['value'])}</b> {escape(name)} "
        f"<span>95 % interval {figure(score['low'])} – {figure(score['high'])}, "
        f"{where}</span></p>"
        f"<p>{prose(summary['why'])}</p></header>"
    )


def _reasons(facts: Facts) -> list[str]:
    summary = facts.summary
    split = summary["split"]
    told = [
        split["reason"],
        f"{split['num_train']:,} training rows in {split['num_folds']} folds, "
        f"{split['num_test']:,} test rows"
        + "".join(
            f", {counted(count, 'row')} left out ({why})"
            for why, count in split["excluded"].items()
        )
        + ".",
        facts.release["certificate"]["sentence"],
    ]
    told.append(summary["vault"]["sentence"])
    if summary["test"]:
        score = Estimate.from_dict(summary["test"][summary["metric"]])
        told.append(resolvable_difference(summary["metric"], score).sentence)
    told += [f["sentence"] for f in summary["findings"] if f["severity"] not in QUIET]
    return [sentence(entry) for entry in told if entry]


def _candidates(facts: Facts) -> str:
    name = facts.summary["metric"]
    rows = []
    for entry in facts.choice["comparisons"]:
        behind = entry["behind_best"]
        mark = "chosen" if entry["name"] == facts.choice["chosen"] else "; ".join(entry["broken"])
        rows.append(
            [
                entry["name"],
                _score(entry["score"]),
                "best score" if behind is None else _score(behind),
                "yes" if entry["worse"] else "no",
                size(entry["size_bytes"]),
                mark,
            ]
        )
    heads = ["candidate", f"out-of-fold {name}", "behind the best", "measurably worse", "size", ""]
    return table(heads, rows)


def _scores(facts: Facts) -> str:
    metrics = facts.release["metrics"]
    rows = [
        [name, _score(metrics["out_of_fold"][name]), _score(metrics["test"].get(name))]
        for name in in_order(metrics["out_of_fold"], facts.summary["metric"])
    ]
    return table(["metric", "out of fold [95 %]", "test [95 %]"], rows)


def _columns(release: Mapping[str, Any]) -> str:
    return table(
        ["column", "type", "role", "why"],
        [
            [column["name"], column["type"], column["role"], column["reason"]]
            for column in release["schema"]["columns"]
        ],
    )


def _findings(facts: Facts) -> str:
    findings = sorted(
        facts.plan["findings"],
        key=lambda finding: ["error", "warning", "info"].index(finding["severity"]),
    )
    repairs = facts.plan["repairs"]
    told = ""
    if repairs:
        told = "<p>Repaired, reversibly, in a snapshot of its own:</p>" + bullets(
            [f"{repair.get('column') or 'rows'}: {repair.get('reason', '')}" for repair in repairs]
        )
    if not findings:
        return told + "<p>Nothing.</p>"
    rows = [
        [finding["severity"], finding["kind"].replace("_", " "), finding["sentence"]]
        for finding in findings
    ]
    return told + table(["", "kind", "what"], rows)


def _origin(facts: Facts) -> str:
    summary, release = facts.summary, facts.release
    identity = [
        ["run", summary["run"]],
        *[[stage, digest] for stage, digest in summary["digests"].items()],
        ["code", release["code"]],
        ["seed", str(release["seed"])],
        ["threads", str(release["threads"])],
        ["environment", ", ".join(f"{k} {v}" for k, v in release["environment"].items())],
    ]
    settings = yaml.safe_dump(dict(release["spec"]), sort_keys=False, allow_unicode=True)
    times = table(
        ["stage", "seconds", ""],
        [
            [entry["stage"], f"{entry['seconds']:.2f}", "found" if entry["found"] else ""]
            for entry in summary["stages"]
        ],
    )
    return (
        table(["", "digest or value"], identity)
        + f"<details><summary>Settings</summary><pre>{escape(settings)}</pre></details>"
        + f"<details><summary>Stages and times</summary>{times}</details>"
    )


def _score(stored: Mapping[str, Any] | None) -> str:
    """A score whose interval is not broken over two lines."""
    return estimate(stored).replace(", ", ",\u00a0")
