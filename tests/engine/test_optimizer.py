"""Parameters by role: decay, layer-wise rates, Muon's matrices."""

from __future__ import annotations

import pytest
import torch
from tests.engine.nets import net

from loopline.engine.optimizer import OptimizerSettings, make_optimizer
from loopline.errors import SettingsError

YES = torch.ones((), dtype=torch.bool)


def _by_name(settings: OptimizerSettings) -> dict[str, tuple[str, float, float]]:
    model = net()
    names = {id(value): name for name, value in model.named_parameters()}
    return {
        names[id(value)]: (type(part).__name__, group["lr"], group["weight_decay"])
        for part in make_optimizer(model, settings).parts
        for group in part.param_groups
        for value in group["params"]
    }


def test_only_matrices_decay() -> None:
    """Norms and biases have no weight decay, matrices have."""
    for name, (_, _, decay) in _by_name(OptimizerSettings(weight_decay=0.1)).items():
        assert decay == (0.1 if name.endswith("weight") and "norm" not in name else 0.0), name


def test_embeddings_of_position_and_single_tokens_do_not_decay() -> None:
    """They are matrices by their shape, and none by their role."""
    model = torch.nn.Module()
    for name in ("position_embeddings", "pos_embed", "cls_token", "word_embeddings"):
        model.register_parameter(name, torch.nn.Parameter(torch.ones(1, 3, 2)))
    groups = make_optimizer(model, OptimizerSettings(weight_decay=0.1)).parts[0].param_groups
    assert {len(group["params"]): group["weight_decay"] for group in groups} == {3: 0.0, 1: 0.1}


def test_layers_nearer_to_the_input_learn_more_slowly() -> None:
    """With a decay of 0.5 over three layers: 1, 0.5, 0.25, and 0.125 for what lies before them."""
    found = _by_name(OptimizerSettings(lr=1.0, layer_decay=0.5, head_lr=10.0))
    wanted = {"layers.2": 1.0, "layers.1": 0.5, "layers.0": 0.25, "embed": 0.125, "head": 10.0}
    for start, rate in wanted.items():
        assert {lr for name, (_, lr, _) in found.items() if name.startswith(start)} == {rate}


def test_muon_takes_the_matrices_inside_layers_and_adamw_the_rest() -> None:
    """Embedding, head, norms and biases stay with AdamW."""
    found = _by_name(OptimizerSettings("muon"))
    muon = {name for name, (kind, _, _) in found.items() if kind == "Muon"}
    assert muon == {f"layers.{number}.inner.weight" for number in range(3)}
    assert {kind for name, (kind, _, _) in found.items() if name not in muon} == {"AdamW"}
    assert len(found) == len(list(net().parameters()))


def test_muon_moves_a_matrix_about_as_far_as_adamw() -> None:
    """One learning rate suits both: root mean square of the first step 0.2 and 1 times the rate."""
    moved = {}
    for name in ("adamw", "muon"):
        model = net()
        optimizer = make_optimizer(model, OptimizerSettings(name, lr=1e-2, weight_decay=0.0))
        draw = torch.Generator().manual_seed(0)
        for value in model.parameters():
            value.grad = torch.randn(value.shape, generator=draw)
        before = model.layers[0].inner.weight.detach().clone()
        optimizer.step(YES)
        after = model.layers[0].inner.weight.detach()
        moved[name] = float((after - before).square().mean().sqrt())
    assert moved["adamw"] == pytest.approx(1e-2, rel=0.01)
    assert moved["muon"] == pytest.approx(2e-3, rel=0.35)


def test_muon_without_inner_matrices_is_refused() -> None:
    """A single layer has nothing for Muon."""
    with pytest.raises(SettingsError, match="needs matrices inside layers"):
        make_optimizer(torch.nn.Linear(2, 2), OptimizerSettings("muon"))


def test_a_frozen_model_is_refused() -> None:
    """There is nothing to train."""
    model = net().requires_grad_(False)
    with pytest.raises(SettingsError, match="all parameters are frozen"):
        make_optimizer(model, OptimizerSettings())


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_a_bad_step_moves_nothing(name: str) -> None:
    """With the flag false neither weights nor moments move, whatever the gradients are."""
    model = net()
    optimizer = make_optimizer(model, OptimizerSettings(name))
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step(YES)
    before = [value.detach().clone() for value in model.parameters()]
    moments = [
        entry.clone()
        for part in optimizer.parts
        for state in part.state.values()
        for entry in state.values()
        if isinstance(entry, torch.Tensor)
    ]
    for value in model.parameters():
        value.grad = torch.full_like(value, float("nan"))
    optimizer.step(~YES)
    after = [
        entry
        for part in optimizer.parts
        for state in part.state.values()
        for entry in state.values()
        if isinstance(entry, torch.Tensor)
    ]
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(moments, after, strict=True))


def test_the_factor_scales_every_group() -> None:
    """A factor of a half halves each group's own rate, and a later one starts from the base."""
    optimizer = make_optimizer(net(), OptimizerSettings(lr=0.4, layer_decay=0.5))
    first = [group["lr"] for part in optimizer.parts for group in part.param_groups]
    optimizer.set_factor(0.1)
    assert optimizer.set_factor(0.5) == 0.2
    now = [group["lr"] for part in optimizer.parts for group in part.param_groups]
    assert now == [rate * 0.5 for rate in first]


def test_wrong_settings_are_told_together() -> None:
    """Each wrong setting has its sentence."""
    with pytest.raises(SettingsError, match="5 problems"):
        OptimizerSettings("adam", lr=0.0, weight_decay=-1.0, layer_decay=2.0, clip=0.0)


def test_a_first_step_that_is_left_out_leaves_no_garbage() -> None:
    """After an overflow in the very first step SGD's momentum is zero, the next step right."""
    model = net()
    optimizer = make_optimizer(model, OptimizerSettings("sgd", lr=1.0, weight_decay=0.0))
    before = model.head.bias.detach().clone()
    for good in (~YES, YES):
        for value in model.parameters():
            value.grad = torch.ones_like(value)
        optimizer.step(good)
    assert torch.equal(model.head.bias, before - 1.0)
