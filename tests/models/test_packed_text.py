"""Packed texts: the same vectors as the transformers library's BERT, and its weights back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks need the extra `neural`")
pytest.importorskip("transformers", reason="the library's BERT is compared with")

import torch

from loopline.nets.packed_text import ROUND, PackedEncoder, packable, packed


@pytest.fixture(scope="module")
def bert() -> torch.nn.Module:
    """A tiny BERT with random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=64, intermediate_size=48, **shape)).eval()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_packed_vectors_are_those_of_single_texts(bert, pooling) -> None:
    """Each text's vector is the one that the library's model gives for the text alone."""
    draw = np.random.default_rng(0)
    sizes = np.array([3, 17, 1, 60])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    tokens = draw.integers(0, 64, ends[-1]).astype(np.int32)
    rows = np.array([3, 0, 2, 1])
    net = PackedEncoder(bert.config.to_dict(), pooling).read(bert.state_dict()).eval()
    inputs = packed(tokens, ends, rows, 0)
    assert inputs["tokens"].size == ROUND
    with torch.no_grad():
        found = net(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        for place, row in enumerate(rows.tolist()):
            alone = torch.from_numpy(tokens[ends[row] : ends[row + 1]].astype(np.int64))[None]
            states = bert(input_ids=alone).last_hidden_state[0]
            wanted = states[0] if pooling == "cls" else states.mean(dim=0)
            torch.testing.assert_close(found[place], wanted, rtol=0, atol=2e-6)


def test_a_full_line_is_filled_up_too() -> None:
    """Texts of exactly a line's length are followed by one more that nobody reads, so that there
    are always as many texts as `ends` says."""
    found = packed(np.arange(ROUND, dtype=np.int32), np.array([0, ROUND]), np.array([0]), 9)
    assert found["ends"].tolist() == [0, ROUND, 2 * ROUND]
    assert found["owner"].tolist() == [0] * ROUND + [1] * ROUND
    assert found["places"].tolist() == [*range(ROUND), *[0] * ROUND]


@pytest.mark.parametrize(
    "changed",
    [
        {"model_type": "roberta"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"max_position_embeddings": ROUND + 1},
    ],
)
def test_other_encoders_are_not_packed(bert, changed) -> None:
    """Only what is computed alike is read as a packed encoder."""
    config = bert.config.to_dict()
    assert packable(config)
    assert not packable({**config, **changed})


def test_weights_go_back_under_the_library_s_names(bert) -> None:
    """What was read is written again, tensor by tensor."""
    net = PackedEncoder(bert.config.to_dict(), "mean").read(bert.state_dict())
    written = net.written()
    known = {name for name in bert.state_dict() if "pooler" not in name and "_ids" not in name}
    assert written.keys() == known
    for name, value in written.items():
        torch.testing.assert_close(value, bert.state_dict()[name], rtol=0, atol=0)


def test_the_text_family_learns_the_same_from_packed_texts(monkeypatch, tmp_path) -> None:
    """Trained packed, as on a GPU, a fit gives the predictions of one that fills up batches."""
    from tests.models.tiny_text import make_encoder

    from loopline.models.base import FitContext
    from loopline.models.text import Text
    from loopline.nets import packed_text
    from loopline.testing.families import make_text_table, make_view

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = str(make_encoder(tmp_path / "encoder", **still))
    table = make_text_table("multiclass", 60)
    params = {"model": model, "tune": "full", "epochs": 2.0, "dropout": 0.0, "penalty": 1.0}
    params |= {"learning_rate": 3e-3, "batch_size": 16, "pooling": "mean"}
    answers = []
    for worth in (False, True):
        monkeypatch.setattr(packed_text, "worth_packing", lambda worth=worth: worth)
        view = make_view("multiclass", table)
        fitted = Text().fit(view, None, params, FitContext(seed=3))
        answers.append(fitted.predict(table))
        fitted.save(tmp_path / str(worth))
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=2e-4)
    loaded = Text().load(tmp_path / "True")
    np.testing.assert_array_equal(loaded.predict(table), answers[1])
