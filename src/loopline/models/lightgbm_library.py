"""LightGBM's shared library, called by its documented C functions without its Python package.

So a model predicts without importing scikit-learn, scipy and pandas (1.5 s and 190 MB), and one row
costs a few microseconds instead of a few tens. Needs numpy and the installed library alone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import EnvironmentProblem, LooplineError
from loopline.models.portable import restored
from loopline.models.probability import separate_probabilities, with_complement

Floats = NDArray[np.float64]

SMALL_CELLS = 200_000
"""Below this many cells one thread does as well when the machine is idle, far better when busy."""
NORMAL, CONTRIBUTIONS = 0, 3
"""What `Booster.predict` gives: predictions, or contributions of each column."""
_FLOAT64 = 1
_ROW_MAJOR = 1


class LightGBMPrediction:
    """Predictions of a model in LightGBM's text format.

    Args:
        text: the model.
        num_columns: columns of the matrix.
        num_classes: number of classes, 0 for values.
        offset: of the scaled target (values).
        scale: of the scaled target (values).
        base: where each class is there or not for itself: what is added to its score, shape
            (classes,); else None.
    """

    def __init__(
        self,
        text: str,
        *,
        num_columns: int,
        num_classes: int,
        offset: float,
        scale: float,
        base: Floats | None = None,
    ) -> None:
        several = num_classes > 2 or base is not None
        self.booster = Booster(text, num_columns, num_classes if several else 1)
        self._num_classes = num_classes
        self._base = base
        self._offset, self._scale = offset, scale

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        return self._finish(self.booster.predict(values, NORMAL))

    def predict_one(self, values: Floats) -> Floats:
        """One row in a few microseconds; same bits as `predict`."""
        out = self.booster.predict_one(values)
        if self._num_classes == 2 and self._base is None:
            second = out.item(0)
            return np.array([1.0 - second, second])
        return self._finish(out.reshape(1, -1)).reshape(-1)

    def _finish(self, raw: Floats) -> Floats:
        if self._base is not None:
            return separate_probabilities(raw + self._base)
        if self._num_classes > 2:
            return raw
        if self._num_classes:
            return with_complement(raw[:, 0])
        return restored(raw[:, 0], self._offset, self._scale)


class Booster:
    """One model held by LightGBM's library. Safe to use from several threads."""

    def __init__(self, text: str, num_columns: int, num_outputs: int) -> None:
        self._library = lightgbm_library()
        self._columns = max(1, num_columns)
        self._given = num_columns
        self._outputs = num_outputs
        self._row_type = ctypes.c_double * num_outputs
        handle, rounds = ctypes.c_void_p(), ctypes.c_int()
        self._call(
            "LGBM_BoosterLoadModelFromString",
            text.encode(),
            ctypes.byref(rounds),
            ctypes.byref(handle),
        )
        self._handle = handle
        fast = ctypes.c_void_p()
        self._call(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            handle,
            NORMAL,
            0,
            -1,
            _FLOAT64,
            self._columns,
            b"num_threads=1",
            ctypes.byref(fast),
        )
        self._fast = fast
        self._predict_row = self._library.LGBM_BoosterPredictForMatSingleRowFast
        weakref.finalize(self, _free, self._library, handle, fast)

    def predict(self, values: Floats, kind: int) -> Floats:
        """Predictions, or contributions, of a matrix (rows, columns)."""
        values = self._checked(values)
        rows = values.shape[0]
        width = self._outputs * (self._columns + 1 if kind == CONTRIBUTIONS else 1)
        out, written = np.empty((rows, width)), ctypes.c_int64()
        if rows == 0:
            return out
        self._call(
            "LGBM_BoosterPredictForMat",
            self._handle,
            ctypes.c_void_p(values.ctypes.data),
            _FLOAT64,
            ctypes.c_int32(rows),
            ctypes.c_int32(self._columns),
            _ROW_MAJOR,
            kind,
            0,
            -1,
            b"num_threads=1" if values.size < SMALL_CELLS else b"",
            ctypes.byref(written),
            ctypes.c_void_p(out.ctypes.data),
        )
        if kind == CONTRIBUTIONS and self._columns != self._given:
            return np.zeros((rows, self._outputs))
        return out

    def predict_one(self, values: Floats) -> Floats:
        """The prediction of one row (1, columns), in a few microseconds; same bits.

        Asking an array for its `ctypes.data` takes a microsecond; its first byte tells the address
        in a quarter of that.
        """
        values = self._checked(values)
        if not values.flags.writeable:
            values = values.copy()
        out, written = self._row_type(), ctypes.c_int64()
        status = self._predict_row(
            self._fast,
            ctypes.byref(ctypes.c_char.from_buffer(values.data)),
            ctypes.byref(written),
            out,
        )
        if status:
            raise self._error()
        found: Floats = np.frombuffer(memoryview(out).cast("B"))
        return found

    def gains(self) -> Floats:
        """Total gain of each column's splits."""
        out = np.zeros(self._columns)
        self._call(
            "LGBM_BoosterFeatureImportance",
            self._handle,
            0,
            1,
            ctypes.c_void_p(out.ctypes.data),
        )
        return out[: self._given]

    def _checked(self, values: Floats) -> Floats:
        """The C side reads raw memory: shape, type and order must be exactly what it expects."""
        if values.ndim != 2 or values.shape[1] != self._given:
            raise ValueError(f"expected a matrix of {self._given} columns, got {values.shape}")
        if self._given == 0:
            return np.zeros((values.shape[0], 1))
        if values.dtype != np.float64 or not values.flags.c_contiguous:
            return np.ascontiguousarray(values, dtype=np.float64)
        return values

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments):
            raise self._error()

    def _error(self) -> LooplineError:
        message = self._library.LGBM_GetLastError().decode(errors="replace")
        return LooplineError(f"LightGBM refused the model or the rows: {message}")


def _free(library: ctypes.CDLL, handle: ctypes.c_void_p, fast: ctypes.c_void_p) -> None:
    library.LGBM_FastConfigFree(fast)
    library.LGBM_BoosterFree(handle)


@functools.cache
def lightgbm_library() -> ctypes.CDLL:
    """LightGBM's shared library, opened beside its Python package but without importing it."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("LightGBM is not installed; run `pip install lightgbm`.")
    package = Path(spec.origin).parent
    for name in ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll"):
        for folder in (package / "lib", package / "bin", package.parent):
            if (folder / name).is_file():
                library = ctypes.CDLL(str(folder / name))
                library.LGBM_GetLastError.restype = ctypes.c_char_p
                return library
    raise EnvironmentProblem(f"LightGBM's shared library was not found in {package}; reinstall it.")
