"""The decoder: equal to transformers' models, packed documents alone, losses without all scores."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st

from loopline.engine.loop import train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.errors import SettingsError
from loopline.nets.lm import Decoder, Shape, multiplied
from loopline.nets.lm_files import load_decoder, save_decoder
from loopline.nets.lm_loss import chunks, token_losses
from loopline.nets.lm_pack import Texts, pack, packed_rows
from loopline.nets.lm_sample import sample
from loopline.nets.lm_task import LanguageTask, document_losses

LLAMA = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


def small(**others):
    torch.manual_seed(0)
    settings = {"vocabulary": 50, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2,
                "head_width": 8, "inner": 48, "context": 32, **others}  # fmt: skip
    model = Decoder(Shape(**settings)).eval()
    for value in model.parameters():  # so that errors are not hidden by small weights
        torch.nn.init.normal_(value, std=0.3)
    return model


def theirs(kind, **others):
    torch.manual_seed(1)
    if kind == "llama":
        config = transformers.LlamaConfig(**{**LLAMA, "initializer_range": 0.2, **others})
        return transformers.LlamaForCausalLM(config).eval()
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, initializer_range=0.3
    )
    return transformers.GPT2LMHeadModel(config).eval()


SCALED = {"rope_type": "llama3", "rope_theta": 5e3, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 16}),
        ("llama", {"rope_parameters": SCALED}),
        ("gpt2", {}),
    ],
)
def test_their_folder_gives_their_scores(tmp_path, kind, others):
    """A folder that transformers wrote gives, read here, the scores of its own model to 1e-5."""
    model = theirs(kind, **others)
    model.save_pretrained(tmp_path)
    tokens = torch.randint(0, 50, (2, 32))
    with torch.no_grad():
        difference = load_decoder(tmp_path).scores(tokens) - model(tokens).logits
    assert float(difference.abs().max()) < 1e-5


@pytest.mark.parametrize("style", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_our_folder_loads_there(tmp_path, style, tied):
    """A folder that we wrote loads in transformers with no tensor missing, and answers alike."""
    given = {"style": style, "tied": tied}
    model = small(**given) if style == "llama" else small(**given, kv_heads=4)
    save_decoder(model, tmp_path, end=3)
    found, facts = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not facts["missing_keys"] | facts["unexpected_keys"]
    tokens = torch.randint(0, 50, (2, 20))
    with torch.no_grad():
        difference = model.scores(tokens) - found.eval()(tokens).logits
    assert float(difference.abs().max()) < 1e-5


def test_our_folder_comes_back_equal(tmp_path):
    """Weights that are written and read again are bit-equal."""
    model = small(tied=False)
    save_decoder(model, tmp_path)
    again = load_decoder(tmp_path)
    assert again.shape == model.shape
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_weights_of_another_shape_are_refused(tmp_path):
    """A configuration that does not fit its weights is told with the tensor's name."""
    save_decoder(small(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(SettingsError, match=r"gate_proj.weight has the shape \(48, 32\)"):
        load_decoder(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bert"}, "of the type 'bert'"),
        ({**LLAMA, "model_type": "llama", "attention_bias": True}, "has attention_bias"),
        ({**LLAMA, "model_type": "llama", "rope_scaling": {"type": "yarn"}}, "'yarn'"),
    ],
)
def test_other_kinds_are_refused(tmp_path, config, words):
    """A model that this decoder cannot be is refused in a sentence, not read as something else."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match=words):
        load_decoder(tmp_path)


def packed(ends, length, scored=None, weight=None):
    texts = Texts(np.arange(ends[-1]) % 50, np.array(ends), scored, weight)
    found = pack(texts.ends, length)
    arrays = packed_rows(found, texts, np.arange(found.num_rows))
    return found, {name: torch.from_numpy(value) for name, value in arrays.items()}


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_a_document_does_not_see_its_neighbours(style):
    """The losses of a packed document are those of the document alone."""
    model = small(style=style, kv_heads=4).double()
    ends = [0, 7, 12, 30, 39]
    place, arrays = packed(ends, 24)
    losses = model(**arrays, each=True)
    ends = dict.fromkeys(place.rows.tolist(), 0)
    for row, start, size in zip(place.rows, place.starts, place.sizes, strict=True):
        tokens = torch.arange(start, start + size + 1)[None] % 50
        alone = model(tokens[:, :-1], tokens[:, 1:], each=True)[0]
        at = ends[row]
        torch.testing.assert_close(losses[row, at : at + size], alone, rtol=1e-9, atol=1e-9)
        ends[row] = at + size
    assert len(place.rows) > place.num_rows


def test_packed_targets_stay_in_their_document():
    """Every target is the token after its input, in the same document; filling up has none."""
    place, arrays = packed([0, 7, 12, 12, 13, 50], 16)
    wanted = sum(size - 1 for size in (7, 5, 0, 1, 37) if size)
    known = arrays["targets"] != -100
    assert int(known.sum()) == wanted == int(place.sizes.sum())
    assert torch.equal((arrays["tokens"][known] + 1) % 50, arrays["targets"][known])
    assert place.sizes.min() >= 1  # a document of one token has nothing to be guessed
    assert int(arrays["ends"][-1]) == arrays["tokens"].numel()
    assert (arrays["ends"].diff() >= 0).all()
    borders = set(range(0, arrays["tokens"].numel() + 1, 16))
    assert borders <= set(arrays["ends"].tolist())  # no document reaches into the next row


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 16))
def test_packing_loses_nothing_and_fills_no_row_over(sizes, length):
    """Every token but a document's first is a target once, its input before it in the same row; no
    row holds more than it has places."""
    assume(max(sizes) > 1)
    found = pack(np.concatenate([[0], np.cumsum(sizes)]), length)
    assert np.bincount(found.rows, weights=found.sizes).max() <= length
    assert np.bincount(found.rows).min() >= 1
    aims = [start + 1 + n for start, size in zip(found.starts, found.sizes, strict=True)
            for n in range(size)]  # fmt: skip
    firsts = np.cumsum([0, *sizes[:-1]])[np.array(sizes) > 0]
    assert sorted(aims) == sorted(set(range(sum(sizes))) - set(firsts.tolist()))
    assert found.most == np.bincount(found.rows).max()


def test_pieces_of_a_long_document_keep_its_weight():
    """A document that was cut counts as much in all of its pieces, and its neighbour as its own."""
    place, arrays = packed([0, 20, 26], 8, weight=np.array([0.5, 2.0], dtype=np.float32))
    assert place.sizes.tolist() == [8, 8, 3, 5]
    known = arrays["targets"] != -100
    assert float((arrays["weight"] * known).sum()) == 0.5 * 19 + 2.0 * 5


def test_only_answers_are_learned():
    """Tokens that are not scored give no loss and no gradient: only what follows the prompt."""
    model = small().double()
    scored = np.arange(12) >= 8
    _, arrays = packed([0, 12], 16, scored)
    loss = model(**arrays)
    tokens = arrays["tokens"][:, :11]
    scores = model.scores(tokens)[0, 7:11]
    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(8, 12), reduction="sum")
    torch.testing.assert_close(loss, wanted)
    changed = {**arrays, "targets": arrays["targets"].clone()}
    changed["targets"][0, :7] = -100
    assert torch.equal(model(**changed), loss)


@pytest.mark.parametrize("chunk_bytes", [1, 50 * 8 * 7, 2**20])
def test_chunked_loss_and_gradient(chunk_bytes):
    """Loss and gradient by chunks are those of torch's cross-entropy over all scores."""
    model = small(tied=False).double()
    model.chunk_bytes = chunk_bytes
    tokens = torch.randint(0, 50, (3, 16))
    targets = torch.randint(0, 50, (3, 16))
    targets[0, :5] = -100
    weight = torch.rand(3, 16, dtype=torch.float64)
    loss = model(tokens, targets, weight=weight)
    loss.backward()
    found = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    each = torch.nn.functional.cross_entropy(
        model.scores(tokens).flatten(0, 1), targets.flatten(), reduction="none"
    )
    wanted = (each * weight.flatten()).sum()
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, targets, weight=weight), wanted)
    for name, value in model.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("form", [True, "whole"])
