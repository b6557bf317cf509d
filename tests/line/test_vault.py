"""Test labels have a budget: one model is free, each further one needs a person's reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import loopline
from loopline.cli.app import app
from loopline.line.face import project_of
from loopline.line.project import open_project
from loopline.line.reproduce import reproduce
from loopline.line.runner import Outcome, run_line
from loopline.line.spec import make_spec
from loopline.line.verify import verify
from loopline.progress import SilentReporter
from loopline.splits.vault import inflation

REASON = "the choice is made"


@pytest.fixture
def start(table: pl.DataFrame, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a line on the same rows in the same store, with settings that differ."""

    def run(open_vault: str | None = "", **settings: Any) -> Outcome:
        given = {"models": ["linear"], **settings}
        data = {"data": {"source": "memory"}, "target": "bought", "store": str(tmp_path), **given}
        spec = make_spec(data)
        with project_of(spec, tmp_path) as project:
            return run_line(project, spec, tmp_path, SilentReporter(), table, open_vault=open_vault)

    return run


def openings(folder: Path) -> list[dict[str, Any]]:
    with open_project(folder) as project:
        return [event.data for event in project.ledger.events(kind="vault.opened")]


def test_second_model_is_compared_out_of_fold_only(
    start: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Another candidate on the same test rows gets everything but a test score, and is told why."""
    first = start()
    second = start(class_weight="balanced")
    assert first.summary["vault"]["opened"]
    assert first.summary["test"]
    facts = second.summary
    assert facts["out_of_fold"]
    assert facts["release"]
    assert facts["test"] == {}
    assert facts["vault"]["sentence"] == (
        f"No test score: the {facts['split']['num_test']} test rows were not opened again. The "
        f"labels of these test rows were opened before: by {first.run} (evaluate the chosen model "
        "linear). Compare by the out-of-fold scores; when the choice is made, score this one with "
        '`--open-vault "reason"`.'
    )
    assert len(openings(tmp_path)) == 1
    with open_project(tmp_path) as project:
        proof = " ".join(verify(project, facts["release"]).sentences)
    assert "test predictions are made again bit by bit" in proof


def test_a_reason_opens_and_is_counted_with_its_bound(
    start: Callable[..., Outcome], tmp_path: Path
) -> None:
    """With a reason the closed run is scored; count, reason and bound are in the summary."""
    start()
    closed = start(class_weight="balanced")
    opened = start(REASON, class_weight="balanced")
    assert closed.run == opened.run
    assert not opened.found
    facts = opened.summary["vault"]
    score = opened.summary["test"]["auc"]
    error = score["standard_error"]
    assert error == pytest.approx((score["high"] - score["low"]) / (2 * 1.959964), rel=0.1)
    assert (facts["opened"], facts["looks"], facts["openings"]) == (True, 2, 2)
    assert facts["bound"] == pytest.approx(inflation(error, 2))
    assert facts["reasons"][1] == REASON
    assert f"for 2 models ({REASON}); the best of 2 looks can be" in facts["sentence"]
    assert [entry.get("justification") for entry in openings(tmp_path)] == [None, REASON]
    found = [entry for entry in opened.summary["stages"] if not entry["found"]]
    assert [entry["stage"] for entry in found] == ["evaluate", "release"]
    again = start(class_weight="balanced")
    assert again.found
    assert again.summary["test"] == opened.summary["test"]


def test_the_same_predictions_are_the_same_look(
    start: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Another ranking metric that leaves the model and threshold as they are needs no reason."""
    first = start()
    second = start(objective={"metric": "log_loss"})
    assert second.summary["chosen"] == first.summary["chosen"]
    assert second.summary["test"]["auc"] == first.summary["test"]["auc"]
    assert second.summary["vault"]["looks"] == 1
    assert len(openings(tmp_path)) == 2


def test_another_threshold_is_another_look(start: Callable[..., Outcome]) -> None:
    """Whoever tunes the decision threshold by test scores meets the budget."""
    start()
    second = start(objective={"cost": {"false_positive": 9, "false_negative": 1}})
    assert second.summary["threshold"] is not None
    assert second.summary["test"] == {}


def test_a_resumed_run_needs_no_reason(start: Callable[..., Outcome], tmp_path: Path) -> None:
    """A run whose evaluation was lost is scored again on its own look, unasked."""
    first = start()
    with open_project(tmp_path) as project:
        project.store.collect([first.summary["digests"]["split"]], grace_seconds=0.0)
    again = start()
    assert not again.found
    assert again.summary["test"] == first.summary["test"]
    assert again.summary["vault"]["looks"] == 1
    assert len(openings(tmp_path)) == 2


def test_looks_can_be_budgeted(start: Callable[..., Outcome]) -> None:
    """`vault: {looks: 2}` lets a second model be scored, with the bound, and stops at the third."""
    vault = {"looks": 2}
    start(vault=vault)
    second = start(vault=vault, class_weight="balanced")
    third = start(vault=vault, models=["lightgbm"])
    assert second.summary["vault"]["looks"] == 2
    assert "the best of 2 looks can be" in second.summary["vault"]["sentence"]
    assert third.summary["test"] == {}


def test_other_test_rows_count_anew(start: Callable[..., Outcome]) -> None:
    """Another seed draws other test rows, whose labels nobody has seen."""
    start()
    other = start(seed=7)
    assert other.summary["test"]
    assert other.summary["vault"]["looks"] == 1


def test_reproducing_a_closed_release_opens_nothing(
    start: Callable[..., Outcome], tmp_path: Path
) -> None:
    """`loopline reproduce` makes a release without a test score again, byte by byte."""
    start()
    closed = start(class_weight="balanced")
    with open_project(tmp_path) as project:
        found = reproduce(project, closed.release, SilentReporter())
    assert found.verdict == "byte-identical"


def test_no_test_side_is_told_as_before(start: Callable[..., Outcome]) -> None:
    """Without test rows there is no vault to open."""
    outcome = start(split={"test": 0})
    assert outcome.summary["vault"]["sentence"].startswith("There is no test side")
    assert outcome.summary["vault"]["looks"] == 0


def test_command_asks_for_a_reason_and_takes_it(
    write_line: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`loopline run`: exit code 0 without a test score, and one with `--open-vault "reason"`."""
    file = write_line()
    monkeypatch.chdir(file.parent)
    runner = CliRunner()
    variant = ["run", "--set", "class_weight=balanced"]
    assert runner.invoke(app, ["run"]).exit_code == 0
    second = runner.invoke(app, variant)
    assert second.exit_code == 0, second.output
    assert 'score this one with `--open-vault "reason"`' in second.output
    refused = runner.invoke(app, [*variant, "--open-vault", " "])
    assert refused.exit_code != 0
    third = runner.invoke(app, [*variant, "--open-vault", REASON])
    assert third.exit_code == 0, third.output
    assert f"for 2 models ({REASON})" in " ".join(third.output.split())


def test_closed_result_shows_the_out_of_fold_score(table: pl.DataFrame, tmp_path: Path) -> None:
    """In Python a result without a test score prints its out-of-fold score."""
    settings: dict[str, Any] = {"models": "linear", "store": tmp_path, "progress": False}
    loopline.fit(table, "bought", **settings)
    second = loopline.fit(table, "bought", settings={"class_weight": "balanced"}, **settings)
    assert "out-of-fold auc" in repr(second)
    assert second.evaluate() == {}
    assert "not opened again" in second.report().read_text(encoding="utf-8")


def test_bringing_the_test_labels_along_counts_as_a_look(
    table: pl.DataFrame, tmp_path: Path
) -> None:
    """`evaluate` on the test rows of a release that was not scored on them is written down."""
    rows = table.with_row_index("number")
    part = pl.when(pl.col("number") % 5 == 0).then(pl.lit("test")).otherwise(pl.lit("train"))
    rows = rows.with_columns(part.alias("part")).drop("number")
    settings = {
        "split": {"method": "predefined", "column": "part"},
        "columns": {"part": {"role": "ignore"}},
    }
    given: dict[str, Any] = {"models": "linear", "store": tmp_path, "progress": False}
    loopline.fit(rows, "bought", settings=settings, **given)
    closed = loopline.fit(
        rows, "bought", settings={**settings, "class_weight": "balanced"}, **given
    )
    assert closed.summary["test"] == {}
    found = closed.evaluate(rows.filter(pl.col("part") == "test"))
    assert found["auc"]["value"] > 0.5
    assert [entry["reason"][:8] for entry in openings(tmp_path)] == ["evaluate", "evaluate"]
    assert openings(tmp_path)[1]["look"] == closed.summary["release"]


def test_the_same_line_needs_no_reason_where_its_numbers_round_otherwise(
    start: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of a library the same line on the same rows is scored as before."""
    from loopline.line import finish

    first = start()
    with open_project(tmp_path) as project:
        project.store.collect([first.summary["digests"]["split"]], grace_seconds=0.0)
    whole = finish.load_model

    class Rounded:
        def __init__(self, artifact: Any) -> None:
            self._model = whole(artifact)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._model, name)

        def predict_view(self, view: Any) -> Any:
            return self._model.predict_view(view).astype("float32").astype("float64")

    monkeypatch.setattr(finish, "load_model", Rounded)
    again = start()
    assert again.summary["test"]["auc"]["value"] == pytest.approx(
        first.summary["test"]["auc"]["value"]
    )
    assert again.summary["vault"]["looks"] == 1
    assert openings(tmp_path)[0]["look"] != openings(tmp_path)[1]["look"]
