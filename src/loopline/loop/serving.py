"""The champion of a line, served from a thread beside its controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.line.project import Project
from loopline.line.serving import (
    add_all,
    find_served,
    follow,
    make_serve_settings,
    noted,
    read_token,
    shadows,
    state_folder,
)
from loopline.release.aliases import CHAMPION
from loopline.serve.server import RunningService, Server, listen
from loopline.serve.service import Service


def serve_champion(
    project: Project, name: str, settings: Mapping[str, Any], folder: Path | None = None
) -> RunningService:
    """Serve ``NAME@champion`` over HTTP, and whatever becomes champion after it.

    Args:
        project: where the releases are; predictions are logged into its store.
        name: the line's name.
        settings: what the service's settings file may say, as nested mappings.
        folder: where labels are kept (default: in a local store).

    Raises:
        NotFoundError: the line has no champion.
        EnvironmentProblem: the port is taken.
    """
    found = find_served(f"{name}@{CHAMPION}", lambda: project)
    service = Service(
        make_serve_settings(settings),
        folder=state_folder(project.local_folder, folder),
        store=project.store,
        tell=noted(project),
    )
    with service.closed_on_error():
        add_all(service, [(found.name, found.release)], None)
        server = Server(
            service, token=read_token(None), newest=follow([found]), shadows=shadows([found])
        )
        return RunningService(server, listen(service.settings))
