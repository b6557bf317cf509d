"""Families whose models are networks: the fit is done once, here, by the engine, for all.

A `NeuralFamily` writes three methods. `learn` fits the preprocessing on the training view and gives
an `Encoder`; `build` makes the network that fits it; `load_encoder` reads a saved encoder. The
encoder turns raw feature columns into plain arrays (`encode`, once a table) and picks the
network's inputs for a batch of rows from them (`collate`, on a thread of its own). Nothing here
imports torch before a network is trained, loaded or asked.

A fit with `FitContext.processes` above 1 writes its arrays to a folder and starts that many
processes of `loopline.models.worker` on it; each of them comes to the same `train_here`. Under
torchrun the processes are there already (`loopline.models.together`).
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import DataError, EnvironmentProblem, IntegrityError
from loopline.features.fit import expect_train_view
from loopline.models.base import Family, FitContext, FittedModel, Floats, Params, Rung
from loopline.models.boosting import Target
from loopline.models.encoder import Arrays, Encoder
from loopline.models.job import TRAINED, Job, JobRows, followed, scaled_target, single, start_bias
from loopline.models.portable import PortableModel
from loopline.models.recipe import NEURAL_DEFAULTS
from loopline.models.table import class_factors, folder_bytes, read_facts, row_weights
from loopline.models.together import announce, num_started
from loopline.seeds import child_seed
from loopline.splits.views import TrainView
from loopline.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from loopline.engine.layout import Layout
    from loopline.engine.run import Run
    from loopline.engine.task import Task as EngineTask

_FORMAT = 1
_BLOCK_ROWS = 16_384
"""Rows that `NeuralModel.predict` encodes at a time."""


class NeuralModel(FittedModel):
    """A fitted encoder with the network that was trained on what it gives."""

    def __init__(
        self,
        *,
        kind: NeuralFamily,
        task: Task,
        num_classes: int,
        params: Mapping[str, Any],
        encoder: Encoder,
        target: Target,
        history: Mapping[str, Any],
        weights: Path | None = None,
        network: nn.Module | None = None,
    ) -> None:
        self.family = kind.name
        self.task = task
        self.num_classes = num_classes
        self.params = dict(params)
        self.encoder = encoder
        self.history = dict(history)
        self._kind, self._target = kind, target
        self._weights, self._given = weights, network
        self._size_bytes = 0 if weights is None else self._bytes_of(weights.parent)

    @cached_property
    def network(self) -> nn.Module:
        """The network, set to answer, on the GPU where there is one.

        Raises:
            IntegrityError: the saved weights do not fit the network.
        """
        import torch

        found = self._given
        if found is None:
            from loopline.nets.training import load_weights

            assert self._weights is not None
            start = np.zeros(max(1, self.num_classes))
            found = self._kind.build(self.encoder, start, self.params, pretrained=False)
            try:
                load_weights(found, self._weights)
            except (RuntimeError, SafetensorError, OSError) as error:
                raise IntegrityError(
                    f"{self._weights} does not hold the weights of this {self.family} network: "
                    f"{str(error).splitlines()[0]}"
                ) from error
        if self._kind.exact:
            return found.double().eval()
        return found.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def quicken(self) -> None:
        """See `FittedModel.quicken`."""
        self._kind.quicken(self.network, self.encoder)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict a table; it is encoded in blocks of rows, so memory stays bounded."""
        shape = (frame.height, self.num_classes) if self.num_classes else (frame.height,)
        out = np.empty(shape)
        for start in range(0, frame.height, _BLOCK_ROWS):
            block = frame.slice(start, _BLOCK_ROWS)
            out[start : start + block.height] = self._predict(block)
        return out if self.num_classes else self._target.restore(out)

    def _predict(self, block: pl.DataFrame) -> Floats:
        from loopline.nets.examples import predict_rows

        arrays = self.encoder.encode(block)
        return predict_rows(
            self.network,
            arrays,
            block.height,
            self.encoder.collate,
            num_classes=self.num_classes,
            batch_size=self._kind.predict_batch,
            lengths=self.encoder.lengths(arrays),
            apart=self.task == "multilabel",
        )

    def portable(self) -> PortableModel:
        """See `FittedModel.portable`."""
        found = self._kind.portable(self.encoder, self.network, self.num_classes, self._target)
        return super().portable() if found is None else found

    def rearranged(
        self, frame: pl.DataFrame, start: int, stop: int
    ) -> Callable[[Sequence[str], NDArray[np.int64]], Floats]:
        """See `FittedModel.rearranged`; rows that only changed their place are known already."""
        plain = super().rearranged(frame, start, stop)
        if self.encoder.columns is None:
            return plain
        return rearranged_rows(self.predict, plain, self.encoder.columns, frame, start, stop)

    @property
    def size_bytes(self) -> int:
        """Bytes of the saved files; known once the model was saved or loaded."""
        return self._size_bytes

    def save(self, folder: Path) -> None:
        """Write `model.json`, `history.json`, `encoder/` and `weights.safetensors`."""
        from safetensors.torch import save_file as save_tensors

        (folder / "encoder").mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        weights = {
            name: (value.float() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
        save_tensors(weights, folder / "weights.safetensors")
        for name, data in (("model", self.facts()), ("history", self.history)):
            (folder / f"{name}.json").write_text(canonical_json(data) + "\n", encoding="utf-8")
        self._size_bytes = self._bytes_of(folder)

    def facts(self) -> dict[str, Any]:
        """What stands in `model.json`."""
        return {
            "format": _FORMAT,
            "family": self.family,
            "task": self.task,
            "num_classes": self.num_classes,
            "params": self.params,
            "target": self._target.to_dict(),
        }

    def _bytes_of(self, folder: Path) -> int:
        return folder_bytes(folder) + self.encoder.elsewhere_bytes


class NeuralFamily(Family):
    """A family whose models are networks, trained by the engine."""

    uses_validation = True
    has_rungs = True
    parallel = True
    exact: ClassVar[bool] = False
    """Whether predictions are computed in 64 bits on the processor, so that a row's answer does not
    depend on its batch; for small networks."""
    predict_batch: ClassVar[int] = 64
    """Rows computed at once when predicting."""
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    makes: ClassVar[type[NeuralModel]] = NeuralModel
    """What a fit gives."""
    range_test: ClassVar[bool] = False
    """Whether a range test finds rates with which a search of the family does well to begin."""

    def quicken(self, network: nn.Module, encoder: Encoder) -> None:
        """Change a network so that it answers single rows sooner; see `FittedModel.quicken`."""

    def portable(
        self, encoder: Encoder, network: nn.Module, num_classes: int, target: Target
    ) -> PortableModel | None:
        """A fitted network as plain data that answers without torch, None where there is none."""
        del encoder, network, num_classes, target
        return None

    @abstractmethod
    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[Encoder, Arrays]:
        """Fit the preprocessing; gives it and the training rows as it encodes them."""

    @abstractmethod
    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> nn.Module:
        """A network that fits the encoder.

        Args:
            encoder: the fitted preprocessing.
            start: first bias of the head, shape (classes,) or (1,).
            params: all parameters.
            pretrained: whether to load pretrained weights; otherwise only the shapes count.
        """

    def start(
        self,
        encoder: Encoder,
        rows: JobRows,
        valid: JobRows | None,
        *,
        task: Task,
        num_classes: int,
        params: dict[str, Any],
        context: FitContext,
    ) -> Floats:
        """The head that training starts from; `params` may be settled on the way.

        Returns:
            A bias, shape (outputs,): the logarithm of the class shares, or 0. Families that know
            better weights of the head give whatever their `build` understands.
        """
        del encoder, valid, task, params, context
        return start_bias(rows.target, rows.weight, num_classes)

    def adapt(self, network: nn.Module, params: Params) -> nn.Module:
        """The network as it is trained, made from the one that `build` gave (default: the same)."""
        del params
        return network

    def plain(self, network: nn.Module, params: Params) -> nn.Module:
        """The network as `build` makes it, from the trained one (default: the same)."""
        del params
        return network

    @abstractmethod
    def load_encoder(self, folder: Path) -> Encoder:
        """Read what `Encoder.save` wrote."""

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Fit the preprocessing, then train the network.

        Raises:
            SettingsError: an unknown parameter, a value outside its range, or settings that do not
                fit each other.
            DataError: no rows, weights that weigh nothing, or a loss that is not finite.
            EnvironmentProblem: a package is missing, or memory does not suffice.
        """
        require_packages(self.name, self.packages)
        from loopline.nets.training import LOG

        encoder, target, job = self._job(train, valid, params, context)
        if context.rung is not None and not job.num_classes:
            context = replace(context, rung=_restoring(context.rung, target))
        with _folder(context.folder) as folder:
            trained = self._train(job, encoder, folder, context)
            network = self._trained_network(encoder, job, folder)
            log = (folder / LOG).read_text(encoding="utf-8") if (folder / LOG).exists() else ""
        model = self.makes(
            kind=self,
            task=train.schema.task,
            num_classes=job.num_classes,
            params={**job.params, "epochs": trained["epochs"]},
            encoder=encoder,
            target=target,
            history=trained,
            network=network,
        )
        model.log = log
        return model

    def prepared(self, train: TrainView, params: Params, context: FitContext) -> Run:
        """A fit in this process, made ready and not begun: what the advice on settings looks at.

        Raises:
            As `fit`.
        """
        from loopline.engine.layout import Layout

        require_packages(self.name, self.packages)
        encoder, _, job = self._job(train, None, params, context)
        return self._run(job, encoder, None, Layout.open("single"), context)

    def _job(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> tuple[Encoder, Target, Job]:
        """Preprocessing and rows of one fit."""
        expect_train_view(train)
        task, num_classes = train.schema.task, train.schema.num_classes
        settings = self.resolve(params, task, train.num_rows)
        encoder, arrays = self.learn(train, settings, context)
        factors = class_factors(train.target, train.weight, num_classes, context.class_weight)
        usable = told_usable(encoder.usable(arrays), train, context, encoder.lacks)
        weight = row_weights(train.target, usable, factors)
        target = Target() if num_classes else Target.fitted(train.target, weight)
        held = None
        if valid is not None and valid.num_rows and settings["patience"]:
            held = JobRows.of(encoder.encode(valid.frame()), valid, target, factors, num_classes)
        rows = JobRows(arrays, scaled_target(train, target, num_classes), single(weight))
        job = Job(
            family=self.name,
            params=settings,
            num_classes=num_classes,
            seed=context.seed,
            threads=context.threads,
            digests=dict(context.digests),
            boards=dict(context.boards),
            train=rows,
            valid=held,
            start=self.start(
                encoder,
                rows,
                held,
                task=task,
                num_classes=num_classes,
                params=settings,
                context=context,
            ),
        )
        return encoder, target, job

    def _train(
        self, job: Job, encoder: Encoder, folder: Path, context: FitContext
    ) -> dict[str, Any]:
        from loopline.engine.layout import Layout

        if num_started() > 1:
            job.save(folder, encoder)
            place = announce(folder, context.layout)
            found_here = self.train_here(job, encoder, folder, place, context)
            place.barrier()
            return found_here
        if context.processes > 1:
            from loopline.engine.tools.launch import launch
            from loopline.nets.training import LOG

            job.save(folder, encoder)
            command = ["-m", "loopline.models.worker", str(folder), context.layout]
            with followed(folder / LOG, self.num_steps(job, encoder), context.reporter):
                try:
                    launch(command, context.processes)
                except EnvironmentProblem as problem:
                    if not (folder / TRAINED).exists():
                        raise
                    context.reporter.note(
                        f"A process ended badly after the result was written whole, so it counts: "
                        f"{problem}"
                    )
            found: dict[str, Any] = json.loads((folder / TRAINED).read_text(encoding="utf-8"))
            return found
        return self.train_here(job, encoder, folder, Layout.open("single"), context)

    def num_steps(self, job: Job, encoder: Encoder) -> int:
        """Steps of a whole fit, for those who watch it."""
        del encoder
        return job.num_steps

    def train_here(
        self, job: Job, encoder: Encoder, folder: Path, layout: Layout, context: FitContext
    ) -> dict[str, Any]:
        """Train on this process's part of the rows and write the weights into a folder."""
        from loopline.nets.training import fit_network

        return fit_network(self._run(job, encoder, folder, layout, context), folder).to_dict()

    def _run(
        self, job: Job, encoder: Encoder, folder: Path | None, layout: Layout, context: FitContext
    ) -> Run:
        import torch

        from loopline.nets.training import prepare_fit

        torch.set_num_threads(job.threads)
        layout.seed(child_seed(job.seed, "network"))
        network = self.build(encoder, job.start, job.params, pretrained=True)
        network = self.adapt(network, job.params)
        return prepare_fit(
            network,
            self.examples(job, encoder),
            {**NEURAL_DEFAULTS, **job.params},
            seed=child_seed(job.seed, "engine"),
            layout=layout,
            folder=folder,
            digests=job.digests,
            boards=job.boards,
            reporter=context.reporter,
            rung=context.rung,
        )

    def examples(self, job: Job, encoder: Encoder) -> EngineTask:
        """The rows of a fit as the engine wants them; families that train otherwise override."""
        from loopline.nets.examples import Examples, LabelExamples

        return (LabelExamples if job.train.target.ndim == 2 else Examples)(
            job.train.labelled(encoder),
            None if job.valid is None else job.valid.labelled(encoder),
            encoder.collate,
            num_classes=job.num_classes,
            smoothing=float(job.params["label_smoothing"]),
            focal=float(job.params["focal"]),
        )

    def _trained_network(self, encoder: Encoder, job: Job, folder: Path) -> nn.Module:
        from loopline.nets.training import WEIGHTS, load_weights

        network = self.build(encoder, job.start, job.params, pretrained=False)
        network = load_weights(self.adapt(network, job.params), folder / WEIGHTS)
        return self.plain(network, job.params)

    def load(self, folder: Path) -> FittedModel:
        """Read a saved model.

        Raises:
            IntegrityError: the folder does not hold a model of this family.
            EnvironmentProblem: a newer Loopline wrote it, or a package is missing.
        """
        require_packages(self.name, self.packages)
        facts = read_facts(folder, self.name)
        return self.makes(
            kind=self,
            task=facts["task"],
            num_classes=facts["num_classes"],
            params=facts["params"],
            encoder=self.load_encoder(folder / "encoder"),
            target=Target.from_dict(facts["target"]),
            history=json.loads((folder / "history.json").read_text(encoding="utf-8")),
            weights=self.saved_weights(folder),
        )

    def saved_weights(self, folder: Path) -> Path:
        """Where a saved model has its weights."""
        return folder / "weights.safetensors"

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The median of the passes that the folds found best."""
        passes = float(np.median([entry["epochs"] for entry in fitted]))
        return {**fitted[0], "epochs": passes}

    def versions(self) -> dict[str, str]:
        """Versions of the packages that compute."""
        from importlib.metadata import version

        require_packages(self.name, self.packages)
        return {name: version(name) for name in self.packages}


def _restoring(rung: Rung, target: Target) -> Rung:
    """A rung that is told scaled values, for one that is told values."""
    return lambda number, scaled: rung(number, target.restore(scaled))


def told_usable(
    usable: NDArray[np.bool_] | None,
    train: TrainView,
    context: FitContext,
    lacks: str = Encoder.lacks,
) -> Floats | None:
    """The rows' weights, 0 for those that cannot be learned from, which are told.

    Raises:
        DataError: no row can be learned from.
    """
    if usable is None or usable.all():
        return train.weight
    if not usable.any():
        raise DataError(f"There is nothing to learn from: all training rows {lacks}.")
    lost = train.positions[~usable]
    shown = ", ".join(f"{row + 1:,}" for row in lost[:5].tolist())
    takes = "takes" if len(lost) == 1 else "take"
    context.reporter.note(
        f"{counted(len(lost), 'training row')} {lacks} and {takes} no part: row {shown}"
        f"{', …' if len(lost) > 5 else ''}."
    )
    weight = np.ones(train.num_rows) if train.weight is None else train.weight
    return np.where(usable, weight, 0.0)


def require_packages(family: str, names: Sequence[str]) -> None:
    """Raise when a package of a neural family is not installed.

    Raises:
        EnvironmentProblem: names the extra to install.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"The {family} family needs {' and '.join(missing)}, not installed here; run "
            "`pip install 'loopline[neural]'`."
        )


def rearranged_rows(
    predict: Callable[[pl.DataFrame], Floats],
    plain: Callable[[Sequence[str], NDArray[np.int64]], Floats],
    reads: Sequence[str],
    frame: pl.DataFrame,
    start: int,
    stop: int,
) -> Callable[[Sequence[str], NDArray[np.int64]], Floats]:
    """`FittedModel.rearranged` of a model that reads few columns and is slow.

    Where all of those columns move together, a row's answer is another row's, and each is computed
    once; where none of them moves, nothing is computed anew.

    Args:
        predict: of the model.
        plain: the answer where some of the columns move.
        reads: the columns that the model reads.
        frame: all rows.
        start: the first row to predict.
        stop: the row after the last.
    """
    answers: dict[int, Floats] = {}

    def of_rows(rows: NDArray[np.int64]) -> Floats:
        missing = [row for row in np.unique(rows).tolist() if row not in answers]
        if missing:
            answers.update(zip(missing, predict(frame[missing]), strict=True))
        return np.array([answers[row] for row in rows.tolist()])

    def answer(columns: Sequence[str], order: NDArray[np.int64]) -> Floats:
        moved = set(reads) & set(columns)
        if moved and moved != set(reads):
            return plain(columns, order)
        return of_rows(order[start:stop] if moved else np.arange(start, stop))

    return answer


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Where checkpoints go: the folder that survives a kill, or one for this fit alone."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="loopline-fit-") as name:
        yield Path(name)
