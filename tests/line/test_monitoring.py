"""The monitor of a project: logged rows and labels against training, once, whatever happens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.errors import ConflictError, DataError, NotFoundError, SettingsError
from loopline.line import monitor_stream
from loopline.line.monitor_stream import Stream
from loopline.line.monitor_telling import TOLD, message
from loopline.line.monitoring import (
    MonitorReport,
    check_rows,
    check_stream,
    check_tables,
    checked_settings,
)
from loopline.line.project import LOOKED, Project
from loopline.line.reference import reference_of
from loopline.monitor.alarm import Alarm, together
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.sinks import Undelivered
from loopline.monitor.tables import compare_files
from loopline.serve.feedback import Feedback, Label
from loopline.serve.health import Served, keep
from loopline.serve.log import KIND
from loopline.serve.model import version_of

START = 1_790_000_000
SETTINGS = MonitorSettings(window=100, rate="1000/day")


def rows(count: int, seed: int, *, shift: float = 0.0) -> pl.DataFrame:
    """Readings of machines of which some fail; `shift` moves the heat by so many sd."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(70 + 8 * shift, 8, count).round(2)
    load = rng.gamma(3.0, 10.0, count).round(2)
    kind = np.array(["press", "lathe", "saw"])[rng.integers(0, 3, count)]
    fails = rng.random(count) < 1 / (1 + np.exp(6 - 0.08 * (heat - 50) - 0.08 * load))
    return pl.DataFrame({"heat": heat, "load": load, "kind": kind, "fails": fails})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a release that predicts failures."""
    store = tmp_path_factory.mktemp("monitored") / "store"
    result = loopline.fit(
        rows(900, 0), "fails", models=["linear"], progress=False, store=store,
        settings={"name": "machines"},
    )  # fmt: skip
    result.project.close()
    return store


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Any:
    """A copy of the store, so that each test has its own log and ledger."""
    import shutil

    shutil.copytree(made, tmp_path / "store")
    with loopline.open_project(tmp_path / "store") as opened:
        yield opened


def log(project: Project, table: pl.DataFrame, request: str, start: int = START) -> list[str]:
    """Put a table into the log as the service would; gives the rows' names."""
    release = project.release("latest")
    inputs = table.drop("fails")
    raw, _ = release.probabilities(inputs)
    head = pl.DataFrame(
        {
            "request_id": [request] * table.height,
            "row": pl.int_range(table.height, dtype=pl.Int32, eager=True),
            "time": (pl.Series(range(start, start + 60 * table.height, 60)) * 1_000_000).cast(
                pl.Datetime("us", "UTC")
            ),
            "role": ["champion"] * table.height,
            "odd": pl.Series([None] * table.height, dtype=pl.String),
        }
    )
    whole = head.hstack([inputs[name].alias(f"input.{name}") for name in inputs.columns])
    whole = whole.hstack(release.as_table(raw))
    meta = {
        "name": release.name, "release": release.id, "rows": table.height,
        "start": str(start), "end": str(start + 60 * table.height),
    }  # fmt: skip
    project.store.put(
        KIND, lambda folder: whole.write_parquet(folder / "predictions.parquet"), meta=meta
    )
    return [f"{request}/{row}" for row in range(table.height)]


def label(project: Project, request: str, given: list[bool], first: int = 0) -> None:
    """Send labels of a request's rows."""
    assert project.local_folder is not None
    feedback = Feedback(project.local_folder / "service")
    version = version_of(project.release("latest").id)
    feedback.add([Label(request, first + n, version, each) for n, each in enumerate(given)])
    feedback.close()


def look(project: Project, **given: Any) -> MonitorReport:
    """One look with small windows."""
    return check_stream(project=project, **{"settings": SETTINGS, **given})


def told(report: MonitorReport) -> list[tuple[str, str, bool]]:
    """Kind, subject and page of each alarm."""
    return [(alarm.kind, alarm.subject, alarm.page) for alarm in report.alarms]


def test_the_reference_is_the_training_side_out_of_fold(project: Project) -> None:
    """Features, targets and predictions of the training rows, and no test row."""
    release = project.release("latest")
    reference = reference_of(project, release)
    run = project.runs()[0]
    assert run.summary is not None
    assert reference.num_rows == run.summary["split"]["num_train"] == 720
    assert reference.frame.columns == ["heat", "load", "kind"]
    assert reference.prediction is not None
    assert reference.target is not None
    in_sample, _ = release.probabilities(reference.frame)
    assert not np.array_equal(in_sample, reference.prediction)
    assert np.abs(in_sample - reference.prediction).max() < 0.2
    assert set(np.unique(reference.target)) == {0, 1}
    assert reference.importances["kind"] < reference.importances["heat"]
    assert reference.threshold == release.threshold


