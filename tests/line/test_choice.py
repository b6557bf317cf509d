"""The choice in the line: limits that are measured, floors that are promised, blends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.line.conftest import make_table

import loopline
from loopline.errors import DataError, EnvironmentProblem, LimitError, SettingsError
from loopline.line import measure, measuring
from loopline.line.reproduce import reproduce
from loopline.line.verify import verify
from loopline.models.families import family
from loopline.progress import SilentReporter

TWO = ["linear", {"lightgbm": {"rounds": 60, "num_leaves": 4}}]
"""A trend and a wave: lines miss the wave, so few leaves the steep trend, both together neither."""


@pytest.fixture(scope="module")
def wave() -> pl.DataFrame:
    """A table that trees read better than lines, with 600 rows."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(-3, 3, 600), rng.uniform(-3, 3, 600)
    y = np.sin(2 * x) * z + x + 0.3 * rng.normal(size=600)
    return pl.DataFrame({"x": x, "z": z, "y": y})


def trend_and_wave() -> pl.DataFrame:
    """400 rows that a line and few leaves each read in part."""
    rng = np.random.default_rng(3)
    x, z = rng.uniform(-3, 3, 400), rng.uniform(-3, 3, 400)
    y = 2 * z + 2 * np.sin(2 * x) + rng.normal(size=400)
    return pl.DataFrame({"x": x, "z": z, "y": y, "day": np.arange(400)})


@pytest.fixture(autouse=True)
def shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of a tenth of a second: what is tested is what becomes of them."""
    monkeypatch.setattr(measure, "LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(measure, "SECONDS", 0.1)


def fit(frame: pl.DataFrame, target: str, store: Path, **settings: object) -> loopline.Result:
    known: dict[str, object] = {
        "split": {"folds": 3},
        "models": ["linear", {"lightgbm": {"rounds": 60}}],
    }
    return loopline.fit(frame, target, settings=known | settings, store=store, progress=False)


def test_a_limit_on_size_takes_the_smaller_model(wave: pl.DataFrame, tmp_path: Path) -> None:
    """Trees are better and larger than allowed: the linear model is chosen, and both are told."""
    free = fit(wave, "y", tmp_path)
    assert free.summary["chosen"] == "lightgbm"
    tight = fit(wave, "y", tmp_path, constraints={"size": "20kB"})
    assert tight.summary["chosen"] == "linear"
    assert "lightgbm scored" in tight.summary["why"]
    assert "was set aside: size is above 20.0 kB" in tight.summary["why"]
    sizes = {entry["name"]: entry["measured"]["size"] for entry in tight.summary["candidates"]}
    assert sizes["linear"] < 20_000 < sizes["lightgbm"]
    assert tight.release.measured["size_bytes"] <= 20_000


def test_no_model_within_the_limits_tells_what_was_measured(
    wave: pl.DataFrame, tmp_path: Path
) -> None:
    """An impossible limit is an error with every candidate's score and measurements; no release."""
    with pytest.raises(LimitError) as told:
        fit(wave, "y", tmp_path, constraints={"latency_p99": "1us", "memory": "1MB"})
    text = str(told.value)
    assert "latency_p99 is above 1 µs; memory is above 1.0 MB" in text
    assert "Measured here:" in text
    with loopline.open_project(tmp_path) as project:
        assert project.releases() == []


@pytest.mark.parametrize(("times", "noisy"), [(100.0, True), (2.0, False)])
def test_a_busy_machine_is_named_where_slow_calls_break_the_limit(
    wave: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: float,
    noisy: bool,
) -> None:
    """Even the quickest model's slow calls take a hundred times its usual ones: that is no model's
    fault, and the error says so."""
    truly = measure._measured

    def delayed(prepared, model, facts, seconds, way):
        values = truly(prepared, model, facts, seconds, way)
        values["latency_p99"] = times * values["latency_p50"]
        return values

    monkeypatch.setattr(measure, "_measured", delayed)
    with pytest.raises(LimitError) as told:
        fit(wave, "y", tmp_path, models=["linear"], constraints={"latency_p99": "1us"})
    assert ("other work on this machine" in str(told.value)) is noisy


