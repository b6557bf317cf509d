"""Strings of a polars column where they lie: lengths, first bytes and addresses, without a copy.

Polars holds a string as 16 bytes, a *view*: its length (32 bits) and 12 bytes that are the string
itself where it fits, else its first 4 bytes, the number of a buffer and the place in it. Turning
views into one run of bytes costs more than hashing them, so the digest reads the views themselves,
through the Arrow C data interface, which polars exports without copying.

Sources: "Arrow Columnar Format", variable-size binary view layout; "The Arrow C data interface" and
"The Arrow C stream interface" (Apache Arrow).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

INLINE_BYTES = 12
"""Strings up to this many bytes lie in their views."""

_U32, _LOW = np.uint64(32), np.uint64(0xFFFF_FFFF)


class _ArrowArray(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("private_data", ctypes.c_void_p),
    )


class _ArrowStream(ctypes.Structure):
    _fields_ = (
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class StringViews:
    """The views of one String or Binary column; valid while this object lives.

    Args:
        series: a column of type String or Binary; missing cells count as empty.

    >>> views = StringViews(pl.Series(["to", None, "a string of 22 bytes !"]))
    >>> views.lengths.tolist()
    [2, 0, 22]
    >>> views.bytes_at(int(views.addresses(np.array([2]))[0]), 8)
    b'a string'
    """

    def __init__(self, series: pl.Series) -> None:
        self._array: _ArrowArray | None = None
        series = series.rechunk()
        if len(series):
            self._array = _exported(series)
        words = np.empty((0, 2), dtype=np.uint64)
        if self._array is not None:
            first = int(self._array.buffers[1]) + 16 * int(self._array.offset)
            words = _memory(first, 16 * len(series)).view(np.uint64).reshape(-1, 2)
        if series.null_count():
            words = np.where(series.is_null().to_numpy()[:, None], np.uint64(0), words)
        self._words = words
        self.lengths: NDArray[np.int64] = (words[:, 0] & _LOW).view(np.int64)
        """Bytes of each string, shape (rows,)."""

    @property
    def heads(self) -> NDArray[np.uint64]:
        """The first 4 bytes of each string (zeros behind a shorter one) below its length."""
        first = self._words[:, 0]
        return (first >> _U32) | (first << _U32)

    @property
    def inline(self) -> NDArray[np.uint64]:
        """Bytes 4 to 11 of each string that has at most 12 (zeros behind it), shape (rows,)."""
        return self._words[:, 1]

    def addresses(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Where in memory the strings of some rows begin; each must have more than 12 bytes."""
        array = self._array
        if array is None or not len(rows):
            return np.empty(0, dtype=np.int64)
        # Validity, views, the data buffers, and their sizes.
        starts = [array.buffers[2 + number] or 0 for number in range(array.n_buffers - 3)]
        places = self._words[rows, 1]
        buffers = np.array(starts, dtype=np.int64)
        found: NDArray[np.int64] = buffers[places & _LOW] + (places >> _U32).view(np.int64)
        return found

    def words_at(self, addresses: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The 8 bytes at each address; each must lie inside a string of this column whole."""
        low = int(addresses.min())
        # One array over everything between the first and the last string, whichever buffers they
        # lie in: a word at every byte. What lies between the strings is never read.
        span = int(addresses.max()) - low + 8
        reach = np.ndarray((span - 7,), dtype="<u8", buffer=_memory(low, span), strides=(1,))
        found: NDArray[np.uint64] = reach[addresses - low]
        return found

    def bytes_at(self, address: int, length: int) -> bytes:
        """A run of bytes inside a string of this column."""
        return ctypes.string_at(address, length)

    def __del__(self) -> None:
        if self._array is not None and self._array.release:
            self._array.release(ctypes.addressof(self._array))


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _exported(series: pl.Series) -> _ArrowArray:
    """The only chunk of a column; its consumer releases it."""
    capsule: Any = series.__arrow_c_stream__()
    address = _pointer(capsule, b"arrow_array_stream")
    array = _ArrowArray()
    status = _ArrowStream.from_address(address).get_next(address, ctypes.addressof(array))
    if status or array.length != len(series):
        raise AssertionError(f"polars gave no Arrow array for {series.dtype} (status {status})")
    return array


def _memory(address: int, size: int) -> NDArray[np.uint8]:
    return np.asarray(memoryview((ctypes.c_uint8 * size).from_address(address)).cast("B"))
