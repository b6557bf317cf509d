"""The prediction log and the labels: nothing accepted is lost, nothing personal is kept unasked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.serve.conftest import Client, Serve, mixed_table, plain

import loopline
from loopline.errors import EnvironmentProblem, IntegrityError, SettingsError
from loopline.line.serving import make_serve_settings
from loopline.serve.feedback import Feedback, Label, read_feedback
from loopline.serve.health import Counted, Served, read_served, summed
from loopline.serve.ids import KEY_FILE, RequestIds, load_key
from loopline.serve.log import KIND, PredictionLog, log_files, read_files, read_log
from loopline.serve.metrics import Metrics
from loopline.serve.model import ServedModel
from loopline.serve.settings import ServeSettings
from loopline.store.artifacts import Store


def logged(client: Client, store: Path) -> pl.DataFrame:
    """What the log of a service holds after it ended."""
    client.running.close()
    return read_log(Store.open(store))


def test_the_log_holds_what_was_answered(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """Each answered row stands in the log as the model saw it, with its prediction and id."""
    client = serve(releases["binary"], store=tmp_path)
    data = plain(rows)
    one = client.post("/predict", data[0]).json()
    many = client.post("/predict", data[1:]).json()
    log = logged(client, tmp_path)
    assert log["request_id"].to_list() == [one["id"]] + [many["id"]] * 59
    assert log["row"].to_list() == [0, *range(59)]
    wanted = releases["binary"].predict(rows)
    assert log.select(wanted.columns).equals(wanted)
    inputs = log.select(pl.col(f"input.{name}").alias(name) for name in rows.columns)
    assert inputs.equals(rows)
    assert set(log["role"]) == {"champion"}
    assert set(log["release"]) == {releases["binary"].id}


def test_odd_cells_are_logged_without_their_values(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """The log says which cells were odd and how; the value stands in its own column only."""
    client = serve(releases["binary"], store=tmp_path, settings={"log": {"leave_out": "city"}})
    client.post("/predict", plain(rows)[0] | {"city": "My Street 5", "size": 9999})
    log = logged(client, tmp_path)
    assert log["odd"].to_list() == ["city:unseen;size:outside"]
    assert "My Street" not in str(log.to_dicts())
    assert "input.city" not in log.columns


def test_personal_columns_are_hashed_with_a_key(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """A hashed column joins equal values, holds none of them, and has another hash elsewhere."""
    hashes = []
    for place in ("a", "b"):
        store = tmp_path / place
        client = serve(releases["binary"], store=store, settings={"log": {"hash": ["city"]}})
        data = plain(rows)
        for city in ("Lima", "Oslo", "Lima"):
            client.post("/predict", data[0] | {"city": city})
        client.post("/predict", data[:3])
        found = logged(client, store)["input.city"].to_list()
        assert found[0] == found[2] != found[1]
        assert not set(found) & {"Lima", "Oslo", "Köln", "Kyoto"}
        hashes.append(found[0])
    assert hashes[0] != hashes[1]


def test_a_share_is_logged_by_request(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """With a share of a half about half of 200 requests are kept, each with all its rows."""
    client = serve(releases["binary"], store=tmp_path, settings={"log": {"share": 0.5}})
    data = plain(rows)[:2]
    for _ in range(200):
        client.post("/predict", data)
    counts = logged(client, tmp_path).group_by("request_id").len()
    assert set(counts["len"]) == {2}
    assert 60 < counts.height < 140


class _Store:
    """A store whose disk is full while `full` is set."""

    def __init__(self, store: Store) -> None:
        self.store, self.full = store, True

    def put(self, *given: Any, **more: Any) -> Any:
        if self.full:
            raise EnvironmentProblem("Cannot write: the disk is full.")
        return self.store.put(*given, **more)


def test_a_full_disk_under_the_log(releases: Any, rows: Any, tmp_path: Path) -> None:
    """What does not fit is counted, told once, and the rest is written when there is room."""
    from loopline.serve.model import ServedModel

    settings = ServeSettings(log={"pending_rows": 50, "flush_seconds": 0.05})
    model = ServedModel(releases["binary"], settings.input)
    store, metrics, told = _Store(Store.open(tmp_path)), Metrics(), []
    log = PredictionLog(store, settings.log, b"k" * 32, metrics, lambda *event: told.append(event))  # type: ignore[arg-type]
    raw, checked, *_ = model.answer_row(plain(rows)[0])
    for n in range(80):
        log.add(model, "champion", f"id{n}", checked, raw, ())
    _until(lambda: metrics.value("log_failures_total") > 1)
    assert metrics.value("log_dropped_rows_total") == 30
    assert [kind for kind, _ in told] == ["log.failed"]
    store.full = False
    log.close()
    assert metrics.value("log_rows_total") == 50
    assert read_log(store.store)["request_id"].to_list() == [f"id{n}" for n in range(50)]


class _SlowStore:
    """A store whose disk lets a writer wait until it is told to go on."""

    def __init__(self, store: Store) -> None:
        self.store, self.begun, self.go_on = store, threading.Event(), threading.Event()

    def put(self, *given: Any, **more: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return self.store.put(*given, **more)


def test_a_slow_disk_keeps_only_tables_waiting(releases: Any, rows: Any, tmp_path: Path) -> None:
    """While a file is written rows go on being packed, and all of them come into the log."""
    from loopline.serve.model import ServedModel

    settings = ServeSettings(log={"flush_rows": 1_000})
    model = ServedModel(releases["binary"], settings.input)
    store, metrics = _SlowStore(Store.open(tmp_path)), Metrics()
    log = PredictionLog(store, settings.log, b"k" * 32, metrics, lambda *event: None)  # type: ignore[arg-type]
    raw, checked, *_ = model.answer_row(plain(rows)[0])
    for n in range(1_100):
        log.add(model, "champion", f"id{n}", checked, raw, ())
    assert store.begun.wait(30)
    for n in range(1_100, 9_000):
        log.add(model, "champion", f"id{n}", checked, raw, ())
    try:
        _until(lambda: len(log._entries) < 512)
        assert metrics.value("log_rows_total") == 0
        assert log.pending == 9_000
    finally:
        store.go_on.set()
        log.close()
    found = read_log(store.store)
    assert sorted(found["request_id"]) == sorted(f"id{n}" for n in range(9_000))
    assert metrics.value("log_dropped_rows_total") == 0


def test_the_service_goes_on_when_the_store_is_gone(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """A store that cannot be written any more costs the log, not the answers."""
    store = tmp_path / "store"
    settings = {"log": {"flush_seconds": 0.05}}
    client = serve(releases["binary"], store=store, folder=tmp_path / "labels", settings=settings)
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()
    store.write_text("a file where the store was")
    assert client.post("/predict", plain(rows)[0]).status == 200
    _until(lambda: client.metric("log_failures_total") > 0)
    assert client.post("/predict", plain(rows)[0]).status == 200


def test_what_is_new_in_the_log_is_read_alone(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """Files that are known are not opened; columns that are not asked for are not read."""
    client = serve(releases["binary"], store=tmp_path, settings={"log": {"flush_seconds": 0.05}})
    data = plain(rows)
    store = Store.open(tmp_path)
    first = client.post("/predict", data[:2]).json()["id"]
    _until(lambda: log_files(store))
    (known,) = log_files(store)
    assert (known.num_rows, known.release) == (2, releases["binary"].id)
    second = client.post("/predict", data[2:5]).json()["id"]
    _until(lambda: log_files(store, known=[known.id]))
    (new,) = log_files(store, known=[known.id])
    found = read_files(store, [new], ["request_id", "row", "no_such_column"])
    assert found.columns == ["request_id", "row", "time", "release"]
    assert set(found["request_id"]) == {second}
    assert set(read_files(store, [known])["request_id"]) == {first}
    assert read_files(store, []).is_empty()


def test_how_the_service_did_is_kept_beside_the_log(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests, failures and times since the last file; refusals are no failures of the service."""
    client = serve(releases["binary"], store=tmp_path, settings={"log": {"flush_seconds": 0.05}})
    store = Store.open(tmp_path)
    for _ in range(3):
        assert client.post("/predict", plain(rows)[0]).status == 200
    assert client.post("/predict", {"nothing": 1}).status == 422
    assert client.get("/v2").status == 200

    def counted(known: Any = ()) -> Any:
        return summed(read_served(store, known=known))

    _until(lambda: (found := counted()) is not None and found.requests == 4)
    assert counted().errors == 0
    assert sum(counted().seconds) == 4
    assert 0 < counted().quantile(0.5) <= 10.0
    before = [served.id for served in read_served(store)]

    def broken(*given: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(ServedModel, "answer_row", broken)
    assert client.post("/predict", plain(rows)[0]).status == 500
    _until(lambda: counted(before) is not None)
    assert (counted(before).requests, counted(before).errors) == (1, 1)


def test_counts_that_cannot_be_kept_are_told_the_next_time() -> None:
    """A full disk loses no request: the next stretch has it."""
    metrics, told = Metrics(), []
    counted = Counted(metrics)
    metrics.add("requests_total", (("route", "/predict"), ("status", "503")))

    def full(served: Served) -> None:
        raise EnvironmentProblem("full")

    with pytest.raises(EnvironmentProblem):
        counted.take(full)
    metrics.add("requests_total", (("route", "/predict/{model}"), ("status", "200")))
    metrics.add("requests_total", (("route", "/metrics"), ("status", "200")))
    counted.take(told.append)
    counted.take(told.append)
    assert [(served.requests, served.errors) for served in told] == [(2, 1)]


def test_what_is_new_among_the_labels_is_read_alone(tmp_path: Path) -> None:
    """A correction of an old label is new; what came before the place is not."""
    feedback = Feedback(tmp_path)
    feedback.add([Label("a", 0, "v" * 12, 1), Label("b", 0, "v" * 12, 0)])
    place = read_feedback(tmp_path)["place"].max()
    feedback.add([Label("c", 0, "v" * 12, 1), Label("a", 0, "v" * 12, 0)])
    feedback.close()
    found = read_feedback(tmp_path, after=place)
    assert found.select("request_id", "label", "changes").rows() == [("c", "1", 0), ("a", "0", 1)]
    assert read_feedback(tmp_path)["request_id"].to_list() == ["b", "c", "a"]


def test_collection_keeps_the_log(serve: Serve, releases: Any, rows: Any, tmp_path: Path) -> None:
    """`loopline gc` removes no log: what was answered cannot be made again."""
    with loopline.open_project(tmp_path) as project:
        client = serve(releases["binary"], store=tmp_path)
        client.post("/predict", plain(rows)[0])
        client.running.close()
        project.collect(grace_seconds=0)
        assert len(project.store.ids(KIND)) == 1


def test_labels_are_kept_and_known_again(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """A label is new, the same one again is known, another one is a correction; all are told."""
    client = serve(releases["binary"], folder=tmp_path)
    asked = client.post("/predict", plain(rows)[:3]).json()["id"]
    outcomes = [
        client.post("/feedback", {"id": asked, "row": 2, "label": label}).json()["taken"]
        for label in ("yes", "yes", "no")
    ]
    assert outcomes == ["new", "known", "correction"]
    kept = read_feedback(tmp_path).row(0, named=True)
    assert (kept["request_id"], kept["row"], kept["label"], kept["changes"]) == (
        asked,
        2,
        '"no"',
        1,
    )


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"id": "nobody's"}, 404, "No answer of this service has this id"),
        ({"id": 5}, 404, "No answer"),
        ({"label": "maybe"}, 422, "one of 'no', 'yes'; got 'maybe'"),
        ({"label": None}, 422, "one of"),
        ({"label": ["yes"]}, 422, "one of"),
        ({"row": 1}, 422, "had 1 rows, from 0"),
        ({"row": -1}, 422, "from 0"),
        ({"row": True}, 422, "from 0"),
        ({"extra": 1}, 422, "A label is sent as"),
    ],
)
def test_labels_that_are_refused(
    client: Client, rows: Any, change: dict[str, Any], status: int, told: str
) -> None:
    """Unknown ids, rows, labels and keys are refused, and nothing of the request is kept."""
    asked = client.post("/predict/binary", plain(rows)[0]).json()["id"]
    good = {"id": asked, "label": "yes"}
    answer = client.post("/feedback", [good, good | change])
    assert answer.status == status
    assert told in answer.json()["error"]
    assert client.post("/feedback", good).json()["taken"] == "new"


