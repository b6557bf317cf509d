"""Lines that search: what they find, keep, tell, and what happens when something fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.line.conftest import make_table

import loopline
from loopline.errors import EnvironmentProblem, LooplineError, SettingsError
from loopline.line import search as search_module
from loopline.line import trial as trial_module
from loopline.line.face import Result
from loopline.line.project import open_project
from loopline.line.reproduce import reproduce
from loopline.line.search_arms import TRIAL
from loopline.line.search_budget import Clock
from loopline.line.search_page import search_section
from loopline.line.search_pool import Workers
from loopline.progress import SilentReporter
from loopline.search.record import NO_TIME, Record

MODELS = ["baseline", "linear", {"lightgbm": {"rounds": 12}}]
TABLE = make_table(300)


def run(store: Path, models: Any = None, **search: Any) -> Result:
    return loopline.fit(
        TABLE,
        "bought",
        models=MODELS if models is None else models,
        settings={"search": search, "split": {"folds": 3}, "threads": 1},
        store=store,
        progress=False,
    )


def study(result: Result) -> dict[str, Any]:
    artifact = result._project.store.get(result.summary["digests"]["study"])
    data: dict[str, Any] = json.loads(artifact.path("study.json").read_text(encoding="utf-8"))
    return data


def records(result: Result) -> list[Record]:
    events = result._project.ledger.events(kind=TRIAL, subject=result.summary["search"]["study"])
    return [Record.from_dict(event.data["record"]) for event in events]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One search of 14 trials that read-only tests share."""
    return run(tmp_path_factory.mktemp("searched"), trials=14, prune=False)


def test_the_best_trial_races_with_the_very_same_score(searched: Result) -> None:
    """Each family's best trial has the score that its candidate has in the race, to the bit."""
    found = {entry["name"]: entry for entry in searched.summary["candidates"]}
    for entry in searched.summary["search"]["candidates"]:
        assert found[entry["name"]]["metrics"]["auc"]["value"] == entry["best"]
    assert set(found) == {"baseline", "linear", "lightgbm"}


def test_the_winners_folds_are_not_fitted_again(searched: Result) -> None:
    """The race finds the folds of the best trials; only the baseline's were fitted for it."""
    fits = [entry for entry in searched.summary["stages"] if " fold " in entry["stage"]]
    again = [entry for entry in fits if not entry["found"]]
    assert {entry["stage"].split()[1] for entry in again} == {"baseline"}
    assert sum("lightgbm" in entry["stage"] for entry in fits) == 3


def test_out_of_fold_predictions_are_those_of_the_race(searched: Result) -> None:
    """What the winner's trial kept equals the race's predictions as far as 32 bits go."""
    store = searched._project.store
    winner = searched.summary["search"]["best"]
    record = next(each for each in records(searched) if each.number == winner["trial"])
    assert record.artifact is not None
    kept = load_file(store.get(record.artifact).path("out_of_fold.safetensors"))
    name = next(e for e in searched.summary["candidates"] if e["name"] == winner["candidate"])
    raced = load_file(store.get(name["artifact"]).path("out_of_fold.safetensors"))
    assert np.array_equal(kept["rows"], raced["rows"])
    assert np.array_equal(kept["prediction"], raced["prediction"][:, 1].astype(np.float32))


def test_the_defaults_are_each_familys_first_trial(searched: Result) -> None:
    """Trials 0 and 1 have the parameters of the families' own."""
    first = records(searched)[:2]
    assert [(each.arm, each.origin) for each in first] == [
        ("linear", "defaults"), ("lightgbm", "defaults"),
    ]  # fmt: skip
    assert first[1].params["num_leaves"] == 31
    assert "rounds" not in first[1].params  # `models` gives it a value


def test_a_search_never_fits_the_test_rows(searched: Result) -> None:
    """The rows of every trial are training rows, each once."""
    store = searched._project.store
    split = searched.summary["split"]
    for record in records(searched):
        assert record.artifact is not None
        rows = load_file(store.get(record.artifact).path("out_of_fold.safetensors"))["rows"]
        assert len(np.unique(rows)) == len(rows) == split["num_train"]