def test_compiled_parts_and_one_graph_train_alike(form, monkeypatch):
    """Compiled by block or as one graph, a decoder takes the plain one's steps; one graph is one.

    Nothing is generated (torch's "eager" back end), so no compiler is needed.
    """
    compiled, made = torch.compile, []

    def watched(called, **settings):
        return compiled(called, **{**settings, "backend": count})

    def count(graph, inputs):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", watched)
    tokens = np.random.default_rng(0).integers(0, 50, 8 * 17).astype(np.int32)
    texts = Texts(tokens, np.arange(9) * 17)

    def losses(form):
        torch._dynamo.reset()
        made.clear()
        run = prepare(LanguageTask(texts, None, 16), small(), TrainSettings(
            batch_size=4, steps=3, micro_batch=4, compile=form,
            optimizer=OptimizerSettings(lr=1e-2),
        ))  # fmt: skip
        train(run)
        return run.packet.loss, len(made)

    (plain, none), (found, graphs) = losses(form=False), losses(form)
    assert none == 0
    assert graphs == {"whole": 2}.get(form, graphs)  # the blocks, and the gradient of a chunk
    assert graphs >= 2
    assert found == pytest.approx(plain, rel=1e-6)


def test_losses_of_tokens_sum_to_the_loss():
    """The losses of the tokens sum to the loss of the whole, and are 0 where nothing is guessed."""
    model = small()
    tokens = torch.randint(0, 50, (2, 9))
    targets = torch.where(torch.arange(9) < 4, -100, torch.randint(0, 50, (2, 9)))
    each = model(tokens, targets, each=True)
    assert float(each[:, :4].abs().max()) == 0.0
    torch.testing.assert_close(each.sum(), model(tokens, targets))


