"""`loopline predict`: predict new rows with a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project, same_file


def predict(
    release: Annotated[
        str,
        typer.Argument(
            help="A release's id (or the start of it), line name, alias, folder, or latest."
        ),
    ],
    data: Annotated[str, typer.Argument(help="A file, glob or URL of rows to predict.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File to write: .csv, .parquet, .jsonl or .arrow."),
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="A column of DATA to copy beside the predictions."),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Write a prediction, and a probability for each class, for every row of DATA."""
    from loopline.cli import show
    from loopline.data.writers import check_table_name, write_table
    from loopline.errors import InputError
    from loopline.line.project import find_release

    output = output.expanduser()
    check_table_name(output)
    if same_file(data, output):
        raise InputError(f"{output} is the table to predict; give the predictions another name.")
    found = find_release(release, lambda: project(store, ledger))
    table = found.read(data)
    predicted, remarks = found.predict_frame(table.frame)
    remarks = (*found.reading_remarks(table), *remarks)
    absent = [name for name in keep or () if name not in table.frame.columns]
    if absent:
        raise InputError(
            f"`--keep {absent[0]}` names no column of {data}; it has "
            f"{', '.join(table.frame.columns[:20])}."
        )
    predicted = table.frame.select(keep or []).hstack(predicted) if keep else predicted
    write_table(predicted, output)
    if as_json:
        show.print_json(
            {
                "release": found.id,
                "num_rows": predicted.height,
                "output": str(output),
                "columns": predicted.columns,
                "remarks": list(remarks),
            }
        )
        return
    show.remarks(remarks)
    show.say(f"{predicted.height:,} predictions by {found.name} ({found.id[:20]}) → {output}")
    if found.threshold is not None:
        label = "A label" if found.task == "multilabel" else repr(found.schema.classes[-1])
        show.say(f"{label} is predicted from a probability of {found.threshold:.4g} on.")