def test_the_summary_tells_what_the_best_is_worth(searched: Result) -> None:
    """The corrected score stands beside the best one, and is not better."""
    told = searched.summary["search"]
    assert told["optimism"]["corrected"] <= told["optimism"]["best"] == told["best"]["value"]
    assert told["optimism"]["num_trials"] == 14
    assert "expect" in told["sentences"][-1]


def test_the_study_is_part_of_the_releases_lineage(searched: Result) -> None:
    """The release names the study that it was chosen from, and the search as it was made."""
    facts = searched.release.facts
    assert facts["lineage"]["study"] == searched.summary["digests"]["study"]
    assert facts["spec"]["search"]["trials"] == 14


def test_collection_keeps_the_trials(searched: Result) -> None:
    """What a study was made from is reachable from its run."""
    project = searched._project
    kept = project.collect(grace_seconds=0.0, dry_run=True)
    assert not [name for name in kept.ids if name.startswith("trial-")]


def test_the_report_draws_the_search(searched: Result, tmp_path: Path) -> None:
    """History, importance, slices and parallel coordinates stand in the page, as plotly knows."""
    import plotly.graph_objects as graph

    page = searched.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="chart-search-history"' in page
    made = study(searched)
    trees = next(r["number"] for r in made["records"] if r["arm"] == "lightgbm")
    text, charts = search_section(searched.summary["search"], {**made, "winner": trees})
    assert "given up" in text
    assert len(charts) == 4
    for chart in charts:
        graph.Figure(data=list(chart.data), layout=dict(chart.layout))  # refuses unknown keys


def test_the_same_search_in_another_place_gives_the_same_study(
    searched: Result, tmp_path: Path
) -> None:
    """Another store, and trials that take other times: the study's digest is equal."""
    again = run(tmp_path, trials=14, prune=False)
    assert again.summary["digests"]["study"] == searched.summary["digests"]["study"]
    assert again.release.id == searched.release.id


def test_more_trials_go_on_where_fewer_ended(tmp_path: Path) -> None:
    """8 trials after 5 run 3 more, of the same study, which begins with the same 5."""
    few = run(tmp_path, trials=5)
    more = run(tmp_path, trials=8)
    assert more.summary["search"]["study"] == few.summary["search"]["study"]
    assert more.summary["search"]["trials"]["restored"] == 5
    assert study(more)["records"][:5] == study(few)["records"]
    assert [record.number for record in records(more)] == list(range(8))


def test_a_line_without_search_is_as_before(tmp_path: Path) -> None:
    """No `search`: no study, no trial, no event."""
    result = loopline.fit(TABLE, "bought", models="linear", store=tmp_path, progress=False)
    assert "search" not in result.summary
    assert "study" not in result.summary["digests"]
    assert not result._project.ledger.events(kind=TRIAL)


def test_fit_takes_a_search(tmp_path: Path) -> None:
    """`loopline.fit(..., search={...})` is the `search` part of the settings."""
    result = loopline.fit(
        TABLE, "bought", models="linear", search={"trials": 3}, store=tmp_path, progress=False
    )
    assert result.summary["search"]["trials"]["asked"] == 3


def test_workers_give_the_same_study_every_time(tmp_path: Path) -> None:
    """Two trials at a time, in processes of their own: twice the same study."""
    first = run(tmp_path / "a", trials=7, parallel=2)
    again = run(tmp_path / "b", trials=7, parallel=2)
    assert first.summary["digests"]["study"] == again.summary["digests"]["study"]
    assert study(first)["parallel"] == 2
    race = {
        entry["name"]: entry["metrics"]["auc"]["value"] for entry in first.summary["candidates"]
    }
    for entry in first.summary["search"]["candidates"]:
        assert entry["best"] is None or race[entry["name"]] == entry["best"]


