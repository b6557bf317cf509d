"""Trees of CatBoost, read from bytes and asked for scores; CatBoost is imported when they are.

Needs numpy and CatBoost alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import IntegrityError
from loopline.models.library import require_library

Floats = NDArray[np.float64]


class CatBoostTrees:
    """A trained model; categorical columns stand behind the others in what CatBoost sees."""

    library = "catboost"

    def __init__(self, model: Any, categorical: Sequence[int]) -> None:
        self._model = model
        self._categorical = tuple(categorical)

    def scores(self, values: Floats) -> Floats:
        """Raw scores of a clipped matrix, shape (rows, scores)."""
        raw = self._model.predict(
            catboost_features(values, self._categorical), prediction_type="RawFormulaVal"
        )
        scores: Floats = np.asarray(raw, dtype=np.float64).reshape(values.shape[0], -1)
        return scores

    def shap(self, values: Floats) -> Floats:
        """TreeSHAP values, shape (rows, columns, scores)."""
        import catboost

        pool = catboost.Pool(catboost_features(values, self._categorical))
        raw = np.asarray(self._model.get_feature_importance(data=pool, type="ShapValues"))
        if raw.ndim == 2:
            raw = raw[:, None, :]
        parts = np.empty((values.shape[0], values.shape[1], raw.shape[1]))
        parts[:, catboost_order(values.shape[1], self._categorical)] = raw[:, :, :-1].transpose(
            0, 2, 1
        )
        return parts

    def gains(self) -> Floats:
        """CatBoost's importance of each column."""
        found = np.asarray(self._model.get_feature_importance(), dtype=np.float64)
        out = np.empty(found.size)
        out[catboost_order(found.size, self._categorical)] = found
        return out

    def to_bytes(self) -> bytes:
        """The model as CBM."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            self._model.save_model(str(path), format="cbm")
            return path.read_bytes()


def read_catboost(data: bytes, categorical: Sequence[int]) -> CatBoostTrees:
    """Read CBM bytes.

    Raises:
        EnvironmentProblem: CatBoost is not installed.
        IntegrityError: the bytes are no model.
    """
    require_library("catboost")
    import catboost

    model = catboost.CatBoost()
    try:
        model.load_model(blob=data)
    except catboost.CatBoostError as error:
        raise IntegrityError(f"model.cbm is no CatBoost model: {error}") from error
    return CatBoostTrees(model, categorical)


def describe_catboost(
    data: bytes, num_columns: int, categorical: Sequence[int], codes: NDArray[np.int64]
) -> bytes:
    """A model's splits, leaves and statistics as CatBoost's own JSON.

    Args:
        data: the model as CBM.
        num_columns: columns of its matrix.
        categorical: those that hold codes.
        codes: the codes whose hashes are to be told; -1 is a missing one.
    """
    require_library("catboost")
    import catboost

    model = catboost.CatBoost()
    model.load_model(blob=data)
    rows = np.zeros((len(codes), num_columns))
    rows[:, list(categorical)] = codes[:, None]
    pool = catboost.Pool(catboost_features(rows, categorical)) if categorical else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json", pool=pool)
        return path.read_bytes()


def catboost_order(num_columns: int, categorical: Sequence[int]) -> list[int]:
    """Matrix columns in the order in which CatBoost sees them."""
    chosen = set(categorical)
    return [each for each in range(num_columns) if each not in chosen] + list(categorical)


def catboost_features(values: Floats, categorical: Sequence[int]) -> Any:
    """A matrix as CatBoost takes it: numbers as 32-bit floats, codes as texts behind them."""
    single = values.astype(np.float32)
    if not categorical:
        return single
    import catboost

    numbers = catboost_order(values.shape[1], categorical)[: values.shape[1] - len(categorical)]
    codes = values[:, list(categorical)]
    missing = np.isnan(codes)
    texts = np.where(missing, -1, codes).astype(np.int64).astype("S20").astype(object)
    return catboost.FeaturesData(
        num_feature_data=np.ascontiguousarray(single[:, numbers]) if numbers else None,
        cat_feature_data=texts,
    )
