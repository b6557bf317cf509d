"""`loopline releases`: the releases of a project."""

from __future__ import annotations

from loopline.cli.options import Json, LedgerUrl, Store, project


def releases(as_json: Json = False, store: Store = None, ledger: LedgerUrl = None) -> None:
    """List the releases, newest first."""
    from loopline.cli import show
    from loopline.words import estimate

    with project(store, ledger) as opened:
        found = opened.releases()
    if as_json:
        show.print_json(
            [
                {
                    "release": release.id,
                    "name": release.name,
                    "made": event.time,
                    "run": event.run,
                    "family": release.facts["family"],
                    "metric": release.facts["objective"]["metric"],
                    "test": release.facts["metrics"]["test"],
                    "folder": str(release.artifact.path()),
                }
                for event, release in found
            ]
        )
        return
    if not found:
        show.say("No releases yet. `loopline run` makes one.")
        return
    rows = []
    for event, release in found:
        name = release.facts["objective"]["metric"]
        metrics = release.facts["metrics"]
        score = (metrics["test"] or metrics["out_of_fold"]).get(name)
        rows.append(
            [
                release.id[:20],
                release.name,
                event.time[:16],
                release.facts["family"],
                f"{name} {estimate(score)}",
            ]
        )
    show.table(["release", "line", "made (UTC)", "family", "score"], rows)
