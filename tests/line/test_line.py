"""The whole line on small tables: found again, continued, refused, traced, reproduced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tests.line.conftest import make_table

import loopline
from loopline.errors import LeakError, NotFoundError, SettingsError, SplitError
from loopline.line.reproduce import reproduce
from loopline.line.verify import verify
from loopline.progress import SilentReporter

Write = Callable[..., Path]


def test_second_run_does_nothing(write_line: Write) -> None:
    """The same line on the same data is found, not computed: no new event but none of stages."""
    file = write_line()
    first = loopline.run(file, progress=False)
    with loopline.open_project(file.parent / ".loopline") as project:
        before = len(project.ledger.events())
        again = loopline.run(file, progress=False)
        assert len(project.ledger.events()) == before
    assert again.summary == first.summary


def test_other_metric_reads_and_splits_nothing_again(write_line: Write) -> None:
    """Changing the metric finds source, plan and split."""
    file = write_line()
    loopline.run(file, progress=False)
    other = loopline.run(file, overrides=["objective.metric=log_loss"], progress=False)
    found = {entry["stage"]: entry["found"] for entry in other.summary["stages"]}
    assert found["ingest"]
    assert found["plan"]
    assert found["split"]


def test_moved_project_gives_the_same_release(write_line: Write, tmp_path: Path) -> None:
    """The release's id does not depend on where files and stores are."""
    file = write_line()
    here = loopline.run(file, progress=False)
    there = loopline.run(file, overrides=[f"store={tmp_path / 'other'}"], progress=False)
    assert here.summary["release"] == there.summary["release"]


def test_row_order_changes_no_digest_of_data(table: pl.DataFrame, tmp_path: Path) -> None:
    """Shuffled rows are the same snapshot, found in the same store."""
    settings = {"models": "baseline", "store": tmp_path, "progress": False}
    first = loopline.fit(table, "bought", **settings)
    second = loopline.fit(table.sample(fraction=1.0, shuffle=True, seed=3), "bought", **settings)
    assert first.summary["digests"]["snapshot"] == second.summary["digests"]["snapshot"]
    assert first.summary["digests"]["split"] == second.summary["digests"]["split"]


def test_pandas_polars_arrow_and_path_agree(table: pl.DataFrame, tmp_path: Path) -> None:
    """All kinds of table give the same release."""
    path = tmp_path / "table.parquet"
    table.write_parquet(path)
    releases = {
        loopline.fit(
            data, "bought", models="linear", store=tmp_path / "store", progress=False,
            settings={"name": "same"},
        ).summary["digests"]["model"]
        for data in (table, table.to_pandas(), table.to_arrow(), path)
    }  # fmt: skip
    assert len(releases) == 1


def test_predictions_come_back_in_the_kind_that_went_in(finished: loopline.Result) -> None:
    """pandas in, pandas out, with its index; polars and paths give polars."""
    new = make_table(12, seed=5).drop("bought")
    frame = new.to_pandas().set_index(pd.Index(range(100, 112)))
    answer = finished.predict(frame)
    assert isinstance(answer, pd.DataFrame)
    assert list(answer.index) == list(frame.index)
    assert isinstance(finished.predict(new), pl.DataFrame)


def test_prediction_columns(finished: loopline.Result) -> None:
    """A prediction and a probability for each class, summing to 1, in row order."""
    answer = finished.predict(make_table(12, seed=5).drop("bought"))
    assert answer.columns == ["prediction", "probability_no", "probability_yes"]
    assert np.allclose(answer["probability_no"] + answer["probability_yes"], 1.0)


def test_predict_one_equals_predict(finished: loopline.Result) -> None:
    """One row gives what the table gives."""
    new = make_table(12, seed=5).drop("bought")
    together = finished.predict(new)
    for number, row in enumerate(new.to_dicts()):
        alone = finished.release.predict_one(row)
        assert alone["prediction"] == together["prediction"][number]
        assert alone["probability"]["yes"] == pytest.approx(
            together["probability_yes"][number], abs=1e-12
        )


def test_leaderboard_marks_the_chosen(finished: loopline.Result) -> None:
    """The leaderboard has every candidate with its interval and one chosen."""
    board = finished.leaderboard()
    assert set(board["candidate"]) == {"baseline", "linear"}
    assert board["chosen"].sum() == 1
    assert (board["low"] <= board["value"]).all()


