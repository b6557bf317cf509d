"""Is our own data graph the right stored form of the preprocessing, or would ONNX be?

Both compute the same thing from 500,000 rows of 10 numbers and 10 string categories: for trees the
label codes, for linear models impute + standardise + one-hot. Timed: the whole table from a polars
frame, and one row. Also our speed against a plain copy of a numeric table, and the input contract.

    python benchmarks/features.py [--rows 500000] [--out benchmarks/results/features.json]

Needs nothing but Loopline; with `onnx` and `onnxruntime` importable the comparison is made too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import Column, Schema
from loopline.features.contract import InputContract
from loopline.features.fit import fit_features
from loopline.features.graph import FeatureGraph
from loopline.features.settings import FeatureSettings
from loopline.splits.spec import TRAIN
from loopline.splits.views import SharedRows, open_train_view

NUM_EACH = 10
NUM_LEVELS = 50
NUMBERS = [f"n{i}" for i in range(NUM_EACH)]
WORDS = [f"w{i}" for i in range(NUM_EACH)]


def make_table(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for name in NUMBERS:
        values = rng.normal(10, 3, rows)
        values[rng.random(rows) < 0.05] = np.nan
        columns[name] = pl.Series(values).fill_nan(None)
    for name in WORDS:
        levels = pl.Series([f"{name}-level-{i:02d}" for i in range(NUM_LEVELS)])
        columns[name] = levels.gather(rng.integers(0, NUM_LEVELS, rows))
    return pl.DataFrame(columns)


def fit(frame: pl.DataFrame, recipe: str) -> FeatureGraph:
    columns = [
        Column(name, "number" if frame[name].dtype.is_numeric() else "category")
        for name in frame.columns
    ]
    schema = Schema((*columns, Column("y", "number", "target")), "regression")
    size = frame.height
    shared = SharedRows(
        schema=schema,
        features=frame,
        side=np.full(size, TRAIN, dtype=np.int8),
        target=np.zeros(size),
        weight=None,
        units=np.arange(size),
        order=None,
        clock=None,
        gap=0.0,
        digests=np.zeros((size, 2), dtype=np.uint64),
    )
    view = open_train_view(shared, np.arange(size))
    return fit_features(view, recipe, 0, FeatureSettings(min_count=1))[0]


def onnx_model(graph: FeatureGraph, recipe: str) -> bytes:
    """The same preprocessing as an ONNX graph of the standard operators for it."""
    from onnx import TensorProto, checker, helper

    steps = {step.source: step.data() for step in graph.steps}
    nodes, ends = [], []
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, NUM_EACH])]
    last = "numbers"
    if recipe == "linear":
        fills = [float(steps[name]["fill_value"]) for name in NUMBERS]
        centers = [float(steps[name]["center"]) for name in NUMBERS]
        scales = [1 / float(steps[name]["scale"]) for name in NUMBERS]
        nodes += [
            helper.make_node("IsNaN", ["numbers"], ["gone"]),
            helper.make_node("Cast", ["gone"], ["gone_f"], to=TensorProto.FLOAT),
            helper.make_node(
                "Imputer",
                ["numbers"],
                ["whole"],
                domain="ai.onnx.ml",
                imputed_value_floats=fills,
                replaced_value_float=float("nan"),
            ),
            helper.make_node(
                "Scaler", ["whole"], ["scaled"], domain="ai.onnx.ml", offset=centers, scale=scales
            ),
        ]
        last = "scaled"
        ends.append("gone_f")
    ends.insert(0, last)
    for name in WORDS:
        inputs.append(helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]))
        levels = list(steps[name]["levels"])
        if recipe == "trees":
            nodes.append(
                helper.make_node(
                    "LabelEncoder",
                    [name],
                    [f"{name}_code"],
                    domain="ai.onnx.ml",
                    keys_strings=levels,
                    values_floats=[float(code) for code in range(len(levels))],
                    default_float=float("nan"),
                )
            )
        else:
            nodes += [
                helper.make_node(
                    "OneHotEncoder",
                    [name],
                    [f"{name}_hot"],
                    domain="ai.onnx.ml",
                    cats_strings=levels,
                    zeros=1,
                ),
                helper.make_node("Squeeze", [f"{name}_hot", "axis"], [f"{name}_code"]),
            ]
        ends.append(f"{name}_code")
    nodes.append(helper.make_node("Concat", ends, ["out"], axis=1))
    made = helper.make_graph(
        nodes,
        "features",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def onnx_feeds(frame: pl.DataFrame) -> dict[str, Any]:
    numbers = frame.select(NUMBERS).to_numpy().astype(np.float32)
    words = {name: frame[name].to_numpy().astype(object).reshape(-1, 1) for name in WORDS}
    return {"numbers": numbers, **words}


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The best of some repeats: what the work costs when the machine has nothing else to do."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds_in_kept_memory(graph: FeatureGraph, frame: pl.DataFrame) -> float:
    """The same steps over blocks that fit the cache, written into one buffer again and again."""
    block = 8192
    out = np.empty((block, len(graph.outputs)))

    def work() -> None:
        for first in range(0, frame.height, block):
            part = frame.slice(first, block)
            for step, (start, stop) in zip(graph.steps, graph.spans, strict=True):
                step.fill(part.get_column(step.source), out[: part.height, start:stop])

    return seconds(work, 5)


def compare(frame: pl.DataFrame, recipe: str) -> dict[str, Any]:
    graph = fit(frame, recipe)
    row = frame.row(0, named=True)
    result: dict[str, Any] = {
        "outputs": len(graph.outputs),
        "ours_table_seconds": seconds(lambda: graph.transform(frame), 5),
        "ours_row_microseconds": seconds(lambda: graph.transform_row(row), 2000) * 1e6,
        # What the system takes to hand out as much new memory as the float64 matrix needs: the
        # floor of "ours", which onnxruntime (float32, memory kept between runs) does not pay.
        "new_memory_seconds": seconds(
            lambda: np.empty((frame.height, len(graph.outputs))).fill(0.0), 5
        ),
        "ours_table_in_kept_memory_seconds": seconds_in_kept_memory(graph, frame),
    }
    if importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None:
        print("onnx and onnxruntime are not installed: the comparison is left out")
        return result
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_model(graph, recipe), options, providers=["CPUExecutionProvider"]
    )
    feeds = onnx_feeds(frame)
    one = onnx_feeds(frame.head(1))
    theirs = session.run(None, feeds)[0]
    ours = graph.transform(frame)
    if recipe == "linear":
        # Ours has each number beside its indicator; theirs has all indicators after the numbers.
        numbers = np.array([output.source in NUMBERS for output in graph.outputs])
        place = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2), np.flatnonzero(~numbers)])
        ours = ours[:, place]
    result |= {
        "largest_difference": float(np.nanmax(np.abs(ours - theirs))),
        "onnx_table_seconds": seconds(lambda: session.run(None, feeds), 5),
        "onnx_table_with_conversion_seconds": seconds(
            lambda: session.run(None, onnx_feeds(frame)), 5
        ),
        "onnx_row_microseconds": seconds(lambda: session.run(None, one), 2000) * 1e6,
        "onnx_row_from_mapping_microseconds": seconds(
            lambda: session.run(None, mapping_feeds(row)), 2000
        )
        * 1e6,
    }
    return result


def mapping_feeds(row: dict[str, Any]) -> dict[str, Any]:
    numbers = [np.nan if row[name] is None else row[name] for name in NUMBERS]
    words = {name: np.array([[row[name]]], dtype=object) for name in WORDS}
    return {"numbers": np.array([numbers], dtype=np.float32), **words}


def against_a_copy() -> dict[str, Any]:
    rows, columns = 1_000_000, 30
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"x{i}": rng.normal(size=rows) for i in range(columns)})
    graph = fit(frame.head(10_000), "trees")
    matrix = graph.transform(frame)
    arrays = [frame[name].to_numpy() for name in frame.columns]
    return {
        "rows": rows,
        "columns": columns,
        "transform_seconds": seconds(lambda: graph.transform(frame), 5),
        "copy_of_the_matrix_seconds": seconds(matrix.copy, 5),
        "numpy_column_stack_seconds": seconds(lambda: np.column_stack(arrays), 5),
        "polars_to_numpy_seconds": seconds(lambda: frame.to_numpy(order="c"), 5),
    }


def contract_times(frame: pl.DataFrame) -> dict[str, Any]:
    columns = [
        *(Column(name, "number") for name in NUMBERS),
        *(Column(name, "category") for name in WORDS),
    ]
    contract = InputContract.learn(frame, Schema(tuple(columns), "regression"))
    row = frame.row(0, named=True)
    return {
        "row_microseconds": seconds(lambda: contract.check_row(row), 5000) * 1e6,
        "table_seconds": seconds(lambda: contract.check(frame), 5),
    }


def versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("numpy", "polars", "onnx", "onnxruntime", "loopline"):
        if importlib.util.find_spec(name) is not None:
            found[name] = metadata.version(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    frame = make_table(arguments.rows)
    report = {
        "rows": arguments.rows,
        "columns": f"{NUM_EACH} numbers, {NUM_EACH} string categories of {NUM_LEVELS} levels",
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": versions(),
        "trees": compare(frame, "trees"),
        "linear": compare(frame, "linear"),
        "numeric_table": against_a_copy(),
        "contract": contract_times(frame),
    }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
