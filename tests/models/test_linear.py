"""Linear models against closed forms, hard matrices and the reference library."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.errors import DataError
from loopline.features.base import Output
from loopline.features.rows import ArrayRows
from loopline.models.base import FitContext
from loopline.models.linear import PENALTY_PATH, Linear
from loopline.models.probability import probabilities
from loopline.models.table import Matrix
from loopline.progress import SilentReporter


def matrix(values, target, weight=None):
    values = np.ascontiguousarray(values, dtype=np.float64)
    outputs = tuple(Output(f"x{place}", f"x{place}") for place in range(values.shape[1]))
    return Matrix(
        ArrayRows(values), np.asarray(target), weight, np.arange(len(values)), None, outputs
    )


def fit(train, valid=None, classes=0, reporter=None, **params):
    family = Linear()
    task = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    return family.fit_matrix(
        train,
        valid,
        task=task,
        num_classes=classes,
        params=family.resolve(params, task, 10),
        context=FitContext(seed=0, reporter=reporter or SilentReporter()),
    )


def sample(rows=200, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns))
    score = values @ rng.normal(size=columns) + 0.5 * rng.normal(size=rows)
    return values, score


def test_ridge_is_the_closed_form():
    """x = -1, 1 and y = -2, 4: slope 3 shrinks to 3·2/(2 + penalty·1) in units of x."""
    model = fit(matrix([[-1.0], [1.0]], [-2.0, 4.0]), penalty=2.0)
    np.testing.assert_allclose(model.predict(np.array([[0.0], [1.0]])), [1.0, 2.5])


@pytest.mark.parametrize("shape", [(200, 5), (30, 80), (60, 60)])
def test_ridge_equals_the_reference(shape):
    """Tall, wide and square problems give scikit-learn's ridge, weights included."""
    from sklearn.linear_model import Ridge

    values, score = sample(*shape)
    weight = np.random.default_rng(1).uniform(0.1, 2, shape[0])
    weight /= weight.mean()
    model = fit(matrix(values, score, weight), penalty=3.0)
    reference = Ridge(alpha=3.0).fit(values, score, weight)
    np.testing.assert_allclose(model.predict(values), reference.predict(values), atol=1e-9)


def test_the_two_ridge_solvers_agree(monkeypatch):
    """The Cholesky path of wide problems gives the eigendecomposition's answer."""
    values, score = sample()
    expected = fit(matrix(values, score), penalty=0.1).predict(values)
    monkeypatch.setattr("loopline.models.linear._EIGEN_SIZE", 0)
    np.testing.assert_allclose(fit(matrix(values, score), penalty=0.1).predict(values), expected)


@pytest.mark.parametrize("newton_size", [0, 10_000])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_sits_at_the_optimum(classes, newton_size, monkeypatch):
    """At the solution of either solver the gradient of the stated objective is 0."""
    monkeypatch.setattr("loopline.models.linear._NEWTON_SIZE", newton_size)
    values, score = sample(300)
    target = np.digitize(score, [0.0] if classes == 2 else [-0.7, 0.7]).astype(np.int64)
    model = fit(matrix(values, target), classes=classes, penalty=2.0)
    wrong = model.predict(values) - np.eye(classes)[target]
    coefficients = model._coefficients
    gradient = values.T @ wrong[:, -coefficients.shape[1] :] + 2.0 * coefficients
    assert np.abs(gradient).max() < 1e-2
    assert np.abs(wrong.sum(axis=0)).max() < 1e-2


