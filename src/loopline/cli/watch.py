"""`loopline watch`: the closed loop of a line, as a controller or for one look."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopline.cli.options import Json, place_overrides, reporter

if TYPE_CHECKING:
    from loopline.line.files import LineFile
    from loopline.line.project import Project
    from loopline.loop.controller import Controller
    from loopline.loop.diary import Diary, Entry


def watch(
    file: Annotated[
        Path | None, typer.Argument(help="The settings file (default: loopline.yaml here).")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look one time and end, for cron and CI.")
    ] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the champion as well, and each one that follows it."),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", help="With --serve: the port; 0: a free one.")
    ] = 8000,
    history: Annotated[
        bool, typer.Option("--history", help="Tell what the loop did so far, and end.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="REASON", help="Say that a doubted change is real."),
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="FILE", help="Use a file that is held, as it is."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where the service keeps labels (default: in the store)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch a line, and renew its champion when a new model proves itself.

    New files of `data.source` and labels of answered requests are taken as they come. Drift, worse
    performance, new labels or the schedule (`loop` in the settings) start a retraining; the new
    model is promoted only when it is better on rows that nobody has seen. Stop with Ctrl-C; the
    same command goes on where it was, also after a crash.
    """
    from loopline.errors import SettingsError
    from loopline.line.face import project_of
    from loopline.line.files import read_line
    from loopline.loop.diary import Diary

    if once and serve:
        raise SettingsError(["`--serve` has no effect with `--once`, which ends after one look."])
    line = read_line(file, [*place_overrides(), *(override or [])])
    with project_of(line.spec, line.folder) as project:
        diary = Diary(project.ledger, line.spec.line_name)
        if history:
            _tell_all(diary, as_json)
        elif confirm is not None or accept is not None:
            _note(diary, confirm, accept, as_json)
        else:
            _watch(project, line, folder, _Way(once, serve, port, as_json))


@dataclass(frozen=True)
class _Way:
    once: bool
    serve: bool
    port: int
    as_json: bool


def _watch(project: Project, line: LineFile, folder: Path | None, way: _Way) -> None:
    from loopline.cli import show
    from loopline.loop.controller import Controller
    from loopline.loop.lease import lease
    from loopline.loop.monitored import MonitorWatch
    from loopline.release.aliases import CHAMPION, SHADOW

    def tell(entry: Entry) -> None:
        if not way.as_json:
            show.say(str(entry))
        elif not way.once:
            typer.echo(json.dumps(entry.to_dict(), ensure_ascii=False))

    with lease(
        project,
        line.spec.line_name,
        wait=not way.once,
        tell=lambda text: typer.echo(text, err=True),
    ) as held:
        controller = Controller(
            project,
            line,
            reporter(quiet=way.as_json),
            tell=tell,
            folder=folder,
            watch=MonitorWatch(line.spec.monitor),
        )
        if not way.once:
            with _service(controller, folder, way):
                if not way.as_json:
                    show.say(_begun(line))
                controller.run(_stopped(), held)
            return
        news = controller.once()
        serving = project.aliases.all()
        champion, tried = (serving.get(f"{line.spec.line_name}@{a}") for a in (CHAMPION, SHADOW))
        if way.as_json:
            show.print_json({"champion": champion, "news": [entry.to_dict() for entry in news]})
        elif not news:
            serves = "Nothing serves yet." if champion is None else f"{champion[:20]} serves."
            beside = "" if tried is None else f" {tried[:20]} is tried beside it as a shadow."
            show.say(f"Nothing new. {serves}{beside}")


def _service(
    controller: Controller, folder: Path | None, way: _Way
) -> AbstractContextManager[object]:
    """The champion's service beside the controller, where one is asked for."""
    from loopline.errors import NotFoundError
    from loopline.loop.serving import serve_champion

    if not way.serve:
        return nullcontext()
    if not controller.prepare():
        raise NotFoundError("There is no champion to serve yet: its files are not whole.")
    name = controller.line.spec.line_name
    running = serve_champion(controller.project, name, {"port": way.port}, folder)
    told = f"{name}@champion is served on {running.url}; all paths, and how to ask: {running.url}/"
    typer.echo(json.dumps({"url": running.url}) if way.as_json else told)
    return running


def _begun(line: LineFile) -> str:
    """What a long-running controller looks at, so that nobody waits for what cannot come."""
    from loopline.select.limits import duration

    source, pause = line.spec.data.source, duration(line.spec.loop.poll)
    single = not any(sign in source for sign in "*?[")
    more = " (one file: a glob such as data/*.csv would take new files too)" if single else ""
    return (
        f"Looks every {pause} at {source}{more} and at labels of answered requests. "
        "Stop with Ctrl-C; the same command goes on."
    )


def _stopped() -> Callable[[], bool]:
    """Whether somebody asked to end: once ends after this look, twice ends now."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        typer.echo("Ends after this look; once more ends now, and nothing is lost.", err=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return lambda: bool(asked)


def _tell_all(diary: Diary, as_json: bool) -> None:
    from loopline.cli import show

    entries = diary.timeline()
    if as_json:
        show.print_json([entry.to_dict() for entry in entries])
        return
    for entry in entries:
        show.say(str(entry))
    if not entries:
        show.say(f"Nothing has been watched yet for {diary.name!r}.")


def _note(diary: Diary, confirm: str | None, accept: str | None, as_json: bool) -> None:
    from loopline.cli import show
    from loopline.errors import SettingsError
    from loopline.loop.arrivals import held_digest

    told: list[dict[str, Any]] = []
    if confirm is not None:
        if not confirm.strip():
            raise SettingsError(['`--confirm` needs a reason, such as "new price list".'])
        entry = diary.tell(
            "confirmed", f"A person confirmed the change: {confirm.strip()}", why=confirm.strip()
        )
        told.append(entry.to_dict())
    if accept is not None:
        entry = diary.tell(
            "accepted", f"{accept} is used as it is.",
            file=accept, digest=held_digest(diary, accept),
        )  # fmt: skip
        told.append(entry.to_dict())
    if as_json:
        show.print_json(told)
        return
    for line in told:
        show.say(str(line["sentence"]))
