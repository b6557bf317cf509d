"""Images found by words (extras `loopline[images,neural]`): two encoders with one space.

Learns from pairs of an image and a caption (`task: retrieval`) with the contrastive loss over the
whole batch, on however many processes (`loopline.nets.clip`). `model: small` trains a residual
network and a small transformer over bytes from nothing; a Hugging Face id or a local folder of a
CLIP is tuned, or with `tune: none` asked as it is.

Where the target has classes, each class is a sentence (`template`): with `tune: none` images are
named by the sentence that fits best, with nothing learned; `full` tunes both encoders so that the
right sentence does; `head` fits a linear probe on frozen vectors of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import polars as pl

from loopline.data.retrieval import caption_numbers, caption_of, gallery_of, image_of
from loopline.data.schema import ColumnType, Task
from loopline.errors import SettingsError
from loopline.features.fit import expect_train_view
from loopline.models.base import FitContext, FittedModel, Floats, Params
from loopline.models.boosting import Target
from loopline.models.clip_encoder import ByteCaptions, ClipEncoder
from loopline.models.encoder import Arrays, Encoder
from loopline.models.image import image_column
from loopline.models.image_body import SMALL, image_body, learn_images
from loopline.models.image_encoder import ImageEncoder
from loopline.models.job import Job, JobRows, start_bias
from loopline.models.neural import NeuralFamily, NeuralModel, require_packages, told_usable
from loopline.models.parameters import Rule
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import DataFacts, Number, Space
from loopline.models.text_encoder import TextEncoder, TokenSettings
from loopline.seeds import child_seed
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from loopline.engine.task import Task as EngineTask
    from loopline.nets.clip import ClipNet, NamedClasses

_UNUSED = ("label_smoothing", "focal", "head_rate", "micro_batch", "stochastic_depth")
_SMALL_ONLY = ("width", "layers", "size")
_RATES = {True: 1e-3, False: 1e-5}
_PROBE_RATE = 1e-3
TEMPLATE = "a photo of {}"
"""The sentence of a class; its name goes in place of the braces."""
_BATCH = 256
"""Rows computed at once when predicting."""
_BLOCK = 4_096
"""Rows that are encoded at a time."""


class ClipModel(NeuralModel):
    """Two encoders with one space: ranks of captions, and images that fit words."""

    encoder: ClipEncoder

    @property
    def _net(self) -> ClipNet:
        found: Any = self.network
        return cast("ClipNet", found.clip if self.encoder.classes else found)

    @cached_property
    def _gallery(self) -> Floats:
        return self.caption_vectors(self.encoder.gallery)

    def caption_vectors(self, texts: Sequence[str | None]) -> Floats:
        """Unit vectors of captions, shape (texts, width)."""
        from loopline.nets.clip_task import vectors

        encoder = self.encoder
        arrays = encoder.captions(texts)
        collate = encoder.text.collate
        return vectors(self._net, arrays, len(texts), collate, "captions", _BATCH).astype(float)

    def image_vectors(self, cells: Sequence[bytes | None]) -> Floats:
        """Unit vectors of images, shape (cells, width); zeros for what cannot be read."""
        from loopline.nets.clip_task import vectors

        reader = self.encoder.image
        arrays = reader.encode(pl.DataFrame({reader.column: pl.Series(cells, dtype=pl.Binary)}))
        found = vectors(self._net, arrays, len(cells), self.encoder.pixels, "images", _BATCH)
        return found.astype(float) * arrays["readable"][:, None]

    @property
    def factor(self) -> float:
        """What cosines are multiplied by before they become probabilities."""
        return float(self._net.factor().detach())

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The rank of each row's caption, shape (rows,); where rows have classes, their shares."""
        if self.encoder.classes:
            return super().predict(frame)
        parts = [
            self._predict(frame.slice(start, _BLOCK)) for start in range(0, frame.height, _BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _predict(self, block: pl.DataFrame) -> Floats:
        """The rank of each row's caption among those of training, given its image."""
        if self.encoder.classes:
            return super()._predict(block)
        from loopline.nets.clip_task import ranks

        texts = block[self.encoder.caption].cast(pl.String).fill_null("").to_list()
        known, place = np.unique(np.array(texts, dtype=object), return_inverse=True)
        own = self.caption_vectors(known.tolist())[place]
        images = self.image_vectors(block[self.encoder.image.column].to_list())
        numbers = caption_numbers(self.encoder.gallery)
        same = caption_numbers(texts)[:, None] == numbers[None, :]
        return ranks(images, own, self._gallery, same)


class Clip(NeuralFamily):
    """An encoder for images and one for captions, whose vectors lie close where they belong."""

    name = "clip"
    complexity = 50
    has_rungs = False
    tasks: frozenset[Task] = frozenset({"retrieval", "binary", "multiclass"})
    reads: frozenset[ColumnType] | None = frozenset({"image", "text"})
    tolerance = 1e-2
    packages = ("torch", "PIL")
    makes = ClipModel
    rules: ClassVar[Mapping[str, Rule]] = {
        **{name: rule for name, rule in NEURAL_RULES.items() if name not in _UNUSED},
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "model": Rule("name"),
        "tune": Rule("choice", words=("full", "head", "none")),
        "template": Rule("name"),
        "size": Rule("integer", low=8, high=4_096, words=("auto",)),
        "augment": Rule("choice", words=("auto", "none", "shift", "photo", "flip")),
        "width": Rule("integer", low=8, high=4_096),
        "layers": Rule("integer", low=1, high=100),
        "max_length": Rule("integer", low=4, high=4_096),
        "dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe; `model` and `tune`; how images and captions are read; a new one's size.

        `width` is that of the common space, `layers` those of the text encoder, `template` the
        sentence of a class.
        """
        del task
        batch = int(2 ** np.clip(round(np.log2(max(1, num_rows) / 40)), 4, 8))
        epochs = float(np.clip(round(1_500 * batch / max(1, num_rows)), 6, 60))
        return {
            **{name: value for name, value in NEURAL_DEFAULTS.items() if name not in _UNUSED},
            "epochs": epochs,
            "batch_size": batch,
            "learning_rate": "auto",
            "weight_decay": 0.05,
            "warmup": 0.1,
            "model": "auto",
            "tune": "full",
            "template": TEMPLATE,
            "size": "auto",
            "augment": "auto",
            "width": 128,
            "layers": 2,
            "max_length": 77,
            "dropout": 0.1,
        }

    def resolve(self, params: Params, task: Task, num_rows: int) -> dict[str, Any]:
        """All parameters of a fit, the rate as a number.

        Raises:
            SettingsError: as `Family.resolve`; or nothing is to learn, and nothing has learned.
        """
        found = super().resolve(params, task, num_rows)
        small = found["model"] in SMALL
        problems = []
        if small and found["tune"] != "full":
            problems.append(
                f"`tune: {found['tune']}` needs a pretrained `model`: the small one knows nothing."
            )
        if task == "retrieval" and found["tune"] == "head":
            problems.append("`tune: head` needs classes; captions are found by `full` or `none`.")
        if task == "retrieval" and found["template"] != TEMPLATE:
            problems.append("`template` has no effect with captions. Remove it.")
        if "{}" not in found["template"]:
            problems.append(
                f"`template: {found['template']}` of the clip family must have {{}} where the "
                "name of a class goes."
            )
        usual = self.defaults(task, num_rows)
        problems += [
            f"`{name}` of the clip family has no effect with `model: {found['model']}`, which "
            "brings its own. Remove it."
            for name in _SMALL_ONLY
            if not small and found[name] != usual[name]
        ]
        if problems:
            raise SettingsError(problems)
        if found["learning_rate"] == "auto":
            found["learning_rate"] = _PROBE_RATE if found["tune"] == "head" else _RATES[small]
        return found

    def space(self, facts: DataFacts) -> Space:
        """The learning rate first, then regularisation."""
        del facts
        tuned = {"tune": ("full", "head")}
        return {
            "learning_rate": Number(2e-4, 5e-3, log=True, when={"model": SMALL}),
            "weight_decay": Number(1e-3, 0.3, log=True, when=tuned),
            "dropout": Number(0.0, 0.3, when={"model": SMALL}),
        }

    def sources(self, params: Params) -> dict[str, str]:
        """The digest of the pretrained weights, where there are some."""
        model = str(params.get("model", SMALL[0]))
        if model in SMALL:
            return {}
        from loopline.models.pretrained_clip import weights_digest

        require_packages(self.name, (*self.packages, "transformers", "tokenizers"))
        return {"model": weights_digest(model)}

    def versions(self) -> dict[str, str]:
        """Versions of torch and Pillow."""
        from importlib.metadata import version

        require_packages(self.name, self.packages)
        return {name: version(name) for name in ("torch", "pillow")}

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Train on pairs; with `tune: none` take the pretrained model as it is.

        Raises:
            SettingsError: a parameter is wrong, or the pretrained model cannot be used.
            DataError: no image can be read.
            EnvironmentProblem: a package is missing, or memory does not suffice.
        """
        expect_train_view(train)
        settings = self.resolve(params, train.schema.task, train.num_rows)
        if settings["model"] not in SMALL:
            require_packages(self.name, (*self.packages, "transformers", "tokenizers"))
        if settings["tune"] != "none":
            return super().fit(train, valid, settings, context)
        encoder, arrays = self.learn(train, settings, context)
        told_usable(encoder.usable(arrays), train, context, encoder.lacks)
        return self.makes(
            kind=self,
            task=train.schema.task,
            num_classes=train.schema.num_classes,
            params={**settings, "epochs": float(settings["epochs"])},
            encoder=encoder,
            target=Target(),
            history={"epochs": 0.0, "history": [], "stopped": ""},
            network=self.build(encoder, _start(train), settings, pretrained=True),
        )

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[ClipEncoder, Arrays]:
        """Choose how images and captions are read, and read the training pairs.

        Raises:
            DataError: no image can be read.
            SettingsError: the pretrained model cannot be used.
        """
        named = train.schema.num_classes > 0
        if named:
            column, caption = image_column(train, context, self.name), "class"
            words = (str(label).replace("_", " ") for label in train.schema.classes)
            gallery = tuple(params["template"].replace("{}", word) for word in words)
        else:
            column, caption = image_of(train.schema), caption_of(train.schema)
            gallery = gallery_of(train.column(caption))
        text: TextEncoder | ByteCaptions
        if params["model"] in SMALL:
            image = learn_images(train, column, params, context)
            text = ByteCaptions(caption, int(params["max_length"]))
            encoder = ClipEncoder(image, text, gallery, None, named)
        else:
            from loopline.models.pretrained_clip import find_pretrained_clip

            found = find_pretrained_clip(params["model"])
            length = min(int(params["max_length"]), found.limit)
            settings = TokenSettings((caption,), length, False, found.padding, (), "mean")
            text = TextEncoder(settings, found.tokenizer, found.config)
            augment = "none" if params["augment"] == "auto" else params["augment"]
            seed = child_seed(context.seed, "augmentation")
            size = (found.size, found.size)
            image = ImageEncoder(column, size, 3, found.mean, found.deviation, augment, seed)
            encoder = ClipEncoder(image, text, gallery, found.config, named)
        return encoder, encoder.encode(train.frame([column] if named else [column, caption]))

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> ClipNet | NamedClasses:
        """Two encoders of the shapes that the pairs or a pretrained model ask for."""
        import torch

        from loopline.nets.clip import NamedClasses

        assert isinstance(encoder, ClipEncoder)
        found = self._towers(encoder, params, pretrained=pretrained)
        if not encoder.classes:
            return found
        rows = np.arange(len(encoder.gallery))
        tokens = encoder.text.collate(encoder.captions(encoder.gallery), rows, None)
        return NamedClasses(
            found,
            torch.from_numpy(tokens["input_ids"]),
            torch.from_numpy(tokens["attention_mask"]),
            torch.from_numpy(start),
            probe=params["tune"] == "head",
        )

    def _towers(self, encoder: ClipEncoder, params: Params, *, pretrained: bool) -> ClipNet:
        import torch

        from loopline.nets.clip import ClipNet, PretrainedImage, PretrainedText, SmallText
        from loopline.nets.image import ImageFeatures

        image = encoder.image
        how = {"mean": image.mean, "deviation": image.deviation}
        if encoder.config is None:
            small = {"model": "small", "width": 32, "depth": 1}
            body = image_body(image, small, pretrained=False)
            read = ImageFeatures(body, augment=image.augment, **how)
            width, layers = int(params["width"]), int(params["layers"])
            text = SmallText(width, layers, int(params["max_length"]), float(params["dropout"]))
            return ClipNet(read, body.width, text, width)
        from loopline.models.pretrained_clip import blank_clip, find_pretrained_clip

        model = (
            find_pretrained_clip(params["model"]).load()
            if pretrained
            else blank_clip(encoder.config)
        )
        read = ImageFeatures(PretrainedImage(model), augment=image.augment, **how)
        found = ClipNet(read, int(model.projection_dim), PretrainedText(model), 0)
        with torch.no_grad():
            found.scale.copy_(model.logit_scale)
        return found

    def examples(self, job: Job, encoder: Encoder) -> EngineTask:
        """Pairs with the numbers of their captions, or images with their classes."""
        if job.num_classes:
            from loopline.nets.examples import Examples

            return Examples(
                job.train.labelled(encoder),
                None if job.valid is None else job.valid.labelled(encoder),
                encoder.collate,
                num_classes=job.num_classes,
            )
        from loopline.nets.clip_task import PairTask

        held: JobRows | None = job.valid
        return PairTask(
            job.train.arrays,
            job.train.arrays["codes"],
            job.train.weight,
            None if held is None else (held.arrays, held.arrays["codes"], held.weight),
            encoder.collate,
            int(job.params["batch_size"]),
        )

    def start(self, encoder: Encoder, rows: JobRows, valid: JobRows | None, **known: Any) -> Floats:
        """The logarithm of the classes' shares, for rows without an image."""
        del encoder, valid
        return start_bias(rows.target, rows.weight, known["num_classes"])

    def load_encoder(self, folder: Path) -> ClipEncoder:
        """Read a saved encoder."""
        return ClipEncoder.load(folder)


def _start(train: TrainView) -> Floats:
    return start_bias(train.target, train.weight, train.schema.num_classes)
