"""Views give features and training targets, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, IntegrityError, LeakError, SettingsError, SplitError
from loopline.splits import views
from loopline.splits.spec import TEST, TRAIN, SplitSettings
from loopline.splits.split import make_split
from loopline.testing.splitters import view_of

SCHEMA = Schema(
    (
        Column("x", "number"),
        Column("name", "category"),
        Column("home", "category", "group"),
        Column("w", "number", "weight"),
        Column("y", "category", "target"),
    ),
    "binary",
    ("no", "yes"),
)
ASKED = SplitSettings("group_stratified", group=("home",))


def table(num_rows=500):
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "x": rng.normal(size=num_rows),
            "name": rng.choice(["a", "b", "c"], num_rows),
            "home": rng.integers(0, 80, num_rows).astype(str),
            "w": rng.random(num_rows),
            "y": rng.choice(["no", "yes"], num_rows),
        }
    )


@pytest.fixture(scope="module")
def cut():
    frame = table()
    return make_split(frame, SCHEMA, row_digests(frame), ASKED), frame


def test_a_training_view_holds_the_training_rows(cut):
    """Columns, targets, weights, units and digests are those of the training rows, in order."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA, split.digests)
    rows = np.flatnonzero(split.side == TRAIN)
    assert view.frame().equals(frame[rows].select("x", "name"))
    assert view.column("name").to_list() == frame["name"][rows].to_list()
    assert view.target.tolist() == [int(y == "yes") for y in frame["y"][rows]]
    assert np.array_equal(view.weight, frame["w"].to_numpy()[rows])
    assert np.array_equal(view.units, split.units[rows])
    assert np.array_equal(view.digests, split.digests[rows])
    assert np.array_equal(view.positions, rows)
    assert view.order is None


def test_feature_digests_are_those_of_the_gathered_features(cut, monkeypatch):
    """Made block by block, they equal the digests of the view's own table of features."""
    monkeypatch.setattr(views, "DIGESTED_ROWS", 37)
    split, frame = cut
    view = split.train_view(frame, SCHEMA, split.digests)
    assert np.array_equal(view.feature_digests(), row_digests(view.frame()))


def test_no_test_label_is_anywhere_behind_a_view(cut):
    """Even the array behind the view holds -1 and NaN where test rows stand."""
    split, frame = cut
    shared = split.train_view(frame, SCHEMA)._shared
    test = split.side == TEST
    assert (shared.target[test] == -1).all()
    assert np.isnan(shared.weight[test]).all()
    assert shared.features.columns == ["x", "name"]


def test_a_test_view_has_features_only(cut):
    """The test side gives columns, and has no target to give."""
    split, frame = cut
    view = split.test_view(frame, SCHEMA, split.digests)
    assert view.frame().equals(frame.filter(pl.Series(split.side == TEST)).select("x", "name"))
    with pytest.raises(LeakError, match="A view of the test rows has no labels"):
        _ = view.target
    assert not hasattr(view, "weight")
    assert view._shared.target.size == 0


