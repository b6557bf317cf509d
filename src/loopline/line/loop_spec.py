"""The `loop` part of the settings: when a line is trained again, what a new model must prove."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from loopline.line.quantities import read_duration

_WINDOW = re.compile(r"\s*([0-9][0-9_,]*)\s*(rows?|d|days?)\s*")
DAY_SECONDS = 86_400.0

Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _read_window(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    found = _WINDOW.fullmatch(text)
    if text != "all" and (found is None or int(re.sub("[_,]", "", found[1])) == 0):
        raise ValueError(
            f"must be all, a number of rows or of days such as '90 days', got {value!r}"
        )
    return text


class ShadowSpec(BaseModel):
    """How long a new model that passed the gate answers live requests, unheard.

    >>> ShadowSpec(requests=50, within="2m").within
    120.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    requests: int = Field(200, ge=1, description="Enough live requests to decide.")
    within: Duration = Field(
        600.0, gt=0, le=DAY_SECONDS,
        description="The longest time that they are waited for, at most a day; nothing else is "
        "decided meanwhile.",
    )  # fmt: skip


class LoopSpec(BaseModel):
    """What `loopline watch` does with a line: triggers, the gate, and how files arrive.

    >>> LoopSpec(window="50_000 rows").window_rows, LoopSpec(window="90 days").window_days
    (50000, 90)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    drift: bool = Field(True, description="Train again when the monitor pages.")
    performance: bool = Field(
        True, description="Train again when labels show that the champion has become worse."
    )
    every: Duration | None = Field(
        None, gt=0, description="Train again when so long has passed, such as `7d`."
    )
    new_labels: int | None = Field(
        None, ge=1, description="Train again when so many labelled rows have come."
    )
    window: Annotated[str, BeforeValidator(_read_window)] = Field(
        "all", description="The rows to train on: `all`, or the newest, such as `50000 rows` or "
        "`90 days` (needs a time column of dates)."
    )  # fmt: skip
    gate_rows: int = Field(
        200, ge=50, description="Fewest new labelled rows that decide about a new model."
    )
    gate_share: float = Field(
        0.3, gt=0, lt=1, description="The share of the new labelled rows, the newest, that decide."
    )
    error: float = Field(
        0.05, gt=0, le=0.5,
        description="The chance that a model that is no better replaces one champion, over all "
        "attempts together.",
    )  # fmt: skip
    protect: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        (), description="Columns in whose parts (categories, quarters) a new model must not be "
        "measurably worse.",
    )  # fmt: skip
    margin: float = Field(
        0.0, ge=0, description="How much worse, in the metric's unit, it may be there and on rows "
        "from before the change."
    )  # fmt: skip
    confirm_windows: int = Field(
        2, ge=1, le=100, description="A change that contradicts older labels is believed when so "
        "many windows, one after another, show it."
    )  # fmt: skip
    origin: str | None = Field(
        None, min_length=1, description="The column that says who gave a label; a change that "
        "comes from one of several alone is not believed."
    )  # fmt: skip
    shadow_rows: int = Field(
        1000, ge=0, description="So many of the newest logged requests the new model must answer."
    )
    shadow: ShadowSpec | None = Field(
        None, description="Let a new model that passed the gate answer live requests beside the "
        "champion, unheard, before it is promoted."
    )  # fmt: skip
    rollback: bool = Field(
        True, description="Go back by itself when labels show that a promotion made things worse."
    )
    poll: Duration = Field(30.0, gt=0, description="How often the controller looks for news.")
    settle: Duration = Field(
        5.0, ge=0, description="A file is taken when it has not changed for so long."
    )
    patience: Duration = Field(
        600.0, ge=0, description="A text file without a last line end is taken after so long."
    )
    retry: Duration = Field(
        60.0, gt=0, description="First pause after a retraining that failed; it doubles each time."
    )

    @property
    def window_rows(self) -> int | None:
        """The newest rows to train on, None for no such limit."""
        found = _WINDOW.fullmatch(self.window)
        rows = found is not None and found[2].startswith("row")
        return int(re.sub("[_,]", "", found[1])) if found is not None and rows else None

    @property
    def window_days(self) -> int | None:
        """The newest days to train on, None for no such limit."""
        found = _WINDOW.fullmatch(self.window)
        days = found is not None and found[2].startswith("d")
        return int(re.sub("[_,]", "", found[1])) if found is not None and days else None