def test_chunks_have_one_size_where_that_can_be_had():
    """48 tokens of which 10 fit are taken as six chunks of eight, not as four of ten and a rest."""
    found = chunks(48, 1, torch.float32, 40)
    assert [part.stop for part in found] == [8, 16, 24, 32, 40, 48]
    assert chunks(0, 5, torch.float32, 40) == []
    assert (
        token_losses(torch.zeros(0, 4), torch.zeros(5, 4), torch.zeros(0).long(), 40).numel() == 0
    )


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_memory_gives_the_scores_of_reading_anew(style):
    """Scores with remembered keys and values are those of reading all tokens at once."""
    model = small(style=style, kv_heads=4).double()
    tokens = torch.randint(0, 50, (2, 12))
    read = model.begin(2)
    parts = [model.scores(part, read) for part in tokens.split([5, 1, 1, 5], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model.scores(tokens))


def test_sampling_follows_seed_temperature_and_share():
    """Equal seeds draw alike; temperature 0 and a tiny share give the likeliest token each time."""
    model = small()
    draw = lambda **others: list(sample(model, [1, 2, 3], most=20, **others))  # noqa: E731
    assert draw(seed=4) == draw(seed=4) != draw(seed=5)
    likeliest = draw(temperature=0.0)
    assert likeliest == draw(top_p=1e-9, seed=9)
    tokens = torch.tensor([[1, 2, 3, *likeliest]])
    assert model.scores(tokens)[0, 2:-1].argmax(-1).tolist() == likeliest


def test_sampling_ends():
    """It ends at the end token, which is not given, and at the latest when the context is full."""
    model = small()
    whole = list(sample(model, [1], most=100, temperature=0.0))
    assert len(whole) == model.shape.context
    cut = list(sample(model, [1], most=100, temperature=0.0, end=whole[3]))
    assert cut == whole[: whole.index(whole[3])]
    with pytest.raises(SettingsError, match="reads 32 at once"):
        next(sample(model, [1] * 33, most=1))
    with pytest.raises(SettingsError, match="top_p"):
        next(sample(model, [1], most=1, top_p=0.0))


def test_shape_problems_are_told_together():
    """All that is wrong with a shape is told at once."""
    with pytest.raises(SettingsError) as told:
        Shape(vocabulary=5, heads=3, kv_heads=2, head_width=7, layers=0)
    assert all(word in str(told.value) for word in ("layers", "kv_heads", "head_width"))


def test_multiplied_weights():
    """A shape's multiplied weights: head once, whether tied or not, no look-up table."""
    assert multiplied(small(tied=True)) == multiplied(small(tied=False))
    flops = small().flops
    assert flops.full == 6 * multiplied(small()) + 12 * 2 * 32 * 32


def test_sixteen_bits_between_blocks():
    """With BF16 autocast the loss is near that of 32 bits, and gradients have the weights' type."""
    model = small()
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.05)
    tokens = torch.randint(0, 50, (4, 16))
    exact = model(tokens[:, :-1], tokens[:, 1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        assert model.hidden(tokens).dtype == torch.bfloat16
    loss.backward()
    assert float((loss - exact).detach().abs() / exact.detach()) < 0.01
    assert all(value.grad.dtype == torch.float32 for value in model.parameters())


def test_losses_of_documents():
    """The loss of each document is that of the document alone, cut where it is too long."""
    model = small().double()
    texts = Texts(np.arange(60) % 50, np.array([0, 9, 10, 29, 60]), np.arange(60) % 3 > 0)
    found = document_losses(model, texts, 16, tokens_at_once=40)
    for number, (start, stop) in enumerate(itertools.pairwise(texts.ends.tolist())):
        wanted = 0.0
        for first in range(start, stop - 1, 16):
            line = torch.arange(first, min(first + 17, stop))
            each = model(line[None, :-1] % 50, line[None, 1:] % 50, each=True)[0]
            wanted += float(each[torch.from_numpy(texts.scored)[line[1:]]].sum())
        assert found[number] == pytest.approx(wanted, rel=1e-9)
    assert found[1] == 0.0


def test_task_learns_and_scores_by_weight():
    """The engine's task: weights of documents count in loss, mass and score; bits a byte follow."""
    weight = np.array([1.0, 0.5], dtype=np.float32)
    texts = Texts(np.arange(20) % 50, np.array([0, 8, 20]), None, weight)
    task = LanguageTask(texts, texts, 32, valid_bytes=40)
    model = small()
    rows = np.zeros(1, dtype=np.int64)
    batch = task.batch(rows, rows, train=True)
    loss, mass = task.loss(model, batch)
    assert float(mass) == 7 + 0.5 * 11
    nats = document_losses(model, Texts(texts.tokens, texts.ends), 32)
    assert float(loss.detach()) == pytest.approx(float(nats @ weight), rel=1e-5)
    score, others = task.score(task.predict(model, batch).detach().numpy())
    assert score == pytest.approx(float(loss.detach()) / 12.5, rel=1e-5)
    assert others["bits_per_byte"] == pytest.approx(score * 12.5 / np.log(2) / 40)
