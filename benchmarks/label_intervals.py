"""How often do the intervals of several labels a row hold the truth?

Rows with eight labels, from 50 % down to 5 % frequent, that depend on each other through a hidden
number of the row (and of its unit, where rows come in units), and probabilities that know about
half of it. The truth is the metric on 400,000 rows.

    python benchmarks/label_intervals.py [trials] [results.json]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtri

from loopline.evaluate.intervals import estimate_rows
from loopline.evaluate.metrics import standard_metrics
from loopline.evaluate.rows import Rows, Units

FREQUENT = np.array([0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.05])
CASES = ((200, 1), (1_000, 1), (400, 4))
"""Rows of a set, and rows of a unit."""
TRUTH_ROWS = 400_000


def drawn(rng, num_rows, of_unit):
    """Labels, probabilities and units of some rows."""
    units = np.repeat(np.arange(num_rows // of_unit), of_unit)
    shared = rng.normal(size=(num_rows // of_unit, 1))[units] * (of_unit > 1)
    hidden = (shared + rng.normal(size=(num_rows, 1))) / np.sqrt(1 + (of_unit > 1))
    known = ndtri(FREQUENT) * 1.6 + 0.8 * hidden + rng.normal(size=(num_rows, FREQUENT.size))
    labels = (known + 0.9 * rng.normal(size=known.shape) > 0).astype(np.int8)
    return labels, expit(1.7 * known + 0.2), units


def covered(rng, num_rows, of_unit, trials):
    """The share of sets whose interval holds the truth, in %, by metric."""
    metrics = standard_metrics("multilabel")
    labels, given, _ = drawn(rng, TRUTH_ROWS, of_unit)
    whole = Rows.build(labels, given, values="multilabel")
    truth = {each.name: each.score(whole).value for each in metrics}
    hits = dict.fromkeys(truth, 0)
    for _ in range(trials):
        labels, given, codes = drawn(rng, num_rows, of_unit)
        rows = Rows.build(labels, given, values="multilabel")
        for each in metrics:
            found = estimate_rows(each, rows, Units.build(codes, num_rows))
            hits[each.name] += found.low <= truth[each.name] <= found.high
    return {name: round(100 * count / trials, 1) for name, count in hits.items()}


def main():
    """Print the table, and write it."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    rng = np.random.default_rng(1)
    began, table = time.monotonic(), []
    for num_rows, of_unit in CASES:
        found = covered(rng, num_rows, of_unit, trials)
        table.append({"rows": num_rows, "rows_of_a_unit": of_unit, "covered": found})
        print(num_rows, of_unit, found, flush=True)
    if len(sys.argv) > 2:
        told = {"trials": trials, "seconds": round(time.monotonic() - began), "cases": table}
        Path(sys.argv[2]).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
