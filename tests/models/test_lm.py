"""The lm family: tokenizers, instructions, releases that transformers reads, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tests.models.test_ngram import view_of

from loopline.engine.events import Event
from loopline.errors import DataError, EnvironmentProblem, IntegrityError, SettingsError
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.lm import FOLDER, LanguageModel
from loopline.models.lm_tokens import LanguageEncoder, TokenSettings, train_tokenizer
from loopline.nets import training
from loopline.progress import SilentReporter

TINY = {
    "layers": 1,
    "width": 16,
    "head_width": 8,
    "length": 32,
    "vocabulary": 300,
    "epochs": 2.0,
    "batch_size": 4,
    "patience": 0,
}
TEXTS = pl.DataFrame(
    {"text": [f"{n} birds sit on {n % 7} trees and sing to the {n % 5} cats." for n in range(40)]}
)
SUMS = pl.DataFrame(
    {
        "question": [f"What is {n} and {n + 1}?" for n in range(40)],
        "answer": [f"It is {2 * n + 1}." for n in range(40)],
    }
)


def fitted(frame=TEXTS, text="text", valid=None, context=None, **params):
    held = None if valid is None else view_of(valid, text)
    context = context or FitContext(seed=3)
    return family("lm").fit(view_of(frame, text), held, {**TINY, **params}, context)


@pytest.fixture(scope="module")
def model():
    """A tiny model of texts."""
    return fitted()


def test_a_release_is_read_by_transformers(model, tmp_path):
    """What is saved answers alike when read again, and transformers gives the same nats."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model.save(tmp_path)
    again = family("lm").load(tmp_path)
    assert np.array_equal(again.predict(TEXTS), model.predict(TEXTS))
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".json", ".safetensors"}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / FOLDER)
    ids = tokenizer(TEXTS["text"][0])["input_ids"]
    end = model.encoder.settings.end
    assert len(ids) + 1 <= TINY["length"]
    line = torch.tensor([[end, *ids, end]])
    with torch.no_grad():
        loss = theirs(line, labels=line).loss
    assert float(loss) * (len(ids) + 1) == pytest.approx(model.predict(TEXTS[:1])[0], rel=1e-4)


def test_a_text_does_not_depend_on_those_beside_it(model):
    """A row's nats alone are those in the table, within the family's tolerance."""
    whole = model.predict(TEXTS)
    alone = np.concatenate([model.predict(TEXTS[row]) for row in range(5)])
    assert np.abs(whole[:5] - alone).max() < LanguageModel.tolerance
    assert model.predict(TEXTS[:0]).shape == (0,)


def test_nats_are_probabilities(model):
    """Texts like those of training cost fewer nats a byte than shuffled letters."""
    new = pl.DataFrame({"text": ["3 birds sit on 2 trees", "sb3 rdi tni seo re 2 st"]})
    known, strange = model.predict(new)
    assert 0 < known < strange


def test_training_on_answers_only():
    """Changing how questions would continue changes nothing: only answers and ends are scored."""
    encoder = fitted(SUMS, "answer").encoder
    arrays = encoder.encode(SUMS[:2])
    first = slice(arrays["ends"][0], arrays["ends"][1])
    tokens, scored = arrays["tokens"][first], arrays["scored"][first]
    assert encoder.reader.decode(tokens[scored][:-1].tolist()) == "It is 1."
    assert tokens[scored][-1] == encoder.settings.end
    assert encoder.reader.decode(tokens[~scored][1:].tolist()) == "What is 0 and 1?\n\n"


def test_gradient_is_of_answers_only():
    """The loss of a fit's batch is that of its answers' tokens alone, and so is its weight."""
    from loopline.nets.lm import Decoder
    from loopline.nets.lm_files import shape_of

    train = view_of(SUMS, "answer")
    kind = LanguageModel()
    encoder, _, job = kind._job(train, None, TINY, FitContext(seed=0))
    task = kind.examples(job, encoder)
    rows = np.arange(task.num_rows)
    assert kind.num_steps(job, encoder) == -(-task.num_rows * 2 // 4)
    batch = task.batch(rows, rows, train=True)
    network = Decoder(shape_of(encoder.config, "tiny"))
    loss, mass = task.loss(network, batch)
    assert int(mass) == int(job.train.arrays["scored"].sum())
    each = network(**batch, each=True)
    answers = batch["targets"] != -100
    torch.testing.assert_close(loss, each[answers].sum())
    assert int(answers.sum()) < answers.numel()


def test_early_stopping_is_told_in_bits_per_byte():
    """With held-out rows the history has bits per byte, and the passes that were best are kept."""
    model = fitted(valid=TEXTS[:8], patience=1, epochs=3.0)
    assert all("bits_per_byte" in entry for entry in model.history["history"])
    assert 0 < model.params["epochs"] <= 3.1


def test_equal_fits_are_bit_equal_and_seeds_matter():
    """The same seed gives the same weights; another gives others."""
    one, two, other = fitted(), fitted(), fitted(context=FitContext(seed=4))
    same = one.network.state_dict()
    assert all(torch.equal(value, two.network.state_dict()[name]) for name, value in same.items())
    assert not torch.equal(same["tokens.weight"], other.network.state_dict()["tokens.weight"])


def test_a_killed_fit_goes_on_exactly(tmp_path, monkeypatch):
    """A fit that dies after a checkpoint and is started again has an unbroken one's weights."""
    whole = fitted(epochs=4.0)
    made = training.prepare_fit

    class Die(Event):
        name = "die"

        def saved(self, run):
            run.checkpoints.settle()
            raise KeyboardInterrupt

    def prepared(*given, **named):
        run = made(*given, **named)
        run.settings = replace(run.settings, save_every=3)
        run.events = run.events if died.exists() else (*run.events, Die())
        return run

    died = tmp_path / "died"
    monkeypatch.setattr(training, "prepare_fit", prepared)
    context = FitContext(seed=3, folder=tmp_path / "fit", digests={"data": "a"})
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=4.0, context=context)
    assert list((tmp_path / "fit" / "checkpoints").glob("step-*3"))
    died.touch()
    again = fitted(epochs=4.0, context=context)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def test_a_saved_model_is_tuned(model, tmp_path):
    """The folder that a release carries can be given as `model`; nothing else of it is needed."""
    model.save(tmp_path)
    tuned = fitted(model=str(tmp_path / FOLDER), length=16, **_usual("epochs", 1.0))
    assert tuned.encoder.settings.length == 16
    assert tuned.predict(TEXTS).sum() < model.predict(TEXTS).sum() * 1.05


