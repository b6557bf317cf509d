"""Texts as ONNX nodes, first half: each text becomes its normalised letters, as numbers.

What `features.texts.normalised` does with polars, for every character there is: lower case (the
Greek sigma at the end of a word and the one letter that becomes two included), nothing but letters,
marks and digits, words parted by one blank. ONNX cannot look inside a string, so the characters
are cut by `Tokenizer`, an operator of onnxruntime; everything after it is standard ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.features.texts import normalised
from loopline.release.exports.onnx_graph import Graph

BLANK = ord(" ")
_SIGMA, _FINAL_SIGMA = 0x3A3, 0x3C2
_LETTER = (1 << 21) - 1
_CASED, _PASSED_OVER, _PADDING, _BOTH = (1 << bit for bit in range(21, 25))
_PAD = "no letter"
"""Two or more letters, so that no character is spelt like it."""


@dataclass(frozen=True)
class Letters:
    """The letters of all texts in one row, each text between blanks.

    Args:
        codes: code points, int64 (letters,).
        rows: the text that each belongs to, int64 (letters,).
        num_texts: how many texts there are, int64 (1,).
        sizes: characters of each text as it came, int64 (texts, 1).
    """

    codes: str
    rows: str
    num_texts: str
    sizes: str


def add_letters(graph: Graph, text: str) -> Letters:
    """Add what normalises texts.

    Args:
        graph: where nodes are added.
        text: strings, (rows, 1).
    """
    blank = graph.constant(" ", object)
    wide = graph.add("StringConcat", graph.add("StringConcat", blank, text), blank)
    wide = graph.add("Reshape", wide, graph.constant([-1], np.int64))
    cut = graph.add(
        "Tokenizer",
        graph.add("Concat", wide, graph.constant([" "], object), axis=0),  # it wants one at least
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value=_PAD,
        separators=[""],
    )
    cut = graph.tell(cut, "string", ("rows", "letters"))
    keys, values = _characters()
    found = graph.encode(cut, [*keys, _PAD], [*values.tolist(), BLANK | _PADDING], BLANK)
    width = graph.add("Shape", found, start=1, end=2)
    num_texts = graph.add("Shape", text, start=0, end=1)
    zero = graph.constant([0], np.int64)
    found = graph.add("Slice", found, zero, num_texts, zero)
    flat = graph.add("Reshape", found, graph.constant([-1], np.int64))
    codes, rows = _squeezed(graph, flat, width, _lowered(graph, flat))
    return Letters(codes, rows, num_texts, _sizes(graph, found))


def _flag(graph: Graph, codes: str, flag: int) -> str:
    bits = graph.add("BitwiseAnd", codes, graph.constant(flag, np.int64))
    return graph.cast(bits, "bool")


def _sizes(graph: Graph, found: str) -> str:
    given = graph.cast(graph.add("Not", _flag(graph, found, _PADDING)), "int64")
    count = graph.add("ReduceSum", given, graph.constant([1], np.int64), keepdims=1)
    return graph.add("Sub", count, graph.constant([[2]], np.int64))


def _lowered(graph: Graph, flat: str) -> str:
    """Code points in lower case; a sigma that ends a word is another letter than one within."""
    letters = graph.add("BitwiseAnd", flat, graph.constant(_LETTER, np.int64))
    sigma = graph.constant(_SIGMA, np.int64)
    seen = graph.add("Not", _flag(graph, flat, _PASSED_OVER))
    cased = graph.add("Compress", _flag(graph, flat, _CASED), seen)
    capital = graph.add("Equal", graph.add("Compress", letters, seen), sigma)
    before = _shifted(graph, cased, 1)
    after = graph.add("Not", _shifted(graph, cased, -1))
    ends = graph.add("And", graph.add("And", capital, before), after)
    small = graph.add(
        "Where", ends, graph.constant(_FINAL_SIGMA, np.int64), graph.constant(0x3C3, np.int64)
    )
    places = graph.add("Squeeze", graph.add("NonZero", seen), graph.constant([0], np.int64))
    spread = graph.add("ScatterElements", letters, places, small, axis=0)
    return graph.add("Where", graph.add("Equal", letters, sigma), spread, letters)


def _shifted(graph: Graph, flags: str, step: int) -> str:
    """Flags moved by one place, with False at the end that has none."""
    none = graph.constant([False], np.bool_)
    axes = graph.constant([0], np.int64)
    low, high = (0, -1) if step > 0 else (1, 2**62)
    rest = graph.add(
        "Slice", flags, graph.constant([low], np.int64), graph.constant([high], np.int64), axes
    )
    return graph.add("Concat", *((none, rest) if step > 0 else (rest, none)), axis=0)


def _squeezed(graph: Graph, flat: str, width: str, letters: str) -> tuple[str, str]:
    """Letters and their texts, with one blank where there were several."""
    count = graph.add("Size", flat)
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    at = graph.add("Range", zero, count, one)
    rows = graph.add("Div", at, width)
    solid = graph.add("Not", graph.add("Equal", letters, graph.constant(BLANK, np.int64)))
    first = graph.add("Equal", graph.add("Mod", at, width, fmod=0), zero)
    kept = graph.add("Or", graph.add("Or", solid, _shifted(graph, solid, 1)), first)
    codes, rows = (graph.add("Compress", each, kept) for each in (letters, rows))
    twice = graph.add("Compress", _flag(graph, flat, _BOTH), kept)
    second = graph.add(
        "Where", twice, graph.constant(0x307, np.int64), graph.constant(-1, np.int64)
    )
    codes, rows = _paired(graph, codes, second), _paired(graph, rows, rows)
    real = graph.add("GreaterOrEqual", codes, zero)
    return graph.add("Compress", codes, real), graph.add("Compress", rows, real)


def _paired(graph: Graph, one: str, other: str) -> str:
    """Two rows of numbers, each of the first followed by that of the second."""
    axis = graph.constant([1], np.int64)
    both = graph.add(
        "Concat", graph.add("Unsqueeze", one, axis), graph.add("Unsqueeze", other, axis), axis=1
    )
    return graph.add("Reshape", both, graph.constant([-1], np.int64))


@cache
def _characters() -> tuple[list[str], NDArray[np.int64]]:
    """Characters that are not simply blanks, and what each is: asked of what reads texts."""
    numbers = np.array([*range(0xD800), *range(0xE000, 0x110000)], dtype=np.int64)
    every = pl.Series([chr(number) for number in numbers.tolist()])
    values = np.full(len(numbers), BLANK, dtype=np.int64)
    for place, text in enumerate(normalised(every)):
        if text:
            values[place] = ord(text[0]) | (_BOTH if len(text) > 1 else 0)
    values[numbers == _SIGMA] = _SIGMA
    ends = [
        (front + every + "\u03a3").str.to_lowercase().str.ends_with("\u03c2").to_numpy()
        for front in ("", "A")
    ]
    values |= np.where(ends[0], _CASED, 0) | np.where(ends[1] & ~ends[0], _PASSED_OVER, 0)
    told = values != BLANK
    return every.filter(pl.Series(told)).to_list(), values[told]
