"""The service's description: valid OpenAPI, and a page with a command that works."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve.conftest import Client, plain

from loopline.serve.routes import ROUTES


def test_the_description_is_valid_openapi(client: Client) -> None:
    """The description passes a validator and has every route."""
    validator = pytest.importorskip("openapi_spec_validator")
    told = client.get("/openapi.json").json()
    validator.validate(told)
    operations = {(m.upper(), path) for path, found in told["paths"].items() for m in found}
    assert operations == {(route.method, route.pattern) for route in ROUTES}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_example_of_each_model_is_answered(client: Client, task: str) -> None:
    """The row that the description gives as an example is an ordinary row."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    answer = client.post(f"/predict/{task}", schemas[task]["example"])
    assert (answer.status, answer.json()["remarks"]) == (200, [])


def test_a_row_is_described_by_its_types(client: Client, rows: Any) -> None:
    """Columns stand in the schema with their types; missing cells are null where they may be."""
    row = client.get("/openapi.json").json()["components"]["schemas"]["binary"]
    assert row["properties"]["size"] == {"type": ["integer", "null"]}
    assert row["properties"]["day"] == {"type": ["string", "null"], "format": "date"}
    assert row["required"] == list(plain(rows)[0])


def test_the_page_tells_models_and_paths(client: Client) -> None:
    """A person who opens the address sees each model, a command, and every path."""
    page = client.get("/").body.decode()
    for name in ("binary", "multiclass", "regression"):
        assert f"<h2>{name}</h2>" in page
        assert f"/predict/{name}" in page
    for route in ROUTES:
        assert f"<code>{route.pattern}</code>" in page
