"""Attention of a decoder: to all tokens before, or to those of the same document.

On a GPU in 16 bits packed documents go to the kernel for sequences of any length, which computes
nothing between documents; elsewhere a mask says which tokens see each other.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

_OPTIONS = frozenset(inspect.signature(varlen_attn).parameters)  # torch has renamed them once


def needs_mask(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed documents need a mask where attention is computed so."""
    return device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16)


def document_mask(ends: torch.Tensor, rows: int, length: int) -> torch.Tensor:
    """True where a token (third dimension) sees another (fourth), (rows, 1, length, length).

    Args:
        ends: cumulative lengths of the documents over all rows, from 0.
        rows: number of rows.
        length: tokens of a row.

    >>> document_mask(torch.tensor([0, 2, 3]), 1, 3).int().tolist()
    [[[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]]
    """
    places = torch.arange(rows * length, device=ends.device, dtype=ends.dtype)
    number = torch.bucketize(places, ends, right=True).view(rows, 1, length)
    same = number.unsqueeze(-1) == number.unsqueeze(-2)
    return same & (places[:length, None] >= places[:length])


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """What each query sees, (rows, tokens, heads, head_width).

    Args:
        query: shape (rows, tokens, heads, head_width).
        key: shape (rows, all tokens, kv_heads, head_width); the queries are its last tokens.
        value: likewise.
        ends: of packed documents, int32.
        mask: `document_mask`, where it is needed.
    """
    if ends is not None and mask is None:
        return _by_document(query, key, value, ends)
    if mask is None and query.shape[1] not in (1, key.shape[1]):
        places = torch.arange(key.shape[1], device=key.device)
        mask = places[-query.shape[1] :, None] >= places
    seen = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and query.shape[1] > 1,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return seen.transpose(1, 2)


def _by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    groups, length = query.shape[2] // key.shape[2], query.shape[1]
    others: dict[str, Any] = {}
    if "window_size" in _OPTIONS:
        others["window_size"] = (-1, 0)
    else:
        others["is_causal"] = True
    if groups > 1 and "enable_gqa" in _OPTIONS:
        others["enable_gqa"] = True
    elif groups > 1:
        key, value = (part.repeat_interleave(groups, dim=2) for part in (key, value))
    seen = varlen_attn(
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        ends,
        ends,
        length,
        length,
        **others,
    )
    assert isinstance(seen, torch.Tensor)
    return seen.view(query.shape)
