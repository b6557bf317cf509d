"""The routes: one table, and what each of them does with a request that the guard let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import orjson
import polars as pl

import loopline
from loopline.serve import bodies, oip
from loopline.serve.bodies import json_reply
from loopline.serve.deployment import Deployment
from loopline.serve.model import ServedModel
from loopline.serve.page import openapi, page
from loopline.serve.reply import HTML, TEXT, Refusal, Reply, Request, as_json, told_remarks
from loopline.serve.service import Service

JSON_KIND = b"application/json"
LONG_BYTES = 65_536
"""Bodies beyond this are worked on in a thread, so that others need not wait."""
P = ParamSpec("P")
T = TypeVar("T")


class Handler(Protocol):
    """What answers a route."""

    def __call__(self, service: Service, request: Request) -> Awaitable[Reply]:
        """Answer, or raise `Refusal` or a `LooplineError`."""


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    Args:
        method: GET or POST.
        pattern: the path; ``{name}`` stands for one segment.
        handler: what answers.
        summary: what it is for, on the page and in the OpenAPI description.
    """

    method: str
    pattern: str
    handler: Handler
    summary: str

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments."""
        return split(self.pattern)


def split(path: str) -> tuple[str, ...]:
    """A path's segments.

    >>> split("/v2/models"), split("/")
    (('v2', 'models'), ())
    """
    return tuple(path[1:].split("/")) if len(path) > 1 else ()


async def predict(service: Service, request: Request) -> Reply:
    """Predict rows; the answer is of the body's kind."""
    deployment = service.find(request.parts[1] if len(request.parts) > 1 else None)
    if request.kind == JSON_KIND:
        data = await _worked(service, request.body, bodies.read_json, request.body)
        if type(data) is dict and deployment.answers_inline():
            return Reply(200, predict_row(deployment, data, request.body))
        return await _predict_json(service, deployment, request.body, data)
    make = bodies.reader(request.kind, request.body, deployment.champion)
    frame = await _in_thread(service, make)
    refuse_long(service, frame.height)
    request_id, model, answer = await deployment.answer_frame(frame)
    predicted = model.release.as_table(answer.raw)
    reply = await _worked(service, request.body, bodies.table_reply, request.kind, predicted)
    told = orjson.dumps([remark.text[:200] for remark in answer.remarks[:20]])
    headers = [*_who(request_id, model), (b"x-remarks", told.decode().encode("ascii", "replace"))]
    return Reply(reply.status, reply.body, reply.kind, headers)


def predict_row(deployment: Deployment, row: dict[str, Any], body: bytes) -> bytes:
    """Predict one row, which a body said, at once; the answer as JSON."""
    request_id, model, raw, remarks = deployment.answer_row(row, body)
    told = {
        "id": request_id,
        "model": model.name,
        "version": model.version,
        **model.told_row(raw),
        "remarks": deployment.told(remarks) if remarks else (),
    }
    return as_json(told)


async def _predict_json(service: Service, deployment: Deployment, body: bytes, data: Any) -> Reply:
    rows = [data] if type(data) is dict else data
    refuse_long(service, len(rows))
    frame = await _worked(service, body, bodies.rows_frame, rows, deployment.champion)
    request_id, model, answer = await deployment.answer_frame(frame)
    head = {"id": request_id, "model": model.name, "version": model.version}
    remarks = told_remarks(answer.remarks)

    def tell() -> Reply:
        told = model.told_rows(answer.raw)
        if type(data) is dict:
            return json_reply({**head, **told[0], "remarks": remarks})
        return json_reply({**head, "predictions": told, "remarks": remarks})

    return await _worked(service, body, tell)


async def explain(service: Service, request: Request) -> Reply:
    """What each column adds to each row's raw score."""
    deployment = service.find(request.parts[1] if len(request.parts) > 1 else None)
    model = deployment.champion
    if request.kind == JSON_KIND:
        data = await _worked(service, request.body, bodies.read_json, request.body)
        rows = [data] if type(data) is dict else data
        refuse_long(service, len(rows))
        frame = await _worked(service, request.body, bodies.rows_frame, rows, model)
    else:
        frame = await _in_thread(service, bodies.reader(request.kind, request.body, model))
        refuse_long(service, frame.height)
    found = await _in_thread(service, lambda: model.release.explain(frame))
    if request.kind != JSON_KIND:
        return bodies.table_reply(request.kind, found)
    told = [{"contributions": row} for row in found.to_dicts()]
    head = {"model": model.name, "version": model.version}
    if type(data) is dict:
        return json_reply({**head, **told[0]})
    return json_reply({**head, "rows": told})


async def feedback(service: Service, request: Request) -> Reply:
    """Take labels of rows that were answered."""
    if request.kind != JSON_KIND:
        raise Refusal(415, "Send labels as application/json.")
    data = bodies.read_json(request.body)
    became = await service.take_feedback([data] if type(data) is dict else data)
    return json_reply({"taken": became[0] if type(data) is dict else became})


async def infer(service: Service, request: Request) -> Reply:
    """Predict by the Open Inference Protocol."""
    deployment, version = _named(service, request)
    sent, frame = await _worked(service, request.body, oip.read, request.body, request.headers)
    refuse_long(service, frame.height)
    request_id, model, answer = await deployment.answer_frame(frame, version)
    remarks = [remark.text for remark in answer.remarks]
    reply = await _worked(
        service, request.body, oip.reply, sent, model, answer.raw, request_id, remarks
    )
    headers = [*reply.headers, *_who(request_id, model)]
    return Reply(reply.status, reply.body, reply.kind, headers)


