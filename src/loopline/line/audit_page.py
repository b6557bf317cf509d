"""How findings of an audit look on a page: a list to read, a chart of what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from loopline.data.writers import check_file_name, write_text
from loopline.line.charts import ACCENT, GREY, Figure, reach
from loopline.line.page import block, chart_place, escape, page
from loopline.words import counted, estimate, sentence

TITLES = {
    "leak": "gives the answer away",
    "repairable": "would make the score untrue",
    "warning": "worth a look",
    "note": "told",
}
SHOWN_NOTES = 12


def audit_section(findings: Sequence[Mapping[str, Any]]) -> tuple[str, Figure | None]:
    """The section of a report, and its chart.

    Args:
        findings: as `Finding.to_dict` gives them, worst first.
    """
    if not findings:
        return "<p>The audit found nothing that would make this score untrue.</p>", None
    worse = [finding for finding in findings if finding["severity"] != "note"]
    notes = [finding for finding in findings if finding["severity"] == "note"]
    parts = [_entry(finding) for finding in worse]
    if not worse:
        parts.append("<p>Nothing that would make this score untrue.</p>")
    if notes:
        rest = "".join(_entry(finding) for finding in notes[:SHOWN_NOTES])
        more = len(notes) - SHOWN_NOTES
        tail = f"<p>And {more:,} more in the JSON.</p>" if more > 0 else ""
        parts.append(
            f"<details><summary>{counted(len(notes), 'note')}: looked at and found harmless, or "
            f"worth knowing</summary>{rest}{tail}</details>"
        )
    return "".join(parts), worth_chart(findings)


def _entry(finding: Mapping[str, Any]) -> str:
    remedy = finding.get("remedy") or {}
    done = " · repaired" if remedy.get("applied") else ""
    told = [f"<p><b>{escape(TITLES[finding['severity']])}{done}</b> — "]
    told.append(f"{escape(sentence(finding['sentence']))}</p>")
    told.append(_worth(finding.get("worth")))
    if remedy.get("sentence"):
        told.append(f"<p>{escape(sentence(remedy['sentence']))}</p>")
    if remedy.get("settings") and not remedy.get("applied"):
        text = yaml.safe_dump(dict(remedy["settings"]), sort_keys=False, allow_unicode=True)
        told.append(f"<pre>{escape(text.strip())}</pre>")
    told.append(_examples(finding.get("examples") or ()))
    return f'<div class="finding {escape(finding["severity"])}">' + "".join(told) + "</div>"


def _worth(worth: Mapping[str, Any] | None) -> str:
    if not worth:
        return ""
    return (
        f"<p>Claimed {escape(worth['metric'])} {escape(estimate(worth['claimed']))}; repaired "
        f"{escape(estimate(worth['repaired']))}; the claim promises "
        f"{escape(estimate(worth['difference']))} too much ({escape(worth['model'])}, "
        "out of fold).</p>"
    )


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    if not examples:
        return ""
    heads = list(dict.fromkeys(name for example in examples for name in example))
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(example.get(head)))}</td>" for head in heads) + "</tr>"
        for example in examples
    )
    return (
        f"<details><summary>{len(examples)} examples</summary>"
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
        "</div></details>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " | ".join(_cell(part) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def worth_chart(findings: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Claimed against repaired score of every finding that has a price."""
    priced = [finding for finding in findings if finding.get("worth")][:10]
    if not priced:
        return None
    names = [_short(finding) for finding in priced][::-1]
    worths = [finding["worth"] for finding in priced][::-1]

    def dots(which: str, color: str) -> dict[str, Any]:
        scores = [worth[which] for worth in worths]
        return {
            "type": "scatter",
            "mode": "markers",
            "name": which,
            "x": [score["value"] for score in scores],
            "y": names,
            "marker": {"size": 10, "color": color},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [reach(score["high"], score["value"]) for score in scores],
                "arrayminus": [reach(score["value"], score["low"]) for score in scores],
                "color": color,
            },
            "hovertemplate": "%{y}: %{x:.4g}<extra>" + which + "</extra>",
        }

    metrics = {worth["metric"] for worth in worths}
    return Figure(
        "chart-audit",
        "What each finding is worth: the score as claimed and once repaired, by the same small "
        "model, with 95 % intervals.",
        [dots("claimed", GREY), dots("repaired", ACCENT)],
        {
            "xaxis": {"title": {"text": " / ".join(sorted(metrics))}},
            "yaxis": {"type": "category", "automargin": True},
            "height": 150 + 44 * len(names),
        },
    )


def _short(finding: Mapping[str, Any]) -> str:
    columns = ", ".join(finding["columns"][:2])
    text = finding["check"].replace("_", " ")
    whole = f"{text}: {columns}" if columns else text
    return whole if len(whole) <= 40 else whole[:39] + "…"


def write_audit_page(
    title: str, facts: Sequence[str], findings: Sequence[Mapping[str, Any]], path: str | Path
) -> Path:
    """Write the audit of a table as one self-contained HTML file.

    Args:
        title: what was audited.
        facts: sentences about the table and the split.
        findings: as `Finding.to_dict` gives them, worst first.
        path: the file to write.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    target = Path(path).expanduser()
    check_file_name(target)
    section, chart = audit_section(findings)
    drawn = "" if chart is None else chart_place(chart)
    head = f"<header><p class=kind>audit</p><h1>{escape(title)}</h1>"
    head += "".join(f"<p>{escape(sentence(fact))}</p>" for fact in facts) + "</header>"
    body = head + block("What was found", drawn + section)
    write_text(page(f"Audit of {title}", body, [chart] if chart else []), target)
    return target
