"""The connection: uvicorn's HTTP protocol with limits that it leaves to a proxy, and a short way.

*Limits.* uvicorn closes connections that rest between two requests. It waits for ever for a head
that comes a byte a minute, for a body that stops, and for a client that does not read its answer,
and it takes heads of any length. Here a connection that does one of these is cut off; a sweep each
second looks at all of them, so that a request pays for a clock reading only.

*Short way.* One row of JSON for a small model is answered where its last byte is parsed: no task,
no ASGI messages, half of the CPU time, and no parsing where the very same head was read before
(`heads.py`). Whatever is not plainly that (another path or kind of body,
a refusal, an error, the end of the service) goes the ordinary way through `App`, which then answers
as if there were no other.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loopline.serve.app import App
from loopline.serve.metrics import Metrics
from loopline.serve.settings import LimitSettings

SWEEP_SECONDS = 1.0
SHORT_BYTES = 65_536
"""Longest body that goes the short way."""
_REFUSAL = (
    b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b"
)
_LONG_HEAD = b'{"error":"The head of the request is too long."}'
_SLOW = b'{"error":"The request came too slowly."}'


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Subclasses made by `guarded` know their application and limits."""

    limits: ClassVar[LimitSettings]
    metrics: ClassVar[Metrics]
    application: ClassVar[App]
    _in_head = True
    _head_bytes = 0
    _head_since: float | None = None
    _paused_since: float | None = None
    _rests_since: float | None = None
    _body: list[bytes] | None = None
    """The parts of the body of a request on the short way, None on the ordinary one."""
    _begun = False
    """Whether the parser stands within a request."""
    _sent = b""
    """The bytes that a request began with, while the parser stands within it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self.metrics.add("busy_total")
            self._cut(b"503 Service Unavailable", b'{"error":"Too many connections are open."}')

    def data_received(self, data: bytes) -> None:
        """Answer a request whose head is known; else feed the parser, up to a head's limit."""
        if self.transport.is_closing():
            return
        if not self._begun:
            if self._answer_known(data):
                return
            self._sent = data
        if self._in_head:
            if self._head_since is None:
                self._head_since = self.loop.time()
            self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > self.limits.header_bytes:
                self._cut(b"431 Request Header Fields Too Large", _LONG_HEAD)
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins; what only the ordinary way needs is made there."""
        self._begun = True
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._rests_since = None

    def on_headers_complete(self) -> None:
        """The head is whole: refuse a long one, choose the way of the others."""
        self._in_head = False
        # a pipelined head that came with the request before has not been counted
        if not 0 < self._head_bytes <= self.limits.header_bytes and self._is_long():
            self._cut(b"431 Request Header Fields Too Large", _LONG_HEAD)
        elif self._is_short():
            self._body = []
        else:
            self._head_since = None
            self._go_ordinary()

    def on_body(self, body: bytes) -> None:
        """A part of the body, or of what follows a refused head."""
        if self._body is not None:
            self._body.append(body)
        elif self.cycle is not None and not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole; the next bytes are another head."""
        self._begun = False
        self._in_head = True
        self._head_bytes = 0
        if self._body is not None:
            self._answer()
        elif self.cycle is not None:
            super().on_message_complete()
        self._sent = b""

    def shutdown(self) -> None:
        """The service ends: close what rests, let what is under way end by its answer."""
        if not self._head_bytes and self._body is None:
            super().shutdown()

    def overdue(self, now: float) -> str | None:
        """What takes this connection too long, if anything does."""
        limits = self.limits
        if self._body is not None:
            if self._head_since is not None and now - self._head_since > limits.body_seconds:
                return "body"
        elif self._head_since is not None and now - self._head_since > limits.header_seconds:
            return "head"
        if self._rests_since is not None and now - self._rests_since > limits.idle_seconds:
            return "idle"
        if not self.flow.write_paused and not self.transport.is_closing():
            self._paused_since = None
        elif self._paused_since is None:
            self._paused_since = now
        elif now - self._paused_since > limits.send_seconds:
            return "send"
        return None

    def cut_off(self, what: str) -> None:
        """End a connection that took too long."""
        if what == "idle":
            self.transport.close()
            return
        self.metrics.add("timeouts_total", (("what", what),))
        if what == "send":
            self.transport.abort()
        else:
            self._cut(b"408 Request Timeout", _SLOW)

    def _is_long(self) -> bool:
        """Whether the head itself is too long; what was received may hold a part of the body."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > self.limits.header_bytes

    def _is_short(self) -> bool:
        if self.url not in self.application.short_paths or self.parser.get_method() != b"POST":
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        length = dict(self.headers).get(b"content-length", b"")
        return (
            length.isdigit()
            and int(length) <= min(SHORT_BYTES, self.limits.body_bytes)
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        )

    def _answer_known(self, data: bytes) -> bool:
        """Answer bytes that are one whole request with a known head; whether that was done."""
        known = self.application.heads.find(data)
        if known is None or (self.cycle is not None and not self.cycle.response_complete):
            return False
        answer = self.application.short(*known)
        if answer is None:
            return False
        self._unset_keepalive_if_required()
        self.transport.write(answer)
        self._head_since = None
        self._rests_since = self.loop.time()
        return True

    def _answer(self) -> None:
        """Answer a short request, or hand it to the ordinary way as if it came just now."""
        assert self._body is not None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        since, self._body, self._head_since = self._head_since, None, None
        head = self.application.short_head(self.url, self.headers, len(body))
        answer = None if head is None else self.application.short(head, body)
        if head is not None and answer is not None:
            self.application.heads.add(self._sent, head)
            self.transport.write(answer)
            self._rests_since = since
            return
        self._go_ordinary()
        if body:
            super().on_body(body)
        super().on_message_complete()

    def _go_ordinary(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _cut(self, status: bytes, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL % (status, len(body), body))
            self.transport.close()


def guarded(application: App) -> type[GuardedProtocol]:
    """The protocol of one application's connections."""
    service = application.service
    facts = {
        "application": application,
        "limits": service.settings.limits,
        "metrics": service.metrics,
    }
    return cast(type[GuardedProtocol], type("GuardedProtocol", (GuardedProtocol,), facts))


async def sweep(connections: set[Any], metrics: Metrics) -> None:
    """Cut off what takes too long, for as long as the service runs."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = loop.time()
        metrics.set("connections", len(connections))
        for connection in list(connections):
            what = connection.overdue(now)
            if what is not None:
                connection.cut_off(what)
