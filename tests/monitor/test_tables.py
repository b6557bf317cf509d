"""Two tables, in memory and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import DataError, SettingsError
from loopline.monitor.scores import learn_column, number_sums
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tables import compare, compare_files


def _table(num_rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {f"x{k}": rng.normal(size=num_rows) for k in range(6)}
    columns["x2"] += shift
    return pl.DataFrame(columns).with_columns(c=pl.Series(rng.choice(["a", "b", "c"], num_rows)))


def test_equal_tables_are_called_different_as_seldom_as_stated() -> None:
    """Of 30 pairs of alike tables at an error rate of 5 %, at most 5 (chance of more: 0.3 %)."""
    old = _table(1_000, 0)
    assert sum(bool(compare(old, _table(200, seed)).alarms) for seed in range(1, 31)) <= 5


def test_what_moved_is_named() -> None:
    """Half a standard deviation in one column of seven."""
    found = compare(_table(2_000, 0), _table(500, 1, shift=0.5))
    assert [(alarm.subject, alarm.what) for alarm in found.alarms] == [("x2", "shift")]
    assert found.alarms[0].since is None


def test_files_give_what_the_table_gives(tmp_path: Path) -> None:
    """Read in blocks of any size, the effects are those of the whole table."""
    old, new = _table(3_000, 0), _table(1_000, 1, shift=0.3)
    for part in range(4):
        new[part * 250 : (part + 1) * 250].write_parquet(tmp_path / f"{part}.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    whole = compare(old, new)
    for cells in (500, 10**9):
        parts = compare_files(old, files, block_cells=cells)
        assert parts.rows == 1_000
        assert parts.table["effect"].to_numpy() == pytest.approx(
            whole.table["effect"].to_numpy(), abs=1e-9
        )
        assert [alarm.subject for alarm in parts.alarms] == ["x2"]


def test_a_column_that_files_lack_is_told(tmp_path: Path) -> None:
    """Absent in the files, present in the reference."""
    _table(500, 1).drop("x3").write_parquet(tmp_path / "a.parquet")
    found = compare_files(_table(500, 0), [tmp_path / "a.parquet"])
    assert [(alarm.subject, alarm.what) for alarm in found.alarms] == [("x3", "absent")]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_sums_from_sorted_values_are_those_of_the_rows(cells: list[int], missing: int) -> None:
    """Ties, missing cells and values outside the reference: both ways give the same sums."""
    column = learn_column(pl.Series("x", [-2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0] * 10))
    values = np.r_[np.array(cells, dtype=np.float64), np.full(missing, np.nan)]
    scores = column.score(column.read(pl.Series("x", values)))
    known = np.isfinite(scores)
    want = [np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0)]
    assert number_sums(column, values) == pytest.approx(np.array(want), abs=1e-9)


def test_empty_tables_and_odd_rates_are_refused(tmp_path: Path) -> None:
    """No rows, no files, an error rate of 0."""
    old = _table(500, 0)
    with pytest.raises(DataError, match="no rows"):
        compare(old, old.head(0))
    with pytest.raises(DataError, match="no rows"):
        compare_files(old, [])
    with pytest.raises(SettingsError, match="error_rate"):
        compare(old, old, error_rate=0.0)


def test_a_sure_but_tiny_move_is_not_told() -> None:
    """0.03 standard deviations over 60,000 rows are sure and below the floor."""
    rng = np.random.default_rng(0)
    old, new = (pl.DataFrame({"x": rng.normal(shift, 1, 60_000)}) for shift in (0.0, 0.03))
    assert not compare(old, new).alarms
    told = compare(old, new, settings=MonitorSettings(floor=0.0)).alarms
    assert [alarm.what for alarm in told] == ["shift"]
