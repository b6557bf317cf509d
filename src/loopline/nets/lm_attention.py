"""Attention of a decoder: to all tokens before, or to those of the same document.

On a GPU in 16 bits packed documents go to the kernel for sequences of any length, which computes
nothing between documents; elsewhere a mask says which tokens see each other.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Documents:
    """Which tokens of packed rows belong together.

    Args:
        ends: cumulative lengths over all rows from 0, int32, shape (documents + 1,); documents of
            length 0 at the end only fill up.
        longest: no document is longer.
        mask: true where a token (third dimension) sees another (fourth), shape (rows, 1, tokens,
            tokens); None where the kernel needs none.
    """

    ends: torch.Tensor
    longest: int
    mask: torch.Tensor | None = None

    @staticmethod
    def of(ends: torch.Tensor, rows: int, length: int, dtype: torch.dtype) -> Documents:
        """From the cumulative lengths; makes a mask where there is no kernel for them.

        Args:
            ends: as above.
            rows: number of rows.
            length: tokens of a row.
            dtype: in which attention is computed.
        """
        if ends.device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
            return Documents(ends, length)
        places = torch.arange(rows * length, device=ends.device, dtype=ends.dtype)
        number = torch.bucketize(places, ends, right=True).view(rows, 1, length)
        before = places[:length, None] >= places[:length]
        same = number.unsqueeze(-1) == number.unsqueeze(-2)
        return Documents(ends, length, same & before)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: Documents | None
) -> torch.Tensor:
    """What each query sees, (rows, tokens, heads, head_width).

    Args:
        query: shape (rows, tokens, heads, head_width).
        key: shape (rows, all tokens, kv_heads, head_width); the queries are its last tokens.
        value: likewise.
        documents: which tokens see each other; None for all up to a token's own.
    """
    if documents is not None and documents.mask is None:
        return _by_document(query, key, value, documents)
    grouped = query.shape[2] != key.shape[2]
    heads = [part.transpose(1, 2) for part in (query, key, value)]
    if documents is not None:
        seen = functional.scaled_dot_product_attention(
            *heads, attn_mask=documents.mask, enable_gqa=grouped
        )
    elif query.shape[1] == key.shape[1]:
        seen = functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=grouped)
    else:
        seen = functional.scaled_dot_product_attention(
            *heads, attn_mask=_last(query.shape[1], key), enable_gqa=grouped
        )
    return seen.transpose(1, 2)


def _last(count: int, key: torch.Tensor) -> torch.Tensor | None:
    """Which keys the last tokens see; None for all of them."""
    if count == 1:
        return None
    places = torch.arange(key.shape[1], device=key.device)
    return places[-count:, None] >= places


def _by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: Documents
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    names = _parameters(varlen_attn)
    groups = query.shape[2] // key.shape[2]
    if groups > 1 and "enable_gqa" not in names:
        key, value = (part.repeat_interleave(groups, dim=2) for part in (key, value))
        groups = 1
    others: dict[str, Any] = {"enable_gqa": True} if groups > 1 else {}
    others |= {"window_size": (-1, 0)} if "window_size" in names else {"is_causal": True}
    seen = varlen_attn(
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        documents.ends,
        documents.ends,
        documents.longest,
        documents.longest,
        **others,
    )
    assert isinstance(seen, torch.Tensor)
    return seen.view(query.shape)


def _parameters(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
