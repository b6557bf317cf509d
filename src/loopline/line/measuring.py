"""The process in which a model is measured: ``python -m loopline.line.measuring FOLDER SECONDS``.

It holds one release and nothing of the line, as a serving process does. It prints one JSON object
on its output.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROUNDS = 5
FEWEST_CALLS = 20
"""Calls of a round, however slow the model is."""
BATCH_ROWS = 1_000
ENERGY_PATTERN = "intel-rapl:[0-9]*/energy_uj"


def energy_meters() -> list[Path]:
    """The counters of energy of this machine's processor packages that can be read."""
    found = Path("/sys/class/powercap").glob(ENERGY_PATTERN)
    return [path for path in sorted(found) if path.name == "energy_uj" and _readable(path)]


def _readable(path: Path) -> bool:
    try:
        path.read_text(encoding="ascii")
    except OSError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure the release in a folder for about so many seconds."""
    folder, seconds = Path(arguments[0]), float(arguments[1])
    print(json.dumps(measure(folder, seconds)))
    return 0


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Latencies in seconds, rows a second, bytes, joules for 1,000 rows or None."""
    import polars as pl

    from loopline.release.bundle import load_release

    release = load_release(folder / "release")
    batch = pl.read_parquet(folder / "rows.parquet")
    rows = batch.to_dicts()
    for row in rows[:FEWEST_CALLS]:
        release.predict_one(row)
    before = _joules()
    rounds = [_round(release.predict_one, rows, seconds / (2 * ROUNDS)) for _ in range(ROUNDS)]
    after = _joules()
    calls = sum(len(times) for times in rounds)
    throughput = _throughput(release.predict_frame, batch, seconds / 2)
    return {
        "latency_p50": _median([_quantile(times, 0.5) for times in rounds]),
        "latency_p95": max(_quantile(times, 0.95) for times in rounds),
        "latency_p99": max(_quantile(times, 0.99) for times in rounds),
        "throughput": throughput,
        "memory": _peak_memory(),
        "energy": None if before is None or after is None else (after - before) / calls * 1000,
        "num_calls": calls,
    }


def _round(answer: Callable[[Any], Any], rows: Sequence[Any], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    number = 0
    while number < FEWEST_CALLS or time.perf_counter() < end:
        row = rows[number % len(rows)]
        began = time.perf_counter()
        answer(row)
        times.append(time.perf_counter() - began)
        number += 1
    return times


def _throughput(answer: Callable[[Any], Any], batch: Any, seconds: float) -> float:
    answer(batch)
    done, began = 0, time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        answer(batch)
        done += batch.height
    return float(done / (time.perf_counter() - began))


def _peak_memory() -> int:
    """Bytes resident at the peak, of this process alone.

    Linux carries what `getrusage` tells over from the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _quantile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _joules() -> float | None:
    """What the packages have used so far; None where the machine does not tell."""
    meters = energy_meters()
    if not meters:
        return None
    return sum(int(path.read_text(encoding="ascii")) for path in meters) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
