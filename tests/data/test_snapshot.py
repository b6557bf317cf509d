"""Snapshots: exact tables under the digest of their content."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import snapshot as module
from loopline.data.fingerprint import row_digests, table_digest
from loopline.data.snapshot import Snapshot, open_snapshot, write_snapshot
from loopline.errors import DataError, IntegrityError, NotFoundError
from loopline.store.artifacts import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new store in a folder."""
    return Store.open(tmp_path / "store")


def table() -> pl.DataFrame:
    """Three rows of the canonical types, lists and structs."""
    return pl.DataFrame(
        {
            "n": [1, None, 3],
            "u": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
            "x": [0.1, float("nan"), None],
            "b": [True, None, False],
            "s": ["a", "", None],
            "d": [dt.date(2024, 1, 1), None, dt.date(1900, 1, 1)],
            "t": pl.Series([dt.datetime(2024, 1, 1), None, dt.datetime(1900, 1, 1)]),
            "z": pl.Series([0, 1, None]).cast(pl.Datetime("us", "Europe/Berlin")),
            "c": [dt.time(1), None, dt.time(2)],
            "p": [dt.timedelta(1), None, dt.timedelta(seconds=-5)],
            "l": [[1], None, []],
            "o": [{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}],
            "e": pl.Series([None] * 3, dtype=pl.Null),
        }
    )


def broken(snapshot: Snapshot, folder: Path, **meta) -> Snapshot:
    """A snapshot over a copy of the files, whose bytes nobody checks: for `verify` alone."""
    shutil.copytree(snapshot.artifact.path(), folder)

    class Copy:
        id, kind, inputs = snapshot.id, "snapshot", snapshot.artifact.inputs
        files = snapshot.artifact.files

        def path(self, name: str = "") -> Path:
            return folder / name

    copy = Copy()
    copy.meta = {**snapshot.artifact.meta, **meta}
    return Snapshot(copy)  # type: ignore[arg-type]


def test_frame_comes_back_exactly(store: Store) -> None:
    """Values, types, nulls, NaN and order are those that were written."""
    snapshot = open_snapshot(store, write_snapshot(store, table()).id)
    assert snapshot.frame().equals(table())
    assert snapshot.frame().schema == table().schema
    assert snapshot.dtypes == dict(table().schema)
    assert snapshot.columns == tuple(table().columns)
    assert snapshot.num_rows == 3
    assert snapshot.scan().select("s").collect().to_series().to_list() == ["a", "", None]


def test_frame_is_read_once(store: Store) -> None:
    """The table is cached on the snapshot."""
    snapshot = write_snapshot(store, table())
    assert snapshot.frame() is snapshot.frame()


def test_rows_are_the_digests_in_table_order(store: Store) -> None:
    """`rows()` maps the row digests of the frame from the file, read-only."""
    snapshot = write_snapshot(store, table())
    rows = snapshot.rows()
    assert isinstance(rows, np.memmap)
    assert not rows.flags.writeable
    assert (rows == row_digests(table())).all()


def test_reordered_table_is_the_same_snapshot(store: Store) -> None:
    """Rows and columns in another order give the same id; the first writer's order stays."""
    first = write_snapshot(store, table())
    second = write_snapshot(store, table().reverse().select(reversed(table().columns)))
    assert second.id == first.id
    assert second.digest == table_digest(table())
    assert second.frame().equals(table())
    assert (second.rows() == row_digests(second.frame())).all()
    assert store.ids("snapshot") == [first.id]


def test_one_other_cell_is_another_snapshot(store: Store) -> None:
    """A single changed cell gives another id."""
    other = table().with_columns(pl.Series("n", [1, None, 4]))
    assert write_snapshot(store, other).id != write_snapshot(store, table()).id


def test_child_knows_its_parent_and_facts(store: Store) -> None:
    """A cleaned table points to the one it was made from; facts and inputs stay with it."""
    parent = write_snapshot(store, table(), facts={"files": ["a.csv"]})
    child = write_snapshot(store, table()[:2], parent=parent, inputs={"schema": parent.id})
    again = open_snapshot(store, child.id)
    assert parent.parent is None
    assert parent.facts == {"files": ["a.csv"]}
    assert again.parent == parent.id
    assert dict(again.artifact.inputs) == {"parent": parent.id, "schema": parent.id}


def test_table_without_rows(store: Store) -> None:
    """A table of no rows keeps its columns and types."""
    snapshot = write_snapshot(store, table().clear())
    assert snapshot.frame().schema == table().schema
    assert snapshot.rows().shape == (0, 2)
    snapshot.verify()


