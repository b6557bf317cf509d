"""The settings of the watch: one typed, frozen value with two spellings, YAML and Python."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from loopline.errors import SettingsError

DAYS = {"day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
SLOWEST_WINDOW, FASTEST_RATE = 366 * 86_400.0, 1e12
Season = Literal["auto", "none", "day", "week"]


def _as_names(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


def read_budget(text: str) -> float:
    """Pages a day of a budget such as ``1/month``.

    Raises:
        SettingsError: it is no number of pages and a unit of time.

    >>> read_budget("2/day"), round(read_budget("1/month"), 4)
    (2.0, 0.0329)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(day|week|month|year)\s*", str(text))
    if found is None or float(found[1]) <= 0:
        raise SettingsError(
            [
                "`false_pages` is a number of pages for a day, week, month or year, such as "
                f"'1/month'; got {text!r}."
            ]
        )
    return float(found[1]) / DAYS[found[2]]


def read_seconds(text: str) -> float:
    """Seconds of a duration such as ``1d``, ``12h``, ``30min`` or ``1w``.

    Raises:
        SettingsError: it is none.

    >>> read_seconds("12h"), read_seconds("1d")
    (43200.0, 86400.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*", str(text))
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= SLOWEST_WINDOW:
        raise SettingsError(
            [
                "A duration is a number above 0 with s, min, h, d or w, at most a year, such as "
                f"'1d' or '12h'; got {text!r}."
            ]
        )
    return seconds


class MonitorSettings(BaseModel):
    """Everything that can be said of the watch.

    >>> MonitorSettings().false_pages
    '1/month'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    false_pages: str = Field(
        "1/month",
        description="How often a person may be paged for nothing, over all columns and checks.",
    )
    window: int | str = Field(
        "1d", description="Rows that are judged together: a count, or a time such as `1d` or `1h`."
    )
    floor: float = Field(
        0.05,
        ge=0,
        le=10,
        description="Smallest move worth a word, in the reference's standard deviations.",
    )
    share_floor: float = Field(
        0.01, ge=0, le=1, description="Smallest change of a share worth a word, such as missing."
    )
    margin: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Smallest loss of quality worth a page: in accuracy (classes), or as a share "
        "of the reference's error (numbers).",
    )
    season: Season = Field(
        "auto",
        description="Regular ups and downs that are learned from the reference: `day` (hours), "
        "`week` (hours and weekdays), `none`, or what the reference is long enough for.",
    )
    ignore: Names = Field((), description="Columns that are not watched.")
    slices: Names = Field(
        (), description="Columns whose levels or quarters are watched for quality of their own."
    )
    important: float = Field(
        0.1,
        ge=0,
        le=1,
        description="A moved column pages when it has at least this share of the most important "
        "column's importance; others are noted unless the model suffers.",
    )
    rate: str | None = Field(
        None,
        description="Rows a day, such as `1000/day`, where the reference has no times to tell it.",
    )
    max_error_share: float = Field(
        0.01, ge=0, le=1, description="Smallest rise of the share of failed requests worth a page."
    )
    max_slowdown: float = Field(
        1.5, gt=1, description="Smallest ratio of the latency to the usual one worth a page."
    )
    pending_rows: int = Field(
        200_000, ge=1, description="Most answered rows that are remembered until a label comes."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems: list[str] = []
        for read, value in ((read_budget, self.false_pages), (read_budget, self.rate)):
            try:
                if value is not None:
                    read(value)
            except SettingsError as error:
                problems += [
                    problem.replace("`false_pages` is a number of pages", "`rate` is a number")
                    if value is self.rate
                    else problem
                    for problem in error.problems
                ]
        if isinstance(self.window, str):
            try:
                read_seconds(self.window)
            except SettingsError as error:
                problems += [f"`window`: {problem}" for problem in error.problems]
        elif self.window < 1:
            problems.append(f"`window` must be at least 1 row, got {self.window}.")
        problems += [
            f"`ignore` and `slices` both name {name!r}; choose one."
            for name in sorted(set(self.ignore) & set(self.slices))
        ]
        if problems:
            raise SettingsError(problems, "monitor")
        return self

    @property
    def pages_a_day(self) -> float:
        """The budget."""
        return read_budget(self.false_pages)

    @property
    def window_rows(self) -> int | None:
        """Rows of a window; None where windows are cut by time."""
        return self.window if isinstance(self.window, int) else None

    @property
    def window_seconds(self) -> float | None:
        """Seconds of a window; None where windows are cut by count."""
        return read_seconds(self.window) if isinstance(self.window, str) else None

    @property
    def rows_a_day(self) -> float | None:
        """The stated rate of rows."""
        return read_budget(self.rate) if self.rate is not None else None
