"""Heads that were read before: a client on a kept connection sends the same one each time.

A head is read by the parser and checked by the guard once. Both are functions of its bytes and of
settings that do not change while the service runs, so the very same bytes need neither again: a
look-up stands for the parsing of a dozen headers. Only heads that were answered the short way are
remembered, so everything doubtful is read anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from loopline.serve.deployment import Deployment

MAX_HEADS = 1024
"""Remembered heads; lengths of bodies stand in them, so one client has some hundreds."""
MAX_HEAD_BYTES = 1024
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ShortHead:
    """What a head says of a request that is answered the short way.

    Args:
        deployment: who answers.
        route: its name in the counters.
        length: bytes of the body.
    """

    deployment: Deployment
    route: str
    length: int


class Heads:
    r"""The heads of one application, by their bytes.

    >>> heads = Heads()
    >>> head = ShortHead(None, "/predict", 2)
    >>> heads.add(b"POST /predict HTTP/1.1\r\nHost: a\r\n\r\n{}", head)
    >>> heads.find(b"POST /predict HTTP/1.1\r\nHost: a\r\n\r\n[]")[1]
    b'[]'
    >>> heads.find(b"POST /predict HTTP/1.1\r\nHost: a\r\n\r\n[]POST /")
    """

    def __init__(self) -> None:
        self._known: dict[bytes, ShortHead] = {}

    def find(self, request: bytes) -> tuple[ShortHead, bytes] | None:
        """What is known of a request's head, and its body; None unless all of it is there.

        Args:
            request: bytes that begin where a request begins.
        """
        end = request.find(_END) + len(_END)
        head = self._known.get(request[:end])
        if head is None or len(request) != end + head.length:
            return None
        return head, request[end:]

    def add(self, request: bytes, head: ShortHead) -> None:
        """Remember the head of a request that was read, guarded and answered.

        Heads that differ in each request (an id of a trace) push the others out, at most.
        """
        end = request.find(_END) + len(_END)
        if end > MAX_HEAD_BYTES or len(request) != end + head.length:
            return
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known[request[:end]] = head
