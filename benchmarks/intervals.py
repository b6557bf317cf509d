"""How often do Loopline's 95 % intervals hold the truth?

Draws test sets of several sizes from populations whose metrics are known (computed on one million
rows), makes the interval of every metric, and counts how often it holds the population's value.
Independent rows, and rows in units of 2 to 10 that share an effect (patients, customers). Then the
same for the paired difference of two models. The last part times each interval on a million rows.

    python benchmarks/intervals.py [trials] [results.json]

With 2,000 trials the simulation error of a coverage is about 0.5 points (one standard error);
the resampled metrics have a fifth of the trials (1 point).
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

from loopline.evaluate import formulas
from loopline.evaluate.intervals import estimate_rows
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units
from loopline.select.compare import compare_rows

SIZES = (100, 400, 1000, 5000)
LABELLED = ("accuracy", "balanced_accuracy", "f1", "precision", "recall", "mcc")
BINARY = ("auc", "pr_auc", "log_loss", "brier", "ece", *LABELLED, "cost=1,5")
MULTICLASS = ("auc", "log_loss", "brier", "ece", *LABELLED)
REGRESSION = ("rmse", "mae", "median_ae", "r2", "mape", "rmsle", "pinball=0.1")
TASKS = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "regression": REGRESSION,
    "heavy tails": REGRESSION,
    "binary, too sure": ("ece",),
    "multiclass, too sure": ("ece",),
}
RESAMPLED = ("precision_at_recall=0.8", "recall_at_precision=0.6")
TRUTH_ROWS = 1_000_000


def expit(value):
    return 1 / (1 + np.exp(-value))


def units_of(rng, num_rows, clustered):
    """Unit of each row: every row its own, or units of 2 to 10 rows."""
    if not clustered:
        return np.arange(num_rows)
    sizes = rng.integers(2, 11, size=num_rows)
    return np.repeat(np.arange(num_rows), sizes)[:num_rows]


def shared(rng, unit, share):
    """Standard normal numbers of which `share` of the variance is common to a unit."""
    own = rng.standard_normal(len(unit))
    common = rng.standard_normal(int(unit[-1]) + 1)[unit]
    return np.sqrt(share) * common + np.sqrt(1 - share) * own


def draw(task, rng, num_rows, clustered):
    """(y, predictions of model a, predictions of model b, unit)."""
    if task.endswith(", too sure"):
        y, a, b, unit = draw(task.removesuffix(", too sure"), rng, num_rows, clustered)
        return y, too_sure(a), too_sure(b), unit
    unit = units_of(rng, num_rows, clustered)
    share = 0.4 if clustered else 0.0
    signal, noise = shared(rng, unit, share), shared(rng, unit, share)
    other = shared(rng, unit, share)
    if task == "regression":
        y = np.maximum(8 + signal + 0.4 * other + 0.6 * noise, 0.5)
        return y, 8 + signal, 8 + 0.9 * signal + 0.2 * other, unit
    if task == "heavy tails":  # errors in proportion to the value, squares without a mean's calm
        y = np.exp(0.5 * signal + 0.2 * other + 0.3 * noise)
        return y, np.exp(0.5 * signal + 0.045), np.exp(0.45 * signal + 0.1 * other), unit
    if task == "binary":
        y = (1.4 * signal + 0.4 * other + noise > 0.8).astype(np.int64)
        a = expit(2.4 * signal - 1.3)
        return y, a, expit(1.9 * (signal + 0.3 * other) - 1.2), unit
    latent = np.column_stack([signal, other, 0.3 + 0.5 * noise, np.zeros(num_rows)])
    gumbel = np.column_stack([shared(rng, unit, share) for _ in range(4)])
    y = (1.5 * latent + gumbel).argmax(axis=1)
    raw_a, raw_b = np.exp(2.0 * latent), np.exp(2.0 * latent * np.array([1, 0.6, 1, 1]))
    raw_a[:, 2] = raw_b[:, 2] = np.exp(0.5)
    a, b = (raw / raw.sum(axis=1, keepdims=True) for raw in (raw_a, raw_b))
    return y, a, b, unit


def too_sure(probability):
    """Odds to the power 1.6."""
    if probability.ndim == 1:
        odds = (probability / (1 - probability)) ** 1.6
        return odds / (1 + odds)
    raised = probability**1.6
    return raised / raised.sum(axis=1, keepdims=True)


@cache
def large(task, names, clustered, seed):
    """Rows of the population under both models, and each metric's values on them."""
    y, a, b, _ = draw(task, np.random.default_rng(seed), TRUTH_ROWS, clustered)
    entries = [metric(name) for name in names]
    value = [entry(y, a) for entry in entries]
    gap = [e.sign * (v - e(y, b)) for e, v in zip(entries, value, strict=True)]
    return entries[0].rows(y, a), value, gap


