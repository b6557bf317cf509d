"""Asks a service through KServe's own client, in an environment that needs `kserve` alone.

    python kserve_client.py URL MODEL < tensors.json

`tensors.json` is a list of tensors with name, datatype, shape and data. Prints what came back.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

KINDS: dict[str, Any] = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}


def request_of(tensors: list[dict[str, Any]], model: str, *, binary: bool) -> InferRequest:
    """The tensors as KServe's client packs them, as JSON or as bytes."""
    inputs = []
    for tensor in tensors:
        made = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        cells = [np.nan if cell is None else cell for cell in tensor["data"]]
        array = np.array(cells, dtype=KINDS[tensor["datatype"]]).reshape(tensor["shape"])
        if binary:
            made.set_data_from_numpy(array, binary_data=True)
        else:
            made = InferInput(tensor["name"], tensor["shape"], tensor["datatype"], tensor["data"])
        inputs.append(made)
    return InferRequest(model_name=model, infer_inputs=inputs, request_id="from-kserve")


async def asked(url: str, model: str, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    """Health, both encodings, and a model that is not there."""
    config = RESTConfig(protocol="v2", retries=0)
    async with InferenceRESTClient(config) as client:
        told: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model": await client.is_model_ready(url, model),
            "nothing": await client.is_model_ready(url, "nothing"),
        }
        for way in ("json", "binary"):
            request = request_of(tensors, model, binary=way == "binary")
            answer = await client.infer(url, request, model_name=model)
            told[way] = {
                "id": answer.id,
                "prediction": _texts(answer.get_output_by_name("prediction")),
                "probability": answer.get_output_by_name("probability").as_numpy().tolist(),
            }
        try:
            await client.infer(url, request, model_name="nothing")
        except httpx.HTTPStatusError as error:
            told["refused"] = str(error)
    return told


def _texts(output: Any) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else str(one) for one in output.data]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asked(*sys.argv[1:3], json.load(sys.stdin)))))
