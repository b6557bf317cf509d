"""Makes a table whose rows have three real parts: a census row, a headline, a written digit.

    LOOPLINE_DATA=/path/to/tables python examples/mixed_rows/make.py rows.parquet [--rows 3000]

Each part says yes or no: the person earns more than 50,000 dollars, the headline is of business or
science (not of the world or of sports), the digit has a closed loop (0, 6, 8 or 9). Both answers
are equally frequent in each part, no source row is used twice, and the target is the answer of at
least two parts. So a part alone, read without an error, would be right about three rows in four.
Each part is missing in a tenth of the rows, as parts of real rows are.
"""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

DATA = Path(os.environ.get("LOOPLINE_DATA", "../shared/data"))
CENSUS = {
    0: "age", 3: "education", 4: "education_num", 5: "marital_status", 6: "occupation",
    7: "relationship", 9: "sex", 10: "capital_gain", 12: "hours_per_week",
}  # fmt: skip
NUMBERS = ("age", "education_num", "capital_gain", "hours_per_week")
LOOPS = ("0", "6", "8", "9")
MISSING = 0.1


def census(data: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """Columns of persons, and who earns more than 50,000 dollars."""
    raw = pl.read_csv(data / "adult" / "adult.data", has_header=False, null_values=" ?")
    raw.columns = [str(place) for place in range(raw.width)]
    texts = raw.with_columns(pl.col(pl.String).str.strip_chars())
    named = [pl.col(str(place)).alias(name) for place, name in CENSUS.items()]
    numbers = pl.col(*NUMBERS).cast(pl.Int64)
    rich = (texts["14"] == ">50K").to_numpy()
    return texts.select(named).with_columns(numbers), rich


def headlines(data: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """Titles of news, and which are of business or science."""
    raw = pl.read_csv(data / "ag_news_test" / "test.csv")
    return raw.select(headline="title"), (raw["label"] >= 3).to_numpy()


def digits(data: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """PNG files of written digits but 4, and which have a closed loop."""
    with zipfile.ZipFile(data / "mnist_png_label_errors" / "mnist_png.zip") as pictures:
        every = (name.split("/") for name in sorted(pictures.namelist()))
        names = [n for n in every if n[0] == "test" and n[-1].endswith(".png") and n[1] != "4"]
        files = [pictures.read("/".join(name)) for name in names]
    closed = np.array([name[1] in LOOPS for name in names])
    return pl.DataFrame({"digit": files}, schema={"digit": pl.Binary}), closed


def mixed_rows(data: Path, num_rows: int, seed: int = 0) -> pl.DataFrame:
    """The table: columns of the three parts, and `answer`.

    Args:
        data: the folder of data sets.
        num_rows: at most about 7,000, the headlines that there are.
        seed: of the pairs, and of what is missing.
    """
    rng = np.random.default_rng(seed)
    parts, votes = [], np.zeros(num_rows, dtype=np.int64)
    for frame, says_yes in (census(data), headlines(data), digits(data)):
        vote = rng.permutation(np.arange(num_rows) % 2).astype(bool)
        rows = np.empty(num_rows, dtype=np.int64)
        for side in (False, True):
            known = rng.permutation(np.flatnonzero(says_yes == side))
            rows[vote == side] = known[: int((vote == side).sum())]
        gone = pl.Series(rng.random(num_rows) < MISSING)
        chosen = frame[rows]
        parts.append(chosen.select(pl.when(~gone).then(pl.col(n)).alias(n) for n in chosen.columns))
        votes += vote
    answer = pl.Series("answer", np.where(votes >= 2, "yes", "no"))
    return pl.concat([*parts, answer.to_frame()], how="horizontal")


def main() -> None:
    """Write the table."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("out", type=Path)
    reader.add_argument("--rows", type=int, default=3_000)
    options = reader.parse_args()
    mixed_rows(DATA, options.rows).write_parquet(options.out)


if __name__ == "__main__":
    main()
