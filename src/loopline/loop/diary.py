"""The diary of a loop: every decision is an event of the ledger that reads as a sentence.

Nothing else is remembered. A controller that is killed and started again reads here what was
begun, which rows an attempt had set aside before it was trained, and what was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopline.release.aliases import CHAMPION, Aliases
from loopline.store.ledger import Event, Ledger

PREFIX = "loop."
WHATS = (
    "arrived", "held", "waiting", "looked", "alarm", "triggered", "trained", "failed",
    "shadowing", "decided", "rolled_back", "confirmed", "accepted",
)  # fmt: skip
"""The kinds of entries, each the event ``loop.<what>`` whose subject is the line's name."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened, as a sentence.

    Args:
        id: the number of the event.
        time: UTC, ISO 8601.
        what: one of `WHATS`, or ``alias`` for a move of the champion.
        sentence: for a person.
        data: the facts.
    """

    id: int
    time: str
    what: str
    sentence: str
    data: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "id": self.id, "time": self.time, "what": self.what, "sentence": self.sentence,
            "data": dict(self.data),
        }  # fmt: skip

    def __str__(self) -> str:
        when = self.time[:19].replace("T", " ")
        return f"{when}  {self.what.replace('_', ' '):<11}  {self.sentence}"


class Diary:
    """The loop's entries in a ledger.

    Args:
        ledger: where they are.
        name: the line's name.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self.name = name

    def tell(self, what: str, sentence: str, **data: Any) -> Entry:
        """Write an entry; when this returns, it survives a crash."""
        assert what in WHATS
        event = self._ledger.append(
            f"{PREFIX}{what}", subject=self.name, data={"sentence": sentence, **data}
        )
        return _entry(event)

    def tell_news(self, what: str, sentence: str, **data: Any) -> Entry | None:
        """Write an entry unless one of its kind has said the same since the last decision."""
        decided = self.last("decided")
        said = self.entries(what, after=0 if decided is None else decided.id)
        if any(entry.sentence == sentence for entry in said):
            return None
        return self.tell(what, sentence, **data)

    def entries(self, what: str | None = None, *, after: int = 0) -> list[Entry]:
        """The loop's own entries, oldest first; of one kind, and after an event's number."""
        kind = None if what is None else f"{PREFIX}{what}"
        events = self._ledger.events(kind=kind, subject=self.name)
        return [
            _entry(event) for event in events if event.id > after and event.kind.startswith(PREFIX)
        ]

    def last(self, what: str, *, after: int = 0) -> Entry | None:
        """The newest entry of a kind."""
        found = self.entries(what, after=after)
        return found[-1] if found else None

    def pending(self) -> Entry | None:
        """The attempt that was begun and is not decided, if there is one."""
        last, decided = self.last("triggered"), self.last("decided")
        return None if last is None or (decided and decided.id > last.id) else last

    def timeline(self) -> list[Entry]:
        """All entries with the moves of the champion, oldest first.

        A move that the loop made is told by its decision, and once.
        """
        entries = self.entries()
        said = {entry.sentence for entry in entries if entry.what in ("decided", "rolled_back")}
        told = [
            Entry(move.event, move.time, "alias", str(move).partition(" UTC: ")[2], move.to_dict())
            for move in Aliases(self._ledger).history(self.name, CHAMPION)
            if not {promoted(str(move.release), move.why), rolled_back(move.why)} & said
        ]
        return sorted([*entries, *told], key=lambda entry: entry.id)


def promoted(release: str, why: str) -> str:
    """How a promotion of the loop is told."""
    return f"Promoted {release[:20]}: {why}"


def rolled_back(why: str) -> str:
    """How a rollback of the loop is told."""
    return f"Rolled back: {why}"


def _entry(event: Event) -> Entry:
    data = dict(event.data)
    sentence = str(data.pop("sentence", ""))
    return Entry(event.id, event.time, event.kind.removeprefix(PREFIX), sentence, data)
