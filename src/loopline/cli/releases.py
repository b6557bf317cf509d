"""`loopline releases`: the releases of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project

if TYPE_CHECKING:
    from loopline.release.aliases import Move


def releases(
    history: Annotated[
        bool, typer.Option("--history", help="Tell every move of an alias instead, oldest first.")
    ] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """List the releases, newest first, with the aliases that point at them."""
    from loopline.cli import show
    from loopline.words import estimate

    with project(store, ledger) as opened:
        found = opened.releases()
        moves = opened.aliases.history()
        pointing = opened.aliases.all()
    if history:
        _tell(moves, as_json)
        return
    aliases: dict[str, list[str]] = {}
    for name, target in pointing.items():
        aliases.setdefault(target, []).append(name.rpartition("@")[2])
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
                    "aliases": aliases.get(release.id, []),
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
                ", ".join(aliases.get(release.id, [])),
            ]
        )
    show.table(["release", "line", "made (UTC)", "family", "score", "aliases"], rows)


def _tell(moves: list[Move], as_json: bool) -> None:
    from loopline.cli import show

    if as_json:
        show.print_json([move.to_dict() for move in moves])
        return
    for move in moves:
        show.say(str(move))
    if not moves:
        show.say("No alias yet. `loopline promote RELEASE` makes one.")
