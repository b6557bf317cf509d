"""The application, in plain ASGI: guard, limits, route, answer.

No framework stands between the socket and the model: FastAPI's own share of a request is three
to six times that of everything done here. What a request may cost is settled before it is read:
its head by the protocol (`protocol.py`), its body here, by its stated length and again while it
comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

import orjson

from loopline.serve.deployment import Deployment
from loopline.serve.edge import attempt, refused
from loopline.serve.guard import Guard
from loopline.serve.heads import Heads, ShortHead
from loopline.serve.metrics import Meter
from loopline.serve.reply import JSON, Headers, Refusal, Reply, Request
from loopline.serve.routes import Route, Table, predict_row, split
from loopline.serve.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_UNUSUAL = frozenset({b"origin", b"content-encoding", b"transfer-encoding"})
_SHORT_HEAD = b"HTTP/1.1 200 OK\r\n%bcontent-length: " % b"".join(
    b"%b: %b\r\n" % pair for pair in ((b"content-type", JSON), *_ALWAYS)
)
_NO_BODY = {"type": "http.response.body", "body": b""}


class App:
    """A service as an ASGI application; uvicorn, hypercorn or a test may call it.

    Args:
        service: what answers.
        token: what callers must send; None for none (loopback only).
    """

    def __init__(self, service: Service, token: str | None = None) -> None:
        self.service = service
        self.guard = Guard(service.settings, token)
        self.heads = Heads()
        self._table = Table()
        self._under_way = 0
        self._held_bytes = 0
        self._meters: dict[tuple[str, int], Meter] = {}

    @cached_property
    def short_paths(self) -> dict[bytes, tuple[Deployment, str]]:
        """The paths that may go the short way of `GuardedProtocol`, as they are sent.

        Each with who answers and its name in the counters.
        """
        deployments = self.service.deployments
        paths = {
            f"/predict/{name}".encode(): (deployment, "/predict/{model}")
            for name, deployment in deployments.items()
        }
        if len(deployments) == 1:
            paths[b"/predict"] = (next(iter(deployments.values())), "/predict")
        return paths

    def short_head(self, url: bytes, headers: Headers, length: int) -> ShortHead | None:
        """What a head says, if the guard lets it pass and it is plainly one of JSON."""
        found, _ = attempt(lambda: self.guard.check("POST", "", headers))
        if found is None or found.keys() & _UNUSUAL:
            return None
        kind = found.get(b"content-type")
        if kind != JSON and (kind is None or _plain(kind) != JSON):
            return None
        return ShortHead(*self.short_paths[url], length)

    def short(self, head: ShortHead, body: bytes) -> bytes | None:
        """A whole HTTP answer for one row of JSON; None for what is not plainly that.

        Nothing is counted, logged or refused before it is sure that the answer is this one.
        """
        start = time.perf_counter()
        answer, _ = attempt(lambda: self._short(head.deployment, body))
        if answer is None:
            return None
        self._count(head.route, 200, time.perf_counter() - start)
        return b"%b%d\r\n\r\n%b" % (_SHORT_HEAD, len(answer), answer)

    def _short(self, deployment: Deployment, body: bytes) -> bytes | None:
        if not self.service.ready:
            return None
        row = orjson.loads(body)
        if type(row) is not dict or not deployment.answers_inline():
            return None
        return predict_row(deployment, row, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        start = time.perf_counter()
        self._under_way += 1
        route = "none"
        cross: Any = ()
        try:
            result = await refused(self._answered(scope, receive), self._count_failure)
            if isinstance(result, Refusal):
                reply = result.reply()
            else:
                reply, route, cross = result
            await self._send(scope, send, reply, cross)
        finally:
            self._under_way -= 1
        self._count(route, reply.status, time.perf_counter() - start)

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[Reply, str, Any]:
        method, path = scope["method"], scope["path"]
        headers = self.guard.check(method, path, scope["headers"])
        cross = self.guard.cross_origin(headers)
        if method == "OPTIONS" and cross:
            return self.guard.preflight(headers), "preflight", ()
        parts = split(path)
        route = self._table.find(method, parts)
        if self._under_way > self.service.settings.limits.waiting:
            self.service.metrics.add("busy_total")
            raise Refusal(
                429,
                "Too many requests are under way; try again in 1 s.",
                headers=[(b"retry-after", b"1")],
            )
        if route.method != "POST":
            return await self._handled(route, parts, headers, b""), route.pattern, cross
        size = self._size(headers)
        self._held_bytes += size
        try:
            body = await self._body(headers, receive)
            return await self._handled(route, parts, headers, body), route.pattern, cross
        finally:
            self._held_bytes -= size

    async def _handled(
        self, route: Route, parts: tuple[str, ...], headers: dict[bytes, bytes], body: bytes
    ) -> Reply:
        request = Request(parts, _plain(headers.get(b"content-type", b"")), headers, body)
        result = await refused(route.handler(self.service, request), self._count_failure)
        return result.reply() if isinstance(result, Refusal) else result

    def _size(self, headers: dict[bytes, bytes]) -> int:
        """The bytes that a body may take; one without a stated length counts as the longest.

        Raises:
            Refusal: 413 for a body that is too long, 429 where all bodies together would be.
        """
        limits = self.service.settings.limits
        length = headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > limits.body_bytes):
            raise _too_long(limits.body_bytes)
        size = limits.body_bytes if length is None else int(length)
        if self._held_bytes and self._held_bytes + size > limits.held_bytes:
            self.service.metrics.add("busy_total")
            raise Refusal(
                429,
                "Other long requests are under way; try again in 1 s.",
                headers=[(b"retry-after", b"1")],
                close=True,
            )
        return size

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, never more than allowed in memory.

        Raises:
            Refusal: 408, 413 or 415.
        """
        limits = self.service.settings.limits
        if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
            raise Refusal(415, "Send the body without Content-Encoding.", close=True)
        message = await receive()
        if not message.get("more_body", False):
            return _checked(message)
        try:
            async with asyncio.timeout(limits.body_seconds):
                return await self._rest(_checked(message), receive, limits.body_bytes)
        except TimeoutError:
            self.service.metrics.add("timeouts_total", (("what", "body"),))
            raise Refusal(
                408, f"The body did not come within {limits.body_seconds:g} s.", close=True
            ) from None

    @staticmethod
    async def _rest(first: bytes, receive: Receive, limit: int) -> bytes:
        parts, size, more = [first], len(first), True
        while more:
            if size > limit:
                raise _too_long(limit)
            message = await receive()
            part = _checked(message)
            parts.append(part)
            size += len(part)
            more = message.get("more_body", False)
        if size > limit:
            raise _too_long(limit)
        return b"".join(parts)

    async def _send(self, scope: Scope, send: Send, reply: Reply, cross: Any) -> None:
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", b"%d" % len(reply.body)),
            *_ALWAYS,
            *reply.headers,
            *cross,
        ]
        if self.service.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if scope["method"] == "HEAD":
            await send(_NO_BODY)
        else:
            await send({"type": "http.response.body", "body": reply.body})

    def _count(self, route: str, status: int, seconds: float) -> None:
        meter = self._meters.get((route, status))
        if meter is None:
            meter = self._meters[route, status] = self.service.metrics.meter(route, status)
        meter.add(seconds)

    def _count_failure(self) -> None:
        self.service.metrics.add("failures_total")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.service.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _plain(kind: bytes) -> bytes:
    return kind.partition(b";")[0].strip().lower()


def _checked(message: MutableMapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise Refusal(400, "The connection ended before the body did.", close=True)
    body: bytes = message.get("body", b"")
    return body


def _too_long(limit: int) -> Refusal:
    return Refusal(413, f"A body may have {limit:,} bytes; send fewer rows at once.", close=True)
