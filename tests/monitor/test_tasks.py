"""Every kind of task behind one contract: losses by hand, what is expected, and how labels read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from loopline.data.schema import Column as SchemaColumn
from loopline.data.schema import Schema, Task
from loopline.monitor.answer_losses import TextLosses
from loopline.monitor.label_losses import LabelLosses
from loopline.monitor.reference import Reference
from loopline.monitor.scores import learn_column
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tasks import WATCHED
from loopline.monitor.watcher import Watcher
from loopline.monitor.window import Window, joined

LABELS = ("a", "b", "c")


def answered(task: Task, rows: int = 1_200, seed: int = 0) -> dict[str, Any]:
    """Rows of a task with predictions that state their chances truly."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({"x": rng.normal(size=rows)})
    if task == "binary":
        p = rng.uniform(0.05, 0.95, rows)
        return {"frame": frame, "prediction": p, "target": (rng.random(rows) < p).astype(int)}
    if task == "multiclass":
        p = rng.dirichlet([2, 2, 2], rows)
        y = (rng.random(rows)[:, None] > p.cumsum(axis=1)).sum(axis=1)
        return {"frame": frame, "prediction": p, "target": np.minimum(y, 2)}
    if task == "multilabel":
        p = rng.uniform(0.05, 0.95, (rows, 3))
        return {"frame": frame, "prediction": p, "target": (rng.random((rows, 3)) < p).astype(int)}
    if task == "regression":
        p = rng.normal(size=rows)
        return {"frame": frame, "prediction": p, "target": p + rng.normal(size=rows)}
    return {"frame": frame, "prediction": rng.uniform(0.5, 3.0, rows), "target": None}


CLASSES: dict[str, tuple[str, ...]] = {"binary": ("n", "y"), "multiclass": LABELS}
CLASSES["multilabel"] = LABELS


def reference(task: Task, **more: Any) -> Reference:
    """Normal rows of a task."""
    return Reference(**answered(task), task=task, classes=CLASSES.get(task, ()), **more)


def test_every_task_has_a_member() -> None:
    """No task of a line is refused by the watch."""
    assert set(WATCHED) == set(get_args(Task))


@pytest.mark.parametrize("task", list(WATCHED))
def test_what_is_expected_is_what_comes(task: Task) -> None:
    """Over many rows whose chances are stated truly the expected loss is the mean loss."""
    normal = reference(task)
    losses = WATCHED[task].learn(normal)
    fresh = answered(task, 20_000, seed=1)
    outcome = fresh["target"]
    if outcome is None:
        outcome = np.zeros(20_000)
    true = losses.of(fresh["prediction"], outcome.astype(np.float64))
    expected = losses.expected(fresh["prediction"])
    assert true.shape == expected.shape == (20_000,)
    assert expected.mean() == pytest.approx(true.mean(), abs=0.03)
    bias, _ = losses.residual(fresh["prediction"], outcome.astype(np.float64))
    assert np.isnan(bias).all() or abs(bias.mean()) < 0.05


@pytest.mark.parametrize("task", [name for name, kind in WATCHED.items() if kind.labels_come])
def test_a_row_without_a_label_has_no_loss(task: Task) -> None:
    """A missing outcome is missing in loss and residual, and the other rows stay."""
    losses = WATCHED[task].learn(reference(task))
    fresh = answered(task, 4)
    outcome = np.asarray(fresh["target"], dtype=np.float64)
    outcome[1] = np.nan
    for values in (losses.of(fresh["prediction"], outcome),
                   losses.residual(fresh["prediction"], outcome)[0]):  # fmt: skip
        assert np.isnan(values).tolist() == [False, True, False, False]


