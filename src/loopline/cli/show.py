"""How results look on a terminal: numbers with their intervals, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from loopline.words import counted, estimate, sentence, size

OTHERS = {
    "binary": ("auc", "log_loss", "balanced_accuracy", "f1"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1"),
    "multilabel": ("log_loss", "micro_f1", "macro_f1", "subset_accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "language": ("bits_per_byte", "byte_perplexity", "nats_per_row"),
    "retrieval": ("recall_at_1", "recall_at_5", "mean_reciprocal_rank"),
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
    for text in sentences[:MAX_REMARKS]:
        say(f"! {sentence(text)}")
    if len(sentences) > MAX_REMARKS:
        say(f"! And {len(sentences) - MAX_REMARKS:,} more such remarks; --json has them all.")


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
    from loopline.evaluate.threshold import WHY_DEFAULT
    from loopline.line.cost_page import limits_sentences

    name = data["metric"]
    split = data["split"]
    say()
    say(f"{data['name']}: predict {data['target']!r} ({data['task']})")
    say(f"  {split['reason']}")
    excluded = "".join(
        f", {counted(count, 'row')} left out ({reason})"
        for reason, count in split["excluded"].items()
    )
    say(
        f"  {split['num_train']:,} training rows in {split['num_folds']} folds, "
        f"{split['num_test']:,} test rows{excluded}."
    )
    quiet = ("info", "note")
    warnings = [finding for finding in data["findings"] if finding["severity"] not in quiet]
    for finding in warnings[:8]:
        say(f"  ! {finding['sentence']}")
    if len(warnings) > 8:
        say(f"  ! And {counted(len(warnings) - 8, 'more finding')}; the report has them all.")
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
        say(f"  Left out for lack of time: {', '.join(data['skipped'])}.")
    for told in data.get("search", {}).get("sentences", ()):
        say(f"  {told}")
    say()
    say(data["why"])
    if data["threshold"]:
        told, default, _ = data["threshold"]["sentence"].partition(WHY_DEFAULT)
        say(f"Decision threshold: {told.rstrip()}")
        if default:
            say(f"  {default}")
    if data["test"]:
        say(
            f"On {data['num_test_rows']:,} test rows that no stage had seen: "
            f"{name} {estimate(data['test'].get(name))}"
        )
        costs = [key for key in data["test"] if key.startswith("cost=")]
        others = [
            key for key in (*costs, *OTHERS[data["task"]]) if key != name and key in data["test"]
        ]
        say("  " + "; ".join(f"{key} {estimate(data['test'][key])}" for key in others))
        say(f"  {data['vault']['sentence']}")
    else:
        say(data["vault"]["sentence"])
    measured = data.get("measured") or {}
    if measured:
        say(
            f"  Predicting one row takes {measured['predict_one_p50_microseconds'] / 1000:.2f} ms "
            f"(99 % within {measured['predict_one_p99_microseconds'] / 1000:.2f} ms); "
            f"the model is {size(measured['size_bytes'])}."
        )
    kept = limits_sentences(data)
    if kept:
        say(f"  Limits: {' '.join(kept)}")
    say()
    say(f"run      {data['run']}")
    say(f"release  {data['release'][:24]}")
    if report:
        say(f"report   {report}")
