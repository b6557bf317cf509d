"""Permutation importance: the columns that matter, groups, seeds, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.errors import DataError, SettingsError
from loopline.evaluate.importance import permutation_importance
from loopline.models.lightgbm import LightGBM
from loopline.testing.families import fit, make_table, make_view


def table(num_rows=1000, seed=0):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {name: rng.standard_normal(num_rows) for name in ("strong", "weak", "noise")}
    )
    y = frame["strong"].to_numpy() * 2 + frame["weak"].to_numpy() * 0.5
    return frame, y + 0.3 * rng.standard_normal(num_rows)


def predict(frame):
    return frame["strong"].to_numpy() * 2 + frame["weak"].to_numpy() * 0.5


def test_columns_rank_by_what_they_carry():
    """The strong column comes first, and a column that the model ignores has exactly 0."""
    frame, y = table()
    found = permutation_importance(predict, frame, y, "rmse", seed=1)
    assert list(found) == ["strong", "weak", "noise"]
    assert found["noise"].value == 0
    assert found["weak"].low > 0


def test_drop_has_the_right_size():
    """Shuffling x in y = 2x raises the squared error by 2 * 4 * var(x)."""
    frame, y = table(20_000)
    found = permutation_importance(predict, frame, y, "r2", seed=1, max_rows=None)
    expected = 2 * 4 / np.var(y)
    assert found["strong"].low < expected < found["strong"].high
    assert found["strong"].value == pytest.approx(expected, rel=0.05)


def test_other_columns_do_not_move_a_columns_number():
    """A column's stream comes from its name, so dropping another column changes nothing."""
    frame, y = table()
    whole = permutation_importance(predict, frame, y, "mae", seed=3)
    part = permutation_importance(predict, frame.select("weak", "strong"), y, "mae", seed=3)
    assert part["strong"] == whole["strong"]
    assert permutation_importance(predict, frame, y, "mae", seed=4)["strong"] != whole["strong"]


def test_groups_are_shuffled_together():
    """Two halves of one fact look useless alone and matter together."""
    rng = np.random.default_rng(0)
    fact = rng.standard_normal(500)
    frame = pl.DataFrame({"a": fact, "b": fact})

    def either(given):
        return np.where(given["a"] == given["b"], given["a"], fact)

    alone = permutation_importance(either, frame, fact, "rmse")
    together = permutation_importance(either, frame, fact, "rmse", groups={"fact": ["a", "b"]})
    assert alone["a"].value == 0
    assert together["fact"].value > 1


def test_rows_are_limited():
    """No more rows than asked for reach the model."""
    frame, y = table()
    seen = []

    def counting(given):
        seen.append(given.height)
        return predict(given)

    permutation_importance(counting, frame, y, "rmse", repeats=2, max_rows=100)
    assert seen == [100] * 7


def test_refusals():
    """Wrong settings are told all at once; lengths and metrics that do not fit are refused."""
    frame, y = table(20)
    with pytest.raises(SettingsError, match="2 problems"):
        permutation_importance(predict, frame, y, "rmse", repeats=0, groups={"g": ["zzz"]})
    with pytest.raises(DataError, match="The table has 20 rows and the target has 19"):
        permutation_importance(predict, frame, y[:-1], "rmse")
    with pytest.raises(DataError, match="cannot be measured by auc on these rows: only one class"):
        permutation_importance(lambda f: np.full(f.height, 0.5), frame, np.ones(20, int), "auc")


def test_a_model_that_keeps_its_features_gives_the_same_numbers():
    """Features made once and moved give every estimate of shuffling the table, to the bit."""
    model = fit(LightGBM(), "binary")
    view = make_view("binary", make_table("binary", 300))
    frame, y = view.frame(), view.target
    plain = permutation_importance(model.predict, frame, y, "log_loss", seed=2)
    once = permutation_importance(
        model.predict,
        frame,
        y,
        "log_loss",
        seed=2,
        shuffled=lambda table: model.rearranged(table, 0, table.height),
    )
    assert once == plain
    assert max(value.value for value in once.values()) > 0


def test_the_spread_of_the_shuffles_is_in_the_error():
    """Two shuffles that cost 1 and 3 on every row: the drop is 2 with a standard error of 1."""
    costs = iter([1.0, 3.0])

    def shuffled(table):
        return lambda columns, order: np.full(len(order), next(costs))

    found = permutation_importance(
        lambda table: np.zeros(table.height),
        pl.DataFrame({"a": np.arange(20.0)}),
        np.zeros(20),
        "mae",
        repeats=2,
        shuffled=shuffled,
    )["a"]
    assert (found.value, found.standard_error) == (2.0, pytest.approx(1.0))


def test_each_column_and_repeat_is_shuffled_in_its_own_way():
    """No two orders are equal, each is a permutation, and a further column changes none of them."""

    def orders(names):
        seen = {}

        def shuffled(table):
            def answer(columns, order):
                seen.setdefault(tuple(columns), []).append(tuple(order.tolist()))
                return np.zeros(len(order))

            return answer

        frame = pl.DataFrame({name: np.arange(30.0) for name in names})
        permutation_importance(
            lambda table: np.zeros(table.height), frame, np.ones(30), "mae", shuffled=shuffled
        )
        return seen

    few, more = orders("ab"), orders("abc")
    assert {name: more[name] for name in few} == few
    every = [order for parts in more.values() for order in parts]
    assert len(set(every)) == len(every) == 15
    assert all(sorted(order) == list(range(30)) for order in every)
