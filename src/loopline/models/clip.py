"""Images found by words (extras `loopline[images,neural]`): two encoders with one space.

Learns from pairs of an image and a caption (`task: retrieval`) with the contrastive loss over the
whole batch, on however many processes (`loopline.nets.clip`). `model: small` trains a residual
network and a small transformer over bytes from nothing; a Hugging Face id or a local folder of a
CLIP is tuned, or with `tune: none` asked as it is.
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
from loopline.models.image_body import SMALL, image_body, learn_images
from loopline.models.image_encoder import ImageEncoder
from loopline.models.job import Job, JobRows
from loopline.models.neural import NeuralFamily, NeuralModel, require_packages, told_usable
from loopline.models.parameters import Rule
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import DataFacts, Number, Space
from loopline.models.text_encoder import TextEncoder, TokenSettings
from loopline.seeds import child_seed
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from loopline.nets.clip import ClipNet
    from loopline.nets.clip_task import PairTask

_UNUSED = ("label_smoothing", "focal", "head_rate", "micro_batch", "stochastic_depth")
_SMALL_ONLY = ("width", "layers", "size")
_RATES = {True: 1e-3, False: 1e-5}
_BATCH = 256
"""Rows computed at once when predicting."""
_BLOCK = 4_096
"""Rows that are encoded at a time."""


class ClipModel(NeuralModel):
    """Two encoders with one space: ranks of captions, and images that fit words."""

    encoder: ClipEncoder

    @property
    def _net(self) -> ClipNet:
        return cast("ClipNet", self.network)

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
        """The rank of each row's caption, shape (rows,)."""
        parts = [
            self._predict(frame.slice(start, _BLOCK)) for start in range(0, frame.height, _BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _predict(self, block: pl.DataFrame) -> Floats:
        """The rank of each row's caption among those of training, given its image."""
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
    tasks: frozenset[Task] = frozenset({"retrieval"})
    reads: frozenset[ColumnType] | None = frozenset({"image", "text"})
    tolerance = 1e-2
    packages = ("torch", "PIL")
    makes = ClipModel
    rules: ClassVar[Mapping[str, Rule]] = {
        **{name: rule for name, rule in NEURAL_RULES.items() if name not in _UNUSED},
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "model": Rule("name"),
        "tune": Rule("choice", words=("full", "none")),
        "size": Rule("integer", low=8, high=4_096, words=("auto",)),
        "augment": Rule("choice", words=("auto", "none", "shift", "photo", "flip")),
        "width": Rule("integer", low=8, high=4_096),
        "layers": Rule("integer", low=1, high=100),
        "max_length": Rule("integer", low=4, high=4_096),
        "dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe; `model` and `tune`; how images and captions are read; a new one's size.

        `width` is that of the common space, `layers` those of the text encoder.
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
        if small and found["tune"] == "none":
            problems.append("`tune: none` needs a pretrained `model`: the small one knows nothing.")
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
            found["learning_rate"] = _RATES[small]
        return found

    def space(self, facts: DataFacts) -> Space:
        """The learning rate first, then regularisation."""
        del facts
        tuned = {"tune": ("full",)}
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
        if settings["tune"] == "full":
            return super().fit(train, valid, settings, context)
        encoder, arrays = self.learn(train, settings, context)
        told_usable(encoder.usable(arrays), train, context, encoder.lacks)
        return self.makes(
            kind=self,
            task=train.schema.task,
            num_classes=0,
            params=settings,
            encoder=encoder,
            target=Target(),
            history={"epochs": 0.0, "history": [], "stopped": ""},
            network=self.build(encoder, np.zeros(1), settings, pretrained=True),
        )

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[ClipEncoder, Arrays]:
        """Choose how images and captions are read, and read the training pairs.

        Raises:
            DataError: no image can be read.
            SettingsError: the pretrained model cannot be used.
        """
        column, caption = image_of(train.schema), caption_of(train.schema)
        gallery = gallery_of(train.column(caption))
        text: TextEncoder | ByteCaptions
        if params["model"] in SMALL:
            image = learn_images(train, column, params, context)
            text = ByteCaptions(caption, int(params["max_length"]))
            encoder = ClipEncoder(image, text, gallery)
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
            encoder = ClipEncoder(image, text, gallery, found.config)
        return encoder, encoder.encode(train.frame([column, caption]))

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> ClipNet:
        """Two encoders of the shapes that the pairs or a pretrained model ask for."""
        del start
        import torch

        from loopline.nets.clip import ClipNet, PretrainedImage, PretrainedText, SmallText
        from loopline.nets.image import ImageFeatures

        assert isinstance(encoder, ClipEncoder)
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

    def examples(self, job: Job, encoder: Encoder) -> PairTask:
        """Pairs with the numbers of their captions."""
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
        """Nothing: there is no head."""
        del encoder, rows, valid, known
        return np.zeros(1)

    def load_encoder(self, folder: Path) -> ClipEncoder:
        """Read a saved encoder."""
        return ClipEncoder.load(folder)
