"""The values among which a search may choose a family's parameters.

A family declares its space in `Family.space`, from the data's facts; the settings file may replace
the range of a parameter, add one, or take one out. A dimension is a value: it goes to JSON and back
and says whether a given value lies in it. How values are drawn is not its business.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.data.schema import Schema, Task
from loopline.errors import SettingsError
from loopline.models.parameters import Rule
from loopline.words import nearest

Value = str | int | float | bool
Conditions = Mapping[str, tuple[Value, ...]]
_RANGE_KEYS = ("low", "high", "log", "when")
_CHOICE_KEYS = ("options", "when")


@dataclass(frozen=True)
class DataFacts:
    """What a family may know of the data when it says which parameters are worth a search.

    Args:
        task: what is predicted.
        num_rows: rows that one fit of a fold sees.
        columns: number of features of each type; types without a feature may be left out.
        num_classes: number of classes, 0 for regression.

    >>> facts = DataFacts("binary", 1000, {"number": 3, "category": 2}, 2)
    >>> facts.num_columns, facts.count("category"), facts.count("text")
    (5, 2, 0)
    """

    task: Task
    num_rows: int
    columns: Mapping[str, int]
    num_classes: int

    @property
    def num_columns(self) -> int:
        """Number of features."""
        return sum(self.columns.values())

    def count(self, kind: str) -> int:
        """Number of features of one type."""
        return self.columns.get(kind, 0)

    @staticmethod
    def of(schema: Schema, num_rows: int) -> DataFacts:
        """The facts of a schema whose fits see so many rows."""
        counts: dict[str, int] = {}
        for name in schema.features:
            kind = schema.named(name).type
            counts[kind] = counts.get(kind, 0) + 1
        return DataFacts(schema.task, num_rows, counts, len(schema.classes))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "task": self.task,
            "num_rows": self.num_rows,
            "columns": dict(sorted(self.columns.items())),
            "num_classes": self.num_classes,
        }


@dataclass(frozen=True)
class Dimension(ABC):
    """One searched parameter. Its three kinds are `Integer`, `Number` and `Choice`.

    Args:
        when: other parameters and the values at which this one has an effect; elsewhere it is not
            searched.
    """

    when: Conditions = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def size(self) -> float:
        """How many values it has; infinite for numbers."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether a value lies in it."""

    @abstractmethod
    def points(self, most: int) -> tuple[Value, ...]:
        """At most so many of its values, spread evenly, for a grid; every one where they suffice.

        A `Choice` always gives all of its options.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data; `dimension_from_dict` reads it back."""

    def active(self, params: Mapping[str, Any]) -> bool:
        """Whether it has an effect beside these parameters.

        >>> Number(0.1, 1.0, when={"tune": ("full",)}).active({"tune": "head"})
        False
        """
        return all(params.get(name) in allowed for name, allowed in self.when.items())

    def _conditions(self) -> dict[str, Any]:
        return {"when": {name: list(v) for name, v in self.when.items()}} if self.when else {}


@dataclass(frozen=True)
class Integer(Dimension):
    """Whole numbers from `low` to `high`, both included; on a log scale where ratios matter.

    >>> Integer(4, 256, log=True).points(4)
    (4, 16, 64, 256)
    """

    low: int
    high: int
    log: bool = False

    @property
    def size(self) -> float:
        """How many whole numbers there are."""
        return float(self.high - self.low + 1)

    def contains(self, value: Any) -> bool:
        """Whether it is a whole number between the ends."""
        return _is_whole(value) and self.low <= value <= self.high

    def points(self, most: int) -> tuple[Value, ...]:
        """Whole numbers spread from end to end."""
        if self.size <= most:
            return tuple(range(self.low, self.high + 1))
        spread = _spread(self.low, self.high, most, self.log)
        return tuple(dict.fromkeys(min(self.high, max(self.low, round(x))) for x in spread))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        ends = {"low": self.low, "high": self.high, "log": self.log}
        return {"kind": "integer", **ends, **self._conditions()}


