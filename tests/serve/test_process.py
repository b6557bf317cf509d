"""`loopline serve` as a process: what it says, its exit codes, its signals, its workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import plain

import loopline
from loopline.cli.main import main
from loopline.serve.log import read_log
from loopline.serve.server import RunningService, Server, listen
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings

SILENT = {name: value for name, value in os.environ.items() if not name.startswith("LOOPLINE")}


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A serving process; killed if the test leaves it."""
    command = [sys.executable, "-W", "error", "-m", "loopline", "serve", *arguments]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=SILENT | environment
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
        started.wait(20)
        for stream in (started.stdout, started.stderr):
            assert stream is not None
            stream.close()


def first(started: subprocess.Popen[str]) -> Any:
    """The line that `--json` prints when the port is open."""
    assert started.stdout is not None
    line = started.stdout.readline()
    assert line, started.stderr.read() if started.stderr else ""
    return json.loads(line)


def post(url: str, row: Any) -> Any:
    """One prediction."""
    body = json.dumps(row).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_it_says_how_to_ask_and_ends_with_0(releases: Any, store: Path) -> None:
    """A person reads the address, a command that works as it stands, and how to stop."""
    with process("binary", "--port", "0", "--store", str(store), "--no-log") as started:
        assert started.stdout is not None
        told = [started.stdout.readline() for _ in range(4)]
        assert "is served on http://127.0.0.1:" in told[0]
        done = subprocess.run(
            told[2].strip(), shell=True, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["prediction"] in ("yes", "no")
        assert "Stop with Ctrl-C" in told[3]
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 0


def test_sigterm_under_load_drops_nothing(
    releases: Any, rows: Any, store: Path, tmp_path: Path
) -> None:
    """Callers who keep their connections get whole answers to the last; the log has them all."""
    row = json.dumps(plain(rows)[0])
    answered: list[str] = []
    dropped: list[str] = []

    def call(port: int) -> None:
        """Ask until the service says that it closes, or takes no connection."""
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.connect()
            except OSError:
                return
            while True:
                try:
                    connection.request(
                        "POST", "/predict", row, {"Content-Type": "application/json"}
                    )
                    answer = connection.getresponse()
                    body = json.loads(answer.read())
                except (OSError, HTTPException) as error:
                    dropped.append(repr(error))
                    return
                answered.append(body["id"])
                if answer.getheader("connection") == "close":
                    break
            connection.close()

    copy = releases["binary"].save(tmp_path / "release")
    place = tmp_path / "store"
    loopline.open_project(place).close()
    with process(str(copy), "--port", "0", "--store", str(place), "--json") as started:
        port = int(first(started)["url"].rsplit(":", 1)[1])
        callers = [threading.Thread(target=call, args=(port,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        while len(answered) < 200:
            time.sleep(0.01)
        started.terminate()
        assert started.wait(30) == 0
        for caller in callers:
            caller.join()
    assert dropped == []
    log = read_log(loopline.open_project(place).store)
    assert sorted(log["request_id"]) == sorted(answered)


def test_workers_share_a_port_and_their_counters(
    releases: Any, rows: Any, store: Path, tmp_path: Path
) -> None:
    """Two workers answer; one that is killed is started anew; any of them tells the sum."""
    folder = str(tmp_path)
    arguments = ("binary", "--port", "0", "--workers", "2", "--store", str(store))
    with process(*arguments, "--folder", folder, "--no-log", "--json") as started:
        url = first(started)["url"]
        for _ in range(30):
            post(url, plain(rows)[0])
        _until(lambda: _count(url) == 30)
        children = [int(pid) for pid in _children(started.pid)]
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        _until(lambda: len(set(_children(started.pid)) - {str(children[0])}) == 2)
        _until(lambda: _answers(url, plain(rows)[0]))
        started.terminate()
        assert started.wait(30) == 0
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _count(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(r'requests_total\{route="/predict",status="200"\} (\d+)', text)
    return int(found[0]) if found else 0


def _children(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return text.split()


def _answers(url: str, row: Any) -> bool:
    with suppress(OSError):
        return bool(post(url, row))
    return False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("binary", "--host", "0.0.0.0"), "that needs a token"),
        (("nothing",), "There is no release 'nothing'"),
        (("binary", "--set", "limits.bodybytes=3"), "`bodybytes` is not a setting of `limits`"),
        (("binary", "--port", "99999"), "`port` must be <= 65535"),
        (("binary", "--set", "input.columns.citty=flag"), "no served model reads"),
        (("binary", "--set", "log.hash=citty"), "`log.hash` names 'citty'"),
        (("binary", "--canary", "0.5"), "`canary.share` has no effect without a challenger"),
        (("binary", "--settings", "absent.yaml"), "There is no settings file"),
        (("binary", "--token-file", "absent"), "There is no token file"),
        (("a b=binary",), "is no name for a model"),
        (("binary", "binary"), "is named twice"),
        (("binary", "--host", "no.such.host.invalid"), "that needs a token"),
    ],
)
def test_what_cannot_be_served_is_told(
    releases: Any, store: Path, arguments: tuple[str, ...], told: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Wrong arguments end with 2 and one sentence, before a port is opened."""
    monkeypatch.setattr(sys, "argv", ["loopline", "serve", *arguments, "--store", str(store)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_damaged_release_is_not_served(
    releases: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """One flipped bit in the model, and the service does not start: exit code 4."""
    copy = releases["binary"].save(tmp_path / "copy")
    (file,) = copy.rglob("model.txt")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    arguments = ["loopline", "serve", str(copy), "--port", "0", "--no-log"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert "is damaged" in capsys.readouterr().err


def test_a_port_that_is_taken(
    releases: Any, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """A port on which another program listens is told with exit code 5."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        arguments = ["loopline", "serve", "binary", "--port", port, "--store", str(store)]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 5
    assert "Choose another with --port, or 0" in capsys.readouterr().err


def test_a_settings_file_names_its_lines(
    tmp_path: Path, releases: Any, store: Path, capsys: Any, monkeypatch: Any
) -> None:
    """All problems of a settings file are told at once, each with its line."""
    file = tmp_path / "service.yaml"
    file.write_text("port: 70000\nlimits:\n  rows: 0\ninput:\n  policy: ignore\n")
    arguments = ["loopline", "serve", "binary", "--settings", str(file), "--store", str(store)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert "3 problems" in told
    for line in ("line 1: `port`", "line 3: `limits.rows`", "line 5: `input.policy`"):
        assert line in told


def test_a_token_from_the_environment(releases: Any, rows: Any, store: Path) -> None:
    """The variable's token is needed, and is not printed."""
    token = "from-the-environment-1234"
    given = {"LOOPLINE_SERVE_TOKEN": token}
    with process("binary", "--port", "0", "--store", str(store), "--no-log", **given) as started:
        assert started.stdout is not None
        told = "".join(started.stdout.readline() for _ in range(4))
        assert token not in told
        assert "$LOOPLINE_SERVE_TOKEN" in told
        url = re.findall(r"served on (\S+)", told)[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            post(url, plain(rows)[0])


def test_what_a_name_stands_for_is_followed(releases: Any, rows: Any) -> None:
    """When an alias moves, the service swaps; a release that cannot be loaded is tried once."""
    stands = [releases["binary"]]
    loads: list[str] = []

    def newest() -> Any:
        release = stands[0]

        def load() -> Any:
            loads.append(release.id)
            if release is releases["regression"]:
                raise OSError("lost")
            return release

        return release.id, load

    settings = ServeSettings(port=0, swap_seconds=0.05)
    service = Service(settings)
    service.add(releases["binary"])
    server = Server(service, newest={"binary": newest})
    with RunningService(server, listen(settings)) as running:
        assert post(running.url, plain(rows)[0])["version"] in releases["binary"].id
        stands[0] = releases["other"]
        _until(lambda: service.metrics.value("swaps_total", outcome="done") == 1)
        assert post(running.url, plain(rows)[0])["version"] in releases["other"].id
        stands[0] = releases["regression"]
        _until(lambda: service.metrics.value("swaps_total", outcome="failed") == 1)
        time.sleep(0.3)
        assert post(running.url, plain(rows)[0])["version"] in releases["other"].id
    assert loads == [releases["other"].id, releases["regression"].id]


@pytest.mark.parametrize("signalled", [False, True])
def test_an_alias_is_served_and_followed(
    releases: Any, rows: Any, store: Path, signalled: bool
) -> None:
    """`binary@champion` answers; after a promotion and a rollback the service follows, by its
    own looking or, where that is off, on SIGHUP."""
    row = plain(rows)[0]
    with loopline.open_project(store) as project:
        project.promote(releases["binary"].id)
        arguments = ("binary@champion", "--port", "0", "--store", str(store), "--no-log")
        seconds = 0 if signalled else 0.1
        with process(*arguments, "--set", f"swap_seconds={seconds}", "--json") as started:
            url = first(started)["url"]
            assert post(url, row)["version"] in releases["binary"].id
            project.promote(releases["other"].id)
            if signalled:
                assert post(url, row)["version"] in releases["binary"].id
                started.send_signal(signal.SIGHUP)
            _until(lambda: post(url, row)["version"] in releases["other"].id)
            project.rollback("binary")
            if signalled:
                started.send_signal(signal.SIGHUP)
            _until(lambda: post(url, row)["version"] in releases["binary"].id)
            started.terminate()
            assert started.wait(30) == 0


def test_a_swap_is_noted_in_the_ledger(releases: Any, rows: Any, tmp_path: Path) -> None:
    """A logging service writes its swaps and rollbacks where promotions stand."""
    from loopline.line.serving import noted

    with loopline.open_project(tmp_path) as project:
        note = noted(project)
        note("serve.swapped", {"name": "a", "from": "release-1", "to": "release-2"})
        note("serve.rolled_back", {"name": "a", "release": "release-3", "reason": "errors: 5"})
        note("serve.flagged", {"name": "a"})
        told = [(event.kind, event.subject) for event in project.ledger.events()]
    assert told == [("serve.swapped", "release-2"), ("serve.rolled_back", "release-3")]


def test_serving_loads_no_library_of_training(releases: Any, store: Path) -> None:
    """The serving process imports no pandas, scikit-learn, LightGBM's package or torch."""
    code = (
        "import sys, loopline, threading\n"
        f"release = loopline.open_project({str(store)!r}).release('binary')\n"
        "with loopline.open_service(release) as running:\n"
        "    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"pandas", "sklearn", "scipy", "lightgbm", "torch", "plotly", "pyarrow", "optuna"}
    assert not set(done.stdout.split()) & heavy


def _until(done: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
