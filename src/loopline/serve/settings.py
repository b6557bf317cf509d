"""The settings of a service: one typed, frozen value with three spellings: YAML, flags, Python."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from loopline.errors import SettingsError

Policy = Literal["reject", "flag", "impute"]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
MIN_TOKEN = 16
"""Fewest characters of a token: 16 of letters and digits are 95 bits."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSettings(_Part):
    """What happens to cells that training has not seen the like of."""

    policy: Policy = Field(
        "flag",
        description="`flag` answers and remarks on odd cells, as in training; `reject` refuses "
        "them; `impute` reads them as missing.",
    )
    columns: dict[str, Policy] = Field(
        {}, description="The policy of single columns, where it is another one."
    )
    window_rows: int = Field(
        500, ge=0, description="Rows over which units, swaps and constants are looked for; 0: off."
    )


class LimitSettings(_Part):
    """What one client may ask for."""

    body_bytes: int = Field(8_388_608, ge=1, description="Largest body of a request.")
    rows: int = Field(100_000, ge=1, description="Most rows of a request.")
    held_bytes: int = Field(
        268_435_456, ge=1, description="Bytes of all bodies at once in a process; others get 429."
    )
    header_bytes: int = Field(16_384, ge=512, description="Largest head of a request.")
    header_seconds: float = Field(10.0, gt=0, description="Longest time for a request's head.")
    body_seconds: float = Field(30.0, gt=0, description="Longest time for a request's body.")
    send_seconds: float = Field(30.0, gt=0, description="Longest time a client may not read.")
    idle_seconds: float = Field(75.0, gt=0, description="Longest rest between two requests.")
    connections: int = Field(4096, ge=1, description="Most connections of a process.")
    waiting: int = Field(
        1024, ge=1, description="Most requests at once in a process; others get 429."
    )


class LogSettings(_Part):
    """What is kept of requests and answers."""

    enabled: bool = Field(True, description="Whether predictions are logged into the store.")
    share: float = Field(1.0, gt=0, le=1, description="The share of requests that is logged.")
    flush_seconds: float = Field(60.0, gt=0, description="Longest time until a file is written.")
    flush_rows: int = Field(4_096, ge=1, description="Rows of a file.")
    pending_rows: int = Field(
        32_768, ge=1, description="Most rows that wait for the disk; more are dropped and counted."
    )
    hash: Names = Field((), description="Columns whose values are kept as keyed hashes only.")
    leave_out: Names = Field((), description="Columns that are not kept.")


class CanarySettings(_Part):
    """When a challenger that answers a share of the requests is taken back."""

    share: float = Field(
        0.0, ge=0, lt=1, description="Share of the requests that the challenger answers; 0: shadow."
    )
    min_requests: int = Field(200, ge=10, description="Fewest answers before it is judged.")
    max_error_share: float = Field(
        0.01, ge=0, lt=1, description="Largest share of errors above the champion's."
    )
    max_slowdown: float = Field(
        2.0, gt=1, description="Largest ratio of its time for a row to the champion's."
    )
    min_labels: int = Field(
        200, ge=20, description="Fewest labels of each side before quality is judged."
    )


class ServeSettings(_Part):
    """Everything that can be said of a service.

    >>> ServeSettings().host
    '127.0.0.1'
    """

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="The port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=256, description="Processes that share the port.")
    allow_hosts: Names = Field(
        (), description="Names beside the address that a request's Host may have."
    )
    allow_origins: Names = Field(
        (), description="Web pages' origins, such as https://app.example.com, that may call."
    )
    swap_seconds: float = Field(
        10.0, ge=0, description="How often NAME@alias is looked up for another release; 0: never."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Longest time that requests under way are given at the end."
    )
    batch_rows: int = Field(
        256, ge=1, description="Most rows that a model works on at once; small ones never wait."
    )
    input: InputSettings = InputSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    canary: CanarySettings = CanarySettings()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [
            f"`allow_origins` holds {origin!r}; an origin is http:// or https:// with a name and "
            "no path."
            for origin in self.allow_origins
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2
        ]
        problems += [
            f"`log.hash` and `log.leave_out` both name {name!r}; choose one."
            for name in sorted(set(self.log.hash) & set(self.log.leave_out))
        ]
        if not self.log.enabled:
            given = sorted(self.log.model_fields_set - {"enabled"})
            problems += [f"`log.{name}` has no effect with `log.enabled: false`." for name in given]
        if problems:
            raise SettingsError(problems, "service")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("nas")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(token: str | None, settings: ServeSettings) -> None:
    """Refuse to be reachable from elsewhere without a token.

    Raises:
        SettingsError: no token beyond loopback, or one that can be guessed.
    """
    if token is None:
        if not settings.loopback:
            raise SettingsError(
                [
                    f"`host` is {settings.host}, which others can reach: that needs a token. Set "
                    "LOOPLINE_SERVE_TOKEN or give `--token-file`, or listen on 127.0.0.1."
                ]
            )
        return
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            [
                f"The token must be {MIN_TOKEN} or more printable ASCII characters without blanks; "
                f"this one has {len(token)}. `openssl rand -hex 16` makes one."
            ]
        )
