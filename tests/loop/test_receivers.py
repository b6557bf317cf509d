"""What the loop tells people, and that nobody misses a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopline.loop.diary import Diary
from loopline.loop.monitored import said
from loopline.loop.receivers import NOTIFIED, notify, write_gauges
from loopline.monitor.alarm import Alarm, Impact
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.sinks import Undelivered
from loopline.store.ledger import Ledger

BOTH = SinkSettings(
    webhook={"url": "http://127.0.0.1:9/", "send": "all"},
    email={"host": "127.0.0.1", "sender": "loop@example.org", "to": "team@example.org"},
)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was delivered to whom; `down` names receivers that take nothing."""

    class Sent:
        def __init__(self) -> None:
            self.told: list[tuple[str | None, str]] = []
            self.down: set[str] = set()

        def deliver(self, messages: Any, settings: Any, only: Any = None) -> Any:
            del settings
            self.told += [(only, message.subject) for message in messages]
            sinks = self.down if only is None else self.down & {only}
            return [Undelivered(sink, each, "down") for each in messages for sink in sinks]

    found = Sent()
    monkeypatch.setattr("loopline.loop.receivers.deliver", found.deliver)
    monkeypatch.setattr("loopline.monitor.sinks.deliver", found.deliver)
    return found


def test_alarms_and_decisions_are_told_once(ledger: Ledger, sent: Any) -> None:
    """What arrived and what was looked at is no news to a person."""
    diary = Diary(ledger, "machines")
    diary.tell("arrived", "a.csv came.")
    diary.tell("alarm", "heat moved.")
    diary.tell("decided", "Promoted.")
    assert notify(ledger, diary, BOTH) == []
    assert notify(ledger, diary, BOTH) == []
    assert sent.told == [(None, "machines: alarm"), (None, "machines: decided")]
    diary.tell("rolled_back", "It was worse.")
    notify(ledger, diary, BOTH)
    assert sent.told[2:] == [(None, "machines: rolled back")]


def test_a_receiver_that_is_down_is_told_at_the_next_look(ledger: Ledger, sent: Any) -> None:
    """And only that one."""
    diary = Diary(ledger, "machines")
    diary.tell("alarm", "heat moved.")
    sent.down = {"webhook"}
    assert "webhook did not take 'machines: alarm': down" in notify(ledger, diary, BOTH)
    notify(ledger, diary, BOTH)
    sent.down = set()
    assert notify(ledger, diary, BOTH) == []
    assert sent.told[1:] == [("webhook", "machines: alarm")] * 2
    assert notify(ledger, diary, BOTH) == []
    assert len(sent.told) == 3


def test_each_receiver_that_is_down_is_told_again(ledger: Ledger, sent: Any) -> None:
    """Both missed the same word, and both hear it later."""
    diary = Diary(ledger, "machines")
    diary.tell("alarm", "heat moved.")
    sent.down = {"webhook", "email"}
    assert len(notify(ledger, diary, BOTH)) == 2
    sent.down = set()
    assert notify(ledger, diary, BOTH) == []
    assert {only for only, _ in sent.told[1:]} == {"webhook", "email"}


def test_a_controller_killed_before_it_put_down_who_heard_tells_again(
    ledger: Ledger, sent: Any
) -> None:
    """Twice is better than never."""
    diary = Diary(ledger, "machines")
    diary.tell("failed", "The retraining failed.")

    class Dies:
        def events(self, **given: Any) -> Any:
            return ledger.events(**given)

        def append(self, *given: Any, **more: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notify(Dies(), diary, BOTH)  # type: ignore[arg-type]
    notify(ledger, diary, BOTH)
    assert sent.told == [(None, "machines: failed")] * 2


def test_without_receivers_nothing_is_written(ledger: Ledger) -> None:
    """The ledger and the terminal have it."""
    diary = Diary(ledger, "machines")
    diary.tell("alarm", "heat moved.")
    assert notify(ledger, diary, SinkSettings()) == []
    assert ledger.events(kind=NOTIFIED) == []


def test_prometheus_hears_what_the_loop_did(ledger: Ledger, tmp_path: Path) -> None:
    """Alarms since the last decision, and counts of decisions, promotions, rollbacks."""
    diary = Diary(ledger, "machines")
    diary.tell("alarm", "heat moved.")
    diary.tell("decided", "Promoted.", promoted=True)
    diary.tell("decided", "Kept.", promoted=False)
    diary.tell("alarm", "load moved.")
    write_gauges(str(tmp_path / "alarms.prom"), diary, 1.5)
    lines = (tmp_path / "alarms-loop.prom").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'loopline_loop_time_seconds{model="machines"} 1.5',
        'loopline_loop_alarms{model="machines"} 1',
        'loopline_loop_decisions{model="machines"} 2',
        'loopline_loop_promotions{model="machines"} 1',
        'loopline_loop_rollbacks{model="machines"} 0',
    ]


def messages(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, diary: Diary) -> list[Any]:
    """What `notify` hands to the receivers."""
    got: list[Any] = []
    monkeypatch.setattr(
        "loopline.loop.receivers.deliver", lambda sent, settings: got.extend(sent) or []
    )
    notify(ledger, diary, BOTH)
    return got


def test_one_look_is_one_message(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three alarms of one look: the first in full, the others as lines of the same message."""
    diary = Diary(ledger, "machines")
    alarms = [{"sentence": f"{name} moved."} for name in ("heat", "load", "hum")]
    diary.tell("alarm", "heat moved. Also: load, hum.", pages=3, alarms=alarms)
    (message,) = messages(monkeypatch, ledger, diary)
    assert message.page
    assert message.lines == ("load moved.", "hum moved.")


def test_notes_of_a_look_wake_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that moved without an effect is told to those who want notes."""
    diary = Diary(ledger, "machines")
    diary.tell("alarm", "hum moved.", pages=0, alarms=[{"sentence": "hum moved."}])
    (message,) = messages(monkeypatch, ledger, diary)
    assert not message.page


def test_what_two_alarms_do_alike_is_said_once() -> None:
    """Twelve columns of one new device: the estimated harm stands at the first of them."""
    impact = Impact("error", 0.05, 0.03, 0.07, "guessed")
    alarms = [
        Alarm("column", "shift", name, True, f"{name} moved.", impact=impact, since="May")
        for name in ("heat", "load")
    ]
    told: set[str] = set()
    first, second = (said(alarm, told) for alarm in alarms)
    assert first == f"heat moved. Since May. {impact}."
    assert second == "load moved. Since May."
