"""Forests: stored as LightGBM's text they answer as scikit-learn's own trees do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import ensemble

from loopline.data.schema import Task
from loopline.features.base import Output
from loopline.features.rows import ArrayRows
from loopline.line.trial import OutOfTime, Watch
from loopline.models.base import FitContext
from loopline.models.boosting import Target
from loopline.models.forest import Forest, ForestEstimator
from loopline.models.space import DataFacts
from loopline.models.table import Matrix
from loopline.seeds import child_seed

NUM_ROWS = 300
CONTEXT = FitContext(seed=3)


def values() -> Any:
    """Numbers that 32 bits hold exactly, one cell in ten missing in two of four columns."""
    rng = np.random.default_rng(0)
    found = rng.integers(-40, 40, (NUM_ROWS, 4)) / 8
    found[rng.random(NUM_ROWS) < 0.1, 1] = np.nan
    found[rng.random(NUM_ROWS) < 0.1, 3] = np.nan
    return found


def goal(task: Task) -> Any:
    """Values, or codes of two or three classes, that the columns tell in part."""
    score = np.nan_to_num(values())[:, :2].sum(axis=1)
    if task == "regression":
        return score + 1e3
    return np.digitize(score, [0.0] if task == "binary" else [-2.0, 2.0])


def matrix(target: Any, weight: Any = None) -> Matrix:
    """The values with a target."""
    outputs = tuple(Output(name, name) for name in "abcd")
    return Matrix(ArrayRows(values()), target, weight, np.arange(NUM_ROWS), None, outputs)


def grown(task: Task, target: Any, num_classes: int, weight: Any = None, **given: Any) -> Any:
    """The estimator of a forest on `values`."""
    params = Forest().resolve(given, task, NUM_ROWS)
    return Forest().fit_matrix(
        matrix(target, weight),
        None,
        task=task,
        num_classes=num_classes,
        params=params,
        context=CONTEXT,
    )


def by_hand(task: Task, kind: str, target: Any, weight: Any = None) -> Any:
    """The same forest grown at once by scikit-learn, and what it says of the rows."""
    ending = "Regressor" if task == "regression" else "Classifier"
    name = ("ExtraTrees" if kind == "extra_trees" else "RandomForest") + ending
    made = getattr(ensemble, name)(
        n_estimators=45,
        min_samples_leaf=2,
        max_features=3,
        bootstrap=kind == "random_forest",
        random_state=child_seed(CONTEXT.seed, "forest") % 2**32,
    )
    if task != "regression":
        return made.fit(values(), target, sample_weight=weight).predict_proba(values())
    scale = Target.of("regression", "auto", matrix(target, weight))
    made.fit(values(), scale.scaled(target), sample_weight=weight)
    return scale.restore(made.predict(values()))


@pytest.mark.parametrize("kind", ["extra_trees", "random_forest"])
@pytest.mark.parametrize(
    ("task", "num_classes"), [("binary", 2), ("multiclass", 3), ("regression", 0)]
)
def test_it_answers_as_scikit_learn(task: Task, num_classes: int, kind: str) -> None:
    """Grown twenty trees at a time and kept as text, 45 trees say what they say in scikit-learn."""
    weight = np.linspace(0.2, 1.8, NUM_ROWS)
    given = {"trees": 45, "min_samples_leaf": 2, "column_share": 0.75, "kind": kind}
    found = grown(task, goal(task), num_classes, weight, **given).predict(values())
    assert found == pytest.approx(by_hand(task, kind, goal(task), weight), abs=1e-9)


def test_one_row_has_the_bits_of_many() -> None:
    """The path of one row gives what the path of a table gives."""
    made = grown("multiclass", goal("multiclass"), 3, trees=30)
    many = made.predict(values())
    for place in range(20):
        assert made.predict_one(values()[[place]]).tolist() == many[place].tolist()


def test_shares_never_leave_their_bounds() -> None:
    """Leaves of one class alone: 300 shares of 1 that add up to at most 1."""
    target = (values()[:, 0] > 0).astype(np.int64)
    found = grown("binary", target, 2, trees=300, min_samples_leaf=1).predict(values())
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-12)


def test_a_class_that_training_lacks_gets_nothing() -> None:
    """Codes 0 and 2 of three classes: the share of class 1 is 0 everywhere."""
    target = 2 * (goal("binary") > 0).astype(np.int64)
    found = grown("multiclass", target, 3, trees=10).predict(values())
    assert found[:, 1].tolist() == [0.0] * NUM_ROWS
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-12)


def test_leaves_grow_with_the_table() -> None:
    """A tree of a million rows has no more leaves than one of a few thousand."""
    sizes = [Forest().defaults("regression", rows)["min_samples_leaf"] for rows in (500, 10**6)]
    assert sizes == [1, 500]
    space = Forest().space(DataFacts("binary", 10**6, {"number": 5}, 5))
    assert space["min_samples_leaf"].to_dict()["low"] == 250


def test_contributions_of_a_value_add_up() -> None:
    """TreeSHAP values and one constant give the prediction; shares of classes have none."""
    made = grown("regression", goal("regression"), 0, trees=20)
    parts = made.contributions(values())
    rest = made.predict(values()) - parts.sum(axis=1)
    assert rest == pytest.approx(np.full(NUM_ROWS, rest[0]), abs=1e-6)
    assert grown("binary", goal("binary"), 2, trees=5).contributions(values()) is None


def test_growing_ends_when_the_time_is_over() -> None:
    """The clock is looked at between batches of trees."""
    late = FitContext(seed=0, reporter=Watch(0.0, None))
    with pytest.raises(OutOfTime):
        Forest().fit_matrix(
            matrix(goal("binary")), None, task="binary", num_classes=2,
            params=Forest().resolve({}, "binary", 300), context=late,
        )  # fmt: skip


def test_a_loaded_forest_is_one(tmp_path: Any) -> None:
    """Files are read back as a forest's, without scikit-learn."""
    made = grown("binary", goal("binary"), 2, trees=5)
    made.save(tmp_path)
    loaded = Forest().load_estimator(tmp_path)
    assert isinstance(loaded, ForestEstimator)
    assert loaded.predict(values()).tolist() == made.predict(values()).tolist()