def test_losses_of_several_labels_by_hand() -> None:
    """Three labels: one wrong of three is a third; squared distances are averaged likewise."""
    stated, came = np.array([[0.9, 0.2, 0.6]]), np.array([[1.0, 1.0, 1.0]])
    hamming = LabelLosses("Hamming loss", LABELS, 0.5, (None,) * 3)
    assert hamming.of(stated, came)[0] == pytest.approx(1 / 3)
    assert hamming.expected(stated)[0] == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    brier = LabelLosses("Brier score", LABELS, 0.5, (None,) * 3)
    assert brier.of(stated, came)[0] == pytest.approx((0.01 + 0.64 + 0.16) / 3)
    assert brier.expected(stated)[0] == pytest.approx((0.09 + 0.16 + 0.24) / 3)
    bias, slope = brier.residual(stated, came)
    assert bias[0] == pytest.approx((0.1 + 0.8 + 0.4) / 3)
    assert slope[0] == pytest.approx((0.1 * 0.8 - 0.8 * 0.6 + 0.4 * 0.2) / 3)


def test_the_threshold_of_the_labels_counts() -> None:
    """At 0.7 a probability of 0.6 gives no label."""
    losses = LabelLosses("Hamming loss", LABELS, 0.7, (None,) * 3)
    assert losses.of(np.array([[0.6, 0.6, 0.8]]), np.array([[0.0, 0.0, 1.0]])).tolist() == [0.0]


def test_the_loss_follows_the_metric_of_the_line() -> None:
    """A metric of probabilities is watched by the Brier score, another by what is wrong."""
    names = {
        metric: WATCHED["multilabel"].learn(reference("multilabel", metric=metric)).name
        for metric in ("log_loss", "micro_f1", "")
    }
    assert names == {"log_loss": "Brier score", "micro_f1": "Hamming loss", "": "Hamming loss"}


def test_a_label_that_is_off_alone_is_calibrated_alone() -> None:
    """One label that comes in half of the rows whatever is stated costs a half; the others not."""
    made = answered("multilabel", 4_000)
    made["target"][:, 0] = np.random.default_rng(1).random(4_000) < 0.5
    made["prediction"][:, 0] = 0.9
    losses = LabelLosses.learn(Reference(**made, task="multilabel", classes=LABELS))
    sure = np.array([[0.9, 0.8, 0.8]])
    assert losses.expected(sure)[0] == pytest.approx((0.5 + 0.2 + 0.2) / 3, abs=0.04)


def test_labels_of_several_come_late_and_odd(tmp_path: Path) -> None:
    """Lists in any order, again, contradicting, of an unknown label, and a memory that is saved in
    between: each is counted as what it is."""
    watcher = Watcher.learn(reference("multilabel"), MonitorSettings(window=50))
    made = answered("multilabel", 50, seed=2)
    ids = tuple(f"row-{k}" for k in range(50))
    watcher.check(Window(made["frame"], made["prediction"], ids))
    assert not watcher.observe({"row-0": ["b", "a"], "row-1": []}).remarks
    watcher.save(tmp_path)
    watcher = Watcher.load(tmp_path)
    odd = watcher.observe(
        {"row-0": ["a", "b"], "row-1": ["c"], "row-2": ["z"], "row-3": "a", "who": ["a"]}
    )
    told = " ".join(odd.remarks)
    assert "1 label came again" in told
    assert "1 label contradicted" in told
    assert "2 labels could not be read" in told
    assert "1 label named rows that are not known" in told
    assert watcher.outcomes is not None
    assert watcher.outcomes.labelled == {"row-0": (1.0, 1.0, 0.0), "row-1": (0.0, 0.0, 0.0)}
    assert [row[:3] for row in watcher.outcomes.buffer] == [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0)]


def test_labels_of_several_that_come_with_their_rows() -> None:
    """A window may hold them: rows of 0 and 1, missing where unknown, refused where neither."""
    watcher = Watcher.learn(reference("multilabel"), MonitorSettings(window=50))
    made = answered("multilabel", 40, seed=2)
    labels = made["target"].astype(np.float64)
    labels[0], labels[1] = np.nan, 2.0
    checked = watcher.check(Window(made["frame"], made["prediction"], labels=labels))
    assert "1 label could not be read" in " ".join(checked.remarks)
    assert watcher.outcomes is not None
    assert watcher.outcomes.taken + len(watcher.outcomes.buffer) == 38


