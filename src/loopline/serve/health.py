"""How the service itself does, kept for monitoring: requests, failures and times, every minute.

The counters of `loopline.serve.metrics` live in memory. Beside each file of the prediction log goes
an artifact of the kind ``served`` with what was counted since the one before, so that failures and
slow answers of last night can be judged in the morning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loopline.serve.metrics import BUCKETS, Metrics
from loopline.store.artifacts import Store

KIND = "served"
ROUTES = ("/predict", "/explain", "/infer")
"""Parts of the routes that answer rows."""


@dataclass(frozen=True)
class Served:
    """What was counted in a stretch of time, in one process of a service.

    Args:
        start: when counting began, UTC, ISO 8601.
        end: when it ended.
        requests: that asked for answers to rows.
        errors: how many of them failed for the service's own fault (500 and above).
        seconds: how many took at most each of `BUCKETS`, each request counted once, and last those
            that took longer.
        id: the artifact; empty before it is kept.
    """

    start: str
    end: str
    requests: int
    errors: int
    seconds: tuple[int, ...]
    id: str = ""

    def quantile(self, share: float) -> float | None:
        """The time that a share of the requests did not exceed, at most twice too long.

        >>> Served("", "", 10, 0, (9, 1, *[0] * 16)).quantile(0.99)
        0.0001
        """
        total = sum(self.seconds)
        if not total:
            return None
        seen = 0
        for bound, count in zip(BUCKETS, self.seconds, strict=False):
            seen += count
            if seen >= share * total:
                return bound
        return BUCKETS[-1]


class Counted:
    """Takes what was counted since the last time it was asked.

    Args:
        metrics: the counters.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._start = _now()
        self._before = _totals(metrics)

    def take(self, to: Callable[[Served], None]) -> None:
        """Give what was counted since, unless nobody asked anything; kept if `to` fails."""
        totals, end = _totals(self._metrics), _now()
        requests, errors, *seconds = (a - b for a, b in zip(totals, self._before, strict=True))
        if requests:
            to(Served(self._start, end, requests, errors, tuple(seconds)))
            self._before, self._start = totals, end


def keep(store: Store, served: Served) -> None:
    """Put it into the store; it holds no file."""
    meta = {
        "start": served.start,
        "end": served.end,
        "requests": served.requests,
        "errors": served.errors,
        "seconds": list(served.seconds),
    }
    store.put(KIND, lambda folder: None, meta=meta)


def read_served(store: Store, *, known: Collection[str] = ()) -> list[Served]:
    """What a store holds of it, oldest first.

    Args:
        store: that the service logged into.
        known: ids that are passed over.
    """
    passed = set(known)
    found = [_served(each, store.get(each).meta) for each in store.ids(KIND) if each not in passed]
    return sorted(found, key=lambda served: (served.end, served.id))


def summed(parts: Iterable[Served]) -> Served | None:
    """Several processes or stretches together; None without one."""
    every = list(parts)
    if not every:
        return None
    return Served(
        min(part.start for part in every),
        max(part.end for part in every),
        sum(part.requests for part in every),
        sum(part.errors for part in every),
        tuple(map(sum, zip(*(part.seconds for part in every), strict=True))),
    )


def _served(name: str, meta: Mapping[str, Any]) -> Served:
    return Served(
        meta["start"], meta["end"], meta["requests"], meta["errors"], tuple(meta["seconds"]), name
    )


def _totals(metrics: Metrics) -> list[int]:
    """Requests, errors, and the counts of the buckets."""
    told = metrics.snapshot()
    requests = errors = 0
    for name, labels, value in told["values"]:
        named = dict(labels)
        if name == "requests_total" and _answers(named["route"]):
            requests += int(value)
            errors += int(value) if int(named["status"]) >= 500 else 0
    seconds = [0] * (len(BUCKETS) + 1)
    for labels, counts in told["times"]:
        if _answers(dict(labels)["route"]):
            seconds = [a + int(b) for a, b in zip(seconds, counts[:-1], strict=True)]
    return [requests, errors, *seconds]


def _answers(route: str) -> bool:
    return any(part in route for part in ROUTES)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
