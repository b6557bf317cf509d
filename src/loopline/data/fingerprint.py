"""Content digests of tables: the identity of a row, of a column and of a whole table.

`row_digests` gives every row 128 bits that depend on every cell, every column name and every
logical type, and on nothing else: not on the order of rows or columns, not on chunks, integer
width, time unit or machine. Splits, labels and deletions name rows by it. `table_digest` turns the
*multiset* of row digests into one string: rows in another order give the same digest, a repeated
row another one.

What is equal:

- integers of any width (``Int32`` 7 = ``UInt8`` 7), floats of any width with the same value,
  ``-0.0`` = ``0.0``, every NaN = every NaN; dates and times of any unit (1 s = 1,000 ms);
  decimals of any precision and scale; ``Categorical``/``Enum`` = ``String``; ``Array`` = ``List``;
  structs whatever the order of their fields.

What differs:

- null, ``""``, ``0``, ``False``, NaN and an empty list; ``1`` and ``1.0`` (another logical type);
  a time with a zone and one without; a column under another name.

How it works. A cell is a short list of 64-bit words (a number is one, a string has its length with
its first 4 bytes and then 8 bytes a word). Each word is mixed by two keyed multiply-xorshift
permutations of 64 bits (the lanes), with a key drawn by BLAKE3 from column name, logical type and
word position; the words of a row are added modulo 2**64 lane by lane and mixed once more. A single
changed number therefore always changes its row. Everything runs in numpy over blocks of
65,536 rows; strings are read where they lie (`loopline.data.string_views`). Speed:
``benchmarks/digest.py``.

Bound: two different rows collide with probability about 2**-128; among n rows, n**2 / 2**129
(5 million rows: 4e-26). The mixing has no secret, so this guards against accidents, not against a
person who constructs rows in order to collide; stored files have cryptographic digests of their
own. The rules never change in silence: `FORMAT` takes part in every digest, and golden digests in
the tests fail when a single bit differs.

Source of the construction: sums of keyed hashes as in Bellare and Micciancio, "A new paradigm for
collision-free hashing: incrementality at reduced cost" (1997, AdHash); as the inner function the
multiply-xorshift finaliser of Steele, Lea and Flood, "Fast splittable pseudorandom number
generators" (2014).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from blake3 import blake3
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.data.string_views import INLINE_BYTES, StringViews
from loopline.digest import canonical_json
from loopline.errors import DataError

FORMAT = "loopline-table-1"
"""Takes part in every digest; a change of any rule above is a new format."""

Words = NDArray[np.uint64]

_BLOCK_ROWS = 65_536  # at 16,384 the calls into polars cost as much as the hashing
_BLOCK_BYTES = 1 << 23  # fewer rows a block where one column's cells are long
_PARALLEL_ROWS = 2 * _BLOCK_ROWS
_FULL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_SPREAD = np.uint64(0x9FB2_1C65_1E98_DF25)
_MIX = np.uint64(0xD6E8_FEB8_6659_FD93)
_LAST = np.array([0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB], dtype=np.uint64)
_UNMIX = np.uint64(pow(int(_MIX), -1, 1 << 64))
_UNLAST = np.array([pow(int(odd), -1, 1 << 64) for odd in _LAST], dtype=np.uint64)
_STEP = np.array([0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F], dtype=np.uint64)
_S29, _S32 = np.uint64(29), np.uint64(32)

_HEAD_BYTES = 4  # bytes of a string beside its length in word 0
_DIRECT_WORDS = 31  # words 1..31 hold the rest of strings up to 252 bytes
_DIRECT_BYTES = _HEAD_BYTES + 8 * _DIRECT_WORDS
_DENSE = 0.5  # below this share of rows that still have words, the others are taken out
_NUM_KEYS = _DIRECT_WORDS + 3  # word 0, words 1..31, and two for the BLAKE3 of a longer string

_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_WIDE_INTEGERS = (pl.Int128, pl.UInt128)
_FLOATS = (pl.Float16, pl.Float32, pl.Float64)
_STRINGS = (pl.String, pl.Categorical, pl.Enum)


def row_digests(frame: pl.DataFrame, *, threads: int | None = None) -> Words:
    """128 bits for every row: its identity in splits, labels and deletions.

    Args:
        frame: any table; one in canonical types (`loopline.data.sources`) takes the fast paths.
        threads: threads to use, by default the cores of this process, at most 8. No effect on the
            result.

    Returns:
        Shape (rows, 2), C order. Equal rows have equal digests, wherever they stand.

    Raises:
        DataError: a column holds Python objects or another type that has no defined content.

    >>> import polars as pl
    >>> a = row_digests(pl.DataFrame({"x": [1, 2, 1], "y": ["a", None, "a"]}))
    >>> a.shape, bool((a[0] == a[2]).all()), bool((a[0] == a[1]).any())
    ((3, 2), True, False)
    """
    plans = [_plan(name, [name], dtype) for name, dtype in frame.schema.items()]
    digests = np.empty((frame.height, 2), dtype=np.uint64)
    size = _block_rows(frame)
    starts = range(0, frame.height, size)

    def work(start: int) -> None:
        _digest_block(frame.slice(start, size), plans, digests[start : start + size])

    _in_blocks(work, starts, threads)
    return digests


def _in_blocks(work: Callable[[int], None], starts: range, threads: int | None) -> None:
    short = len(starts) * starts.step < _PARALLEL_ROWS
    for _ in in_threads(work, starts, 1 if short else threads):
        pass


def digests_without(frame: pl.DataFrame, digests: Words, names: Collection[str]) -> Words:
    """The row digests of a table without some columns, from those with them.

    A row's digest is a sum of its cells' hashes, mixed once more by a permutation; so the columns
    that are left out are taken off the sum, and the others are not read again. For the features of
    a table of 30 columns that is the work of its target alone.

    Args:
        frame: the table.
        digests: its `row_digests`, shape (rows, 2).
        names: columns to leave out; others than the table's have no effect.

    Returns:
        ``row_digests(frame.drop(names))``, bit for bit.

    Raises:
        DataError: a column without defined content.

    >>> table = pl.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    >>> left = digests_without(table, row_digests(table), ["y"])
    >>> bool((left == row_digests(table.select("x"))).all())
    True
    """
    gone = [name for name in frame.columns if name in names]
    if 2 * len(gone) > frame.width:
        return row_digests(frame.drop(gone))
    plans = [_plan(name, [name], frame.schema[name]) for name in gone]
    columns = frame.select(gone)
    changed = np.empty_like(digests)
    size = _block_rows(columns)

    def work(start: int) -> None:
        block = columns.slice(start, size)
        sums = _unfinished(digests[start : start + size])
        for series, plan in zip(block.get_columns(), plans, strict=True):
            sums -= _cells(series, plan)
        _finish(sums, changed[start : start + size])

    _in_blocks(work, range(0, frame.height, size), None)
    return changed


def table_digest(frame: pl.DataFrame, digests: Words | None = None) -> str:
    """One digest of the whole table: its rows as a multiset, its column names and logical types.

    Args:
        frame: the table.
        digests: its `row_digests`, if they are at hand.

    Returns:
        64 hex characters (BLAKE3-256 over the sorted halves of the row digests).

    Raises:
        DataError: a column without defined content, or digests of another number of rows.

    >>> import polars as pl
    >>> table = pl.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    >>> table_digest(table) == table_digest(table.reverse().select("y", "x"))
    True
    >>> table_digest(table) == table_digest(pl.concat([table, table]))
    False
    """
    if digests is None:
        digests = row_digests(frame)
    if digests.shape != (frame.height, 2) or digests.dtype != np.uint64:
        raise DataError(
            f"Row digests must be uint64 of shape ({frame.height}, 2), one row for each row of the "
            f"table; got {digests.dtype} of shape {digests.shape}. Pass row_digests(frame)."
        )
    return digest_of_rows(frame.schema, digests)


def digest_of_rows(schema: Mapping[str, pl.DataType], digests: Words) -> str:
    """The table digest from column types and row digests alone, without the table.

    Args:
        schema: column names and types.
        digests: the row digests, shape (rows, 2), in any order.

    Raises:
        DataError: a column without defined content.
    """
    head = {
        "format": FORMAT,
        "num_rows": len(digests),
        "columns": sorted((name, _logical(name, dtype)) for name, dtype in schema.items()),
    }
    hasher = blake3(canonical_json(head).encode(), max_threads=blake3.AUTO)
    # Each half is sorted on its own, which is three times as fast as sorting rows. It forgets which
    # halves belong together; that could only matter if changed rows swapped 64-bit halves.
    for lane in (0, 1):
        # polars sorts 64-bit numbers three times as fast as numpy.
        half = pl.Series(np.ascontiguousarray(digests[:, lane])).sort().to_numpy()
        hasher.update(half.astype("<u8", copy=False).data.cast("B") if half.size else b"")
    return hasher.hexdigest()


def column_digests(frame: pl.DataFrame) -> dict[str, str]:
    """A digest of each column's values as a multiset, whatever its name and the rows' order.

    Columns of two tables with the same digest hold the same values, so a renamed column is found
    without comparing cells.

    Returns:
        64 hex characters a column, in table order.

    >>> import polars as pl
    >>> d = column_digests(pl.DataFrame({"a": [1, 2], "b": [2, 1], "c": [1, 3]}))
    >>> d["a"] == d["b"], d["a"] == d["c"]
    (True, False)
    """
    digests = {}
    for name, dtype in frame.schema.items():
        _logical(name, dtype)  # refuses under the column's own name
        digests[name] = table_digest(frame.select(pl.col(name).alias("")))
    return digests


def logical_type(dtype: pl.DataType) -> str:
    """The type that takes part in a digest, as text: ``integer``, ``string``, ``datetime`` ….

    Types with one logical type hold comparable values whatever their width or unit.

    >>> import polars as pl
    >>> logical_type(pl.Int32()), logical_type(pl.Datetime("ms", "UTC"))
    ('integer', 'datetime (UTC)')
    """
    return _type_text(_logical("", dtype))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the cells of one column (or one nested part of it) become hashes."""

    keys: Words  # (words, 4): xor and odd factor for each lane
    null: Words  # (2,): the hash of a missing cell
    encode: Callable[[pl.Series, _Plan], Words]
    parts: tuple[tuple[str, _Plan], ...] = field(default=())


