"""How a search looks in a report: what it found and what that is worth, and four charts of it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from loopline.line.charts import ACCENT, GREY, PALETTE, Figure, axis
from loopline.line.page import bullets, table
from loopline.line.project import Project, read_json
from loopline.line.search_result import STUDY
from loopline.words import figure

ENOUGH_FOR_IMPORTANCE = 8
"""Complete trials of a candidate from which the importance of its parameters is told."""
MAX_SLICES = 6
Entry = Mapping[str, Any]


def read_study(project: Project, summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The study of a run; None where nothing was searched."""
    artifact = summary["digests"].get("study")
    if artifact is None:
        return None
    data: Mapping[str, Any] = read_json(project.store.get(artifact), STUDY)
    return data


def search_section(summary: Mapping[str, Any], study: Entry) -> tuple[str, list[Figure]]:
    """The section's text and its charts.

    Args:
        summary: what the run's summary tells of the search.
        study: as `read_study` gives it.
    """
    rows = [
        [
            entry["name"],
            f"{entry['trials']:,}",
            f"{entry['complete']:,} / {entry['pruned']:,} / {entry['failed']:,}",
            figure(entry["defaults"]),
            figure(entry["best"]),
            _settings(entry["params"]) if entry["params"] is not None else entry["reason"],
        ]
        for entry in summary["candidates"]
    ]
    heads = [
        "candidate", "trials", "complete / given up / failed", "with defaults",
        f"best {summary['metric']}", "found",
    ]  # fmt: skip
    charts = [history_chart(study)]
    winner = study["records"][study["winner"]]["arm"]
    found = next(entry for entry in study["arms"] if entry["name"] == winner)
    arm = {**found, "space": {entry["name"]: entry for entry in found["space"]}}
    own = [record for record in study["records"] if record["arm"] == winner]
    further = [made(study, arm, own) for made in (importance_chart, slice_chart, parallel_chart)]
    charts += [chart for chart in further if chart is not None]
    return bullets(summary["sentences"]) + table(heads, rows), charts


def _settings(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {figure(value) if isinstance(value, float) else value}"
        for name, value in params.items()
    )


def history_chart(study: Entry) -> Figure:
    """Every trial's score in order, and the best so far."""
    higher = study["higher_is_better"]
    best: list[float] = []
    for record in study["records"]:
        value = record["value"] if record["state"] == "complete" else None
        before = best[-1] if best else None
        if value is None or (before is not None and (value > before) != higher):
            value = before
        best.append(value if value is not None else math.nan)
    traces: list[dict[str, Any]] = []
    for place, arm in enumerate(study["arms"]):
        for state, symbol in (("complete", "circle"), ("pruned", "circle-open")):
            own = [
                record
                for record in study["records"]
                if record["arm"] == arm["name"] and record["state"] == state
            ]
            if own:
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": arm["name"] + (" (given up)" if state == "pruned" else ""),
                        "x": [record["number"] for record in own],
                        "y": [record["value"] for record in own],
                        "text": [_settings(record["params"]) for record in own],
                        "marker": {
                            "color": PALETTE[place % len(PALETTE)], "symbol": symbol, "size": 7,
                        },
                        "hovertemplate": "trial %{x}: %{y:.4g}<br>%{text}<extra></extra>",
                    }
                )  # fmt: skip
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": list(range(len(best))),
            "y": [None if math.isnan(value) else value for value in best],
            "line": {"color": GREY, "shape": "hv"},
        }
    )
    return Figure(
        "chart-search-history",
        "Every trial in order: filled ones were fitted on all folds, open ones were given up "
        "(their score is that of the folds they had).",
        traces,
        {"xaxis": axis("trial"), "yaxis": axis(study["metric"])},
    )


def importance_chart(study: Entry, arm: Entry, own: Sequence[Entry]) -> Figure | None:
    """How much of the score's variation each parameter of the winner explains."""
    shares = importances(study, arm, own)
    if not shares:
        return None
    names = list(reversed(shares))
    return Figure(
        "chart-search-importance",
        f"Share of each parameter of {arm['name']} in what made trials better than the median "
        "(PED-ANOVA, Watanabe et al. 2023).",
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": [shares[name] for name in names],
                "y": names,
                "marker": {"color": ACCENT},
                "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
            }
        ],
        {
            "xaxis": axis("share", tickformat=".0%"),
            "yaxis": {"type": "category"},
            "height": 140 + 28 * len(names),
        },
    )


