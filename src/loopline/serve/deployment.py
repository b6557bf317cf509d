"""One name of the service: the versions behind it, who answers, and how they are replaced.

A swap is one assignment: requests that began with the old model end with it, the next ones begin
with the new one, which was loaded, proved and warmed up before. A model that fails at any of these
is never assigned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import polars as pl

from loopline.errors import DataError
from loopline.features.contract import Remark
from loopline.models.base import Floats
from loopline.serve.edge import attempt
from loopline.serve.keeping import Keeping, Shared
from loopline.serve.lane import Lane
from loopline.serve.model import Answer, ServedModel
from loopline.serve.reply import Refusal, as_json, told_remarks
from loopline.serve.rollout import Trial
from loopline.serve.settings import CanarySettings

LONG_SECONDS = 0.002
"""A table that takes longer goes to a thread."""
SHADOW_WAITING = 64
"""Requests that wait for a shadow; more are let go and counted."""


class Deployment:
    """A name with its champion, its versions, and perhaps a challenger."""

    def __init__(self, champion: ServedModel, shared: Shared) -> None:
        self.name = champion.name
        self.champion = champion
        self.trial: Trial | None = None
        self.versions: dict[str, ServedModel] = {champion.version: champion}
        self._shared = shared
        self._lanes: dict[str, Lane] = {}
        self._keeping = Keeping(champion.name, shared)
        self._shadowed = 0
        self._told: tuple[tuple[Remark, ...], orjson.Fragment] = ((), orjson.Fragment(b"[]"))

    def told(self, remarks: tuple[Remark, ...]) -> orjson.Fragment:
        """Remarks as JSON; the flags of a window, which stand on every answer, are told once."""
        if remarks is not self._told[0]:
            self._told = remarks, orjson.Fragment(as_json(told_remarks(remarks)))
        return self._told[1]

    def version(self, version: str | None) -> ServedModel:
        """The model of a version, or the champion.

        Raises:
            Refusal: 404; there is no such version.
        """
        if version is None:
            return self.champion
        found = self.versions.get(version)
        if found is None:
            raise Refusal(
                404, f"{self.name!r} has no such version; it has {', '.join(self.versions)}."
            )
        return found

    def swap(self, model: ServedModel) -> None:
        """Let another model answer from the next request on.

        A trial begins anew beside the new champion; it ends where the challenger has become that.
        """
        before, trial = self.champion, self.trial
        self.versions[model.version] = model
        self.champion = model
        self.trial = None
        if before.version != model.version:
            self._forget(before.version)
        if trial is not None and trial.challenger.version != model.version:
            if trial.challenger.classes == model.classes:
                self.challenge(trial.challenger, trial.settings)
            else:
                self._forget(trial.challenger.version)
        self._shared.metrics.add("swaps_total", (("model", self.name), ("outcome", "done")))
        self._shared.tell("serve.swapped", {"name": self.name, "from": before.id, "to": model.id})

    def challenge(self, model: ServedModel, settings: CanarySettings | None = None) -> Trial:
        """Begin a trial of a model beside the champion, by default with the service's settings."""
        self.versions[model.version] = model
        self.trial = Trial(self.champion, model, settings or self._shared.settings.canary)
        return self.trial

    def shadow(self, model: ServedModel) -> Trial:
        """Begin a trial in which no caller ever gets the challenger's answer."""
        return self.challenge(model, self._shared.settings.canary.model_copy(update={"share": 0.0}))

    def end_trial(self) -> ServedModel:
        """End the trial: the champion answers everything. Returns who was tried."""
        assert self.trial is not None
        challenger = self.trial.challenger
        self.trial = None
        if challenger.version != self.champion.version:
            self._forget(challenger.version)
        return challenger

    def withdraw(self, reason: str) -> None:
        """End the trial for a reason that speaks against the challenger, and tell it."""
        challenger = self.end_trial()
        labels = (("model", self.name), ("reason", reason.partition(":")[0]))
        self._shared.metrics.add("rollbacks_total", labels)
        self._shared.tell(
            "serve.rolled_back", {"name": self.name, "release": challenger.id, "reason": reason}
        )

    def _forget(self, version: str) -> None:
        self.versions.pop(version, None)
        self._lanes.pop(version, None)
        self._keeping.forget(version)

    def answers_inline(self) -> bool:
        """Whether one row may be answered at once, in the event loop."""
        trial = self.trial
        return not self.champion.heavy and (
            trial is None or trial.shadow or not trial.challenger.heavy
        )

    def answer_row(
        self, row: Mapping[str, Any], body: bytes | None = None
    ) -> tuple[str, ServedModel, Floats, tuple[Remark, ...]]:
        """Answer one row at once: request id, who answered, raw prediction, remarks.

        Args:
            row: the row.
            body: the JSON that said it, if any; the log may keep it in the row's place.

        Raises:
            DataError: the row breaks the contract or a policy.
        """
        model, role, trial = self._chosen(None)
        start = time.perf_counter()
        if role == "challenger":
            assert trial is not None
            found, error = attempt(lambda: model.answer_row(row))
            if found is None:
                model, role = self.champion, "champion"
                found = model.answer_row(row)  # first: where the rows are at fault, this tells it
                self._challenger_failed(trial, error)
        else:
            found = model.answer_row(row)
        raw, checked, remarks, usual = found
        if body is not None and not (usual and model.bodies.say(body, row)):
            body = None
        request_id = self._shared.ids.make(model.version, 1)
        if trial is not None:
            self._tried(trial, role, request_id, raw, time.perf_counter() - start)
            if trial.shadow:
                self._shadow(trial, request_id, row, raw)
        return (
            request_id,
            model,
            raw,
            self._keeping.kept(model, role, request_id, checked, raw, remarks, body),
        )

    async def answer_frame(
        self, frame: pl.DataFrame, version: str | None = None
    ) -> tuple[str, ServedModel, Answer]:
        """Answer a table: request id, who answered, and the answer.

        Raises:
            DataError: the table breaks the contract or a policy.
            Refusal: there is no such version, or too many rows wait.
        """
        model, role, trial = self._chosen(version)
        start = time.perf_counter()
        if role == "challenger":
            assert trial is not None
            work = asyncio.ensure_future(self._answer(model, frame))
            await asyncio.wait([work])
            if (error := work.exception()) is not None:
                model, role = self.champion, "champion"
                answer = await self._answer(model, frame)
                self._challenger_failed(trial, error)
            else:
                answer = work.result()
        else:
            answer = await self._answer(model, frame)
        request_id = self._shared.ids.make(model.version, frame.height)
        if trial is not None:
            seconds = (time.perf_counter() - start) / max(1, frame.height)
            self._tried(trial, role, request_id, answer.raw, seconds)
            if trial.shadow:
                self._shadow(trial, request_id, frame, answer.raw)
        remarks = self._keeping.kept(
            model, role, request_id, answer.checked, answer.raw, answer.remarks
        )
        return request_id, model, Answer(answer.raw, answer.checked, remarks)

    async def close(self) -> None:
        """Wait for shadows and windows under way."""
        await self._keeping.close()

    def _chosen(self, version: str | None) -> tuple[ServedModel, str, Trial | None]:
        trial = self.trial
        if version is not None:
            model = self.version(version)
            return model, "champion" if model is self.champion else "version", None
        if trial is None or trial.shadow or not trial.draws_challenger():
            return self.champion, "champion", trial
        return trial.challenger, "challenger", trial

    async def _answer(self, model: ServedModel, frame: pl.DataFrame) -> Answer:
        if not model.heavy and frame.height * model.row_seconds < LONG_SECONDS:
            return model.answer_frame(frame)
        loop = asyncio.get_running_loop()
        checked, remarks = await loop.run_in_executor(
            self._shared.executor, model.door.frame, frame
        )
        return Answer(await self._lane(model).predict(checked), checked, remarks)

    def _lane(self, model: ServedModel) -> Lane:
        lane = self._lanes.get(model.version)
        if lane is None:
            limits, batch_rows = self._shared.settings.limits, self._shared.settings.batch_rows
            lane = self._lanes[model.version] = Lane(
                model.release.raw,
                self._shared.executor,
                batch_rows=batch_rows if model.heavy else limits.rows,
                max_rows=limits.rows,
            )
        return lane

    def _challenger_failed(self, trial: Trial, error: BaseException | None) -> None:
        """Rows that the champion answers and the challenger does not speak against it."""
        if isinstance(error, Refusal):
            return
        trial.failed("challenger", error)
        self._shared.metrics.add("challenger_failures_total", (("model", self.name),))
        self._settle(trial)

    def _tried(self, trial: Trial, role: str, request_id: str, raw: Floats, seconds: float) -> None:
        trial.answered(role, request_id, raw, seconds)
        self._settle(trial)

    def _settle(self, trial: Trial) -> None:
        reason = trial.verdict() if trial is self.trial and not trial.shadow else None
        if reason is not None:
            self.withdraw(reason)

    def labelled(self, request_id: str, row: int, label: Any) -> None:
        """Tell the trial, if there is one, what was true of an answered row."""
        trial = self.trial
        if trial is None or self.champion.several:
            return
        try:
            label = self.champion.check_label(label)
        except DataError:
            return
        trial.labelled(request_id, row, label)
        reason = trial.verdict_on_quality()
        if reason is not None:
            self.withdraw(reason)

    def _shadow(
        self, trial: Trial, request_id: str, rows: Mapping[str, Any] | pl.DataFrame, raw: Floats
    ) -> None:
        labels = (("model", self.name), ("version", trial.challenger.version))
        metrics = self._shared.metrics
        count = rows.height if isinstance(rows, pl.DataFrame) else 1
        if self._shadowed >= SHADOW_WAITING:
            trial.dropped += 1
            metrics.add("shadow_dropped_total", labels, count)
            return
        self._shadowed += 1

        def work() -> tuple[float, _Found | None, Exception | None]:
            start = time.perf_counter()
            found, error = attempt(lambda: _answered(trial.challenger, rows))
            return (time.perf_counter() - start) / max(1, count), found, error

        def done(result: tuple[float, _Found | None, Exception | None]) -> None:
            self._shadowed -= 1
            seconds, found, error = result
            if found is None:
                trial.failed("challenger", error)
                metrics.add("shadow_failures_total", labels, count)
                return
            theirs, checked, remarks = found
            trial.answered("challenger", request_id, theirs, seconds)
            metrics.add("shadow_rows_total", labels, count)
            differing = _num_differing(trial, raw, theirs)
            metrics.add("shadow_differs_total", labels, differing)
            trial.rows += count
            trial.differing += differing
            if self._shared.log is not None:
                self._shared.log.add(
                    trial.challenger, "shadow", request_id, checked, theirs, remarks
                )

        self._keeping.later(work, done)


_Found = tuple[Floats, Mapping[str, Any] | pl.DataFrame, tuple[Remark, ...]]


def _answered(model: ServedModel, rows: Mapping[str, Any] | pl.DataFrame) -> _Found:
    if isinstance(rows, pl.DataFrame):
        answer = model.answer_frame(rows)
        return answer.raw, answer.checked, answer.remarks
    return model.answer_row(rows)[:3]


def _num_differing(trial: Trial, ours: Floats, theirs: Floats) -> int:
    """Rows whose prediction is another one: another class, or a value off by 1e-6 of its size."""
    champion, challenger = trial.champion, trial.challenger
    if champion.classes != challenger.classes:
        return int(np.atleast_1d(ours).shape[0])
    if not champion.classes:
        return int((~np.isclose(ours, theirs, rtol=1e-6)).sum())
    a, b = np.atleast_2d(ours), np.atleast_2d(theirs)
    differ = champion.release.codes(a) != challenger.release.codes(b)
    return int(differ.reshape(len(differ), -1).any(axis=1).sum())
