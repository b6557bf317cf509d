"""The connection: uvicorn's HTTP protocol with the limits that it leaves to a proxy.

uvicorn closes connections that rest between two requests. It waits for ever for a head that comes
a byte a minute, for a body that stops, and for a client that does not read its answer, and it takes
heads of any length. Here a connection that does one of these is cut off; a sweep each second looks
at all of them, so that a request pays for two clock readings only.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loopline.serve.metrics import Metrics
from loopline.serve.settings import LimitSettings

SWEEP_SECONDS = 1.0
_REFUSAL = (
    b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b"
)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Subclasses made by `guarded` know their limits."""

    limits: ClassVar[LimitSettings]
    metrics: ClassVar[Metrics]
    _head_bytes = 0
    _head_since: float | None = None
    _in_head = True
    _paused_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self.metrics.add("busy_total")
            self._cut(b"503 Service Unavailable", b'{"error":"Too many connections are open."}')

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head grows beyond its limit."""
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._head_since is None:
                self._head_since = self.loop.time()
            self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > self.limits.header_bytes:
                self._cut(
                    b"431 Request Header Fields Too Large",
                    b'{"error":"The head of the request is too long."}',
                )
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._head_since = None
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.header_bytes:
            self._cut(
                b"431 Request Header Fields Too Large",
                b'{"error":"The head of the request is too long."}',
            )
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole; the next bytes are another head."""
        self._in_head = True
        self._head_bytes = 0
        if self.cycle is not None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, or of what follows a refused head."""
        if self.cycle is not None and not self.transport.is_closing():
            super().on_body(body)

    def overdue(self, now: float) -> str | None:
        """What takes this connection too long, if anything does."""
        if self._head_since is not None and now - self._head_since > self.limits.header_seconds:
            return "head"
        if self.flow.write_paused or self.transport.is_closing():
            if self._paused_since is None:
                self._paused_since = now
            elif now - self._paused_since > self.limits.send_seconds:
                return "send"
        else:
            self._paused_since = None
        return None

    def cut_off(self, what: str) -> None:
        """End a connection that took too long."""
        self.metrics.add("timeouts_total", (("what", what),))
        if what == "head":
            self._cut(
                b"408 Request Timeout", b'{"error":"The head of the request came too slowly."}'
            )
        else:
            self.transport.abort()

    def _cut(self, status: bytes, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL % (status, len(body), body))
            self.transport.close()


def guarded(limits: LimitSettings, metrics: Metrics) -> type[GuardedProtocol]:
    """The protocol for one service."""
    facts = {"limits": limits, "metrics": metrics}
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