def importances(study: Entry, arm: Entry, own: Sequence[Entry]) -> dict[str, float]:
    """Shares by parameter, summing to 1, largest first; empty where trials are too few."""
    import optuna

    from loopline.search.record import Record
    from loopline.search.suggest import optuna_study

    complete = [
        Record.from_dict({**record, "seconds": 0.0})
        for record in own
        if record["state"] == "complete"
    ]
    if len(complete) < ENOUGH_FOR_IMPORTANCE:
        return {}
    from loopline.search.arms import Arm

    space = Arm.from_dict({**arm, "space": list(arm["space"].values())}).space
    made = optuna_study(space, complete, higher=study["higher_is_better"])
    names = [
        name
        for name in arm["space"]
        if all(name in trial.params for trial in made.trials)
        and len({trial.params[name] for trial in made.trials}) > 1
    ]
    if len(made.trials) < ENOUGH_FOR_IMPORTANCE or len(names) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(made, evaluator=evaluator, params=names)
    return {name: float(share) for name, share in sorted(found.items(), key=lambda e: -e[1])}


def slice_chart(study: Entry, arm: Entry, own: Sequence[Entry]) -> Figure | None:
    """The score against each parameter of the winner."""
    names = [name for name in arm["space"] if any(name in record["params"] for record in own)]
    names = names[:MAX_SLICES]
    if not names or len(own) < 3:
        return None
    layout: dict[str, Any] = {"showlegend": False, "yaxis": axis(study["metric"])}
    traces = []
    width = 1.0 / len(names)
    for place, name in enumerate(names):
        suffix = "" if place == 0 else str(place + 1)
        dimension = arm["space"][name]
        scale = {"type": "log"} if dimension.get("log") else {}
        if dimension["kind"] == "choice":
            scale = {"type": "category"}
        gap = 0.02 if len(names) > 1 else 0.0
        ends = [place * width + gap / 2, (place + 1) * width - gap / 2]
        layout[f"xaxis{suffix}"] = axis(name, domain=ends, **scale)
        shown = [
            record for record in own if name in record["params"] and record["value"] is not None
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [_shown(record["params"][name], dimension) for record in shown],
                "y": [record["value"] for record in shown],
                "xaxis": f"x{suffix}",
                "yaxis": "y",
                "marker": {
                    "color": [ACCENT if r["state"] == "complete" else GREY for r in shown],
                    "size": 6,
                },
                "hovertemplate": name + " %{x}: %{y:.4g}<extra></extra>",
            }
        )
    return Figure(
        "chart-search-slices",
        f"The score of every trial of {arm['name']} against each of its parameters; grey ones were "
        "given up.",
        traces,
        layout,
    )


def _shown(value: Any, dimension: Entry) -> Any:
    """Zero has no place on a log scale, and words none on a scale of numbers."""
    if dimension["kind"] == "choice":
        return str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and not (dimension.get("log") and value <= 0) else None


def parallel_chart(study: Entry, arm: Entry, own: Sequence[Entry]) -> Figure | None:
    """All parameters of the winner's complete trials side by side, coloured by their score."""
    names = list(arm["space"])
    shown = [
        record
        for record in own
        if record["state"] == "complete" and all(_place(record, n, arm) is not None for n in names)
    ]
    if len(names) < 2 or len(shown) < 3:
        return None
    axes: list[dict[str, Any]] = []
    for name in names:
        dimension = arm["space"][name]
        values = [_place(record, name, arm) for record in shown]
        entry: dict[str, Any] = {"label": name, "values": values}
        if dimension["kind"] == "choice":
            entry["tickvals"] = list(range(len(dimension["options"])))
            entry["ticktext"] = [str(option) for option in dimension["options"]]
        elif dimension.get("log"):
            ticks = _log_ticks(dimension["low"], dimension["high"])
            entry["tickvals"] = [math.log10(tick) for tick in ticks]
            entry["ticktext"] = [f"{tick:.3g}" for tick in ticks]
        axes.append(entry)
    scores = [record["value"] for record in shown]
    axes.append({"label": study["metric"], "values": scores})
    return Figure(
        "chart-search-parallel",
        f"The complete trials of {arm['name']}, one line each.",
        [
            {
                "type": "parcoords",
                "dimensions": axes,
                "line": {
                    "color": scores,
                    "colorscale": "Viridis",
                    "reversescale": not study["higher_is_better"],
                },
            }
        ],
        {"margin": {"l": 60, "r": 40, "t": 50, "b": 24}, "height": 360},
    )


def _place(record: Entry, name: str, arm: Entry) -> float | None:
    value, dimension = record["params"].get(name), arm["space"][name]
    if dimension["kind"] == "choice":
        options = [json.dumps(option) for option in dimension["options"]]
        told = json.dumps(value)
        return float(options.index(told)) if told in options else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    held = min(dimension["high"], max(dimension["low"], value))
    return math.log10(held) if dimension.get("log") else float(held)


def _log_ticks(low: float, high: float) -> list[float]:
    inner = [
        10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ]
    return sorted({low, high, *inner})
