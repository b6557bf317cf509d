"""`loopline data show|diff`: look at a table or snapshot, compare two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(help="Look at data: `show` one table, `diff` two.", no_args_is_help=True)


@app.command()
def show(
    data: Annotated[str, typer.Argument(help="A file, glob, URL, or snapshot id.")],
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Show what was read: rows, columns with types, missing cells, ranges, and the digest."""
    from loopline.cli import show as shown
    from loopline.data.fingerprint import table_digest
    from loopline.data.profile import profile
    from loopline.words import sentence

    frame, notes = _open(data, store, ledger)
    columns = profile(frame)
    digest = table_digest(frame)
    if as_json:
        shown.print_json(
            {
                "data": data,
                "num_rows": frame.height,
                "digest": digest,
                "columns": [column.to_dict() for column in columns],
                "notes": notes,
            }
        )
        return
    shown.say(f"{data}: {frame.height:,} rows × {frame.width:,} columns, digest {digest[:16]}…")
    for note in notes:
        shown.say(f"• {sentence(note)}")
    shown.table(
        ["column", "type", "missing", "distinct", "values"],
        [
            [
                column.name,
                column.dtype,
                f"{column.num_missing:,}",
                f"{column.num_distinct:,}",
                column.values,
            ]
            for column in columns
        ],
    )


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A file, glob, URL, or snapshot id.")],
    after: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="Column that identifies a row; may be given several times."),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Tell added, removed and changed rows between two tables, and how each column shifted."""
    from loopline.cli import show as shown
    from loopline.data.difference import compare_tables

    first, _ = _open(before, store, ledger)
    second, _ = _open(after, store, ledger)
    found = compare_tables(first, second, key=key or None)
    if as_json:
        shown.print_json(found.to_dict())
    else:
        shown.say(str(found))


def _open(data: str, store: str | None, ledger: str | None) -> tuple[pl.DataFrame, list[str]]:
    """A table by path or URL, or a snapshot by id."""
    from pathlib import Path

    from loopline.cli.options import project
    from loopline.data.snapshot import open_snapshot
    from loopline.data.sources import read_table

    if data.startswith("snapshot-") and not Path(data).exists():
        with project(store, ledger) as opened:
            return open_snapshot(opened.store, opened.store.find(data)).frame(), []
    table = read_table(data)
    return table.frame, list(table.facts.notes)
