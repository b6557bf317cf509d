"""The example lines on real tables: what they score, what they refuse, what they never mix."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.cli.app import app
from loopline.cli.edge import guarded
from loopline.data.snapshot import open_snapshot
from loopline.line.demo import demo_table
from loopline.splits.split import Split

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = {
    "adult": "adult",
    "adult_network": "adult",
    "bike_sharing": "bike_sharing",
    "california_housing": "california_housing",
    "parkinsons": "parkinsons_telemonitoring",
    "telco_churn": "telco_churn",
    "wine_quality": "wine_quality",
}
Run = Callable[..., loopline.Result]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds one store for each example."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def run_example(
    data_dir: Callable[[str], Path], stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Runs an example from a folder that is not its own; each of them once."""
    done: dict[tuple[str, ...], loopline.Result] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))

        def run(name: str, *overrides: str) -> loopline.Result:
            patch.setenv("LOOPLINE_DATA", str(data_dir(FOLDERS[name]).parent))
            key = (name, *overrides)
            if key not in done:
                # One thread: other tests run beside this one.
                settings = [f"store={stores / name}", "threads=1", *overrides]
                done[key] = loopline.run(EXAMPLES / name, overrides=settings, progress=False)
            return done[key]

        yield run


def sides(result: loopline.Result, store: Path) -> tuple[pl.DataFrame, Split]:
    """The rows a run divided, and how; read from its store."""
    lineage = result.release.facts["lineage"]
    with loopline.open_project(store, create=False) as project:
        snapshot = open_snapshot(project.store, lineage["snapshot"])
        split = Split.load(project.store.get(lineage["split"]).path())
        return snapshot.frame(), split.align(np.array(snapshot.rows()))


