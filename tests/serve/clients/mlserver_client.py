"""Asks a service with the codecs of MLServer, in an environment that needs `mlserver` alone.

    python mlserver_client.py URL MODEL < tensors.json

MLServer has no client class: its users encode a request with a codec, send it, and decode the
answer. Prints what came back.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import numpy as np
import pandas as pd
from mlserver.codecs import NumpyCodec, PandasCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


def by_columns(tensors: list[dict[str, Any]]) -> InferenceRequest:
    """One codec a column."""
    inputs = []
    for tensor in tensors:
        name, cells = tensor["name"], tensor["data"]
        if tensor["datatype"] == "BYTES":
            inputs.append(StringCodec.encode_input(name, cells))
        else:
            kind = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}[tensor["datatype"]]
            inputs.append(NumpyCodec.encode_input(name, np.array(cells, dtype=kind)))
    return InferenceRequest(id="from-mlserver", inputs=inputs)


def by_table(tensors: list[dict[str, Any]]) -> InferenceRequest:
    """A table of pandas at once."""
    frame = pd.DataFrame({tensor["name"]: tensor["data"] for tensor in tensors})
    texts = [tensor["name"] for tensor in tensors if tensor["datatype"] == "BYTES"]
    frame = frame.astype(dict.fromkeys(texts, object))  # MLServer 1.7 knows no other text of pandas
    request: InferenceRequest = PandasCodec.encode_request(frame)
    return request


def sent(url: str, model: str, request: InferenceRequest) -> dict[str, Any]:
    """The answer, decoded by MLServer."""
    body = request.model_dump_json(exclude_none=True).encode()
    made = urllib.request.Request(
        f"{url}/v2/models/{model}/infer", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(made, timeout=20) as answer:
        response = InferenceResponse.model_validate_json(answer.read())
    outputs = {output.name: output for output in response.outputs}
    return {
        "id": response.id,
        "prediction": StringCodec.decode_output(outputs["prediction"]),
        "probability": NumpyCodec.decode_output(outputs["probability"]).tolist(),
    }


if __name__ == "__main__":
    url, model = sys.argv[1:3]
    given = json.load(sys.stdin)
    ways = {"columns": by_columns(given), "table": by_table(given)}
    print(json.dumps({way: sent(url, model, request) for way, request in ways.items()}))
