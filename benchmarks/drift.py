"""Does the watch keep its promise on false pages, and how soon does it find what has changed?

- **stable**: simulated years without any change, with a weekly season and days that differ and
  hang together. Every page is a false one. Windows of a day, budget one page a month.
- **delay**: a reference of 5,000 independent rows, 4,000 stable rows, then one change; windows of
  50, 200 and 1,000 rows. Counted are false alarms before the change, rows until the first alarm
  after it, and streams in which it was not found. **labels**: the same for a rise of the error,
  label by label. **peers**: Evidently, NannyML, Frouros and River with their defaults on the same
  streams (`peers/drift_peers.py`, run with `--peers PYTHON`, an environment that has them).
- **wide**: 3 million rows of 1,000 columns, read in blocks from Parquet, against a reference.
- **real**: elec2 and the seven series of the NAB set.

    python benchmarks/drift.py stable delay labels peers wide real tables [--years 100]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from drift_streams import (
    CHANGES,
    IMPORTANCE,
    REFERENCE,
    STABLE,
    Stream,
    independent,
    seasonal,
)

from loopline.monitor.reference import Reference, as_seconds
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.watcher import Watcher
from loopline.monitor.window import Window

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LOOPLINE_DATA", HERE.parents[1] / "shared/data"))
OUT = HERE / "results" / "drift.json"
SIZES = (50, 200, 1_000)
MOST_ROWS = {50: 8_000, 200: 12_000, 1_000: 40_000}


def frame_of(part: Stream) -> pl.DataFrame:
    return pl.DataFrame(part.columns()).with_columns(pl.col(pl.Float64).fill_nan(None))


def reference_of(part: Stream) -> Reference:
    return Reference(
        frame_of(part), part.p, part.y, part.time, classes=("no", "yes"), importances=IMPORTANCE
    )


def window_of(part: Stream, name: str, labels: bool = True) -> Window:
    ids = tuple(f"{name}-{k}" for k in range(len(part.p)))
    return Window(frame_of(part), part.p, ids, part.time, part.y if labels else None)


def stable(
    years: int, reference_days: int, rows_a_day: int, kept: dict[str, Any], first: int = 0
) -> dict[str, Any]:
    """Goes on from the years that `kept` holds."""
    pages, notes = Counter(kept.get("pages", {})), Counter(kept.get("notes", {}))
    by_year = list(kept.get("by_year", []))
    spent, windows = 0.0, 0
    for seed in range(first + len(by_year), first + len(by_year) + years):
        stream = seasonal(seed, reference_days + 365, rows_a_day)
        start = reference_days * rows_a_day
        watcher = Watcher.learn(reference_of(stream.part(0, start)), MonitorSettings())
        count = 0
        for day in range(365):
            at = start + day * rows_a_day
            window = window_of(stream.part(at, at + rows_a_day), str(day))
            begun = time.perf_counter()
            checked = watcher.check(window)
            spent += time.perf_counter() - begun
            windows += 1
            for alarm in checked.alarms:
                if alarm.state == "new":
                    (pages if alarm.page else notes)[f"{alarm.kind}: {alarm.what}"] += 1
                    count += alarm.page
        by_year.append(count)
        print(f"year {seed}: {count} pages, mean {np.mean(by_year) / 12:.3f} a month", flush=True)
    years = len(by_year)
    return {
        "years": years,
        "reference_days": reference_days,
        "rows_a_day": rows_a_day,
        "budget_pages_a_month": 1.0,
        "pages_a_month": sum(by_year) / years / 12,
        "worst_year_pages_a_month": max(by_year) / 12,
        "years_above_budget": int((np.array(by_year) > 12).sum()),
        "pages": dict(pages.most_common()),
        "notes_a_month": sum(notes.values()) / years / 12,
        "notes": dict(notes.most_common()),
        "milliseconds_a_window": 1000 * spent / max(windows, 1),
        "by_year": by_year,
    }


def delay(size: int, change: str, repeats: int) -> dict[str, Any]:
    """Ours: any new alarm, page or note, and pages alone."""
    pages, alarms, false = [], [], 0
    for seed in range(repeats):
        stream = independent(seed, change, MOST_ROWS[size])
        watcher = Watcher.learn(
            reference_of(stream.part(0, REFERENCE)), MonitorSettings(window=size)
        )
        found: dict[bool, int | None] = {True: None, False: None}
        for at in range(REFERENCE, len(stream.p) - size + 1, size):
            checked = watcher.check(window_of(stream.part(at, at + size), str(at)))
            new = [alarm for alarm in checked.alarms if alarm.state == "new"]
            if at < REFERENCE + STABLE:
                false += any(alarm.page for alarm in new)
                continue
            rows = at + size - REFERENCE - STABLE
            if new and found[False] is None:
                found[False] = rows
            if any(alarm.page for alarm in new):
                found[True] = rows
                break
        pages.append(found[True])
        alarms.append(found[False])
    return {
        "system": "Loopline",
        "size": size,
        "change": change,
        **summed(pages, repeats),
        "median_rows_any": summed(alarms, repeats)["median_rows"],
        "false_windows": false / (repeats * (STABLE // size)),
        "false_pages_a_month": false / (repeats * STABLE / 1_000) * 30.4,
    }


def label_delay(repeats: int) -> dict[str, Any]:
    """Rows until a rise of the error from 10 to 20 % is told, label by label."""
    found: list[int | None] = []
    for seed in range(repeats):
        stream = independent(seed, "error 10 -> 20 %", 4_000)
        watcher = Watcher.learn(
            reference_of(stream.part(0, REFERENCE)), MonitorSettings(window=200)
        )
        first = None
        for at in range(REFERENCE, len(stream.p) - 199, 200):
            part = stream.part(at, at + 200)
            watcher.check(window_of(part, str(at), labels=False))
            for k in range(0, 200, 5):
                given = {f"{at}-{j}": ("no", "yes")[part.y[j]] for j in range(k, k + 5)}
                checked = watcher.observe(given)
                late = at + k + 5 - REFERENCE - STABLE
                if (
                    late > 0
                    and first is None
                    and any(a.kind == "performance" for a in checked.alarms)
                ):
                    first = late
            if first is not None:
                break
        found.append(first)
    return {"repeats": repeats, **summed(found, repeats)}


def summed(delays: list[int | None], repeats: int) -> dict[str, Any]:
    known = [rows for rows in delays if rows is not None]
    full = sorted([*known, *[np.inf] * (repeats - len(known))])
    middle = full[(len(full) - 1) // 2]
    return {
        "median_rows": None if np.isinf(middle) else int(middle),
        "missed": (repeats - len(known)) / repeats,
    }


def peers(python: str, repeats: int) -> list[dict[str, Any]]:
    """The other systems on the same streams, in their own environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "peers.json"
        command = [python, str(HERE / "peers" / "drift_peers.py"), str(out), str(repeats)]
        environment = {**os.environ, "PYTHONPATH": str(HERE), "NML_DISABLE_USAGE_LOGGING": "1"}
        subprocess.run(command, check=True, env=environment)
        return list(json.loads(out.read_text()))


