"""Rows with several labels, from a table to a release that answers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from tests.line.processes import finish, kill_at_stage, outcome, run, start

import loopline
from loopline.data.schema import Column, Schema
from loopline.data.snapshot import open_snapshot
from loopline.data.writers import write_table
from loopline.errors import DataError, InputError, LeakError, SettingsError
from loopline.line.context import LineContext
from loopline.line.proposal_labels import propose_table
from loopline.line.race import candidates
from loopline.line.reproduce import reproduce
from loopline.line.scoring import evaluate_release
from loopline.line.spec import make_spec
from loopline.line.verify import verify
from loopline.progress import SilentReporter
from loopline.release.exports.forms import export
from loopline.splits.spec import TEST, TRAIN
from loopline.splits.split import Split

LABELS = ("left", "low", "odd")
QUICK: dict[str, Any] = {"task": "multilabel", "progress": False}
ONE_PENALTY = [{"linear": {"penalty": 1.0}}]


def table_of(rows: int = 240, seed: int = 0) -> pl.DataFrame:
    """Two numbers and a category that say which labels a row has; one row in four has none."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=rows), rng.normal(size=rows)
    kind = rng.choice(["a", "b", "c"], rows)
    has = np.column_stack([x < -0.3, z < -0.2, (kind == "a") & (rng.random(rows) < 0.8)])
    has ^= rng.random(has.shape) < 0.03
    tags = [[label for label, there in zip(LABELS, row, strict=True) if there] for row in has]
    return pl.DataFrame({"x": x, "z": z, "kind": kind, "tags": tags})


def separated(frame: pl.DataFrame) -> pl.DataFrame:
    """The labels as texts with bars between them, the bar alone where there are none."""
    texts = [" | ".join(cell) or "|" for cell in frame["tags"].to_list()]
    return frame.with_columns(tags=pl.Series(texts))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the line keeps what it made."""
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def result(store: Path) -> loopline.Result:
    """A finished run of the families that suit by themselves."""
    return loopline.fit(table_of(), "tags", store=store, settings={"name": "tags"}, **QUICK)


def test_a_line_over_labels(result: loopline.Result) -> None:
    """The logistic regressions beat the shares, and every standard metric has its interval."""
    summary = result.summary
    assert (summary["task"], summary["metric"], summary["chosen"]) == (
        "multilabel",
        "log_loss",
        "linear",
    )
    names = [entry["name"] for entry in summary["candidates"]]
    assert names == ["baseline", "linear", "lightgbm"]
    for name in ("log_loss", "micro_f1", "macro_f1", "jaccard", "subset_accuracy", "macro_auc"):
        score = summary["test"][name]
        assert score["low"] <= score["value"] <= score["high"]
    assert summary["test"]["micro_f1"]["value"] > 0.8


def test_the_threshold_is_set_out_of_fold(result: loopline.Result) -> None:
    """One threshold for all labels, and its micro F1 is that of the out-of-fold predictions."""
    threshold = result.summary["threshold"]
    assert threshold["goal"] == "micro_f1"
    out_of_fold = result.summary["out_of_fold"]["micro_f1"]["value"]
    assert threshold["achieved"]["value"] == out_of_fold
    assert result.release.threshold == threshold["value"]


def test_what_the_audit_does_not_look_for_is_told(result: loopline.Result) -> None:
    """The findings of every such run say that leaks were not looked for; an audit alone refuses."""
    told = [finding["sentence"] for finding in result.summary["audit"]]
    assert any("columns that give the answer away" in sentence for sentence in told)
    with pytest.raises(SettingsError, match="not at `task: multilabel`"):
        loopline.audit_table(table_of(60), "tags", task="multilabel", progress=False)


def test_a_table_and_a_row_are_told_alike(result: loopline.Result) -> None:
    """`prediction` lists the labels at or above the threshold; some rows have none."""
    release, new = result.release, table_of(60, seed=5).drop("tags")
    table = release.predict(new)
    assert table.columns == ["prediction", *(f"probability_{label}" for label in LABELS)]
    told = table["prediction"].to_list()
    assert [] in told
    for row, labels, cells in zip(new.to_dicts(), told, table.to_dicts(), strict=True):
        one = release.predict_one(row)
        assert one["prediction"] == labels
        for label in LABELS:
            chance = cells[f"probability_{label}"]
            assert one["probability"][label] == pytest.approx(chance, abs=1e-12)
            assert (label in labels) == (chance >= release.threshold)


def test_probabilities_need_not_sum_to_one(result: loopline.Result) -> None:
    """Each label is there or not, whatever the others are."""
    raw, _ = result.release.probabilities(table_of(100, seed=6).drop("tags"))
    sums = raw.sum(axis=1)
    assert sums.min() < 0.5
    assert sums.max() > 1.5


def test_new_rows_are_scored_and_known_ones_refused(result: loopline.Result, store: Path) -> None:
    """Lists are read as in training; rows that training has seen make no score."""
    with loopline.open_project(store) as project:
        found = evaluate_release(project, result.release, table_of(200, seed=7))
        assert found.metrics["macro_auc"].value > 0.9
        with pytest.raises(LeakError, match="stand among the rows"):
            evaluate_release(project, result.release, table_of())


def test_an_unknown_label_is_refused(result: loopline.Result) -> None:
    """A label that training never saw has no probability, so it cannot be scored."""
    rows = table_of(20, seed=8).with_columns(tags=pl.Series([["left"]] * 19 + [["new"]]))
    with pytest.raises(DataError, match=r"label 'new' \(row 19\).*not one of the 3"):
        result.release.evaluate(rows)


def test_the_run_is_reproduced_and_verified(result: loopline.Result, store: Path) -> None:
    """The same bytes again, though the settings named no candidates."""
    with loopline.open_project(store) as project:
        found = reproduce(project, result.release.id, SilentReporter())
        assert found.verdict == "byte-identical"
        verify(project, result.release.id)
        assert project.promote(result.release.id).release == result.release.id


def test_every_label_keeps_its_share_on_both_sides(result: loopline.Result, store: Path) -> None:
    """Dealt out by each row's rarest label, the test side has about the shares of training."""
    with loopline.open_project(store) as project:
        lineage = result.release.facts["lineage"]
        split = Split.load(project.store.get(lineage["split"]).path())
        rows = open_snapshot(project.store, lineage["snapshot"])
        side = split.align(np.asarray(rows.rows())).side
        cells = rows.frame()["tags_labels"]
    for label in LABELS:
        has = cells.str.contains(f'"{label}"', literal=True).to_numpy()
        assert abs(has[side == TEST].mean() - has[side == TRAIN].mean()) < 0.03, label


