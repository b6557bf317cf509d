"""Makes rows of what a customer's contract is, and the list of extras that they pay for.

LOOPLINE_DATA=/path/to/tables python examples/telco_extras/make.py customers.jsonl

The extras stand in the source as seven columns of Yes, No and "No internet service"; here they are
one column of lists. The charges are left out: they are the sum of what each extra costs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import polars as pl

DATA = Path(os.environ.get("LOOPLINE_DATA", "../shared/data"))
EXTRAS = (
    "MultipleLines",
    "OnlineBackup",
    "OnlineSecurity",
    "DeviceProtection",
    "TechSupport",
    "StreamingTV",
    "StreamingMovies",
)
LEFT_OUT = ("MonthlyCharges", "TotalCharges", "Churn")


def customers(data: Path) -> pl.DataFrame:
    """The customers with the list `extras` in place of a column for each.

    Args:
        data: the folder that holds the tables.
    """
    table = pl.read_csv(data / "telco_churn" / "Telco-Customer-Churn.csv")
    lists = [
        [name for name, cell in row.items() if cell == "Yes"]
        for row in table.select(EXTRAS).iter_rows(named=True)
    ]
    return table.drop(*EXTRAS, *LEFT_OUT).with_columns(extras=pl.Series(lists))


def main() -> None:
    """Write the customers."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("out", type=Path)
    customers(DATA).write_ndjson(reader.parse_args().out)


if __name__ == "__main__":
    main()
