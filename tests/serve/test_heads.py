"""Heads that were read before: the same answers and refusals, and no request taken wrongly."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serve.conftest import plain
from uvicorn.server import ServerState

from loopline.serve.app import App
from loopline.serve.heads import MAX_HEAD_BYTES, MAX_HEADS, Heads, ShortHead
from loopline.serve.protocol import GuardedProtocol, guarded
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings

TOKEN = "t" * 20


class Wire:
    """A transport that keeps what is written, and the protocol behind it."""

    def __init__(self, app: App) -> None:
        made = guarded(app)
        config = uvicorn.Config(app, http=made, lifespan="off", log_config=None, ws="none")
        config.load()
        self.written = b""
        self.closed = False
        self.protocol: GuardedProtocol = made(config, ServerState(), {})
        self.protocol.connection_made(self)  # type: ignore[arg-type]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        del name
        return default

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def ask(self, *parts: bytes) -> list[tuple[int, bytes, Any]]:
        """Send some parts; the answers to them: status, head, what the body says."""
        self.written = b""
        for part in parts:
            self.protocol.data_received(part)
        for _ in range(20):
            await asyncio.sleep(0)
        return list(answers(self.written))


def answers(data: bytes) -> Iterator[tuple[int, bytes, Any]]:
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        yield int(head.split()[1]), head, json.loads(data[:length])
        data = data[length:]


def sent(row: Any, *lines: str, host: str = "localhost") -> bytes:
    """One request; bodies are padded, so that all have one head."""
    body = json.dumps(row).encode().ljust(400)
    head = [
        "POST /predict HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.fixture
def run(releases: dict[str, Any]) -> Callable[..., Any]:
    """Runs a test of a service of one small model in an event loop."""

    def start(test: Callable[[App], Any], token: str | None = None) -> Any:
        async def whole() -> Any:
            service = Service(ServeSettings())
            service.add(releases["binary"])
            try:
                return await test(App(service, token))
            finally:
                await service.close()

        return asyncio.run(whole())

    return start


def unread(app: App, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """From now on, the urls of the heads that are read."""
    read: list[bytes] = []
    plain_way = app.short_head

    def noted(url: bytes, *given: Any) -> Any:
        read.append(url)
        return plain_way(url, *given)

    monkeypatch.setattr(app, "short_head", noted)
    return read


def test_known_heads_are_answered_as_in_training(
    run: Callable[..., Any],
    releases: dict[str, Any],
    rows: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 60 requests with one head the head is read once, and all answers equal `predict`."""

    async def test(app: App) -> tuple[list[bytes], list[float]]:
        wire, read = Wire(app), unread(app, monkeypatch)
        found = [await wire.ask(sent(row)) for row in plain(rows)]
        return read, [one[0][2]["probability"]["yes"] for one in found]

    read, found = run(test)
    assert read == [b"/predict"]
    wanted = releases["binary"].predict(rows)["probability_yes"]
    np.testing.assert_array_equal(found, wanted.to_numpy())


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 2600), max_size=6))
def test_however_the_bytes_are_cut_the_answers_are_the_same(
    releases: dict[str, Any], rows: pl.DataFrame, cuts: list[int]
) -> None:
    """Five requests in any parts get their five answers in their order, with known heads or not."""
    some = plain(rows)[:5]
    wanted = releases["binary"].predict(rows[:5])["probability_yes"].to_list()
    stream = b"".join(sent(row) for row in some)
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[start:stop] for start, stop in itertools.pairwise(ends)]

    async def test() -> list[float]:
        service = Service(ServeSettings())
        service.add(releases["binary"])
        app = App(service)
        await Wire(app).ask(sent(some[0]))
        found = await Wire(app).ask(*parts)
        await service.close()
        return [one[2]["probability"]["yes"] for one in found]

    assert asyncio.run(test()) == wanted


def test_a_known_request_within_another_is_not_one(
    run: Callable[..., Any], rows: pl.DataFrame
) -> None:
    """Bytes that are a known request alone are a body, or a head's end, where that is due."""
    inner = sent(plain(rows)[0])
    outer = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head = outer + b"Content-Length: %d\r\n\r\n" % len(inner)

    async def test(app: App) -> Any:
        wire = Wire(app)
        await wire.ask(inner)
        whole = await wire.ask(head, inner)
        begun = await wire.ask(inner + outer + b"X-Note: ", inner)
        return whole, begun

    whole, begun = run(test)
    assert [one[0] for one in whole] == [400]  # a body that is not JSON
    assert [one[0] for one in begun] == [200, 400]  # a head whose Host comes twice


@pytest.mark.parametrize(
    ("lines", "host", "status"),
    [
        ((f"Authorization: Bearer {TOKEN}",), "localhost", 200),
        ((), "localhost", 401),
        (("Authorization: Bearer " + "x" * 20,), "localhost", 401),
        ((f"Authorization: Bearer {TOKEN}",), "elsewhere.example", 421),
        ((f"Authorization: Bearer {TOKEN}", "Origin: http://elsewhere.example"), "localhost", 403),
    ],
)
def test_what_the_guard_refuses_is_refused_beside_known_heads(
    run: Callable[..., Any],
    rows: pl.DataFrame,
    lines: tuple[str, ...],
    host: str,
    status: int,
) -> None:
    """A head that passed opens nothing to another one, and a refused one is never known."""
    good = sent(plain(rows)[0], f"Authorization: Bearer {TOKEN}")

    async def test(app: App) -> Any:
        wire = Wire(app)
        for _ in range(2):
            assert [one[0] for one in await wire.ask(good)] == [200]
        asked = sent(plain(rows)[0], *lines, host=host)
        first = await Wire(app).ask(asked)
        return [first, await Wire(app).ask(asked)]

    assert [one[0][0] for one in run(test, TOKEN)] == [status, status]


def test_a_known_head_at_the_end_of_the_service_closes_its_connection(
    run: Callable[..., Any], rows: pl.DataFrame
) -> None:
    """While the service ends, known heads go the ordinary way, which says that it closes."""

    async def test(app: App) -> Any:
        wire = Wire(app)
        await wire.ask(sent(plain(rows)[0]))
        app.service.draining = True
        return await wire.ask(sent(plain(rows)[0]))

    ((status, head, _),) = run(test)
    assert (status, b"connection: close" in head) == (200, True)


def test_a_known_head_keeps_the_connection_open(
    run: Callable[..., Any], rows: pl.DataFrame
) -> None:
    """The clock that closes a resting connection, begun by an ordinary answer, is stopped."""
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def test(app: App) -> Any:
        wire = Wire(app)
        await wire.ask(sent(plain(rows)[0]))
        await wire.ask(get)
        resting = wire.protocol.timeout_keep_alive_task
        await wire.ask(sent(plain(rows)[0]))
        return resting, wire.protocol.timeout_keep_alive_task, wire.protocol._head_since

    resting, after, since = run(test)
    assert resting is not None
    assert after is None
    assert since is None


def test_heads_are_few_and_short() -> None:
    """However many heads come, a thousand are kept, none over a kilobyte."""
    heads = Heads()
    head = ShortHead(None, "/predict", 0)  # type: ignore[arg-type]  # nobody answers here
    for number in range(3 * MAX_HEADS):
        heads.add(b"X-Trace: %d\r\n\r\n" % number, head)
        assert len(heads._known) <= MAX_HEADS
    assert heads.find(b"X-Trace: %d\r\n\r\n" % number) == (head, b"")
    long = b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"
    heads.add(long, head)
    assert heads.find(long) is None
