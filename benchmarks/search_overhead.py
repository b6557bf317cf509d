"""What does a search cost beside its trials, when one takes a second?

    python benchmarks/search_overhead.py [--trials 200] [--into results/search.json]

The trials sleep a second in place of fitting; the search around them is the real one, with TPE and
the ledger. Read the wall time on a quiet machine only, and the share of the processor anywhere.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from search_trials import CASES, hunt_of, put

from loopline.line import search_pool
from loopline.line.search_arms import TRIAL
from loopline.search.record import Record


def overhead(count: int) -> dict[str, Any]:
    """Wall time beside the trials' own, from the second trial's end to the last one's."""
    seconds: list[float] = []
    used: list[float] = []

    def sleeping(
        context: Any, prepared: Any, job: Any, deadline: float | None, interrupt: Any
    ) -> Record:
        began = time.monotonic()
        time.sleep(1.0)
        seconds.append(time.monotonic() - began)
        used.append(time.process_time())
        trial, value = job.trial, float(np.sin(job.trial.number))
        kept = (trial.number, trial.arm, trial.params, trial.origin)
        if trial.number:
            return Record(*kept, "pruned", value, (value,), seconds=seconds[-1])
        return real(context, prepared, job, deadline, interrupt)

    real, search_pool.run_trial = search_pool.run_trial, sleeping
    with tempfile.TemporaryDirectory() as store:
        hunt = hunt_of(CASES["titanic lightgbm"], "bayesian", 0, store, trials=count)
        hunt.restore()
        hunt.run()
        events = hunt.context.ledger.events(kind=TRIAL)
    stamps = [np.datetime64(event.time.removesuffix("+00:00")) for event in events]
    wall = float((stamps[-1] - stamps[1]) / np.timedelta64(1, "s"))
    own = sum(seconds[2:])
    return {
        "part": "overhead", "trials": count, "wall": wall, "own": own, "overhead": wall / own - 1,
        "processor_share": (used[-1] - used[1]) / own,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    found = overhead(given.trials)
    print(json.dumps(found, indent=1))
    if given.into:
        put(given.into, "overhead", found)


if __name__ == "__main__":
    main()
