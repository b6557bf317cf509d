"""What a person may say about the preprocessing, checked before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from loopline.errors import SettingsError
from loopline.features.numbers import Scaling

Recipe = Literal["trees", "linear", "neural"]
Encoding = Literal["ordinal", "onehot", "target"]

RECIPES: tuple[str, ...] = get_args(Recipe)
SCALINGS: tuple[str, ...] = get_args(Scaling)
ENCODINGS: tuple[str, ...] = get_args(Encoding)
MAX_OUTPUTS = 100_000


@dataclass(frozen=True, slots=True)
class ColumnSettings:
    """Overrides for one column; None leaves it to the recipe.

    Args:
        scaling: how a number is scaled.
        encoding: how a category is encoded.
        max_levels: most one-hot columns of this category.
        min_count: fewest training rows of a one-hot column.
        text_size: number of term columns of this text, 0 to keep only length and word count.
    """

    scaling: Scaling | None = None
    encoding: Encoding | None = None
    max_levels: int | None = None
    min_count: int | None = None
    text_size: int | None = None


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Settings of the preprocessing; the defaults suit both recipes.

    Args:
        scaling: how numbers are scaled; None: ``standard`` for linear, ``none`` for trees.
        encoding: how categories are encoded; None: one-hot (linear) or codes (trees) up to
            `max_levels` levels, target encoding beyond.
        max_levels: most levels with a column (one-hot) or code (trees) of their own; None: 64 for
            linear, 128 for trees.
        min_count: fewest training rows of a level with a one-hot column.
        min_share: the same as a share of the training rows; the larger of the two counts.
        missing_code: for trees, whether a missing category has its own code instead of NaN.
        smoothing: strength of the prior in target encoding, in rows.
        num_folds: folds of the cross-fitted target encoding, at least 2.
        text_size: term columns a text gets; None: 256 for linear, 32 for trees.
        columns: overrides by column name.
    """

    scaling: Scaling | None = None
    encoding: Encoding | None = None
    max_levels: int | None = None
    min_count: int = 10
    min_share: float = 0.0
    missing_code: bool = False
    smoothing: float = 10.0
    num_folds: int = 5
    text_size: int | None = None
    columns: Mapping[str, ColumnSettings] = field(default_factory=dict)

    def problems(self, types: Mapping[str, str] | None = None) -> list[str]:
        """Everything wrong with the settings, one sentence each.

        Args:
            types: type of each feature column; where given, overrides that name no feature or have
                no effect on its type are problems too.
        """
        found = _part_problems(asdict(self) | {"columns": None}, "")
        for name, part in self.columns.items():
            where = f"columns.{name}."
            found += _part_problems(asdict(part), where)
            if types is not None:
                found += _effect_problems(name, part, types)
        rules = (
            (self.min_share < 0 or self.min_share >= 1, "min_share", "in [0, 1)", self.min_share),
            (self.smoothing < 0, "smoothing", "0 or more", self.smoothing),
            (self.num_folds < 2, "num_folds", "2 or more", self.num_folds),
        )
        found += [f"`{name}` must be {rule}, got {got!r}." for bad, name, rule, got in rules if bad]
        return found

    def check(self, types: Mapping[str, str] | None = None) -> None:
        """Raise `SettingsError` with everything that is wrong."""
        problems = self.problems(types)
        if problems:
            raise SettingsError(problems, "features")


_EFFECTS = {
    "scaling": ("number",),
    "encoding": ("category",),
    "max_levels": ("category",),
    "min_count": ("category",),
    "text_size": ("text",),
}


def _part_problems(part: Mapping[str, Any], where: str) -> list[str]:
    found = []
    for name, choices in (("scaling", SCALINGS), ("encoding", ENCODINGS)):
        if part[name] is not None and part[name] not in choices:
            found.append(
                f"`{where}{name}` must be one of {', '.join(choices)}, got {part[name]!r}."
            )
    for name, least, most in (
        ("max_levels", 1, MAX_OUTPUTS),
        ("min_count", 1, None),
        ("text_size", 0, 4096),
    ):
        value = part[name]
        if value is None:
            continue
        if value < least or (most is not None and value > most):
            rule = f"{least} or more" if most is None else f"between {least} and {most}"
            found.append(f"`{where}{name}` must be {rule}, got {value!r}.")
    return found


def _effect_problems(name: str, part: ColumnSettings, types: Mapping[str, str]) -> list[str]:
    if name not in types:
        return [f"`columns.{name}` names no feature column; features are {', '.join(types)}."]
    return [
        f"`columns.{name}.{setting}` has no effect: the column is a {types[name]}, the setting is "
        f"for {' and '.join(kinds)} columns."
        for setting, kinds in _EFFECTS.items()
        if getattr(part, setting) is not None and types[name] not in kinds
    ]