def test_what_does_not_fit_refuses(result: loopline.Result, tmp_path: Path) -> None:
    """Exports say in a sentence that they do not do this task."""
    with pytest.raises(InputError, match="no form of export holds that yet"):
        export(result.release, "folder", tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"models": ["mlp"]}, "mlp family cannot do a multilabel task"),
        ({"settings": {"calibration": "isotonic"}}, "`calibration` has no effect"),
        ({"settings": {"class_weight": "balanced"}}, "`class_weight` has no effect"),
        ({"settings": {"positive": "left"}}, "`positive` has no effect"),
        ({"settings": {"objective": {"threshold": "f1"}}}, "`objective.threshold` has no effect"),
        ({"settings": {"objective": {"cost": {"false_positive": 1, "false_negative": 2}}}}, "cost"),
        ({"settings": {"audit": "strict"}}, "`audit: strict` cannot keep its word"),
        ({"metric": "accuracy"}, "its metrics are log_loss, micro_f1"),
        ({"columns": {"kind": {"separator": "|"}}}, "`columns.kind.separator` has no effect"),
        ({"columns": {"tags": {"type": "text"}}}, "`columns.tags.type` has no effect"),
        ({"columns": {"tags": {"role": "feature"}}}, "is feature, but the column is the `target`"),
    ],
)
def test_settings_without_effect_are_errors(
    more: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """What this task has not is refused before anything is fitted."""
    settings = {**more.pop("settings", {})}
    if "columns" in more:
        settings["columns"] = more.pop("columns")
    if "metric" in more:
        settings["objective"] = {"metric": more.pop("metric")}
    with pytest.raises(SettingsError, match=told):
        loopline.fit(table_of(60), "tags", store=tmp_path, settings=settings, **more, **QUICK)


def test_a_separator_needs_the_task(tmp_path: Path) -> None:
    """A separator where one label a row is predicted has no effect."""
    settings = {"columns": {"tags": {"separator": "|"}}}
    with pytest.raises(SettingsError, match="separator` has no effect"):
        loopline.fit(
            separated(table_of(60)), "tags", task="multiclass", settings=settings, store=tmp_path,
            progress=False,
        )  # fmt: skip


def test_texts_with_a_separator_give_the_same_scores(
    result: loopline.Result, tmp_path: Path
) -> None:
    """How the labels were written changes nothing of what is learned."""
    found = loopline.fit(
        separated(table_of()), "tags", store=tmp_path,
        settings={"columns": {"tags": {"separator": "|"}}, "split": {"folds": 2}},
        models=ONE_PENALTY, **QUICK,
    )  # fmt: skip
    assert found.release.classes == result.release.classes
    scored = found.release.evaluate(separated(table_of(100, seed=9)))
    assert scored.metrics["micro_f1"].value > 0.8


def test_a_label_of_test_rows_only_is_told(tmp_path: Path) -> None:
    """An official test file may have a label that no training row has: named, not hidden."""
    rows = table_of(120)
    test = table_of(40, seed=3).with_columns(
        tags=pl.Series([["left", "late"]] * 4 + table_of(40, seed=3)["tags"].to_list()[4:])
    )
    rows.write_parquet(tmp_path / "train.parquet")
    test.write_parquet(tmp_path / "test.parquet")
    found = loopline.fit(
        tmp_path / "train.parquet", "tags", test=tmp_path / "test.parquet", models=ONE_PENALTY,
        settings={"split": {"folds": 2}}, store=tmp_path / "store", **QUICK,
    )  # fmt: skip
    assert "No training row has 'late'" in found.summary["split"]["reason"]
    one = found.release.predict_one({"x": 0.0, "z": 0.0, "kind": "b"})
    assert one["probability"]["late"] < 0.05


def test_copies_with_other_labels_share_a_side(tmp_path: Path) -> None:
    """Rows of equal features stay together, whatever their labels are."""
    rows = table_of(120)
    copies = rows[:40].with_columns(tags=pl.Series([["odd"]] * 40))
    found = loopline.fit(
        pl.concat([rows, copies]), "tags", models=["baseline"], store=tmp_path,
        settings={"split": {"folds": 2}}, **QUICK,
    )  # fmt: skip
    claims = found.release.facts["certificate"]["claims"]
    features = [claim for claim in claims if claim["structure"] == "features"]
    assert features
    assert all(claim["straddling"] == 0 for claim in features)


def test_a_search_goes_over_labels(tmp_path: Path) -> None:
    """Trials of the penalty are scored, and the best enters the race."""
    found = loopline.fit(
        table_of(160), "tags", store=tmp_path, models=["linear"],
        settings={"search": {"trials": 3}, "split": {"folds": 2}}, **QUICK,
    )  # fmt: skip
    assert found.summary["search"]
    assert found.summary["chosen"] == "linear"


def test_init_writes_a_line_that_runs(tmp_path: Path) -> None:
    """Lists make the task, with the reason as a comment, and the file runs as it is."""
    table_of(120).write_parquet(tmp_path / "rows.parquet")
    file = tmp_path / "loopline.yaml"
    proposal = propose_table(
        str(tmp_path / "rows.parquet"), "tags", test=None, file=file, reporter=SilentReporter()
    )
    assert "task: multilabel  # the cells are lists" in proposal.text
    file.write_text(proposal.text)
    settings = yaml.safe_load(proposal.text)
    assert settings["target"] == "tags"
    assert list(settings["models"]) == ["baseline", "linear", "lightgbm"]
    overrides = ["models=[linear]", "split.folds=2"]
    found = loopline.run(file, overrides=overrides, progress=False)
    assert found.summary["chosen"] == "linear"


def test_init_sees_a_separator_beyond_doubt(tmp_path: Path) -> None:
    """Bars between labels that come again are named with the reason; other texts stay classes."""
    separated(table_of(120)).write_csv(tmp_path / "rows.csv")
    ask: Callable[..., Any] = propose_table
    settings: dict[str, Any] = {
        "test": None, "file": tmp_path / "a.yaml", "reporter": SilentReporter(),
    }  # fmt: skip
    proposal = ask(str(tmp_path / "rows.csv"), "tags", **settings)
    assert "task: multilabel  # '|' stands in" in proposal.text
    assert "tags: {separator: '|'}" in proposal.text
    assert "task: multiclass" in ask(str(tmp_path / "rows.csv"), "kind", **settings).text


@pytest.mark.slow
def test_a_killed_line_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """`kill -9` between the folds and before the final fit, then again: the same digests."""
    outcomes = []
    for name in ("quiet", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        table_of(160).write_parquet(folder / "rows.parquet")
        (folder / "loopline.yaml").write_text(
            "data: {source: rows.parquet}\ntarget: tags\ntask: multilabel\nthreads: 1\n"
            "split: {folds: 3}\nmodels: [linear, lightgbm: {rounds: 30}]\n"
        )
        if name == "killed":
            for stage in ("fit the candidates", "compare and choose"):
                kill_at_stage(start(folder, "run", "--json"), stage)
        outcomes.append(outcome(run(folder)))
        code, out, err = finish(start(folder, "verify", "latest"))
        assert code == 0, out + err
    assert outcomes[0] == outcomes[1]


def test_a_csv_of_predictions_holds_lists_as_json(
    result: loopline.Result, store: Path, tmp_path: Path
) -> None:
    """A cell of CSV is one value, so a list of labels is written as JSON."""
    predicted = result.release.predict(table_of(30, seed=4).drop("tags"))
    write_table(predicted, tmp_path / "out.csv")
    again = pl.read_csv(tmp_path / "out.csv")["prediction"]
    assert [json.loads(cell) for cell in again] == predicted["prediction"].to_list()


def test_what_suited_the_rows_is_kept(tmp_path: Path) -> None:
    """Settings that name no candidates are kept with those that suited, to be run again alike."""
    spec = make_spec({"data": {"source": "rows.parquet"}, "target": "tags", "task": "multilabel"})
    columns = (
        Column("picture", "image"),
        Column("tags", "other", "ignore"),
        Column("tags_labels", "category", "target"),
    )
    with loopline.open_project(tmp_path / "store") as project:
        context = LineContext(spec, tmp_path, project.store, project.ledger, SilentReporter())
        found = candidates(context, Schema(columns, "multilabel", LABELS))
    assert [entry.name for entry in found] == ["baseline"]
    kept = make_spec(spec.portable() | context.settled)
    assert [entry.name for entry in kept.models] == ["baseline"]
