"""Networks among the families: what a fit keeps, how it goes on, and how processes share it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopline.engine.layout import Layout
from loopline.errors import EnvironmentProblem, IntegrityError, SettingsError
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.job import Job, followed
from loopline.models.neural import NeuralModel, require_packages
from loopline.models.worker import train_job
from loopline.nets import training
from loopline.progress import SilentReporter, Step
from loopline.testing.families import make_table, make_view

CONTEXT = FitContext(seed=5)
SMALL = {"epochs": 6.0, "width": 16, "members": 2}


class Interrupted(Exception):
    """Raised in the midst of a fit."""


class Stops(SilentReporter):
    """Raises after so many steps of training."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        del name, total
        yield self  # type: ignore[misc]  # it has what a step has

    def advance(self, amount: float = 1.0) -> None:
        self.after -= int(amount)
        if self.after <= 0:
            raise Interrupted

    def describe(self, text: str) -> None:
        del text


class Counts(SilentReporter):
    """Counts the steps of training that it hears of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        del name, total
        yield self  # type: ignore[misc]  # it has what a step has

    def advance(self, amount: float = 1.0) -> None:
        self.count += amount

    def describe(self, text: str) -> None:
        del text


def bytes_of(model: Any, folder: Path) -> dict[str, bytes]:
    model.save(folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fit(context: FitContext = CONTEXT, *, held: bool = True, **params: Any) -> NeuralModel:
    valid = make_view("binary", make_table("binary", 60, seed=3)) if held else None
    model = family("mlp").fit(make_view("binary"), valid, {**SMALL, **params}, context)
    assert isinstance(model, NeuralModel)
    return model


def test_an_interrupted_fit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after 13 of 23 steps and started again: some of them left, and the same bytes."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = fit(replace(CONTEXT, folder=tmp_path / "whole"), patience=3)
    with pytest.raises(Interrupted):
        fit(replace(CONTEXT, folder=tmp_path / "cut", reporter=Stops(13)), patience=3)
    heard = Counts()
    again = fit(replace(CONTEXT, folder=tmp_path / "cut", reporter=heard), patience=3)
    assert heard.count <= 16
    assert bytes_of(again, tmp_path / "b") == bytes_of(whole, tmp_path / "a")


def test_a_fit_that_is_asked_to_stop_gives_no_half_trained_model(tmp_path: Path) -> None:
    """SIGTERM saves and ends the fit with a sentence; started again it ends as if uninterrupted."""

    class Asks(Counts):
        def advance(self, amount: float = 1.0) -> None:
            super().advance(amount)
            if self.count == 9:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = fit(replace(CONTEXT, folder=tmp_path / "whole"), patience=3)
    context = replace(CONTEXT, folder=tmp_path / "asked")
    with pytest.raises(EnvironmentProblem, match=r"asked to stop after step 1\d of 23.*goes on"):
        fit(replace(context, reporter=Asks()), patience=3)
    again = fit(context, patience=3)
    assert bytes_of(again, tmp_path / "b") == bytes_of(whole, tmp_path / "a")


def test_checkpoints_of_other_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that holds the checkpoints of another split is not gone on from."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    context = replace(CONTEXT, folder=tmp_path, digests={"split": "split-a"})
    with pytest.raises(Interrupted):
        fit(replace(context, reporter=Stops(13)))
    with pytest.raises(SettingsError, match="split"):
        fit(replace(context, digests={"split": "split-b"}))


def test_the_best_evaluation_is_kept() -> None:
    """With held-out rows the saved network scores what the best of its evaluations scored."""
    model = fit(epochs=40.0, patience=5, learning_rate=0.05, average=0.0)
    table = make_table("binary", 60, seed=3)
    view = make_view("binary", table)
    predicted = model.predict(table.drop("target"))
    loss = -np.log(predicted[np.arange(60), view.target]).mean()
    history = model.history["history"]
    assert loss == pytest.approx(min(entry["loss"] for entry in history), abs=1e-5)
    best = min(history, key=lambda entry: entry["loss"])
    assert model.params["epochs"] == pytest.approx(best["step"] * 32 / 120)


def test_without_held_out_rows_nothing_is_evaluated() -> None:
    """A final fit takes all its passes and has no history."""
    model = fit(held=False, patience=5)
    assert model.history["history"] == []
    assert model.params["epochs"] == pytest.approx(6.0, abs=32 / 120)


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """Without dropout, copies on two processes give one process's predictions to 1e-5."""
    params = {"dropout": 0.0, "patience": 3}
    one = fit(**params)
    context = replace(CONTEXT, folder=tmp_path / "two", processes=2)
    two = fit(context, **params)
    table = make_table("binary", 50, seed=8).drop("target")
    np.testing.assert_allclose(two.predict(table), one.predict(table), atol=1e-5)
    assert two.params["epochs"] == one.params["epochs"]
    assert two.log.count("\n") > 3