def test_an_id_that_was_changed_is_unknown() -> None:
    """Each character of an id counts; another key's ids are unknown too."""
    ids = RequestIds(b"k" * 32)
    made = ids.make("0123456789ab", 7)
    known = ids.read(made)
    assert known is not None
    assert (known.version, known.num_rows) == ("0123456789ab", 7)
    for place, letter in enumerate(made):
        changed = made[:place] + ("0" if letter != "0" else "1") + made[place + 1 :]
        assert ids.read(changed) is None
    assert RequestIds(b"o" * 32).read(made) is None
    for nonsense in ("", ".", "....", "a" * 500, "é.1.2.3.4", f"{made}0"):
        assert ids.read(nonsense) is None


def test_ids_are_known_after_a_restart(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """A label that comes weeks and restarts later still finds its answer."""
    client = serve(releases["binary"], folder=tmp_path)
    asked = client.post("/predict", plain(rows)[0]).json()["id"]
    client.running.close()
    again = serve(releases["other"], folder=tmp_path)
    assert again.post("/feedback", {"id": asked, "label": "yes"}).json() == {"taken": "new"}


def test_the_key_is_private_and_proved(tmp_path: Path) -> None:
    """The key is its owner's alone, the same for every process, and a damaged one is told."""
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(load_key(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(IntegrityError, match="holds 5 bytes instead of 32"):
        load_key(tmp_path)


def test_without_a_folder_labels_are_refused(serve: Serve, releases: Any, rows: Any) -> None:
    """A service that keeps no labels says so instead of losing them."""
    client = serve(releases["binary"])
    asked = client.post("/predict", plain(rows)[0]).json()["id"]
    answer = client.post("/feedback", {"id": asked, "label": "yes"})
    assert (answer.status, "Labels are not kept" in answer.json()["error"]) == (503, True)


def test_a_full_disk_refuses_labels(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that cannot be kept is 507, and is taken when it is sent again later."""
    client = serve(releases["binary"], folder=tmp_path)
    asked = client.post("/predict", plain(rows)[0]).json()["id"]
    label = {"id": asked, "label": "yes"}
    database = client.service._feedback._database
    database.execute("PRAGMA max_page_count = 1")  # SQLite's own "disk is full"
    filler = [client.post("/feedback", {**label, "label": x}) for x in ["yes", "no"] * 60]
    assert filler[-1].status == 507
    assert "Send them again later" in filler[-1].json()["error"]
    database.execute("PRAGMA max_page_count = 100000")
    assert client.post("/feedback", label).status == 200


def test_accepted_labels_survive_kill(tmp_path: Path) -> None:
    """Labels whose taking was told are there after `kill -9` at any moment."""
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from loopline.serve.feedback import Feedback, Label
        feedback = Feedback(Path(sys.argv[1]))
        for n in range(100_000):
            feedback.add([Label(f"id{n}", 0, "v", n)])
            print(n, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(40)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    last = max(int(line) for line in told if line.endswith("\n"))
    kept = {int(label) for label in read_feedback(tmp_path)["label"]}
    assert set(range(last + 1)) <= kept


def test_two_processes_share_the_labels(tmp_path: Path) -> None:
    """Two writers on one file lose nothing and tell the same label once as new."""
    one, two = Feedback(tmp_path), Feedback(tmp_path)
    found: list[str] = []

    def write(feedback: Feedback) -> None:
        found.extend(feedback.add([Label(f"id{n}", 0, "v", "yes")])[0] for n in range(30))

    threads = [threading.Thread(target=write, args=(feedback,)) for feedback in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.close()
    two.close()
    assert sorted(found) == ["known"] * 30 + ["new"] * 30
    assert read_feedback(tmp_path).height == 30


def test_settings_without_effect_are_told() -> None:
    """A log that is off has no other settings, and a column is hashed or left out, not both."""
    with pytest.raises(SettingsError, match=r"`log.share` has no effect with `log.enabled: false`"):
        make_serve_settings({"log": {"enabled": False, "share": 0.5}})
    with pytest.raises(SettingsError, match=r"`log.hash` and `log.leave_out` both name 'a'"):
        make_serve_settings({"log": {"hash": "a", "leave_out": "a"}})
    with pytest.raises(SettingsError, match="2 problems"):
        make_serve_settings({"portt": 1, "workers": 0})


def test_metrics_are_in_prometheus_format(client: Client, rows: Any) -> None:
    """Every line is a comment or a name, labels and a number; counters only grow."""
    client.post("/predict/binary", plain(rows)[0])
    lines = client.get("/metrics").body.decode().splitlines()
    for line in lines:
        if not line.startswith("# "):
            name, _, value = line.rpartition(" ")
            assert name.startswith("loopline_")
            float(value)
    counts = [line for line in lines if line.startswith("loopline_request_seconds_count")]
    assert any('route="/predict/{model}"' in line for line in counts)


def test_a_callers_names_become_no_counters(client: Client, rows: Any) -> None:
    """A thousand columns of a caller's own are one counter, and no text in the log's `odd`."""
    row = plain(rows)[0] | {f"made up {n}": n for n in range(1000)}
    answer = client.post("/predict/regression", row)
    assert len(answer.json()["remarks"]) == 1000
    assert client.metric("remarks_total", what="extra", model="regression") == 1000
    assert "made up" not in client.get("/metrics").body.decode()


def test_counting_from_threads_loses_nothing() -> None:
    """Four threads that count while a fifth reads: every count is there."""
    metrics = Metrics()

    def count() -> None:
        for n in range(3000):
            metrics.add("rows_total", (("model", str(n % 50)),))
            metrics.meter("/predict", 200).add(0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.text()
    assert metrics.value("rows_total") == 12_000
    assert 'request_seconds_count{route="/predict"} 12000' in metrics.text()


def test_counters_of_workers_add_up() -> None:
    """Merged counters are sums, and a label's text cannot break the format."""
    one, two = Metrics(), Metrics()
    for metrics, amount in ((one, 2), (two, 3)):
        metrics.add("rows_total", (("model", 'a"\n\\'),), amount)
        metrics.meter("/predict", 200).add(0.0007)
    both = Metrics.merged([json.loads(json.dumps(m.snapshot())) for m in (one, two)])
    text = both.text()
    assert 'loopline_rows_total{model="a\\"\\n\\\\"} 5' in text
    assert 'loopline_request_seconds_bucket{route="/predict",le="0.0005"} 0' in text
    assert 'loopline_request_seconds_bucket{route="/predict",le="0.001"} 2' in text
    assert 'loopline_request_seconds_count{route="/predict"} 2' in text


def test_a_log_of_whole_numbers_and_fractions(releases: Any, tmp_path: Path) -> None:
    """A column of whole numbers in which fractions come is logged with its fractions."""
    table = mixed_table(4, seed=3).drop("bought", "kind", "spent")
    with loopline.open_service(releases["binary"], store=tmp_path) as running:
        client = Client(running)
        for row, size in zip(plain(table), [1, 2.5, 3, 4], strict=True):
            client.post("/predict", row | {"size": size})
    found = read_log(Store.open(tmp_path))
    assert found["input.size"].to_list() == [1, 2.5, 3, 4]


def _until(done: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