def test_elastic_net_drops_useless_columns():
    """With an l1 part, coefficients of noise are exactly 0."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 6))
    model = fit(matrix(values, values[:, 0] * 3), penalty=30.0, l1_ratio=1.0)
    assert (model.importances() > 0).tolist() == [True, False, False, False, False, False]


def test_the_penalty_is_chosen_on_the_held_out_rows():
    """Pure noise takes a strong penalty, a noiseless line the weakest."""
    rng = np.random.default_rng(0)
    values, more = rng.normal(size=(60, 20)), rng.normal(size=(400, 20))
    noise = fit(matrix(values, rng.normal(size=60)), matrix(more, rng.normal(size=400)))
    line = fit(matrix(values, values[:, 0]), matrix(more, more[:, 0]))
    assert noise.params["penalty"] in PENALTY_PATH[:2]
    assert line.params["penalty"] == PENALTY_PATH[-1]


def test_a_large_table_chooses_on_part_of_its_rows(monkeypatch):
    """Above the row limit the path is walked on a part, and the choice fitted on all rows."""
    values, score = sample(400)
    target = (score > 0).astype(np.int64)
    train = matrix(values, target)
    monkeypatch.setattr("loopline.models.linear._PATH_ROWS", 100)
    model = fit(train, train, classes=2)
    exact = fit(train, classes=2, penalty=model.params["penalty"])
    np.testing.assert_allclose(model.predict(values), exact.predict(values), atol=1e-6)


def test_folds_agree_on_the_middle_penalty():
    """The final penalty is the geometric median."""
    chosen = [{"penalty": value} for value in (0.1, 1000.0, 10.0, 0.1)]
    assert Linear().consolidate(chosen)["penalty"] == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_hard_matrices_neither_crash_nor_warn(classes):
    """Copies, constants, huge and tiny columns, all zeros: finite predictions, no warning."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1))
    values = np.hstack([x, x, x * 1e12 + 1e15, x * 1e150, x * 1e-200, np.ones((120, 1)) * 7e9])
    values = np.hstack([values, np.zeros((120, 1))])
    score = x[:, 0] + 0.1 * rng.normal(size=120)
    target = score if not classes else np.digitize(score, [0.0, 1.0][: classes - 1])
    train = matrix(values, target)
    model = fit(train, train, classes=classes)
    predicted = model.predict(values)
    assert np.isfinite(predicted).all()
    if classes:
        assert (predicted.argmax(axis=1) == target).mean() > 0.9
    else:
        assert np.corrcoef(predicted, target)[0, 1] > 0.99


def test_a_fit_that_does_not_converge_is_told():
    """Too few iterations end in a note, not in a warning."""
    values, score = sample(500, 8)
    reporter = SilentReporter()
    target = np.digitize(score, [-1, 1]).astype(np.int64)
    import loopline.models.linear as linear

    size, linear._NEWTON_SIZE = linear._NEWTON_SIZE, 0
    try:
        fit(matrix(values, target), classes=3, penalty=0.01, max_iter=1, reporter=reporter)
    finally:
        linear._NEWTON_SIZE = size
    assert "had not converged after 10 iterations" in reporter.notes[0]


def test_cells_that_are_not_finite_are_refused():
    """The message names the matrix column."""
    with pytest.raises(DataError, match="'x1' has missing or infinite ones"):
        fit(matrix([[0.0, np.nan], [1.0, 2.0]], [0.0, 1.0]))


def test_probabilities_are_exact_at_both_ends():
    """Scores of ±800 give 0 and 1 without a warning; small ones keep their relative precision."""
    found = probabilities(np.array([-800.0, -40.0, 0.0, 800.0]))
    assert found[0].tolist() == [1.0, 0.0]
    assert found[1, 1] == pytest.approx(np.exp(-40.0), rel=1e-14)
    assert found[3].tolist() == [0.0, 1.0]
    many = probabilities(np.array([[800.0, 0.0, -800.0]]))
    assert many.tolist() == [[1.0, 0.0, 0.0]]


def test_many_labels_choose_the_penalty_on_some():
    """Of 30 labels 20 choose the penalty, and all are fitted with it, each a task of its own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    scores = x @ rng.normal(size=(3, 30)) - np.linspace(0.0, 2.0, 30)
    labels = (scores + rng.normal(size=scores.shape) > 0).astype(np.int8)
    family, context = Linear(), FitContext(seed=0)
    several = family.fit_matrix(
        matrix(x[:200], labels[:200]),
        matrix(x[200:], labels[200:]),
        task="multilabel",
        num_classes=30,
        params=family.resolve({}, "multilabel", 200),
        context=context,
    )
    penalty = several.params["penalty"]
    assert penalty in PENALTY_PATH
    for label in (0, 7, 29):
        alone = fit(matrix(x[:200], labels[:200, label]), classes=2, penalty=penalty)
        np.testing.assert_allclose(several.predict(x)[:, label], alone.predict(x)[:, 1], atol=1e-5)