def test_a_worker_that_is_killed_is_a_failed_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial whose process got SIGKILL is recorded with the signal; the search goes on."""
    start = Workers.start

    def killing(self: Workers, trial: Any) -> None:
        start(self, trial)
        if trial.number == 3:
            next(w for w in self._workers if w.job and w.job.trial is trial).process.kill()

    monkeypatch.setattr(Workers, "start", killing)
    result = run(tmp_path, trials=6, parallel=2)
    states = {record.number: record for record in records(result)}
    assert states[3].state == "failed"
    assert "by signal 9 (killed; perhaps the memory did not suffice)" in states[3].reason
    assert result.summary["search"]["trials"]["failed"] == 1
    assert sorted(states) == list(range(6))


def failing(when: Any, error: Exception) -> Any:
    """`fit_fold` that fails where a candidate's parameters say so."""
    fit_fold = trial_module.fit_fold

    def fit(context: Any, prepared: Any, entry: Any, *which: Any) -> Any:
        if when(entry):
            raise error
        return fit_fold(context, prepared, entry, *which)

    return fit


def test_a_failed_trial_is_recorded_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that fails does not stop the search, and is not run again."""
    broken = failing(lambda entry: entry.params.get("num_leaves", 0) > 9, ValueError("too wide"))
    monkeypatch.setattr(trial_module, "fit_fold", broken)
    result = run(tmp_path, trials=10, prune=False)
    failed = [record for record in records(result) if record.state == "failed"]
    assert failed
    assert {record.reason for record in failed} == {"too wide"}
    assert result.summary["search"]["trials"]["failed"] == len(failed)


def test_a_full_disk_is_no_failed_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine lacks stops the search, and is recorded of no trial."""
    full = failing(
        lambda entry: entry.family == "lightgbm", EnvironmentProblem("The disk is full.")
    )
    monkeypatch.setattr(trial_module, "fit_fold", full)
    with pytest.raises(EnvironmentProblem, match="The disk is full"):
        run(tmp_path, trials=6)
    with open_project(tmp_path) as project:
        assert len(project.ledger.events(kind=TRIAL)) == 1


def test_a_family_that_always_fails_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LightGBM fails in every trial: the others race, the reason is told, 3 trials were enough."""
    broken = failing(lambda entry: entry.family == "lightgbm", RuntimeError("no such device"))
    monkeypatch.setattr(trial_module, "fit_fold", broken)
    result = loopline.fit(
        TABLE, "bought", models=MODELS, store=tmp_path,
        settings={"search": {"trials": 8}, "split": {"folds": 3}, "threads": 1},
    )  # fmt: skip
    assert {entry["name"] for entry in result.summary["candidates"]} == {"baseline", "linear"}
    entry = result.summary["search"]["candidates"][1]
    assert (entry["trials"], entry["failed"], entry["reason"]) == (3, 3, "no such device")
    told = "The search leaves out lightgbm, which failed in every trial: no such device"
    assert told in capsys.readouterr().err


def test_a_family_given_up_in_every_trial_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of LightGBM is better than the linear model: it is out of the race, and that said."""
    monkeypatch.setattr(trial_module.Scorer, "chance", lambda self, mine, other, slack=0.0: 0.0)
    result = loopline.fit(
        TABLE, "bought", models=MODELS, store=tmp_path,
        settings={"search": {"trials": 2}, "split": {"folds": 3}, "threads": 1},
    )  # fmt: skip
    assert {entry["name"] for entry in result.summary["candidates"]} == {"baseline", "linear"}
    told = "The search leaves out lightgbm, which was given up in every trial: after fold 1"
    assert told in capsys.readouterr().err