def test_vault_is_opened_once_a_run(table: pl.DataFrame, tmp_path: Path) -> None:
    """Each run that scores a new release counts one opening of the same test rows."""
    settings = {"models": "linear", "store": tmp_path, "progress": False}
    first = loopline.fit(table, "bought", **settings)
    second = loopline.fit(table, "bought", metric="log_loss", **settings)
    loopline.fit(table, "bought", metric="log_loss", **settings)
    assert (first.summary["vault_openings"], second.summary["vault_openings"]) == (1, 2)


def test_training_rows_are_refused_in_evaluation(
    finished: loopline.Result, table: pl.DataFrame
) -> None:
    """Scoring on rows that were trained on is refused and counted."""
    with pytest.raises(LeakError, match=r"192 of 240 rows stand among the rows"):
        finished.evaluate(table)


def test_new_rows_are_scored(finished: loopline.Result) -> None:
    """New labelled rows get metrics with intervals."""
    found = finished.evaluate(make_table(100, seed=9))
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]


def test_column_that_copies_the_answer_is_refused(tmp_path: Path) -> None:
    """A feature that equals the target in other words stops the line and says how to go on."""
    frame = make_table().with_columns(
        outcome=pl.when(pl.col("bought") == "yes").then(pl.lit("paid")).otherwise(pl.lit("left"))
    )
    with pytest.raises(LeakError, match=r"outcome: \{role: ignore\}"):
        loopline.fit(frame, "bought", models="linear", store=tmp_path, progress=False)


def test_parts_that_add_up_to_the_answer_are_refused(tmp_path: Path) -> None:
    """casual + registered = cnt is found."""
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 90, 300), rng.integers(0, 90, 300), rng.normal(size=300)
    frame = pl.DataFrame({"casual": a, "registered": b, "wind": c, "cnt": a + b})
    with pytest.raises(LeakError, match="casual"):
        loopline.fit(frame, "cnt", models="linear", store=tmp_path, progress=False)


def test_allowed_leak_goes_on(tmp_path: Path) -> None:
    """A person may insist, by name."""
    frame = make_table().with_columns(copy=pl.col("bought"))
    result = loopline.fit(
        frame, "bought", models="linear", store=tmp_path, progress=False,
        settings={"allow_leaks": ["copy"]},
    )  # fmt: skip
    assert result.summary["test"]["auc"]["value"] > 0.99


def test_idle_allow_leaks_is_an_error(table: pl.DataFrame, tmp_path: Path) -> None:
    """Allowing a leak that is none has no effect and is told."""
    with pytest.raises(SettingsError, match="not suspected of a leak"):
        loopline.fit(
            table, "bought", models="linear", store=tmp_path, progress=False,
            settings={"allow_leaks": ["x"]},
        )  # fmt: skip


def test_nothing_beats_the_baseline_on_noise(tmp_path: Path) -> None:
    """On labels without information the baseline is chosen."""
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"a": rng.normal(size=200), "y": rng.integers(0, 2, 200)})
    result = loopline.fit(frame, "y", models=["linear"], store=tmp_path, progress=False)
    assert result.summary["chosen"] == "baseline"


