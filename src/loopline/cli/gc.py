"""`loopline gc`: remove what nothing needs."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def gc(
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=0, help="Keep the work of this many newest runs (default: all)."
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Spare what is younger than this many seconds.")
    ] = 3600.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Remove artifacts that no release and no kept run needs, and say what stays and why.

    Checkpoints of killed fits go when nothing was written there for an hour.

    Safe to kill, safe beside runs.
    """
    from loopline.cli import show
    from loopline.words import counted, size

    with project(store, ledger) as opened:
        done = opened.collect(keep=keep, grace_seconds=grace, dry_run=dry_run)
    if as_json:
        show.print_json(
            {
                "removed": list(done.ids),
                "bytes": done.num_bytes,
                "fits": done.num_fits,
                "kept": dict(done.kept),
                "dry_run": dry_run,
            }
        )
        return
    verb = "would remove" if dry_run else "removed"
    fits = (
        f" and the checkpoints of {counted(done.num_fits, 'killed fit')}" if done.num_fits else ""
    )
    show.say(f"{verb} {counted(len(done.ids), 'artifact')}{fits}, {size(done.num_bytes)}")
    total = sum(done.kept.values())
    show.say(f"{'would keep' if dry_run else 'kept'} {counted(total, 'artifact')}")
    for reason, count in done.kept.items():
        show.say(f"  {count:,}: {reason}")
