"""Rows of several parts (extra `loopline[neural]`): numbers and categories, texts, an image.

Each part is read as its own family reads it and becomes one vector; the vectors are brought
together late, by one head (`loopline.nets.mixed`). Any part may be missing in a row. With
`tune: head` pretrained bodies are frozen and texts are embedded once; with `full` they learn too. A
network for images that starts from nothing always learns.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from loopline.data.schema import ColumnType, Task
from loopline.errors import DataError, SettingsError
from loopline.features.fit import expect_train_view, fit_graph
from loopline.models.base import FitContext, Floats, Params
from loopline.models.encoder import Arrays, Encoder
from loopline.models.frozen_text import FrozenText, embedded
from loopline.models.image_body import SMALL, image_body, learn_images
from loopline.models.mixed_encoder import MixedEncoder, part_seed, vectors_of
from loopline.models.mlp import TableEncoder
from loopline.models.neural import NeuralFamily, require_packages
from loopline.models.parameters import Rule
from loopline.models.pretrained import (
    blank_network,
    find_pretrained,
    missing_for_text,
    weights_digest,
)
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import DataFacts, Number, Space
from loopline.models.text import token_encoder
from loopline.seeds import child_seed
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from pathlib import Path

    from loopline.models.image_encoder import ImageEncoder
    from loopline.models.text_encoder import TextEncoder
    from loopline.nets.image import ImageFeatures
    from loopline.nets.mixed import MixedNet, TextPart

TERMS = "terms"
"""The text model that learns nothing beforehand: weighted terms, among the table's numbers."""
_HEAD_RATE, _BODY_RATE = 2e-3, 1e-4
"""What "auto" means: what starts from nothing moves fast, a pretrained body that learns slowly."""
_OF_PART = {"text": ("text_model", "max_length"), "image": ("image_model", "size", "augment")}
_ALL_TYPES: frozenset[ColumnType] = frozenset(
    {"number", "boolean", "category", "datetime", "text", "image"}
)


