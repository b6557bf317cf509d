"""A PostgreSQL server for the tests: on loopback, in a temporary folder, gone afterwards.

`tests/conftest.py` gives the fixtures to every test.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest version first."""
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)
    )
    found = shutil.which("initdb")
    on_path = [Path(found).resolve().parent] if found else []
    for folder in [*packaged, *on_path]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _as_other_user() -> tuple[list[str], int, int]:
    """How to run the server, which refuses root: the command's head, and who owns its files."""
    if os.geteuid() != 0:
        return [], os.geteuid(), os.getegid()
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if shutil.which("setpriv"):
            head = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            return head, user.pw_uid, user.pw_gid
    pytest.skip("PostgreSQL refuses root, and there is no setpriv or no user to run it as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running server: ``postgresql://user:password@127.0.0.1:port``, or a skip that says why."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server binaries are not in /usr/lib/postgresql or on PATH")
    head, user, group = _as_other_user()
    folder = Path(tempfile.mkdtemp(prefix="loopline-postgres-"))
    password, port = secrets.token_hex(8), _free_port()
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        os.chown(path, user, group)
    made = subprocess.run(
        [*head, str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "loopline",
         "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync",
         "--encoding=UTF8", "--locale=C"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"initdb does not run here: {made.stderr.strip()[-200:]}")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*head, str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port),
             "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
             "-c", "fsync=off", "-c", "max_connections=60"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"postgresql://loopline:{password}@127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(f"{url}/postgres").close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"PostgreSQL does not start: {(folder / 'log').read_text()[-300:]}")
                time.sleep(0.05)
        yield url
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a fresh database on the server."""
    import psycopg

    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
