"""MLflow's scoring server with its defaults: one worker, a python_function from code.

python mlflow_app.py FOLDER     # writes the model that `mlflow models serve` takes
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
import pandas as pd
from by_hand import probability


class Model(mlflow.pyfunc.PythonModel):
    """The same model file behind MLflow's table of rows."""

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> list:
        """A probability a row."""
        del context, params
        rows = model_input.astype(object).where(model_input.notna(), None).to_dict("records")
        return [probability(row) for row in rows]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=str(Path(__file__).resolve()))
else:
    mlflow.models.set_model(Model())
