"""Time and memory of the whole line from ten thousand to five million rows of 20 columns.

    python benchmarks/scaling.py            # writes benchmarks/results/scaling.json

One LightGBM candidate of 50 rounds and the baseline, 3 folds, from Parquet to a release. The peak
is the resident memory of the whole process (``ru_maxrss``); the baseline, taken off, is that of the
same line on a table of 2,000 rows, which holds the interpreter and everything imported. The table's
size is polars' ``estimated_size``. Goals: time grows as the rows (exponent about 1), and five
million rows take at most 3 times the table's size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from tables import write_table

from line import SETTINGS, run_line

RESULTS = Path(__file__).parent / "results" / "scaling.json"
COLUMNS, STRINGS, ROUNDS, SMALLEST = 20, 4, 50, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6, 5 * 10**6])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    table = []
    for rows in [SMALLEST, *given.rows]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            size = write_table(folder / "table.parquet", rows, COLUMNS, STRINGS)
            (folder / "loopline.yaml").write_text(
                SETTINGS.format(file="table.parquet", rounds=ROUNDS, threads=given.threads)
            )
            child, summary = run_line(folder, folder / "store")
        table.append(
            {
                "rows": rows,
                "table_megabytes": round(size / 1e6, 1),
                "seconds": round(child.seconds, 2),
                "processor_seconds": round(child.cpu_seconds, 2),
                "peak_megabytes": round(child.peak_bytes / 1e6, 1),
                "stage_seconds": {e["stage"]: e["seconds"] for e in summary["stages"]},
            }
        )
        print({key: value for key, value in table[-1].items() if key != "stage_seconds"})
    least, *points = table
    for point in points:
        own = point["peak_megabytes"] - least["peak_megabytes"]
        point["peak_over_table"] = round(own / point["table_megabytes"], 2)
    results = {
        "baseline": least,
        "points": points,
        "exponents": {
            name: _exponent(points, name)
            for name in ("seconds", "processor_seconds")
            if len(points) > 1
        },
        "setting": {
            "columns": COLUMNS,
            "strings": STRINGS,
            "rounds": ROUNDS,
            "leaves": 31,
            "folds": 3,
            "threads": given.threads,
            "cores": os.cpu_count(),
            "load_at_end": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "lightgbm": lightgbm.__version__,
            "numpy": np.__version__,
            "polars": pl.__version__,
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def _exponent(points: list[dict], name: str) -> dict[str, float]:
    """Slope of log time on log rows: over all points, and over the two largest."""
    rows = np.log([point["rows"] for point in points])
    times = np.log([point[name] for point in points])
    return {
        "all points": round(float(np.polyfit(rows, times, 1)[0]), 2),
        "two largest": round(float(np.polyfit(rows[-2:], times[-2:], 1)[0]), 2),
    }


if __name__ == "__main__":
    main()
