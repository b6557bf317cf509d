"""One ONNX file from raw columns to probabilities, calibration and threshold included.

Everything is computed in doubles, so onnxruntime's answers differ from the release's by rounding
only; a difference of more than 1e-6 on any kept or made-up row refuses the export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.cleaning.repair import Repair, repair_row
from loopline.data.schema import has_classes
from loopline.evaluate.calibration import Calibration
from loopline.release.bundle import Release
from loopline.release.exports.base import Form, Subject
from loopline.release.exports.folder import runtime_facts
from loopline.release.exports.onnx_columns import ColumnInput, add_columns, input_facts
from loopline.release.exports.onnx_graph import Graph
from loopline.release.exports.onnx_models import (
    Numbers,
    add_calibration,
    add_estimator,
    largest_codes,
    refuse_estimator,
)
from loopline.release.exports.rows import ProofRows, proof_rows
from loopline.release.replay import Answers

FILE, FACTS = "model.onnx", "model.json"
TOLERANCE = 1e-6
RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class OnnxModel:
    """A release as ONNX.

    Args:
        data: the file's bytes.
        inputs: what it takes.
        outputs: name, kind and width of what it gives.
        repairs: repairs that the file does not make itself.
    """

    data: bytes
    inputs: tuple[ColumnInput, ...]
    outputs: tuple[tuple[str, str, int], ...]
    repairs: tuple[Repair, ...]


class Onnx(Form):
    """One ONNX file, proved with onnxruntime."""

    name = "onnx"
    takes_repaired = True

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        model = onnx_model(subject)
        (folder / FILE).write_bytes(model.data)
        facts = {
            "release": subject.release.id,
            "inputs": [[each.name, each.kind, each.missing] for each in model.inputs],
            "outputs": [list(each) for each in model.outputs],
            "classes": list(subject.release.classes),
            "repairs_before": [repair.to_dict() for repair in model.repairs],
        }
        text = json.dumps(facts, ensure_ascii=False, indent=1)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")
        return (prove_onnx(subject, model), *remarks_of(model))


def onnx_model(subject: Subject) -> OnnxModel:
    """Build the ONNX file of a release.

    Raises:
        InputError: a step, a repair or a model that ONNX cannot express; names it.
        EnvironmentProblem: ONNX is not installed.
    """
    release = subject.release
    facts = runtime_facts(release)
    model = release.model.portable()
    repairs = tuple(Repair.from_dict(data) for data in facts["repairs"])
    inside = () if subject.repaired else repairs
    refuse_estimator(model.estimator)
    graph = Graph()
    inputs, parts = add_columns(graph, model.columns, model.readings, inside)
    if not parts:  # the baseline reads no column; the rows are counted on one all the same
        inputs.append(ColumnInput("rows", "double"))
        parts.append(graph.input("rows", "double"))
    matrix = graph.add("Concat", *parts, axis=1)
    raw = add_estimator(graph, model.estimator, Numbers(matrix, largest_codes(model)))
    outputs = _add_outputs(graph, release, raw)
    props = {"release": release.id, "classes": json.dumps(list(release.classes))}
    made = graph.model(release.name, {**props, **input_facts(inputs)})
    used = set(model.columns)
    left = tuple(repair for repair in repairs if repair.column in used and subject.repaired)
    return OnnxModel(made.SerializeToString(), tuple(inputs), outputs, left)


def _add_outputs(graph: Graph, release: Release, raw: str) -> tuple[tuple[str, str, int], ...]:
    if not has_classes(release.task):
        graph.output("prediction", "double", raw, 1)
        return (("prediction", "double", 1),)
    data = release.facts["calibration"]
    shares = add_calibration(graph, None if data is None else Calibration.from_dict(data), raw)
    codes = _add_codes(graph, release, shares)
    numeric = all(type(label) is int for label in release.classes)
    labels = list(release.classes) if numeric else [str(label) for label in release.classes]
    kind = "int64" if numeric else "string"
    table = graph.constant(labels, np.int64 if numeric else object)
    graph.output("prediction", kind, graph.add("Gather", table, codes, axis=0), 1)
    graph.output("probabilities", "double", shares, len(release.classes))
    return (("prediction", kind, 1), ("probabilities", "double", len(release.classes)))


def _add_codes(graph: Graph, release: Release, shares: str) -> str:
    if release.threshold is None:
        return graph.add("ArgMax", shares, axis=1, keepdims=1)
    bounds = [graph.constant([value], np.int64) for value in (1, 2, 1)]
    positive = graph.add("Slice", shares, *bounds)
    above = graph.add("GreaterOrEqual", positive, graph.constant(release.threshold))
    return graph.cast(above, "int64")


def prove_onnx(subject: Subject, model: OnnxModel) -> str:
    """Ask onnxruntime for kept and made-up rows; what was proved.

    Raises:
        IntegrityError: an answer differs from the release's.
    """
    import onnxruntime

    release = subject.release
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    rows = proof_rows(release, subject.kept)
    found = session.run(None, onnx_inputs(release, model, rows))
    answers = _answers(release, found)
    version = onnxruntime.__version__
    proof = rows.prove(release, {f"by {RUNTIME} {version}": answers}, TOLERANCE, "exported")
    return rows.told(proof)


def onnx_inputs(release: Release, model: OnnxModel, rows: ProofRows) -> Mapping[str, NDArray[Any]]:
    """The rows as the inputs of an ONNX model."""
    checked = [release.contract.check_row(repair_row(row, model.repairs)) for row in rows.rows]
    return {
        each.name: each.tensor([row.get(each.name) for row in checked]) for each in model.inputs
    }


def _answers(release: Release, found: Sequence[NDArray[Any]]) -> Answers:
    if not has_classes(release.task):
        return Answers(found[0][:, 0], np.empty(0, dtype=np.int64))
    codes = {str(label): code for code, label in enumerate(release.classes)}
    labels = [codes.get(str(label), -1) for label in found[0].reshape(-1).tolist()]
    return Answers(found[1], np.array(labels, dtype=np.int64))


def remarks_of(model: OnnxModel) -> list[str]:
    """What a person should know of a model."""
    if not model.repairs:
        return []
    told = ", ".join(f"{repair.kind} of {repair.column!r}" for repair in model.repairs)
    return [f"Whoever asks the model makes these repairs before: {told}."]
