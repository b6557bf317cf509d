"""How fast are copies found, how many of the planted ones, and in how much memory?

    python benchmarks/duplicates.py [--rows 1000000] [--images 20000] [--only texts]

Planted: 5 % of the rows again, with noise of 0.01 of a column's spread; 10 % of the texts again
with two of 50 words changed; each image of a share again, recompressed. Each size runs in a process
of its own, so that the peak of memory is its own. The texts are also given to datasketch (MinHash
of 40 permutations, LSH of 10 bands of 4) where it can be imported, a tenth of them.
Wall time, processor time (what counts where other programs run) and peak memory are shown, and the
exponent with which processor time grows with rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from loopline.data.duplicates.find import find_duplicates
from loopline.data.duplicates.texts import jaccard

RESULT = Path(__file__).parent / "results" / "duplicates.json"


def numbers(rows: int):
    rng = np.random.default_rng(0)
    copies = rows // 20
    values = rng.normal(size=(rows, 30))
    source = rng.choice(rows - copies, copies, replace=False)
    values[rows - copies :] = values[source] + 0.01 * rng.normal(size=(copies, 30))
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(30)})
    return frame, "number", source, np.arange(rows - copies, rows)


def texts(rows: int):
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(50_000)])
    share = 1 / np.arange(1, 50_001)
    share /= share.sum()
    copies = rows // 10
    source = rng.choice(rows - copies, copies, replace=False)
    picked = rng.choice(50_000, (rows, 50), p=share).astype(np.uint16)
    picked[rows - copies :] = picked[source]
    for _ in range(2):
        places = rng.integers(0, 50, copies)
        picked[np.arange(rows - copies, rows), places] = rng.choice(50_000, copies, p=share)
    parts = [
        pl.Series([" ".join(row) for row in words[picked[start : start + 10_000]]])
        for start in range(0, rows, 10_000)
    ]
    return pl.DataFrame({"text": pl.concat(parts)}), "text", source, np.arange(rows - copies, rows)


def images(rows: int):
    from PIL import Image

    rng = np.random.default_rng(0)
    copies = rows // 20
    cells = []
    for _ in range(rows - copies):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        out = io.BytesIO()
        small.resize((128, 128), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
        cells.append(out.getvalue())
    source = rng.choice(rows - copies, copies, replace=False)
    for row in source:
        out = io.BytesIO()
        Image.open(io.BytesIO(cells[row])).resize((90, 90)).save(out, "JPEG", quality=60)
        cells.append(out.getvalue())
    return pl.DataFrame({"image": cells}), "image", source, np.arange(rows - copies, rows)


MAKERS = {"numbers": numbers, "texts": texts, "images": images}


def measure(what: str, rows: int) -> dict[str, object]:
    frame, kind, source, copy = MAKERS[what](rows)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    found = find_duplicates(frame, dict.fromkeys(frame.columns, kind))
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    if what == "texts":  # some of the copies of copies have fewer words in common than 80 %
        true = jaccard(frame["text"], source, copy, 2) >= 0.8
        source, copy = source[true], copy[true]
    planted = np.zeros(rows, dtype=bool)
    planted[source] = planted[copy] = True
    sizes = np.bincount(found.clusters, minlength=rows)[found.clusters]
    return {
        "what": what,
        "rows": rows,
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "peak_gb": round(after.ru_maxrss / 1e6, 2),
        "table_gb": round(frame.estimated_size() / 1e9, 2),
        "recall": round(float((found.clusters[source] == found.clusters[copy]).mean()), 4),
        "honest_rows_glued": int(((sizes > 1) & ~planted).sum()),
    }


def datasketch_seconds(rows: int) -> float:
    """The same search with a library: sketch, insert and query every text (not verified)."""
    from datasketch import MinHash, MinHashLSH

    column = texts(rows)[0]["text"].to_list()
    start = time.perf_counter()
    index = MinHashLSH(num_perm=40, params=(10, 4))
    for row, text in enumerate(column):
        split = text.split()
        sketch = MinHash(num_perm=40)
        sketch.update_batch([f"{a} {b}".encode() for a, b in itertools.pairwise(split)])
        index.query(sketch)
        index.insert(row, sketch)
    return round(time.perf_counter() - start, 1)


def apart(*arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--only", choices=MAKERS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]))))
        return
    result: dict[str, object] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "polars": pl.__version__,
        "load_at_start": round(os.getloadavg()[0], 1),
    }
    for what in [given.only] if given.only else MAKERS:
        rows = given.images if what == "images" else given.rows
        runs = [apart("--one", what, str(size)) for size in (rows // 10, rows)]
        small, large = (float(str(run["processor_seconds"])) for run in runs)
        result[what] = {"runs": runs, "growth_exponent": round(math.log10(large / small), 2)}
        print(json.dumps(result[what], indent=1))
    if importlib.util.find_spec("datasketch") and given.only in (None, "texts"):
        rows = given.rows // 10
        result["datasketch"] = {"rows": rows, "wall_seconds": datasketch_seconds(rows)}
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
