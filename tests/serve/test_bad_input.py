"""Enemies and accidents on the wire: the stated refusal, no crash, the next request answered."""

from __future__ import annotations

import gzip
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import polars as pl
import pytest
from tests.serve.conftest import Client, Serve, plain

from loopline.serve.server import RunningService, Server, listen
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings

HEAD = "POST /predict/binary HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def raw(client: Client, *parts: bytes, seconds: float = 10.0) -> bytes:
    """Send bytes as they are; everything that comes back until the connection ends or rests."""
    with closing(socket.create_connection(("127.0.0.1", client.port), timeout=seconds)) as link:
        for part in parts:
            link.sendall(part)
        answer = b""
        try:
            while chunk := link.recv(65_536):
                answer += chunk
                if b"\r\n\r\n" in answer and _whole(answer):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(length) and len(body) >= int(length[0].split(b":")[1])


@pytest.fixture(autouse=True)
def still_well(client: Client, rows: Any) -> Iterator[None]:
    """After every attack the service answers as before, and made no mistake of its own."""
    yield
    assert client.post("/predict/binary", plain(rows)[0]).status == 200
    assert client.metric("failures_total") == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'x': 1}", "not JSON"),
        (b'{"x": NaN}', "not JSON"),
        (b'{"x": Infinity}', "not JSON"),
        (b'{"x": 1e400}', "not JSON"),
        (b'{"x": "\xff"}', "not JSON"),
        (b'{"x": "\\ud800"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"x":' * 100_000, "not JSON"),
        (b"3", "Send one row"),
        (b"[]", "Send one row"),
        (b"[1, 2]", "Send one row"),
        (b"[{}, 1]", "Send one row"),
        (b'"text"', "Send one row"),
        (b"null", "Send one row"),
    ],
)
def test_bodies_that_are_no_rows(client: Client, body: bytes, told: str) -> None:
    """Malformed JSON, NaN, infinity, 100,000 levels and other shapes are 400 with a reason."""
    answer = client.post("/predict/binary", body, {"Content-Type": "application/json"})
    assert answer.status == 400
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": "twelve"}, "Column 'x' must hold a number"),
        ({"x": [1]}, "Column 'x'"),
        ({"x": {"a": 1}}, "Column 'x'"),
        ({"flag": "maybe"}, "Column 'flag' must hold true or false"),
        ({"day": "31.12.2020"}, "Column 'day' must hold an ISO 8601 date"),
        ({"size": True}, ""),
        ({"x": 10**30}, ""),
        ({"city": "x" * 1_000_000}, ""),
        ({"city": "\u0000\u202e'; DROP TABLE feedback;--"}, ""),
    ],
)
def test_cells_of_another_kind(client: Client, rows: Any, change: Any, told: str) -> None:
    """Cells that the contract refuses are 422 and named; odd ones are answered; never 500."""
    row = plain(rows)[0] | change
    for body in (row, [row]):
        answer = client.post("/predict/binary", body)
        assert answer.status == (422 if told else 200) or answer.status in (200, 422)
        if told:
            assert answer.status == 422
            assert told in answer.json()["error"]


def test_an_absent_column_is_named(client: Client, rows: Any) -> None:
    """A row without a column, alone or in a list, is refused with the column's name."""
    data = plain(rows)[:3]
    del data[1]["city"]
    assert "'city'" in client.post("/predict/binary", data[1]).json()["error"]
    answer = client.post("/predict/binary", data)
    assert (answer.status, "Row 1 lacks column 'city'" in answer.json()["error"]) == (422, True)


def test_mixed_kinds_in_a_column_are_refused(client: Client, rows: Any) -> None:
    """Text and numbers in one column of a list are no column."""
    data = plain(rows)[:2]
    data[0]["size"] = "text"
    assert (
        "Column 'size' holds numbers and text"
        in client.post("/predict/binary", data).json()["error"]
    )


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.arrow.stream"])
@pytest.mark.parametrize(
    "body", [b"", b"\x00" * 100, b"ARROW1\x00\x00", b"a,b\n1", b"\xff\xfe\xff"]
)
def test_tables_that_are_none(client: Client, kind: str, body: bytes) -> None:
    """Broken CSV and Arrow bodies are refused without telling a path."""
    answer = client.post("/predict/binary", body, {"Content-Type": kind})
    assert answer.status in (400, 422)
    assert "/tmp" not in answer.json()["error"]
    assert "body.csv" not in answer.json()["error"]


