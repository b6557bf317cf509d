"""Who is told of alarms besides the ledger and the terminal, as settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Addresses = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Send = Literal["pages", "all"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WebhookSettings(_Part):
    """An address that gets a POST for each alarm."""

    url: str = Field(description="Where to, http or https.")
    token_env: str | None = Field(
        None, description="The environment variable that holds a bearer token."
    )
    send: Send = Field("pages", description="Pages only, or notes too.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is no address; write it as https://host/path.")
        if parts.username or parts.password:
            raise ValueError("Keep the password out of the address: name a `token_env`.")
        return self


class EmailSettings(_Part):
    """A mail server and who gets a letter."""

    host: str = Field(min_length=1, description="The SMTP server.")
    port: int = Field(587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is secured."
    )
    sender: str = Field(min_length=3, description="The address that the letters come from.")
    to: Addresses = Field(min_length=1, description="Who gets them.")
    user: str | None = Field(None, description="The name to log in with.")
    password_env: str | None = Field(
        None, description="The environment variable that holds the password."
    )
    send: Send = Field("pages", description="Pages only, or notes too.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for address in (self.sender, *self.to):
            if "@" not in address or any(sign in address for sign in "\r\n"):
                raise ValueError(f"{address!r} is no e-mail address.")
        if (self.user is None) != (self.password_env is None):
            raise ValueError("`user` and `password_env` have an effect only together.")
        if self.user is not None and self.security == "none":
            raise ValueError("A password is not sent over a connection without `security`.")
        return self


class SinkSettings(_Part):
    """Where alarms are told besides the ledger and the terminal."""

    webhook: WebhookSettings | None = Field(None, description="An address for POSTs.")
    email: EmailSettings | None = Field(None, description="A mail server.")
    prometheus: str | None = Field(
        None,
        min_length=1,
        description="A text file for Prometheus, rewritten at each check; `loopline watch` "
        "writes another one beside it, with `-loop` in its name.",
    )
