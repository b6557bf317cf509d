"""Triton: a model repository with the ONNX file of the release and its configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from loopline.release.exports.base import Form, Subject
from loopline.release.exports.docker import plain_name
from loopline.release.exports.onnx_form import FILE, OnnxModel, onnx_model, prove_onnx, remarks_of

CONFIG = "config.pbtxt"
_TYPES = {"double": "TYPE_FP64", "int64": "TYPE_INT64", "string": "TYPE_STRING"}


class Triton(Form):
    """A model repository for Triton's ONNX Runtime backend."""

    name = "triton"
    takes_repaired = True

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        name = plain_name(subject.release.name)
        model = onnx_model(subject)
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / FILE).write_bytes(model.data)
        (folder / name / CONFIG).write_text(config(name, model), encoding="utf-8")
        return (
            prove_onnx(subject, model),
            *remarks_of(model),
            "`tritonserver --model-repository` takes the folder; its ONNX Runtime must be 1.23 or "
            "newer.",
        )


def config(name: str, model: OnnxModel) -> str:
    """The model's configuration in protobuf's text format."""
    inputs = [(each.name, each.kind, 1) for each in model.inputs]
    return (
        f"name: {json.dumps(name)}\n"
        'backend: "onnxruntime"\n'
        "max_batch_size: 0\n"
        f"input [\n{_tensors(inputs)}\n]\n"
        f"output [\n{_tensors(model.outputs)}\n]\n"
        "instance_group [ { kind: KIND_CPU } ]\n"
    )


def _tensors(tensors: Sequence[tuple[str, str, int]]) -> str:
    return ",\n".join(
        f"  {{ name: {json.dumps(name, ensure_ascii=False)} data_type: {_TYPES[kind]} "
        f"dims: [ -1, {width} ] }}"
        for name, kind, width in tensors
    )