@dataclass(frozen=True)
class Number(Dimension):
    """Numbers from `low` to `high`; on a log scale where ratios matter.

    >>> [round(value, 6) for value in Number(0.01, 1.0, log=True).points(3)]
    [0.01, 0.1, 1.0]
    """

    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> float:
        """Infinite."""
        return math.inf

    def contains(self, value: Any) -> bool:
        """Whether it is a number between the ends."""
        return _is_number(value) and self.low <= value <= self.high

    def points(self, most: int) -> tuple[Value, ...]:
        """Numbers spread from end to end."""
        return tuple(_spread(self.low, self.high, most, self.log))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        ends = {"low": self.low, "high": self.high, "log": self.log}
        return {"kind": "number", **ends, **self._conditions()}


@dataclass(frozen=True)
class Choice(Dimension):
    """One of several options without an order.

    >>> Choice(("none", "flip")).size
    2.0
    """

    options: tuple[Value, ...]

    @property
    def size(self) -> float:
        """How many options there are."""
        return float(len(self.options))

    def contains(self, value: Any) -> bool:
        """Whether it is one of the options."""
        return any(value == each and type(value) is type(each) for each in self.options)

    def points(self, most: int) -> tuple[Value, ...]:
        """All options."""
        del most
        return self.options

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": "choice", "options": list(self.options), **self._conditions()}


Space = Mapping[str, Dimension]
"""What is searched of a family: a dimension for each parameter, the one that matters most first."""


def dimension_from_dict(data: Mapping[str, Any]) -> Dimension:
    """Read what `Dimension.to_dict` wrote.

    >>> dimension_from_dict(Integer(1, 9, when={"tune": ("full",)}).to_dict())
    Integer(when={'tune': ('full',)}, low=1, high=9, log=False)
    """
    when = {name: tuple(values) for name, values in data.get("when", {}).items()}
    if data["kind"] == "choice":
        return Choice(tuple(data["options"]), when=when)
    kind = Integer if data["kind"] == "integer" else Number
    return kind(data["low"], data["high"], data["log"], when=when)


def read_space(
    owner: str,
    given: Mapping[str, Any],
    own: Space,
    defaults: Mapping[str, Any],
    rules: Mapping[str, Rule],
) -> dict[str, Dimension]:
    """A family's space with the ranges that the settings file puts in place of its own.

    Args:
        owner: the family's name, for messages.
        given: by parameter: ``[low, high]``, ``{low, high, log}``, ``{options}``, a list of
            options, or None to leave the parameter at its default.
        own: the family's own space.
        defaults: every legal parameter with its default.
        rules: the values that each may take.

    Raises:
        SettingsError: every problem at once.

    >>> own = {"rate": Number(0.01, 0.3, log=True)}
    >>> found = read_space("trees", {"rate": [0.1, 0.2]}, own, {"rate": 0.1}, {})
    >>> found["rate"].low, found["rate"].log
    (0.1, True)
    """
    space, problems = dict(own), []
    for name, entry in given.items():
        if name not in defaults:
            problems.append(
                f"The {owner} family has no parameter `{name}` for this task. "
                f"{nearest(name, defaults)}"
            )
        elif entry is None:
            space.pop(name, None)
        else:
            found = _read(name, entry, own.get(name), rules.get(name), defaults)
            if isinstance(found, Dimension):
                space[name] = found
            else:
                problems += [f"`{name}` of the {owner} family {problem}" for problem in found]
    if problems:
        raise SettingsError(problems)
    return space


