"""The closed loop, measured: streams against three other policies, and a campaign of retrainings.

    python benchmarks/loop.py                 # everything: about half an hour on two quiet cores
    python benchmarks/loop.py --streams       # the streams alone: about three minutes
    python benchmarks/loop.py --campaign 5    # five seeds of 41 scenarios (--first-seed: others)

Writes benchmarks/results/loop.json and prints the tables of docs/loop.md. The streams need
LOOPLINE_DATA for elec2 and bike_sharing; the simulated ones need nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from loop_campaign import campaign
from loop_streams import Loop, Stream, Told, always, hindsight, never, streams

from loopline.line.loop_spec import LoopSpec

RESULTS = Path(__file__).parent / "results" / "loop.json"
WINDOW = 2_000
POLICIES = {
    "never": never,
    "schedule, all rows": always,
    "schedule, newest 2,000": lambda stream: always(stream, WINDOW),
    "loop, all rows": lambda stream: Loop(stream, LoopSpec(new_labels=300)).run(),
    "loop, newest 2,000": lambda stream: Loop(
        stream, LoopSpec(new_labels=300, window=f"{WINDOW} rows")
    ).run(),
    "with hindsight": hindsight,
}


def measure_streams(seeds: int) -> list[dict[str, Any]]:
    """Every policy on every stream."""
    found = []
    for stream in streams(seeds):
        for name, policy in POLICIES.items():
            began = time.process_time()
            found.append({"stream": stream.name, "policy": name, **_facts(stream, policy(stream))})
            found[-1]["cpu_seconds"] = round(time.process_time() - began, 1)
        print(stream.name, flush=True)
    return found


def _facts(stream: Stream, told: Told) -> dict[str, Any]:
    loss = float(np.mean(told.losses))
    right = float(np.mean(told.accuracy))
    return {
        "windows": len(told.losses),
        "loss": round(float(np.sqrt(loss)) if stream.regression else loss, 4),
        "accuracy": None if stream.regression else round(right, 4),
        "mae": round(-right, 2) if stream.regression else None,
        "attempts": told.attempts,
        "promotions": len(told.promotions),
        "rollbacks": len(told.rollbacks),
        "accuracy_by_window": [round(value, 3) for value in told.accuracy],
    }


def stream_table(found: list[dict[str, Any]]) -> str:
    """Accuracy (or mean error) of each policy, streams of one kind averaged over seeds."""
    names = list(dict.fromkeys(entry["stream"] for entry in found))
    lines = [f"| stream | {' | '.join(POLICIES)} | promotions of the loop |", "|---" * 8 + "|"]
    for name in names:
        cells = []
        for policy in POLICIES:
            mine = [e for e in found if (e["stream"], e["policy"]) == (name, policy)]
            key = "mae" if mine[0]["accuracy"] is None else "accuracy"
            value = np.mean([e[key] for e in mine])
            cells.append(f"{value:.1f} error" if key == "mae" else f"{value:.1%}")
        made = [
            np.mean(
                [e["promotions"] for e in found if (e["stream"], e["policy"]) == (name, policy)]
            )
            for policy in ("loop, all rows", "loop, newest 2,000")
        ]
        told = f"{made[0]:.0f} and {made[1]:.0f} of {mine[0]['windows']}"
        lines.append(f"| {name} | {' | '.join(cells)} | {told} |")
    return "\n".join(lines)


def campaign_table(found: list[dict[str, Any]]) -> str:
    """Scenarios by kind: how many, and in how many something was promoted or did harm."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in found:
        kinds[entry["group"], entry["kind"]].append(entry)
    lines = [
        "| | what came | scenarios | promoted | did harm | held at the door |",
        "|---" * 6 + "|",
    ]
    for (group, kind), entries in kinds.items():
        counts = [sum(bool(e[key]) for e in entries) for key in ("promoted", "harmful", "held")]
        lines.append(f"| {group} | {kind} | {len(entries)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--campaign", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=0, help="of the campaign")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    both = not given.streams and not given.campaign
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    results["machine"] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if given.streams or both:
        results["streams"] = measure_streams(given.seeds)
        print(stream_table(results["streams"]))
    if given.campaign or both:
        seeds = range(given.first_seed, given.first_seed + (given.campaign or 5))
        found = [e for e in results.get("campaign", []) if e["seed"] not in seeds]
        for entry in campaign(seeds, lambda text: print(text, file=sys.stderr)):
            found.append(entry)
            keep(results | {"campaign": found})
        results["campaign"] = found
        print(campaign_table([entry for entry in found if entry["seed"] in seeds]))
    keep(results)


def keep(results: dict[str, Any]) -> None:
    """Write what is known so far, whole or not at all."""
    draft = RESULTS.with_suffix(".new")
    draft.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    draft.replace(RESULTS)


if __name__ == "__main__":
    main()
