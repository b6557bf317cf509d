"""The service without its protocol: names, feedback, log and metrics behind plain methods."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopline.cores import num_cores
from loopline.errors import EnvironmentProblem, InputError
from loopline.release.bundle import Release
from loopline.serve.deployment import Deployment
from loopline.serve.door import refuse_unknown
from loopline.serve.edge import attempt
from loopline.serve.feedback import Feedback, Label
from loopline.serve.ids import RequestIds, load_key
from loopline.serve.keeping import Shared, Tell
from loopline.serve.log import PredictionLog
from loopline.serve.metrics import Metrics
from loopline.serve.model import ServedModel
from loopline.serve.reply import Refusal
from loopline.serve.settings import ServeSettings
from loopline.store.artifacts import Store

LOGGER = logging.getLogger("loopline.serve")
_LABELS_AT_ONCE = 10_000
_USUAL = ("serve.swapped", "serve.shadowed")


class Service:
    """Several named models with their log, labels and counters.

    Args:
        settings: the service's settings.
        folder: where labels and keys are kept; None keeps none, and `/feedback` says so.
        store: where predictions are logged; None logs nothing.
        tell: hears what happened (swaps, rollbacks, flags, a log that fails).

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """

    def __init__(
        self,
        settings: ServeSettings,
        *,
        folder: Path | None = None,
        store: Store | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.deployments: dict[str, Deployment] = {}
        self.draining = False
        self.summed: Callable[[], Metrics] | None = None
        self._listeners: list[Tell] = [] if tell is None else [tell]
        self.executor = ThreadPoolExecutor(max(2, num_cores()), thread_name_prefix="model")
        # always the same thread: each one that loads a model keeps memory of the system's for it
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._notes = ThreadPoolExecutor(1, thread_name_prefix="notes")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        key = load_key(folder) if folder is not None else None
        self.ids = RequestIds(key or RequestIds.random_key())
        self._feedback = None if folder is None else Feedback(folder)
        self.log = None
        if store is not None and settings.log.enabled:
            self.log = PredictionLog(
                store, settings.log, key or RequestIds.random_key(), self.metrics, self.tell
            )
        self._shared = Shared(settings, self.metrics, self.ids, self.log, self.executor, self.tell)

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Say what happened on the log, and to whoever listens."""
        level = logging.INFO if kind in _USUAL else logging.WARNING
        LOGGER.log(level, "%s %s", kind, dict(data))
        for listener in self._listeners:
            self._notes.submit(self._note, listener, kind, dict(data))

    def listen(self, listener: Tell) -> None:
        """Tell one more; each is told in a thread, for a ledger may make it wait."""
        self._listeners.append(listener)

    @staticmethod
    def _note(listener: Tell, kind: str, data: Mapping[str, Any]) -> None:
        _, error = attempt(lambda: listener(kind, data))
        if error is not None:
            LOGGER.warning("%s could not be noted: %s", kind, error)

    def add(self, release: Release, *, name: str | None = None) -> Deployment:
        """Serve a release: the first of a name answers, others of the name by their version.

        Raises:
            IntegrityError: the release is damaged.
            InputError: the release is served already.
        """
        model = self.load(release, name)
        found = self.deployments.get(model.name)
        if found is None:
            found = self.deployments[model.name] = Deployment(model, self._shared)
        elif model.version in found.versions:
            raise InputError(f"{model.id} is named twice for {model.name!r}; name it once.")
        else:
            found.versions[model.version] = model
        return found

    def load(self, release: Release, name: str | None = None) -> ServedModel:
        """Load, prove and warm up a release, without serving it yet."""
        return ServedModel(release, self.settings.input, name)

    def check(self) -> None:
        """Refuse settings that name no column of any model.

        Raises:
            SettingsError: a column that no model reads.
        """
        served = [m for d in self.deployments.values() for m in d.versions.values()]
        settings = self.settings
        named = {
            "input.columns": settings.input.columns,
            "log.hash": settings.log.hash,
            "log.leave_out": settings.log.leave_out,
        }
        refuse_unknown((model.release.contract for model in served), named)

    def find(self, name: str | None) -> Deployment:
        """The deployment of a name; the only one where none is given.

        Raises:
            Refusal: 404 or, for several models and no name, 400.
        """
        if name is None:
            if len(self.deployments) != 1:
                raise Refusal(
                    400,
                    "Several models are served; name one in the path, as in "
                    f"/predict/{next(iter(self.deployments))}.",
                )
            return next(iter(self.deployments.values()))
        found = self.deployments.get(name)
        if found is None:
            raise Refusal(
                404, f"No model of this name is served; there is {', '.join(self.deployments)}."
            )
        return found

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return bool(self.deployments) and not self.draining

    async def swap(self, name: str, load: Callable[[], Release]) -> bool:
        """Replace a name's champion while it serves; the old one stays if the new one fails.

        Args:
            name: the name.
            load: gives the release; called in a thread, as is all that can be slow.

        Returns:
            Whether the new model answers now.
        """
        deployment = self.deployments[name]
        loop = asyncio.get_running_loop()

        def prepare() -> ServedModel:
            release = load()
            return self.load(release, name)

        model, error = await loop.run_in_executor(self.loader, attempt, prepare)
        if model is None:
            self.metrics.add("swaps_total", (("model", name), ("outcome", "failed")))
            self.tell("serve.swap_failed", {"name": name, "message": str(error)})
            return False
        deployment.swap(model)
        return True

    async def take_feedback(self, sent: Sequence[Any]) -> list[str]:
        """Keep labels of answered rows; returns what became of each.

        Args:
            sent: mappings with ``id``, ``label`` and, where the request had several rows, ``row``.

        Raises:
            Refusal: 404 for an id that was never given, 422 for a wrong row or label, 503 when
                labels are not kept here, 507 when the disk is full. Nothing was kept then.
        """
        if self._feedback is None:
            raise Refusal(
                503, "Labels are not kept: the service was started without a folder for them."
            )
        if not 1 <= len(sent) <= _LABELS_AT_ONCE:
            raise Refusal(422, f"Send 1 to {_LABELS_AT_ONCE:,} labels at once, got {len(sent):,}.")
        labels = [self._label(one) for one in sent]
        loop = asyncio.get_running_loop()
        try:
            became = await loop.run_in_executor(self._writer, self._feedback.add, labels)
        except EnvironmentProblem as error:
            self.metrics.add("feedback_total", (("outcome", "failed"),), len(labels))
            self.tell("feedback.failed", {"message": str(error)})
            status = 507 if "full" in str(error) else 503
            raise Refusal(
                status, "The labels could not be kept; nothing was taken. Send them again later."
            ) from error
        for label, outcome in zip(labels, became, strict=True):
            self.metrics.add("feedback_total", (("outcome", outcome),))
            for deployment in self.deployments.values():
                if outcome != "known" and label.version in deployment.versions:
                    deployment.labelled(label.request_id, label.row, label.label)
        return became

    def _label(self, sent: Any) -> Label:
        if not isinstance(sent, dict) or not {"id", "label"} <= set(sent) <= {"id", "label", "row"}:
            raise Refusal(
                422, 'A label is sent as {"id": "…", "label": …}, with "row" for one of several.'
            )
        known = self.ids.read(sent["id"]) if isinstance(sent["id"], str) else None
        if known is None:
            self.metrics.add("feedback_total", (("outcome", "unknown"),))
            raise Refusal(404, "No answer of this service has this id; nothing was taken.")
        row = sent.get("row", 0)
        if type(row) is not int or not 0 <= row < known.num_rows:
            raise Refusal(422, f"That request had {known.num_rows} rows, from 0; `row` is {row!r}.")
        label = sent["label"]
        for deployment in self.deployments.values():
            if known.version in deployment.versions:
                label = deployment.versions[known.version].check_label(label)
                break
        if not isinstance(label, (str, int, float, bool, list)):
            raise Refusal(422, "A label is text, a number, a truth value, or a list of labels.")
        return Label(sent["id"], row, known.version, label)

    def take_stock(self) -> None:
        """Set the gauges that nobody sets as things happen."""
        self.metrics.set("ready", int(self.ready))
        if self.log is not None:
            self.metrics.set("log_pending_rows", self.log.pending)

    def metrics_text(self) -> str:
        """All counters, as Prometheus reads them."""
        self.take_stock()
        return (self.metrics if self.summed is None else self.summed()).text()

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the service where its start fails, so that no thread and no file stays open."""
        try:
            yield
        except BaseException:
            asyncio.run(self.close())
            raise

    async def close(self) -> None:
        """Finish what is under way and write what waits."""
        for deployment in self.deployments.values():
            await deployment.close()
        loop = asyncio.get_running_loop()
        if self.log is not None:
            await loop.run_in_executor(None, self.log.close)
        self._writer.shutdown()
        if self._feedback is not None:
            self._feedback.close()
        self.executor.shutdown()
        self.loader.shutdown()
        self._notes.shutdown()
