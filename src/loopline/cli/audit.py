"""`loopline audit`: what would make a score untrue, found, priced and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project, reporter

Task = Literal["binary", "multiclass", "regression"]
"""The tasks that have labels to be audited."""


def audit(
    what: Annotated[
        str, typer.Argument(metavar="DATA|SNAPSHOT|RUN", help="A file, glob, URL, or stored id.")
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", help="The column to predict; without it only rows are looked at."),
    ] = None,
    task: Annotated[
        Task | None, typer.Option("--task", help="What is predicted; inferred by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the findings as an HTML page.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Tell harmless notes as well.")] = False,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Find leaks, duplicates, groups, wrong labels and poor rows, with what each is worth."""
    from loopline.memory import give_back_at_once

    give_back_at_once()  # before polars is imported
    from loopline.cli import show

    name, facts, findings = _found(what, target, task, as_json, store, ledger)
    if output is not None:
        from loopline.line.audit_page import write_audit_page

        write_audit_page(name, facts, findings, output)
    if as_json:
        show.print_json({"name": name, "facts": list(facts), "findings": list(findings)})
        return
    show.say(f"{name}")
    for fact in facts:
        show.say(f"  {fact}")
    tell(findings, every=every)
    if output is not None:
        show.say(f"\nWrote {output}.")


def _found(
    what: str,
    target: str | None,
    task: Task | None,
    quiet: bool,
    store: str | None,
    ledger: str | None,
) -> tuple[str, Sequence[str], Sequence[Mapping[str, Any]]]:
    from loopline.errors import NotFoundError, SettingsError
    from loopline.line.auditing import audit_table

    stored = not Path(what).exists() and what.partition("-")[0] in ("run", "snapshot", "latest")
    if stored and not what.startswith("snapshot-"):
        if target is not None or task is not None:
            raise SettingsError(["A run has its target and task; leave --target and --task out."])
        with project(store, ledger) as opened:
            record = opened.run(what)
            summary = opened.finished(record.id)
            if summary is None:
                raise NotFoundError(f"{record.id} is not finished; run its line again.")
        facts = [summary["split"]["reason"]]
        return f"{summary['name']} ({record.id})", facts, summary.get("audit", [])
    data: Any = what
    if stored:
        from loopline.data.snapshot import open_snapshot

        with project(store, ledger) as opened:
            data = open_snapshot(opened.store, opened.store.find(what)).frame()
    found = audit_table(data, target, task=task, reporter=reporter(quiet))
    return (what if stored else found.name), found.facts, found.to_dict()["findings"]


def tell(findings: Sequence[Mapping[str, Any]], *, every: bool) -> None:
    """Print findings, worst first; notes are only counted unless all are wanted."""
    from loopline.cli import show
    from loopline.line.audit_page import TITLES
    from loopline.words import counted, estimate, sentence

    shown = [finding for finding in findings if every or finding["severity"] != "note"]
    for number, finding in enumerate(shown, 1):
        remedy = finding.get("remedy") or {}
        done = ", repaired" if remedy.get("applied") else ""
        show.say(f"\n{number}. [{TITLES[finding['severity']]}{done}] {finding['sentence']}")
        worth = finding.get("worth")
        if worth:
            show.say(
                f"   {worth['metric']}: claimed {estimate(worth['claimed'])}, "
                f"repaired {estimate(worth['repaired'])}"
            )
        for example in (finding.get("examples") or [])[:2]:
            show.say("   e.g. " + ", ".join(f"{key}: {value}" for key, value in example.items()))
        if remedy.get("sentence"):
            show.say(f"   {sentence(remedy['sentence'])}")
        if remedy.get("settings") and not remedy.get("applied"):
            show.say(f"   settings: {_inline(remedy['settings'])}")
    notes = len(findings) - len(shown)
    if not shown:
        show.say("\nNothing was found that would make a score untrue.")
    if notes:
        show.say(f"\nAnd {counted(notes, 'note')}; --all tells them.")


def _inline(settings: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(settings), default_flow_style=True, width=10**9).strip()
