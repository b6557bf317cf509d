"""A day's requests against one service: does its memory stay where it is, does any request fail?

    python benchmarks/soak.py                       # 10 million requests, about 20 minutes
    python benchmarks/soak.py --requests 200000     # to see that it works

One `loopline serve` process answers rows of 20 mixed features by 100 trees of LightGBM, with the
input contract and its window on and every answer in the prediction log. Load comes from `wrk` (a C
client; 1,000 different rows in turn over 32 kept connections), or from `serving_load.py` where that
is not installed. Every `--swap-seconds` another release is promoted, which the service swaps in
while it answers. After each slice of load the process is looked at from outside: resident memory,
what of it is its own, memory maps, open files, threads, processor time. At the end the service's
own counters are laid beside the client's, and it must end by SIGTERM with the log written.

The log grows to about 1 GB; it is removed with the temporary folder (`--folder` names its place).
The run ends early, and says so, when `--minutes` have passed or the log has `--disk-gb`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from predict import make_table
from serving import free_port, prepare

import loopline
from loopline.release.environment import environment

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "soak.json"
TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
SCRIPT = """
local requests, number, place = {}, 0, 0
init = function(arguments)
  for line in io.lines("ROWS") do
    number = number + 1
    local head = {["Content-Type"] = "application/json", ["Host"] = wrk.host .. ":" .. wrk.port}
    requests[number] = wrk.format("POST", "/predict", head, line)
  end
end
request = function()
  place = place % number + 1
  return requests[place]
