"""Which families suit a table: those that read the types of its features and are installed."""

from __future__ import annotations

from importlib.util import find_spec

from loopline.data.schema import Schema
from loopline.line.spec import Candidate
from loopline.models.families import CORE_FAMILIES

_EXTRAS = {"image": ("torch", "PIL"), "lm": ("torch", "tokenizers")}
"""Families that are proposed for columns of their own type, with the packages that they need."""


def suited(schema: Schema) -> tuple[tuple[Candidate, ...], str]:
    """The candidates of a race whose settings name none, from simple to complex, and why these.

    >>> from loopline.data.schema import Column
    >>> columns = (Column("age", "number"), Column("paid", "category", "target"))
    >>> found, why = suited(Schema(columns, "binary", ("no", "yes")))
    >>> [each.name for each in found], why
    (['baseline', 'linear', 'lightgbm'], '')
    """
    if schema.task == "language":
        return _language()
    types = {schema.named(name).type for name in schema.features}
    if "image" not in types:
        return _named(CORE_FAMILIES), ""
    names = ["baseline"] if types == {"image"} else list(CORE_FAMILIES)
    missing = [name for name in _EXTRAS["image"] if find_spec(name) is None]
    if missing:
        return _named(names), (
            f"images need {' and '.join(missing)}: `pip install 'loopline[images,neural]'`"
        )
    return _named([*names, "image"]), "image: a small network trained from nothing on the images"


def _language() -> tuple[tuple[Candidate, ...], str]:
    missing = [name for name in _EXTRAS["lm"] if find_spec(name) is None]
    if missing:
        return _named(["baseline", "ngram"]), (
            f"lm needs {' and '.join(missing)}: `pip install 'loopline[neural]'`"
        )
    return _named(
        ["baseline", "ngram", "lm"]
    ), "lm: a small decoder trained from nothing on the texts"


def _named(names: list[str] | tuple[str, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(name=name, family=name) for name in names)
