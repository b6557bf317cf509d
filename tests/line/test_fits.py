"""What each fit of a line is given: never a row that it is to be judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.line.conftest import make_table

import loopline
from loopline.models.lightgbm import LightGBM


def test_a_fold_learns_and_stops_without_its_validation_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, early stopping and validation rows of each fold are three parts of the training
    side; the early stopping rows are a share of what would else be learned from."""
    seen: list[tuple[set[int], set[int]]] = []
    fit = LightGBM.fit

    def recorded(self: Any, train: Any, valid: Any, *rest: Any) -> Any:
        held = set() if valid is None else set(valid.positions.tolist())
        seen.append((set(train.positions.tolist()), held))
        return fit(self, train, valid, *rest)

    monkeypatch.setattr(LightGBM, "fit", recorded)
    result = loopline.fit(
        make_table(), "bought", models=["lightgbm"], store=tmp_path, progress=False
    )
    project = loopline.open_project(tmp_path)
    judged = []
    for name in project.store.ids("foldfit"):
        artifact = project.store.get(name)
        if artifact.meta["candidate"] == "lightgbm":
            rows = load_file(artifact.path("prediction.safetensors"))["rows"]
            judged.append(set(rows.tolist()))
    num_train = result.summary["split"]["num_train"]
    assert len(judged) == result.summary["split"]["num_folds"]
    for rows in judged:
        (mine,) = [(kept, held) for kept, held in seen if held and not (kept | held) & rows]
        kept, held = mine
        assert not kept & held
        assert len(kept) + len(held) + len(rows) == num_train
        assert 0.05 < len(held) / (len(kept) + len(held)) < 0.3
    everything = np.sort([row for rows in judged for row in rows])
    assert len(set(everything.tolist())) == len(everything) == num_train


def test_the_threshold_is_chosen_on_out_of_fold_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are the training side's, each predicted by a model that has not seen it."""
    from loopline.line import choosing

    given: list[np.ndarray[Any, Any]] = []
    choose = choosing.choose_threshold

    def recorded(y: Any, prediction: Any, *rest: Any, **named: Any) -> Any:
        given.append(np.asarray(prediction))
        return choose(y, prediction, *rest, **named)

    monkeypatch.setattr(choosing, "choose_threshold", recorded)
    result = loopline.fit(make_table(), "bought", models=["linear"], store=tmp_path, progress=False)
    project = loopline.open_project(tmp_path)
    (found,) = [
        artifact
        for name in project.store.ids("candidate")
        if (artifact := project.store.get(name)).meta["name"] == result.summary["chosen"]
    ]
    kept = load_file(found.path("out_of_fold.safetensors"))["prediction"]
    assert len(kept) == result.summary["split"]["num_train"]
    assert any(np.array_equal(each, kept[:, 1]) for each in given)