@pytest.mark.parametrize("name", ["y", "home", "w"])
def test_columns_that_are_no_features_are_refused(cut, name):
    """Asking for the target, a group or the weight as a column is a leak."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA)
    with pytest.raises(LeakError, match=f"'{name}' has the role"):
        view.column(name)
    with pytest.raises(LeakError, match=f"'{name}' has the role"):
        view.frame(["x", name])


def test_an_unknown_column_is_named(cut):
    """A column that is not in the schema is a DataError with the names there are."""
    split, frame = cut
    with pytest.raises(DataError, match="There is no column 'z'; the table has x, name"):
        split.train_view(frame, SCHEMA).column("z")


def test_views_cannot_be_made_by_hand(cut):
    """Neither constructor nor opener lets test rows in."""
    split, frame = cut
    shared = split.train_view(frame, SCHEMA)._shared
    test_rows = np.flatnonzero(split.side == TEST)
    with pytest.raises(LeakError, match="cannot be made by hand"):
        views.TrainView(shared, test_rows, None)
    with pytest.raises(
        LeakError, match=r"training rows only; \d+ of \d+ are not, the first is row"
    ):
        views.open_train_view(shared, test_rows)
    with pytest.raises(LeakError, match="not in this training view"):
        split.train_view(frame, SCHEMA).at(test_rows)


def test_fold_views_are_disjoint_in_units_and_cover_the_training_side(cut):
    """Five folds: the validation rows are the training rows, once each; no unit is in both."""
    split, frame = cut
    whole = split.train_view(frame, SCHEMA)
    seen = []
    for fold in range(split.num_folds):
        train, valid = split.fold_views(fold, frame, SCHEMA, split.digests)
        assert not set(train.units.tolist()) & set(valid.units.tolist())
        again = split.fold_views(fold, whole)
        assert np.array_equal(again[0].positions, train.positions)
        assert np.array_equal(again[1].target, valid.target)
        seen.append(valid.positions)
    assert np.array_equal(np.sort(np.concatenate(seen)), whole.positions)
    with pytest.raises(SplitError, match="There is no fold 5"):
        split.fold_views(5, frame, SCHEMA)


def test_rows_in_another_order_are_refused(cut):
    """With digests given, a reordered or foreign table cannot slip in."""
    split, frame = cut
    back = frame.reverse()
    with pytest.raises(IntegrityError, match="in another order"):
        split.train_view(back, SCHEMA, row_digests(back))
    other = frame.with_columns(x=-pl.col("x"))
    with pytest.raises(IntegrityError, match="not those the split was made from"):
        split.test_view(other, SCHEMA, row_digests(other))
    with pytest.raises(IntegrityError, match="500 rows and the table has 499"):
        split.train_view(frame.head(499), SCHEMA)


def test_features_are_not_copied(cut):
    """Views of one table share its columns; a view costs indices only."""
    split, frame = cut
    shared = split.train_view(frame, SCHEMA)._shared
    assert (
        shared.features["x"].to_numpy().__array_interface__["data"]
        == frame["x"].to_numpy().__array_interface__["data"]
    )


def test_arrays_of_a_view_are_read_only(cut):
    """A family cannot spoil the next one's targets."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA)
    for array in (view.target, view.weight, view.units):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_subset_at_and_sample(cut):
    """Positions in the view, rows of the table, and drawn rows name the same rows."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA)
    some = view.subset([4, 2])
    assert some.positions.tolist() == view.positions[[4, 2]].tolist()
    assert np.array_equal(view.at(some.positions).target, some.target)
    drawn = view.sample(50, 1)
    assert drawn.num_rows == 50
    assert np.array_equal(drawn.positions, view.sample(50, 1).positions)
    assert view.sample(10**6, 1) is view
    assert view.subset(view.target == 1).target.min() == 1
    for wrong in ([0, view.num_rows], [-1], [0.5]):
        with pytest.raises(DataError, match="Positions must be whole numbers"):
            view.subset(wrong)
    with pytest.raises(DataError, match="The mask has shape"):
        view.subset(np.ones(3, dtype=bool))


def test_holdout_keeps_units_whole_and_classes_even(cut):
    """A tenth held out: no unit on both sides, about the same share of each class."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA)
    rest, held = view.holdout(0.1, 0)
    assert not set(rest.units.tolist()) & set(held.units.tolist())
    assert rest.num_rows + held.num_rows == view.num_rows
    assert 0.05 < held.num_rows / view.num_rows < 0.15
    assert abs(held.target.mean() - view.target.mean()) < 0.15
    assert not np.array_equal(held.positions, view.holdout(0.1, 1)[1].positions)
    assert np.array_equal(held.positions, view.holdout(0.1, 0)[1].positions)


def plain(num_rows, **given):
    schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    frame = pl.DataFrame({"x": range(num_rows), "y": [0.5 * i for i in range(num_rows)]})
    return view_of(frame, schema, **given)


