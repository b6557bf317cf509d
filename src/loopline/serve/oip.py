"""Open Inference Protocol v2 (REST), as the clients of KServe, Triton and MLServer speak it.

Each raw column is one input tensor of shape [rows] or [rows, 1]; a missing cell is null in JSON or
NaN in floating-point tensors. Outputs are ``prediction`` [rows] and, for classes, ``probability``
[rows, classes].

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md)
and its extension for binary tensor data as Triton publishes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from loopline.features.contract import InputColumn
from loopline.models.base import Floats
from loopline.serve.model import ServedModel
from loopline.serve.reply import JSON, OCTETS, Refusal, Reply, as_json

HEADER_LENGTH = b"inference-header-content-length"
PLATFORM = "loopline"
_NUMBERS: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
_DATATYPES = {"integer": "INT64", "float": "FP64", "seconds": "FP64", "boolean": "BOOL"}
_MAX_INPUTS = 100_000


def metadata(model: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """A model's inputs and outputs."""
    inputs = [_told_input(column) for column in model.columns]
    given = [-1, len(model.classes)] if model.several else [-1]
    outputs = [{"name": "prediction", "datatype": _label_type(model), "shape": given}]
    if model.classes:
        shape = [-1, len(model.classes)]
        outputs.append({"name": "probability", "datatype": "FP64", "shape": shape})
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


def read(body: bytes, headers: Mapping[bytes, bytes]) -> tuple[dict[str, Any], pl.DataFrame]:
    """The request as plain data, and its tensors as a table.

    Raises:
        Refusal: 400; what breaks the protocol, in one sentence.
    """
    length = headers.get(HEADER_LENGTH)
    if length is None:
        head, rest = body, b""
    else:
        if not length.isdigit() or int(length) > len(body):
            raise Refusal(400, "Inference-Header-Content-Length is not a length within the body.")
        head, rest = body[: int(length)], body[int(length) :]
    try:
        request = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from None
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise Refusal(400, "The body must be an object with a list of `inputs`.")
    if not 1 <= len(request["inputs"]) <= _MAX_INPUTS:
        raise Refusal(400, "`inputs` must hold one tensor for each column.")
    columns: dict[str, pl.Series] = {}
    for tensor in request["inputs"]:
        series, rest = _column(tensor, rest)
        if series.name in columns:
            raise Refusal(400, f"The input {series.name!r} came twice.")
        columns[series.name] = series
    if rest:
        raise Refusal(400, f"{len(rest)} bytes of the body belong to no input.")
    heights = {len(series) for series in columns.values()}
    if len(heights) > 1:
        raise Refusal(400, f"All inputs must have as many rows; these have {sorted(heights)}.")
    return request, pl.DataFrame(list(columns.values()))


def reply(
    request: Mapping[str, Any],
    model: ServedModel,
    raw: Floats,
    request_id: str,
    remarks: Sequence[str],
) -> Reply:
    """The answer in the protocol's form, with the outputs and encodings that were asked for.

    Raises:
        Refusal: 400; an output that the model does not have.
    """
    tensors = _outputs(model, raw)
    binary = bool(_parameters(request).get("binary_data_output", False))
    asked = request.get("outputs")
    if asked is None or asked == []:
        asked = [{"name": name} for name in tensors]
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise Refusal(400, "`outputs` must be a list of objects with a `name`.")
    told, parts = [], []
    for one in asked:
        name = one.get("name")
        if name not in tensors:
            raise Refusal(400, f"The model has the outputs {', '.join(tensors)}.")
        datatype, values = tensors[name]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if _parameters(one).get("binary_data", binary):
            data = _packed(datatype, values)
            entry["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            entry["data"] = values.ravel().tolist()
        told.append(entry)
    parameters: dict[str, Any] = {"request_id": request_id}
    if remarks:
        parameters["remarks"] = "\n".join(remarks)
    answer: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version,
        "parameters": parameters,
        "outputs": told,
    }
    if isinstance(request.get("id"), str):
        answer["id"] = request["id"]
    head = as_json(answer)
    if not parts:
        return Reply(200, head, JSON)
    length = (b"inference-header-content-length", str(len(head)).encode())
    return Reply(200, head + b"".join(parts), OCTETS, (length,))


def _told_input(column: InputColumn) -> dict[str, Any]:
    return {
        "name": column.name,
        "datatype": _DATATYPES.get(column.kind, "BYTES"),
        "shape": [-1],
    }


def _label_type(model: ServedModel) -> str:
    if not model.classes:
        return "FP64"
    if model.several:
        return "BOOL"
    return {bool: "BOOL", int: "INT64", float: "FP64"}.get(type(model.classes[0]), "BYTES")


