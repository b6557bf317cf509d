"""MLServer with a runtime of one's own, as its manual says: one tensor a column, then the model."""

from __future__ import annotations

from by_hand import COLUMNS, probability
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

MISSING = {column["name"]: None for column in COLUMNS}


class Rows(MLModel):
    """Rows of mixed columns; a missing cell is a tensor that is not sent."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One row."""
        row = MISSING | {tensor.name: tensor.data[0] for tensor in payload.inputs}
        told = ResponseOutput(
            name="probability", shape=[1], datatype="FP64", data=[probability(row)]
        )
        return InferenceResponse(model_name=self.name, outputs=[told])
