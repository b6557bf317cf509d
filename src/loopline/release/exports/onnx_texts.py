"""Texts as ONNX nodes, second half: the weights of hashed terms; see `features.terms`.

Words, pairs of words and runs of letters are hashed with whole numbers of 64 bits that wrap
around, as numpy's do, and the weights are added in numpy's order: the outputs are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loopline.features.readers import Reading
from loopline.features.terms import INVERSE, LETTER_RUNS, MIXERS, PRIME, SALT, TOP
from loopline.release.exports.onnx_graph import Graph, tensor
from loopline.release.exports.onnx_letters import BLANK, Letters, add_letters

_BLOCK = 4096
"""Powers are products of two tables of so many: texts of 16 million letters in one request."""


def add_text(graph: Graph, text: str, missing: str, reading: Reading) -> str:
    """Add what reads texts; gives (rows, outputs).

    Args:
        graph: where nodes are added.
        text: strings, (rows, 1).
        missing: the text of a missing cell.
        reading: how the column is read.
    """
    gone = graph.once(("missing", text), lambda: graph.encode(text, [missing], [1], 0))
    letters = graph.once(("letters", text), lambda: add_letters(graph, text))
    spans = graph.once(("spans", text), lambda: _Spans(graph, letters))
    parts = []
    if reading.data["sizes"]:
        parts += [graph.cast(each, "double") for each in (letters.sizes, spans.num_words())]
    if len(reading.arrays["buckets"]):
        parts.append(_weights(graph, spans, reading))
    if reading.data["indicator"]:
        parts.append(graph.cast(graph.add("Sub", letters.sizes, letters.sizes), "double"))
    if not parts:
        return graph.select(np.empty((1, 0)), graph.add("Sub", letters.sizes, letters.sizes))
    whole = graph.add("Concat", *parts, axis=1)
    absent = reading.data["absent"]
    return (
        whole
        if absent is None
        else graph.add("Where", graph.cast(gone, "bool"), graph.constant([absent]), whole)
    )


class _Spans:
    """Where terms start and stop in the letters, and the bucket of each term.

    Args:
        graph: where nodes are added.
        letters: the letters.
    """

    def __init__(self, graph: Graph, letters: Letters) -> None:
        self._graph = graph
        self._letters = letters
        self._blank = graph.add("Equal", letters.codes, graph.constant(BLANK, np.int64))
        self._solid = graph.add("Not", self._blank)
        self.num_texts = letters.num_texts
        starts = graph.add("And", self._cut(self._blank, 0, -1), self._cut(self._solid, 1, None))
        stops = graph.add("And", self._cut(self._solid, 0, -1), self._cut(self._blank, 1, None))
        self._starts, self._stops = self._places(starts, 1), self._places(stops, 1)
        rows, buckets = zip(*self._terms(), strict=True)
        self.rows = graph.add("Concat", *rows, axis=0)
        self.buckets = graph.add("Concat", *buckets, axis=0)

    def num_words(self) -> str:
        """Words of each text, int64 (texts, 1)."""
        graph = self._graph
        none = graph.add("ConstantOfShape", self.num_texts, value=tensor([0], np.int64))
        rows = graph.add("Gather", self._letters.rows, self._starts)
        one = graph.add("Expand", graph.constant(1, np.int64), graph.add("Shape", rows))
        counts = graph.add("ScatterElements", none, rows, one, axis=0, reduction="add")
        return graph.add("Unsqueeze", counts, graph.constant([1], np.int64))

    def _terms(self) -> Iterator[tuple[str, str]]:
        graph = self._graph
        sums, inverses = self._sums()
        for salt, (starts, stops) in enumerate(self._all()):
            long = graph.add("Sub", graph.add("Gather", sums, stops),
                             graph.add("Gather", sums, starts))  # fmt: skip
            hashes = graph.add(
                "Mul", graph.cast(long, "uint64"), graph.add("Gather", inverses, starts)
            )
            yield graph.add("Gather", self._letters.rows, starts), _mixed(graph, hashes, salt)

    def _all(self) -> Iterator[tuple[str, str]]:
        graph = self._graph
        yield self._starts, self._stops
        first, second = self._cut(self._starts, 0, -1), self._cut(self._starts, 1, None)
        rows = self._letters.rows
        together = graph.add(
            "Equal", graph.add("Gather", rows, first), graph.add("Gather", rows, second)
        )
        ends = self._cut(self._stops, 1, None)
        yield tuple(graph.add("Compress", each, together) for each in (first, ends))  # type: ignore[misc]
        for size in LETTER_RUNS:
            inside = self._cut(self._solid, 1, 2 - size)
            for offset in range(2, size - 1):
                inside = graph.add("And", inside, self._cut(self._solid, offset, 1 + offset - size))
            at = self._places(inside, 0)
            yield at, graph.add("Add", at, graph.constant(size, np.int64))

    def _sums(self) -> tuple[str, str]:
        """Sums of letters times powers before each place, and the inverse powers."""
        graph = self._graph
        codes = self._letters.codes
        zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
        at = graph.add("Range", zero, graph.add("Size", codes), one)
        powers = _powers(graph, at, PRIME)
        products = graph.add("Mul", codes, graph.cast(powers, "int64"))
        sums = graph.add("CumSum", products, zero)
        return (
            graph.add("Concat", graph.constant([0], np.int64), sums, axis=0),
            _powers(graph, at, INVERSE),
        )

    def _cut(self, values: str, start: int, stop: int | None) -> str:
        graph = self._graph
        last = 2**62 if stop is None else stop
        bounds = [graph.constant([each], np.int64) for each in (start, last, 0)]
        return graph.add("Slice", values, *bounds)

    def _places(self, flags: str, shift: int) -> str:
        graph = self._graph
        found = graph.add("Squeeze", graph.add("NonZero", flags), graph.constant([0], np.int64))
        return graph.add("Add", found, graph.constant(shift, np.int64)) if shift else found


def _powers(graph: Graph, at: str, base: int) -> str:
    """``base ** (at + 1)`` as wrapped whole numbers."""
    low = np.cumprod(np.full(_BLOCK, base, dtype=np.uint64))
    step = np.uint64(pow(base, _BLOCK, 2**64))
    high = np.cumprod(np.concatenate([[np.uint64(1)], np.full(_BLOCK - 1, step, dtype=np.uint64)]))
    block = graph.constant(_BLOCK, np.int64)
    fine = graph.add("Gather", graph.constant(low, np.uint64), graph.add("Mod", at, block, fmod=0))
    rough = graph.add("Gather", graph.constant(high, np.uint64), graph.add("Div", at, block))
    return graph.add("Mul", fine, rough)


def _mixed(graph: Graph, hashes: str, salt: int) -> str:
    def number(value: int) -> str:
        return graph.constant(value, np.uint64)

    mixed = graph.add("Add", hashes, number(salt * SALT))
    for shift, factor in MIXERS:
        high = graph.add("BitShift", mixed, number(shift), direction="RIGHT")
        mixed = graph.add("BitwiseXor", mixed, high)
        if factor is not None:
            mixed = graph.add("Mul", mixed, number(factor))
    return graph.cast(graph.add("BitShift", mixed, number(TOP), direction="RIGHT"), "int64")


def _weights(graph: Graph, spans: _Spans, reading: Reading) -> str:
    """Weights of each text's terms, (texts, columns); each text has length 1."""
    buckets, weights = reading.arrays["buckets"], reading.arrays["weights"]
    width = graph.constant([len(buckets)], np.int64)
    columns = graph.encode(spans.buckets, buckets.tolist(), range(len(buckets)), -1)
    known = graph.add("GreaterOrEqual", columns, graph.constant(0, np.int64))
    flat = graph.add("Add", graph.add("Mul", spans.rows, width), columns)
    flat = graph.add("Compress", flat, known)
    ones = graph.add("Expand", graph.constant(1.0), graph.add("Shape", flat))
    none = graph.add("ConstantOfShape", graph.add("Mul", spans.num_texts, width),
                     value=tensor([0.0], np.float64))  # fmt: skip
    counts = graph.add("ScatterElements", none, flat, ones, axis=0, reduction="add")
    shape = graph.add("Concat", spans.num_texts, width, axis=0)
    table = graph.add("Reshape", graph.add("Sqrt", counts), shape)
    weighed = graph.add("Mul", table, graph.constant(weights))
    # CumSum adds in order, as the release does; ReduceSum's order is onnxruntime's own.
    sums = graph.add("CumSum", graph.add("Mul", weighed, weighed), graph.constant(1, np.int64))
    squares = graph.add("Gather", sums, graph.constant([-1], np.int64), axis=1)
    lengths = graph.add("Sqrt", squares)
    some = graph.add("Greater", lengths, graph.constant(0.0))
    return graph.add("Div", weighed, graph.add("Where", some, lengths, graph.constant(1.0)))
