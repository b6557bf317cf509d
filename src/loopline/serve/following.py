"""Names that are followed: who should answer now, and who is tried beside it as a shadow.

Both are looked up again and again while the service runs, so a promotion made anywhere reaches it,
and so does a challenger that the loop wants to see answer live requests. A shadow that is followed
answers nobody, whatever share a canary of this service has; what it did is told as the event
``serve.shadowed``, which counts from the trial's begin, so the newest of each trial is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from loopline.errors import DataError
from loopline.release.bundle import Release
from loopline.serve.deployment import Deployment
from loopline.serve.edge import LOGGER, attempt
from loopline.serve.model import ServedModel
from loopline.serve.rollout import NOTHING, Trial
from loopline.serve.service import Service

Newest = Callable[[], tuple[str, Callable[[], Release]]]
"""Gives the id of the release that a name should have now, and what loads it."""
Shadowing = Callable[[], tuple[str, Callable[[], Release]] | None]
"""Gives the id of the release that is to be tried beside a name now, and what loads it, or None."""
SHADOWED = "serve.shadowed"


class Follower:
    """Keeps a service as the aliases say. Lives in the event loop; what is slow goes to a thread.

    Args:
        service: whose models are replaced.
        newest: by name, what tells which release it should have.
        shadows: by name, what tells which release is to be tried beside it.
    """

    def __init__(
        self, service: Service, newest: Mapping[str, Newest], shadows: Mapping[str, Shadowing]
    ) -> None:
        self._service = service
        self._newest, self._shadows = dict(newest), dict(shadows)
        self._failed: dict[str, str] = {}
        self._begun: dict[str, tuple[str, Trial | None]] = {}
        self._told: dict[str, dict[str, Any]] = {}

    @property
    def follows(self) -> bool:
        """Whether there is anything to look up."""
        return bool(self._newest or self._shadows)

    async def look(self) -> None:
        """Look once, and do what has become due."""
        for name, newest in self._newest.items():
            found, error = await self._in_thread(newest)
            if found is None:
                LOGGER.warning("It cannot be looked up what %s stands for: %s", name, error)
                continue
            release_id, load = found
            if release_id in (self._deployment(name).champion.id, self._failed.get(name)):
                continue
            if not await self._service.swap(name, load):
                self._failed[name] = release_id  # not again until it stands for another one
        for name, shadowing in self._shadows.items():
            found, error = await self._in_thread(shadowing)
            if error is None:
                await self._try(name, found)
        self.report()

    def report(self) -> None:
        """Tell what shadows that are followed have done since it was told last."""
        for name, (_, trial) in self._begun.items():
            if trial is None:
                continue
            told = {
                "name": name, "release": trial.challenger.id, "beside": trial.champion.id,
                "trial": trial.id, **trial.counts(),
            }  # fmt: skip
            if told != self._told.get(name) and (told["requests"] or told["failed"]):
                self._told[name] = told
                self._service.tell(SHADOWED, told)

    async def _try(self, name: str, found: tuple[str, Callable[[], Release]] | None) -> None:
        """Begin, go on with, or end the trial of a shadow; a trial of the service's own stays."""
        deployment = self._deployment(name)
        begun, trial = self._begun.get(name, ("", None))
        if deployment.trial is not None and deployment.trial is not trial:
            if trial is None or deployment.trial.challenger is not trial.challenger:
                return
            trial = deployment.trial  # a new champion came beside it, and it began anew
            self._begun[name] = (begun, trial)
        wanted = "" if found is None else found[0]
        if wanted == begun:
            return
        self.report()
        if trial is not None and deployment.trial is trial:
            deployment.end_trial()
        self._begun[name] = (wanted, None)  # whatever comes of it, it is not begun again and again
        if found is None or wanted == deployment.champion.id:
            return
        load = found[1]
        model, error = await self._in_thread(lambda: self._service.load(load(), name))
        if model is not None and not _alike(model, deployment.champion):
            model, error = None, DataError("It predicts something else than the champion.")
        if model is None:
            LOGGER.warning("%s cannot be tried beside %s: %s", wanted, name, error)
            nothing = {**NOTHING, "failed": 1, "failure": type(error).__name__}
            told = {"name": name, "release": wanted, "beside": deployment.champion.id}
            self._service.tell(SHADOWED, {**told, "trial": "", **nothing})
            return
        self._begun[name] = (wanted, deployment.shadow(model))

    def _deployment(self, name: str) -> Deployment:
        return self._service.deployments[name]

    async def _in_thread(self, call: Callable[[], Any]) -> tuple[Any, Exception | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._service.loader, attempt, call)


def _alike(model: ServedModel, champion: ServedModel) -> bool:
    return (model.classes, model.release.task) == (champion.classes, champion.release.task)
