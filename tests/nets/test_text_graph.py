"""The graph of a text encoder: PyTorch's answers, and no graph where they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.tiny_text import TinyFull, TinyText, tiny_encoder

from loopline.models.base import FittedModel
from loopline.models.pretrained import find_pretrained
from loopline.nets import text_graph
from loopline.nets.text_graph import TOLERANCE, GraphEncoder, graph_encoder
from loopline.testing import families as kit

for package in ("tokenizers", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason="graphs of encoders need `neural` and `onnx`")


def network_of(folder: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    found = find_pretrained(str(folder))
    return found.load().eval(), dict(found.config)


def fitted(family: Any, folder: Path) -> FittedModel:
    """A model as a release holds it: whole, and loaded from its files."""
    view = kit.make_view("binary", kit.make_text_table("binary"))
    kit.fit(family, "binary", view).save(folder)
    return family.load(folder)


@torch.no_grad()
def test_the_graph_gives_the_networks_states() -> None:
    """Of 20 batches of any shape, whole or filled up, no state differs by more than 1e-5."""
    network, config = network_of(tiny_encoder())
    graph = graph_encoder(network, config)
    assert graph is not None
    chance = np.random.default_rng(1)
    for _ in range(20):
        shape = tuple(chance.integers(1, [6, 60]).tolist())
        tokens = torch.from_numpy(chance.integers(0, config["vocab_size"], shape))
        sizes = torch.from_numpy(chance.integers(1, shape[1] + 1, shape[0]))
        mask = (torch.arange(shape[1]) < sizes[:, None]).long()
        wanted = network(input_ids=tokens, attention_mask=mask).last_hidden_state
        found = graph(tokens, mask).last_hidden_state
        assert found.shape == wanted.shape
        counted = mask.bool()
        assert (found[counted] - wanted[counted]).abs().max() <= TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize("family", [TinyText(), TinyFull()], ids=["head", "full"])
def test_a_quickened_model_answers_as_before(family: Any, tmp_path: Path) -> None:
    """One row and a table, by a graph and by PyTorch, are the same to the family's tolerance."""
    frame = kit.make_text_table("binary").drop("target").head(20)
    plain, quick = fitted(family, tmp_path / "one"), None
    wanted = plain.predict(frame)
    quick = family.load(tmp_path / "one")
    quick.quicken()
    quick.quicken()  # a release may be served twice in a process
    assert any(isinstance(part, GraphEncoder) for part in parts_of(quick))
    np.testing.assert_allclose(quick.predict(frame), wanted, atol=family.tolerance)
    one = np.stack([quick.predict_row(row) for row in frame.to_dicts()])
    np.testing.assert_allclose(one, wanted, atol=family.tolerance)


def parts_of(model: Any) -> list[Any]:
    return [model.frozen.backbone] if hasattr(model, "frozen") else [model.network.backbone]


def test_a_graph_without_proof_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are other ones in the graph, by a thousandth, give no graph."""
    network, config = network_of(tiny_encoder())
    right = text_graph.encoder_graph

    def wrong(weights: Any, config: Any) -> bytes:
        name = "encoder.layer.1.attention.self.value.weight"
        return right({**weights, name: weights[name] * 1.001}, config)

    monkeypatch.setattr(text_graph, "encoder_graph", wrong)
    assert graph_encoder(network, config) is None


@pytest.mark.parametrize(
    "changed", [{"hidden_act": "relu"}, {"is_decoder": True}, {"model_type": "roberta"}]
)
def test_networks_of_another_build_have_no_graph(changed: dict[str, Any]) -> None:
    """A configuration that says something else than the graph does gives no graph."""
    network, config = network_of(tiny_encoder())
    assert graph_encoder(network, {**config, **changed}) is None


def test_without_onnx_pytorch_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the network itself answers."""
    network, config = network_of(tiny_encoder())
    monkeypatch.setattr(text_graph.importlib.util, "find_spec", lambda name: None)
    assert graph_encoder(network, config) is None