@pytest.mark.parametrize("packing", ["zstd", "lz4"])
def test_arrow_that_unpacks_to_far_more_is_refused(client: Client, rows: Any, packing: Any) -> None:
    """A compressed body of kilobytes whose one cell holds 70 MB is refused before it is unpacked;
    one of a hundred thousand equal rows is answered."""
    kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
    one = rows.head(1)
    for table, status in (
        (one.with_columns(city=pl.lit("a" * 70_000_000)), 413),
        (pl.concat([one] * 100_000), 200),
    ):
        body = io.BytesIO()
        table.write_ipc_stream(body, compression=packing)
        assert len(body.getvalue()) < 500_000
        answer = client.post("/predict/regression", body.getvalue(), kind)
        assert answer.status == status
        assert status == 200 or "may unpack to 67,108,864 bytes" in answer.json()["error"]


def test_a_gigabyte_is_refused_by_its_length(client: Client) -> None:
    """A body that says it is 1 GB is refused before a byte of it is read."""
    answer = raw(client, f"{HEAD}Content-Length: 1000000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


def test_a_body_without_an_end_is_refused_while_it_comes(client: Client) -> None:
    """A chunked body has no stated length: it is cut off once it is longer than allowed."""
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    before = client.metric("requests_total", status="413")
    head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    answer = raw(client, head, *[chunk] * 9, seconds=5)  # whose end never comes
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert client.metric("requests_total", status="413") == before + 1


def test_chunks_of_a_few_bytes_are_put_together(client: Client, rows: Any) -> None:
    """A body in chunks of 6 bytes is one body."""
    body = json.dumps(plain(rows)[0]).encode()
    chunks = [body[i : i + 6] for i in range(0, len(body), 6)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    answer = raw(client, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), sent + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


SMUGGLED = [
    "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\n",
    "Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}",
    "Content-Length: 2, 60\r\n\r\n{}",
    "Content-Length: +2\r\n\r\n{}",
    "Content-Length: -1\r\n\r\n{}",
    "Content-Length: 0x2\r\n\r\n{}",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n80000000000000000000\r\n\r\n",
    "Content-Length: 2\r\nX: a\nb\r\n\r\n{}",
]


@pytest.mark.parametrize("rest", SMUGGLED)
def test_requests_cannot_be_smuggled(client: Client, rest: str) -> None:
    """A head that two parsers may read in two ways gets one answer, 4xx, and the end."""
    answer = raw(client, (HEAD + rest).encode() + b"Host: localhost\r\n\r\n", seconds=2)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]


def test_pipelined_requests_are_answered_in_order(client: Client, rows: Any) -> None:
    """Two requests in one packet, one on the short way and one not, get two answers in order."""
    body = json.dumps(plain(rows)[0]).encode()
    one = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    health = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for order, first in (([one, health], b"prediction"), ([health, one], b"live")):
        with closing(socket.create_connection(("127.0.0.1", client.port), timeout=10)) as link:
            link.sendall(b"".join(order))
            answer = b""
            while answer.count(b"HTTP/1.1 200") < 2 or not answer.endswith(b"}"):
                answer += link.recv(65_536)
        assert answer.index(first) < answer.rindex(b"HTTP/1.1 200")


def test_a_long_head_is_refused(client: Client) -> None:
    """A head of more than 16 kB is 431, in one packet or without an end."""
    long = f"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 20_000}".encode()
    assert raw(client, long + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert raw(client, long).startswith(b"HTTP/1.1 431")
    first = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", client.port), timeout=10)) as link:
        link.sendall(first + long + b"\r\n\r\n")
        answer = b""
        while chunk := link.recv(65_536):
            answer += chunk
    assert b"HTTP/1.1 431" in answer
    many = "".join(f"X-{n}: {n}\r\n" for n in range(5_000))
    assert raw(client, f"GET /v2 HTTP/1.1\r\n{many}".encode()).startswith(b"HTTP/1.1 431")


def test_no_http_at_all(client: Client) -> None:
    """Bytes that are no HTTP get 400 and the end."""
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"\x00" * 1000):
        assert raw(client, noise, seconds=2)[:12] in (b"HTTP/1.1 400", b"")


@pytest.fixture
def hasty(serve: Serve, releases: Any) -> Client:
    """A service that waits for nobody."""
    limits = {"header_seconds": 0.3, "body_seconds": 0.3, "idle_seconds": 0.5, "connections": 20}
    return serve(releases["binary"], settings={"limits": limits})


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", "head"),
        (b"POST /predict HTTP/1.1\r\nHost: localh", "head"),
        (HEAD.replace("/binary", "").encode() + b"Content-Length: 50\r\n\r\n{", "body"),
        (b"POST /feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{", "body"),
    ],
)
def test_slow_clients_are_cut_off(hasty: Client, sent: bytes, what: str) -> None:
    """A head or a body that does not come is 408, and the connection ends."""
    answer = raw(hasty, sent)
    assert answer.startswith(b"HTTP/1.1 408")
    assert hasty.metric("timeouts_total", what=what) == 1


