"""The loader that an exported MLflow model names; MLflow calls `_load_pyfunc`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from loopline.runtime.model import Runtime, load


class PythonModel:
    """An exported model as MLflow asks it: a pandas table in, a pandas table out.

    Args:
        runtime: the model.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Predict a table of rows.

        Args:
            model_input: a pandas table, or a list of mappings.
            params: MLflow's; nothing is taken from it.

        Returns:
            A pandas table with `prediction` and, for classes, one `probability_<class>` column
            each, in the input's row order.

        Raises:
            DataError: a row breaks the input contract.
        """
        import pandas

        del params
        given = model_input
        rows = given.to_dict("records") if hasattr(given, "to_dict") else list(given)
        answers = self._runtime.predict(
            [{name: _plain(cell) for name, cell in row.items()} for row in rows]
        )
        columns: dict[str, list[Any]] = {"prediction": [one["prediction"] for one in answers]}
        for label in self._runtime.classes:
            shares = [one["probability"][label] for one in answers]
            columns[f"probability_{label}"] = shares
        return pandas.DataFrame(columns, index=getattr(given, "index", None))


def _load_pyfunc(path: str) -> PythonModel:
    return PythonModel(load(path))


def _plain(cell: Any) -> Any:
    """A cell of pandas as plain Python: its missing values are None, its times datetimes."""
    if hasattr(cell, "to_pydatetime"):
        cell = cell.to_pydatetime()
    elif hasattr(cell, "item"):
        cell = cell.item()
    missing = type(cell).__name__ in ("NaTType", "NAType") or (
        isinstance(cell, float) and math.isnan(cell)
    )
    return None if missing else cell
