"""How results look on a terminal: numbers with their intervals, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

OTHERS = {
    "binary": ("auc", "log_loss", "balanced_accuracy", "f1"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""What a summary tells beside the metric that ranks."""
MAX_REMARKS = 5


def print_json(data: Any) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def say(text: str = "") -> None:
    """Print a line of text."""
    typer.echo(text)


def remarks(sentences: Sequence[str]) -> None:
    """Print what the input contract noticed, the first few of it."""
    for sentence in sentences[:MAX_REMARKS]:
        say(f"! {sentence}")
    if len(sentences) > MAX_REMARKS:
        say(f"! and {len(sentences) - MAX_REMARKS} more such remarks (all of them with --json)")


def estimate(value: Mapping[str, Any] | None) -> str:
    """A value with its interval, or a dash.

    >>> estimate({"value": 0.91234, "low": 0.9, "high": 0.92})
    '0.9123 [0.9000, 0.9200]'
    """
    if value is None or value["value"] is None:
        return "–"
    number, low, high = value["value"], value.get("low"), value.get("high")
    if low is None or high is None:
        return figure(number)
    return f"{figure(number)} [{figure(low)}, {figure(high)}]"


def figure(number: float) -> str:
    """A number with four significant figures or decimals, thousands grouped.

    >>> figure(45210.123), figure(0.5)
    ('45,210', '0.5000')
    """
    size = abs(number)
    if size >= 1000:
        return f"{number:,.0f}"
    if size >= 10:
        return f"{number:.2f}"
    if size >= 0.001 or number == 0:
        return f"{number:.4f}"
    return f"{number:.2e}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table; plain columns when the output is not a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        made = Table(title=title or None, title_justify="left", header_style="bold", box=None)
        for column in columns:
            made.add_column(column, overflow="fold")
        for row in rows:
            made.add_row(*row)
        Console().print(made)
        return
    if title:
        say(title)
    widths = [
        max(len(str(line[place])) for line in [columns, *rows]) for place in range(len(columns))
    ]
    for line in [columns, *rows]:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def summary(data: Mapping[str, Any], report: str | None = None) -> None:
    """The end of a run as a person reads it: what was found, chosen and measured."""
    name = data["metric"]
    split = data["split"]
    say()
    say(f"{data['name']}: predict {data['target']!r} ({data['task']})")
    say(f"  {split['reason']}")
    excluded = "".join(
        f", {count:,} left out ({reason})" for reason, count in split["excluded"].items()
    )
    say(
        f"  {split['num_train']:,} training rows in {split['num_folds']} folds, "
        f"{split['num_test']:,} test rows{excluded}"
    )
    warnings = [finding for finding in data["findings"] if finding["severity"] != "info"]
    for finding in warnings[:8]:
        say(f"  ! {finding['sentence']}")
    if len(warnings) > 8:
        say(f"  ! and {len(warnings) - 8} more findings; see the report")
    say()
    rows = [
        [
            ("→ " if entry["name"] == data["chosen"] else "  ") + entry["name"],
            estimate(entry["metrics"].get(name)),
            size(entry["size_bytes"]),
        ]
        for entry in data["candidates"]
    ]
    table(["  candidate", f"out-of-fold {name} [95 %]", "size"], rows)
    if data["skipped"]:
        say(f"  left out for lack of time: {', '.join(data['skipped'])}")
    say()
    say(data["why"])
    if data["threshold"]:
        say(f"Decision threshold: {data['threshold']['sentence']}")
    if data["test"]:
        openings = data["vault_openings"]
        times = "once" if openings == 1 else f"{openings} times"
        say(
            f"On {data['num_test_rows']:,} test rows that no stage had seen: "
            f"{name} {estimate(data['test'].get(name))}  (test labels opened {times} so far)"
        )
        costs = [key for key in data["test"] if key.startswith("cost=")]
        others = [
            key for key in (*costs, *OTHERS[data["task"]]) if key != name and key in data["test"]
        ]
        say("  " + "; ".join(f"{key} {estimate(data['test'][key])}" for key in others))
    else:
        say("There is no test side, so only the out-of-fold scores speak for this model.")
    measured = data.get("measured") or {}
    if measured:
        say(
            f"  one row takes {measured['predict_one_p50_microseconds'] / 1000:.2f} ms "
            f"(p99 {measured['predict_one_p99_microseconds'] / 1000:.2f} ms); "
            f"the model is {size(measured['size_bytes'])}"
        )
    say()
    say(f"run      {data['run']}")
    say(f"release  {data['release'][:24]}")
    if report:
        say(f"report   {report}")


def size(num_bytes: int) -> str:
    """Bytes for people.

    >>> size(2048)
    '2.0 kB'
    """
    if num_bytes < 1000:
        return f"{num_bytes} B"
    if num_bytes < 1_000_000:
        return f"{num_bytes / 1000:.1f} kB"
    if num_bytes < 1_000_000_000:
        return f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:.1f} GB"
