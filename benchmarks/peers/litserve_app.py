"""LitServe with its defaults: one worker, no batching."""

from __future__ import annotations

import os

import litserve
from by_hand import probability


class Api(litserve.LitAPI):
    """The four steps that LitServe asks for."""

    def setup(self, device: str) -> None:
        """Nothing: the model is loaded with the module."""
        del device

    def decode_request(self, request: dict) -> dict:
        """The row as it came."""
        return request

    def predict(self, row: dict) -> float:
        """The probability."""
        return probability(row)

    def encode_response(self, output: float) -> dict[str, float]:
        """The answer."""
        return {"probability": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["PEER_PORT"]), generate_client_file=False, log_level="error")
