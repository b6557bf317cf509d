"""`loopline runs`: the runs of a project."""

from __future__ import annotations

from loopline.cli.options import Json, LedgerUrl, Store, project


def runs(as_json: Json = False, store: Store = None, ledger: LedgerUrl = None) -> None:
    """List the runs, newest first, with their state and score."""
    from loopline.cli import show
    from loopline.words import estimate

    with project(store, ledger) as opened:
        records = opened.runs()
    if as_json:
        show.print_json(
            [
                {
                    "run": record.id,
                    "name": record.name,
                    "started": record.started,
                    "state": record.state,
                    "release": record.summary["release"] if record.summary else None,
                    "chosen": record.summary["chosen"] if record.summary else None,
                    "metric": record.summary["metric"] if record.summary else None,
                    "test": record.summary["test"] if record.summary else None,
                    "message": record.message,
                }
                for record in records
            ]
        )
        return
    if not records:
        show.say("No runs yet. Start one with `loopline run`.")
        return
    rows = []
    for record in records:
        score = record.message
        if record.summary is not None:
            name = record.summary["metric"]
            test = record.summary["test"] or record.summary["out_of_fold"]
            score = f"{record.summary['chosen']}: {name} {estimate(test.get(name))}"
        rows.append([record.id, record.name, record.started[:16], record.state, score])
    show.table(["run", "line", "started (UTC)", "state", "result"], rows)