def _outputs(model: ServedModel, raw: Floats) -> dict[str, tuple[str, NDArray[Any]]]:
    datatype = _label_type(model)
    if not model.classes:
        return {"prediction": (datatype, raw)}
    if model.several:
        has = model.release.codes(raw) == 1
        return {"prediction": (datatype, has), "probability": ("FP64", raw)}
    kind = _NUMBERS.get(datatype, object)
    labels = np.array(model.classes, dtype=kind)[model.release.codes(raw)]
    return {"prediction": (datatype, labels), "probability": ("FP64", raw)}


def _column(tensor: Any, rest: bytes) -> tuple[pl.Series, bytes]:
    """One tensor as a column, and the binary data behind its own."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise Refusal(400, "Each input must be an object with a `name`.")
    name, datatype = tensor["name"], tensor.get("datatype")
    if datatype not in _NUMBERS and datatype != "BYTES":
        raise Refusal(400, f"Input {name!r} needs a `datatype`: {', '.join(_NUMBERS)} or BYTES.")
    rows = _rows(name, tensor.get("shape"))
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        return _from_json(name, datatype, rows, tensor.get("data")), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise Refusal(400, f"`binary_data_size` of input {name!r} does not fit the body.")
    if datatype == "BYTES":
        return _from_bytes(name, rows, rest[:size]), rest[size:]
    kind = np.dtype(_NUMBERS[datatype]).newbyteorder("<")
    if size != rows * kind.itemsize:
        raise Refusal(
            400,
            f"Input {name!r} has {size} bytes; {rows} of {datatype} are {rows * kind.itemsize}.",
        )
    values = np.frombuffer(rest[:size], dtype=kind).astype(_NUMBERS[datatype])
    if values.dtype == np.float16:
        values = values.astype(np.float64)
    return pl.Series(name, values), rest[size:]


def _rows(name: str, shape: Any) -> int:
    right = (
        isinstance(shape, list)
        and 1 <= len(shape) <= 2
        and all(type(side) is int and side >= 0 for side in shape)
        and (len(shape) == 1 or shape[1] == 1)
    )
    if not right:
        raise Refusal(400, f"Input {name!r} needs the `shape` [rows] or [rows, 1].")
    return int(shape[0])


def _from_json(name: str, datatype: str, rows: int, data: Any) -> pl.Series:
    if not isinstance(data, list):
        raise Refusal(400, f"Input {name!r} needs a list of `data`.")
    cells = [inner for cell in data for inner in (cell if isinstance(cell, list) else (cell,))]
    if len(cells) != rows:
        raise Refusal(400, f"Input {name!r} has {len(cells)} cells; its shape says {rows}.")
    allowed = {"BYTES": (str,), "BOOL": (bool,)}.get(
        datatype, (int, float) if datatype.startswith("FP") else (int,)
    )
    if not all(cell is None or type(cell) in allowed for cell in cells):
        raise Refusal(400, f"Input {name!r} holds cells that are no {datatype}.")
    if datatype == "BYTES":
        return pl.Series(name, cells, dtype=pl.String)
    if datatype == "BOOL":
        return pl.Series(name, cells, dtype=pl.Boolean)
    if datatype.startswith("FP"):
        kind = _NUMBERS[datatype]
        read = [None if cell is None else float(kind(cell)) for cell in cells]
        return pl.Series(name, read, dtype=pl.Float64)
    low, high = np.iinfo(_NUMBERS[datatype]).min, np.iinfo(_NUMBERS[datatype]).max
    if not all(cell is None or low <= cell <= high for cell in cells):
        raise Refusal(400, f"Input {name!r} holds numbers beyond {datatype}.")
    return pl.Series(name, cells, dtype=pl.UInt64 if datatype == "UINT64" else pl.Int64)


def _from_bytes(name: str, rows: int, data: bytes) -> pl.Series:
    """Elements of four bytes of length and so many bytes each; text where all are UTF-8."""
    cells: list[bytes] = []
    place = 0
    while place < len(data) and len(cells) <= rows:
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4 + length
        if place > len(data):
            break
        cells.append(data[place - length : place])
    if place != len(data) or len(cells) != rows:
        raise Refusal(400, f"The bytes of input {name!r} are not {rows} elements with lengths.")
    try:
        return pl.Series(name, [cell.decode() for cell in cells], dtype=pl.String)
    except UnicodeDecodeError:
        return pl.Series(name, cells, dtype=pl.Binary)


def _packed(datatype: str, values: NDArray[Any]) -> bytes:
    if datatype != "BYTES":
        return (
            np.ascontiguousarray(values).astype(np.dtype(values.dtype).newbyteorder("<")).tobytes()
        )
    cells = [str(value).encode() for value in values.ravel()]
    return b"".join(len(cell).to_bytes(4, "little") + cell for cell in cells)


def _parameters(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        raise Refusal(400, "`parameters` must be an object.")
    return found
