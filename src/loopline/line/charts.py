"""The charts of a report as plain data for plotly's script; nothing is drawn in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ACCENT, SECOND, GREY = "#1f6feb", "#d9730d", "#8a939c"
PALETTE = (ACCENT, SECOND, "#2da44e", "#a371f7", "#cf222e", "#0a7ea4", "#9a6700", "#bf3989")
MAX_BARS = 20


@dataclass(frozen=True)
class Figure:
    """One chart.

    Args:
        name: the element it is drawn into.
        caption: what it shows, in one sentence.
        data: plotly traces.
        layout: plotly layout.
    """

    name: str
    caption: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"name": self.name, "data": list(self.data), "layout": dict(self.layout)}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """A plotly axis with a title."""
    return {"title": {"text": title}, **more}


def candidates_chart(summary: Mapping[str, Any]) -> Figure:
    """Scores of all candidates with their intervals; the chosen one in colour."""
    name = summary["metric"]
    entries = list(reversed(summary["candidates"]))
    scores = [entry["metrics"][name] for entry in entries]
    return Figure(
        "chart-candidates",
        f"Out-of-fold {name} of each candidate with its 95 % interval.",
        [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [score["value"] for score in scores],
                "y": [entry["name"] for entry in entries],
                "marker": {
                    "size": 11,
                    "color": [
                        ACCENT if entry["name"] == summary["chosen"] else GREY for entry in entries
                    ],
                },
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [reach(score["high"], score["value"]) for score in scores],
                    "arrayminus": [reach(score["value"], score["low"]) for score in scores],
                    "color": GREY,
                },
                "hovertemplate": "%{y}: %{x:.5g}<extra></extra>",
            }
        ],
        {
            "xaxis": axis(f"out-of-fold {name}"),
            "yaxis": {"type": "category"},
            "height": 120 + 44 * len(entries),
            "showlegend": False,
        },
    )


def reach(upper: float | None, lower: float | None) -> float:
    """Length of one side of an interval; 0 where there is none."""
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)


def importance_chart(importance: Mapping[str, Mapping[str, Any]], metric: str) -> Figure | None:
    """What shuffling each column costs, with intervals, the largest on top."""
    if not importance:
        return None
    entries = list(importance.items())[:MAX_BARS][::-1]
    values = [value["value"] for _, value in entries]
    more = f" The {MAX_BARS} largest of {len(importance)}." if len(importance) > MAX_BARS else ""
    return Figure(
        "chart-importance",
        f"Loss of {metric} when a column is shuffled, with 95 % intervals.{more}",
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": values,
                "y": [name for name, _ in entries],
                "marker": {"color": ACCENT},
                "error_x": {
                    "type": "data",
                    "array": [reach(value["high"], value["value"]) for _, value in entries],
                    "color": GREY,
                },
                "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
            }
        ],
        {
            "xaxis": axis(f"loss of {metric}"),
            "yaxis": {"type": "category"},
            "height": 100 + 26 * len(entries),
            "margin": {"l": 160, "r": 12, "t": 12, "b": 44},
        },
    )


def contributions_chart(contributions: Mapping[str, float]) -> Figure | None:
    """Mean size of each column's additive contribution, the largest on top."""
    if not contributions:
        return None
    entries = list(contributions.items())[:MAX_BARS][::-1]
    return Figure(
        "chart-contributions",
        "Mean size of each column's contribution to the raw score (SHAP, on validation rows).",
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": [value for _, value in entries],
                "y": [name for name, _ in entries],
                "marker": {"color": SECOND},
                "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
            }
        ],
        {
            "xaxis": axis("mean |contribution|"),
            "yaxis": {"type": "category"},
            "height": 100 + 26 * len(entries),
            "margin": {"l": 160, "r": 12, "t": 12, "b": 44},
        },
    )


def confusion_chart(confusion: Mapping[str, Any] | None) -> Figure | None:
    """How often each class got each label, as shares of the true class."""
    if not confusion or len(confusion["classes"]) > 40:
        return None
    classes = [str(label) for label in confusion["classes"]]
    counts = confusion["counts"]
    shares = [[cell / max(1, sum(line)) for cell in line] for line in counts]
    threshold = confusion["threshold"]
    at = f" at the threshold {threshold:.4g}" if threshold is not None else ""
    shown: dict[str, Any] = {}
    if len(classes) <= 12:
        shown = {
            "text": [[f"{cell:,}" for cell in line] for line in counts],
            "texttemplate": "%{text}",
        }
    return Figure(
        "chart-confusion",
        f"Rows by true class and predicted label{at}; the colour is the share of the true class.",
        [
            {
                "type": "heatmap",
                "z": shares,
                "x": classes,
                "y": classes,
                "colorscale": [[0, "rgba(31,111,235,0.04)"], [1, "rgba(31,111,235,0.85)"]],
                "zmin": 0,
                "zmax": 1,
                "showscale": False,
                "hovertemplate": "true %{y}, predicted %{x}: %{z:.1%}<extra></extra>",
                **shown,
            }
        ],
        {
            "xaxis": axis("predicted", type="category"),
            "yaxis": axis("true", type="category", autorange="reversed"),
        },
    )