def elec2() -> dict[str, Any]:
    """The Australian electricity market; the model is fitted on the first 6 weeks."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = pl.read_csv(DATA / "elec2_drift" / "elec.csv")
    names = ["nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
    x, y = table.select(["period", *names]).to_numpy(), table["class"].to_numpy()
    begin = datetime.fromisoformat("1996-05-07T00:00:00+00:00").timestamp()
    stamp = begin + np.arange(len(y)) * 1800.0
    fit, known = 48 * 42, 48 * 42 + 48 * 84
    model = HistGradientBoostingClassifier(random_state=0).fit(x[:fit], y[:fit])
    p = model.predict_proba(x)[:, 1]
    frame = table.select(names)
    watcher = Watcher.learn(
        Reference(frame[fit:known], p[fit:known], y[fit:known], stamp[fit:known], classes=(0, 1)),
        MonitorSettings(window="1d"),
    )
    events, pages = [], 0
    for at in range(known, len(y), 48):
        rows = slice(at, min(at + 48, len(y)))
        window = Window(
            frame[rows], p[rows], tuple(str(k) for k in range(rows.start, rows.stop)),
            stamp[rows], y[rows],
        )  # fmt: skip
        for alarm in watcher.check(window).alarms:
            if alarm.state == "new":
                pages += alarm.page
                events.append(
                    {
                        "row": at,
                        "page": alarm.page,
                        "cause": list(alarm.cause),
                        "what": alarm.what,
                        "since": alarm.since,
                        "sentence": alarm.sentence,
                    }
                )
    error = (p >= 0.5) != y
    return {
        "windows": (len(y) - known) // 48,
        "months": (len(y) - known) / 48 / 30.4,
        "error_reference": float(error[fit:known].mean()),
        "error_after": float(error[known:].mean()),
        "pages": pages,
        "known_change_row": 17_424,
        "events": events,
    }


def nab() -> list[dict[str, Any]]:
    """Series with labelled faults: the first 15 % are the reference; windows of a day."""
    truth = json.loads((DATA / "nab_known_cause" / "combined_windows.json").read_text())
    rows = []
    for path in sorted((DATA / "nab_known_cause").glob("*.csv")):
        table = pl.read_csv(path, try_parse_dates=True)
        stamp, value = as_seconds(table["timestamp"]), table["value"].cast(pl.Float64)
        faults = [
            tuple(datetime.fromisoformat(edge + "+00:00").timestamp() for edge in pair)
            for key, pairs in truth.items()
            if key.endswith(path.name)
            for pair in pairs
        ]
        cut = int(0.15 * len(stamp))
        order = np.argsort(stamp[:cut], kind="stable")
        watcher = Watcher.learn(
            Reference(pl.DataFrame({"value": value[:cut]})[order], time=stamp[:cut][order]),
            MonitorSettings(window="1d"),
        )
        day = np.floor(stamp / 86_400)
        hits: set[int] = set()
        false, windows = 0, 0
        told = []
        for number in np.unique(day[cut:]):
            chosen = np.flatnonzero((day == number) & (np.arange(len(day)) >= cut))
            window = Window(pl.DataFrame({"value": value[chosen]}), time=stamp[chosen])
            windows += 1
            for alarm in watcher.check(window).alarms:
                if alarm.state != "new" or not alarm.page:
                    continue
                a, b = stamp[chosen].min(), stamp[chosen].max()
                inside = [k for k, (lo, hi) in enumerate(faults) if a <= hi and b >= lo]
                hits |= set(inside)
                false += not inside
                told.append([alarm.what, alarm.since, bool(inside)])
        rows.append(
            {
                "series": path.stem, "rows": len(stamp), "days_watched": windows,
                "faults": len([f for f in faults if f[1] >= stamp[cut]]),
                "found": len(hits), "false_pages": false, "pages": told,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def tables(found: dict[str, Any]) -> str:
    """The delays as Markdown: rows of the docs."""
    rows = [*found.get("delay", []), *found.get("peers", [])]
    lines = []
    for size in SIZES:
        lines += ["", f"Windows of {size:,} rows:", "", "| system | false alarms | "]
        lines[-1] += " | ".join(CHANGES) + " |"
        lines.append("|---|---|" + "---|" * len(CHANGES))
        for system in dict.fromkeys(row["system"] for row in rows):
            mine = {
                r["change"]: r for r in rows if r["system"] == system and r["size"] in (size, 1)
            }
            if not mine or (next(iter(mine.values()))["size"] == 1 and size != SIZES[0]):
                continue
            false = [r["false_windows"] for r in mine.values() if r["false_windows"] is not None]
            share = f"{100 * np.mean(false):.1f} %"
            if "false_alarms_per_10k_rows" in next(iter(mine.values())):
                rate = np.mean([r["false_alarms_per_10k_rows"] for r in mine.values()])
                share = f"{rate:.1f} in 10,000 rows"
            cells = [cell_of(mine.get(change)) for change in CHANGES]
            lines.append(f"| {system} | {share} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell_of(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no check"
    if row["median_rows"] is None:
        return f"missed in {100 * row['missed']:.0f} %"
    missed = f" (missed {100 * row['missed']:.0f} %)" if row["missed"] else ""
    return f"{row['median_rows']:,}{missed}"


def read(out: Path) -> dict[str, Any]:
    return dict(json.loads(out.read_text())) if out.exists() else {}


def write(out: Path, part: str, result: Any) -> None:
    out.write_text(json.dumps({**read(out), part: result}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "parts", nargs="+", choices=["stable", "delay", "labels", "peers", "wide", "real", "tables"]
    )
    parser.add_argument("--years", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first year")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--peers", default=None)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--columns", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    for part in given.parts:
        if part == "stable":
            result: Any = read(given.out).get("stable", {})
            while len(result.get("by_year", [])) < given.years:
                result = stable(1, 90, 200, result, given.first)
                write(given.out, "stable", result)
        elif part == "delay":
            result = []
            for size in SIZES:
                for change in CHANGES:
                    result.append(delay(size, change, given.repeats))
                    print(result[-1], flush=True)
        elif part == "labels":
            result = label_delay(given.repeats * 2)
        elif part == "peers":
            result = peers(given.peers or sys.executable, given.repeats)
        elif part == "tables":
            print(tables(read(given.out)))
            continue
        elif part == "wide":
            from drift_wide import wide

            result = wide(given.rows, given.columns)
        else:
            result = {"elec2": elec2(), "nab": nab()}
        write(given.out, part, result)
        print(json.dumps(result, indent=1)[:3000])


if __name__ == "__main__":
    main()