def _read(
    name: str,
    entry: Any,
    own: Dimension | None,
    rule: Rule | None,
    defaults: Mapping[str, Any],
) -> Dimension | list[str]:
    numeric = rule is None or rule.kind in ("integer", "number")
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        pair = len(entry) == 2 and all(_is_number(each) for each in entry)
        if pair and numeric:
            entry = {"low": entry[0], "high": entry[1]}
        else:
            entry = {"options": list(entry)}
    if not isinstance(entry, Mapping):
        return [
            f"needs a range [low, high] or a list of options, got {entry!r}. A value that is not "
            f"searched belongs under `models`: {{{name}: {entry}}}."
        ]
    keys = _CHOICE_KEYS if "options" in entry else _RANGE_KEYS
    strange = [str(key) for key in entry if key not in keys]
    if strange:
        return [f"has no `{strange[0]}` in its range. {nearest(strange[0], keys)}"]
    when, wrong = _read_conditions(entry.get("when"), own, defaults)
    if wrong:
        return wrong
    if "options" in entry:
        return _read_choice(entry["options"], rule, when)
    return _read_range(entry, own, rule, when)


def _read_conditions(
    given: Any, own: Dimension | None, defaults: Mapping[str, Any]
) -> tuple[Conditions, list[str]]:
    if given is None:
        return ({} if own is None else own.when), []
    if not isinstance(given, Mapping):
        return {}, [f"has `when: {given!r}`; it takes a mapping, parameter: value."]
    unknown = [str(name) for name in given if name not in defaults]
    if unknown:
        return {}, [f"has `when` for the unknown `{unknown[0]}`. {nearest(unknown[0], defaults)}"]
    return {
        name: tuple(value) if isinstance(value, list | tuple) else (value,)
        for name, value in given.items()
    }, []


def _read_choice(options: Any, rule: Rule | None, when: Conditions) -> Dimension | list[str]:
    if not isinstance(options, Sequence) or isinstance(options, str) or not options:
        return [f"needs at least one option, got {options!r}."]
    plain = [each for each in options if not isinstance(each, str | int | float | bool)]
    if plain:
        return [f"has the option {plain[0]!r}; options are words, numbers, true or false."]
    if any(a == b and type(a) is type(b) for i, a in enumerate(options) for b in list(options)[:i]):
        return [f"names an option twice: {list(options)}."]
    wrong = [f"{problem}." for each in options if rule and (problem := rule.problem(each))]
    return wrong or Choice(tuple(options), when=when)


def _read_range(
    entry: Mapping[str, Any], own: Dimension | None, rule: Rule | None, when: Conditions
) -> Dimension | list[str]:
    if rule is not None and rule.kind not in ("integer", "number"):
        return ["takes no range; give a list of options."]
    missing = [name for name in ("low", "high") if entry.get(name) is None]
    if missing:
        return [f"needs `{missing[0]}` for its range, got {dict(entry)}."]
    ends: list[Any] = [entry["low"], entry["high"]]
    if not all(_is_number(end) and math.isfinite(end) for end in ends):
        return [f"needs numbers as the ends of its range, got {ends}."]
    low, high = ends
    log = entry.get("log", isinstance(own, Integer | Number) and own.log and low > 0)
    problems = [f"{problem}." for end in ends if rule and (problem := rule.problem(end))]
    if not isinstance(log, bool):
        problems.append(f"has `log: {log!r}`; it is true or false.")
    elif log and low <= 0:
        problems.append(f"cannot have a log scale that starts at {low:g}: it needs low > 0.")
    if low >= high:
        problems.append(f"has a range that ends at {high:g}, not above its start {low:g}.")
    if problems:
        return list(dict.fromkeys(problems))
    whole = rule.kind == "integer" if rule else all(_is_whole(end) for end in ends)
    return Integer(low, high, log, when=when) if whole else Number(low, high, log, when=when)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spread(low: float, high: float, count: int, log: bool) -> list[float]:
    if count <= 1:
        return [math.sqrt(low * high) if log else (low + high) / 2]
    shares = [step / (count - 1) for step in range(count)]
    if log:
        inner = [low * (high / low) ** share for share in shares[1:-1]]
    else:
        inner = [low + (high - low) * share for share in shares[1:-1]]
    return [low, *inner, high]