def _plan(column: str, path: list[str], dtype: pl.DataType) -> _Plan:
    logical = _logical(column, dtype)
    label = canonical_json([FORMAT, path, logical]).encode()
    drawn = np.frombuffer(blake3(label).digest(length=16 + 32 * _NUM_KEYS), dtype="<u8")
    keys = drawn[2:].reshape(_NUM_KEYS, 4).astype(np.uint64)
    keys[:, 2:] |= np.uint64(1)
    parts: tuple[tuple[str, _Plan], ...] = ()
    if isinstance(dtype, pl.List | pl.Array):
        parts = (("", _plan(column, [*path, "element"], _inner(dtype))),)
    elif isinstance(dtype, pl.Struct):
        parts = tuple(
            (part.name, _plan(column, [*path, "field", part.name], _instance(part.dtype)))
            for part in dtype.fields
        )
    return _Plan(keys, drawn[:2].astype(np.uint64), _encoder(dtype), parts)


def _logical(column: str, dtype: pl.DataType) -> Any:
    """The logical type as plain data; equal types hold values that may be equal."""
    for name, members in _FAMILIES:
        if isinstance(dtype, members):
            return name
    if isinstance(dtype, pl.Datetime):
        return ["datetime", dtype.time_zone] if dtype.time_zone else "datetime"
    if isinstance(dtype, pl.List | pl.Array):
        return ["list", _logical(column, _inner(dtype))]
    if isinstance(dtype, pl.Struct):
        return [
            "struct",
            sorted([part.name, _logical(column, _instance(part.dtype))] for part in dtype.fields),
        ]
    raise DataError(
        f"Column {column!r} has the type {dtype}, whose content cannot be digested. Use numbers, "
        "booleans, strings, binary, dates and times, lists or structs, or drop the column."
    )


