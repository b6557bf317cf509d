"""A network for tables: embedded numbers and categories, and several members that share weights.

Members see the same rows through small multipliers of their own (one vector before and one after
each shared matrix) and answer for themselves; together they are an ensemble for little more than
the price of one network.

Sources: shared weights with multipliers, Wen et al. 2020 (BatchEnsemble) and Gorishniy et al. 2025
(TabM), of which this follows the layout; periodic embeddings of numbers, Gorishniy et al. 2022.
We depart in the first bias of the head, which starts at the logarithm of the class shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

FREQUENCIES = 12
NUMBER_WIDTH = 6
CATEGORY_WIDTH = 12


def undecayed(values: torch.Tensor) -> nn.Parameter:
    """A parameter that weight decay leaves alone, whatever its shape."""
    parameter = nn.Parameter(values)
    parameter.decays = False  # type: ignore[attr-defined]  # read by the engine's optimizer
    return parameter


class NumberEmbedding(nn.Module):
    """Each number as itself and a few waves of it, whose frequencies are learned."""

    def __init__(self, num_numbers: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(0.3 * torch.randn(num_numbers, FREQUENCIES))
        self.phase = undecayed(2.0 * math.pi * torch.rand(num_numbers, FREQUENCIES))
        self.weight = nn.Parameter(
            torch.randn(num_numbers, FREQUENCIES, NUMBER_WIDTH) / math.sqrt(FREQUENCIES)
        )
        self.bias = undecayed(torch.zeros(num_numbers, NUMBER_WIDTH))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(rows, numbers) to (rows, numbers × (width + 1))."""
        waves = torch.cos(2.0 * math.pi * numbers.unsqueeze(-1) * self.frequency + self.phase)
        seen = functional.relu(torch.einsum("rnf,nfw->rnw", waves, self.weight) + self.bias)
        return torch.cat([numbers.unsqueeze(-1), seen], dim=-1).flatten(1)


class SharedLinear(nn.Module):
    """One matrix for all members, with each member's own multipliers and bias."""

    def __init__(self, inputs: int, outputs: int, members: int, *, first: bool) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        signs = torch.randint(0, 2, (members, inputs)).float() * 2.0 - 1.0
        self.before = undecayed(signs if first else torch.ones(members, inputs))
        self.after = undecayed(torch.ones(members, outputs))
        self.bias = undecayed(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, members, inputs) to (rows, members, outputs)."""
        return functional.linear(values * self.before, self.weight) * self.after + self.bias


class MemberHead(nn.Module):
    """A matrix and a bias for each member."""

    def __init__(self, inputs: int, start: torch.Tensor, members: int) -> None:
        super().__init__()
        bound = 0.1 / math.sqrt(inputs)
        self.weight = nn.Parameter(
            torch.empty(members, inputs, start.numel()).uniform_(-bound, bound)
        )
        self.bias = undecayed(start.float().repeat(members, 1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, members, inputs) to (rows, members, outputs)."""
        return torch.einsum("rmw,mwo->rmo", values, self.weight) + self.bias


class TableEmbedding(nn.Module):
    """Numbers and category codes as one long vector a row.

    Args:
        num_numbers: columns of numbers.
        levels: number of codes of each category; one more stands for what was never seen.
    """

    def __init__(self, num_numbers: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.numbers = NumberEmbedding(num_numbers) if num_numbers else None
        widths = [min(CATEGORY_WIDTH, 1 + math.ceil(math.sqrt(count))) for count in levels]
        self.categories = nn.ModuleList(
            nn.Embedding(count + 1, size) for count, size in zip(levels, widths, strict=True)
        )
        self.size = num_numbers * (NUMBER_WIDTH + 1) + sum(widths)
        if not self.size:  # a table whose only columns carry nothing
            self.constant = nn.Parameter(torch.ones(1))
            self.size = 1

    def embedded(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(rows, numbers) and int64 (rows, categories) to (rows, `size`)."""
        parts = [] if self.numbers is None else [self.numbers(numbers)]
        parts += [embed(codes[:, place]) for place, embed in enumerate(self.categories)]
        if not parts:
            parts = [self.constant.expand(numbers.shape[0], 1)]
        return torch.cat(parts, dim=1)


class TabularNet(TableEmbedding):
    """Numbers and category codes in, one score an output and member out.

    Args:
        num_numbers: columns of numbers.
        levels: number of codes of each category; one more stands for what was never seen.
        width: of the hidden layers.
        depth: number of hidden layers.
        members: how many members answer.
        dropout: share of hidden values left out in training.
        start: first bias of the head, shape (outputs,).
    """

    def __init__(
        self,
        num_numbers: int,
        levels: Sequence[int],
        *,
        width: int,
        depth: int,
        members: int,
        dropout: float,
        start: torch.Tensor,
    ) -> None:
        super().__init__(num_numbers, levels)
        self.members = members
        self.layers = nn.ModuleList(
            SharedLinear(self.size if not number else width, width, members, first=not number)
            for number in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = MemberHead(width, start, members)

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Scores of shape (rows, members, outputs).

        Args:
            numbers: shape (rows, numbers).
            codes: int64, shape (rows, categories).
        """
        hidden = self.embedded(numbers, codes).unsqueeze(1).expand(-1, self.members, -1)
        for layer in self.layers:
            hidden = self.dropout(functional.relu(layer(hidden)))
        scores: torch.Tensor = self.head(hidden)
        return scores
