"""`loopline monitor`: has the world moved, and does it matter?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project

if TYPE_CHECKING:
    from loopline.line.monitoring import MonitorReport
    from loopline.monitor.alarm import Alarm
    from loopline.monitor.receivers import SinkSettings
    from loopline.monitor.settings import MonitorSettings
    from loopline.monitor.watcher import Checked

PAGED = 3
"""The exit code of `--fail` when an alarm pages."""


def monitor(
    release: Annotated[
        str,
        typer.Argument(help="A release's id (or the start of it), line name, alias, or latest."),
    ] = "latest",
    data: Annotated[
        str | None,
        typer.Argument(help="New rows to judge; without them, what the service answered."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="TABLE",
            help="Judge one table by another, without a release: `--reference OLD NEW`.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again until Ctrl-C.")
    ] = False,
    every: Annotated[
        str, typer.Option("--every", help="How often `--follow` looks, such as 30s or 5m.")
    ] = "60s",
    end: Annotated[
        bool, typer.Option("--end", help="Judge the rows that do not fill a window, too.")
    ] = False,
    fail: Annotated[
        bool, typer.Option("--fail", help="End with exit code 3 when an alarm pages, for CI.")
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where the service keeps labels (default: in the store)."),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Judge what a service answered, or new rows, by what the release was trained on.

    Columns, predictions, expected and true loss, calibration, slices, and the service itself.
    False pages keep the budget of `monitor.false_pages` (default: one a month). Alarms go to the
    ledger and to whoever `alarms` in the settings names.
    """
    settings, alarms = _settings(override)
    if reference is not None:
        if data is not None or follow or end:
            _refuse("Two tables are judged once: `loopline monitor --reference OLD NEW`.")
        _tables(reference, release, settings, fail=fail, as_json=as_json)
        return
    if data is not None and (follow or end):
        _refuse("`--follow` and `--end` are for what the service answered; leave DATA out.")
    if follow and (as_json or fail):
        _refuse("`--follow` never ends; leave `--json` and `--fail` out, or look once.")
    with project(store, ledger) as opened:
        if data is not None:
            from loopline.line.monitoring import check_rows

            _told(check_rows(release, data, project=opened, settings=settings), fail, as_json)
            return
        from loopline.line.monitoring import check_stream
        from loopline.line.quantities import read_duration

        pause = float(read_duration(every))

        def look() -> MonitorReport:
            return check_stream(
                release, project=opened, settings=settings, alarms=alarms, folder=folder, end=end
            )

        if not follow:
            _report(look(), fail=fail, as_json=as_json)
            return
        while True:
            report = look()
            if report.windows or report.labels:
                _report(report, fail=False, as_json=False)
            time.sleep(pause)


def _settings(override: Sequence[str] | None) -> tuple[MonitorSettings, SinkSettings]:
    """Of the settings file in this folder where there is one, with `--set` on top."""
    from loopline.line.files import DEFAULT_FILE, read_line, with_overrides
    from loopline.line.monitoring import checked_settings
    from loopline.monitor.receivers import SinkSettings
    from loopline.monitor.settings import MonitorSettings

    if Path(DEFAULT_FILE).exists():
        spec = read_line(None, list(override or [])).spec
        return spec.monitor, spec.alarms
    given = with_overrides({}, override or [])
    unknown = sorted(set(given) - {"monitor", "alarms"})
    if unknown:
        _refuse(f"Without a settings file `--set` takes monitor.… and alarms.…; got {unknown[0]}.")
    return (
        checked_settings(MonitorSettings, given.get("monitor"), "monitor"),
        checked_settings(SinkSettings, given.get("alarms"), "alarms"),
    )


def _tables(
    reference: str, current: str, settings: MonitorSettings, *, fail: bool, as_json: bool
) -> None:
    from loopline.cli import show
    from loopline.line.monitoring import check_tables
    from loopline.words import counted

    found = check_tables(reference, current, settings=settings)
    if as_json:
        alarms = [alarm.to_dict() for alarm in found.alarms]
        show.print_json({"rows": found.rows, "alarms": alarms, "table": found.table.to_dicts()})
    else:
        show.say(f"{counted(found.rows, 'row')} of {current} beside {reference}.")
        _alarms(found.alarms)
    if fail and any(alarm.page for alarm in found.alarms):
        raise typer.Exit(PAGED)


def _told(checked: Sequence[Checked], fail: bool, as_json: bool) -> None:
    """What windows of rows showed, that no stream remembers."""
    from loopline.cli import show
    from loopline.line.monitoring import checked_facts
    from loopline.words import counted

    if as_json:
        show.print_json({"windows": [checked_facts(each) for each in checked]})
    else:
        rows = sum(each.rows for each in checked)
        show.say(f"{counted(rows, 'row')} in {counted(len(checked), 'window')}.")
        show.remarks(list(dict.fromkeys(text for each in checked for text in each.remarks)))
        seen: dict[Any, Alarm] = {}
        for each in checked:
            seen |= {alarm.cause: alarm for alarm in each.alarms}
        _alarms(list(seen.values()))
    if fail and any(each.pages for each in checked):
        raise typer.Exit(PAGED)


def _report(report: MonitorReport, *, fail: bool, as_json: bool) -> None:
    from loopline.cli import show
    from loopline.words import counted

    if as_json:
        show.print_json(report.to_dict())
    else:
        rows = sum(each.rows for each in report.windows)
        verb = "waits" if report.waiting == 1 else "wait"
        waiting = f"; {counted(report.waiting, 'row')} {verb} for more" if report.waiting else ""
        labels = f", {counted(report.labels, 'label')}" if report.labels else ""
        show.say(
            f"{report.name} ({report.release[:20]}): {counted(rows, 'new row')} in "
            f"{counted(len(report.windows), 'window')}{labels}{waiting}."
        )
        show.remarks([*report.undelivered, *report.remarks])
        _alarms(report.alarms)
    if fail and report.pages:
        raise typer.Exit(PAGED)


def _alarms(alarms: Sequence[Alarm]) -> None:
    """What opened together as one, the weightiest in full and the others as lines."""
    from loopline.cli import show
    from loopline.monitor.alarm import together

    if not alarms:
        show.say("No alarm.")
    for alarm, *others in together(alarms):
        word = "over" if alarm.state == "closed" else "PAGE" if alarm.page else "note"
        show.say(f"[{word}] {alarm.sentence}")
        if alarm.impact is not None and alarm.page:
            show.say(f"       what it does to the model: {alarm.impact}")
        if alarm.rows:
            show.say(f"       rows that show it: {', '.join(alarm.rows[:3])}")
        if others:
            began = "ended" if word == "over" else "opened"
            show.say(f"       {len(others)} more {began} with it, mostly for one reason:")
        for other in others:
            note = " (a note)" if alarm.page and not other.page else ""
            show.say(f"       - {other.sentence}{note}")


def _refuse(text: str) -> None:
    from loopline.errors import SettingsError

    raise SettingsError([text])