_FAMILIES: tuple[tuple[str, tuple[type[pl.DataType], ...]], ...] = (
    ("integer", (*_INTEGERS, pl.UInt64, *_WIDE_INTEGERS)),
    ("float", _FLOATS),
    ("boolean", (pl.Boolean,)),
    ("string", _STRINGS),
    ("binary", (pl.Binary,)),
    ("date", (pl.Date,)),
    ("time", (pl.Time,)),
    ("duration", (pl.Duration,)),
    ("decimal", (pl.Decimal,)),
    ("null", (pl.Null,)),
)


def _type_text(logical: Any) -> str:
    if isinstance(logical, str):
        return logical
    name, inner = logical
    if name == "struct":
        inner = ", ".join(f"{part}: {_type_text(kind)}" for part, kind in inner)
        return f"struct ({inner})"
    return f"{name} ({_type_text(inner)})"


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    if isinstance(dtype, pl.Array) and len(dtype.shape) > 1:
        return pl.Array(_instance(dtype.inner), dtype.shape[1:])
    return _instance(dtype.inner)


def _instance(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def _encoder(dtype: pl.DataType) -> Callable[[pl.Series, _Plan], Words]:
    for members, encode in _ENCODERS:
        if isinstance(dtype, members):
            return encode
    raise AssertionError(f"no encoder for {dtype}")


# --- mixing ---------------------------------------------------------------------------------------


def _mix(words: Words, key: Words) -> Words:
    """Both lanes of one word a row, shape (2, rows): two keyed permutations of 64 bits."""
    mixed = np.empty((2, len(words)), dtype=np.uint64)
    spread = np.multiply(words, _SPREAD)
    shifted = np.right_shift(spread, _S32)
    spread ^= shifted
    for lane in (0, 1):
        x = mixed[lane]
        np.bitwise_xor(spread, key[lane], out=x)
        np.multiply(x, key[2 + lane], out=x)
        np.right_shift(x, _S29, out=shifted)
        np.bitwise_xor(x, shifted, out=x)
        np.multiply(x, _MIX, out=x)
        np.right_shift(x, _S32, out=shifted)
        np.bitwise_xor(x, shifted, out=x)
    return mixed


def _finish(sums: Words, out: Words) -> None:
    """Mix the sums of a row once more, so that digests of related rows are unrelated."""
    for lane in (0, 1):
        x = sums[lane]
        x += _STEP[lane]
        x ^= x >> _S32
        x *= _LAST[lane]
        x ^= x >> _S29
        x *= _MIX
        x ^= x >> _S32
        out[:, lane] = x


def _unfinished(digests: Words) -> Words:
    """The sums that `_finish` mixed, shape (2, rows): each of its steps undone, the last first."""
    sums = np.empty((2, len(digests)), dtype=np.uint64)
    for lane in (0, 1):
        x = sums[lane]
        x[:] = digests[:, lane]
        x ^= x >> _S32
        x *= _UNMIX
        x ^= (x >> _S29) ^ (x >> np.uint64(58))
        x *= _UNLAST[lane]
        x ^= x >> _S32
        x -= _STEP[lane]
    return sums


def _digest_block(block: pl.DataFrame, plans: Sequence[_Plan], out: Words) -> None:
    sums = np.zeros((2, block.height), dtype=np.uint64)
    for series, plan in zip(block.get_columns(), plans, strict=True):
        sums += _cells(series, plan)
    _finish(sums, out)


def _cells(series: pl.Series, plan: _Plan) -> Words:
    """Both lanes of every cell of a column, shape (2, rows)."""
    cells = plan.encode(series, plan)
    if series.null_count():
        missing = series.is_null().to_numpy()
        np.copyto(cells[0], plan.null[0], where=missing)
        np.copyto(cells[1], plan.null[1], where=missing)
    return cells


def _extend(cells: Words, rows: NDArray[np.intp], words: Words, key: Words) -> None:
    """Add one further word to the cells of some rows."""
    if len(rows):
        more = _mix(words, key)
        cells[0][rows] += more[0]
        cells[1][rows] += more[1]


# --- one encoder for each family of types ---------------------------------------------------------


def _whole(series: pl.Series) -> NDArray[np.int64]:
    """A column of 64-bit integers as numpy, 0 where missing."""
    if series.null_count():
        series = series.fill_null(0)
    return series.cast(pl.Int64).to_numpy()


def _integer_cells(series: pl.Series, plan: _Plan) -> Words:
    return _mix(_whole(series.to_physical()).view(np.uint64), plan.keys[0])


def _unsigned_cells(series: pl.Series, plan: _Plan) -> Words:
    words: Words = series.fill_null(0).to_numpy()
    cells = _mix(words, plan.keys[0])
    large = np.flatnonzero(words >> np.uint64(63))
    _extend(cells, large, np.zeros(len(large), dtype=np.uint64), plan.keys[1])
    return cells


def _wide_cells(series: pl.Series, plan: _Plan) -> Words:
    narrow = series.cast(pl.Int64, strict=False)
    words = _whole(narrow).view(np.uint64).copy()
    wide = np.flatnonzero((narrow.is_null() & series.is_not_null()).to_numpy())
    values = [int(value) for value in series.gather(wide)]
    words[wide] = np.array([value & int(_FULL) for value in values], dtype=np.uint64)
    high = np.array([(value >> 64) & int(_FULL) for value in values], dtype=np.uint64)
    cells = _mix(words, plan.keys[0])
    _extend(cells, wide, high, plan.keys[1])
    return cells


def _float_cells(series: pl.Series, plan: _Plan) -> Words:
    if series.null_count():
        series = series.fill_null(0.0)
    values = series.cast(pl.Float64).to_numpy() + 0.0  # a copy in which -0.0 is 0.0
    strange = np.isnan(values)
    words = values.view(np.uint64)
    if strange.any():
        words[strange] = np.uint64(0x7FF8_0000_0000_0000)
    return _mix(words, plan.keys[0])


def _boolean_cells(series: pl.Series, plan: _Plan) -> Words:
    return _mix(_whole(series.cast(pl.UInt8)).view(np.uint64), plan.keys[0])


def _moment_cells(series: pl.Series, plan: _Plan) -> Words:
    """Microseconds; then the nanoseconds beyond, and the high bits beyond 292,000 years."""
    unit = getattr(series.dtype, "time_unit", "us")
    counts = _whole(series.to_physical())
    if unit == "us":
        return _mix(counts.view(np.uint64), plan.keys[0])
    if unit == "ns":
        micros, rest = np.divmod(counts, 1000)
        cells = _mix(micros.view(np.uint64), plan.keys[0])
        finer = np.flatnonzero(rest)
        _extend(cells, finer, rest[finer].astype(np.uint64), plan.keys[1])
        return cells
    micros = counts * 1000  # wraps: the low 64 bits of the product
    far = np.flatnonzero(micros // 1000 != counts)
    cells = _mix(micros.view(np.uint64), plan.keys[0])
    high = np.array([(int(count) * 1000 >> 64) & int(_FULL) for count in counts[far]], np.uint64)
    _extend(cells, far, high, plan.keys[2])
    return cells


def _string_cells(series: pl.Series, plan: _Plan) -> Words:
    return _byte_cells(series.cast(pl.String), plan)


def _decimal_cells(series: pl.Series, plan: _Plan) -> Words:
    text = series.cast(pl.String)
    if isinstance(series.dtype, pl.Decimal) and series.dtype.scale:
        text = text.str.strip_chars_end("0").str.strip_chars_end(".")
    return _string_cells(text, plan)


def _byte_cells(series: pl.Series, plan: _Plan) -> Words:
    """Length and first 4 bytes, then 8 bytes a word; beyond 252 bytes 128 bits of BLAKE3."""
    views = StringViews(series)
    lengths = views.lengths
    cells = _mix(views.heads, plan.keys[0])
    short = (lengths > _HEAD_BYTES) & (lengths <= INLINE_BYTES)
    count = int(np.count_nonzero(short))
    if count >= _DENSE * len(lengths) > 0:
        more = _mix(views.inline, plan.keys[1])
        if count < len(lengths):
            more *= short
        cells += more
    elif count:
        rows = np.flatnonzero(short)
        _extend(cells, rows, views.inline[rows], plan.keys[1])
    far = np.flatnonzero(lengths > INLINE_BYTES)
    if len(far):
        _far_cells(views, far, cells, plan)
    return cells


def _far_cells(views: StringViews, rows: NDArray[np.intp], cells: Words, plan: _Plan) -> None:
    """The words after the first of strings that do not lie in their views."""
    lengths, starts = views.lengths[rows], views.addresses(rows)
    long = lengths > _DIRECT_BYTES
    if long.any():
        digests = b"".join(
            blake3(views.bytes_at(start, length)).digest(length=16)
            for start, length in zip(starts[long].tolist(), lengths[long].tolist(), strict=True)
        )
        pairs = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
        for lane in (0, 1):
            _extend(cells, rows[long], pairs[:, lane].copy(), plan.keys[_DIRECT_WORDS + 1 + lane])
        rows, lengths, starts = rows[~long], lengths[~long], starts[~long]
    place, last = starts + _HEAD_BYTES, starts + (lengths - 8)
    for number in range(1, _DIRECT_WORDS + 1):
        if not len(rows):
            break
        # The last word of a string is read where it still lies inside, and shifted.
        at = np.minimum(place, last)
        words = views.words_at(at) >> ((place - at) << 3).view(np.uint64)
        if len(rows) == cells.shape[1]:
            cells += _mix(words, plan.keys[number])
        else:
            _extend(cells, rows, words, plan.keys[number])
        place += 8
        going = place < last + 8
        if not going.all():
            rows, place, last = rows[going], place[going], last[going]


def _null_cells(series: pl.Series, plan: _Plan) -> Words:
    del plan
    return np.zeros((2, len(series)), dtype=np.uint64)  # `_cells` writes the hash of a missing cell


def _list_cells(series: pl.Series, plan: _Plan) -> Words:
    """The length, and each element's hash mixed with its place in the list."""
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    lengths = _whole(series.list.len())
    elements = _cells(_elements(series), plan.parts[0][1])
    cells = _mix(lengths.view(np.uint64), plan.keys[0])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    places = (np.arange(1, elements.shape[1] + 1) - np.repeat(starts, lengths)).view(np.uint64)
    placed = np.empty((elements.shape[1], 2), dtype=np.uint64)
    elements += places * _STEP[:, None]
    _finish(elements, placed)
    sums = np.zeros((len(placed) + 1, 2), dtype=np.uint64)
    np.cumsum(placed, axis=0, out=sums[1:])  # wraps, so differences are sums modulo 2**64
    cells += (sums[ends] - sums[starts]).T
    return cells


def _struct_cells(series: pl.Series, plan: _Plan) -> Words:
    cells = _mix(np.zeros(len(series), dtype=np.uint64), plan.keys[0])
    for name, part in plan.parts:
        cells += _cells(series.struct.field(name), part)
    return cells


def _elements(series: pl.Series) -> pl.Series:
    """All elements of a list column in one column; missing and empty lists have none."""
    return series.explode(empty_as_null=False, keep_nulls=False)


_ENCODERS: tuple[tuple[Any, Callable[[pl.Series, _Plan], Words]], ...] = (
    ((*_INTEGERS, pl.Date), _integer_cells),
    (pl.UInt64, _unsigned_cells),
    (_WIDE_INTEGERS, _wide_cells),
    (_FLOATS, _float_cells),
    (pl.Boolean, _boolean_cells),
    ((pl.Datetime, pl.Duration), _moment_cells),
    (pl.Time, _integer_cells),
    (_STRINGS, _string_cells),
    (pl.Binary, _byte_cells),
    (pl.Decimal, _decimal_cells),
    (pl.Null, _null_cells),
    ((pl.List, pl.Array), _list_cells),
    (pl.Struct, _struct_cells),
)


# --- blocks and order -----------------------------------------------------------------------------


def _block_rows(frame: pl.DataFrame) -> int:
    """Rows a block: fewer where strings, binaries or lists are long."""
    longest = 1
    for series in frame.get_columns():
        if series.dtype.is_nested() or isinstance(series.dtype, pl.String | pl.Binary):
            longest = max(longest, int(series.estimated_size()) // max(frame.height, 1))
    return max(64, min(_BLOCK_ROWS, _BLOCK_BYTES // longest))
