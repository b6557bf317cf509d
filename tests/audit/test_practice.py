"""Practice leaks: each test cheats through the public interface, and fails or is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit
from loopline.audit.labels import review_labels
from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, LeakError
from loopline.line.project import open_project
from loopline.models.base import FitContext
from loopline.models.families import FAMILY_NAMES, family
from loopline.splits.spec import EXCLUDED, TEST, TRAIN, SplitSettings
from loopline.splits.split import Split, make_split
from loopline.splits.views import TrainView, open_train_view

SCHEMA = Schema(
    (Column("x", "number"), Column("z", "number"), Column("y", "category", "target")),
    "binary",
    ("no", "yes"),
)


def coin_flips(num_rows: int, seed: int = 0) -> pl.DataFrame:
    """Two features that know nothing of the label."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "x": rng.normal(size=num_rows),
            "z": rng.normal(size=num_rows),
            "y": rng.choice(["no", "yes"], num_rows),
        }
    )


def divided(frame: pl.DataFrame) -> Split:
    return make_split(frame, SCHEMA, row_digests(frame), SplitSettings("stratified"))


def fitted(frame: pl.DataFrame, folder: Path, **settings: Any) -> loopline.Result:
    given = {"models": ["lightgbm"], "progress": False, "store": folder, **settings}
    return loopline.fit(frame, "y", **given)


def at_chance(result: loopline.Result, slack: float = 0.1) -> bool:
    score = result.summary["out_of_fold"]["auc"]["value"]
    return abs(score - 0.5) <= slack


# --- fitting on rows that are not for training ----------------------------------------------------


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_no_family_fits_on_test_rows(name: str) -> None:
    """A view of the test rows has no labels to fit on, and every family refuses it."""
    frame = coin_flips(200)
    view = divided(frame).test_view(frame, SCHEMA)
    kind = family(name)
    task = "binary" if "binary" in kind.tasks else "language"
    with pytest.raises(LeakError, match=r"test rows|no test row"):
        kind.fit(view, None, kind.resolve({}, task, 200), FitContext(0))  # type: ignore[arg-type]


def test_a_training_view_cannot_be_made_by_hand() -> None:
    """Nothing else would keep test rows out."""
    frame = coin_flips(50)
    view = divided(frame).train_view(frame, SCHEMA)
    with pytest.raises(LeakError, match="cannot be made by hand"):
        TrainView(view._shared, np.arange(50), object())
    with pytest.raises(LeakError, match=r"A training view may hold training rows only"):
        open_train_view(view._shared, np.arange(50))


def test_a_view_cannot_be_widened_to_test_rows() -> None:
    """By position, by mask or by name: rows outside the view are refused."""
    frame = coin_flips(50)
    split = divided(frame)
    view = split.train_view(frame, SCHEMA)
    test = np.flatnonzero(split.side == TEST)
    with pytest.raises(LeakError, match="are not in this training view"):
        view.at(test)
    with pytest.raises(DataError, match=r"Positions must be whole numbers from 0 to 39"):
        view.subset(np.arange(50))
    with pytest.raises(DataError, match=r"The mask has shape \(50,\)"):
        view.subset(np.ones(50, dtype=bool))


def test_no_view_holds_a_test_label_anywhere() -> None:
    """Behind a view the labels of test rows were blanked before it was made."""
    frame = coin_flips(50)
    split = divided(frame)
    shared = split.train_view(frame, SCHEMA)._shared
    assert (shared.target[split.side == TEST] == -1).all()
    assert "y" not in shared.features.columns
    for view in (*split.fold_views(0, frame, SCHEMA), split.test_view(frame, SCHEMA)):
        with pytest.raises(LeakError, match="has the role 'target'"):
            view.column("y")


def test_predictions_of_rows_that_were_fitted_on_are_refused() -> None:
    """A model fitted on training and validation rows together cannot call itself out of fold."""
    frame = coin_flips(100)
    split = divided(frame)
    view = split.train_view(frame, SCHEMA)
    kind = family("linear")
    model = kind.fit(view, None, kind.resolve({}, "binary", view.num_rows), FitContext(0))
    parts = [split.fold_views(number, view)[1] for number in range(split.num_folds)]
    with pytest.raises(LeakError, match="its model was fitted on; such predictions are in-sample"):
        OutOfFold.of_folds(
            view,
            [part.positions for part in parts],
            [model.predict_view(part) for part in parts],
            [view.positions for _ in parts],
            "linear",
        )


# --- stacking on in-sample predictions ------------------------------------------------------------


def test_out_of_fold_predictions_cannot_be_made_by_hand() -> None:
    """In-sample predictions in the clothes of out-of-fold ones are refused at the door."""
    frame = coin_flips(100)
    view = divided(frame).train_view(frame, SCHEMA)
    honest = cross_fit(view, assign_folds(view, view.units), model="linear")
    wrong = np.tile([0.0, 1.0], (view.num_rows, 1))
    with pytest.raises(LeakError, match="cannot be made by hand"):
        OutOfFold(view, honest.fold, wrong, "mine", object())
    with pytest.raises(LeakError):
        review_labels(wrong)  # type: ignore[arg-type]


