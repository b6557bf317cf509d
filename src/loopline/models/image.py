"""Networks for images (extras `loopline[images,neural]`): a small one, or a pretrained one.

`model: small` is a residual network that is trained from nothing on pictures of at most 64 points a
side. A Hugging Face id or a local folder of a ResNet, a ViT or another image classifier is
fine-tuned (`tune: full`), or gives features for a linear model (`tune: head`). "auto" is "small":
nothing is downloaded unless it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import ColumnType, Task
from loopline.errors import DataError, SettingsError
from loopline.features.base import Output
from loopline.features.fit import expect_train_view
from loopline.features.rows import ArrayRows
from loopline.models.base import FitContext, FittedModel, Floats, Params
from loopline.models.boosting import Target
from loopline.models.encoder import Arrays, Encoder
from loopline.models.image_body import SMALL, image_body, learn_images
from loopline.models.image_encoder import ImageEncoder
from loopline.models.job import Job, start_bias
from loopline.models.linear import Linear
from loopline.models.neural import NeuralFamily, NeuralModel, require_packages, told_usable
from loopline.models.parameters import Rule
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import DataFacts, Number, Space
from loopline.models.table import Matrix, class_factors, row_weights
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from torch import nn

    from loopline.engine.task import Task as EngineTask
    from loopline.nets.image import ImageNetwork

_SMALL_RATES = {"learning_rate": 2e-3, "head_rate": 1.0}
_PRETRAINED_RATES = {"learning_rate": 1e-4, "head_rate": 10.0}
"""What "auto" means: a pretrained body moves slowly, its new head does not."""
_FEATURE_BATCH = 64
_TRAINED = frozenset(NEURAL_DEFAULTS) - {"epochs", "batch_size"} | {"augment", "mix", "dropout"}
"""Parameters without an effect where only a head is fitted; passes and batches go by the rows."""


class Image(NeuralFamily):
    """Images of one column, through a network trained from nothing or a pretrained one."""

    name = "image"
    complexity = 50
    reads: frozenset[ColumnType] | None = frozenset({"image"})
    tolerance = 1e-4
    importance_rows = 1_000
    packages = ("torch", "PIL")
    rules: ClassVar[Mapping[str, Rule]] = {
        **NEURAL_RULES,
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "head_rate": Rule("number", low=0.0, above_low=True, words=("auto",)),
        "model": Rule("name"),
        "tune": Rule("choice", words=("full", "head")),
        "size": Rule("integer", low=8, high=4_096, words=("auto",)),
        "augment": Rule("choice", words=("auto", "none", "shift", "photo", "flip")),
        "mix": Rule("choice", words=("none", "mixup", "cutmix")),
        "width": Rule("integer", low=8, high=4_096),
        "depth": Rule("integer", low=1, high=100),
        "dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe, and `model`, `tune`, `size`, `augment`, `mix`, `width`, `depth`, `dropout`.

        A small table is gone over more often, so that a fit makes some two thousand steps.
        "auto" rates are 0.002 for the small network, 0.0001 and ten times that for the head of a
        pretrained one.
        """
        del task
        batch = int(2 ** np.clip(round(np.log2(max(1, num_rows) / 80)), 4, 7))
        epochs = float(np.clip(round(2_000 * batch / max(1, num_rows)), 6, 60))
        return {
            **NEURAL_DEFAULTS,
            "epochs": epochs,
            "batch_size": batch,
            "learning_rate": "auto",
            "head_rate": "auto",
            "weight_decay": 0.05,
            "warmup": 0.1,
            "model": "auto",
            "tune": "full",
            "size": "auto",
            "augment": "auto",
            "mix": "none",
            "width": 32,
            "depth": 1,
            "dropout": 0.1,
        }

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Fit the network, or with `tune: head` a linear model of its features.

        Raises:
            SettingsError: a parameter is wrong, or the pretrained model cannot be used.
            DataError: the table has no column of images or several, or none can be read.
            EnvironmentProblem: a package is missing, or memory does not suffice.
        """
        expect_train_view(train)
        settings = self.resolve(params, train.schema.task, train.num_rows)
        if settings["model"] not in SMALL:
            require_packages(self.name, (*self.packages, "transformers"))
        if settings["tune"] == "full":
            return super().fit(train, valid, settings, context)
        return self._fit_head(train, valid, settings, context)

    def resolve(self, params: Params, task: Task, num_rows: int) -> dict[str, Any]:
        """All parameters of a fit, the rates as numbers.

        Raises:
            SettingsError: as `Family.resolve`, a head alone is to be tuned on a body that has
                learned nothing, or a parameter of training is given though nothing is trained.
        """
        settings = super().resolve(params, task, num_rows)
        small = settings["model"] in SMALL
        if small and settings["tune"] == "head":
            raise SettingsError(
                ["`tune: head` needs a pretrained `model`: the small network has learned nothing."]
            )
        rates = _SMALL_RATES if small else _PRETRAINED_RATES
        told = {name: rate for name, rate in rates.items() if settings[name] == "auto"}
        settings = {**settings, **told}
        if settings["tune"] == "head":
            usual = self.defaults(task, num_rows)
            known = {name: (usual[name], rates.get(name)) for name in _TRAINED}
            given = sorted(name for name in _TRAINED if settings[name] not in known[name])
            if given:
                raise SettingsError(
                    [
                        f"`{name}` of the image family has no effect with `tune: head`; remove "
                        "it, or tune more."
                        for name in given
                    ]
                )
        return settings

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[Encoder, Arrays]:
        """Choose size, channels and augmentation from the training images; decode them."""
        column = image_column(train, context)
        encoder = learn_images(train, column, params, context)
        return encoder, encoder.encode(train.frame([column]))

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> nn.Module:
        """The network of the encoder's images; `pretrained` fills in the weights it comes with."""
        import torch

        from loopline.nets.image import ImageNetwork

        assert isinstance(encoder, ImageEncoder)
        body = image_body(encoder, params, pretrained=pretrained)
        return ImageNetwork(
            body,
            body.width,
            torch.from_numpy(start),
            mean=encoder.mean,
            deviation=encoder.deviation,
            augment=encoder.augment,
            dropout=float(params["dropout"]),
        )

    def examples(self, job: Job, encoder: Encoder) -> EngineTask:
        """The rows of a fit, mixed with each other where `mix` says so."""
        from loopline.nets.examples import Examples
        from loopline.nets.mixing import Mix, MixedExamples

        plain, kind = super().examples(job, encoder), job.params["mix"]
        if kind == "none":
            return plain
        assert isinstance(plain, Examples)
        return MixedExamples(plain, Mix(kind, job.seed))

    def load_encoder(self, folder: Path) -> ImageEncoder:
        """Read a saved encoder."""
        return ImageEncoder.load(folder)

    def versions(self) -> dict[str, str]:
        """Versions of torch and Pillow."""
        from importlib.metadata import version

        require_packages(self.name, self.packages)
        return {name: version(name) for name in ("torch", "pillow")}

    def space(self, facts: DataFacts) -> Space:
        """The learning rate of the small network, then regularisation of whatever is trained."""
        del facts
        trained = {"tune": ("full",)}
        return {
            "learning_rate": Number(3e-4, 1e-2, log=True, when={"tune": ("full",), "model": SMALL}),
            "weight_decay": Number(1e-3, 0.3, log=True, when=trained),
            "dropout": Number(0.0, 0.4, when=trained),
        }

    def sources(self, params: Params) -> dict[str, str]:
        """The digest of the pretrained weights, where there are some."""
        model = params.get("model", SMALL[0])
        if model in SMALL:
            return {}
        from loopline.models.pretrained_images import weights_digest

        require_packages(self.name, (*self.packages, "transformers"))
        return {"model": weights_digest(str(model))}

    def _fit_head(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> NeuralModel:
        """A linear model of the frozen body's features, put into the network's head."""
        from loopline.nets.image import set_head

        task, num_classes = train.schema.task, train.schema.num_classes
        encoder, arrays = self.learn(train, params, context)
        assert isinstance(encoder, ImageEncoder)
        start = np.zeros(max(1, num_classes))
        network = cast("ImageNetwork", self.build(encoder, start, params, pretrained=True))
        values, known = _features(network, encoder, arrays, train.num_rows)
        told_usable(known, train, context)
        center, deviation = values[known].mean(axis=0), values[known].std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        learned = _matrix(train.subset(known), (values[known] - center) / scale, context)
        target = Target() if num_classes else Target.fitted(learned.target, learned.weight)
        learned = replace(learned, target=_scaled(learned.target, target, num_classes))
        held = None
        if valid is not None:
            arrays = encoder.encode(valid.frame([encoder.column]))
            values, known = _features(network, encoder, arrays, valid.num_rows)
            if known.any():
                held = _matrix(valid.subset(known), (values[known] - center) / scale, context)
                held = replace(held, target=_scaled(held.target, target, num_classes))
        linear = Linear()
        fitted = linear.fit_matrix(
            learned,
            held,
            task=task,
            num_classes=num_classes,
            params=linear.resolve({}, task, train.num_rows),
            context=context,
        )
        coefficients, intercepts = fitted.unscaled()
        set_head(
            network,
            coefficients / scale[:, None],
            intercepts - (center / scale) @ coefficients,
            start_bias(learned.target, learned.weight, num_classes),
        )
        return NeuralModel(
            kind=self,
            task=task,
            num_classes=num_classes,
            params={**params, "epochs": float(params["epochs"])},
            encoder=encoder,
            target=target,
            history={"epochs": 0.0, "history": [], "stopped": "", "linear": fitted.params},
            network=network,
        )


def image_column(train: TrainView, context: FitContext, family: str = "image") -> str:
    """The one feature of the type image; tells which features take no part.

    Raises:
        DataError: there is none, or there are several.
    """
    schema = train.schema
    names = [name for name in schema.features if schema.named(name).type == "image"]
    if len(names) != 1:
        told = f"has {', '.join(map(repr, names))}" if names else "has none"
        raise DataError(
            f"The {family} family reads one feature of the type image, and the table {told}. Give "
            "the columns that it shall not read the role ignore, or leave the family out."
        )
    others = [name for name in schema.features if name not in names]
    if others:
        context.reporter.note(
            f"The {family} family reads {names[0]!r} only, and not {', '.join(others[:5])}"
            f"{' …' if len(others) > 5 else ''}."
        )
    return names[0]


def _features(
    network: ImageNetwork, encoder: ImageEncoder, arrays: Arrays, num_rows: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Features of encoded rows (rows, width), and which rows have an image."""
    from loopline.nets.image import features_of

    parts, readable = [], []
    for start in range(0, num_rows, _FEATURE_BATCH):
        rows = np.arange(start, min(start + _FEATURE_BATCH, num_rows))
        batch = encoder.collate(arrays, rows, None)
        parts.append(features_of(network, batch["pixels"]))
        readable.append(batch["readable"])
    return np.concatenate(parts), np.concatenate(readable)


def _matrix(view: TrainView, values: Floats, context: FitContext) -> Matrix:
    factors = class_factors(view.target, view.weight, view.schema.num_classes, context.class_weight)
    return Matrix(
        rows=ArrayRows(np.ascontiguousarray(values)),
        target=view.target,
        weight=row_weights(view.target, view.weight, factors),
        units=view.units,
        order=view.order,
        outputs=tuple(Output(f"feature {place}", "image") for place in range(values.shape[1])),
    )


def _scaled(values: NDArray[Any], target: Target, num_classes: int) -> NDArray[Any]:
    return values if num_classes else target.scaled(values)