class Multimodal(NeuralFamily):
    """Numbers, categories, texts and an image of a row, read side by side by one head."""

    name = "multimodal"
    complexity = 60
    reads = _ALL_TYPES
    tolerance = 1e-4
    importance_rows = 500
    predict_batch = 256
    rules: ClassVar[Mapping[str, Rule]] = {
        **NEURAL_RULES,
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "head_rate": Rule("number", low=0.0, above_low=True, words=("auto",)),
        "text_model": Rule("name"),
        "image_model": Rule("name"),
        "tune": Rule("choice", words=("head", "full")),
        "max_length": Rule("integer", low=4, words=("auto",)),
        "size": Rule("integer", low=8, high=4_096, words=("auto",)),
        "augment": Rule("choice", words=("auto", "none", "shift", "photo", "flip")),
        "width": Rule("integer", low=1, high=65_536),
        "depth": Rule("integer", low=1, high=100),
        "members": Rule("integer", low=1, high=1_024),
        "dropout": Rule("number", low=0.0, high=0.95),
        "part_dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe; `text_model` and `image_model` with how they read; the head's size.

        `part_dropout` is the probability that a part of a row is left out in training.
        """
        del task
        return {
            **NEURAL_DEFAULTS,
            "epochs": 40.0,
            "batch_size": int(2 ** np.clip(round(np.log2(max(1, num_rows) / 80)), 4, 8)),
            "learning_rate": "auto",
            "head_rate": "auto",
            "weight_decay": 3e-2,
            "schedule": "constant",
            "patience": 8,
            "average": 0.99,
            "text_model": "auto",
            "image_model": "auto",
            "tune": "head",
            "max_length": "auto",
            "size": "auto",
            "augment": "auto",
            "width": 128,
            "depth": 1,
            "members": 8,
            "dropout": 0.1,
            "part_dropout": 0.1,
        }

    def resolve(self, params: Params, task: Task, num_rows: int) -> dict[str, Any]:
        """All parameters of a fit, the rates as numbers.

        Raises:
            SettingsError: as `Family.resolve`.
        """
        settings = super().resolve(params, task, num_rows)
        pretrained = settings["text_model"] != TERMS or settings["image_model"] not in SMALL
        slow = settings["tune"] == "full"
        if slow and not pretrained:
            raise SettingsError(
                [
                    "`tune: full` of the multimodal family has no effect: neither `text_model` nor "
                    "`image_model` is pretrained. Name one, or leave `tune` out."
                ]
            )
        rates = {"learning_rate": _BODY_RATE if slow else _HEAD_RATE}
        rates["head_rate"] = _HEAD_RATE / rates["learning_rate"]
        told = {name: rate for name, rate in rates.items() if settings[name] == "auto"}
        return {**settings, **told}

    def space(self, facts: DataFacts) -> Space:
        """The learning rate first, then regularisation."""
        del facts
        return {
            "learning_rate": Number(3e-4, 1e-2, log=True, when={"tune": ("head",)}),
            "weight_decay": Number(1e-3, 0.3, log=True),
            "dropout": Number(0.0, 0.4),
            "part_dropout": Number(0.0, 0.4),
        }

    def sources(self, params: Params) -> dict[str, str]:
        """The digests of the pretrained weights, where there are some."""
        found = {}
        text = _text_model(str(params.get("text_model", "auto")))
        found["text_model"] = TERMS if text == TERMS else weights_digest(text)
        image = str(params.get("image_model", SMALL[0]))
        if image not in SMALL:
            from loopline.models import pretrained_images

            require_packages(self.name, ("transformers",))
            found["image_model"] = pretrained_images.weights_digest(image)
        return found

    def versions(self) -> dict[str, str]:
        """Versions of torch and of what reads texts and images, where it is installed."""
        from importlib.metadata import version

        require_packages(self.name, self.packages)
        names = {"torch": "torch", "PIL": "pillow", "transformers": "transformers"}
        return {
            package: version(package)
            for name, package in names.items()
            if importlib.util.find_spec(name) is not None
        }

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[Encoder, Arrays]:
        """Fit each part's encoder on the training rows.

        Raises:
            DataError: the table has several columns of images.
            SettingsError: a pretrained model cannot be used.
        """
        expect_train_view(train)
        tables, texts, images = _columns(train)
        self._refuse_without_effect(train, params, {"text": texts, "image": images})
        model = _text_model(params["text_model"])
        if model == TERMS:
            tables, texts = tuple(n for n in train.schema.features if n not in images), ()
        made: dict[str, Arrays] = {}
        table = text = frozen = None
        if tables:
            table, made["table"] = _learn_table(train, tables, context)
        if texts:
            require_packages(self.name, ("transformers", "tokenizers"))
            how = {"model": model, "max_length": params["max_length"]}
            text = token_encoder(texts, {**how, "windows": False, "pooling": "auto"})
            made["text"] = text.encode(train.frame(texts))
            if params["tune"] == "head":
                frozen = FrozenText(text, model, weights_digest(model), context.whole)
                vectors = embedded(
                    frozen.embedder, text, made["text"], steady=True, context=context
                )
                made["text"] = vectors_of(vectors)
        image = _learn_image(train, images, params, context)
        if image is not None:
            made["image"] = image.encode(train.frame(images))
        encoder = MixedEncoder(
            tables=tables,
            table=table,
            text=text,
            image=image,
            frozen=frozen,
            left_out=float(params["part_dropout"]),
            seed=part_seed(context.seed),
        )
        return encoder, encoder.joined(train.frame(), made)

    def _refuse_without_effect(
        self, train: TrainView, params: Params, columns: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Refuse settings for a part that the table does not have."""
        usual = self.defaults(train.schema.task, train.num_rows)
        problems = [
            f"`{name}` of the multimodal family has no effect: the table has no feature of the "
            f"type {part}. Leave it out, or give a column that type."
            for part, found in columns.items()
            for name in _OF_PART[part]
            if not found and params[name] != usual[name]
        ]
        if problems:
            raise SettingsError(problems)

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> MixedNet:
        """The parts' bodies with a head over them."""
        import torch

        from loopline.nets.mixed import Fusion, MixedNet, TablePart

        assert isinstance(encoder, MixedEncoder)
        sizes: dict[str, int] = {}
        table = None
        if encoder.table is not None:
            table = TablePart(encoder.table.num_numbers, encoder.table.levels)
            sizes["table"] = table.size
        if encoder.text is not None:
            sizes["text"] = int(encoder.text.config["hidden_size"])
        image = None
        if encoder.image is not None:
            image, sizes["image"] = _image_part(encoder.image, params, pretrained=pretrained)
        bias = torch.from_numpy(start)
        head = Fusion(
            sizes,
            table,
            width=params["width"],
            depth=params["depth"],
            members=params["members"],
            dropout=float(params["dropout"]),
            start=bias,
        )
        text = None
        if encoder.text is not None and encoder.frozen is None:
            text = _text_part(encoder.text, params, pretrained=pretrained)
        return MixedNet(head, encoder.parts, text, image, bias)

    def load_encoder(self, folder: Path) -> MixedEncoder:
        """Read the parts' encoders."""
        return MixedEncoder.load(folder)


def _text_model(name: str) -> str:
    """The text model that a name means here: "auto" is weighted terms where no encoder is."""
    return TERMS if name == "auto" and missing_for_text() else name


def _columns(train: TrainView) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The features of the table, the texts and the images.

    Raises:
        DataError: there are several columns of images.
    """
    schema = train.schema
    kinds = {name: schema.named(name).type for name in schema.features}
    images = tuple(name for name, kind in kinds.items() if kind == "image")
    if len(images) > 1:
        raise DataError(
            f"The multimodal family reads one feature of the type image, and the table has "
            f"{', '.join(map(repr, images))}. Give the others the role ignore, or leave the "
            "family out."
        )
    texts = tuple(name for name, kind in kinds.items() if kind == "text")
    return tuple(n for n, kind in kinds.items() if kind not in ("text", "image")), texts, images


def _learn_table(
    train: TrainView, columns: tuple[str, ...], context: FitContext
) -> tuple[TableEncoder, Arrays]:
    """The feature graph of some columns, and the training rows as it reads them."""
    given = context.features
    settings = replace(
        given,
        scaling=given.scaling or "quantile",
        columns={name: part for name, part in given.columns.items() if name in columns},
    )
    others = [name for name in train.schema.features if name not in columns]
    view = train.without(others) if others else train
    graph, rows = fit_graph(view, "neural", child_seed(context.seed, "features"), settings)
    values = rows.matrix()
    encoder = TableEncoder.fitted(graph, values)
    return encoder, encoder.arrange(values)


def _learn_image(
    train: TrainView, columns: tuple[str, ...], params: Params, context: FitContext
) -> ImageEncoder | None:
    if not columns:
        return None
    how = {
        "model": params["image_model"],
        "size": params["size"],
        "augment": params["augment"],
    }
    if how["model"] not in SMALL:
        require_packages("multimodal", ("transformers",))
    return learn_images(train, columns[0], how, context)


def _image_part(
    encoder: ImageEncoder, params: Params, *, pretrained: bool
) -> tuple[ImageFeatures, int]:
    from torch import nn

    from loopline.nets.image import ImageFeatures
    from loopline.nets.mixed import Frozen

    how = {"model": params["image_model"], "width": 32, "depth": 1}
    made = image_body(encoder, how, pretrained=pretrained)
    body: nn.Module = made
    if encoder.config is not None and params["tune"] == "head":
        body = Frozen(made)
    part = ImageFeatures(
        body, mean=encoder.mean, deviation=encoder.deviation, augment=encoder.augment
    )
    return part, made.width


def _text_part(encoder: TextEncoder, params: Params, *, pretrained: bool) -> TextPart:
    from loopline.nets.mixed import TextPart

    if pretrained:
        backbone = find_pretrained(params["text_model"]).load()
    else:
        backbone = blank_network(encoder.config)
    return TextPart(backbone, encoder.settings.pooling)
