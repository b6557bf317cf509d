"""Which families suit a table: those that read the types of its features and are installed."""

from __future__ import annotations

from importlib.util import find_spec

from loopline.data.schema import ColumnType, Schema
from loopline.line.spec import Candidate
from loopline.models.families import CORE_FAMILIES
from loopline.models.pretrained import missing_for_text

_EXTRAS = {"image": ("torch", "PIL"), "multimodal": ("torch",), "lm": ("torch", "tokenizers")}
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
    if schema.task == "retrieval":
        return _retrieval()
    types = {schema.named(name).type for name in schema.features}
    if schema.task == "multilabel":
        return _labels(types)
    if "image" not in types:
        names = [*CORE_FAMILIES, "multimodal"] if mixes(schema) else list(CORE_FAMILIES)
        return _named(names), "" if len(names) == len(CORE_FAMILIES) else _MIXED
    names = ["baseline"] if types == {"image"} else list(CORE_FAMILIES)
    missing = [name for name in _EXTRAS["image"] if find_spec(name) is None]
    if missing:
        return _named(names), (
            f"images need {' and '.join(missing)}: `pip install 'loopline[images,neural]'`"
        )
    why = "image: a small network trained from nothing on the images"
    if mixes(schema):
        return _named([*names, "image", "multimodal"]), f"{why}; {_MIXED}"
    return _named([*names, "image"]), why


_MIXED = "multimodal: one network for all columns"


def mixes(schema: Schema) -> bool:
    """Whether rows have several parts, such as numbers and a text, that one network could read.

    A text beside numbers counts where an encoder for it is installed: without one, the text's
    weighted terms are numbers like others.
    """
    kinds = {schema.named(name).type for name in schema.features}
    parts = {kind if kind in ("text", "image") else "table" for kind in kinds}
    if len(parts) < 2 or any(find_spec(name) is None for name in _EXTRAS["multimodal"]):
        return False
    return "image" in parts or not missing_for_text()


def _labels(types: set[ColumnType]) -> tuple[tuple[Candidate, ...], str]:
    if types == {"image"}:
        return _named(["baseline"]), "no family reads images for several labels a row yet"
    return _named(list(CORE_FAMILIES)), ""


def _language() -> tuple[tuple[Candidate, ...], str]:
    missing = [name for name in _EXTRAS["lm"] if find_spec(name) is None]
    if missing:
        return _named(["baseline", "ngram"]), (
            f"lm needs {' and '.join(missing)}: `pip install 'loopline[neural]'`"
        )
    return _named(
        ["baseline", "ngram", "lm"]
    ), "lm: a small decoder trained from nothing on the texts"


def _retrieval() -> tuple[tuple[Candidate, ...], str]:
    missing = [name for name in _EXTRAS["image"] if find_spec(name) is None]
    if missing:
        return _named(["baseline"]), (
            f"clip needs {' and '.join(missing)}: `pip install 'loopline[images,neural]'`"
        )
    return _named(
        ["baseline", "clip"]
    ), "clip: two small encoders trained from nothing on the pairs"


def _named(names: list[str] | tuple[str, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(name=name, family=name) for name in names)
