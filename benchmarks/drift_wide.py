"""A scan of a wide and long table from Parquet: time and memory (evidently#1526: 6 hours).

The files are made first, of Float32, each with numbers of its own; the scan runs in a process of
its own, and only it is timed: learning the reference of 10,000 rows, reading, judging.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

FILE_ROWS = 100_000
REFERENCE_ROWS = 10_000


def wide(rows: int, columns: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = [f"x{k}" for k in range(columns)]
    place = Path(tempfile.mkdtemp())
    try:
        reference = rng.normal(size=(REFERENCE_ROWS, columns)).astype(np.float32)
        pl.DataFrame(reference, schema=names).write_parquet(place / "reference.parquet")
        base = rng.normal(size=(FILE_ROWS, columns)).astype(np.float32)
        size = 0
        for number in range(0, rows, FILE_ROWS):
            block = np.roll(base, number // FILE_ROWS * 37, axis=1)[: rows - number]
            block = block + rng.normal(0, 1e-4, size=columns).astype(np.float32)
            file = place / f"part-{number:08d}.parquet"
            table = pl.DataFrame(block, schema=names).with_columns(pl.col("x7") + 0.1)
            table.write_parquet(file, compression="uncompressed", row_group_size=FILE_ROWS)
            size += file.stat().st_size
        command = [sys.executable, __file__, str(place)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return {"rows": rows, "columns": columns, "bytes": size, **found}
    finally:
        shutil.rmtree(place)


def scan(place: Path) -> dict[str, Any]:
    from loopline.monitor.tables import compare_files

    reference = pl.read_parquet(place / "reference.parquet")
    begun, cpu = time.perf_counter(), time.process_time()
    found = compare_files(reference, sorted(place.glob("part-*.parquet")))
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "moved": [alarm.subject for alarm in found.alarms],
        "note": "x7 was moved by 0.1 standard deviations; nothing else",
    }


if __name__ == "__main__":
    print(json.dumps(scan(Path(sys.argv[1]))))