def test_when_every_trial_fails_the_reasons_are_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trial came to its end: an error with each reason; the study is kept."""
    broken = failing(lambda entry: entry.family != "baseline", MemoryError("no room."))
    monkeypatch.setattr(trial_module, "fit_fold", broken)
    with pytest.raises(LooplineError, match=r"None of the 4 trials .* no room\. Change"):
        run(tmp_path, trials=4)
    with open_project(tmp_path) as project:
        assert len(project.ledger.events(kind=TRIAL)) == 4
        assert project.runs()[0].state == "failed"


def test_an_undefined_metric_is_a_failed_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that is NaN on a trial's predictions fails the trial, in words."""
    value = trial_module.Scorer.value
    monkeypatch.setattr(
        trial_module.Scorer,
        "value",
        lambda self, p: float("nan") if len(p) < 200 else value(self, p),
    )
    with pytest.raises(LooplineError, match="auc is not defined for its predictions"):
        run(tmp_path, trials=2, models="linear")


def test_a_ledger_that_goes_away_loses_no_finished_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database vanishes at the 5th trial: a clear error; 4 trials are found again."""
    from loopline.store.ledger import Ledger

    append, seen = Ledger.append, []

    def vanishing(self: Ledger, kind: str, **more: Any) -> Any:
        if kind == TRIAL:
            seen.append(kind)
        if len(seen) > 4:
            raise EnvironmentProblem("The ledger cannot be used: check that the server runs.")
        return append(self, kind, **more)

    monkeypatch.setattr(Ledger, "append", vanishing)
    with pytest.raises(EnvironmentProblem, match="check that the server runs"):
        run(tmp_path, trials=8)
    monkeypatch.setattr(Ledger, "append", append)
    with open_project(tmp_path) as project:  # a collector leaves what the search will go on from
        gone = project.collect(grace_seconds=0.0, dry_run=True).ids
    kept = [name for name in gone if name.startswith("trial-")]
    assert len(kept) <= 1  # the one whose record could not be written
    result = run(tmp_path, trials=8)
    assert result.summary["search"]["trials"]["restored"] == 4
    assert [record.number for record in records(result)] == list(range(8))


def test_a_trial_whose_predictions_are_gone_is_run_again(tmp_path: Path) -> None:
    """A record without its artifact counts as unfinished; the study is the same again."""
    import shutil

    before = run(tmp_path, trials=5, prune=False)
    name = records(before)[2].artifact
    assert name is not None
    folder = next((tmp_path / "artifacts" / "trial").glob(f"*/{name}"))
    folder.chmod(0o700)
    shutil.rmtree(folder)
    again = run(tmp_path, trials=6, prune=False)
    assert again.summary["search"]["trials"]["restored"] == 4
    assert study(again)["records"][:5] == study(before)["records"]


def test_earlier_studies_give_the_first_trials(tmp_path: Path) -> None:
    """A study with another space begins with what the first one found; `warm: false` does not."""
    first = run(tmp_path, models="linear", trials=6, prune=False)
    best = first.summary["search"]["best"]["params"]
    space = {"linear": {"penalty": {"low": 1e-4, "high": 1e5, "log": True}}}
    warm = run(tmp_path, models="linear", trials=3, space=space)
    assert [record.origin for record in records(warm)][:2] == ["defaults", "start"]
    assert records(warm)[1].params == best
    cold = run(tmp_path, models="linear", trials=4, space=space, warm=False, prune=False)
    assert "start" not in {record.origin for record in records(cold)}


def test_a_warm_study_goes_on_with_its_own_seeds(tmp_path: Path) -> None:
    """Seeds are settled when a study begins: what is found later does not change it."""
    space = {"linear": {"penalty": {"low": 1e-4, "high": 1e5, "log": True}}}
    first = run(tmp_path, models="linear", trials=1, space=space)
    run(tmp_path, models="linear", trials=5, prune=False)
    more = run(tmp_path, models="linear", trials=3, space=space)
    assert study(more)["records"][:1] == study(first)["records"]
    assert "start" not in {record.origin for record in records(more)}


def test_start_is_tried_after_the_defaults(tmp_path: Path) -> None:
    """`search.start` gives trial 1."""
    result = run(tmp_path, models="linear", trials=2, start={"linear": [{"penalty": 7.5}]})
    assert records(result)[1].params == {"penalty": 7.5}


def test_a_budgeted_search_can_be_reproduced(tmp_path: Path) -> None:
    """What the clock and earlier studies decided stands in the release: byte-identical again."""
    space = {"linear": {"penalty": [0.1, 10.0]}}
    run(tmp_path, models="linear", trials=3, space=space, prune=False)
    result = run(tmp_path, budget=9.0)
    assert result.summary["search"]["stopped"] == "budget"
    told = result.release.facts["spec"]["search"]
    assert told["trials"] == result.summary["search"]["trials"]["asked"] >= 1
    assert "budget" not in told
    assert told["turns"] == [record.arm for record in records(result)]
    assert "start" in {record.origin for record in records(result)}
    found = reproduce(result._project, result.release.id, SilentReporter())
    assert found.verdict == "byte-identical", found.sentence


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_family_without_time_is_left_out_and_made_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    """Who is not first comes too late: it is told, not raced, and not raced when made again."""
    deadline = Clock.deadline

    def late(self: Clock, joins: float | None = None) -> float | None:
        return deadline(self, joins) if joins is None or not self._complete else 0.0

    monkeypatch.setattr(Clock, "deadline", late)
    result = run(tmp_path, budget=12.0, parallel=parallel)
    monkeypatch.undo()
    made = [record for record in records(result) if record.reason == NO_TIME]
    done = {record.arm for record in records(result) if record.state == "complete"}
    assert len({record.arm for record in made} - done) == 1
    assert {entry["name"] for entry in result.summary["candidates"]} == {"baseline", *done}
    told = result.release.facts["spec"]["search"]
    assert told["without_time"] == sorted(record.number for record in made)
    found = reproduce(result._project, result.release.id, SilentReporter())
    assert found.verdict == "byte-identical", found.sentence


def straight(store: Path, models: Any, budget: float) -> Result:
    """A search on rows of a straight line, where trees are a little, and measurably, behind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=900)
    return loopline.fit(
        pl.DataFrame({"x": x, "y": 3 * x + rng.normal(scale=0.5, size=900)}),
        "y",
        models=models,
        settings={"search": {"budget": budget}, "split": {"folds": 3}, "threads": 1},
        store=store,
    )


