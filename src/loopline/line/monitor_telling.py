"""Telling what a look at a stream found: every receiver, once at least, and Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from loopline.monitor.alarm import Alarm, together
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.sinks import (
    ALSO,
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
    alarms = [Alarm.from_dict(each) for each in look.data["alarms"]]
    messages = [message(look.data["name"], each) for each in together(alarms)]
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


def message(name: str, alarms: Sequence[Alarm]) -> Message:
    """Alarms that opened or ended together, the weightiest first, as receivers get them: as one."""
    first, *others = alarms
    over = "over: " if first.state == "closed" else ""
    more = f" and {len(others)} more" if others else ""
    data = first.to_dict() | ({ALSO: [each.to_dict() for each in others]} if others else {})
    lines = tuple(each.sentence for each in others)
    return Message(f"{name}: {over}{first.subject}{more}", first.sentence, first.page, data, lines)


def write_gauges(path: str, name: str, watcher: Watcher) -> None:
    """Write the open alarms of a line for Prometheus, whole or not at all."""
    model = {"model": name}
    alarms = list(watcher.open.alarms.values())
    now = datetime.now(UTC).timestamp()
    gauges = [
        Gauge("loopline_monitor_time_seconds", "When the monitor looked last.", now, model),
        Gauge("loopline_monitor_windows", "Windows judged.", watcher.num_windows, model),
        Gauge("loopline_monitor_rows", "Answered rows judged.", watcher.num_rows, model),
        Gauge("loopline_pages_open", "Open pages, each of one window.", _num_pages(alarms), model),
        Gauge("loopline_alarms_paging", "Alarms in them.", sum(a.page for a in alarms), model),
    ]
    for each in alarms:
        labels = {"kind": each.kind, "subject": each.subject, "what": each.what}
        page = {"page": str(each.page).lower()}
        gauges.append(Gauge("loopline_alarm_open", "An open alarm.", 1, model | labels | page))
    write_prometheus(Path(path).expanduser(), gauges)


def _num_pages(alarms: Sequence[Alarm]) -> int:
    return len(together(alarm for alarm in alarms if alarm.page))