def test_a_rest_after_a_short_answer_ends(hasty: Client, rows: Any) -> None:
    """A connection that rests longer than allowed is closed, after a short answer too."""
    body = json.dumps(plain(rows)[0]).encode()
    head = HEAD.replace("/binary", "")
    with closing(socket.create_connection(("127.0.0.1", hasty.port), timeout=10)) as link:
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert link.recv(65_536).startswith(b"HTTP/1.1 200")
        assert link.recv(65_536) == b""


def test_half_open_sockets_do_not_keep_others_out(hasty: Client, rows: Any) -> None:
    """Connections beyond the limit are refused, and the silent ones make room in time."""
    silent = [socket.create_connection(("127.0.0.1", hasty.port)) for _ in range(30)]
    time.sleep(0.1)
    told = b""
    for link in silent[20:]:
        link.settimeout(5)
        told += link.recv(100)
    assert b"503" in told
    _until(lambda: hasty.metric("timeouts_total", what="head") >= 20)
    for link in silent:
        link.close()
    assert hasty.post("/predict", plain(rows)[0]).status == 200


def test_a_client_that_does_not_read_is_cut_off(releases: Any, rows: Any) -> None:
    """An answer that nobody takes holds its memory for `send_seconds` only."""
    settings = ServeSettings(port=0, limits={"send_seconds": 0.3})
    service = Service(settings)
    service.add(releases["binary"])
    bound = listen(settings)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # what the kernel takes at once
    many = json.dumps(plain(rows) * 100).encode()
    with RunningService(Server(service), bound) as running, closing(socket.socket()) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", int(running.url.rsplit(":", 1)[1])))
        head = HEAD.replace("/binary", "")
        link.sendall(f"{head}Content-Length: {len(many)}\r\n\r\n".encode() + many)
        _until(lambda: service.metrics.value("timeouts_total", what="send") == 1, 20)


def test_too_many_rows(serve: Serve, releases: Any, rows: Any) -> None:
    """More rows than allowed are refused, counted in rows of any kind of body."""
    client = serve(releases["binary"], settings={"limits": {"rows": 5}})
    assert client.post("/predict", plain(rows)[:5]).status == 200
    assert client.post("/predict", plain(rows)[:6]).status == 413
    table = rows.head(6).write_csv().encode()
    assert client.post("/predict", table, {"Content-Type": "text/csv"}).status == 413
    assert client.post("/explain", plain(rows)[:6]).status == 413


def test_bodies_are_bounded_together(serve: Serve, releases: Any, tmp_path: Any) -> None:
    """While a body that came in part holds most of what all may hold, another one is 429."""
    limits = {"held_bytes": 1000, "body_bytes": 1000}
    client = serve(releases["binary"], settings={"limits": limits}, folder=tmp_path)
    body = b'{"id": "nobody", "label": 1}' + b" " * 200
    kind = {"Content-Type": "application/json"}
    head = b"POST /feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", client.port))) as link:
        link.sendall(head + b"{")
        _until(lambda: client.post("/feedback", body, kind).status == 429)
    _until(lambda: client.post("/feedback", body, kind).status == 404)
    assert client.service.metrics.value("busy_total") >= 1


@pytest.mark.parametrize("packed", [False, True])
def test_packed_bodies_are_refused(client: Client, rows: Any, packed: bool) -> None:
    """Content-Encoding is not taken: nothing is unpacked for a client, nor believed to be plain."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = json.dumps(plain(rows)[0]).encode()
    sent = gzip.compress(body) if packed else body
    assert client.post("/predict/binary", sent, headers).status == 415


def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