def population(task, names, clustered, most_bins, seed):
    """Each metric's true value (the calibration error with a test set's bins) and true gap."""
    rows, value, gap = large(task, names, clustered, seed)
    if "ece" not in names:
        return value, gap
    bins = formulas.calibration_bins(rows, min(formulas.CALIBRATION_BINS, max(1, most_bins)))
    ece = float(bins.share @ np.abs(bins.gap))
    return [ece if name == "ece" else v for name, v in zip(names, value, strict=True)], gap


def simulate(task, names, clustered, num_rows, trials, seed):
    """Coverage of each metric's interval and of the paired difference."""
    entries = [metric(name) for name in names]
    truth, gap = population(task, names, clustered, num_rows // formulas.ROWS_PER_BIN, seed)
    held = np.zeros((len(names), 4))
    for trial in range(trials):
        rng = np.random.default_rng([seed, num_rows, trial])
        y, a, b, unit = draw(task, rng, num_rows, clustered)
        together = Units.build(unit, num_rows)
        for place, entry in enumerate(entries):
            first, second = entry.rows(y, a), entry.rows(y, b)
            found = estimate_rows(entry, first, together, seed=trial)
            if np.isnan(found.low):
                continue
            held[place, 0] += 1
            held[place, 1] += found.low <= truth[place] <= found.high
            if entry.name == "ece" or (entry.name == "median_ae" and trial % 10):
                continue  # no smooth truth to compare with; 400 resamples a pair are slow
            paired = compare_rows(entry, first, second, together, seed=trial)
            held[place, 2] += not np.isnan(paired.low)
            held[place, 3] += paired.low <= gap[place] <= paired.high
    return [
        {
            "task": task,
            "metric": name,
            "clustered": clustered,
            "rows": num_rows,
            "trials": int(line[0]),
            "truth": round(true, 5),
            "coverage_percent": round(100 * line[1] / max(line[0], 1), 1),
            "paired_coverage_percent": round(100 * line[3] / line[2], 1) if line[2] else None,
        }
        for name, line, true in zip(names, held, truth, strict=True)
    ]


def timings():
    """Seconds of one interval on a million rows, independent and in 50,000 units."""
    rng = np.random.default_rng(0)
    y, a, _, _ = draw("binary", rng, 1_000_000, False)
    unit = rng.integers(0, 50_000, size=len(y))
    result = []
    for name in (*BINARY, *RESAMPLED):
        entry = metric(name)
        line = {"metric": name}
        for label, given in (("seconds", None), ("seconds_clustered", unit)):
            start = time.perf_counter()
            rows = entry.rows(y, a)
            estimate_rows(entry, rows, Units.build(given, len(y)))
            line[label] = round(time.perf_counter() - start, 3)
        result.append(line)
    return result


def show(lines):
    for line in lines:
        kind = "units" if line["clustered"] else "rows"
        paired = line["paired_coverage_percent"]
        print(
            f"{line['task']:<12}{line['metric']:<24}{kind:<6}{line['rows']:>6}"
            f"{line['coverage_percent']:>8} %" + ("" if paired is None else f"{paired:>8} %"),
            flush=True,
        )


def main():
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "benchmarks/results/intervals.json")
    lines = []
    for task, names in TASKS.items():
        for clustered in (False, True):
            for num_rows in SIZES:
                part = simulate(task, names, clustered, num_rows, trials, seed=1)
                show(part)
                lines += part
    for clustered in (False, True):
        for num_rows in SIZES[1:3]:
            part = simulate("binary", RESAMPLED, clustered, num_rows, max(trials // 5, 1), seed=2)
            show(part)
            lines += part
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"coverage": lines, "timings": timings()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