def test_a_dear_family_that_is_behind_is_given_up_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where any trial is dear, trees end at their first fold; made again, they do so again."""
    monkeypatch.setattr(Clock, "dear", lambda self: 0.0)
    trees = {"lightgbm": {"rounds": 100, "learning_rate": 0.1}}
    result = straight(tmp_path, ["baseline", "linear", trees], 6.0)
    late = [record for record in records(result) if record.arm == "lightgbm"]
    assert [record.reason for record in late] == [NO_TIME]
    told = "The search leaves out lightgbm: there was no time for all of it. A longer budget"
    assert told in capsys.readouterr().err
    assert {entry["name"] for entry in result.summary["candidates"]} == {"baseline", "linear"}
    monkeypatch.undo()
    found = reproduce(result._project, result.release.id, SilentReporter())
    assert found.verdict == "byte-identical", found.sentence


def test_a_dear_family_that_is_ahead_has_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dear alone is no reason: more trees come second and are fitted whole."""
    monkeypatch.setattr(Clock, "dear", lambda self: 0.0)
    few, more = (
        {"name": name, "family": "lightgbm", "params": {"rounds": rounds}}
        for name, rounds in (("few", 3), ("more", 60))
    )
    result = straight(tmp_path, [few, more], 6.0)
    states = {(each.arm, each.state) for each in records(result) if each.origin == "defaults"}
    assert states == {("few", "complete"), ("more", "complete")}


def test_a_budget_too_small_for_one_trial_says_so(tmp_path: Path) -> None:
    """Nothing can be fitted in a hundredth of a second: an error with what it took."""
    with pytest.raises(LooplineError, match="does not suffice for one trial"):
        run(tmp_path, budget=0.01)