def test_parts_are_joined_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table larger than one part is cut into parts and read back in order."""
    monkeypatch.setattr(module, "_PART_BYTES", 10_000)
    long = pl.DataFrame({"x": np.arange(5_000), "y": np.arange(5_000) % 7})
    snapshot = write_snapshot(store, long)
    assert len([name for name in snapshot.artifact.files if name.endswith(".parquet")]) == 8
    assert snapshot.frame().equals(long)
    snapshot.verify()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(),
            st.none() | st.text(),
            st.none() | st.lists(st.none() | st.text()),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_table_verifies(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    """Whatever the cells, the snapshot reads back equal and proves itself."""
    schema = {"x": pl.Float64, "s": pl.String, "l": pl.List(pl.String)}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    snapshot = write_snapshot(Store.open(tmp_path_factory.mktemp("s")), frame)
    assert snapshot.frame().equals(frame)
    snapshot.verify()


def test_verify_names_the_changed_row(store: Store, tmp_path: Path) -> None:
    """A Parquet part with one other cell is found, with its file and row."""
    snapshot = broken(write_snapshot(store, table()), tmp_path / "copy")
    snapshot.verify()
    changed = table().with_columns(pl.Series("s", ["a", "", "now here"]))
    changed.write_parquet(tmp_path / "copy" / "rows-00000.parquet")
    with pytest.raises(
        IntegrityError, match=r"rows-00000.parquet differs .* 1 rows, first in row 2"
    ):
        snapshot.verify()


def test_verify_finds_lost_and_extra_rows(store: Store, tmp_path: Path) -> None:
    """Fewer or more rows than digests are found."""
    snapshot = broken(write_snapshot(store, table()), tmp_path / "copy")
    part = tmp_path / "copy" / "rows-00000.parquet"
    table()[:2].write_parquet(part)
    with pytest.raises(IntegrityError, match="the parts hold 2 rows, the snapshot has 3"):
        snapshot.verify()
    pl.concat([table(), table()]).write_parquet(part)
    with pytest.raises(IntegrityError, match=r"ends at row 6, but the snapshot has 3 rows"):
        snapshot.verify()


def test_verify_finds_changed_digests(store: Store, tmp_path: Path) -> None:
    """A table digest that does not fit the rows, and damaged files, are found."""
    first = write_snapshot(store, table())
    with pytest.raises(IntegrityError, match="the snapshot was written with 0000"):
        broken(first, tmp_path / "a", digest="0" * 64).verify()
    other = broken(first, tmp_path / "b")
    (tmp_path / "b" / "rows.npy").write_bytes(b"not numpy")
    with pytest.raises(IntegrityError, match=r"rows.npy cannot be read"):
        other.verify()
    last = broken(first, tmp_path / "c")
    (tmp_path / "c" / "rows-00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(IntegrityError, match=r"rows-00000.parquet cannot be read"):
        last.verify()


def test_rows_of_another_shape_are_refused(store: Store, tmp_path: Path) -> None:
    """A digest file of another table's length is not handed out."""
    snapshot = broken(write_snapshot(store, table()), tmp_path / "copy")
    np.save(tmp_path / "copy" / "rows.npy", np.zeros((4, 2), dtype=np.uint64))
    with pytest.raises(
        IntegrityError, match=r"must hold uint64 of shape \(3, 2\), it has uint64 of"
    ):
        snapshot.rows()


def test_unstorable_columns_are_named(store: Store) -> None:
    """Types without Parquet form or content are refused by name, and nothing is stored."""
    empty = pl.Series([{}], dtype=pl.Struct([]))
    nested = pl.Series([[{}]], dtype=pl.List(pl.Struct([])))
    objects = pl.Series([object()], dtype=pl.Object)
    for series in (empty, nested):
        with pytest.raises(DataError, match=r"Column 'odd' .* without fields has no Parquet form"):
            write_snapshot(store, pl.DataFrame({"odd": series}))
    with pytest.raises(DataError, match="Column 'odd' has the type Object"):
        write_snapshot(store, pl.DataFrame({"odd": objects}))
    with pytest.raises(DataError, match="at least one column"):
        write_snapshot(store, pl.DataFrame())
    assert store.ids() == []


def test_other_artifacts_are_not_snapshots(store: Store) -> None:
    """Opening a missing id, another kind or another format says so."""
    other = store.put("split", lambda folder: (folder / "x").write_text("x"))
    with pytest.raises(NotFoundError, match="is a split, not a snapshot"):
        open_snapshot(store, other.id)
    with pytest.raises(NotFoundError):
        open_snapshot(store, "snapshot-" + "0" * 64)
    later = store.put("snapshot", lambda folder: None, meta={"format": "loopline-snapshot-9"})
    with pytest.raises(IntegrityError, match="has the format 'loopline-snapshot-9'"):
        open_snapshot(store, later.id)
