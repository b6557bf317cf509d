"""What cleaning may do about each kind of problem: tell, repair, or not look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

from loopline.errors import SettingsError

Action = Literal["report", "repair", "off"]
ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPolicy:
    """One action for each kind of finding: `report`, `repair` or `off`.

    The defaults repair only what needs no judgement and no statistic of the data: spellings of one
    category that differ in case, blanks, unicode form or edge punctuation, blanks around a
    category, and infinite numbers (which become missing). Everything else is told, never touched.

    Raises:
        SettingsError: an action that does not exist, or `repair` for a kind that has no repair.

    >>> CleanPolicy(sentinel="repair").action("sentinel")
    'repair'
    >>> CleanPolicy.from_dict({"spellings": "off"})
    Traceback (most recent call last):
    loopline.errors.SettingsError: clean: `spellings` is no known kind; did you mean `spelling`?
    """

    cardinality_burst: Action = "report"
    clock_shift: Action = "report"
    constant: Action = "report"
    day_first: Action = "report"
    duplicate_column: Action = "report"
    duplicate_rows: Action = "report"
    edge_blanks: Action = "repair"
    embedded_newline: Action = "report"
    empty_text: Action = "report"
    formula: Action = "report"
    future_times: Action = "report"
    infinite: Action = "repair"
    key_not_unique: Action = "report"
    label_disagreement: Action = "report"
    leading_zeros: Action = "report"
    missing: Action = "report"
    missing_burst: Action = "report"
    mixed_types: Action = "report"
    mojibake: Action = "report"
    negative: Action = "report"
    outliers: Action = "report"
    renamed_column: Action = "report"
    rounded_ids: Action = "report"
    sentinel: Action = "report"
    spelling: Action = "repair"
    swapped_columns: Action = "report"
    truncated_tail: Action = "report"
    unit_change: Action = "report"

    def __post_init__(self) -> None:
        problems = []
        for kind in KINDS:
            action = getattr(self, kind)
            if action not in ACTIONS:
                problems.append(
                    f"`{kind}` must be one of {', '.join(ACTIONS)}, got {action!r}."
                    + _suggestion(str(action), ACTIONS)
                )
            elif action == "repair" and kind not in REPAIRABLE:
                problems.append(
                    f"`{kind}` cannot be repaired, only reported; these can: "
                    f"{', '.join(REPAIRABLE)}."
                )
        if problems:
            raise SettingsError(problems, "clean")

    def action(self, kind: str) -> Action:
        """What is to be done about one kind of finding."""
        action: Action = getattr(self, kind)
        return action

    def to_dict(self) -> dict[str, str]:
        """Plain data; `from_dict` reads it back."""
        return {kind: self.action(kind) for kind in KINDS}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> CleanPolicy:
        """Read settings; kinds that are not named keep their default.

        Raises:
            SettingsError: a kind that does not exist (the nearest one is named), or a wrong action.
        """
        unknown = [
            f"`{name}` is no known kind" + (_suggestion(name, KINDS, "; d") or ".")
            for name in data
            if name not in KINDS
        ]
        if unknown:
            raise SettingsError(unknown, "clean")
        return CleanPolicy(**data)


KINDS: tuple[str, ...] = tuple(field.name for field in fields(CleanPolicy))
REPAIRABLE: tuple[str, ...] = (
    "constant",
    "duplicate_column",
    "duplicate_rows",
    "edge_blanks",
    "empty_text",
    "infinite",
    "mixed_types",
    "mojibake",
    "sentinel",
    "spelling",
)


def _suggestion(word: str, known: tuple[str, ...], start: str = " D") -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"{start}id you mean `{near[0]}`?" if near else ""