def test_an_interrupt_before_any_result_stops_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while nothing is complete is an interrupt like any other."""
    monkeypatch.setattr(search_module, "conduct", interrupting(0))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, trials=6)


def interrupting(after: int) -> Any:
    """`conduct` that is interrupted after so many trials."""
    conduct = search_module.conduct

    def run_some(study: Any, pool: Any, keep: Any, wanted: Any) -> None:
        conduct(study, pool, keep, lambda: len(study.asked) < after)
        raise KeyboardInterrupt

    return run_some


def test_an_interrupted_search_gives_its_best_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 4 of 7 trials Ctrl-C gives a release of the best; the same call makes the other 3."""
    monkeypatch.setattr(search_module, "conduct", interrupting(4))
    part = run(tmp_path, trials=7)
    assert part.summary["search"]["stopped"] == "interrupted"
    assert part.summary["search"]["trials"]["asked"] == 4
    monkeypatch.undo()
    whole = run(tmp_path, trials=7)
    assert whole.run == part.run
    assert whole.summary["search"]["stopped"] == ""
    assert whole.summary["search"]["trials"]["restored"] == 4
    assert [record.number for record in records(whole)] == list(range(7))


def test_pruned_trials_cost_fewer_folds_and_find_as_good(tmp_path: Path) -> None:
    """With pruning some trials end before the last fold, each with the chance that decided."""
    result = run(tmp_path, trials=14)
    pruned = [record for record in records(result) if record.state == "pruned"]
    assert pruned
    for record in pruned:
        assert len(record.steps) < 3
        assert re.search(
            "the chance to be (near the best|the best of its family) is", record.reason
        )


def test_fewer_trials_than_candidates_are_refused(tmp_path: Path) -> None:
    """Each candidate's defaults are a trial: 1 is too few for two."""
    with pytest.raises(SettingsError, match="Give at least 2"):
        run(tmp_path, trials=1)


def test_nothing_to_search_is_refused(tmp_path: Path) -> None:
    """A race of the baseline alone has no space."""
    with pytest.raises(SettingsError, match="baseline: the family has nothing to search here"):
        run(tmp_path, models="baseline", trials=3)


def test_a_space_that_the_settings_empty_is_refused(tmp_path: Path) -> None:
    """The linear family has a penalty alone here, and the settings take it out."""
    with pytest.raises(SettingsError, match=r"linear: `models` and `search\.space` leave none"):
        run(tmp_path, models="linear", trials=3, space={"linear": {"penalty": None}})


@pytest.mark.postgres
def test_a_study_may_live_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """With the ledger on a server the trials go on where they ended, in other processes too."""
    settings = {"ledger": postgres_url, "split": {"folds": 3}, "threads": 1}

    def run_there(trials: int, parallel: int) -> Result:
        return loopline.fit(
            TABLE, "bought", models=MODELS, store=tmp_path, progress=False,
            search={"trials": trials, "parallel": parallel}, settings=settings,
        )  # fmt: skip

    few = run_there(3, 2)
    more = run_there(5, 2)
    assert more.summary["search"]["trials"]["restored"] == 3
    assert study(more)["records"][:3] == study(few)["records"]
    assert sorted(record.number for record in records(more)) == list(range(5))
    for result in (few, more):
        result._project.close()


def test_a_family_that_is_behind_at_its_defaults_is_tried_whole(tmp_path: Path) -> None:
    """A hair behind a linear truth the trees are no hopeless family; far behind they are."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1_500, 2))

    def first_of_trees(noise: float) -> Record:
        table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1]}).with_columns(
            y=pl.Series(x.sum(axis=1) + noise * rng.normal(size=len(x)))
        )
        result = loopline.fit(
            table,
            "y",
            models=["linear", {"lightgbm": {"rounds": 150, "num_leaves": 3}}],
            settings={"search": {"trials": 2}, "split": {"folds": 3}, "threads": 1},
            store=tmp_path / str(noise),
            progress=False,
        )
        return next(record for record in records(result) if record.arm == "lightgbm")

    near, far = first_of_trees(1.0), first_of_trees(0.01)
    assert near.state == "complete"
    assert far.state == "pruned"
    assert "the chance to be near the best is" in far.reason