def test_groups_are_kept_whole(tmp_path: Path) -> None:
    """With a group column no group stands on both sides, and the reason says so."""
    frame = make_table().with_columns(customer=pl.int_range(240) // 6)
    result = loopline.fit(
        frame, "bought", group="customer", models="linear", store=tmp_path, progress=False
    )
    assert "customer" in result.summary["split"]["reason"]
    assert "no customer" in result.release.facts["certificate"]["sentence"]


def test_group_that_cannot_be_honoured_is_an_error(tmp_path: Path) -> None:
    """One single group cannot be divided."""
    frame = make_table().with_columns(customer=pl.lit("one"))
    with pytest.raises((SplitError, loopline.InputError)):
        loopline.fit(frame, "bought", group="customer", store=tmp_path, progress=False)


def test_same_thing_said_twice_differently(table: pl.DataFrame, tmp_path: Path) -> None:
    """An argument that contradicts `settings` is an error."""
    with pytest.raises(SettingsError, match="`seed` is given twice"):
        loopline.fit(table, "bought", seed=1, settings={"seed": 2}, store=tmp_path)


def test_lineage_reaches_the_source(finished: loopline.Result) -> None:
    """From the release the chain leads to the snapshot and the source."""
    kinds = {node.kind for node in finished.lineage().ancestors}
    assert kinds == {
        "release", "measure", "model", "evaluation", "choice", "candidate", "foldfit",
        "split", "audit", "review", "replay", "structure", "plan", "snapshot", "source",
    }  # fmt: skip


def test_verify_proves_bytes_rows_split_and_predictions(finished: loopline.Result) -> None:
    """A whole release proves itself."""
    told = " ".join(verify(finished._project, finished.summary["release"]).sentences)
    assert "test predictions are made again bit by bit" in told
    assert "Proved: no two rows with equal features" in told


def test_reproduce_is_byte_identical(finished: loopline.Result) -> None:
    """The same line run again elsewhere gives the same bytes at every stage."""
    found = reproduce(finished._project, finished.summary["release"], SilentReporter())
    assert found.verdict == "byte-identical"


def test_report_is_one_file_without_outside_links(finished: loopline.Result) -> None:
    """The report loads nothing from elsewhere and escapes what users wrote."""
    text = finished.report().read_text(encoding="utf-8")
    head = text.split("<script>")[0]
    assert "src=" not in head
    assert "href=" not in head
    assert "Can this be believed?" in head


def test_report_escapes_names(tmp_path: Path) -> None:
    """A column named like a script is text, not a script."""
    frame = make_table().rename({"x": "<script>alert(1)</script>"})
    result = loopline.fit(frame, "bought", models="linear", store=tmp_path, progress=False)
    text = result.report().read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text


def test_official_test_file_is_the_test_side(tmp_path: Path) -> None:
    """`test` names the test rows, and training rows that stand there too are left out."""
    train, test = make_table(200, seed=1), make_table(60, seed=2)
    train = pl.concat([train, test.head(5)])
    train.write_csv(tmp_path / "train.csv")
    test.write_csv(tmp_path / "test.csv")
    result = loopline.fit(
        tmp_path / "train.csv", "bought", test=tmp_path / "test.csv", models="linear",
        store=tmp_path / "store", progress=False,
    )  # fmt: skip
    assert result.summary["num_test_rows"] == 60
    assert result.summary["split"]["num_train"] == 200


def test_cost_sets_the_threshold_out_of_fold(table: pl.DataFrame, tmp_path: Path) -> None:
    """Dear misses give a lower threshold than dear alarms, and cost is reported."""

    def threshold(false_positive: int, false_negative: int) -> float:
        result = loopline.fit(
            table, "bought", models="linear", store=tmp_path, progress=False,
            settings={"vault": {"looks": 2}, "objective": {"cost": {
                "false_positive": false_positive, "false_negative": false_negative}}},
        )  # fmt: skip
        assert f"cost={false_positive},{false_negative}" in result.summary["test"]
        return float(result.summary["threshold"]["value"])

    assert threshold(1, 20) < threshold(20, 1)


def test_calibration_is_part_of_the_release(table: pl.DataFrame, tmp_path: Path) -> None:
    """Isotonic calibration is fitted out of fold and applied when predicting."""
    result = loopline.fit(
        table, "bought", models="linear", store=tmp_path, progress=False,
        settings={"calibration": "temperature"},
    )  # fmt: skip
    assert result.release.facts["calibration"]["kind"] == "temperature"
    new = make_table(5, seed=8).drop("bought")
    one = result.release.predict_one(new.to_dicts()[0])
    assert one["probability"]["yes"] == pytest.approx(result.predict(new)["probability_yes"][0])


def test_budget_leaves_out_later_candidates(table: pl.DataFrame, tmp_path: Path) -> None:
    """A budget that is used up starts no further candidate and says so."""
    result = loopline.fit(
        table, "bought", models=["baseline", "linear"], budget_seconds=1e-6,
        store=tmp_path, progress=False,
    )  # fmt: skip
    assert result.summary["skipped"] == ["linear"]
    assert result.summary["chosen"] == "baseline"


def test_unknown_run_names_what_there_is(finished: loopline.Result) -> None:
    """A wrong id is told with the way to the right one."""
    with pytest.raises(NotFoundError, match="There is no run 'run-zzz'"):
        finished._project.run("run-zzz")


def test_release_copied_elsewhere_predicts(finished: loopline.Result, tmp_path: Path) -> None:
    """A release's folder is all that is needed."""
    import shutil

    source = finished.release.artifact.path()
    shutil.copytree(source.parent, tmp_path / "copy")
    copy = loopline.load_release(tmp_path / "copy")
    new = make_table(6, seed=3).drop("bought")
    assert copy.predict(new).equals(finished.predict(new))
    assert copy.id == finished.release.id


def test_summary_is_plain_json(finished: loopline.Result) -> None:
    """What `--json` prints is JSON without NaN."""
    json.dumps(finished.summary, allow_nan=False)