def test_holdout_goes_forward_in_time():
    """With an order, the latest rows are held out, ties whole, and tied units leave the rest."""
    order = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    units = np.array([0, 1, 2, 3, 4, 5, 6, 9, 8, 9])
    rest, held = plain(10, order=order, units=units).holdout(0.2, 0)
    assert held.positions.tolist() == [8, 9]
    assert rest.positions.tolist() == [0, 1, 2, 3, 4, 5, 6]  # row 7 shares a unit with row 9


def test_holdout_keeps_the_gap():
    """The split's gap also lies before the rows held out from a training view."""
    days = pl.DataFrame({"x": range(40), "t": range(40), "y": [float(i % 7) for i in range(40)]})
    columns = (
        Column("x", "number"),
        Column("t", "number", "time"),
        Column("y", "number", "target"),
    )
    schema = Schema(columns, "regression")
    asked = SplitSettings("time", time=("t",), gap=5.0, num_folds=2)
    split = make_split(days, schema, row_digests(days), asked)
    view = split.train_view(days, schema)
    rest, held = view.holdout(0.25, 0)
    assert held.positions.min() - rest.positions.max() == 5


def test_holdout_gives_none_when_it_cannot():
    """One unit, or one time, cannot be cut; a share outside (0, 1) is an error."""
    assert plain(10, units=np.zeros(10)).holdout(0.5, 0) is None
    assert plain(10, order=np.zeros(10)).holdout(0.5, 0) is None
    assert plain(1).holdout(0.5, 0) is None
    with pytest.raises(SettingsError, match="between 0 and 1, got 1"):
        plain(10).holdout(1.0, 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0, 1.0], r"finite and >= 0; 1 rows .* row 1 with -1\.0"),
        ([1.0, 1.0, None], r"row 2 with an empty cell"),
        ([1.0, float("inf"), 1.0], r"row 1 with inf"),
        ([0.0, 0.0, 0.0], "zero in all 3 rows"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    """Negative, empty, infinite or all-zero weights name the row."""
    frame = table(3).with_columns(w=pl.Series(weights, dtype=pl.Float64))
    with pytest.raises(DataError, match=message):
        view_of(frame, SCHEMA)


def test_targets_become_codes_or_values():
    """Classes of any label type get their code; regression gets finite float64 or an error."""
    y = Column("y", "category", "target")
    for classes, values in (
        ((False, True), [True, False]),
        ((3, 7), [7, 3]),
        ((0.5, 1.5), [1.5, 0.5]),
        (("a", "b"), ["b", "a"]),
    ):
        assert views.target_codes(
            pl.Series("y", values), Schema((y,), "binary", classes)
        ).tolist() == [1, 0]
    schema = Schema((Column("y", "number", "target"),), "regression")
    assert views.target_codes(pl.Series("y", [1, 2]), schema).dtype == np.float64
    with pytest.raises(DataError, match="row 1 with nan"):
        views.target_codes(pl.Series("y", [1.0, float("nan")]), schema)
    with pytest.raises(DataError, match="regression needs numbers"):
        views.target_codes(pl.Series("y", ["a"]), schema)


def test_a_label_that_is_no_class_is_named():
    """A training row with an unknown label is refused with its row and the classes."""
    labels = pl.Series("y", ["no", "yes", "maybe"])
    schema = Schema((Column("y", "category", "target"),), "binary", ("no", "yes"))
    with pytest.raises(DataError, match=r"'y' holds 'maybe' \(row 2\), which is not one of"):
        views.target_codes(labels, schema)


def test_a_view_without_a_column_gives_only_the_others(cut):
    """What is left out is no feature any more: not in the frame, not by name; the rest is equal."""
    split, frame = cut
    view = split.train_view(frame, SCHEMA)
    fewer = view.without(["x"])
    assert list(fewer.schema.features) == ["name"]
    assert fewer.frame().equals(view.frame(["name"]))
    with pytest.raises(LeakError, match="'x' has the role 'ignore'"):
        fewer.column("x")
    with pytest.raises(LeakError, match="'home' has the role"):
        view.without(["home"])