# --- copies made before the split -----------------------------------------------------------------


def test_oversampling_before_the_split_gains_nothing(tmp_path: Path) -> None:
    """Every row of one class four times: copies share a side, and coin flips stay coin flips."""
    frame = coin_flips(300)
    more = pl.concat([frame, *[frame.filter(pl.col("y") == "yes")] * 3])
    result = fitted(more, tmp_path)
    assert at_chance(result)
    claims = result.release.facts["certificate"]["claims"]
    assert {claim["straddling"] for claim in claims if claim["structure"] == "features"} == {0}


def test_augmentation_before_the_split_gains_nothing(tmp_path: Path) -> None:
    """Three jittered copies of each row are found, told and kept on one side."""
    frame, rng = coin_flips(250), np.random.default_rng(1)
    jittered = [
        frame.with_columns(
            (pl.col(name) + rng.normal(scale=0.001, size=frame.height)).alias(name)
            for name in ("x", "z")
        )
        for _ in range(3)
    ]
    result = fitted(pl.concat([frame, *jittered]), tmp_path)
    assert at_chance(result)
    claims = result.release.facts["certificate"]["claims"]
    assert {c["straddling"] for c in claims if c["structure"] == "near duplicates"} == {0}
    assert "near_duplicates" in {finding["check"] for finding in result.summary["audit"]}


def test_augmentation_keeps_its_parent(tmp_path: Path) -> None:
    """Copies that resemble nothing stay together where a column names their parent."""
    frame = coin_flips(250).with_row_index("parent")
    far = frame.with_columns(x=-pl.col("x"))
    result = fitted(pl.concat([frame, far]), tmp_path, group="parent")
    assert at_chance(result)
    structures = {c["structure"] for c in result.release.facts["certificate"]["claims"]}
    assert "group parent" in structures


# --- statistics of all rows -----------------------------------------------------------------------


def test_target_encoding_of_a_random_column_stays_at_chance(tmp_path: Path) -> None:
    """A name with three rows a level knows the label in sample and nothing of it out of fold."""
    rng = np.random.default_rng(4)
    names = rng.permutation(np.repeat([f"street {number}" for number in range(200)], 3))
    frame = coin_flips(600).with_columns(street=pl.Series(names))
    result = fitted(frame, tmp_path, settings={"columns": {"street": {"role": "feature"}}})
    assert at_chance(result)


def test_selection_among_many_noise_columns_stays_at_chance(tmp_path: Path) -> None:
    """A hundred and fifty columns of noise: what looks best on all rows is not chosen on them."""
    rng = np.random.default_rng(5)
    noise = {f"gene_{number}": rng.normal(size=150) for number in range(150)}
    frame = pl.DataFrame(noise | {"y": rng.choice(["no", "yes"], 150)})
    result = fitted(frame, tmp_path, models=["linear"])
    score = result.summary["out_of_fold"]["auc"]
    assert score["low"] <= 0.5 <= score["high"]


# --- decisions by test labels ---------------------------------------------------------------------


def with_signal(num_rows: int = 300) -> pl.DataFrame:
    frame = coin_flips(num_rows)
    noisy = frame["x"] + np.random.default_rng(9).normal(scale=0.8, size=num_rows)
    part = np.where(np.arange(num_rows) % 5 == 0, "test", "train")
    label = pl.when(noisy > 0.3).then(pl.lit("yes")).otherwise(pl.lit("no"))
    return frame.with_columns(y=pl.select(label).to_series(), part=pl.Series(part))


DECIDED = {
    "split": {"method": "predefined", "column": "part"},
    "columns": {"part": {"role": "ignore"}},
    "calibration": "temperature",
}


def test_nothing_is_decided_by_test_labels(tmp_path: Path) -> None:
    """With all test labels swapped, scores, choice, threshold, calibration and model are the same.

    Early stopping, the decision threshold, the calibration and the choice would otherwise move.
    """
    frame = with_signal()
    is_test = pl.col("part") == "test"
    swapped = pl.when(is_test).then(pl.col("y").replace({"no": "yes", "yes": "no"}))
    other = frame.with_columns(y=swapped.otherwise("y"))
    models = ["baseline", "linear", "lightgbm"]
    one = fitted(frame, tmp_path / "a", models=models, settings=DECIDED)
    two = fitted(other, tmp_path / "b", models=models, settings=DECIDED)
    for fact in ("out_of_fold", "threshold", "chosen", "why"):
        assert one.summary[fact] == two.summary[fact], fact
    assert one.release.facts["calibration"] == two.release.facts["calibration"]
    assert one.release.facts["params"] == two.release.facts["params"]
    first, second = one.predict(frame), two.predict(frame)
    assert first.equals(second)
    assert one.summary["test"]["auc"]["value"] > 0.7 > two.summary["test"]["auc"]["value"]


