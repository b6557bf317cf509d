"""A scan of a wide and long table from Parquet: time and memory (evidently#1526: 6 hours).

The files are made first, of Float32, each with numbers of its own; only reading and judging is timed.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.monitor.tables import compare_files

FILE_ROWS = 100_000


def wide(rows: int, columns: int, folder: Path | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = [f"x{k}" for k in range(columns)]
    reference = pl.DataFrame(rng.normal(size=(20_000, columns)).astype(np.float32), schema=names)
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        files = []
        base = rng.normal(size=(FILE_ROWS, columns)).astype(np.float32)
        for number in range(0, rows, FILE_ROWS):
            block = np.roll(base, number // FILE_ROWS * 37, axis=1)[: rows - number]
            block = block + rng.normal(0, 1e-4, size=columns).astype(np.float32)
            table = pl.DataFrame(block, schema=names)
            table = table.with_columns(pl.col("x7") + 0.05)
            files.append(place / f"part-{number:08d}.parquet")
            table.write_parquet(files[-1], compression="uncompressed", row_group_size=FILE_ROWS)
            print(files[-1].name, flush=True)
        del base, block, table
        size = sum(file.stat().st_size for file in files)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, cpu = time.perf_counter(), time.process_time()
        found = compare_files(reference, files)
        return {
            "rows": rows,
            "columns": columns,
            "bytes": size,
            "seconds": time.perf_counter() - begun,
            "processor_seconds": time.process_time() - cpu,
            "peak_mb_before_scan": before / 1024,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "moved": [alarm.subject for alarm in found.alarms],
            "note": "x7 was moved by 0.05 standard deviations; nothing else",
        }
    finally:
        shutil.rmtree(place)
