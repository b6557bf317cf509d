"""Target encoding: the numbers, and that no row ever helps to encode itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from loopline.features.fit import fit_features
from loopline.features.settings import ColumnSettings, FeatureSettings
from loopline.features.target import Outcome, encode_training

FORCED = FeatureSettings(smoothing=2.0, columns={"c": ColumnSettings(encoding="target")})


def test_serving_encoding_by_hand(make_view):
    """a: (1+1+0 + 2*0.5)/(3+2) = 0.6, b: (0 + 1)/(1 + 2), unseen: the prior, missing: a level."""
    frame = pl.DataFrame({"c": ["a", "a", "a", "b", None, None]})
    view = make_view(frame, {"c": "category"}, [1, 1, 0, 0, 1, 0])
    graph, _ = fit_features(view, "trees", 0, FORCED)
    out = graph.transform(pl.DataFrame({"c": ["a", "b", "new", None]}))[:, 0]
    np.testing.assert_allclose(out, [0.6, 1 / 3, 0.5, (1 + 1) / (2 + 2)])
    assert [output.name for output in graph.outputs] == ["c~target"]


def test_multiclass_encoding_by_hand(make_view):
    """Three classes give three outputs that add up to 1."""
    frame = pl.DataFrame({"c": ["a", "a", "b", "b"]})
    view = make_view(
        frame, {"c": "category"}, [0, 1, 2, 2], task="multiclass", classes=("p", "q", "r")
    )
    graph, _ = fit_features(view, "trees", 0, FORCED)
    out = graph.transform(frame)
    np.testing.assert_allclose(out[0], [(1 + 0.5) / 4, (1 + 0.5) / 4, (0 + 1) / 4])
    np.testing.assert_allclose(out.sum(axis=1), 1.0)


def test_weights_count(make_view):
    """Weights 3 and 1 (mean 2) count as 1.5 and 0.5 rows."""
    frame = pl.DataFrame({"c": ["a", "a"]})
    view = make_view(frame, {"c": "category"}, [1, 0], weight=[3.0, 1.0])
    graph, _ = fit_features(view, "trees", 0, FORCED)
    np.testing.assert_allclose(graph.transform(frame)[0, 0], (1.5 + 2 * 0.75) / (2 + 2))


def test_forward_encoding_by_hand():
    """A row is encoded by earlier rows only; equal times do not see one another, nor do units."""
    outcome = Outcome(
        targets=np.array([[1.0], [0.0], [1.0], [1.0], [0.0]]),
        suffixes=("target",),
        weight=None,
        units=np.array([0, 1, 2, 0, 4]),
        order=np.array([0, 1, 1, 2, 3]),
    )
    out = encode_training(np.zeros(5, dtype=np.int64), outcome, smoothing=1.0, num_folds=5, seed=0)
    prior = 0.6
    expected = [
        prior,  # nothing is earlier
        (1 + prior) / 2,  # row 0
        (1 + prior) / 2,  # row 0, not row 1 of the same time
        (0 + 1 + prior) / 3,  # rows 1 and 2; row 0 is of its own unit
        (1 + 0 + 1 + 1 + prior) / 5,
    ]
    np.testing.assert_allclose(out[:, 0], expected)


@pytest.mark.parametrize("order", [False, True])
def test_own_label_has_no_influence(order):
    """Turning one row's label leaves its own encoding as it was (without the prior)."""
    rng = np.random.default_rng(1)
    size = 60
    targets = rng.integers(0, 2, (size, 1)).astype(float)
    codes = rng.integers(0, 4, size)
    ranks = rng.permutation(size) if order else None
    for row in (0, 17, 59):
        turned = targets.copy()
        turned[row] = 1 - turned[row]
        one, other = (
            encode_training(
                codes,
                Outcome(t, ("t",), None, np.arange(size) // 2, ranks),
                smoothing=0.0,
                num_folds=5,
                seed=3,
            )
            for t in (targets, turned)
        )
        known = one[row] != targets.mean()
        assert not known.any() or np.array_equal(one[row], other[row])
        assert not np.array_equal(one, other)


def test_units_never_encode_one_another(make_view):
    """When every level is one unit, no row knows anything: all encodings are the prior."""
    codes = np.repeat(np.arange(50), 4)
    y = (codes % 2).astype(np.int64)
    frame = pl.DataFrame({"c": [f"u{code}" for code in codes]})
    view = make_view(frame, {"c": "category"}, y, units=codes)
    graph, matrix = fit_features(view, "trees", 0, FORCED)
    assert np.unique(matrix).tolist() == [0.5]
    assert roc_auc_score(y, graph.transform(frame)[:, 0]) == 1.0


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("num_levels", [300, 4000, 10_000])
def test_noise_stays_noise_in_the_training_matrix(make_view, num_levels, ordered):
    """A random column has AUC near 0.5 in the training matrix; encoded in-sample it does not.

    The in-sample encoding (serving's table) of 300 levels shows > 0.57, of thousands > 0.8.
    """
    rng = np.random.default_rng(num_levels)
    size = 10_000
    y = rng.integers(0, 2, size)
    frame = pl.DataFrame({"c": [f"l{code}" for code in rng.integers(0, num_levels, size)]})
    view = make_view(
        frame, {"c": "category"}, y, order=rng.integers(0, 1000, size) if ordered else None
    )
    graph, matrix = fit_features(view, "trees", 0)
    assert graph.steps[0].kind == "target"
    assert abs(roc_auc_score(y, matrix[:, 0]) - 0.5) < 0.02
    in_sample = roc_auc_score(y, graph.transform(frame)[:, 0])
    assert in_sample > (0.8 if num_levels >= 4000 else 0.57)


def test_signal_survives(make_view):
    """A column that does tell something still does after cross-fitting."""
    rng = np.random.default_rng(0)
    rate = rng.random(500)
    codes = rng.integers(0, 500, 10_000)
    y = (rng.random(10_000) < rate[codes]).astype(np.int64)
    view = make_view(pl.DataFrame({"c": [f"l{c}" for c in codes]}), {"c": "category"}, y)
    _, matrix = fit_features(view, "linear", 0)
    assert roc_auc_score(y, matrix[:, 0]) > 0.75


def test_seed_decides_the_folds(make_view):
    """Equal seeds give equal training matrices, other seeds other ones, the graph never differs."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"c": [f"l{c}" for c in rng.integers(0, 40, 400)]})
    view = make_view(frame, {"c": "category"}, rng.integers(0, 2, 400))
    one, again, other = (fit_features(view, "trees", seed, FORCED) for seed in (1, 1, 2))
    assert one[1].tobytes() == again[1].tobytes()
    assert one[1].tobytes() != other[1].tobytes()
    assert one[0].digest == other[0].digest