@pytest.mark.slow
def test_shards_train_what_one_trains(tmp_path: Path) -> None:
    """The same for shards of the network on two processes."""
    params = {"dropout": 0.0, "patience": 3}
    one = fit(**params)
    context = replace(CONTEXT, folder=tmp_path / "two", processes=2, layout="fsdp")
    table = make_table("binary", 50, seed=8).drop("target")
    np.testing.assert_allclose(fit(context, **params).predict(table), one.predict(table), atol=1e-5)


def test_a_job_survives_its_folder(tmp_path: Path) -> None:
    """What a job's folder says is what was put into it."""
    kind = family("mlp")
    encoder, _, job = kind._job(make_view("binary"), None, SMALL, CONTEXT)  # type: ignore[attr-defined]
    job.save(tmp_path, encoder)
    read = Job.read(tmp_path)
    assert (read.family, read.params, read.num_steps) == (job.family, job.params, job.num_steps)
    assert read.num_steps == 23  # 120 rows, 6 passes, batches of 32
    np.testing.assert_array_equal(read.train.target, job.train.target)
    for name, array in job.train.arrays.items():
        np.testing.assert_array_equal(read.train.arrays[name], array)
    assert read.valid is None


def test_who_waits_for_others_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps in the other processes' log are told as progress."""
    monkeypatch.setattr("loopline.models.job._FOLLOW_SECONDS", 0.01)
    log = tmp_path / "training.jsonl"
    heard = Counts()
    with followed(log, 10, heard):
        log.write_text(
            '{"kind": "train", "step": 4, "loss": 1.0, "samples_per_second": 10.0}\n{"kind": "ev',
            encoding="utf-8",
        )
        began = time.monotonic()
        while heard.count < 4 and time.monotonic() - began < 10:
            time.sleep(0.01)
    assert heard.count == 4


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """A release whose weights were exchanged says so when it is asked."""
    fit().save(tmp_path / "a")
    fit(width=8).save(tmp_path / "b")
    (tmp_path / "b/weights.safetensors").rename(tmp_path / "a/weights.safetensors")
    model = family("mlp").load(tmp_path / "a")
    with pytest.raises(IntegrityError, match=r"does not hold the weights of this mlp network"):
        model.predict(make_table("binary", 3).drop("target"))


def test_a_missing_package_is_named_with_its_extra() -> None:
    """Without the package the sentence says what to install."""
    with pytest.raises(EnvironmentProblem, match=r"needs no_such_package.*loopline\[neural\]"):
        require_packages("mlp", ("torch", "no_such_package"))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "must be a number > 0"),
        ("compile", "yes", 'must be true or false or "whole"'),
        ("precision", "fp8", 'must be "auto" or'),
        ("micro_batch", "all", '"auto"'),
        ("width", 0, "must be an integer >= 1"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, value: Any, rule: str) -> None:
    """Each parameter's rule stands in the sentence."""
    with pytest.raises(SettingsError, match=rule):
        fit(**{name: value})


def test_a_prepared_fit_takes_no_step() -> None:
    """What the advice looks at stands at step 0 and keeps no folder."""
    run = family("mlp").prepared(make_view("binary"), SMALL, CONTEXT)  # type: ignore[attr-defined]
    assert run.state.step == 0
    assert run.checkpoints is None
    assert run.num_steps == 23


def test_boards_get_the_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that is named hears losses by step, under the fit's name, and is closed."""
    heard: list[Any] = []

    class Board:
        def __init__(self, folder: Path) -> None:
            heard.append(("folder", folder))

        def open(self, step: int) -> None:
            heard.append(("open", step))

        def write(self, values: dict[str, float], step: int) -> None:
            heard.append((step, sorted(values)))

        def close(self) -> None:
            heard.append(("close", None))

    monkeypatch.setattr(training, "TensorBoard", Board)
    context = replace(CONTEXT, folder=tmp_path / "f123", boards={"tensorboard": str(tmp_path)})
    fit(context)
    assert heard[:2] == [("folder", tmp_path / "f123"), ("open", 0)]
    assert heard[-1] == ("close", None)
    steps = [step for step, _ in heard[2:-1]]
    assert steps == sorted(steps)
    assert any("train/loss" in names for _, names in heard[2:-1])


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_written_whole_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """A process that ends badly after the result was written is told of; before it, is an error."""

    def ends_badly(command: Any, processes: int) -> None:
        del processes
        if whole:
            train_job(Path(command[2]), Layout.open("single"))
        raise EnvironmentProblem("Process 1 of 2 was killed by SIGABRT.")

    monkeypatch.setattr("loopline.engine.tools.launch.launch", ends_badly)
    heard = SilentReporter()
    context = replace(CONTEXT, folder=tmp_path, processes=2, reporter=heard)
    if not whole:
        with pytest.raises(EnvironmentProblem, match="SIGABRT"):
            fit(context)
        return
    table = make_table("binary", 20, seed=8).drop("target")
    np.testing.assert_array_equal(fit(context).predict(table), fit().predict(table))
    assert any("SIGABRT" in note for note in heard.notes)