def test_nothing_is_learned_from_test_features(tmp_path: Path) -> None:
    """With all features of the test rows drawn anew, scores, choice and model are the same.

    A scaler, an imputer, an encoder or neighbours that looked across the split would move.
    """
    frame = with_signal()
    rng = np.random.default_rng(4)
    is_test = pl.col("part") == "test"
    other = frame.with_columns(
        pl.when(is_test)
        .then(pl.Series(7.0 + 3.0 * rng.normal(size=300)))
        .otherwise(name)
        .alias(name)
        for name in ("x", "z")
    )
    models = ["linear", "lightgbm"]
    one = fitted(frame, tmp_path / "a", models=models, settings=DECIDED)
    two = fitted(other, tmp_path / "b", models=models, settings=DECIDED)
    for fact in ("out_of_fold", "threshold", "chosen", "why"):
        assert one.summary[fact] == two.summary[fact], fact
    assert one.predict(frame).equals(two.predict(frame))


def test_a_label_that_was_not_known_yet_trains_nothing() -> None:
    """Rows whose label window reaches into the test rows are left out of the training."""
    start = np.datetime64("2024-01-01") + np.arange(300)
    frame = coin_flips(300).with_columns(day=pl.Series(start), known=pl.Series(start + 20))
    columns = (*SCHEMA.columns, Column("day", "date", "time"), Column("known", "date", "ignore"))
    schema = Schema(columns, "binary", ("no", "yes"))
    settings = SplitSettings("time", time=("day",), label_end="known", duplicates="rows")
    split = make_split(frame, schema, row_digests(frame), settings)
    first = frame["day"].filter(pl.Series(split.side == TEST)).min()
    known = frame["known"].filter(pl.Series(split.side == TRAIN)).max()
    assert known < first
    assert int((split.side == EXCLUDED).sum()) == 20


def test_edges_keep_their_ends_on_one_side() -> None:
    """Rows that are edges of a graph: whatever hangs together shares a side."""
    rng = np.random.default_rng(0)
    ends = rng.integers(0, 8, (2, 400)) + 8 * rng.integers(0, 50, 400)
    frame = coin_flips(400).with_columns(a=pl.Series(ends[0]), b=pl.Series(ends[1]))
    columns = (*SCHEMA.columns, Column("a", "number", "group"), Column("b", "number", "group"))
    schema = Schema(columns, "binary", ("no", "yes"))
    settings = SplitSettings("group_stratified", group=("a", "b"))
    split = make_split(frame, schema, row_digests(frame), settings)
    test, train = pl.Series(split.side == TEST), pl.Series(split.side == TRAIN)
    for name in ("a", "b"):
        assert not set(frame[name].filter(test)) & set(frame[name].filter(train))


def test_what_trains_is_what_serves(tmp_path: Path) -> None:
    """One row at a time, as a service is asked, the same prediction to the last bit."""
    frame = with_signal()
    result = fitted(frame, tmp_path, models=["lightgbm"], settings=DECIDED)
    whole = result.predict(frame)
    rows = [result.release.predict_one(row) for row in frame.drop("y").head(40).to_dicts()]
    said = [row["probability"]["yes"] for row in rows]
    assert said == whole["probability_yes"].head(40).to_list()


def test_the_vault_is_opened_once_and_after_every_decision(tmp_path: Path) -> None:
    """In the ledger the one opening follows the choice and the final fit."""
    fitted(with_signal(), tmp_path, models=["linear", "lightgbm"], settings=DECIDED)
    with open_project(tmp_path) as project:
        events = project.ledger.events()
    kinds = [
        "vault" if event.kind == "vault.opened" else str(event.data.get("stage", ""))
        for event in events
    ]
    assert kinds.count("vault") == 1
    opened = kinds.index("vault")
    assert kinds.index("choice") < opened
    assert max(number for number, kind in enumerate(kinds) if kind.startswith("fit")) < opened
    assert opened < kinds.index("evaluate")


def test_choosing_by_repeated_test_scores_is_stopped(tmp_path: Path) -> None:
    """Ten variants in a day give ten out-of-fold scores and one test score."""
    frame, scored = with_signal(), 0
    for rounds in (5, 10, 20, 40):
        models = {"lightgbm": {"rounds": rounds}}
        result = fitted(frame, tmp_path, models=models, settings=DECIDED)
        assert result.summary["out_of_fold"]["auc"]["value"] > 0.5
        scored += bool(result.summary["test"])
    assert scored == 1


def test_scoring_on_training_rows_is_refused(tmp_path: Path) -> None:
    """A score on rows that the model was fitted on is not given as an evaluation."""
    frame = with_signal()
    result = fitted(frame, tmp_path, models=["linear"], settings=DECIDED)
    with pytest.raises(LeakError, match="stand among the rows that this release was trained on"):
        result.evaluate(frame)
