"""Time from a CSV file to a snapshot, beside polars' own read and write of the same file.

    python benchmarks/ingest.py --rows 2000000

`ingest` reads the file (dialect, types and problems found out), infers the schema, digests every
row and writes the Parquet snapshot into a store. The rival is ``polars.read_csv`` followed by
``write_parquet`` with the same compression and row groups. Rounds alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from digest import facts, mixed_table

RESULT = Path(__file__).parent / "results" / "ingest.json"
GROUP_ROWS = 1 << 17


def ingest(csv: Path, folder: Path) -> dict[str, float]:
    """Seconds of each part of an ingest of one file into a new store."""
    from loopline.data.inference import infer_schema
    from loopline.data.snapshot import write_snapshot
    from loopline.data.sources import read_table
    from loopline.store.artifacts import Store

    start = time.perf_counter()
    table = read_table(csv)
    read = time.perf_counter()
    infer_schema(table.frame, target="is_member")
    inferred = time.perf_counter()
    write_snapshot(Store.open(folder), table.frame)
    done = time.perf_counter()
    return {
        "read": read - start,
        "infer": inferred - read,
        "digest_and_write": done - inferred,
        "total": done - start,
    }


def polars_alone(csv: Path, folder: Path) -> dict[str, float]:
    """Seconds of polars' read and write of the same file."""
    import polars as pl

    folder.mkdir()
    start = time.perf_counter()
    frame = pl.read_csv(csv, try_parse_dates=True)
    read = time.perf_counter()
    frame.write_parquet(
        folder / "rows.parquet", compression="zstd", compression_level=1, row_group_size=GROUP_ROWS
    )
    done = time.perf_counter()
    return {"read": read - start, "write": done - read, "total": done - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    times: dict[str, list[dict[str, float]]] = {"ingest": [], "polars": []}
    jobs = {"ingest": ingest, "polars": polars_alone}
    with tempfile.TemporaryDirectory() as name:
        csv = Path(name) / "table.csv"
        mixed_table(options.rows).write_csv(csv)
        size = csv.stat().st_size
        for turn in range(options.rounds + 1):
            for job in ("ingest", "polars") if turn % 2 else ("polars", "ingest"):
                folder = Path(name) / job
                found = jobs[job](csv, folder)
                shutil.rmtree(folder)
                if turn:  # the first round warms caches
                    times[job].append(found)
    medians = {
        job: {
            part: round(statistics.median(found[part] for found in rounds), 3) for part in rounds[0]
        }
        for job, rounds in times.items()
    }
    ratio = medians["ingest"]["total"] / medians["polars"]["total"]
    print(f"{options.rows:,} rows x 20 columns, {size / 1e6:,.0f} MB of CSV")
    for job, parts in medians.items():
        told = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts.items())
        print(f"  {job:8} {told}  ({size / 1e6 / parts['total']:,.0f} MB/s)")
    print(f"  ratio of the totals: {ratio:.2f}")
    result = {
        **facts(os.cpu_count() or 1),
        "rows": options.rows,
        "columns": 20,
        "csv_megabytes": round(size / 1e6, 1),
        "rounds": options.rounds,
        "compression": "zstd 1",
        "median_seconds": medians,
        "ratio": round(ratio, 3),
        "peak_process_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
