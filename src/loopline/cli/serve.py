"""`loopline serve`: answer requests over HTTP."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project

if TYPE_CHECKING:
    from loopline.line.project import Project
    from loopline.serve.service import Service
    from loopline.serve.settings import ServeSettings
    from loopline.serve.workers import Worker


def serve(
    releases: Annotated[
        list[str] | None,
        typer.Argument(
            help="Releases by id, line name, folder, latest or NAME@alias (default: latest). "
            "CHOSEN=RELEASE serves one under another name."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="A YAML file of the service's settings.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen on (default: 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="The port; 0 takes a free one (default: 8000).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that share the port (default: 1).")
    ] = None,
    challenger: Annotated[
        str | None,
        typer.Option("--challenger", help="A release to try beside: its answers are logged only."),
    ] = None,
    canary: Annotated[
        float | None,
        typer.Option("--canary", help="The share of requests that the challenger answers."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where labels are kept (default: in the store's folder)."),
    ] = None,
    no_log: Annotated[
        bool, typer.Option("--no-log", help="Keep no predictions and take no labels.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="A file with the token that callers must send (default: LOOPLINE_SERVE_TOKEN).",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that rules over the file's, as key=value."),
    ] = None,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Serve releases over HTTP: JSON, CSV, Arrow and the Open Inference Protocol.

    Ctrl-C or SIGTERM ends it after what is under way is answered; SIGHUP looks for newer releases.
    """
    from loopline.memory import share_freed_memory

    share_freed_memory()  # before polars is imported
    from loopline.line.serving import read_token, refuse_idle
    from loopline.serve.settings import check_token
    from loopline.serve.workers import Worker

    given = {"host": host, "port": port, "workers": workers}
    data: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if canary is not None:
        data["canary"] = {"share": canary}
    if no_log:
        data["log"] = {"enabled": False}
    chosen = _settings(settings, override or [], data)
    refuse_idle(chosen, challenged=challenger is not None)
    token = read_token(token_file)
    check_token(token, chosen)
    names = releases or ["latest"]
    worker = Worker.of_environment()
    if chosen.workers > 1 and worker is None:
        _supervise(chosen, names, as_json)
        return
    with _Places(store, ledger, folder, no_log=no_log) as places:
        _serve(chosen, names, challenger, token, worker, places, as_json)


class _Places:
    """Where releases come from and records go: a project that is opened when it is needed."""

    def __init__(
        self, store: str | None, ledger: str | None, folder: Path | None, *, no_log: bool
    ) -> None:
        self._store, self._ledger = store, ledger
        self._folder, self._no_log = folder, no_log
        self._project: Project | None = None
        self.missing = ""

    def __enter__(self) -> _Places:
        return self

    def __exit__(self, *error: object) -> None:
        if self._project is not None:
            self._project.close()

    def project(self) -> Project:
        if self._project is None:
            self._project = project(self._store, self._ledger)
        return self._project

    def records(self) -> tuple[Project | None, Path | None]:
        """The project that predictions are logged into and the folder of labels, if any."""
        from loopline.errors import NotFoundError
        from loopline.line.serving import state_folder

        if self._no_log:
            return None, self._folder
        try:
            opened = self.project()
        except NotFoundError:
            self.missing = "Predictions are not logged: there is no store here (--store names one)."
            return None, self._folder
        return opened, state_folder(opened.local_folder, self._folder)


def _settings(file: Path | None, override: list[str], data: dict[str, Any]) -> ServeSettings:
    from loopline.errors import NotFoundError
    from loopline.line.files import parse_yaml, with_overrides
    from loopline.line.serving import make_serve_settings

    said: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if file is not None:
        if not file.is_file():
            raise NotFoundError(f"There is no settings file {str(file)!r}.")
        said, lines = parse_yaml(file)
    said = with_overrides(said, override)
    for name, value in data.items():
        inner = said.get(name)
        said[name] = {**inner, **value} if isinstance(inner, dict) else value
    return make_serve_settings(said, where="" if file is None else str(file), lines=lines)


def _supervise(settings: ServeSettings, names: list[str], as_json: bool) -> None:
    from loopline.cli import show
    from loopline.serve.server import address_of, listen
    from loopline.serve.workers import supervise

    bound = listen(settings, shared=True)
    url = address_of(bound, settings.host)

    def started() -> None:
        if as_json:
            _say_json({"url": url, "workers": settings.workers})
            return
        show.say(f"{', '.join(names)}: {settings.workers} workers serve on {url}")
        show.say(f"All paths, and how to ask: {url}/   Stop with Ctrl-C.")
        sys.stdout.flush()

    with bound:
        command = [sys.executable, "-m", "loopline", *sys.argv[1:]]
        code = supervise(command, settings.workers, bound, started)
    if code:
        raise typer.Exit(code)


def _serve(
    settings: ServeSettings,
    names: list[str],
    challenger: str | None,
    token: str | None,
    worker: Worker | None,
    places: _Places,
    as_json: bool,
) -> None:
    from loopline.line.serving import add_all, find_served, follow, noted, shadows
    from loopline.serve.server import Server, address_of, listen, run_alone
    from loopline.serve.service import Service
    from loopline.serve.workers import join

    found = [find_served(name, places.project) for name in names]
    tried = find_served(challenger, places.project).release if challenger else None
    records, folder = places.records()
    service = Service(
        settings,
        folder=folder,
        store=None if records is None else records.store,
        tell=None if records is None else noted(records),
    )

    def started() -> None:
        if worker is None:
            _say(url, service, places.missing, token is not None, as_json)

    with service.closed_on_error():
        add_all(service, [(served.name, served.release) for served in found], tried)
        server = Server(
            service, token=token, newest=follow(found), shadows=shadows(found), started=started
        )
        if worker is not None:
            join(worker, server)
            settings = settings.model_copy(update={"port": worker.port})
        bound = listen(settings, shared=worker is not None)
    url = address_of(bound, settings.host)
    run_alone(server, bound)


def _say(url: str, service: Service, missing: str, with_token: bool, as_json: bool) -> None:
    """The address, what is served, and a command that asks for one prediction."""
    from loopline.cli import show
    from loopline.serve.page import curl

    several = len(service.deployments) > 1
    if as_json:
        models = {
            name: {"release": deployment.champion.id, "versions": list(deployment.versions)}
            for name, deployment in service.deployments.items()
        }
        _say_json({"url": url, "models": models, "logged": service.log is not None})
        return
    for name, deployment in service.deployments.items():
        show.say(f"{name} ({deployment.champion.id[:20]}) is served on {url}")
    if missing:
        show.say(f"! {missing}")
    first = next(iter(service.deployments.values())).champion
    show.say(f"Ask for a prediction:\n  {curl(first, url, token=with_token, several=several)}")
    show.say(f"All paths: {url}/   Stop with Ctrl-C.")
    sys.stdout.flush()


def _say_json(data: dict[str, Any]) -> None:
    """One line, so that a script can read it while the service runs."""
    sys.stdout.write(json.dumps({**data, "pid": os.getpid()}, ensure_ascii=False) + "\n")
    sys.stdout.flush()
