"""What the candidates cost, in the report: a table beside the limits, and score against speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.line.charts import ACCENT, GREY, Figure, axis
from loopline.line.page import bullets, table
from loopline.select.limits import WORDS, Limits, Measured
from loopline.words import figure

_PATHS = {"http": "asked over HTTP", "python": "called in Python"}


def limits_sentences(summary: Mapping[str, Any]) -> list[str]:
    """The limits with what the chosen model has of each; none where none were set.

    >>> limits_sentences({"limits": {}})
    []
    """
    given = summary.get("limits") or {}
    entry = next((e for e in summary.get("candidates", ()) if e["name"] == summary["chosen"]), None)
    if not given or entry is None or entry["measured"] is None:
        return []
    measured = Measured.from_dict(entry["measured"])
    return [
        f"{name} is {WORDS[name](getattr(measured, name))}, "
        f"{'at least' if name == 'throughput' else 'at most'} {WORDS[name](limit)} allowed."
        for name, limit in Limits(**given).given.items()
    ]


def cost_section(summary: Mapping[str, Any]) -> tuple[str, Figure | None]:
    """A table of what was measured, and a chart where two models or more were."""
    entries = [entry for entry in summary["candidates"] if entry.get("measured")]
    if not entries:
        return "", None
    name = summary["metric"]
    rows = []
    for entry in entries:
        measured = Measured.from_dict(entry["measured"])
        values = [
            "–" if getattr(measured, what) is None else text(getattr(measured, what))
            for what, text in WORDS.items()
        ]
        mark = "chosen" if entry["name"] == summary["chosen"] else ""
        rows.append([entry["name"], figure(entry["metrics"][name]["value"]), *values, mark])
    how = entries[0]["measured"]
    told = (
        f"<p>Measured in a process of its own, {_PATHS[how['path']]}, warm, one call at a time; "
        "the 99 % are those of the worst of five rounds.</p>"
    )
    heads = ["candidate", name, *(what.replace("_", " ") for what in WORDS), ""]
    return (
        told + table(heads, rows) + bullets(limits_sentences(summary)),
        _chart(summary, entries) if len(entries) > 1 else None,
    )


def _chart(summary: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> Figure:
    name = summary["metric"]
    limit = (summary.get("limits") or {}).get("latency_p99")
    shapes = []
    if limit is not None:
        line = {"color": "#cf222e", "dash": "dot"}
        shapes.append(
            {
                "type": "line",
                "x0": limit * 1000,
                "x1": limit * 1000,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": line,
            }
        )
    colors = [ACCENT if entry["name"] == summary["chosen"] else GREY for entry in entries]
    return Figure(
        "chart-cost",
        f"Out-of-fold {name} against the time of one row (99 %); a dotted line is the limit.",
        [
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [entry["measured"]["latency_p99"] * 1000 for entry in entries],
                "y": [entry["metrics"][name]["value"] for entry in entries],
                "text": [entry["name"] for entry in entries],
                "textposition": "top center",
                "marker": {"size": 12, "color": colors},
                "hovertemplate": "%{text}: %{y:.5g}, %{x:.3g} ms<extra></extra>",
            }
        ],
        {
            "xaxis": axis("milliseconds for one row (99 %)", type="log"),
            "yaxis": axis(f"out-of-fold {name}"),
            "shapes": shapes,
            "showlegend": False,
        },
    )