def test_a_release_of_another_project_has_no_reference_here(
    project: Project, tmp_path: Path
) -> None:
    """The training rows are where the release was made; that is told."""
    release = project.release("latest")
    other = loopline.open_project(tmp_path / "other")
    with other, pytest.raises(DataError, match="was not made in"):
        reference_of(other, release)


def test_rows_like_those_of_training_raise_no_page(project: Project) -> None:
    """Five windows of the same world."""
    log(project, rows(500, 1), "a")
    report = look(project)
    assert [checked.rows for checked in report.windows] == [100] * 5
    assert report.pages == ()
    assert report.waiting == 0


def test_a_move_of_an_important_column_pages_with_all_that_is_to_be_known(
    project: Project,
) -> None:
    """What moved, how far, since when, what it does, and rows that show it; in the ledger too."""
    log(project, rows(300, 1), "a")
    log(project, rows(300, 2, shift=1.0), "b", START + 60 * 300)
    report = look(project)
    alarm = next(alarm for alarm in report.pages if alarm.subject == "heat")
    assert alarm.low is not None
    assert alarm.high is not None
    assert 0.5 < alarm.low < alarm.high < 1.3
    assert alarm.since is not None
    assert alarm.since >= "2026-09-2"
    assert alarm.impact is not None
    assert alarm.rows
    assert all(name.startswith("b/") for name in alarm.rows)
    (event,) = project.ledger.events(kind=LOOKED)
    assert event.subject == project.release("latest").id
    assert [each["subject"] for each in event.data["alarms"] if each["kind"] == "column"] == [
        "heat"
    ]


def test_what_one_window_opens_is_one_page(project: Project) -> None:
    """Hotter machines move a column, the predictions and more: one message of all.

    What opens later is another one.
    """
    log(project, rows(100, 2, shift=3.0), "a")
    report = look(project)
    opened = [alarm for alarm in report.alarms if alarm.page]
    assert len(opened) >= 2
    assert report.to_dict()["pages"] == 1
    (group,) = together(report.alarms)
    told = message("machines", group)
    assert told.page
    assert told.subject == f"machines: {group[0].subject} and {len(group) - 1} more"
    assert told.lines == tuple(alarm.sentence for alarm in group[1:])
    assert [each["subject"] for each in told.data["also"]] == [a.subject for a in group[1:]]
    later = Alarm("schema", "absent", "kind", True, "Column 'kind' is gone.", opened=2)
    assert [each[0].subject for each in together([later, *group])] == ["kind", group[0].subject]


def test_alarms_that_nobody_follows_stand_alone() -> None:
    """Two tables have no windows, so each finding is told for itself; what is over, apart."""
    one = Alarm("column", "shift", "a", True, "a moved.")
    assert len(together([one, replace(one, subject="b")])) == 2
    over = replace(one, subject="c", state="closed", opened=1)
    assert len(together([replace(one, opened=1), over])) == 2


def test_a_second_look_finds_nothing_new_and_writes_nothing(project: Project) -> None:
    """The alarm stays open and is not told again."""
    log(project, rows(300, 2, shift=1.0), "b")
    first = look(project)
    again = look(project)
    assert again.windows == ()
    assert told(again) == told(first)
    assert len(project.ledger.events(kind=LOOKED)) == 1
    assert len(project.ledger.events(kind=TOLD)) == 1


def test_a_log_read_in_pieces_gives_the_alarms_of_one_read_whole(project: Project) -> None:
    """Whatever the log's files hold, windows are cut alike, and labels find their rows."""
    tables = [rows(130, 1), rows(90, 2, shift=1.0), rows(250, 3, shift=1.0)]
    alarms = []
    for number, (table, request) in enumerate(zip(tables, "abc", strict=True)):
        log(project, table, request, START + 60 * sum(each.height for each in tables[:number]))
        label(project, request, table["fails"].to_list())
        alarms += [each.to_dict() for checked in look(project).windows for each in checked.alarms]
    assert look(project, end=True).windows[0].rows == 70
    whole = look(project, settings=SETTINGS.model_copy(update={"pending_rows": 199_999}))
    one_go = [each.to_dict() for checked in whole.windows for each in checked.alarms]
    column = [each for each in alarms if each["kind"] == "column"]
    assert column == [each for each in one_go if each["kind"] == "column"]
    assert whole.labels == 400


def test_labels_wait_for_the_window_of_their_row(project: Project) -> None:
    """A label that comes before its row's window is full is used when it is."""
    table = rows(150, 1)
    log(project, table, "a")
    label(project, "a", table["fails"].to_list())
    assert look(project).labels == 100
    log(project, rows(50, 2), "b", START + 60 * 150)
    assert look(project).labels == 50


