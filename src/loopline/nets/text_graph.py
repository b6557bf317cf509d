"""A BERT-shaped encoder as an ONNX graph: one short text in half of PyTorch's time on a processor.

A single text is a chain of a hundred small products, and what PyTorch spends between them is as
much as the products take. The graph is written from the weights that were trained, node by node,
in ONNX Runtime's fused operators, and is used only after it has given PyTorch's own answers. It
lives in memory, as long as the service does: a release holds the weights alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

TOLERANCE = 1e-5
"""Largest difference of a state from PyTorch's, in units of the largest state."""
_SHAPES = ((1, 3), (1, 16), (3, 40))
"""Windows and tokens of what the graph is proved on."""
_FUSED = "com.microsoft"
_OPSET, _FORMAT = 17, 8
_SHARED = {"model_type": "bert", "hidden_act": "gelu", "is_decoder": False,
           "position_embedding_type": "absolute"}  # fmt: skip
"""What the configuration must say for the graph to be that of the network."""

Weights = Mapping[str, NDArray[np.float32]]


class GraphEncoder(nn.Module):
    """An encoder that ONNX Runtime computes, called as the network that it stands for.

    Args:
        model: the graph, serialised.
        threads: how many it may use.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # idle threads wait awake for the next part of a text, and rest when it is answered
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """The states of each token as `last_hidden_state`, shape (windows, tokens, hidden).

        Args:
            input_ids: int64, shape (windows, tokens).
            attention_mask: 1 where a token counts, same shape.
        """
        (states,) = self._session.run(
            None,
            {
                "tokens": input_ids.numpy(),
                "mask": attention_mask.numpy(),
                "places": np.arange(input_ids.shape[1]),
            },
        )
        return SimpleNamespace(last_hidden_state=torch.from_numpy(states))


def graph_encoder(network: nn.Module, config: Mapping[str, Any]) -> GraphEncoder | None:
    """The same encoder as a graph; None where there is no gain or no proof.

    That is so on a GPU, for networks of another build, without the extra `loopline[onnx]`, and
    where the graph's states differ from the network's by more than `TOLERANCE`.

    Args:
        network: a pretrained encoder in evaluation mode, or its graph already.
        config: its configuration.
    """
    if isinstance(network, GraphEncoder):
        return network
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        return None
    if any(config.get(name, value) != value for name, value in _SHARED.items()):
        return None
    if any(value.device.type != "cpu" for value in network.parameters()):
        return None
    weights = {name: value.float().numpy() for name, value in network.state_dict().items()}
    found = GraphEncoder(encoder_graph(weights, config), torch.get_num_threads())
    return found if _is_same(network, found, int(config["vocab_size"])) else None


@torch.no_grad()
def _is_same(network: nn.Module, graph: GraphEncoder, num_tokens: int) -> bool:
    """Whether both give the same states, for whole windows and for windows that are filled up."""
    chance = np.random.default_rng(0)
    for windows, size in _SHAPES:
        tokens = torch.from_numpy(chance.integers(0, num_tokens, (windows, size)))
        mask = torch.ones_like(tokens)
        mask[1:, size // 2 :] = 0
        wanted, found = (
            one(input_ids=tokens, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
            for one in (network, graph)
        )
        if not (wanted - found).abs().max() <= TOLERANCE * wanted.abs().max():
            return False
    return True


def encoder_graph(weights: Weights, config: Mapping[str, Any]) -> bytes:
    """The graph of a BERT encoder, from `tokens`, `mask` and `places` to its last states.

    Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers".

    Args:
        weights: by the names that transformers gives them.
        config: its configuration.
    """
    graph = _Graph(weights, float(config["layer_norm_eps"]))
    first = "embeddings"
    kind = weights[f"{first}.token_type_embeddings.weight"][0]
    places = graph.held(weights[f"{first}.position_embeddings.weight"] + kind)
    words = graph.weight(f"{first}.word_embeddings.weight")
    counted = graph.add("Cast", ["mask"], to=graph.int32)
    read = graph.add(
        "Add", [graph.add("Gather", [words, "tokens"]), graph.add("Gather", [places, "places"])]
    )
    norm = [graph.weight(f"{first}.LayerNorm.{part}") for part in ("weight", "bias")]
    states = graph.add("LayerNormalization", [read, *norm], axis=-1, epsilon=graph.epsilon)
    for number in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layer.{number}"
        states = _attended(graph, layer, states, counted, int(config["num_attention_heads"]))
        wide = graph.fused(
            "BiasGelu",
            [
                graph.product(states, f"{layer}.intermediate.dense"),
                graph.weight(f"{layer}.intermediate.dense.bias"),
            ],
        )
        states = graph.joined(wide, states, f"{layer}.output")
    return graph.model(states, int(config["hidden_size"]))


def _attended(graph: _Graph, layer: str, states: str, counted: str, heads: int) -> str:
    asked = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    matrix = np.concatenate([graph.weights[f"{name}.weight"].T for name in asked], axis=1)
    bias = np.concatenate([graph.weights[f"{name}.bias"] for name in asked])
    given = [states, graph.held(matrix), graph.held(bias), counted]
    return graph.joined(
        graph.fused("Attention", given, num_heads=heads), states, f"{layer}.attention.output"
    )


class _Graph:
    """Nodes and weights as they are added; every node has one output, which names it."""

    def __init__(self, weights: Weights, epsilon: float) -> None:
        import onnx

        self.weights, self.epsilon = weights, epsilon
        self.int32: int = onnx.TensorProto.INT32
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._held: list[Any] = []

    def held(self, values: NDArray[np.float32]) -> str:
        """Values that the graph holds."""
        name = f"held.{len(self._held)}"
        self._held.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, name: str) -> str:
        """One of the weights as it is."""
        return self.held(self.weights[name])

    def add(self, kind: str, given: list[str], domain: str = "", **settings: Any) -> str:
        """A node; gives the name of its output."""
        name = f"node.{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, given, [name], domain=domain, **settings)
        self._nodes.append(node)
        return name

    def fused(self, kind: str, given: list[str], **settings: Any) -> str:
        """A node of ONNX Runtime's own."""
        return self.add(kind, given, _FUSED, **settings)

    def product(self, states: str, name: str) -> str:
        """The states times a layer's matrix, without its bias."""
        return self.add("MatMul", [states, self.held(self.weights[f"{name}.weight"].T)])

    def joined(self, new: str, states: str, name: str) -> str:
        """A layer's product added to the states that it came from, brought to one scale."""
        norm = [self.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias")]
        given = [self.product(new, f"{name}.dense"), states, *norm]
        return self.fused(
            "SkipLayerNormalization",
            [*given, self.weight(f"{name}.dense.bias")],
            epsilon=self.epsilon,
        )

    def model(self, states: str, hidden: int) -> bytes:
        """The whole graph, serialised."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        shape = ["windows", "tokens"]
        inputs = [
            helper.make_tensor_value_info("tokens", types.INT64, shape),
            helper.make_tensor_value_info("mask", types.INT64, shape),
            helper.make_tensor_value_info("places", types.INT64, shape[1:]),
        ]
        output = helper.make_tensor_value_info(states, types.FLOAT, [*shape, hidden])
        graph = helper.make_graph(self._nodes, "encoder", inputs, [output], self._held)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=_FORMAT)
        data: bytes = made.SerializeToString()
        return data
