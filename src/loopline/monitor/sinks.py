"""Where alarms go besides the ledger and the terminal: a webhook, e-mail, Prometheus.

The ledger is first: an alarm is written there before anybody is told, so a receiver that is down
loses nothing. What could not be delivered is tried again at the next check, under the same id, so
a receiver may hear of an alarm twice and never not at all.

A webhook gets one POST an alarm, as JSON; an answer other than 2xx counts as not delivered, and
redirects are not followed, because they would carry the token to another place. Prometheus reads
a text file, as node_exporter's textfile collector does
(https://github.com/prometheus/node_exporter#textfile-collector).
"""

from __future__ import annotations

import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import IO, Any

import orjson

from loopline.data.writers import write_text
from loopline.digest import value_digest
from loopline.errors import EnvironmentProblem
from loopline.monitor.receivers import EmailSettings, Send, SinkSettings, WebhookSettings

TIMEOUT_SECONDS = 10.0
ALSO = "also"
"""The part of a message's data that holds what its lines say."""


@dataclass(frozen=True)
class Message:
    """One thing to tell.

    Args:
        subject: what it is about, a few words.
        sentence: what happened.
        page: whether a person is to be woken; else a note.
        data: everything known, as plain data.
        lines: what else belongs to it, a sentence each.

    >>> Message("churn: age", "age moved.", True, {"what": "shift"}).id[:8]
    'aa1c24c1'
    """

    subject: str
    sentence: str
    page: bool
    data: Mapping[str, Any]
    lines: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Equal messages have equal ids, by which a receiver knows one that came twice."""
        return value_digest([self.subject, self.sentence, self.page, dict(self.data)])[:32]

    def to_dict(self) -> dict[str, Any]:
        """What a webhook receives."""
        return {
            "id": self.id,
            "subject": self.subject,
            "sentence": self.sentence,
            "lines": list(self.lines),
            "page": self.page,
            "data": dict(self.data),
        }


@dataclass(frozen=True)
class Undelivered:
    """A message that a receiver did not take.

    Args:
        sink: webhook or email.
        message: the message.
        reason: one sentence.
    """

    sink: str
    message: Message
    reason: str


def deliver(
    messages: Sequence[Message], settings: SinkSettings, only: str | None = None
) -> list[Undelivered]:
    """Tell every receiver; what one of them does not take is given back, and the rest still go.

    Args:
        messages: what to tell, in order.
        settings: the receivers.
        only: one receiver's name, for a second attempt.

    Returns:
        What was not delivered, with the reason.
    """
    sinks: list[tuple[str, Send, Callable[[Message], None]]] = []
    if settings.webhook is not None:
        webhook = settings.webhook
        sinks.append(("webhook", webhook.send, lambda message: _post(message, webhook)))
    if settings.email is not None:
        email = settings.email
        sinks.append(("email", email.send, lambda message: _mail(message, email)))
    lost = []
    for name, send, tell in sinks:
        for message in messages if only in (None, name) else ():
            if send == "pages" and not message.page:
                continue
            try:
                tell(message)
            except (OSError, smtplib.SMTPException, EnvironmentProblem) as error:
                lost.append(Undelivered(name, message, _reason(error)))
    return lost


def deliver_again(
    messages: Mapping[str, Message], lost: Sequence[Sequence[str]], settings: SinkSettings
) -> list[Undelivered]:
    """Tell each receiver what it did not take, and nobody else.

    Args:
        messages: by the names under which `lost` knows them; others are passed over.
        lost: pairs of a receiver and a message's name, as they were put down.
        settings: the receivers.

    Returns:
        What was not delivered this time either.
    """
    found: list[Undelivered] = []
    for sink in dict.fromkeys(name for name, _ in lost):
        waiting = {each for name, each in lost if name == sink}
        part = [message for name, message in messages.items() if name in waiting]
        found += deliver(part, settings, only=sink)
    return found


def write_prometheus(path: Path, gauges: Iterable[Gauge]) -> None:
    """Write gauges as Prometheus reads them, whole or not at all.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    write_text(prometheus_text(gauges), path)


@dataclass(frozen=True)
class Gauge:
    """One number for Prometheus.

    Args:
        name: with the prefix, such as loopline_alarms_open.
        meaning: one sentence.
        value: the number.
        labels: such as the model and the column.
    """

    name: str
    meaning: str
    value: float
    labels: Mapping[str, str]


def prometheus_text(gauges: Iterable[Gauge]) -> str:
    r"""Gauges in Prometheus' text format 0.0.4.

    >>> gauge = Gauge("loopline_alarms_open", "Open.", 2, {"model": 'a"b'})
    >>> print(prometheus_text([gauge]), end="")
    # HELP loopline_alarms_open Open.
    # TYPE loopline_alarms_open gauge
    loopline_alarms_open{model="a\"b"} 2
    """
    groups: dict[str, list[Gauge]] = {}
    for gauge in gauges:
        groups.setdefault(gauge.name, []).append(gauge)
    lines = []
    for name, members in groups.items():
        lines += [f"# HELP {name} {members[0].meaning}", f"# TYPE {name} gauge"]
        for gauge in members:
            labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in gauge.labels.items())
            number = f"{gauge.value:.12g}".replace("nan", "NaN").replace("inf", "Inf")
            lines.append(f"{name}{{{labels}}} {number}" if labels else f"{name} {number}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> None:  # fmt: skip
        del req, fp, code, msg, headers, newurl


def _post(message: Message, settings: WebhookSettings) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "loopline"}
    if settings.token_env is not None:
        headers["Authorization"] = f"Bearer {_secret(settings.token_env)}"
    body = orjson.dumps(message.to_dict(), option=orjson.OPT_NON_STR_KEYS)
    request = urllib.request.Request(settings.url, body, headers)  # noqa: S310  # checked: http(s)
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        answer.read(1)


def _mail(message: Message, settings: EmailSettings) -> None:
    letter = EmailMessage()
    letter["Subject"] = " ".join(f"Loopline: {message.subject}".split())
    letter["From"] = settings.sender
    letter["To"] = ", ".join(settings.to)
    letter["Message-ID"] = f"<{message.id}@loopline>"
    letter.set_content("\n\n".join(filter(None, _paragraphs(message))))
    if settings.security == "tls":
        context = ssl.create_default_context()
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_SECONDS)
    with server:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.user is not None:
            server.login(settings.user, _secret(str(settings.password_env)))
        server.send_message(letter)


def _paragraphs(message: Message) -> list[str]:
    """The sentence, what else belongs to it, and what is known; what the lines say stands once."""
    known = (
        f"{key}: {value if isinstance(value, str) else orjson.dumps(value).decode()}"
        for key, value in message.data.items()
        if key != ALSO
    )
    lines = "\n".join(f"- {line}" for line in message.lines)
    return [message.sentence, lines, "\n".join(known)]


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise EnvironmentProblem(f"The environment variable {variable} is not set.")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
