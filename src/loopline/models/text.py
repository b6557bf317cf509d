"""Pretrained text encoders (extra `loopline[neural]`): the table's text columns, read as language.

`tune` says how much learns: "head" embeds every text once and fits a linear head on the vectors,
which is quick on a processor; "full" trains the whole encoder; "lora" trains low-rank adapters,
which are merged into plain weights at the end. Full and LoRA start from the head of "head", so that
the encoder is not pulled about by a head that knows nothing (Kumar et al. 2022, "Fine-tuning can
distort pretrained features").

Columns of other types are left to other families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from loopline.data.schema import Task
from loopline.errors import DataError, SettingsError
from loopline.features.fit import expect_train_view
from loopline.models.base import FitContext, FittedModel, Floats, Params
from loopline.models.boosting import Target
from loopline.models.encoder import Arrays, Encoder, Ints
from loopline.models.frozen_text import embedded, embedder
from loopline.models.job import Job, JobRows
from loopline.models.neural import NeuralFamily, require_packages
from loopline.models.parameters import Rule
from loopline.models.pretrained import blank_network, find_pretrained, weights_digest
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import Choice, DataFacts, Integer, Number, Space
from loopline.models.table import class_factors, read_facts, row_weights
from loopline.models.text_encoder import MAX_WINDOWS, TextEncoder, TokenSettings
from loopline.models.text_head import (
    Head,
    Labels,
    TextHeadModel,
    fit_head,
    load_head,
)
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from torch import nn

    from loopline.nets.examples import Examples
    from loopline.nets.text import TextNet

DEFAULT_LENGTH = 256
"""Tokens of a text by default; about 200 English words."""
_RATES = {"full": 1e-4, "lora": 1e-3}
_ONLY_LORA = frozenset({"rank", "alpha"})
_ALWAYS = frozenset({"model", "tune", "max_length", "windows", "pooling", "penalty"})


class Text(NeuralFamily):
    """A pretrained encoder over the text columns, with a linear head."""

    name = "text"
    complexity = 50
    tasks = frozenset({"binary", "multiclass", "multilabel", "regression"})
    reads = frozenset({"text"})
    tolerance = 1e-5
    importance_rows = 500
    predict_batch = 32
    packages = ("torch", "transformers", "tokenizers")
    rules: ClassVar[Mapping[str, Rule]] = {
        **NEURAL_RULES,
        "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0, words=("auto",)),
        "model": Rule("name"),
        "tune": Rule("choice", words=("head", "full", "lora")),
        "max_length": Rule("integer", low=4, words=("auto",)),
        "windows": Rule("flag"),
        "pooling": Rule("choice", words=("auto", "mean", "cls")),
        "dropout": Rule("number", low=0.0, high=0.95),
        "rank": Rule("integer", low=1, high=1_024),
        "alpha": Rule("integer", low=1),
        "penalty": Rule("number", low=0.0, above_low=True, words=("auto",)),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe; `model`, `tune` and how texts are read; `rank` and `alpha` of LoRA.

        `penalty` is that of the linear head.
        """
        del task, num_rows
        return {
            **NEURAL_DEFAULTS,
            "epochs": 4.0,
            "learning_rate": "auto",
            "schedule": "linear",
            "warmup": 0.1,
            "patience": 2,
            "model": "auto",
            "tune": "head",
            "max_length": "auto",
            "windows": False,
            "pooling": "auto",
            "dropout": 0.1,
            "rank": 8,
            "alpha": 16,
            "penalty": "auto",
        }

    def space(self, facts: DataFacts) -> Space:
        """The head's penalty while the encoder is frozen; rates and regularisation when tuned."""
        del facts
        tuned = {"tune": ("full", "lora")}
        return {
            "learning_rate": Number(5e-6, 1e-3, log=True, when=tuned),
            "weight_decay": Number(1e-4, 0.1, log=True, when=tuned),
            "dropout": Number(0.0, 0.3, when=tuned),
            "rank": Integer(2, 32, log=True, when={"tune": ("lora",)}),
            "penalty": Number(1e-3, 1e4, log=True, when={"tune": ("head",)}),
            "pooling": Choice(("mean", "cls"), when={"tune": ("head",)}),
        }

    def sources(self, params: Params) -> dict[str, str]:
        """The digest of the encoder's weights."""
        require_packages(self.name, self.packages)
        return {"model": weights_digest(str(params.get("model", "auto")))}

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Fit a head on the frozen encoder's vectors, then, if asked, tune the encoder.

        Raises:
            SettingsError: no text column, an unknown model, or settings that do not fit each other.
            DataError: no rows, weights that weigh nothing, or a loss that is not finite.
            EnvironmentProblem: a package is missing, or memory does not suffice.
        """
        require_packages(self.name, self.packages)
        expect_train_view(train)
        task = train.schema.task
        settings = self.resolve(params, task, train.num_rows)
        self._refuse_without_effect(settings, task, train.num_rows)
        if settings["tune"] == "lora":
            require_packages("text", ("peft",))
        if settings["tune"] == "head":
            return self._fit_head_model(train, valid, settings, context)
        if settings["learning_rate"] == "auto":
            settings["learning_rate"] = _RATES[settings["tune"]]
        return super().fit(train, valid, settings, context)

    def _refuse_without_effect(self, settings: Params, task: Task, num_rows: int) -> None:
        usual = self.defaults(task, num_rows)
        unused = _ONLY_LORA if settings["tune"] == "full" else frozenset()
        if settings["tune"] == "head":
            unused = frozenset(usual) - _ALWAYS
        given = sorted(name for name in unused if settings[name] != usual[name])
        if given:
            raise SettingsError(
                [
                    f"`{name}` of the text family has no effect with `tune: {settings['tune']}`; "
                    "remove it, or tune more."
                    for name in given
                ]
            )

    def _fit_head_model(
        self, train: TrainView, valid: TrainView | None, settings: dict[str, Any], context: Any
    ) -> TextHeadModel:
        import torch

        torch.set_num_threads(context.threads)
        task, num_classes = train.schema.task, train.schema.num_classes
        factors = class_factors(train.target, train.weight, num_classes, context.class_weight)
        weight = row_weights(train.target, train.weight, factors)
        encoder, arrays = self.learn(train, settings, context)
        held = None
        if valid is not None and valid.num_rows:
            held = JobRows.of(encoder.encode(valid.frame()), valid, Target(), factors, num_classes)
        if held is not None and not num_classes:
            assert valid is not None
            held = JobRows(held.arrays, valid.target, held.weight)
        head = _head(
            encoder,
            arrays,
            Labels(train.target, weight),
            held,
            task,
            num_classes,
            settings,
            context,
        )
        return TextHeadModel(
            family=self.name,
            task=task,
            num_classes=num_classes,
            params={**settings, "penalty": head.estimator.params["penalty"]},
            encoder=encoder,
            head=head,
            digest=weights_digest(settings["model"]),
            whole=context.whole,
        )

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[TextEncoder, Arrays]:
        """Find the encoder, and read the training texts as it does."""
        schema = train.schema
        columns = tuple(name for name in schema.features if schema.named(name).type in self.reads)
        if not columns:
            raise SettingsError(
                [
                    "The text family needs a feature column of type text, and this table has none. "
                    "Give one `type: text` under `columns`, or leave the family out."
                ]
            )
        encoder = token_encoder(columns, params)
        arrays = encoder.encode(train.frame(columns))
        _tell(train, encoder, arrays, context)
        return encoder, arrays

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
        """The head that fits the frozen encoder's vectors, shape (1 + hidden, outputs)."""
        import torch

        torch.set_num_threads(context.threads)
        assert isinstance(encoder, TextEncoder)
        weight = None if rows.weight is None else rows.weight.astype(np.float64)
        target = rows.target if num_classes else rows.target.astype(np.float64)
        head = _head(
            encoder, rows.arrays, Labels(target, weight), valid, task, num_classes, params, context
        )
        params["penalty"] = head.estimator.params["penalty"]
        return head.folded()

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> TextNet:
        """The encoder with a head."""
        import torch

        from loopline.nets.text import TextNet

        assert isinstance(encoder, TextEncoder)
        backbone: nn.Module = (
            find_pretrained(params["model"]).load() if pretrained else blank_network(encoder.config)
        )
        return TextNet(
            backbone,
            torch.from_numpy(np.asarray(start, dtype=np.float32)),
            hidden=int(encoder.config["hidden_size"]),
            pooling=encoder.settings.pooling,
            dropout=float(params["dropout"]),
        )

    def quicken(self, network: nn.Module, encoder: Encoder) -> None:
        """Let a graph compute the states, where the encoder is of a known build."""
        from loopline.nets.text import TextNet
        from loopline.nets.text_graph import graph_encoder

        assert isinstance(network, TextNet)
        assert isinstance(encoder, TextEncoder)
        found = graph_encoder(network.backbone, encoder.config)
        if found is not None:
            network.backbone = found

    def adapt(self, network: nn.Module, params: Params) -> nn.Module:
        """Adapters, with `tune: lora`; a network of packed texts where that is quicker."""
        if _packs(_config(network), params):
            from loopline.nets.packed_text import PackedInPlace

            return PackedInPlace(cast("TextNet", network), _config(network))
        if params["tune"] != "lora":
            return network
        from loopline.nets.text import TextNet, with_adapters

        assert isinstance(network, TextNet)
        return with_adapters(
            network, int(params["rank"]), int(params["alpha"]), float(params["dropout"])
        )

    def plain(self, network: nn.Module, params: Params) -> nn.Module:
        """The network with its adapters merged into its matrices, its texts side by side."""
        if params["tune"] == "full":
            from loopline.nets.packed_text import PackedInPlace

            return network.unpacked() if isinstance(network, PackedInPlace) else network
        if params["tune"] != "lora":
            return network
        from loopline.nets.text import TextNet, merged

        assert isinstance(network, TextNet)
        return merged(network)

    def examples(self, job: Job, encoder: Encoder) -> Examples:
        """The rows of a fit; packed where the network reads them so."""
        from loopline.nets.packed_text import packed

        found = cast("Examples", super().examples(job, encoder))
        assert isinstance(encoder, TextEncoder)
        if _packs(encoder.config, job.params):
            padding = encoder.settings.padding

            def collate(arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
                del epochs
                return packed(arrays["tokens"], arrays["windows"], rows, padding)

            found.collate = collate
        return found

    def load_encoder(self, folder: Path) -> TextEncoder:
        """Read a saved tokenizer with its settings."""
        return TextEncoder.load(folder)

    def load(self, folder: Path) -> FittedModel:
        """Read a saved model.

        Raises:
            IntegrityError: the folder does not hold a model of this family.
            EnvironmentProblem: a newer Loopline wrote it, or a package is missing.
        """
        require_packages(self.name, self.packages)
        facts = read_facts(folder, self.name)
        return (
            load_head(folder, facts) if facts["params"]["tune"] == "head" else super().load(folder)
        )

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The folds' median passes, and the median of their penalties on the log scale."""
        logs = [np.log10(entry["penalty"]) for entry in fitted]
        settled = {"penalty": float(10 ** np.median(logs))}
        if fitted[0]["tune"] == "head":
            return {**fitted[0], **settled}
        return {**super().consolidate(fitted), **settled}


def _packs(config: Mapping[str, Any], params: Params) -> bool:
    """Whether texts are trained on one behind another, on a GPU in 16 bits."""
    from loopline.nets.packed_text import packable, worth_packing

    short = params["precision"] in ("auto", "bf16", "fp16")
    whole = params["tune"] == "full" and not params["windows"]
    return whole and short and worth_packing() and packable(config)


def _config(network: nn.Module) -> Mapping[str, Any]:
    """The configuration of a text network's encoder, plain data."""
    found: Mapping[str, Any] = cast("Any", network).backbone.config.to_dict()
    return found


def token_encoder(columns: tuple[str, ...], params: Params) -> TextEncoder:
    """How a pretrained model reads some columns of text.

    Args:
        columns: in table order.
        params: with `model`, `max_length`, `windows` and `pooling`.

    Raises:
        EnvironmentProblem: "auto", and the default encoder is not installed.
        SettingsError: there is no such model here, or it does not read texts of this length.
    """
    found = find_pretrained(params["model"])
    length = params["max_length"]
    if length == "auto":
        length = min(DEFAULT_LENGTH, found.limit)
    if length > found.limit:
        raise SettingsError(
            [
                f"`max_length: {length}` is more than `model: {found.name}` reads, which is "
                f"{found.limit} tokens; lower it, or set `windows: true`."
            ]
        )
    pooling = found.pooling if params["pooling"] == "auto" else params["pooling"]
    settings = TokenSettings(
        columns, length, params["windows"], found.padding, found.separator, pooling
    )
    encoder = TextEncoder(settings, found.tokenizer, found.config)
    if encoder.room < 1:
        raise SettingsError(
            [f"`max_length: {length}` leaves no room between the model's special tokens."]
        )
    return encoder


def _head(
    encoder: TextEncoder,
    arrays: Arrays,
    labels: Labels,
    valid: JobRows | None,
    task: Task,
    num_classes: int,
    params: Params,
    context: FitContext,
) -> Head:
    """A linear head on the vectors of the frozen encoder."""
    frozen = embedder(params["model"])
    vectors = embedded(frozen, encoder, arrays, steady=True, context=context)
    held = None
    if valid is not None:
        weight = None if valid.weight is None else valid.weight.astype(np.float64)
        known = Labels(np.asarray(valid.target), weight)
        held = (embedded(frozen, encoder, valid.arrays, steady=True, context=context), known)
    return fit_head(
        vectors,
        labels,
        held,
        task=task,
        num_classes=num_classes,
        params=params,
        context=context,
    )


def _tell(train: TrainView, encoder: TextEncoder, arrays: Arrays, context: FitContext) -> None:
    """Say what of the table is not read, and refuse a table whose texts are all empty."""
    columns = encoder.settings.columns
    if train.num_rows and not any(
        (train.column(name).fill_null("").str.strip_chars() != "").any() for name in columns
    ):
        raise DataError(
            f"Every text in {' and '.join(columns)} is empty, so there is nothing to learn from; "
            "look at how the table was read, or leave the text family out."
        )
    others = [name for name in train.schema.features if name not in columns]
    if others:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        context.reporter.note(
            f"The text family reads {', '.join(columns)} only; {shown} are left to other families."
        )
    num_cut = int(arrays["cut"].sum())
    if num_cut:
        limit = encoder.settings.max_length
        read = f"{MAX_WINDOWS} windows of {limit}" if encoder.settings.windows else str(limit)
        remedy = "" if encoder.settings.windows else " `windows: true` reads them whole."
        context.reporter.note(
            f"{num_cut:,} of {train.num_rows:,} texts are longer than {read} tokens and are cut."
            + remedy
        )