def cuts(split: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows learned from and rows scored, of the test split and of every fold."""
    found = [(np.flatnonzero(split.side == 0), np.flatnonzero(split.side == 1))]
    for part in split.folds.T:
        found.append((np.flatnonzero(part == 1), np.flatnonzero(part == 2)))
    return found


def test_adult_reaches_its_known_auc(run_example: Run) -> None:
    """On the official test file the census line scores an AUC of at least 0.925."""
    result = run_example("adult")
    auc = result.evaluate()["auc"]
    assert result.summary["num_test_rows"] == 16_281
    assert auc["value"] >= 0.925
    assert auc["low"] < auc["value"] < auc["high"]


def test_adult_does_not_learn_from_rows_of_the_test_file(run_example: Run, stores: Path) -> None:
    """Training rows that stand in the official test file too are taken out, and counted."""
    result = run_example("adult")
    frame, split = sides(result, stores / "adult")
    known = frame.drop("loopline_part")
    train, test = (known.filter(pl.Series(split.side == side)) for side in (0, 1))
    assert test.height == 16_281
    assert train.join(test.unique(), on=known.columns, how="semi", nulls_equal=True).height == 0
    assert 32_561 - 60 < train.height < 32_561


def test_telco_weighs_missed_leavers(run_example: Run) -> None:
    """With misses five times as dear, the threshold lies below one half and the cost is told."""
    result = run_example("telco_churn")
    test = result.evaluate()
    assert result.release.threshold is not None
    assert result.release.threshold < 0.5
    assert test["cost=1,5"]["value"] > 0
    assert test["auc"]["high"] > 0.8425
    assert test["auc"]["value"] > 0.82


@pytest.mark.slow
def test_a_network_is_a_rival_of_the_trees(run_example: Run) -> None:
    """Out of fold the network for tables is at most 0.01 AUC behind LightGBM on the census."""
    rows = run_example("adult_network").leaderboard().to_dicts()
    scores = {row["candidate"]: row["value"] for row in rows}
    assert scores["mlp"] >= scores["lightgbm"] - 0.01


@pytest.mark.slow
def test_california_rmse(run_example: Run) -> None:
    """House prices are missed by at most 50,000 dollars (root mean square)."""
    assert run_example("california_housing").evaluate()["rmse"]["value"] <= 50_000


@pytest.mark.parametrize("name", ["adult", "bike_sharing", "parkinsons", "wine_quality"])
def test_the_certificate_counts_right(name: str, run_example: Run, stores: Path) -> None:
    """Where equal features are said never to stand on both sides, a recount finds none."""
    result = run_example(name)
    frame, split = sides(result, stores / name)
    claim = result.release.facts["certificate"]["sentence"]
    features = frame.select(result.release.schema.features)
    for learned, scored in cuts(split):
        both = features[scored].join(
            features[learned].unique(), on=features.columns, how="semi", nulls_equal=True
        )
        assert "no two rows with equal features" not in claim or both.height == 0


def test_no_wine_stands_on_both_sides(run_example: Run, stores: Path) -> None:
    """No two rows with equal features are divided, by the test split or any fold: recounted."""
    result = run_example("wine_quality")
    frame, split = sides(result, stores / "wine_quality")
    features = frame.drop("quality")
    for learned, scored in cuts(split):
        both = features[learned].join(
            features[scored], on=features.columns, how="semi", nulls_equal=True
        )
        assert len(scored) > 0
        assert both.height == 0
    told = [finding["sentence"] for finding in result.summary["findings"]]
    assert any("1177" in sentence.replace(",", "") for sentence in told)


def test_wine_beats_its_constant(run_example: Run) -> None:
    """The wine line chooses a model, and its error is well below the constant's 0.88."""
    result = run_example("wine_quality")
    assert result.summary["chosen"] != "baseline"
    assert result.evaluate()["rmse"]["value"] < 0.75


def test_bike_sharing_learns_from_the_past_only(run_example: Run, stores: Path) -> None:
    """Every hour that is scored is later than every hour learned from, in all cuts: recounted."""
    frame, split = sides(run_example("bike_sharing"), stores / "bike_sharing")
    days = frame["dteday"].cast(pl.Int64).to_numpy()
    for learned, scored in cuts(split):
        assert days[learned].max() < days[scored].min()


def test_bike_sharing_refuses_the_summands(run_example: Run) -> None:
    """With casual and registered among the features the line stops and names them both."""
    with pytest.raises(loopline.LeakError, match=r"casual.*registered"):
        run_example(
            "bike_sharing", "columns.casual.role=feature", "columns.registered.role=feature"
        )


def test_nothing_beats_the_constant_on_new_patients(run_example: Run, stores: Path) -> None:
    """For people never heard before the constant is chosen, and the line says why."""
    result = run_example("parkinsons")
    assert result.summary["chosen"] == "baseline"
    assert "baseline" in result.summary["why"]
    frame, split = sides(result, stores / "parkinsons")
    people = frame["subject#"].to_numpy()
    for learned, scored in cuts(split):
        assert not set(people[learned]) & set(people[scored])


RAW = {
    "adult": ("adult/adult.data", "column_15"),
    "bike_sharing": ("bike_sharing/hour.csv", "cnt"),
    "california_housing": ("california_housing/housing.csv", "median_house_value"),
    "parkinsons": ("parkinsons_telemonitoring/parkinsons_updrs.csv", "total_UPDRS"),
    "telco_churn": ("telco_churn/Telco-Customer-Churn.csv", "Churn"),
    "wine_quality": ("wine_quality/wine_quality.csv", "quality"),
}


@pytest.fixture
def init(
    data_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], tuple[str, str]]:
    """Runs `loopline init` on a raw file; gives what it printed and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> tuple[str, str]:
        path, target = RAW[name]
        source = data_dir(path.split("/")[0]).parent / path
        assert guarded(app, ["init", str(source), "--target", target]) == 0
        return capsys.readouterr().out, (tmp_path / "loopline.yaml").read_text(encoding="utf-8")

    return run


@pytest.mark.parametrize("name", sorted(RAW))
def test_what_init_writes_runs(name: str, init: Callable[[str], tuple[str, str]]) -> None:
    """The settings that `init` writes for a raw file are accepted and run as they are."""
    init(name)
    overrides = ["models=[baseline, linear]", "threads=1"]
    result = loopline.run("loopline.yaml", overrides=overrides, progress=False)
    assert result.summary["num_test_rows"] > 0


def test_init_leaves_out_the_summands(init: Callable[[str], tuple[str, str]]) -> None:
    """For bikes `init` leaves casual and registered out and says that they add up to the target."""
    said, written = init("bike_sharing")
    told = "• Left out: casual and registered, because 'casual' + 'registered' equals the target"
    assert told in said
    for name in ("casual", "registered"):
        assert re.search(rf"^  {name}: .*role: ignore.*casual.*registered", written, re.M)


def test_init_finds_the_patients(init: Callable[[str], tuple[str, str]]) -> None:
    """For the voice recordings `init` proposes the subject as the group, untold."""
    said, written = init("parkinsons")
    assert "rows of one 'subject#' stay together" in said
    assert re.search(r"^  subject#: .*role: group", written, re.M)


def test_init_tells_of_copies_and_blank_cells(init: Callable[[str], tuple[str, str]]) -> None:
    """For the telephone customers `init` tells of the eleven blank charges and the unique ids."""
    said, written = init("telco_churn")
    assert "11 blank cells in TotalCharges" in said
    assert re.search(r"^  customerID: .*role: id", written, re.M)


def test_the_demo_table_runs_without_a_download(tmp_path: Path) -> None:
    """The breast cancer example runs on the table that comes with scikit-learn."""
    folder = tmp_path / "breast_cancer"
    shutil.copytree(EXAMPLES / "breast_cancer", folder, ignore=lambda _, names: [".loopline"])
    demo_table().write_csv(folder / "tumours.csv")
    result = loopline.run(folder, overrides=["threads=1"], progress=False)
    assert result.evaluate()["auc"]["value"] > 0.97
    assert result.release.classes == ("benign", "malignant")
