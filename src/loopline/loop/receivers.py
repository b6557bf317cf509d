"""What the loop tells people: alarms, promotions, what it kept and what failed, by `alarms`.

An entry is in the ledger before anybody is told, and it is put down who took which, so a receiver
that is down, or a controller that is killed, costs nobody a word: it is told at the next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loopline.loop.diary import Diary, Entry
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.sinks import Gauge, Message, deliver, deliver_again, write_prometheus
from loopline.store.ledger import Ledger

NOTIFIED = "loop-notified"
PAGES = ("alarm", "failed", "rolled_back")
"""Entries for which a person is woken."""
NOTES = ("held", "decided")


def notify(ledger: Ledger, diary: Diary, settings: SinkSettings) -> list[str]:
    """Tell the receivers what has come into the diary since they were last told.

    Args:
        ledger: where it is put down who took what.
        diary: the loop's entries.
        settings: the receivers; without one nothing is done.

    Returns:
        What was not delivered, a sentence each; it is tried again next time.
    """
    if settings.webhook is None and settings.email is None:
        return []
    told = ledger.events(kind=NOTIFIED, subject=diary.name, limit=1, newest_first=True)
    after = int(told[0].data["upto"]) if told else 0
    missed = told[0].data["lost"] if told else []
    entries = [entry for entry in diary.entries() if entry.what in (*PAGES, *NOTES)]
    new = [entry for entry in entries if entry.id > after]
    if not new and not missed:
        return []
    known = {str(each.data["entry"]): each for each in _messages(diary.name, entries)}
    lost = deliver(_messages(diary.name, new), settings)
    lost += deliver_again(known, missed, settings)
    left = [[each.sink, str(each.message.data["entry"])] for each in lost]
    upto = max(entry.id for entry in entries)
    ledger.append(NOTIFIED, subject=diary.name, data={"upto": upto, "lost": left})
    return [f"{each.sink} did not take {each.message.subject!r}: {each.reason}" for each in lost]


def write_gauges(path: str, diary: Diary, time: float) -> None:
    """Write what the loop did for Prometheus, whole or not at all, beside the monitor's file.

    Args:
        path: the monitor's text file, such as alarms.prom; this one is alarms-loop.prom.
        diary: the loop's entries.
        time: of the look, seconds since 1970.
    """
    entries = diary.entries()
    decided = [entry for entry in entries if entry.what == "decided"]
    since = decided[-1].id if decided else 0
    open_alarms = [entry for entry in entries if entry.what == "alarm" and entry.id > since]
    promoted = [entry for entry in decided if entry.data.get("promoted")]
    rolled_back = [entry for entry in entries if entry.what == "rolled_back"]
    label = {"model": diary.name}
    place = Path(path).expanduser()
    write_prometheus(
        place.with_name(f"{place.stem}-loop{place.suffix}"),
        [
            Gauge("loopline_loop_time_seconds", "When the loop looked last.", time, label),
            Gauge("loopline_loop_alarms", "Alarms since it decided.", len(open_alarms), label),
            Gauge("loopline_loop_decisions", "Attempts decided.", len(decided), label),
            Gauge("loopline_loop_promotions", "Challengers promoted.", len(promoted), label),
            Gauge("loopline_loop_rollbacks", "Promotions taken back.", len(rolled_back), label),
        ],
    )


def _messages(name: str, entries: Sequence[Entry]) -> list[Message]:
    return [
        Message(
            f"{name}: {entry.what.replace('_', ' ')}",
            entry.sentence,
            entry.what in PAGES and entry.data.get("pages") != 0,
            {"entry": entry.id, "time": entry.time, "what": entry.what},
            tuple(alarm["sentence"] for alarm in entry.data.get("alarms", ())[1:]),
        )
        for entry in entries
    ]
