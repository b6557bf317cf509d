"""Who may ask: checked before a request's path is looked at, so that no route can forget it.

- *Host*: on this machine's own address only its names are taken, so that no web page can reach the
  service by a name that was bound to 127.0.0.1 anew (as in CVE-2025-14279).
- *Origin*: a browser names the page that asks; only pages that were allowed may.
- *Token*: beyond loopback there is always one. It is compared in constant time. Without it every
  path gets 401, also those that do not exist; only the two health checks are open.
- *Doubt*: a second Host, Authorization, Content-Length or Content-Type is refused, as a proxy in
  front may have believed the other one.
"""

from __future__ import annotations

import hmac
from collections import Counter

from loopline.serve.reply import Headers, Refusal, Reply
from loopline.serve.settings import ServeSettings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
"""What needs no token: whether the service is there says nothing of its models."""
SINGLE = frozenset(
    {b"host", b"authorization", b"content-length", b"content-type", b"origin",
     b"transfer-encoding", b"inference-header-content-length"}
)  # fmt: skip
_REMEMBERED = 256


class Guard:
    """Checks the head of every request.

    Args:
        settings: address, allowed names and origins.
        token: what callers must send as ``Authorization: Bearer <token>``; None for none.
    """

    def __init__(self, settings: ServeSettings, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}".encode()
        names = {name.lower().encode() for name in settings.allow_hosts}
        if settings.loopback:
            names |= {name.encode() for name in LOOPBACK_NAMES} | {settings.host.lower().encode()}
        self._names = names
        self._any_host = not names
        self._origins = {origin.rstrip("/").lower().encode() for origin in settings.allow_origins}
        self._known_hosts: set[bytes] = set()

    def check(self, method: str, path: str, headers: Headers) -> dict[bytes, bytes]:
        """The headers by name, if the request may go on.

        Raises:
            Refusal: 400 for doubtful heads, 401 without the token, 403 for another origin, 421 for
                a Host that is not ours.
        """
        found = dict(headers)
        if len(found) != len(headers):
            self._refuse_double(headers)
        host = found.get(b"host")
        if host not in self._known_hosts:
            self._check_host(host)
        if b"origin" in found:
            self._check_origin(found[b"origin"], host)
        if self._expected is not None and not self._may_pass(method, path, found):
            raise Refusal(
                401,
                "This service needs a token: send the header `Authorization: Bearer <token>`.",
                headers=[(b"www-authenticate", b"Bearer")],
            )
        return found

    def cross_origin(self, headers: dict[bytes, bytes]) -> Headers:
        """What lets the page that asked read the answer; nothing for other callers."""
        origin = headers.get(b"origin")
        if origin is None or origin.lower() not in self._origins:
            return ()
        return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))

    def preflight(self, headers: dict[bytes, bytes]) -> Reply:
        """The answer to a browser that asks whether a page may call."""
        return Reply(
            204,
            b"",
            headers=(
                *self.cross_origin(headers),
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-allow-headers", b"authorization, content-type"),
                (b"access-control-max-age", b"600"),
            ),
        )

    def _may_pass(self, method: str, path: str, headers: dict[bytes, bytes]) -> bool:
        assert self._expected is not None
        given = headers.get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected):
            return True
        if method == "OPTIONS":  # browsers ask this without the token; only allowed pages got here
            return b"origin" in headers and b"access-control-request-method" in headers
        return method in ("GET", "HEAD") and path in OPEN_PATHS

    @staticmethod
    def _refuse_double(headers: Headers) -> None:
        counts = Counter(name for name, _ in headers)
        for name in SINGLE:
            if counts[name] > 1:
                raise Refusal(400, f"The header {name.decode()} came twice.", close=True)

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            raise Refusal(400, "The request has no Host header.", close=True)
        name = host.lower()
        if not name.endswith(b"]") and b":" in name:
            name = name.rpartition(b":")[0]
        if not self._any_host and name not in self._names:
            raise Refusal(
                421,
                "The request's Host is not a name of this service; `allow_hosts` adds one.",
                close=True,
            )
        if len(self._known_hosts) < _REMEMBERED:
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes, host: bytes | None) -> None:
        name = origin.lower()
        if name in self._origins:
            return
        if host is not None and name in (b"http://" + host.lower(), b"https://" + host.lower()):
            return
        raise Refusal(403, "Pages of this origin may not call; `allow_origins` adds one.")
