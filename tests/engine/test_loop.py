"""The loop in one process: resume, order of events, bad steps, memory, SIGTERM."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.nets import Net, Points, gap, net, weights

from loopline.engine.events import Average, EarlyStop, Event, SpikeStop
from loopline.engine.layout import Layout
from loopline.engine.loop import rows_of, train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.precision import Precision
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.weights import save_weights
from loopline.errors import DataError, EnvironmentProblem, IntegrityError, SettingsError
from loopline.progress import SilentReporter


def _settings(**others: Any) -> TrainSettings:
    return TrainSettings(**({"batch_size": 6, "steps": 20, "save_every": 4} | others))


def _events() -> list[Event]:
    return [Average(0.9), EarlyStop(patience=99), SpikeStop(after=5)]


class StopAt(Event):
    """Ends a run after a step, as a caller would."""

    name = "stop_at"

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, run: Run) -> None:
        if run.state.step == self.step:
            run.stop("told to")


class Seen(Event):
    """Writes down which rows each step computed, and its loss."""

    name = "seen"

    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}
        self.calls: list[str] = []

    def before_step(self, run: Run) -> None:
        self.rows[run.state.step] = rows_of(run, run.state.step)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "bf16_pure"])
def test_resume_equals_no_interruption(tmp_path: Path, precision: str, optimizer: str) -> None:
    """Stopped at step 7 and gone on: weights, average, counters, history and rows are bit-equal."""
    settings = _settings(precision=precision, optimizer=OptimizerSettings(optimizer, lr=1e-2))

    def go(folder: Path, *more: Event) -> tuple[Run, list[Event]]:
        events = _events()
        run = prepare(Points(), net(dropout=0.2), settings, folder=folder, events=[*events, *more])
        return train(run), events

    seen, first, second = Seen(), Seen(), Seen()
    whole, kept = go(tmp_path / "whole", seen)
    stopped, _ = go(tmp_path / "cut", StopAt(7), first)
    assert stopped.stopped == "told to"
    assert stopped.state.step == 7
    run, again = go(tmp_path / "cut", second)
    assert gap(weights(whole.model), weights(run.model)) == 0.0
    assert run.state == whole.state
    assert run.history == whole.history
    assert first.rows | second.rows == seen.rows
    assert sorted(second.rows) == list(range(7, 20))
    for one, other in zip(kept, again, strict=True):
        tensors = other.tensors()
        assert all(torch.equal(value, tensors[name]) for name, value in one.tensors().items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_weight_that_no_step_moves_does_not_stand_in_the_way(
    tmp_path: Path, optimizer: str
) -> None:
    """A layer that the network holds and never calls, such as an encoder's pooler."""
    settings = _settings(optimizer=OptimizerSettings(optimizer, lr=1e-2))

    def made() -> Net:
        network = net()
        network.pooler = torch.nn.Linear(6, 6)
        return network

    whole = train(prepare(Points(), made(), settings))
    train(prepare(Points(), made(), settings, folder=tmp_path, events=[StopAt(7)]))
    run = train(prepare(Points(), made(), settings, folder=tmp_path))
    assert gap(weights(whole.model), weights(run.model)) == 0.0


def test_a_killed_run_loses_no_more_than_the_last_interval(tmp_path: Path) -> None:
    """A process that dies between saves goes on from the last one and ends with equal weights."""

    class Die(Event):
        name = "die"

        def after_step(self, run: Run) -> None:
            if run.state.step == 11:
                raise KeyboardInterrupt

    whole = train(prepare(Points(), net(), _settings()))
    with pytest.raises(KeyboardInterrupt):
        train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[Die()]))
    seen = Seen()
    run = train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[seen]))
    assert min(seen.rows) in (4, 8)
    assert gap(weights(whole.model), weights(run.model)) == 0.0


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path: Path) -> None:
    """The run says what it refused, goes on from the one before and ends with equal weights."""
    train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[StopAt(10)]))
    file = tmp_path / "step-000000010" / "rank-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    ears, seen = SilentReporter(), Seen()
    run = prepare(Points(), net(), _settings(), folder=tmp_path, reporter=ears, events=[seen])
    train(run)
    assert "is damaged: its bytes are not those written" in ears.notes[0]
    assert min(seen.rows) == 8
    assert gap(weights(run.model), weights(train(prepare(Points(), net(), _settings())).model)) == 0


