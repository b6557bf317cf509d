"""Counted bytes: probabilities by hand, that they sum to 1, and a language line without torch."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline import fit
from loopline.data.language import language_schema, with_bytes
from loopline.errors import InputError, SettingsError
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.metrics import default_metric, metric
from loopline.models.base import FitContext, FittedModel
from loopline.models.families import family
from loopline.models.ngram import END, Signs
from loopline.splits.split import all_train


def view_of(frame, text="text"):
    frame = with_bytes(frame, text)
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    return all_train(digests).train_view(frame, language_schema(frame, text, {}))


def fitted(texts, order):
    train = view_of(pl.DataFrame({"text": texts}))
    return family("ngram").fit(train, None, {"order": order}, FitContext(seed=0))


def test_shares_by_hand():
    """Of "aab" and its end, Witten-Bell gives a, b and the end (2 + 3/257) / 7 and so on."""
    model = fitted(["aab"], 1)
    one = (1 + 3 / 257) / 7
    wanted = 2 * math.log((2 + 3 / 257) / 7) + 2 * math.log(one)
    assert model.predict(pl.DataFrame({"text": ["aab"]}))[0] == pytest.approx(-wanted)


def test_second_order_by_hand():
    """After "a" of "ab" only b followed: (1 + share of b) / 2."""
    model = fitted(["ab"], 2)
    one = (1 + 3 / 257) / 6
    after = (1 + one) / 2
    assert model.predict(pl.DataFrame({"text": ["ab"]}))[0] == pytest.approx(-3 * math.log(after))


@settings(max_examples=8)
@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=6), min_size=1, max_size=4),
       st.text(alphabet="abc", max_size=4), st.integers(1, 4))  # fmt: skip
def test_probabilities_sum_to_one(texts, start, order):
    """After any beginning, the probabilities of all bytes and of the end sum to 1."""
    model = fitted(texts, order)
    after = Signs.of(["\x00"] * 257, [start] * 257)
    after.signs[after.row.searchsorted(np.arange(257), side="right") - 1] = np.arange(257)
    shares = model._shares(after)[after.row.searchsorted(np.arange(257), side="right") - 1]
    assert shares.sum() == pytest.approx(1.0)


def test_prompts_are_context_only():
    """What stands before a text is read and not scored."""
    signs = Signs.of(["ab"], ["c"])
    assert signs.signs.tolist() == [END, 97, 98, 99, END]
    assert signs.scored.tolist() == [False, False, False, True, True]


def test_saved_models_answer_alike(tmp_path):
    """What is saved is read again, as the family itself and as the baseline."""
    texts = pl.DataFrame({"text": ["to be or not to be", "that is the question"] * 3})
    for name in ("ngram", "baseline"):
        model = family(name).fit(view_of(texts), None, {}, FitContext(seed=0))
        folder = tmp_path / name
        model.save(folder)
        again = family(name).load(folder)
        assert np.array_equal(again.predict(texts), model.predict(texts))
        assert again.family == name


def test_bits_per_byte_by_hand():
    """Sums of nats over sums of bytes, not the mean of rows' ratios; perplexity follows."""
    y, nats = np.array([4.0, 12.0] * 20), np.array([4.0, 6.0] * 20) * math.log(2)
    assert default_metric("language").name == "bits_per_byte"
    assert metric("bits_per_byte")(y, nats) == pytest.approx(10 / 16)
    assert metric("byte_perplexity")(y, nats) == pytest.approx(2 ** (10 / 16))
    found = evaluate_predictions("language", (), y, nats)
    assert found["nats_per_row"].value == pytest.approx(5 * math.log(2))
    assert found["bits_per_byte"].low < 10 / 16 < found["bits_per_byte"].high
    with pytest.raises(SettingsError, match="metrics are bits_per_byte"):
        metric("rmse", "language")


def test_interval_of_bits_per_byte_covers():
    """The 95 % interval of a ratio covers the true ratio in 90 to 99 % of 300 simulations."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(300):
        y = np.exp(draw.normal(4.0, 0.8, 120)).round() + 1
        nats = y * draw.gamma(20, 2.0 / 20, 120) * math.log(2)
        found = evaluate_predictions("language", (), y, nats)["bits_per_byte"]
        hits += found.low <= 2.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_a_language_line_by_counts(tmp_path):
    """A plain text file is run, released and scored; the longer contexts win by bits per byte."""
    words = ["the cat sat", "on the mat", "and the dog", "ran to the cat"]
    draw = np.random.default_rng(1)
    text = "\n\n".join(" ".join(draw.choice(words, 6)) for _ in range(150))
    (tmp_path / "tale.txt").write_text(text)
    found = fit(
        tmp_path / "tale.txt",
        target="text",
        task="language",
        models=["baseline", "ngram"],
        settings={"split": {"folds": 2}, "data": {"format": {"document_bytes": 200}}},
        store=tmp_path / "store",
    )
    assert found.summary["chosen"] == "ngram"
    new = pl.DataFrame({"text": ["the cat sat on the mat", "xq zzv wwk jjy"]})
    likely, strange = found.predict(new)["prediction"].to_list()
    assert likely < strange
    scored = found.release.evaluate(new)
    wanted = (likely + strange) / math.log(2) / 36
    assert scored.metrics["bits_per_byte"].value == pytest.approx(wanted)


def test_writing_follows_the_counts():
    """After a prompt the likeliest bytes follow, joined to letters; equal seeds draw alike."""
    model = fitted(["é to be or not to be"] * 4, 5)
    assert "".join(model.write("é to be o", temperature=0.0)).startswith("r not to be")
    assert "".join(model.write("", seed=3)) == "".join(model.write("", seed=3))
    assert "".join(model.write("", temperature=0.0, most=2)) == "é"
    with pytest.raises(SettingsError, match="temperature"):
        list(model.write("", temperature=-1.0))


def test_other_families_write_nothing():
    """A model of labels says which families write."""
    model = fitted(["ab"], 1)
    with pytest.raises(InputError, match="families of `task: language` do"):
        FittedModel.write(model, "a")
