"""Copies of rows: exact, spelling, noise, rounding; honest tables; edges."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.duplicates.find import find_duplicates
from loopline.data.duplicates.kinds import DuplicateSettings
from loopline.data.duplicates.rows import leaders, row_keys
from loopline.data.sources import read_table


def numbers_only(frame):
    return dict.fromkeys(frame.columns, "number")


def normal_table(rows=4_000, columns=8, seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame({f"x{i}": rng.normal(size=rows) for i in range(columns)})


def with_copies(frame, change, share=0.05, seed=1):
    """The table with changed copies of some rows, shuffled; and where originals and copies lie."""
    rng = np.random.default_rng(seed)
    source = rng.choice(frame.height, int(share * frame.height), replace=False)
    copies = change(frame[source], rng)
    both = pl.concat([frame, copies])
    order = rng.permutation(both.height)
    place = np.argsort(order)
    return both[order], place[source], place[frame.height :]


def kinds(found):
    return {kind.name: kind for kind in found.kinds}


@pytest.mark.parametrize("noise", [0.0001, 0.001, 0.01])
def test_noise_is_found_and_nothing_else(noise):
    """Copies with noise are found to 95 % and no honest row joins them."""

    def jitter(rows, rng):
        return rows.with_columns(
            pl.Series(name, rows[name] + noise * rng.normal(size=rows.height))
            for name in rows.columns
        )

    table, source, copy = with_copies(normal_table(), jitter)
    found = find_duplicates(table, numbers_only(table))
    assert (found.clusters[source] == found.clusters[copy]).mean() >= 0.95
    assert found.num_rows <= 2 * source.size
    for a, b, likeness in kinds(found)["numbers"].pairs:
        assert found.clusters[a] == found.clusters[b]
        assert 0.95 <= likeness <= 1.0


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_rounding_is_found(digits):
    """Copies rounded to fewer digits are found to 95 %."""
    table, source, copy = with_copies(
        normal_table(), lambda rows, _: rows.select(pl.all().round(digits))
    )
    found = find_duplicates(table, numbers_only(table))
    assert (found.clusters[source] == found.clusters[copy]).mean() >= 0.95
    assert found.num_rows <= 2 * source.size


def test_rounding_of_few_columns_is_found_and_chance_is_not():
    """Copies that lost digits in two of eight columns are found; equals but for a step are not."""
    rng = np.random.default_rng(5)
    frame = normal_table(4_000, 2).with_columns(
        pl.Series(f"n{i}", rng.integers(0, 1_000, 4_000)) for i in range(6)
    )
    table, source, copy = with_copies(
        frame, lambda rows, _: rows.with_columns(pl.col("x0", "x1").round(2))
    )
    found = find_duplicates(table, numbers_only(table))
    assert (found.clusters[source] == found.clusters[copy]).mean() >= 0.95
    steps = pl.DataFrame({f"n{i}": rng.integers(0, 5, 3_000) for i in range(3)}).with_columns(
        price=pl.Series(rng.integers(1_000, 9_000, 3_000)) / 100
    )
    honest = find_duplicates(steps, numbers_only(steps))
    assert "numbers" not in kinds(honest)


def test_telco_has_no_near_copies(data_dir):
    """Customers who agree in all but one or two numbers are customers of their own."""
    frame = read_table(data_dir("telco_churn") / "Telco-Customer-Churn.csv").frame
    frame = frame.drop("customerID", "Churn")
    assert set(kinds(find_duplicates(frame, schema_types(frame)))) == {"exact"}


def test_leaders_depend_on_content_alone():
    """The rows that stand for their equals come in the same order however the table is shuffled."""
    frame = pl.DataFrame({"a": np.random.default_rng(0).integers(0, 50, 200), "b": [1.0] * 200})
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    first, second = (
        table[leaders(row_keys(table, numbers_only(table), {}))] for table in (frame, shuffled)
    )
    assert first.equals(second)
    assert first.height == frame["a"].n_unique()


def test_noise_and_spelling_together():
    """Copies in other spelling and with noise are found."""
    rng = np.random.default_rng(3)
    towns = pl.Series(["Köln", "New York", "São Paulo", "Ulm"])
    frame = normal_table().with_columns(town=towns.gather(rng.integers(0, 4, 4_000)))

    def change(rows, rng):
        spelled = {"Köln": "KOLN", "New York": "new-york ", "São Paulo": "sao paulo."}
        return rows.with_columns(
            pl.col("town").replace(spelled),
            *(
                pl.Series(f"x{i}", rows[f"x{i}"] + 0.001 * rng.normal(size=rows.height))
                for i in range(8)
            ),
        )

    table, source, copy = with_copies(frame, change)
    found = find_duplicates(table, {**numbers_only(table), "town": "category"})
    assert (found.clusters[source] == found.clusters[copy]).mean() >= 0.95


def test_spelling_alone_is_its_own_kind():
    """Rows that differ in case, blanks, points and accents are one cluster; signs still count."""
    words = ["U.S.A.", "usa", "Crème", "creme ", "A+", "A-", "m", "M"]
    frame = pl.DataFrame({"word": words})
    found = find_duplicates(frame, {"word": "category"})
    assert found.clusters.tolist() == [0, 0, 2, 2, 4, 5, 6, 7]
    assert kinds(found)["spelling"].rows == 4


@pytest.mark.parametrize(("rows", "columns"), [(20_000, 2), (20_000, 5), (5_000, 30)])
def test_random_rows_are_not_copies(rows, columns):
    """Independent normal rows are never glued, however dense they lie."""
    table = normal_table(rows, columns)
    assert find_duplicates(table, numbers_only(table)).num_rows == 0


@pytest.mark.parametrize("seed", range(5))
def test_dense_and_flat_tables_are_not_copies(seed):
    """Rows on a surface, walks, counts and heavy tails are not glued."""
    rng = np.random.default_rng(seed)
    size = 5_000
    plane = rng.normal(size=(size, 2))
    for make in (
        lambda: np.sin(plane @ rng.normal(size=2)),
        lambda: rng.normal(size=size).cumsum(),
        lambda: rng.pareto(1, size),
        lambda: rng.normal(size=size).round(3),
    ):
        table = pl.DataFrame({f"c{i}": make() for i in range(6)})
        found = find_duplicates(table, numbers_only(table))
        assert "numbers" not in kinds(found)


def test_the_order_of_rows_makes_no_difference():
    """The same rows in another order give the same clusters, as sets of rows."""

    def jitter(rows, rng):
        return rows.with_columns(
            pl.col("x0") + 1e-3, pl.col("x1", "x2") - 1e-3, pl.col("x3") * 1.001
        )

    frame = normal_table(2_000, 4)
    table, *_ = with_copies(frame, jitter)
    order = np.random.default_rng(9).permutation(table.height)
    here = find_duplicates(table, numbers_only(table)).clusters
    there = find_duplicates(table[order], numbers_only(table)).clusters

    def sets(clusters, rows):
        groups = {}
        for cluster, row in zip(clusters.tolist(), rows.tolist(), strict=True):
            groups.setdefault(cluster, set()).add(row)
        return sorted(map(sorted, groups.values()))

    assert sets(here, np.arange(table.height)) == sets(there, order)
    again = find_duplicates(table, numbers_only(table))
    assert np.array_equal(here, again.clusters)


def test_a_common_value_is_not_kept_together():
    """A row that makes up more than 5 % of the table is counted and told, but not a cluster."""
    frame = pl.DataFrame({"a": [*range(100), *[7] * 20], "b": [*range(100), *[7] * 20]})
    found = find_duplicates(frame, numbers_only(frame))
    exact = kinds(found)["exact"]
    assert (exact.rows, exact.kept_apart) == (21, 21)
    assert found.num_rows == 0
    assert "is a common value or a chain rather than copies, so it is not kept together" in (
        exact.sentence
    )


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"a": pl.Series([], dtype=pl.Float64)}),
        pl.DataFrame({"a": [1.0]}),
        pl.DataFrame({"a": [None, None, 1.0, 2.0], "b": [None] * 4}),
        pl.DataFrame({"a": [float("nan"), float("inf"), float("-inf"), None], "b": [1, 1, 1, 1]}),
        pl.DataFrame({"a": [1e308, -1e308, 0.0, 1.0]}),
        pl.DataFrame(),
    ],
)
def test_edges_give_no_copies_and_no_crash(frame):
    """Empty tables, one row, nulls, constants, endless and huge numbers."""
    found = find_duplicates(frame, numbers_only(frame))
    assert found.clusters.shape == (frame.height,)
    assert "numbers" not in kinds(found)


def test_missing_cells_must_be_missing_in_both():
    """A row with a hole is no copy of a full one."""
    frame = normal_table(500, 6)
    holes = frame.head(50).with_columns(x0=pl.lit(None, dtype=pl.Float64))
    both = pl.concat([frame, holes])
    assert find_duplicates(both, numbers_only(both)).num_rows == 0


def schema_types(frame, text=()):
    return {
        name: "text" if name in text else "number" if dtype.is_numeric() else "category"
        for name, dtype in frame.schema.items()
    }


@pytest.mark.parametrize("name", ["california_housing/housing.csv", "bike_sharing/hour.csv"])
def test_honest_tables_are_left_alone(data_dir, name):
    """No row of housing or bikes is called a near copy."""
    folder, file = name.split("/")
    frame = read_table(data_dir(folder) / file).frame
    frame = frame.select(frame.columns[2:])
    found = find_duplicates(frame, schema_types(frame))
    assert set(kinds(found)) <= {"exact"}


def test_wine(data_dir):
    """The 1,177 repeated rows of wine_quality are found, and nothing beside them."""
    frame = read_table(data_dir("wine_quality") / "wine_quality.csv").frame
    found = find_duplicates(frame, schema_types(frame))
    (exact,) = found.kinds
    assert exact.rows - exact.clusters == 1_177


def test_mammography(data_dir):
    """The 3,334 repeated rows are found; the one value that most of them have is kept apart."""
    frame = read_table(data_dir("mammography") / "mammography.csv").frame.drop("column_7")
    found = find_duplicates(frame, schema_types(frame))
    exact = kinds(found)["exact"]
    assert (exact.rows - exact.clusters, exact.kept_apart) == (3_335, 3_329)
    assert found.num_rows == 9


def test_adult(data_dir):
    """Adult has 24 sets of equal rows and no near copies, though many rows differ in one cell."""
    frame = read_table(data_dir("adult") / "adult.data").frame.drop("column_15")
    assert set(kinds(find_duplicates(frame, schema_types(frame)))) == {"exact"}


def test_tolerance_is_kept():
    """Copies further apart than the tolerance are not called copies."""
    table, *_ = with_copies(
        normal_table(3_000, 20),
        lambda rows, rng: rows.with_columns(
            pl.Series(n, rows[n] + 0.01 * rng.normal(size=rows.height)) for n in rows.columns
        ),
    )
    strict = DuplicateSettings(number_tolerance=0.001)
    assert find_duplicates(table, numbers_only(table), settings=strict).num_rows == 0