def test_windows_with_and_without_labels_are_joined() -> None:
    """A batch without labels beside one with three a row: missing, in the same shape."""
    frame = pl.DataFrame({"x": [1.0, 2.0]})
    both = joined([Window(frame), Window(frame, labels=np.ones((2, 3)))])
    assert both.labels is not None
    assert np.isnan(both.labels).all(axis=1).tolist() == [True, True, False, False]


def test_turned_labels_are_found_and_true_ones_are_not() -> None:
    """Half of all labels at random: the loss rises and pages; labels as stated are silent."""
    for turned in (False, True):
        watcher = Watcher.learn(reference("multilabel"), MonitorSettings(window=200))
        pages = set()
        for seed in range(3, 8):
            made = answered("multilabel", 200, seed=seed)
            labels = made["target"].astype(np.float64)
            if turned:
                labels = (np.random.default_rng(seed).random(labels.shape) < 0.5).astype(float)
            checked = watcher.check(Window(made["frame"], made["prediction"], labels=labels))
            pages |= {alarm.kind for alarm in checked.pages}
        assert ("performance" in pages) == turned
        assert turned or not pages


def test_bits_per_byte_by_hand() -> None:
    """16 nats for a text of 8 bytes are 2 / ln 2 bits a byte; without a text nothing is known."""
    schema = Schema(
        (SchemaColumn("text", "text", "feature", ""),
         SchemaColumn("text_bytes", "number", "target", "")), "language",
    )  # fmt: skip
    frame = pl.DataFrame({"text": ["abcdefgh", "αβγδ", None, ""]})
    found = TextLosses.stated(np.array([16.0, 16.0, 1.0, 1.0]), frame, schema)
    assert found[:2] == pytest.approx([2 / np.log(2)] * 2)
    assert np.isnan(found[2:]).all()
    assert np.isnan(TextLosses.stated(np.ones(4), frame.drop("text"), schema)).all()


def test_a_few_strange_texts_count_no_more_than_the_dearest() -> None:
    """One text of 500 bits a byte among 200 usual ones does not move the mean by 2.5."""
    watcher = Watcher.learn(reference("language"), MonitorSettings(window=200))
    made = answered("language", 200, seed=3)
    made["prediction"][0] = 500.0
    assert not watcher.check(Window(made["frame"], made["prediction"])).pages
    made["prediction"] += 1.0
    (page,) = watcher.check(Window(made["frame"], made["prediction"])).pages
    assert (page.kind, page.unit) == ("estimated", "bits per byte")


def test_answers_without_a_loss_are_no_answers() -> None:
    """Where no text is known the loss is missing, not a number in its place."""
    watcher = Watcher.learn(reference("language"), MonitorSettings(window=50))
    made = answered("language", 50, seed=3)
    made["prediction"][:] = np.nan
    assert not watcher.check(Window(made["frame"], made["prediction"])).alarms


def test_texts_are_asked_for_length_and_new_characters() -> None:
    """Every character that a regular expression could mistake is known as itself."""
    signs = "]^-\\[}{.*+?|$()&~ \n\té"
    texts = [f"{signs} {number} {'word ' * (number % 7)}" for number in range(200)]
    column = learn_column(pl.Series("text", texts))
    assert column.type == "text"
    assert [question.what for question in column.questions] == ["missing", "length", "characters"]
    scores = column.score(pl.Series("text", [signs, "ж" * 10, None, ""]))
    assert scores[:, 0].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert scores[[0, 1, 3], 2].tolist() == [0.0, 1.0, 0.0]
    assert np.isnan(scores[2, 1:]).all()
    longer = column.score(pl.Series("text", ["word " * 30]))
    assert scores[0, 1] < 0 < longer[0, 1]


def test_a_character_of_one_text_alone_is_new_to_the_others() -> None:
    """What is usual of new characters is learned: each text's own sign counts as new in it."""
    texts = [f"{'plain words ' * 3}{chr(0x4E00 + number)}" for number in range(200)]
    column = learn_column(pl.Series("text", texts))
    share = column.score(pl.Series("text", texts))[:, 2]
    assert share == pytest.approx([1 / 37] * 200)
