"""What a family's parameters may be: one rule a name, all problems told at once.

A family lists its parameters in `Family.defaults` (the legal names) and, where a value has a range
or a list of choices, in `Family.rules`. `resolve` merges what the settings say over the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loopline.errors import SettingsError
from loopline.words import nearest


@dataclass(frozen=True, slots=True)
class Rule:
    """The values that one parameter may take.

    Args:
        kind: "integer", "number", "choice", "flag" (true or false) or "name" (any text).
        low: the smallest value, itself allowed unless `above_low`.
        high: the largest value, itself allowed.
        above_low: True where the value must be larger than `low`.
        words: the words that are allowed (for a choice), or allowed besides a number ("auto") or
            besides true and false.
    """

    kind: Literal["integer", "number", "choice", "flag", "name"]
    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    words: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, as the end of a sentence; None when it is allowed.

        >>> Rule("number", low=0.0, above_low=True).problem(-1)
        'must be a number > 0, got -1'
        >>> Rule("integer", low=1).problem(3) is None
        True
        """
        if self.kind == "flag":
            allowed = isinstance(value, bool) or (isinstance(value, str) and value in self.words)
        elif self.kind == "name":
            allowed = isinstance(value, str) and bool(value)
        elif isinstance(value, str):
            allowed = value in self.words
        elif self.kind == "choice" or isinstance(value, bool):
            allowed = False
        elif self.kind == "integer":
            allowed = isinstance(value, int) and self._inside(value)
        else:
            allowed = isinstance(value, int | float) and self._inside(value)
        return None if allowed else f"must be {self._text()}, got {value!r}"

    def _inside(self, value: float) -> bool:
        above = value > self.low if self.above_low else value >= self.low
        return math.isfinite(value) and above and value <= self.high

    def _text(self) -> str:
        words = " or ".join(f'"{word}"' for word in self.words)
        if self.kind == "flag":
            return f"true or false or {words}" if words else "true or false"
        if self.kind == "name":
            return "a name"
        if self.kind == "choice":
            return words
        article = "an integer" if self.kind == "integer" else "a number"
        limits = []
        if self.low > -math.inf:
            limits.append(f"{'>' if self.above_low else '>='} {self.low:g}")
        if self.high < math.inf:
            limits.append(f"<= {self.high:g}")
        text = " ".join([article, " and ".join(limits)]).strip()
        return f"{text} or {words}" if words else text


def resolve(
    owner: str, given: Mapping[str, Any], defaults: Mapping[str, Any], rules: Mapping[str, Rule]
) -> dict[str, Any]:
    """Merge given parameters over the defaults after checking each name and value.

    Args:
        owner: the family's name, for the message.
        given: what the settings or `consolidate` say.
        defaults: every legal name with its default.
        rules: the rules of the names that have one.

    Raises:
        SettingsError: every unknown name and every value outside its rule.

    >>> resolve("linear", {"penalty": 2.0}, {"penalty": "auto"}, {})
    {'penalty': 2.0}
    """
    problems = []
    for name, value in given.items():
        if name not in defaults:
            problems.append(
                f"The {owner} family has no parameter `{name}` for this task. "
                f"{nearest(name, defaults)}"
            )
        elif name in rules and (problem := rules[name].problem(value)):
            problems.append(f"`{name}` of the {owner} family {problem}.")
    if problems:
        raise SettingsError(problems)
    return {**defaults, **given}