def test_labels_of_unknown_rows_are_told(project: Project) -> None:
    """They are counted, and nothing else happens."""
    log(project, rows(100, 1), "a")
    label(project, "nobody", [True, False])
    assert any("2 labels" in remark for remark in look(project).remarks)


def test_a_concept_that_changed_is_found_by_labels_alone(project: Project) -> None:
    """Features as ever, outcomes turned round: the true loss pages, and no column does."""
    table = rows(600, 1)
    log(project, table, "a")
    label(project, "a", (~table["fails"]).to_list())
    report = look(project)
    assert ("performance", "loss", True) in told(report)
    assert "column" not in {alarm.kind for alarm in report.alarms}


def test_a_look_that_dies_before_it_is_written_is_made_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory was put into the store, the entry was not written: the same again."""
    log(project, rows(300, 2, shift=1.0), "b")

    def die(*given: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(project.ledger), "append", die)
        with pytest.raises(KeyboardInterrupt):
            look(project)
    assert [checked.rows for checked in look(project).windows] == [100] * 3


def test_of_two_monitors_one_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both follow the same look; the second to write is told, and nothing is judged twice."""
    log(project, rows(200, 1), "a")
    before = Stream.keep

    def late(self: Stream, *given: Any) -> Any:
        monkeypatch.setattr(Stream, "keep", before)
        look(project)
        return before(self, *given)

    monkeypatch.setattr(Stream, "keep", late)
    with pytest.raises(ConflictError, match="Another monitor"):
        look(project)
    assert look(project).windows == ()
    log(project, rows(100, 2), "b", START + 60 * 200)
    assert [checked.rows for checked in look(project).windows] == [100]


def test_what_was_not_delivered_is_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First nobody answers, then the hook does; after that it is left in peace."""
    log(project, rows(300, 2, shift=1.0), "b")
    sent: list[list[str]] = []
    down = [True]

    def deliver(messages: Any, settings: Any, only: Any = None) -> Any:
        del settings, only
        sent.append([message.subject for message in messages])
        return [Undelivered("webhook", each, "down") for each in messages] if down[0] else []

    monkeypatch.setattr("loopline.line.monitor_telling.deliver", deliver)
    monkeypatch.setattr("loopline.monitor.sinks.deliver", deliver)
    sinks = SinkSettings(webhook={"url": "http://127.0.0.1:9/"})
    assert "webhook did not take" in look(project, alarms=sinks).undelivered[0]
    down[0] = False
    assert look(project, alarms=sinks).undelivered == ()
    assert sent[0] == sent[1]
    assert look(project, alarms=sinks).undelivered == ()
    assert len(sent) == 2


def test_prometheus_hears_of_open_alarms(project: Project, tmp_path: Path) -> None:
    """One line an open alarm, and when the monitor looked."""
    log(project, rows(300, 2, shift=1.0), "b")
    look(project, alarms={"prometheus": str(tmp_path / "alarms.prom")})
    text = (tmp_path / "alarms.prom").read_text()
    assert 'loopline_alarms_paging{model="machines"}' in text
    assert 'loopline_alarm_open{model="machines",kind="column",subject="heat",what="shift"' in text


def test_failures_of_the_service_page(project: Project) -> None:
    """Eight windows say what is usual; then a tenth of the requests fail."""
    for hour in range(12):
        start = START + 6_000 * hour
        log(project, rows(100, hour), f"r{hour}", start)
        end = np.datetime64(start + 6_000 - 60, "s").astype(str) + "+00:00"
        errors = 10 if hour > 9 else 0
        keep(project.store, Served(end, end, 100, errors, (100, *[0] * 17)))
    alarms = [alarm for alarm in look(project).alarms if alarm.kind == "service"]
    assert [alarm.what for alarm in alarms] == ["errors"]
    assert "of 100 requests failed" in alarms[0].sentence


def test_columns_that_the_log_leaves_out_are_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are watched."""
    monkeypatch.setattr(monitor_stream, "_INPUT", "input.")
    release = project.release("latest")
    log(project, rows(100, 1), "a")
    (known,) = project.store.ids(KIND)
    artifact = project.store.get(known)
    table = pl.read_parquet(artifact.path("predictions.parquet")).drop("input.kind")
    meta = {**artifact.meta, "start": str(START + 6_000), "end": str(START + 12_000)}
    look(project)
    project.store.put(
        KIND, lambda folder: table.with_columns(request_id=pl.lit("z")).write_parquet(
            folder / "predictions.parquet"
        ), meta=meta,
    )  # fmt: skip
    assert release.id == meta["release"]
    assert any("leaves out kind" in remark for remark in look(project).remarks)