def _usual(name, value):
    """The tiny settings without those of a new model's shape."""
    usual = LanguageModel().defaults("language", 40)
    reset = {key: usual[key] for key in ("layers", "width", "head_width", "vocabulary")}
    return {**reset, name: value}


def test_what_has_no_effect_is_refused(model, tmp_path):
    """A new model's shape beside a given one, and lengths beyond its context, are told."""
    model.save(tmp_path)
    with pytest.raises(SettingsError, match="`layers` of the lm family has no effect"):
        fitted(model=str(tmp_path / FOLDER), **{**_usual("epochs", 1.0), "layers": 2})
    with pytest.raises(SettingsError, match="`length: 33` is more than"):
        fitted(model=str(tmp_path / FOLDER), length=33, **_usual("epochs", 1.0))
    with pytest.raises(SettingsError, match="no parameter `label_smoothing`"):
        fitted(label_smoothing=0.1)


def test_a_tokenizer_that_lacks_characters_is_refused(tmp_path):
    """A tokenizer that cannot write a text is refused with the characters that it lacks."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {sign: number for number, sign in enumerate("abcdefghijklmnopqrstuvwxyz ?")}
    small = Tokenizer(models.WordLevel(letters, unk_token="?"))
    small.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    small.add_special_tokens(["<|endoftext|>"])
    small.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"40 of 40 texts back .*: it lacks '0'.* row 1\)"):
        fitted(tokenizer=str(tmp_path / "tokenizer.json"))
    with pytest.raises(SettingsError, match="There is no tokenizer at"):
        fitted(tokenizer=str(tmp_path / "other.json"))


def test_a_given_tokenizer_is_used(tmp_path):
    """A byte-level tokenizer in a file is taken as it is, though the texts have new letters."""
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(["aaa bbb"] * 3, 260))
    frame = TEXTS.with_columns(pl.col("text") + " é")
    found = fitted(frame, tokenizer=str(tmp_path / "tokenizer.json"))
    assert found.encoder.reader.get_vocab_size() <= 260
    assert np.isfinite(found.predict(frame)).all()


def test_texts_that_name_the_end_are_texts():
    """A text that says "<|endoftext|>" is encoded letter by letter, and comes back."""
    settings = TokenSettings("text", (), 0, 0, 8)
    encoder = LanguageEncoder(settings, train_tokenizer(["a b"], 260), {})
    (numbers,) = encoder.numbers(["<|endoftext|>"])
    assert 0 not in numbers
    assert encoder.reader.decode(numbers) == "<|endoftext|>"


def test_long_documents_are_told():
    """Documents longer than the network reads are cut into pieces, which is told."""
    heard = SilentReporter()
    fitted(length=8, context=FitContext(seed=0, reporter=heard))
    assert any("40 of 40 documents are longer than the 8 tokens" in note for note in heard.notes)


def test_writing_goes_on(model):
    """Equal seeds write equal texts; the pieces joined are the tokens' text; a prompt counts."""
    text = "".join(model.write("3 birds", most=12, seed=5))
    assert text == "".join(model.write("3 birds", most=12, seed=5))
    assert text != "".join(model.write("3 birds", most=12, seed=6))
    with pytest.raises(SettingsError, match="reads 32 at once; shorten it"):
        list(model.write("birds " * 40))


def test_instructions_stand_before_what_is_written():
    """A prompt of a model of answers is read as its question."""
    model = fitted(SUMS, "answer")
    named = "".join(model.write({"question": "What is 3 and 4?"}, most=5, seed=1))
    assert named == "".join(model.write("What is 3 and 4?", most=5, seed=1))


def test_damaged_weights_are_refused(model, tmp_path):
    """Weights that do not fit their configuration are an integrity error, told with the tensor."""
    model.save(tmp_path)
    config = tmp_path / FOLDER / "config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({**facts, "intermediate_size": 8}))
    with pytest.raises(IntegrityError, match="is damaged"):
        family("lm").load(tmp_path).predict(TEXTS)
    shutil.rmtree(tmp_path / "encoder")
    with pytest.raises(IntegrityError, match="no encoder of documents"):
        family("lm").load(tmp_path)


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    """Where tokenizers is not installed, the extra is named."""
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tokenizers" else real(name)
    )
    with pytest.raises(EnvironmentProblem, match=r"pip install 'loopline\[neural\]'"):
        fitted()
