"""The service described: OpenAPI for programs, one page without scripts for people."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import loopline
from loopline.features.contract import InputColumn
from loopline.serve.model import ServedModel

if TYPE_CHECKING:
    from loopline.serve.service import Service

Line = tuple[str, str, str]
_TYPES = {"integer": "integer", "float": "number", "seconds": "number", "boolean": "boolean"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c2430}pre{background:#f3f5f8;padding:.8rem;overflow-x:auto;border-radius:6px}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;"
    "border-bottom:1px solid #dde3ea}code{font-size:.92em}"
)


def curl(model: ServedModel, address: str, *, token: bool, several: bool = False) -> str:
    """A command that asks for one prediction, ready to be pasted into a shell."""
    body = shlex.quote(json.dumps(model.example(), ensure_ascii=False))
    path = f"/predict/{model.name}" if several else "/predict"
    secret = ' -H "Authorization: Bearer $LOOPLINE_SERVE_TOKEN"' if token else ""
    return f"curl{secret} -H 'Content-Type: application/json' -d {body} {address}{path}"


def openapi(service: Service, routes: Sequence[Line]) -> dict[str, Any]:
    """The interface as OpenAPI 3.1, with each model's row as a schema."""
    paths: dict[str, dict[str, Any]] = {}
    for method, pattern, summary in routes:
        paths.setdefault(pattern, {})[method.lower()] = _operation(
            service, pattern, method, summary
        )
    schemas = {
        _schema_name(name): _row_schema(deployment.champion)
        for name, deployment in service.deployments.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopline", "version": loopline.__version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(service: Service, host: str, routes: Sequence[Line]) -> str:
    """The page that a person sees who opens the address in a browser."""
    several = len(service.deployments) > 1
    models = "".join(
        f"<h2>{_text(name)}</h2><p>{_text(deployment.champion.task)}, version "
        f"<code>{_text(deployment.champion.version)}</code>"
        f"{_trial(deployment.trial)}</p><pre>"
        + _text(curl(deployment.champion, f"http://{host}", token=False, several=several))
        + "</pre>"
        for name, deployment in service.deployments.items()
    )
    lines = "".join(
        f"<tr><td>{method}</td><td><code>{_text(pattern)}</code></td><td>{_text(summary)}</td></tr>"
        for method, pattern, summary in routes
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Loopline service</title>"
        f"<style>{_STYLE}</style><h1>Loopline service</h1>{models}<h2>Paths</h2>"
        f"<table><tr><th>Method</th><th>Path</th><th></th></tr>{lines}</table></html>"
    )


def _operation(service: Service, pattern: str, method: str, summary: str) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", pattern)
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": method.lower() + re.sub(r"\W+", "_", pattern).rstrip("_"),
        "responses": {
            "200": {"description": "The answer."},
            "default": {"description": 'A refusal: {"error": "one sentence"}.'},
        },
    }
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if method == "POST":
        operation["requestBody"] = {"required": True, "content": _content(service, pattern)}
    return operation


def _content(service: Service, pattern: str) -> dict[str, Any]:
    if not pattern.startswith(("/predict", "/explain")):
        return {"application/json": {"schema": {"type": ["object", "array"]}}}
    rows = [{"$ref": f"#/components/schemas/{_schema_name(n)}"} for n in service.deployments]
    row = rows[0] if len(rows) == 1 else {"anyOf": rows}
    return {
        "application/json": {"schema": {"anyOf": [row, {"type": "array", "items": row}]}},
        "text/csv": {},
        "application/vnd.apache.arrow.stream": {},
    }


def _row_schema(model: ServedModel) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {column.name: _column_schema(column) for column in model.columns},
        "required": [column.name for column in model.columns],
        "example": model.example(),
    }


def _column_schema(column: InputColumn) -> dict[str, Any]:
    kind = _TYPES.get(column.kind, "string")
    types = [kind] if column.missing == "error" else [kind, "null"]
    schema: dict[str, Any] = {"type": types}
    if column.kind in ("date", "datetime"):
        schema["format"] = "date" if column.kind == "date" else "date-time"
    return schema


def _schema_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _trial(trial: Any) -> str:
    if trial is None:
        return ""
    share = "as a shadow" if trial.shadow else f"for {trial.settings.share:.0%} of the requests"
    return f"; challenger <code>{_text(trial.challenger.version)}</code> {share}"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