def curve_charts(curves: Mapping[str, Any], task: str) -> list[Figure]:
    """The charts that the evaluation's curves give."""
    if not curves:
        return []
    if task == "regression":
        return [_predicted(curves["predicted"]), _residuals(curves["residual_histogram"])]
    figures = [_roc(curves["roc"], task), _reliability(curves["reliability"])]
    if task == "binary":
        figures.insert(1, _pr(curves["pr"]))
    figures.append(_histogram(curves["histogram"]))
    return [figure for figure in figures if figure is not None]


def _line(x: Any, y: Any, name: str = "", color: str = ACCENT, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": color, **more.pop("line", {})},
        **more,
    }


def _diagonal() -> dict[str, Any]:
    return _line([0, 1], [0, 1], "", GREY, line={"dash": "dot"}, showlegend=False, hoverinfo="skip")


_SHARE = {"range": [0, 1.01]}


def _roc(roc: Any, task: str) -> Figure | None:
    if not roc:
        return None
    named = {"": roc} if task == "binary" else {k: v for k, v in roc.items() if v}
    traces = [
        _line(
            curve["false_positive_rate"],
            curve["recall"],
            name,
            PALETTE[place % len(PALETTE)],
            customdata=curve["threshold"],
            hovertemplate="recall %{y:.3f} at false-positive rate %{x:.3f}"
            "<br>threshold %{customdata:.4f}<extra></extra>",
        )
        for place, (name, curve) in enumerate(named.items())
    ]
    return Figure(
        "chart-roc",
        "ROC curve: recall against the share of false alarms"
        + ("." if task == "binary" else ", each class against the rest."),
        [_diagonal(), *traces],
        {
            "xaxis": axis("false-positive rate", **_SHARE),
            "yaxis": axis("recall", **_SHARE),
            "showlegend": task != "binary",
        },
    )


def _pr(pr: Any) -> Figure | None:
    if not pr:
        return None
    share = pr["share_positive"]
    return Figure(
        "chart-pr",
        f"Precision against recall; guessing gives {share:.1%}.",
        [
            _line([0, 1], [share, share], "", GREY, line={"dash": "dot"}, hoverinfo="skip"),
            _line(
                pr["recall"],
                pr["precision"],
                customdata=pr["threshold"],
                hovertemplate="precision %{y:.3f} at recall %{x:.3f}"
                "<br>threshold %{customdata:.4f}<extra></extra>",
            ),
        ],
        {
            "xaxis": axis("recall", **_SHARE),
            "yaxis": axis("precision", **_SHARE),
            "showlegend": False,
        },
    )


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Figure | None:
    if not bins:
        return None
    return Figure(
        "chart-reliability",
        "Calibration: the share that came true against the predicted probability, 95 % intervals.",
        [
            _diagonal(),
            {
                "type": "scatter",
                "mode": "markers+lines",
                "x": [entry["stated"] for entry in bins],
                "y": [entry["observed"] for entry in bins],
                "marker": {"color": ACCENT},
                "line": {"color": ACCENT, "width": 1},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [reach(entry["high"], entry["observed"]) for entry in bins],
                    "arrayminus": [reach(entry["observed"], entry["low"]) for entry in bins],
                    "color": GREY,
                },
                "hovertemplate": "predicted %{x:.3f}, came true %{y:.3f}<extra></extra>",
            },
        ],
        {
            "xaxis": axis("predicted probability", **_SHARE),
            "yaxis": axis("share that came true", **_SHARE),
            "showlegend": False,
        },
    )


def _histogram(histogram: Mapping[str, Any]) -> Figure:
    edges = histogram["edges"]
    centres = [(low + high) / 2 for low, high in pairwise(edges)]
    return Figure(
        "chart-histogram",
        "Predicted probabilities, as shares of each class.",
        [
            {
                "type": "bar",
                "x": centres,
                "y": shares,
                "name": name,
                "opacity": 0.7,
                "marker": {"color": PALETTE[place % len(PALETTE)]},
            }
            for place, (name, shares) in enumerate(histogram["shares"].items())
        ],
        {
            "barmode": "overlay",
            "xaxis": axis("predicted probability"),
            "yaxis": axis("share of the class"),
        },
    )


def _predicted(bins: Mapping[str, Sequence[float]]) -> Figure:
    x = bins["predicted"]
    low, high = min(x), max(x)
    return Figure(
        "chart-predicted",
        "Truth against prediction: mean of the truth, and where 80 % of it lies.",
        [
            _line(x, bins["low"], "", GREY, line={"width": 0}, showlegend=False, hoverinfo="skip"),
            _line(
                x,
                bins["high"],
                "80 % of rows",
                GREY,
                line={"width": 0},
                fill="tonexty",
                fillcolor="rgba(31,111,235,.18)",
                hoverinfo="skip",
            ),
            _line(x, bins["mean"], "mean truth"),
            _line([low, high], [low, high], "perfect", GREY, line={"dash": "dot"}),
        ],
        {"xaxis": axis("predicted"), "yaxis": axis("truth")},
    )


def _residuals(histogram: Mapping[str, Any]) -> Figure:
    edges = histogram["edges"]
    return Figure(
        "chart-residuals",
        "Errors: truth less prediction.",
        [
            {
                "type": "bar",
                "x": [(low + high) / 2 for low, high in pairwise(edges)],
                "y": histogram["share"],
                "marker": {"color": ACCENT},
            }
        ],
        {"xaxis": axis("truth less prediction"), "yaxis": axis("share of rows"), "bargap": 0.04},
    )
