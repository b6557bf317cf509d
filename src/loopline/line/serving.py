"""Serving from Python and from the command line: settings, models and places put together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loopline.errors import DataError, InputError, NotFoundError, SettingsError
from loopline.line.problems import sentences
from loopline.line.project import Project
from loopline.release.aliases import CHAMPION, SHADOW
from loopline.release.bundle import Release, is_release_folder, load_release
from loopline.serve.following import SHADOWED, Newest, Shadowing
from loopline.serve.server import RunningService, Server, listen
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings
from loopline.store.artifacts import Store

TOKEN_VARIABLE = "LOOPLINE_SERVE_TOKEN"  # noqa: S105  # the variable's name
SERVICE_FOLDER = "service"
_LEDGER_KINDS = ("serve.swapped", "serve.rolled_back", SHADOWED)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def make_serve_settings(
    data: Mapping[str, Any], *, where: str = "", lines: Mapping[str, int] | None = None
) -> ServeSettings:
    """Check plain settings of a service and freeze them.

    Args:
        data: nested mappings, as YAML gives them.
        where: the file's name for messages.
        lines: line number of each dotted key, for messages.

    Raises:
        SettingsError: with every problem at once.

    >>> make_serve_settings({"port": 9000}).port
    9000
    """
    try:
        return ServeSettings.model_validate(dict(data))
    except ValidationError as error:
        raise SettingsError(sentences(error, ServeSettings, lines or {}), where) from None
    except SettingsError as error:
        raise SettingsError(error.problems, where or error.where) from None


def open_service(
    *releases: Release,
    challenger: Release | None = None,
    settings: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    folder: str | Path | None = None,
    token: str | None = None,
) -> RunningService:
    """Serve releases over HTTP from a thread of this process, until closed.

    Answers equal `Release.predict` to the bit. `loopline serve` is the same as a command, with
    worker processes and aliases that are followed.

    Args:
        releases: what to serve, each under its line's name; of several with one name the first
            answers, the others when asked for by version.
        challenger: tried beside the release of its name, or the only one: as a shadow, or with
            ``{"canary": {"share": 0.1}}`` for a share of the requests.
        settings: what the service's settings file may say, as nested mappings.
        store: logs predictions into this store; None logs nothing.
        folder: keeps labels there; by default in the folder of a local store, else nowhere.
        token: what callers must send; needed beyond this machine.

    Returns:
        The running service. `url` is its address, `close` or the end of a ``with`` block ends it.

    Raises:
        SettingsError: wrong settings, all told at once; or no token beyond this machine.
        EnvironmentProblem: the port is taken.
        IntegrityError: a release is damaged.
    """
    chosen = make_serve_settings({"port": 0, **(settings or {})})
    opened = None if store is None else Store.open(store)
    place = state_folder(store, folder)
    refuse_idle(chosen, challenged=challenger is not None)
    if chosen.workers > 1:
        raise SettingsError(
            ["`workers` has no effect in a thread; `loopline serve --workers` starts processes."]
        )
    service = Service(chosen, folder=place, store=opened)
    with service.closed_on_error():
        add_all(service, [(None, release) for release in releases], challenger)
        server = Server(service, token=token)
        return RunningService(server, listen(chosen))


def refuse_idle(settings: ServeSettings, *, challenged: bool) -> None:
    """Refuse settings of a trial where there is no challenger.

    Raises:
        SettingsError: names each of them.
    """
    if not challenged:
        idle = sorted(settings.canary.model_fields_set)
        if idle:
            raise SettingsError(
                [f"`canary.{name}` has no effect without a challenger." for name in idle]
            )


def add_all(
    service: Service,
    releases: Sequence[tuple[str | None, Release]],
    challenger: Release | None,
) -> None:
    """Load releases into a service, and a challenger beside the one that it challenges.

    Raises:
        NotFoundError: nothing to serve, or no model that the challenger could be tried beside.
        DataError: the challenger predicts something else.
    """
    if not releases:
        raise NotFoundError("There is nothing to serve: give at least one release.")
    for name, release in releases:
        service.add(release, name=name)
    if challenger is None:
        return
    names = list(service.deployments)
    name = challenger.name if challenger.name in names else names[0]
    if challenger.name not in names and len(names) > 1:
        raise NotFoundError(
            f"The challenger's line is {challenger.name!r}; served are {', '.join(names)}. "
            "It can only be tried beside a model of its own line."
        )
    deployment = service.deployments[name]
    champion = deployment.champion
    if (challenger.task, challenger.classes) != (champion.task, champion.classes):
        raise DataError(
            f"The challenger predicts {challenger.task} {list(challenger.classes)}, the champion "
            f"{champion.task} {list(champion.classes)}; only like can be tried beside like."
        )
    if challenger.id == champion.id:
        raise DataError("The challenger is the champion itself; name another release.")
    deployment.challenge(service.load(challenger, name))


@dataclass(frozen=True)
class Served:
    """A release to serve, and how to learn of the one that follows it.

    Args:
        name: the name it is served under; None for its line's.
        release: the release.
        newest: looks up what it was named by; None where that never stands for another release.
        shadowing: looks up ``NAME@shadow`` beside ``NAME@champion``; None beside any other.
    """

    name: str | None
    release: Release
    newest: Newest | None = None
    shadowing: Shadowing | None = None


def find_served(which: str, project: Callable[[], Project]) -> Served:
    """A release by its folder, id, line's name, alias or latest; ``NAME=`` in front renames it.

    An alias is followed while the service runs. A line's name or latest is not: what a new run
    made has not been promoted.

    Raises:
        NotFoundError: there is no such release.
    """
    name: str | None = None
    if not is_release_folder(which) and "=" in which:
        name, _, which = which.partition("=")
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no name for a model: use letters, digits, dots, dashes and "
                "underscores, at most 100."
            )
    if is_release_folder(which):
        return Served(name, load_release(which))
    opened = project()
    release = opened.release(which)
    if "@" not in which:
        return Served(name, release)

    def newest() -> tuple[str, Callable[[], Release]]:
        found = opened.release(which)
        return found.id, lambda: found

    line, _, alias = which.rpartition("@")

    def shadowing() -> tuple[str, Callable[[], Release]] | None:
        wanted = opened.aliases.all().get(f"{line}@{SHADOW}")
        return None if wanted is None else (wanted, lambda: opened.release(wanted))

    return Served(name, release, newest, shadowing if alias == CHAMPION else None)


def follow(found: Sequence[Served]) -> dict[str, Newest]:
    """By model name, what looks up the release that its champion was named by."""
    newest: dict[str, Newest | None] = {}
    for served in found:
        newest.setdefault(served.name or served.release.name, served.newest)
    return {name: look for name, look in newest.items() if look is not None}


def shadows(found: Sequence[Served]) -> dict[str, Shadowing]:
    """By model name, what looks up the release that is to be tried beside its champion."""
    looks: dict[str, Shadowing | None] = {}
    for served in found:
        looks.setdefault(served.name or served.release.name, served.shadowing)
    return {name: look for name, look in looks.items() if look is not None}


def noted(project: Project) -> Callable[[str, Mapping[str, Any]], None]:
    """Writes swaps, rollbacks and what shadows did into a project's ledger."""

    def note(kind: str, data: Mapping[str, Any]) -> None:
        if kind in _LEDGER_KINDS:
            project.ledger.append(kind, subject=str(data.get("release") or data["to"]), data=data)

    return note


def state_folder(store: str | Path | None, folder: str | Path | None) -> Path | None:
    """Where labels are kept: the given folder, else in a local store, else nowhere."""
    if folder is not None:
        return Path(folder).expanduser()
    if store is None or "://" in str(store):
        return None
    return Path(store).expanduser() / SERVICE_FOLDER


def read_token(file: Path | None) -> str | None:
    """The token from a file, or from the environment.

    Raises:
        NotFoundError: no such file.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    path = file.expanduser()
    if not path.is_file():
        raise NotFoundError(f"There is no token file {str(file)!r}.")
    return path.read_text(encoding="utf-8").strip()
