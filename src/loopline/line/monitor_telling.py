"""Telling what a look at a stream found: every receiver, once at least, and Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from loopline.monitor.alarm import Alarm
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.sinks import (
    Gauge,
    Message,
    deliver,
    deliver_again,
    write_prometheus,
)
from loopline.monitor.watcher import Watcher
from loopline.store.ledger import Event, Ledger

TOLD = "monitor.told"


def tell(ledger: Ledger, look: Event, sinks: SinkSettings) -> list[str]:
    """Tell the receivers what a look found, unless they have all heard of it.

    Called again after a failure, it tells those that did not take a message, and after a crash
    everybody, because nobody knows then who has heard.

    Args:
        ledger: where it is written who took what.
        look: the look's event, with its alarms.
        sinks: the receivers.

    Returns:
        What was not delivered, a sentence each.
    """
    messages = [message(look.data["name"], Alarm.from_dict(each)) for each in look.data["alarms"]]
    before = [
        event
        for event in ledger.events(kind=TOLD, subject=look.subject)
        if event.data["look"] == look.id
    ]
    if not messages or (before and not before[-1].data["lost"]):
        return []
    if not before:
        lost = deliver(messages, sinks)
    else:
        lost = deliver_again({each.id: each for each in messages}, before[-1].data["lost"], sinks)
    left = [[each.sink, each.message.id] for each in lost]
    ledger.append(TOLD, subject=look.subject, data={"look": look.id, "lost": left})
    return [f"{each.sink} did not take {each.message.subject!r}: {each.reason}" for each in lost]


def message(name: str, alarm: Alarm) -> Message:
    """An alarm as receivers get it."""
    over = "over: " if alarm.state == "closed" else ""
    return Message(f"{name}: {over}{alarm.subject}", alarm.sentence, alarm.page, alarm.to_dict())


def write_gauges(path: str, name: str, watcher: Watcher) -> None:
    """Write the open alarms of a line for Prometheus, whole or not at all."""
    model = {"model": name}
    alarms = list(watcher.open.alarms.values())
    now = datetime.now(UTC).timestamp()
    gauges = [
        Gauge("loopline_monitor_time_seconds", "When the monitor looked last.", now, model),
        Gauge("loopline_monitor_windows", "Windows judged.", watcher.num_windows, model),
        Gauge("loopline_monitor_rows", "Answered rows judged.", watcher.num_rows, model),
        Gauge("loopline_alarms_paging", "Open pages.", sum(each.page for each in alarms), model),
    ]
    for each in alarms:
        labels = {"kind": each.kind, "subject": each.subject, "what": each.what}
        page = {"page": str(each.page).lower()}
        gauges.append(Gauge("loopline_alarm_open", "An open alarm.", 1, model | labels | page))
    write_prometheus(Path(path).expanduser(), gauges)
