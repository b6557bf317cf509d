"""Makes pairs of a written digit and a caption that names it in words.

LOOPLINE_DATA=/path/to/tables python examples/digits_by_words/make.py pairs.parquet [--rows 2400]
"""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

DATA = Path(os.environ.get("LOOPLINE_DATA", "../shared/data"))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def pairs(data: Path, num_rows: int, seed: int = 0) -> pl.DataFrame:
    """PNG files of digits, drawn at random from the official test pictures, with captions."""
    with zipfile.ZipFile(data / "mnist_png_label_errors" / "mnist_png.zip") as pictures:
        every = (name.split("/") for name in sorted(pictures.namelist()))
        names = [name for name in every if name[0] == "test" and name[-1].endswith(".png")]
        drawn = np.random.default_rng(seed).permutation(len(names))[:num_rows]
        return pl.DataFrame(
            {
                "image": [pictures.read("/".join(names[place])) for place in drawn],
                "caption": [f"a photo of a {WORDS[int(names[place][1])]}" for place in drawn],
            },
            schema={"image": pl.Binary, "caption": pl.String},
        )


def main() -> None:
    """Write the pairs."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("out", type=Path)
    reader.add_argument("--rows", type=int, default=2_400)
    options = reader.parse_args()
    pairs(DATA, options.rows).write_parquet(options.out)


if __name__ == "__main__":
    main()
