"""Advice on how fast, and on how many rows at once, a line's network should be trained.

Short trials on the first fold's training rows; nothing is kept, no validation or test row is used.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from loopline.errors import SettingsError
from loopline.line.charts import ACCENT, GREY, Figure, axis
from loopline.line.context import LineContext
from loopline.line.race import candidates, fit_context, resolve_params
from loopline.line.source import source_key
from loopline.models.families import family
from loopline.models.neural import NeuralFamily

Question = Literal["lr", "batch"]


def advise(context: LineContext, name: str | None, question: Question) -> dict[str, Any]:
    """Try learning rates, or measure the gradient noise, for one candidate of a line.

    Args:
        context: the line, with no stage run yet.
        name: the candidate; None for the line's only network.
        question: "lr" or "batch".

    Returns:
        Plain data: candidate, question, the curves, the suggestion, and a sentence.

    Raises:
        SettingsError: no such candidate, or one that is no network.
    """
    from loopline.line.audit import audit
    from loopline.line.divide import split
    from loopline.line.prepare import ingest, plan
    from loopline.line.structure import structure

    entry = _network(context, name)
    source = ingest(context, source_key(context, None), None)
    planned = plan(context, source)
    _, prepared = audit(context, split(context, planned, structure(context, planned)))
    train, _ = prepared.fold(0)
    kind = family(entry.family)
    assert isinstance(kind, NeuralFamily)
    params = resolve_params(context, prepared, entry, train.num_rows)
    with context.reporter.step(f"make {entry.name} ready"):
        run = kind.prepared(train, params, fit_context(context, entry, "advice"))

    from loopline.engine.tools.find import find_batch, find_lr

    if question == "lr":
        with context.reporter.step("try learning rates"):
            rates = find_lr(run)
        given = float(run.settings.optimizer.lr)
        text = (
            f"{entry.name}: the loss falls fastest at a learning rate of {rates.suggested:.2g} and "
            f"is lowest at {rates.limit:.2g}; never train above that. The settings say "
            f"{given:.2g}."
        )
        data = rates.to_dict()
    else:
        with context.reporter.step("measure the gradient's noise"):
            batch = find_batch(run)
        text = f"{entry.name}: " + (
            f"the gradient noise scale is {batch.rows:,.0f} rows, so batches up to about "
            f"{batch.suggested:,} rows shorten training and larger ones waste rows."
            if math.isfinite(batch.rows)
            else "no common direction was seen in the gradients, so no batch size can be advised."
        )
        text += f" The settings say {run.settings.batch_size:,}."
        data = batch.to_dict()
    return {"candidate": entry.name, "question": question, "sentence": text, **_plain(data)}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON knows: what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {name: plain(value) for name, value in data.items()}


def _network(context: LineContext, name: str | None) -> Any:
    entries = candidates(context)
    networks = [entry for entry in entries if isinstance(family(entry.family), NeuralFamily)]
    if name is None and len(networks) == 1:
        return networks[0]
    for entry in networks:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in networks) or "none"
    asked = "No candidate was named" if name is None else f"There is no network named {name!r}"
    raise SettingsError(
        [f"{asked}; the line's networks are: {known}. Name one with `--candidate`."]
    )


def advice_chart(found: dict[str, Any]) -> Figure:
    """The curve behind an advice."""
    if found["question"] == "lr":
        lines = [
            _line("loss", found["rates"], found["losses"], GREY),
            _line("smoothed", found["rates"], found["smooth"], ACCENT),
        ]
        layout = {"xaxis": axis("learning rate", type="log"), "yaxis": axis("loss")}
    else:
        steps = list(range(1, len(found["scales"]) + 1))
        lines = [_line("rows", steps, found["scales"], ACCENT)]
        layout = {"xaxis": axis("steps averaged over"), "yaxis": axis("noise scale in rows")}
    return Figure("chart-advice", str(found["sentence"]), lines, layout)


def _line(name: str, x: list[Any], y: list[Any], colour: str) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y,
            "line": {"color": colour}}  # fmt: skip
