"""How networks are trained: the parameters that every neural family has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.models.parameters import Rule

NEURAL_DEFAULTS: Mapping[str, Any] = {
    "epochs": 10.0,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 0.0,
    "patience": 0,
    "average": 0.0,
    "label_smoothing": 0.0,
    "focal": 0.0,
    "stochastic_depth": 0.0,
    "clip": 1.0,
    "optimizer": "adamw",
    "layer_decay": 1.0,
    "head_rate": 1.0,
    "precision": "auto",
    "micro_batch": "auto",
    "compile": False,
    "recompute": False,
}
"""Parameters that every neural family has, with the defaults that a family may change.

`epochs` is the number of passes at most; with `patience` above 0 and held-out rows the fit ends
when so many passes brought nothing better, and keeps the best. `average` is the decay of the moving
average of the weights (0 for none), `clip` the largest norm of the gradient (0 for no limit),
`layer_decay` the factor of the learning rate from each layer to the one below, `head_rate` that of
the head. `stochastic_depth` is the probability with which the last repeated layer is skipped for a
row in training, linearly less for those below. `precision` "auto" is bf16 on a GPU and fp32
elsewhere; `micro_batch` "auto" is as many rows as fit, which changes memory and speed only.
`compile` compiles the repeated layers, each alike; "whole" makes one graph of all, on one GPU.
"""

NEURAL_RULES: Mapping[str, Rule] = {
    "epochs": Rule("number", low=0.0, above_low=True, high=100_000),
    "batch_size": Rule("integer", low=1),
    "learning_rate": Rule("number", low=0.0, above_low=True, high=10.0),
    "weight_decay": Rule("number", low=0.0),
    "schedule": Rule("choice", words=("constant", "linear", "cosine", "wsd", "one_cycle")),
    "warmup": Rule("number", low=0.0, high=0.99),
    "patience": Rule("integer", low=0),
    "average": Rule("number", low=0.0, high=0.99999),
    "label_smoothing": Rule("number", low=0.0, high=0.99),
    "focal": Rule("number", low=0.0),
    "stochastic_depth": Rule("number", low=0.0, high=0.95),
    "clip": Rule("number", low=0.0),
    "optimizer": Rule("choice", words=("adamw", "sgd", "muon")),
    "layer_decay": Rule("number", low=0.0, above_low=True, high=1.0),
    "head_rate": Rule("number", low=0.0, above_low=True),
    "precision": Rule("choice", words=("auto", "fp32", "tf32", "bf16", "fp16")),
    "micro_batch": Rule("integer", low=1, words=("auto",)),
    "compile": Rule("flag", words=("whole",)),
    "recompute": Rule("flag"),
}
