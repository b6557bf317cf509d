"""Limits on what a model may cost where it serves, and what was measured against them.

A limit is held against a measurement of the path that serves, never against an estimate from
batches: rows a second of a batch of 1,000 say nothing of the time of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from loopline.words import listed_table, size

NOISY = 20.0
"""The quickest model's slow calls take so many times its usual ones only on a busy machine; on a
quiet one it is about 4 times."""


@dataclass(frozen=True)
class Measured:
    """One model measured in a process of its own, warm.

    Args:
        latency_p50: seconds from one row to its answer, half of the calls.
        latency_p95: the same, 95 % of the calls.
        latency_p99: the same, 99 % of the calls, in the worst of the rounds.
        throughput: rows a second in batches.
        memory: bytes resident in the process that answers, at the peak.
        size: bytes of the model's files.
        train_time: seconds of a fit on this machine.
        energy: joules for 1,000 rows, one by one; None where the machine tells none.
        path: what was timed: "python" (calls in the process) or "http" (a service on loopback).
        concurrency: calls at a time.
        num_calls: calls that were timed.
    """

    latency_p50: float
    latency_p95: float
    latency_p99: float
    throughput: float
    memory: int
    size: int
    train_time: float
    energy: float | None = None
    path: str = "python"
    concurrency: int = 1
    num_calls: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Measured:
        """Read what `to_dict` wrote."""
        return Measured(**data)


@dataclass(frozen=True)
class Limits:
    """What a model may cost; None sets no limit.

    Args:
        latency_p50: seconds for one row, at most.
        latency_p99: seconds for one row, at most.
        throughput: rows a second in batches, at least.
        memory: bytes of the answering process, at most.
        size: bytes of the model's files, at most.
        train_time: seconds of the final fit, at most.
        energy: joules for 1,000 rows, at most.

    >>> fast = Measured(0.001, 0.002, 0.004, 1e5, 10**8, 10**6, 2.0)
    >>> Limits(latency_p99=0.002).broken(fast)
    ('latency_p99 is above 2 ms',)
    >>> Limits(latency_p99=0.005, size=10**7).broken(fast)
    ()
    """

    latency_p50: float | None = None
    latency_p99: float | None = None
    throughput: float | None = None
    memory: float | None = None
    size: float | None = None
    train_time: float | None = None
    energy: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def broken(self, measured: Measured) -> tuple[str, ...]:
        """A sentence for each limit that the measurement breaks, the same whatever was measured."""
        told = []
        for name, limit in self.given.items():
            value = getattr(measured, name)
            if value is None:
                told.append(f"{name} cannot be measured on this machine")
            elif name == "throughput" and value < limit:
                told.append(f"{name} is below {WORDS[name](limit)}")
            elif name != "throughput" and value > limit:
                told.append(f"{name} is above {WORDS[name](limit)}")
        return tuple(told)


def measured_table(measured: Mapping[str, Measured]) -> str:
    """What was measured of each candidate, as a table of plain text."""
    heads = ["candidate", *WORDS]
    rows = [
        [
            name,
            *(
                "–" if getattr(entry, what) is None else text(getattr(entry, what))
                for what, text in WORDS.items()
            ),
        ]
        for name, entry in measured.items()
    ]
    return listed_table(heads, rows)


def noise_sentence(measured: Mapping[str, Measured]) -> str:
    """Whether the machine rather than the models made slow calls slow; "" where nothing says so.

    Other work on a machine delays some calls of every model, the quickest one's too.

    >>> from dataclasses import replace
    >>> calm = Measured(5e-5, 1e-4, 4e-4, 1e5, 10**8, 10**6, 2.0)
    >>> noise_sentence({"linear": calm})
    ''
    >>> noise_sentence({"linear": replace(calm, latency_p99=0.011)})[:64]
    'Even linear, which usually takes 50 µs, took 11 ms in one call o'
    """
    name, quickest = min(measured.items(), key=lambda entry: entry[1].latency_p50)
    if quickest.latency_p99 < NOISY * quickest.latency_p50:
        return ""
    return (
        f"Even {name}, which usually takes {duration(quickest.latency_p50)}, took "
        f"{duration(quickest.latency_p99)} in one call of a hundred: other work on this machine "
        "may be behind it. Measure again when the machine is quiet."
    )


def duration(seconds: float) -> str:
    """Seconds for people, with two digits that count.

    >>> duration(0.00421), duration(0.00005), duration(12.3), duration(300.0)
    ('4.2 ms', '50 µs', '12 s', '5 min')
    """
    for limit, unit, factor in ((1e-3, "µs", 1e6), (1.0, "ms", 1e3), (120.0, "s", 1.0)):
        if seconds < limit:
            return f"{_two_digits(seconds * factor)} {unit}"
    return f"{_two_digits(seconds / 60)} min"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _rate(rows: float) -> str:
    return f"{_two_digits(rows)} rows/s"


def _bytes(number: float) -> str:
    return size(round(number))


def _energy(joules: float) -> str:
    return f"{_two_digits(joules)} J per 1,000 rows"


WORDS: Mapping[str, Callable[[float], str]] = {
    "latency_p50": duration,
    "latency_p99": duration,
    "throughput": _rate,
    "memory": _bytes,
    "size": _bytes,
    "train_time": duration,
    "energy": _energy,
}
"""How each limit's values are written."""


def speed_sentence(chosen: str, chosen_p50: float, best: str, best_p50: float) -> str:
    """How the speed of the chosen model compares with that of the best scorer.

    >>> speed_sentence("linear", 2e-5, "lightgbm", 1.2e-4)
    'One row takes linear 20 µs and lightgbm 120 µs, 6 times as long.'
    """
    slow, fast = max(chosen_p50, best_p50), min(chosen_p50, best_p50)
    times = slow / fast
    last, first = (best, chosen) if best_p50 >= chosen_p50 else (chosen, best)
    if times < 1.3:
        return f"One row takes both about {duration(slow)}."
    return (
        f"One row takes {first} {duration(fast)} and {last} {duration(slow)}, "
        f"{_two_digits(times)} times as long."
    )
