"""What a request is and what goes back: plain values between the protocol and the routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from loopline.features.contract import Remark

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
CSV = b"text/csv; charset=utf-8"
ARROW = b"application/vnd.apache.arrow.stream"
OCTETS = b"application/octet-stream"

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose head has passed the guard and whose body is whole.

    Args:
        parts: the path's segments, percent signs resolved.
        kind: the content type without parameters, lower case.
        headers: the last value of each header.
        body: all bytes.
    """

    parts: tuple[str, ...]
    kind: bytes
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: Headers = ()


class Refusal(Exception):  # noqa: N818  # not a failure: the stated answer to a request
    """A request that gets no answer but a reason, told in one sentence.

    Args:
        status: the HTTP status, 400 to 599.
        sentence: what was asked, the rule, what came, how to fix. Free of paths and code.
        headers: further headers, such as Retry-After.
        close: whether the connection ends with it: its next bytes cannot be trusted, or are many.
    """

    def __init__(
        self, status: int, sentence: str, *, headers: Headers = (), close: bool = False
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers
        self.close = close

    def reply(self) -> Reply:
        """The answer that tells it; ``{"error": …}`` as the Open Inference Protocol has it."""
        headers = [*self.headers, (b"connection", b"close")] if self.close else self.headers
        return Reply(self.status, as_json({"error": self.sentence}), JSON, headers)


def as_json(data: Any) -> bytes:
    """JSON bytes; floats come back to the bit, what is not finite is null."""
    return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)


def told_remarks(remarks: Sequence[Remark]) -> list[dict[str, Any]]:
    """Remarks as JSON tells them."""
    return [
        {"column": remark.column, "what": remark.what, "rows": remark.count, "text": remark.text}
        for remark in remarks
    ]