async def model_metadata(service: Service, request: Request) -> Reply:
    """A model's inputs and outputs."""
    deployment, version = _named(service, request)
    return json_reply(oip.metadata(deployment.version(version), list(deployment.versions)))


async def model_ready(service: Service, request: Request) -> Reply:
    """Whether a model takes requests."""
    deployment, version = _named(service, request)
    deployment.version(version)
    return Reply(200 if service.ready else 503, b"{}")


async def server_metadata(service: Service, request: Request) -> Reply:
    """The server and the extensions of the protocol that it knows."""
    del service, request
    return json_reply(
        {
            "name": "loopline",
            "version": loopline.__version__,
            "extensions": ["binary_tensor_data"],
        }
    )


async def live(service: Service, request: Request) -> Reply:
    """Whether the process runs."""
    del service, request
    return json_reply({"live": True})


async def ready(service: Service, request: Request) -> Reply:
    """Whether requests are taken."""
    del request
    return Reply(
        200 if service.ready else 503, b'{"ready":%s}' % str(service.ready).lower().encode()
    )


async def metrics(service: Service, request: Request) -> Reply:
    """The counters, for Prometheus."""
    del request
    return Reply(200, service.metrics_text().encode(), TEXT)


async def description(service: Service, request: Request) -> Reply:
    """The OpenAPI description."""
    del request
    return json_reply(openapi(service, [(r.method, r.pattern, r.summary) for r in ROUTES]))


async def front(service: Service, request: Request) -> Reply:
    """A page for people: what is served and how to ask."""
    host = request.headers.get(b"host", b"localhost").decode("latin-1")
    text = page(service, host, [(r.method, r.pattern, r.summary) for r in ROUTES])
    policy = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
    return Reply(200, text.encode(), HTML, (policy, (b"x-frame-options", b"DENY")))


_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/", front, "This page."),
    Route("POST", "/predict", predict, "Predict rows (JSON, CSV or Arrow)."),
    Route("POST", "/predict/{model}", predict, "Predict rows with one of several models."),
    Route("POST", "/explain", explain, "What each column adds to a row's score."),
    Route("POST", "/explain/{model}", explain, "The same for one of several models."),
    Route("POST", "/feedback", feedback, "Send labels of answered rows, by request id."),
    Route("GET", "/metrics", metrics, "Counters for Prometheus."),
    Route("GET", "/openapi.json", description, "This interface as OpenAPI 3.1."),
    Route("GET", "/v2", server_metadata, "The server (Open Inference Protocol v2)."),
    Route("GET", "/v2/health/live", live, "Whether the process runs; needs no token."),
    Route("GET", "/v2/health/ready", ready, "Whether requests are taken; needs no token."),
    Route("GET", _MODEL, model_metadata, "A model's inputs and outputs."),
    Route("GET", f"{_MODEL}/ready", model_ready, "Whether a model takes requests."),
    Route("POST", f"{_MODEL}/infer", infer, "Predict by the Open Inference Protocol."),
    Route("GET", _VERSION, model_metadata, "The same for one version."),
    Route("GET", f"{_VERSION}/ready", model_ready, "Whether a version takes requests."),
    Route("POST", f"{_VERSION}/infer", infer, "Predict with one version."),
)


class Table:
    """Finds the route of a request; what is not in the table is not there."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        self._fixed: dict[tuple[str, ...], dict[str, Route]] = {}
        self._open: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            segments = route.segments
            if "{" in route.pattern:
                self._open.setdefault(len(segments), []).append((segments, route))
            else:
                self._fixed.setdefault(segments, {})[route.method] = route

    def find(self, method: str, parts: tuple[str, ...]) -> Route:
        """The route of a method and a path.

        Raises:
            Refusal: 404 for a path, 405 for a method that is not in the table.
        """
        found = self._fixed.get(parts) or {
            route.method: route
            for segments, route in self._open.get(len(parts), ())
            if all(s[0] == "{" or s == part for s, part in zip(segments, parts, strict=True))
        }
        if not found:
            raise Refusal(404, "There is no such path; GET / lists what there is.")
        route = found.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(found)
            raise Refusal(
                405, f"This path takes {allowed}.", headers=[(b"allow", allowed.encode())]
            )
        return route


def refuse_long(service: Service, rows: int) -> None:
    """Refuse requests of more rows than allowed, and of none.

    Raises:
        Refusal: 413 or 422.
    """
    limit = service.settings.limits.rows
    if rows > limit:
        raise Refusal(413, f"A request may have {limit:,} rows, this one has {rows:,}; send parts.")
    if rows == 0:
        raise Refusal(422, "The request has no rows.")


def _who(request_id: str, model: ServedModel) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", request_id.encode()), (b"x-version", model.version.encode())]


def _named(service: Service, request: Request) -> tuple[Deployment, str | None]:
    version = (
        request.parts[4] if len(request.parts) > 4 and request.parts[3] == "versions" else None
    )
    return service.find(request.parts[2]), version


async def _worked(
    service: Service, body: bytes, work: Callable[P, T], *given: P.args, **named: P.kwargs
) -> T:
    """Some work on a request: at once for a short body, in a thread for one that takes its time."""
    if len(body) <= LONG_BYTES:
        return work(*given, **named)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.executor, lambda: work(*given, **named))


async def _in_thread(service: Service, work: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    return await asyncio.get_running_loop().run_in_executor(service.executor, work)
