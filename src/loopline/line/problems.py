"""Wrong settings told as sentences: the key, the rule, what came, the nearest right name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from loopline.errors import SettingsError
from loopline.words import nearest


def sentences(
    error: ValidationError, model: type[BaseModel], lines: Mapping[str, int]
) -> list[str]:
    """One sentence for every problem that pydantic found, in the order of the file."""
    told: list[tuple[int, str]] = []
    seen: set[str] = set()
    for problem in error.errors():
        if isinstance(cause := problem.get("ctx", {}).get("error"), SettingsError):
            told.extend((10**9, sentence) for sentence in cause.problems)
            continue
        path = [part for part in problem["loc"] if not _is_type_tag(part)]
        key = ".".join(str(part) for part in path)
        line = _line_of(path, lines)
        sentence = _sentence(problem, key, path, model)
        if sentence not in seen:
            seen.add(sentence)
            told.append((line or 10**9, f"line {line}: {sentence}" if line else sentence))
    return [sentence for _, sentence in sorted(told, key=lambda pair: pair[0])]


def _line_of(path: list[Any], lines: Mapping[str, int]) -> int | None:
    for length in range(len(path), 0, -1):
        found = lines.get(".".join(str(part) for part in path[:length]))
        if found is not None:
            return found
    return None


def _is_type_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part in {"str", "int", "float", "bool", "NoneType"}
        or part.startswith(("function-", "tuple[", "list[", "literal[", "constrained-"))
    )


def _sentence(problem: Any, key: str, path: list[Any], model: type[BaseModel]) -> str:
    kind = problem["type"]
    came = problem.get("input")
    context = problem.get("ctx", {})
    if kind == "extra_forbidden":
        parent = _model_at(model, path[:-1])
        names = list(parent.model_fields) if parent else []
        inside = ".".join(str(part) for part in path[:-1])
        of = f" of `{inside}`" if inside else ""
        return f"`{path[-1]}` is not a setting{of}. {nearest(str(path[-1]), names)}"
    if kind == "missing":
        return f"`{key}` is required and is missing. Add it."
    if kind == "literal_error":
        return f"`{key}` must be one of {context.get('expected')}, got {came!r}."
    if kind == "string_too_short":
        return f"`{key}` must not be empty."
    if kind == "finite_number":
        return f"`{key}` must be a finite number, got {came!r}."
    rules = {
        "greater_than": ("> {gt}", "gt"),
        "greater_than_equal": (">= {ge}", "ge"),
        "less_than": ("< {lt}", "lt"),
        "less_than_equal": ("<= {le}", "le"),
    }
    if kind in rules:
        text = rules[kind][0].format(**context)
        return f"`{key}` must be {text}, got {came!r}."
    wanted = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "text",
        "dict": "a mapping",
        "tuple": "a list",
        "list": "a list",
        "model": "a mapping",
        "mapping": "a mapping",
    }
    for prefix, words in wanted.items():
        if kind.startswith(prefix):
            return f"`{key}` must be {words}, got {came!r} ({type(came).__name__})."
    return f"`{key}`: {problem['msg']}, got {came!r}."


def _model_at(model: type[BaseModel], path: list[Any]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in path:
        if current is None:
            return None
        field = current.model_fields.get(str(part))
        if field is None:
            # a key of a dict of models, such as `columns.<name>`
            continue
        current = _model_in(field.annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