def test_new_rows_are_judged_without_a_memory(project: Project) -> None:
    """Their outcomes too, where they have the target."""
    (checked,) = check_rows("latest", rows(300, 5, shift=1.0), project=project)
    assert "heat" in {alarm.subject for alarm in checked.pages}
    turned = rows(600, 6).with_columns(~pl.col("fails"))
    (checked,) = check_rows("machines", turned, project=project)
    assert "performance" in {alarm.kind for alarm in checked.alarms}
    windows = check_rows("machines", turned, project=project, settings={"window": 250})
    assert [each.rows for each in windows] == [250, 250, 100]
    assert project.ledger.events(kind=LOOKED) == []


def test_rows_that_break_the_contract_are_refused(project: Project) -> None:
    """As `predict` refuses them."""
    with pytest.raises(DataError, match="heat"):
        check_rows("latest", rows(60, 5).drop("heat"), project=project)


def test_two_tables_of_one_world_are_told_apart_once_in_twenty() -> None:
    """Of 200 pairs of tables with four columns at most 18 get a word (5 % expected at most)."""
    words = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        names = "abcd"
        before = pl.DataFrame({name: rng.normal(size=400) for name in names})
        after = pl.DataFrame({name: rng.normal(size=150) for name in names})
        words += bool(check_tables(before, after).alarms)
    assert words <= 18


def test_large_parquet_files_are_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same columns are told as of a frame, and what is small or no Parquet is read whole."""
    rows(900, 0).write_parquet(tmp_path / "old.parquet")
    for part in (1, 2):
        rows(300, part, shift=0.5).write_parquet(tmp_path / f"new{part}.parquet")
    read: list[int] = []

    def in_blocks(normal: Any, files: Any, **given: Any) -> Any:
        read.append(len(files))
        return compare_files(normal, files, **given)

    monkeypatch.setattr("loopline.line.monitoring.compare_files", in_blocks)
    given = (str(tmp_path / "old.parquet"), str(tmp_path / "new*.parquet"))
    whole = check_tables(*given)
    monkeypatch.setattr("loopline.line.monitoring.LARGE_BYTES", 1)
    blocks = check_tables(*given)
    assert read == [2]
    assert (whole.rows, blocks.rows) == (600, 600)
    assert [alarm.subject for alarm in blocks.alarms] == [alarm.subject for alarm in whole.alarms]
    assert "heat" in [alarm.subject for alarm in blocks.alarms]


def test_a_table_that_moved_is_told(project: Project) -> None:
    """The column and how far."""
    checked = check_tables(rows(900, 0), rows(400, 1, shift=0.5))
    (alarm,) = [alarm for alarm in checked.alarms if alarm.subject == "heat"]
    assert alarm.low is not None
    assert alarm.high is not None
    assert alarm.low < 0.5 < alarm.high


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"false_page": "1/month"}, "false_pages"),
        ({"false_pages": "seldom"}, "1/month"),
        ({"window": 0}, "at least 1 row"),
        ({"ignore": "height"}, "heat"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    project: Project, given: dict[str, Any], words: str
) -> None:
    """With the nearest right name."""
    with pytest.raises(SettingsError, match=words):
        look(project, settings=given)


def test_all_problems_of_receivers_are_told_at_once() -> None:
    """Both, each by its key."""
    given = {"webhook": {"url": "nowhere"}, "email": {"host": "h", "sender": "x", "to": "y@z"}}
    with pytest.raises(SettingsError) as caught:
        checked_settings(SinkSettings, given, "alarms")
    assert len(caught.value.problems) == 2


def test_an_unknown_release_is_told(project: Project) -> None:
    """As everywhere."""
    with pytest.raises(NotFoundError, match="nothing-of-that"):
        look(project, which="nothing-of-that")


def test_the_report_is_plain_data(project: Project) -> None:
    """What `--json` prints can be read back."""
    log(project, rows(300, 2, shift=1.0), "b")
    data = json.loads(json.dumps(look(project).to_dict()))
    assert data["pages"] >= 1
    assert {"column", "effect", "threshold"} <= set(data["windows"][0]["table"][0])


def test_collection_keeps_what_the_monitor_remembers(project: Project) -> None:
    """The newest memory and the reference stay; older memories go."""
    log(project, rows(150, 1), "a")
    look(project)
    log(project, rows(150, 2), "b", START + 60 * 150)
    look(project)
    project.collect(grace_seconds=0)
    assert len(project.store.ids("watch")) == 1
    log(project, rows(100, 3), "c", START + 60 * 300)
    assert [checked.rows for checked in look(project).windows] == [100]