end
"""


def releases(folder: Path) -> tuple[Path, list[str]]:
    """A store with two releases of one line; they take turns as champion."""
    store, _, _ = prepare(folder)
    with loopline.open_project(store) as project:
        first = project.release("bench").id
    second = loopline.fit(
        make_table(4_000, 5),
        "target",
        models={"lightgbm": {"rounds": 100}},
        store=store,
        progress=False,
        settings={"name": "bench", "calibration": "none"},
    ).release.id
    with loopline.open_project(store) as project:
        project.promote(first)
    return store, [first, second]


def start(store: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The service, when it answers."""
    port = free_port()
    command = [sys.executable, "-m", "loopline", "serve", "bench@champion", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--store", str(store), "--set", "swap_seconds=1"],
        stdout=(folder / "out.log").open("w"),
        stderr=(folder / "err.log").open("w"),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return process, port
    raise SystemExit(f"the service did not start: {(folder / 'err.log').read_text()}")


def load(port: int, folder: Path, seconds: int) -> dict[str, Any]:
    """Ask for some seconds; what came of it."""
    if shutil.which("wrk") is None:
        return by_python(port, folder, seconds)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s"]
    done = subprocess.run(
        [*command, str(folder / "rows.lua"), f"http://127.0.0.1:{port}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in ([\d.]+)(s|m)", done.stdout)
    assert found is not None, done.stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    tails = {
        share: milliseconds(re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", done.stdout))
        for share in (50, 99)
    }
    return {
        "requests": int(found[1]),
        "refused": int(refused[1]) if refused else 0,
        "errors": sum(map(int, errors.groups())) if errors else 0,
        "p50_ms": tails[50],
        "p99_ms": tails[99],
    }


def milliseconds(found: re.Match[str] | None) -> float:
    assert found is not None
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def by_python(port: int, folder: Path, seconds: int) -> dict[str, Any]:
    """The same from Python, which takes three times the processor of the service itself."""
    command = [sys.executable, str(HERE / "serving_load.py"), str(port), "/predict"]
    done = subprocess.run(
        [*command, str(folder / "row.json"), str(CONNECTIONS), str(seconds * 1_600)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return {name: found[name] for name in ("requests", "p50_ms", "p99_ms")} | {
        "refused": 0,  # the client stops at the first
        "errors": 0,
    }


def look(pid: int) -> dict[str, float]:
    """What the system knows of the process."""
    place = Path(f"/proc/{pid}")
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    rollup = dict(
        line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:]
    )
    return {
        "resident_mb": round(int(rollup["Rss"].split()[0]) * 1024 / 1e6, 2),
        "own_mb": round(int(rollup["Private_Dirty"].split()[0]) * 1024 / 1e6, 2),
        "maps": len((place / "maps").read_text().splitlines()),
        "files": len(list((place / "fd").iterdir())),
        "threads": int(fields[17]),
        "cpu_seconds": (int(fields[11]) + int(fields[12])) / TICK,
    }


def counters(port: int) -> dict[str, float]:
    """The service's own numbers, summed over their labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            labels = "/predict" in name or "{" not in name or "requests_total" not in name
            if labels:
                key = name.partition("{")[0].removeprefix("loopline_")
                found[key] = found.get(key, 0.0) + float(value)
    return found


def size_gb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole soak; its result."""
    store, names = releases(folder)
    rows = make_table(1_000, 2).drop("target").to_dicts()
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "rows.lua").write_text(SCRIPT.replace("ROWS", str(folder / "rows.jsonl")))
    process, port = start(store, folder)
    slices: list[dict[str, Any]] = []
    total = swaps = 0
    begun = swapped = time.monotonic()
    ended = "all requests were sent"
    try:
        while total < given.requests:
            minutes = (time.monotonic() - begun) / 60
            if minutes > given.minutes:
                ended = f"{given.minutes} minutes have passed"
                break
            if len(slices) % 20 == 19 and size_gb(store) > given.disk_gb:
                ended = f"the log has {given.disk_gb} GB"
                break
            if time.monotonic() - swapped > given.swap_seconds:
                swaps, swapped = swaps + 1, time.monotonic()
                with loopline.open_project(store) as project:
                    project.promote(names[swaps % 2])
            found = load(port, folder, given.slice_seconds)
            total += found["requests"]
            time.sleep(0.3)  # until the connections of this slice are closed
            slices.append({**found, **look(process.pid), "total": total})
            if len(slices) % 10 == 1:
                print(json.dumps(slices[-1]), f"{minutes:.1f} min", flush=True)
                write(given, slices, swaps, "still running", {}, {})
        time.sleep(2)
        told = counters(port)
    finally:
        process.terminate()
        code = process.wait(60)
    told["exit_code"] = code
    log = {"gb": round(size_gb(store / "artifacts"), 3), "rows": logged(store)}
    return write(given, slices, swaps, ended, told, log)


def logged(store: Path) -> int:
    """Rows in the log's files, of all that was written when the service had ended."""
    from loopline.serve.log import log_files

    with loopline.open_project(store) as project:
        return sum(file.num_rows for file in log_files(project.store))


def write(
    given: argparse.Namespace,
    slices: list[dict[str, Any]],
    swaps: int,
    ended: str,
    told: dict[str, float],
    log: dict[str, Any],
) -> dict[str, Any]:
    """Write what is known so far."""
    total = slices[-1]["total"]
    half = [one for one in slices if one["total"] >= total / 2]
    x = np.array([one["total"] for one in half]) / 1e6
    steps: dict[str, float] = {}
    for name in ("resident_mb", "own_mb", "maps", "files"):
        y = np.array([one[name] for one in half], dtype=float)
        steps[name] = round(float(np.polyfit(x, y, 1)[0]), 3) if len(half) > 2 else 0.0
    spent = slices[-1]["cpu_seconds"] - slices[0]["cpu_seconds"]
    kept = ("requests_total", "rows_total", "log_rows_total", "log_dropped_rows_total",
            "log_failures_total", "failures_total", "swaps_total", "exit_code")  # fmt: skip
    result = {
        "requests": total,
        "refused": sum(one["refused"] for one in slices),
        "errors": sum(one["errors"] for one in slices),
        "swaps": swaps,
        "ended": ended,
        "cpu_us_a_request": round(spent / max(1, total - slices[0]["requests"]) * 1e6, 1),
        "resident_mb": {
            "first": slices[0]["resident_mb"],
            "half": half[0]["resident_mb"],
            "last": slices[-1]["resident_mb"],
            "highest": max(one["resident_mb"] for one in slices),
        },
        "growth_a_million_requests_in_the_second_half": steps,
        "service": {name: told.get(name, 0.0) for name in kept} if told else {},
        "log": log,
        "setting": {
            "client": "wrk" if shutil.which("wrk") else "serving_load.py",
            "connections": CONNECTIONS,
            "cores": os.cpu_count(),
            "load": [round(one, 1) for one in os.getloadavg()],
            "machine": platform.machine(),
            "versions": environment(),
        },
        "slices": slices[:: max(1, len(slices) // 100)],
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--requests", type=int, default=10_000_000)
    reader.add_argument("--minutes", type=float, default=40.0)
    reader.add_argument("--slice-seconds", type=int, default=5)
    reader.add_argument("--swap-seconds", type=float, default=20.0)
    reader.add_argument("--disk-gb", type=float, default=4.0)
    reader.add_argument("--folder", type=Path, help="where the store and the log lie meanwhile")
    reader.add_argument("--out", type=Path, default=RESULTS)
    given = reader.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the service ends with this script
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="soak-") as place:
        found = run(given, Path(place))
    print(json.dumps({k: v for k, v in found.items() if k not in ("slices", "setting")}, indent=1))


if __name__ == "__main__":
    main()
