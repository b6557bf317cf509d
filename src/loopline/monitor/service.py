"""Has the service itself become worse: more failed requests, slower answers?

The first windows say what is usual. Failures are counts, judged by the chance of so many; latency
is judged against its own ups and downs, in two windows in a row, because one slow minute of a
machine is no news.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopline.evaluate.intervals import student_tail
from loopline.monitor.alarm import Alarm
from loopline.monitor.law import tail
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.window import Service
from loopline.words import figure

USUAL_WINDOWS = 8
FEWEST_REQUESTS = 20


@dataclass(eq=False)
class ServiceWatch:
    """Remembers what is usual.

    Args:
        shares: requests and errors of each of the usual windows.
        latency: for each quantile, seconds of each of the usual windows.
        slow: quantiles that were slow in the last window.
    """

    counts: list[tuple[int, int]] = field(default_factory=list)
    latency: dict[str, list[float]] = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)

    def check(
        self, service: Service, chance: float, settings: MonitorSettings, since: str
    ) -> list[Alarm]:
        """Alarms of one window.

        Args:
            service: its counts.
            chance: of a false alarm that is allowed.
            settings: what is worth a page.
            since: when the window began.
        """
        if service.requests < FEWEST_REQUESTS:
            return []
        if len(self.counts) < USUAL_WINDOWS:
            self.counts.append((service.requests, service.errors))
            for name, seconds in service.latency.items():
                self.latency.setdefault(name, []).append(float(seconds))
            return []
        found = [self._errors(service, chance / 2, settings, since)]
        names = sorted(set(self.latency) & set(service.latency))
        slow = []
        for name in names:
            alarm = self._slow(name, service, chance / 2 / len(names), settings, since)
            if alarm is not None:
                slow.append(name)
                if name in self.slow:
                    found.append(alarm)
        self.slow = slow
        return [alarm for alarm in found if alarm is not None]

    def _errors(
        self, service: Service, chance: float, settings: MonitorSettings, since: str
    ) -> Alarm | None:
        shares = np.array([errors / max(requests, 1) for requests, errors in self.counts])
        requests = sum(count for count, _ in self.counts)
        usual = (sum(errors for _, errors in self.counts) + 0.5) / (requests + 1)
        share = service.errors / service.requests
        binomial = usual * (1 - usual)
        between = max(float(shares.var(ddof=1)) - binomial * len(shares) / requests, 0.0)
        variance = binomial * (1 / service.requests + 1 / requests) + between
        skew = (1 - 2 * usual) * binomial / service.requests**2 / variance**1.5
        freedom = np.inf if between == 0 else float(len(shares) - 1)
        p = float(
            tail(
                np.array([max(share - usual, 0.0) / math.sqrt(variance)]),
                np.array([freedom]),
                np.array([skew]),
            )[0]
        )
        if p >= chance or share - usual < settings.max_error_share:
            return None
        return Alarm(
            kind="service",
            what="errors",
            subject="errors",
            page=True,
            sentence=f"{share:.1%} of {service.requests:,} requests failed; usual is {usual:.2%}.",
            effect=share - usual,
            low=share - usual - 1.96 * math.sqrt(variance),
            high=share - usual + 1.96 * math.sqrt(variance),
            unit="share",
            since=since,
            p=p,
            facts={"requests": service.requests, "errors": service.errors, "usual": usual},
        )

    def _slow(
        self, name: str, service: Service, chance: float, settings: MonitorSettings, since: str
    ) -> Alarm | None:
        usual = np.log(np.maximum(np.array(self.latency[name]), 1e-9))
        now = math.log(max(float(service.latency[name]), 1e-9))
        spread = max(float(usual.std(ddof=1)), 0.05) * math.sqrt(1 + 1 / usual.size)
        rise = now - float(usual.mean())
        p = student_tail(rise / spread, usual.size - 1)
        # Two windows in a row: the chance of both is at most that of one, and far less in practice.
        if p >= math.sqrt(chance) or rise < math.log(settings.max_slowdown):
            return None
        before = math.exp(float(usual.mean()))
        return Alarm(
            kind="service",
            what="slow",
            subject=f"latency {name}",
            page=True,
            sentence=f"The latency {name} is {figure(1000 * service.latency[name])} ms in two "
            f"windows in a row; usual are {figure(1000 * before)} ms.",
            effect=math.exp(rise),
            low=math.exp(rise - 2 * spread),
            high=math.exp(rise + 2 * spread),
            unit="ratio",
            since=since,
            p=p * p,
            facts={"seconds": float(service.latency[name]), "usual": before},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "counts": [list(pair) for pair in self.counts],
            "latency": {name: list(values) for name, values in self.latency.items()},
            "slow": list(self.slow),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ServiceWatch:
        """Read what `to_dict` wrote."""
        return ServiceWatch(
            [(int(a), int(b)) for a, b in data["counts"]],
            {name: list(values) for name, values in data["latency"].items()},
            list(data["slow"]),
        )