def test_a_final_model_that_breaks_a_limit_is_not_released(
    wave: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folds' model keeps the limit and the final one does not: the next is chosen instead."""
    truly = measure._measured

    def larger(prepared, model, facts, seconds, way):
        values = truly(prepared, model, facts, seconds, way)
        if model.kind == "model" and facts["family"] == "lightgbm":
            values["size"] = 10**9
        return values

    monkeypatch.setattr(measure, "_measured", larger)
    found = fit(wave, "y", tmp_path, constraints={"size": "100MB"})
    assert found.summary["chosen"] == "linear"
    assert "size is above 100.0 MB as fitted on all rows" in found.summary["why"]


def test_energy_needs_a_meter(
    wave: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine tells no energy, a limit on it is refused before anything is read."""
    monkeypatch.setattr(measure, "energy_meters", list)
    with pytest.raises(EnvironmentProblem, match="needs a machine that tells how much energy"):
        fit(wave, "y", tmp_path, constraints={"energy": "5J"})
    with loopline.open_project(tmp_path) as project:
        assert project.store.ids() == []


def test_energy_is_the_difference_of_the_meters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packages of 1 J and 2 J are 3 J; the counters are in microjoules."""
    files = [tmp_path / "a", tmp_path / "b"]
    for file, text in zip(files, ("1000000\n", "2000000\n"), strict=True):
        file.write_text(text)
    monkeypatch.setattr(measuring, "energy_meters", lambda: files)
    assert measuring._joules() == 3.0


def test_measured_values_are_no_part_of_any_id(wave: pl.DataFrame, tmp_path: Path) -> None:
    """Two stores, two measurements, the same release and choice; the speeds stand beside them."""
    runs = [
        fit(wave, "y", tmp_path / name, constraints={"latency_p99": "10s"}) for name in ("a", "b")
    ]
    first, second = (run.summary for run in runs)
    assert first["release"] == second["release"]
    assert first["digests"]["choice"] == second["digests"]["choice"]
    speeds = [run["measured"]["predict_one_p50_microseconds"] for run in (first, second)]
    assert all(speed > 0 for speed in speeds)


def test_a_promised_recall_is_kept_on_new_rows(tmp_path: Path) -> None:
    """The threshold of `require: {recall: '>= 0.9'}` has that recall on 20,000 new rows."""
    result = fit(
        make_table(1200),
        "bought",
        tmp_path,
        models=["linear"],
        objective={"require": {"recall": ">= 0.9"}},
    )
    promise = result.summary["threshold"]["promise"]
    assert promise["verdict"] == "yes"
    assert "holds on new rows with 95% confidence" in result.summary["threshold"]["sentence"]
    new = make_table(20_000, seed=9)
    found = result.predict(new.drop("bought"))["prediction"]
    assert ((found == "yes") & (new["bought"] == "yes")).sum() / (new["bought"] == "yes").sum() >= (
        0.9
    )


def test_a_floor_that_cannot_be_promised_is_an_error(tmp_path: Path) -> None:
    """99 % precision from 240 rows: the error tells how far they get and what would settle it."""
    with pytest.raises(LimitError) as told:
        fit(make_table(240), "bought", tmp_path, objective={"require": {"precision": 0.99}})
    assert "precision >= 0.99" in str(told.value)
    assert "labelled rows would settle it" in str(told.value)


def test_best_releases_a_blend_that_answers_as_it_scored(
    wave: pl.DataFrame, tmp_path: Path
) -> None:
    """A blend is chosen, loads from its files, answers one row as it answers many, and verifies."""
    both, known = trend_and_wave(), {"day": {"role": "id"}}
    result = fit(both, "y", tmp_path, select="best", models=TWO, columns=known)
    assert result.summary["chosen"] in ("blend", "stack")
    table = {row["candidate"]: row for row in result.leaderboard().to_dicts()}
    assert table["stack"]["value"] < min(table["linear"]["value"], table["lightgbm"]["value"])
    rows = wave.head(20).drop("y")
    many = result.predict(rows)["prediction"].to_list()
    one = [result.release.predict_one(row)["prediction"] for row in rows.to_dicts()]
    assert one == pytest.approx(many, abs=1e-9)
    copy = result.release.save(tmp_path / "copy")
    assert loopline.load_release(copy).predict(rows)["prediction"].to_list() == many
    with loopline.open_project(tmp_path) as project:
        verify(project, result.release.id)
        told = reproduce(project, result.release.id, SilentReporter())
        assert told.verdict == "byte-identical"
    assert fit(both, "y", tmp_path, select="best", models=TWO, columns=known).run == result.run


@pytest.mark.parametrize(("role", "models"), [("time", {1}), ("id", {1, 3})])
def test_a_blend_has_models_of_all_rows_and_without_time_those_of_the_folds(
    tmp_path: Path, role: str, models: set[int]
) -> None:
    """In time a member is one model of all rows, else also the mean of its folds' three models."""
    frame = trend_and_wave()
    result = fit(frame, "y", tmp_path, columns={"day": {"role": role}}, select="best", models=TWO)
    assert result.summary["chosen"] in ("blend", "stack")
    facts = json.loads((result.release.artifact.path("model") / "blend.json").read_text())
    assert {len(member["folders"]) for member in facts["members"]} == models


def test_a_blend_needs_two_models(tmp_path: Path) -> None:
    """With one model `select: best` has nothing to blend, and takes it."""
    result = fit(make_table(240), "bought", tmp_path, select="best", models=["linear"])
    assert [entry["name"] for entry in result.summary["candidates"]] == ["baseline", "linear"]
    assert result.summary["chosen"] == "linear"


def test_the_best_single_model_is_released_with_those_of_its_folds(tmp_path: Path) -> None:
    """Its answer is half that of its folds' mean and half that of one model of all rows."""
    table = make_table(240)
    best = fit(table, "bought", tmp_path, select="best", models=["linear"])
    alone = fit(table, "bought", tmp_path, models=["linear"])
    folder = best.release.artifact.path("model")
    facts = json.loads((folder / "blend.json").read_text(encoding="utf-8"))
    names = {member["name"]: member["folders"] for member in facts["members"]}
    assert [len(each) for each in names.values()] == [1, 3]
    rows = table.head(30).drop("bought")
    folds = [family("linear").load(folder / name) for name in names["linear of the folds"]]
    of_folds = np.mean([model.predict(rows)[:, 1] for model in folds], axis=0)
    expected = (of_folds + alone.predict(rows)["probability_yes"].to_numpy()) / 2
    assert best.predict(rows)["probability_yes"].to_numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [{"select": "simplest"}, {"select": "best", "constraints": {"latency_p99": "10s"}}],
)
def test_one_model_is_released_for_the_simplest_and_under_limits(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Limits were held against one model, and the simplest is one."""
    result = fit(make_table(240), "bought", tmp_path, models=["linear"], **settings)
    assert result.release.facts["family"] == "linear"


def test_measuring_answers_in_a_process_of_its_own(wave: pl.DataFrame, tmp_path: Path) -> None:
    """The numbers come from a process that holds one release: its memory is told, and no line's."""
    result = fit(wave, "y", tmp_path, constraints={"latency_p99": "1s"})
    entry = next(e for e in result.summary["candidates"] if e["name"] == "lightgbm")
    told = entry["measured"]
    assert 0 < told["latency_p50"] <= told["latency_p95"] <= told["latency_p99"]
    assert 5e7 < told["memory"] < 5e8
    assert told["path"] == "http"
    assert told["num_calls"] >= 5 * measuring.FEWEST_CALLS
    assert json.dumps(replace(measure.Measured.from_dict(told)).to_dict())


def with_amounts(num_rows: int, seed: int = 0) -> pl.DataFrame:
    """The table with what a miss costs in each row: a few customers are worth a hundred others."""
    amount = np.random.default_rng(seed).choice([1.0, 100.0], num_rows, p=[0.9, 0.1])
    return make_table(num_rows, seed).with_columns(amount=pl.Series(amount))


def test_each_row_s_own_price_sets_the_threshold(tmp_path: Path) -> None:
    """Prices from a column: the threshold is told by them, and the cost is scored on the test."""
    result = fit(
        with_amounts(500),
        "bought",
        tmp_path,
        models=["linear"],
        objective={"cost": {"false_positive": 2, "false_negative": "amount"}},
    )
    assert "by each row's own prices (2,amount)" in result.summary["threshold"]["sentence"]
    told = result.summary["test"]["cost=2,amount"]
    assert told["low"] <= told["value"] <= told["high"]
    frame = with_amounts(500)
    flagged = result.predict(frame.drop("bought"))["prediction"] == "yes"
    truth = frame["bought"] == "yes"
    lost = 2.0 * (flagged & ~truth) + frame["amount"] * (~flagged & truth)
    assert told["value"] == pytest.approx(lost.mean(), rel=1.0)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("amuont", "names the column 'amuont', which the data does not have"),
        ("city", "names the column 'city', which holds no numbers but category"),
    ],
)
def test_a_price_column_that_is_none_is_refused(tmp_path: Path, column: str, told: str) -> None:
    """A column that is not there, or holds no numbers, is told before anything is fitted."""
    with pytest.raises(SettingsError, match=told):
        fit(
            make_table(240),
            "bought",
            tmp_path,
            objective={"cost": {"false_positive": 1, "false_negative": column}},
        )


def test_a_missing_price_is_refused_before_fits(tmp_path: Path) -> None:
    """A cell without a price stops the run with the row, and no candidate was fitted."""
    frame = with_amounts(240).with_columns(
        amount=pl.when(pl.int_range(240) == 7).then(None).otherwise(pl.col("amount"))
    )
    settings = {"cost": {"false_positive": 1, "false_negative": "amount"}}
    with pytest.raises(DataError, match="The price of a miss must be a number"):
        fit(frame, "bought", tmp_path, objective=settings)
    with loopline.open_project(tmp_path) as project:
        assert project.store.ids("foldfit") == []
