"""What the service counts, told as Prometheus reads it (text format 0.0.4).

Counting costs the request path an addition and a lock; names are looked up once (`Counter`,
`Meter`) and texts made when asked for. Every number is one process's; `merged` adds the snapshots
of several workers up.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the latency histogram, in seconds."""
PREFIX = "loopline_"

MEANINGS = {
    "requests_total": ("counter", "Requests by route and status."),
    "request_seconds": ("histogram", "Time from the whole request to its answer, by route."),
    "rows_total": ("counter", "Rows answered, by model, version and role."),
    "remarks_total": ("counter", "Odd cells, by model, column and what is odd."),
    "refused_rows_total": ("counter", "Requests whose rows broke the input contract, by model."),
    "busy_total": ("counter", "Requests refused with 429."),
    "log_rows_total": ("counter", "Rows written to the prediction log."),
    "log_dropped_rows_total": ("counter", "Rows that the log lost: it was full, or the disk was."),
    "log_failures_total": ("counter", "Times the log could not be written."),
    "log_pending_rows": ("gauge", "Rows that wait to be written."),
    "feedback_total": ("counter", "Labels by what became of them."),
    "shadow_rows_total": ("counter", "Rows that a shadow answered too, by model and version."),
    "shadow_dropped_total": ("counter", "Rows that a shadow was too slow for."),
    "shadow_failures_total": ("counter", "Rows at which a shadow failed."),
    "shadow_differs_total": ("counter", "Rows at which a shadow's prediction is another one."),
    "challenger_failures_total": (
        "counter",
        "Rows at which a canary failed; the champion stood in.",
    ),
    "rollbacks_total": ("counter", "Challengers that were taken back, by reason."),
    "swaps_total": ("counter", "Models that were replaced while serving, by outcome."),
    "window_flags": ("gauge", "Columns that look wrong over the last window, by what is wrong."),
    "ready": ("gauge", "Whether the service takes requests."),
    "connections": ("gauge", "Open connections."),
    "timeouts_total": ("counter", "Connections that were cut off, by what took too long."),
    "failures_total": ("counter", "Answers with 500: our own mistakes."),
}

Labels = tuple[tuple[str, str], ...]


class Counter:
    """One number, found once. `Metrics.counter` makes it."""

    __slots__ = ("_lock", "value")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.value = 0.0

    def add(self, amount: float = 1) -> None:
        """Add to it."""
        with self._lock:
            self.value += amount


class Meter:
    """Answers of one route and status, and their times. `Metrics.meter` makes it."""

    __slots__ = ("_answers", "_lock", "_times")

    def __init__(self, lock: threading.Lock, answers: Counter, times: list[float]) -> None:
        self._lock, self._answers, self._times = lock, answers, times

    def add(self, seconds: float) -> None:
        """Count an answer that took so long."""
        place = bisect_left(BUCKETS, seconds)
        with self._lock:
            self._answers.value += 1
            self._times[place] += 1
            self._times[-1] += seconds


class Metrics:
    """Counters, gauges and one histogram a route.

    >>> metrics = Metrics()
    >>> metrics.add("requests_total", (("route", "/predict"), ("status", "200")))
    >>> metrics.text().splitlines()[2]
    'loopline_requests_total{route="/predict",status="200"} 1'
    """

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], Counter] = {}
        self._times: dict[Labels, list[float]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, labels: Labels = (), amount: float = 1) -> None:
        """Add to a counter."""
        self.counter(name, labels).add(amount)

    def counter(self, name: str, labels: Labels = ()) -> Counter:
        """A counter, to be kept by whoever adds to it often."""
        with self._lock:
            return self._found(name, labels)

    def meter(self, route: str, status: int) -> Meter:
        """What counts the answers of a route with a status."""
        with self._lock:
            answers = self._found("requests_total", (("route", route), ("status", str(status))))
            times = self._times.setdefault((("route", route),), [0.0] * (len(BUCKETS) + 2))
            return Meter(self._lock, answers, times)

    def _found(self, name: str, labels: Labels) -> Counter:
        key = (name, labels)
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = Counter(self._lock)
        return found

    def set(self, name: str, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        with self._lock:
            self._found(name, labels).value = value

    def value(self, name: str, **labels: str) -> float:
        """The sum of what is counted under a name, over all labels that are not given."""
        wanted = set(labels.items())
        with self._lock:
            values = [(key, counter.value) for key, counter in self._values.items()]
        return sum(v for (n, told), v in values if n == name and wanted <= set(told))

    def snapshot(self) -> dict[str, Any]:
        """Plain data that `merged` takes."""
        with self._lock:
            values = [[name, labels, c.value] for (name, labels), c in self._values.items()]
            times = [[labels, list(counts)] for labels, counts in self._times.items()]
        return {"values": values, "times": times}

    @staticmethod
    def merged(snapshots: Iterable[Mapping[str, Any]]) -> Metrics:
        """The sum of several processes' numbers."""
        total = Metrics()
        for snapshot in snapshots:
            for name, labels, value in snapshot["values"]:
                total.add(name, _labels(labels), value)
            for labels, counts in snapshot["times"]:
                key = _labels(labels)
                before = total._times.get(key, [0.0] * len(counts))
                total._times[key] = [a + b for a, b in zip(before, counts, strict=True)]
        return total

    def text(self) -> str:
        """All numbers in Prometheus' text format."""
        lines: list[str] = []
        told = self.snapshot()
        for name, (kind, meaning) in MEANINGS.items():
            if kind == "histogram":
                body = [
                    line
                    for labels, counts in sorted(told["times"])
                    for line in _buckets(labels, counts)
                ]
            else:
                found = sorted((labels, v) for n, labels, v in told["values"] if n == name)
                body = [f"{PREFIX}{name}{_braces(labels)} {_number(v)}" for labels, v in found]
            if body:
                lines += [
                    f"# HELP {PREFIX}{name} {meaning}",
                    f"# TYPE {PREFIX}{name} {kind}",
                    *body,
                ]
        return "\n".join(lines) + "\n"


def _buckets(labels: Labels, counts: Sequence[float]) -> Iterable[str]:
    name, total = f"{PREFIX}request_seconds", 0.0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=False):
        total += count
        yield f"{name}_bucket{_braces((*labels, ('le', bound)))} {_number(total)}"
    yield f"{name}_sum{_braces(labels)} {counts[-1]!r}"
    yield f"{name}_count{_braces(labels)} {_number(total)}"


def _labels(given: Iterable[Iterable[str]]) -> Labels:
    return tuple((name, value) for name, value in given)


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f"{name}={_quoted(value)}" for name, value in labels) + "}"


def _quoted(value: str) -> str:
    r"""A label's value; backslash, quote and line end are escaped as the format asks.

    >>> print(_quoted('a"b'))
    "a\"b"
    """
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def read_snapshot(data: bytes) -> dict[str, Any]:
    """A snapshot as another worker wrote it."""
    read: dict[str, Any] = orjson.loads(data)
    return read
