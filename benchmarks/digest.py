"""Speed of the table digest on one core, beside the row hashes of polars and pandas.

    python benchmarks/digest.py --rows 1000000 --threads 1

The table has 20 columns: numbers, low- and high-cardinality strings, dates, times, booleans, nulls.
Rivals: ``polars.DataFrame.hash_rows`` (64 bits, differs between versions, depends on column order)
and ``pandas.util.hash_pandas_object`` (64 bits). Rounds alternate; medians are shown of wall time
and of CPU time, which is the speed of one core also where other programs are running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "digest.json"


def mixed_table(rows: int, seed: int = 0):
    """20 columns of the kinds that business tables have."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    words = pl.Series(["card", "cash", "transfer", "direct debit", "voucher", "other way to pay"])
    cities = pl.Series([f"City of {chr(65 + k % 26)}{k:03d}" for k in range(300)])
    big = rng.integers(0, 10**9, rows)
    days = pl.Series(rng.integers(10_000, 20_000, rows), dtype=pl.Int32).cast(pl.Date)
    times = pl.Series(rng.integers(10**15, 17 * 10**14, rows), dtype=pl.Int64)
    holes = pl.Series(rng.random(rows) < 0.1)
    columns = {
        "order_id": pl.Series(np.arange(rows)),
        "customer": pl.select(pl.lit("cust-") + pl.lit(pl.Series(big)).cast(pl.String)).to_series(),
        "session": pl.Series(rng.integers(0, 2**62, rows)).cast(pl.String),
        "payment": words.gather(rng.integers(0, len(words), rows)),
        "city": cities.gather(rng.integers(0, len(cities), rows)),
        "country": pl.Series(["DE", "FR", "NL", "PL"]).gather(rng.integers(0, 4, rows)),
        "ordered": times.cast(pl.Datetime("us")),
        "delivered": (times + 86_400_000_000).cast(pl.Datetime("us")),
        "birthday": days,
        "is_member": pl.Series(rng.random(rows) < 0.3),
    }
    for k in range(5):
        columns[f"amount_{k}"] = pl.Series(np.round(rng.lognormal(3, 1, rows), 2))
    for k in range(3):
        columns[f"count_{k}"] = pl.Series(rng.poisson(3 * k + 1, rows))
    columns["rating"] = pl.Series(rng.normal(0, 1, rows))
    columns["score"] = pl.Series(rng.integers(0, 1000, rows))
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.when(pl.lit(holes)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("amount_4", "count_2", "city", "delivered")
    )


def facts(threads: int) -> dict[str, object]:
    """What a reader needs to judge the numbers; nothing that names the machine."""
    import numpy
    import polars

    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "polars": polars.__version__,
    }


def alternate(
    jobs: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each job in each round; the order turns by one every round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    names = list(jobs)
    for job in jobs.values():
        job()
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start, start_cpu = time.perf_counter(), time.process_time()
            jobs[name]()
            wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            seconds[name].append((wall, cpu))
    return seconds


def extra_memory(rows: int, threads: int) -> float:
    """Peak memory of row and table digest beyond the table, as a share of it (fresh process)."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import resource\n"
        "from digest import mixed_table\n"
        "from loopline.data.fingerprint import row_digests, table_digest\n"
        "def now():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "small = mixed_table(1000); table_digest(small, row_digests(small))\n"
        f"frame = mixed_table({rows}); frame.rechunk(); start = now()\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        f"table_digest(frame, row_digests(frame, threads={threads}))\n"
        "status = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print((int(status) * 1024 - start) / frame.estimated_size())\n"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(options.threads)
    import pandas as pd

    from loopline.data.fingerprint import row_digests, table_digest

    frame = mixed_table(options.rows)
    size = frame.estimated_size()
    pandas_frame = frame.to_pandas()
    digests = row_digests(frame)
    jobs: dict[str, Callable[[], object]] = {
        "row_digests (128 bit)": lambda: row_digests(frame, threads=options.threads),
        "table_digest of row digests": lambda: table_digest(frame, digests),
        "polars hash_rows (64 bit)": frame.hash_rows,
        "pandas hash_pandas_object (64 bit)": lambda: pd.util.hash_pandas_object(
            pandas_frame, index=False
        ),
    }
    seconds = alternate(jobs, options.rounds)
    wall, cpu = (
        {name: statistics.median(pair[k] for pair in pairs) for name, pairs in seconds.items()}
        for k in (0, 1)
    )
    print(f"{options.rows:,} rows x {frame.width} columns, {size / 1e6:,.0f} MB in memory")
    for name in jobs:
        print(
            f"  {name:36} wall {wall[name]:7.3f} s, CPU {cpu[name]:7.3f} s, "
            f"{size / 1e6 / cpu[name]:7,.0f} MB/s a core"
        )
    extra = extra_memory(options.rows, options.threads)
    print(f"  extra memory at the peak: {extra:.2f} x table")
    result = {
        **facts(options.threads),
        "pandas": pd.__version__,
        "rows": options.rows,
        "columns": frame.width,
        "megabytes": round(size / 1e6, 1),
        "rounds": options.rounds,
        "median_wall_seconds": {name: round(value, 4) for name, value in wall.items()},
        "median_cpu_seconds": {name: round(value, 4) for name, value in cpu.items()},
        "megabytes_per_cpu_second": {
            name: round(size / 1e6 / value) for name, value in cpu.items()
        },
        "extra_memory_share": round(extra, 3),
        "peak_process_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
