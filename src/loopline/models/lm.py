"""Language models (extra `loopline[neural]`): a decoder that says how likely a text is, and writes.

With `model: new` a small decoder of the Llama shape is trained from nothing on the texts, its
tokenizer with it. With a Llama or GPT-2 folder (or a Hugging Face id) that model is tuned. Where
other text columns stand beside the target, they are read before it and never predicted: tuning on
instructions, with a loss on the answers only. Documents are packed into rows, and none of them sees
another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from loopline.data.language import DocumentColumns
from loopline.data.schema import ColumnType, Task
from loopline.digest import canonical_json
from loopline.errors import IntegrityError, SettingsError
from loopline.features.fit import expect_train_view
from loopline.models.base import FitContext, Floats, Params
from loopline.models.encoder import Arrays, Encoder
from loopline.models.hub import digest_of_weights, folder_of, place_of
from loopline.models.job import Job, JobRows
from loopline.models.lm_tokens import (
    BYTES,
    Ends,
    LanguageEncoder,
    TokenSettings,
    read_tokenizer,
    refuse_losses,
    suitable_vocabulary,
    train_tokenizer,
)
from loopline.models.neural import NeuralFamily, NeuralModel
from loopline.models.parameters import Rule
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import DataFacts, Integer, Number, Space
from loopline.models.table import folder_bytes
from loopline.splits.views import TrainView
from loopline.words import counted

if TYPE_CHECKING:
    from torch import nn

    from loopline.nets.lm import Decoder, Shape
    from loopline.nets.lm_pack import Texts
    from loopline.nets.lm_task import LanguageTask

NEW = "new"
OTHERWISE = "`model: new`"
FOLDER = "huggingface"
"""The folder of a saved model that transformers reads."""
_NEW_ONLY = ("layers", "width", "head_width", "kv_heads", "vocabulary", "tokenizer")
_UNUSED = ("label_smoothing", "focal", "head_rate")
_RATES = {True: 2e-3, False: 5e-5}


class LanguageNetwork(NeuralModel):
    """A decoder with its tokenizer: nats of texts, and texts that go on."""

    encoder: LanguageEncoder

    def _predict(self, block: pl.DataFrame) -> Floats:
        from loopline.nets.lm_task import document_losses

        texts = texts_of(self.encoder.encode(block), None)
        return document_losses(self._decoder, texts, self.encoder.settings.length)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The nats of each text, its end included, shape (rows,).

        Raises:
            DataError: the tokenizer that was given lacks characters of a text.
        """
        self.encoder.refuse_losses(frame)
        parts = [
            self._predict(frame.slice(start, _BLOCK)) for start in range(0, frame.height, _BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    @property
    def _decoder(self) -> Decoder:
        found: Any = self.network
        return found  # type: ignore[no-any-return]

    @cached_property
    def network(self) -> nn.Module:
        """The decoder, set to answer, on the GPU where there is one.

        Raises:
            IntegrityError: the saved weights do not fit the network.
        """
        import torch

        from loopline.nets.lm_files import load_decoder

        found: nn.Module | None = self._given
        if found is None:
            assert self._weights is not None
            try:
                found = load_decoder(self._weights)
            except SettingsError as error:
                raise IntegrityError(f"{self._weights} is damaged: {error}") from error
        return found.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def save(self, folder: Path) -> None:
        """Write `model.json`, `history.json`, `encoder/`, and `huggingface/` for transformers."""
        from loopline.nets.lm_files import save_decoder

        (folder / "encoder").mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        there = folder / FOLDER
        save_decoder(self._decoder, there, end=self.encoder.settings.end)
        (there / "tokenizer.json").write_text(self.encoder.tokenizer, encoding="utf-8")
        named = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (there / "tokenizer_config.json").write_text(json.dumps(named) + "\n", encoding="utf-8")
        for name, data in (("model", self.facts()), ("history", self.history)):
            (folder / f"{name}.json").write_text(canonical_json(data) + "\n", encoding="utf-8")
        self._size_bytes = folder_bytes(folder)

    def write(
        self,
        prompt: Mapping[str, str] | str,
        *,
        most: int = 200,
        temperature: float = 0.8,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> Iterator[str]:
        """See `FittedModel.write`."""
        from loopline.nets.lm_sample import sample

        settings = self.encoder.settings
        begun = self.encoder.layout.begun(prompt)
        (numbers,) = self.encoder.numbers([begun])
        told, known = "", []
        for token in sample(
            self._decoder,
            [settings.begin, *numbers],
            most=most,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            end=settings.end,
        ):
            known.append(token)
            text = self.encoder.reader.decode(known, skip_special_tokens=False)
            if not text.endswith("\ufffd"):  # a letter of several bytes is not whole yet
                yield text[len(told) :]
                told = text


_BLOCK = 4_096


def texts_of(arrays: Arrays, weight: Any) -> Texts:
    """What the network's task reads, from encoded documents."""
    from loopline.nets.lm_pack import Texts

    return Texts(arrays["tokens"], arrays["ends"], arrays["scored"], weight)


class LanguageModel(NeuralFamily):
    """A decoder, trained on texts from nothing or tuned."""

    name = "lm"
    complexity = 50
    has_rungs = False
    tasks: frozenset[Task] = frozenset({"language"})
    reads: frozenset[ColumnType] | None = frozenset({"text"})
    tolerance = 1e-2
    packages = ("torch", "tokenizers")
    makes = LanguageNetwork
    rules: ClassVar[Mapping[str, Rule]] = {
        **{name: rule for name, rule in NEURAL_RULES.items() if name not in _UNUSED},
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "model": Rule("name"),
        "tokenizer": Rule("name"),
        "vocabulary": Rule("integer", low=BYTES, words=("auto",)),
        "layers": Rule("integer", low=1),
        "width": Rule("integer", low=2),
        "head_width": Rule("integer", low=2),
        "kv_heads": Rule("integer", low=1, words=("auto",)),
        "length": Rule("integer", low=2, words=("auto",)),
        "dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe; `model` and the shape of a new one; `length`, tokens read at once."""
        del task, num_rows
        return {
            **{name: value for name, value in NEURAL_DEFAULTS.items() if name not in _UNUSED},
            "epochs": 10.0,
            "batch_size": 16,
            "learning_rate": "auto",
            "weight_decay": 0.1,
            "warmup": 0.05,
            "patience": 2,
            "model": NEW,
            "tokenizer": "train",
            "vocabulary": "auto",
            "layers": 4,
            "width": 256,
            "head_width": 128,
            "kv_heads": "auto",
            "length": "auto",
            "dropout": 0.1,
        }

    def space(self, facts: DataFacts) -> Space:
        """Rates and regularisation, and the shape of a new model."""
        del facts
        new = {"model": (NEW,)}
        return {
            "learning_rate": Number(1e-5, 1e-2, log=True),
            "dropout": Number(0.0, 0.3),
            "weight_decay": Number(1e-3, 0.3, log=True),
            "layers": Integer(2, 12, when=new),
        }

    def sources(self, params: Params) -> dict[str, str]:
        """The digest of the weights that are tuned."""
        name = str(params.get("model", NEW))
        if name == NEW:
            return {}
        return {"model": digest_of_weights(name, place_of(name), OTHERWISE)}

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[LanguageEncoder, Arrays]:
        """Train a tokenizer on the texts, or read the given one; read the texts with it."""
        expect_train_view(train)
        self._refuse_without_effect(params, train)
        layout = DocumentColumns.of(train.schema)
        frame = train.frame(layout.columns)
        before, texts = layout.documents(frame)
        written = [head + body for head, body in zip(before, texts, strict=True)]
        tokenizer, shape, config = self._parts(params, written)
        length = shape.context if params["length"] == "auto" else int(params["length"])
        if length > shape.context:
            raise SettingsError(
                [
                    f"`length: {length}` is more than `model: {params['model']}` reads at once, "
                    f"which is {shape.context:,} tokens. Lower it."
                ]
            )
        ends = Ends.of(tokenizer, config, f"`model: {params['model']}`")
        settings = TokenSettings(layout.text, layout.prompts, ends.begin, ends.end, length)
        from loopline.nets.lm_files import config_of

        encoder = LanguageEncoder(settings, tokenizer, config_of(shape, end=ends.end))
        arrays = encoder.encode(frame)
        _tell(arrays, encoder, context)
        return encoder, arrays

    def _refuse_without_effect(self, params: Params, train: TrainView) -> None:
        if params["model"] == NEW:
            return
        usual = self.defaults("language", train.num_rows)
        given = [name for name in _NEW_ONLY if params[name] != usual[name]]
        if given:
            raise SettingsError(
                [
                    f"`{name}` of the lm family has no effect with `model: {params['model']}`, "
                    "which brings its own. Remove it."
                    for name in given
                ]
            )

    def _parts(
        self, params: Params, texts: Sequence[str]
    ) -> tuple[str, Shape, Mapping[str, Any] | None]:
        """Tokenizer, shape and, of a given model, configuration."""
        from loopline.nets.lm import Shape
        from loopline.nets.lm_files import read_shape

        name = str(params["model"])
        if name != NEW:
            folder = folder_of(name, OTHERWISE)
            shape, tokenizer = read_shape(folder), read_tokenizer(folder)
            refuse_losses(tokenizer, texts, f"`model: {name}`")
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            _refuse_unfit(tokenizer, shape, name)
            return tokenizer, shape, config
        if params["tokenizer"] == "train":
            size = params["vocabulary"]
            if size == "auto":
                size = suitable_vocabulary(sum(len(text) for text in texts))
            tokenizer = train_tokenizer(texts, int(size))
        else:
            tokenizer = read_tokenizer(Path(params["tokenizer"]).expanduser())
            refuse_losses(tokenizer, texts, f"`tokenizer: {params['tokenizer']}`")
        width = int(params["width"])
        head_width = min(int(params["head_width"]), width)
        heads = max(1, width // head_width)
        return (
            tokenizer,
            Shape(
                vocabulary=-(-_size(tokenizer) // 64) * 64,
                layers=int(params["layers"]),
                width=width,
                heads=heads,
                kv_heads=heads if params["kv_heads"] == "auto" else int(params["kv_heads"]),
                head_width=head_width,
                context=256 if params["length"] == "auto" else int(params["length"]),
            ),
            None,
        )

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> Decoder:
        """The decoder, with new weights or those of the model to be tuned."""
        del start
        from loopline.nets.lm import Decoder
        from loopline.nets.lm_files import load_decoder, shape_of

        assert isinstance(encoder, LanguageEncoder)
        dropout = float(params["dropout"])
        if pretrained and params["model"] != NEW:
            return load_decoder(folder_of(params["model"], OTHERWISE), dropout=dropout)
        return Decoder(shape_of(encoder.config, self.name), dropout=dropout)

    def examples(self, job: Job, encoder: Encoder) -> LanguageTask:
        """Packed documents."""
        from loopline.nets.lm_task import LanguageTask

        assert isinstance(encoder, LanguageEncoder)
        held: JobRows | None = job.valid
        return LanguageTask(
            texts_of(job.train.arrays, job.train.weight),
            None if held is None else texts_of(held.arrays, held.weight),
            encoder.settings.length,
            fill=encoder.settings.end,
            valid_bytes=0 if held is None else int(held.arrays["bytes"].sum()),
        )

    def num_steps(self, job: Job, encoder: Encoder) -> int:
        """Steps over packed rows, not over documents."""
        rows = self.examples(job, encoder).num_rows
        return max(1, -int(-rows * job.params["epochs"] // job.params["batch_size"]))

    def resolve(self, params: Params, task: Task, num_rows: int) -> dict[str, Any]:
        """As `Family.resolve`; the learning rate follows from what is trained."""
        found = super().resolve(params, task, num_rows)
        if found["learning_rate"] == "auto":
            found["learning_rate"] = _RATES[found["model"] == NEW]
        return found

    def saved_weights(self, folder: Path) -> Path:
        """The folder that transformers reads."""
        return folder / FOLDER

    def load_encoder(self, folder: Path) -> LanguageEncoder:
        """Read a saved tokenizer with its settings."""
        return LanguageEncoder.load(folder)


def _size(tokenizer: str) -> int:
    from tokenizers import Tokenizer

    return int(Tokenizer.from_str(tokenizer).get_vocab_size(with_added_tokens=True))


def _refuse_unfit(tokenizer: str, shape: Shape, name: str) -> None:
    known = _size(tokenizer)
    if known > shape.vocabulary:
        raise SettingsError(
            [
                f"The tokenizer of `model: {name}` knows {known:,} tokens and the network "
                f"{shape.vocabulary:,}: they do not belong together. Take both from one model."
            ]
        )


def _tell(arrays: Arrays, encoder: LanguageEncoder, context: FitContext) -> None:
    """Say how much text there is and what is longer than the network reads."""
    sizes, length = np.diff(arrays["ends"]), encoder.settings.length
    scored = int(arrays["scored"].sum())
    context.reporter.note(
        f"{counted(sizes.size, 'document')}, {scored:,} tokens to be predicted, "
        f"{int(arrays['bytes'].sum()) / max(1, scored):.2f} bytes each."
    )
    longer = int((sizes > length + 1).sum())
    if longer:
        context.reporter.note(
            f"{longer:,} of {sizes.size:,} documents are longer than the {length:,} tokens that "
            "the network reads at once; they are read in pieces, each without what stands before."
        )
