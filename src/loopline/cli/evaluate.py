"""`loopline evaluate`: score a release on new labelled rows."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def evaluate(
    release: Annotated[
        str,
        typer.Argument(
            help="A release's id (or the start of it), line name, alias, folder, or latest."
        ),
    ],
    data: Annotated[str, typer.Argument(help="A file, glob or URL of labelled rows.")],
    allow_known: Annotated[
        bool,
        typer.Option("--allow-training-rows", help="Score rows that were trained on as well."),
    ] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Score a release on labelled rows that it has not been trained on, with 95 % intervals."""
    from loopline.cli import show
    from loopline.errors import NotFoundError
    from loopline.evaluate.metrics import in_order
    from loopline.line.scoring import evaluate_release
    from loopline.release.bundle import is_release_folder, load_release
    from loopline.words import estimate

    try:
        opened = project(store, ledger)
    except NotFoundError:
        if not is_release_folder(release):
            raise
        opened = None
    found = load_release(release) if opened is None else opened.release(release)
    result = evaluate_release(opened, found, data, allow_known=allow_known)
    if opened is not None:
        opened.close()
    ranking = found.facts["objective"]["metric"]
    metrics = {name: value.to_dict() for name, value in result.metrics.items()}
    if as_json:
        show.print_json(
            {
                "release": found.id,
                "num_rows": result.num_rows,
                "metrics": metrics,
                "remarks": list(result.remarks),
            }
        )
        return
    show.remarks(result.remarks)
    show.table(
        ["metric", "value [95 %]"],
        [[name, estimate(metrics[name])] for name in in_order(metrics, ranking)],
        f"{found.name} ({found.id[:20]}) on {result.num_rows:,} rows:",
    )