def test_other_settings_and_other_data_are_refused(tmp_path: Path) -> None:
    """A checkpoint of another run is named with what differs; how a batch is cut may differ."""
    made = {"data": "a" * 64}
    train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[StopAt(4)], digests=made))
    with pytest.raises(SettingsError, match=r"with other settings .* Use another folder"):
        train(prepare(Points(), net(), _settings(seed=1), folder=tmp_path, digests=made))
    with pytest.raises(
        SettingsError, match=r"with other data .then aaaaaaaaaaaa, now bbbbbbbbbbbb"
    ):
        train(prepare(Points(), net(), _settings(), folder=tmp_path, digests={"data": "b" * 64}))
    other = _settings(micro_batch=2, save_every=5, keep=1, threads=1)
    assert train(prepare(Points(), net(), other, folder=tmp_path, digests=made)).state.step == 20


def test_another_model_is_refused(tmp_path: Path) -> None:
    """A checkpoint with other shapes names the tensor."""
    train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[StopAt(4)]))
    with pytest.raises(IntegrityError, match=r"head.* has the shape \(3"):
        train(prepare(Points(), Net(classes=5), _settings(), folder=tmp_path))


class Poisoned(Points):
    """One row is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.values[13] = np.nan


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rows(tmp_path: Path) -> None:
    """The rows of the step are named, and the weights are those before it."""
    run = prepare(Poisoned(), net(), _settings(steps=8), folder=tmp_path)
    bad = next(step for step in range(9) if 13 in run.order.batch(step)[0])
    rows = ", ".join(str(row) for row in run.order.batch(bad)[0])
    with pytest.raises(DataError, match=rf"Step {bad} gave a loss of nan .* Its rows are {rows}\."):
        train(run)
    before = prepare(Poisoned(), net(), _settings(steps=8), events=[StopAt(bad)])
    if bad:
        train(before)
    assert gap(weights(run.model), weights(before.model)) == 0.0


class Leap(Points):
    """From step 12 on the targets of a batch make no sense."""

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        loss, weight = super().loss(model, batch)
        return (loss * 30 if 13 in batch["rows"] else loss), weight


def test_a_leap_of_the_loss_stops_the_run_before_the_update() -> None:
    """A loss thirty times the usual is refused, its rows are named, and no weight has moved."""
    settings = _settings(batch_size=2, shuffle=False)
    run = prepare(Leap(), net(), settings, events=[SpikeStop(after=4)])
    with pytest.raises(DataError, match=r"Step 6 gave .* Its rows are 12, 13\."):
        train(run)
    before = train(prepare(Leap(), net(), settings, events=[StopAt(6)]))
    assert gap(weights(run.model), weights(before.model)) == 0.0


def test_no_leap_is_seen_in_an_ordinary_run() -> None:
    """Losses as they are do not stop a run."""
    assert (
        train(prepare(Points(), net(), _settings(), events=[SpikeStop(after=3)])).state.step == 20
    )


def test_sigterm_saves_and_ends_in_order(tmp_path: Path) -> None:
    """After SIGTERM the run ends by itself within two steps, with a checkpoint of its last step."""

    class Term(Event):
        name = "term"

        def before_step(self, run: Run) -> None:
            if run.state.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    run = train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[Term()]))
    assert run.stopped == "asked to stop"
    assert 6 <= run.state.step <= 7
    assert (tmp_path / "latest").read_text() == f"step-{run.state.step:09d}"
    assert signal.getsignal(signal.SIGTERM) is handler
    again = train(prepare(Points(), net(), _settings(), folder=tmp_path))
    assert (
        gap(weights(again.model), weights(train(prepare(Points(), net(), _settings())).model)) == 0
    )


def test_the_order_of_events(tmp_path: Path) -> None:
    """Two epochs of two steps with evaluation and saving at their ends: every call in its place."""

    class Diary(Event):
        name = "diary"

        def __init__(self) -> None:
            self.calls: list[str] = []

        def __getattribute__(self, name: str) -> Any:
            if name in MOMENTS:
                object.__getattribute__(self, "calls").append(name)
            return object.__getattribute__(self, name)

    step = ["before_step", "after_backward", "after_step"]
    rated = ["evaluating", "evaluated"]
    diary = Diary()
    settings = TrainSettings(batch_size=10, epochs=2)
    train(prepare(Points(20), net(), settings, folder=tmp_path, events=[diary]))
    assert diary.calls == [
        "started", *step, *step, "after_epoch", *rated, "saved",
        *step, *step, "after_epoch", *rated, "saved", "finished",
    ]  # fmt: skip


MOMENTS = {
    "started", "before_step", "after_backward", "after_step", "after_epoch", "evaluating",
    "evaluated", "saved", "finished",
}  # fmt: skip


def test_the_host_hears_of_a_step_one_step_later_unless_it_saves() -> None:
    """After step k it knows of step k - 1; counters are whole wherever something is saved."""
    heard: list[int | None] = []

    class Ear(Event):
        name = "ear"

        def after_step(self, run: Run) -> None:
            heard.append(None if run.packet is None else run.packet.step)

    run = prepare(Points(30), net(), _settings(steps=5, save_every=100), events=[Ear()])
    train(run)
    assert heard == [None, 0, 1, 2, 3]
    assert run.packet is not None
    assert run.packet.step == 4


class Scores(Points):
    """Evaluations that are told in advance."""

    def __init__(self, *losses: float) -> None:
        super().__init__()
        self.losses = list(losses)

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        del predictions
        return self.losses.pop(0), {}


def test_early_stop_keeps_the_best(tmp_path: Path) -> None:
    """Best at the second evaluation, two worse ones (one no number): stopped, the best is kept."""
    run = prepare(
        Scores(3.0, 1.0, float("nan"), 2.0, 0.0),
        net(),
        _settings(evaluate_every=2),
        folder=tmp_path,
        events=[EarlyStop(patience=2)],
    )
    train(run)
    assert run.stopped == "no better evaluation in 2"
    assert (run.state.step, run.state.best_step, run.state.best) == (8, 4, 1.0)
    assert run.checkpoints is not None
    best = run.checkpoints.best()
    assert best is not None
    assert best.facts["state"]["step"] == 4
    assert best.facts["state"]["weight"] == sum(
        float(run.task.weights[run.order.batch(step)[0]].sum())  # type: ignore[attr-defined]
        for step in range(4)
    )


def test_a_run_that_was_stopped_early_does_not_go_on_when_started_again(tmp_path: Path) -> None:
    """The same command after an early stop gives the same result, without a step."""
    task = Scores(1.0, 2.0, 3.0)
    events = [EarlyStop(patience=2)]
    settings = _settings(evaluate_every=2)
    first = train(prepare(task, net(), settings, folder=tmp_path, events=events))
    seen = Seen()
    again = train(prepare(task, net(), settings, folder=tmp_path, events=[*events, seen]))
    assert seen.rows == {}
    assert again.stopped == first.stopped == "no better evaluation in 2"
    assert again.state == first.state
    assert gap(weights(again.model), weights(first.model)) == 0.0


def test_the_average_by_hand() -> None:
    """With a decay of a half: each step's weights count half as much as the next one's."""
    average = Average(0.5)
    trail: list[torch.Tensor] = []

    class Trail(Event):
        name = "trail"

        def before_step(self, run: Run) -> None:
            trail.append(run.model.head.bias.detach().clone())

    run = train(prepare(Points(), net(), _settings(steps=3), events=[Trail(), average]))
    trail.append(run.model.head.bias.detach().clone())
    wanted = trail[0] / 8 + trail[1] / 8 + trail[2] / 4 + trail[3] / 2
    assert torch.allclose(average.tensors()["head.bias"], wanted, atol=1e-7)


def test_evaluations_are_made_with_the_average() -> None:
    """The evaluation sees the average; training goes on with the weights as they were."""
    plain = train(prepare(Points(), net(), _settings()))
    run = prepare(Points(), net(), _settings(), events=[Average(0.99)])
    train(run)
    assert gap(weights(run.model), weights(plain.model)) == 0.0
    assert run.history[-1]["loss"] > plain.history[-1]["loss"] + 0.01


class Limited(Points):
    """Runs out of memory where a micro-batch has too many rows."""

    limited = True

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        if len(batch["rows"]) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().loss(model, batch)


def test_the_micro_batch_is_halved_until_it_fits() -> None:
    """16 rows are too many, so are 8; with 4 the run gives what a run with room gives."""
    ears = SilentReporter()
    run = prepare(Limited(5), net(dropout=0.0), _settings(batch_size=16), reporter=ears)
    train(run)
    assert run.micro == 4
    assert ears.notes == [
        "Micro-batches of 16, 8 rows do not fit memory; using 4. The batch of a step stays as it "
        "is."
    ]
    plain = train(prepare(Points(), net(), _settings(batch_size=16)))
    assert gap(weights(run.model), weights(plain.model)) < 1e-6


def test_where_memory_is_tight_evaluation_takes_no_more_rows() -> None:
    """After halving to four rows no evaluation batch is larger, and the scores are the same."""
    seen: list[int] = []

    class Counting(Limited):
        def predict(self, model: Any, batch: Any) -> Any:
            seen.append(len(batch["rows"]))
            return super().predict(model, batch)

    run = train(prepare(Counting(5), net(), _settings(batch_size=16)))
    plain = train(prepare(Points(), net(), _settings(batch_size=16)))
    assert set(seen) == {4, 1}
    assert run.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-5)


def test_when_not_one_row_fits_it_is_told_what_was_tried() -> None:
    """The message lists the sizes tried and the ways out."""
    with pytest.raises(
        EnvironmentProblem, match=r"of 6, 3, 2, 1 rows were tried .*recompute: true"
    ):
        train(prepare(Limited(0), net(), _settings()))


def test_running_out_of_memory_later_says_what_would_fit() -> None:
    """A micro-batch that was set by hand and does not fit names the half of it."""
    with pytest.raises(
        EnvironmentProblem, match=r"with micro-batches of 4 rows. Set `micro_batch: 2`"
    ):
        train(prepare(Limited(2), net(), _settings(micro_batch=4)))


def test_recomputing_blocks_changes_no_number() -> None:
    """With activations computed again, dropout included, the weights are bit-equal."""
    plain = train(prepare(Points(), net(dropout=0.3), _settings()))
    again = train(prepare(Points(), net(dropout=0.3), _settings(recompute=True)))
    assert gap(weights(plain.model), weights(again.model)) == 0.0


def test_stochastic_depth_skips_rows_as_often_as_told() -> None:
    """Of three layers the last is skipped for 60 % of the rows, the first for 20 %.

    What a layer adds to a row that it is not skipped for is divided by the share that is kept.
    """
    torch.manual_seed(0)
    rows = torch.randn(4_000, 4)
    model = net()
    ears = [Watched(layer) for layer in model.layers]
    run = prepare(Points(), model, _settings(stochastic_depth=0.6, steps=1))
    run.model.train()
    run.model(rows)
    kept = [(ear.before.detach(), ear.after.detach()) for ear in ears]
    run.model.eval()
    assert torch.equal(run.model(rows), net()(rows))
    for layer, (before, after), share in zip(model.layers, kept, (0.8, 0.6, 0.4), strict=True):
        moved = (after - before).abs().sum(1) > 0
        assert float(moved.float().mean()) == pytest.approx(share, abs=0.03)
        adds = layer(before[moved]).detach() - before[moved]
        assert torch.allclose((after - before)[moved], adds / share, atol=1e-5)


class Watched:
    """Remembers what goes into a layer and what comes out."""

    def __init__(self, layer: torch.nn.Module) -> None:
        layer.register_forward_hook(self)

    def __call__(self, layer: Any, given: Any, result: Any) -> None:
        self.before, self.after = given[0], result


def test_dropout_is_set_from_outside_and_resumes_bit_equal(tmp_path: Path) -> None:
    """Both settings reach the model, change what is learned, and resume exactly."""
    settings = _settings(dropout=0.3, stochastic_depth=0.5)
    whole = train(prepare(Points(), net(), settings, folder=tmp_path / "whole"))
    assert {part.p for part in whole.model.modules() if isinstance(part, torch.nn.Dropout)} == {0.3}
    train(prepare(Points(), net(), settings, folder=tmp_path / "cut", events=[StopAt(7)]))
    again = train(prepare(Points(), net(), settings, folder=tmp_path / "cut"))
    assert gap(weights(whole.model), weights(again.model)) == 0.0
    assert (
        gap(weights(whole.model), weights(train(prepare(Points(), net(), _settings())).model)) > 0
    )


def test_settings_without_effect_are_refused() -> None:
    """Dropout without such layers; stochastic depth without repeated ones or with other shapes."""
    plain = torch.nn.Linear(4, 3)
    with pytest.raises(SettingsError, match="this model has no dropout layer"):
        prepare(Points(), plain, _settings(dropout=0.1))
    with pytest.raises(SettingsError, match="`stochastic_depth` works on repeated layers"):
        prepare(Points(), plain, _settings(stochastic_depth=0.1))
    shrinking = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
    run = prepare(Points(), torch.nn.Sequential(shrinking), _settings(stochastic_depth=0.1))
    with pytest.raises(SettingsError, match=r"keep their input's shape; Linear makes \(6, 8\) of"):
        train(run)


def test_weights_that_two_layers_share_are_written_under_both_names(tmp_path: Path) -> None:
    """The file fills the same model again."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 3))
    model[1].weight = model[0].weight
    run = train(prepare(Points(), model, _settings(steps=2)))
    save_weights(run, tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(found["0.weight"], found["1.weight"])
    assert found.keys() == model.state_dict().keys()


def test_running_means_are_averaged_too() -> None:
    """With a decay of a half a batch norm's running mean is averaged like a weight."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    average = Average(0.5)
    trail: list[torch.Tensor] = []

    class Trail(Event):
        name = "trail"

        def before_step(self, run: Run) -> None:
            trail.append(run.model[1].running_mean.clone())

    run = train(prepare(Points(valid=0), model, _settings(steps=2), events=[Trail(), average]))
    last = run.model[1].running_mean
    wanted = trail[0] / 4 + trail[1] / 4 + last / 2
    assert torch.allclose(average.tensors()["1.running_mean"], wanted, atol=1e-7)
    assert not torch.allclose(last, wanted, atol=1e-3)


def test_an_average_after_early_stopping_is_refused() -> None:
    """The best checkpoint would hold the two exchanged."""
    with pytest.raises(SettingsError, match="`Average` before `EarlyStop`"):
        train(prepare(Points(), net(), _settings(), events=[EarlyStop(), Average()]))


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """The last step is one to save at as well: one checkpoint is written, not two."""
    saved: list[int] = []

    class Ear(Event):
        name = "ear"

        def saved(self, run: Run) -> None:
            saved.append(run.state.step)

    train(prepare(Points(), net(), _settings(), folder=tmp_path, events=[StopAt(8), Ear()]))
    assert saved == [4, 8]


def test_recomputing_without_blocks_is_refused() -> None:
    """A setting that would do nothing is an error."""
    with pytest.raises(SettingsError, match="`recompute` works on repeated layers"):
        prepare(Points(), torch.nn.Linear(4, 3), _settings(recompute=True))


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    """Two processes cannot share one row."""
    with pytest.raises(SettingsError, match="`batch_size` is 1 and there are 2 processes"):
        prepare(
            Points(), net(), _settings(batch_size=1),
            layout=Layout("ddp", 0, 2, torch.device("cpu")),
        )  # fmt: skip


def test_settings_that_make_no_sense_are_told_together() -> None:
    """Each wrong setting has its sentence."""
    with pytest.raises(SettingsError, match="4 problems"):
        TrainSettings(epochs=1.0, steps=3, batch_size=0, micro_batch=0, keep=0)
    with pytest.raises(SettingsError, match="4 problems"):
        TrainSettings(steps=3, save_every=-1, save_seconds=-1.0, dropout=1.0, stochastic_depth=-0.1)


def test_one_graph_is_refused_for_several_processes():
    """`compile: whole` beside other processes is refused with what to use instead."""
    place = Layout("ddp", 0, 2, torch.device("cpu"))
    with pytest.raises(SettingsError, match=r"`compile: whole` is for one process.*compile: true"):
        place.place(torch.nn.Linear(2, 2), Precision("fp32", "cpu"), compiled="whole")
    with pytest.raises(SettingsError, match=r"`compile` is true, false or \"whole\", got 'all'"):
        TrainSettings(steps=1, compile="all")
