"""Aliases: names such as ``churn@champion`` that point at one release and can be moved.

A move is an event in the ledger that is never changed: who moved the alias, when, why, from which
release to which. An alias is what its moves add up to, so its whole history can be told, and a
rollback is one more move.

**Two at once.** Each move names the move that it follows. The first event that follows a move
counts, any other that names the same one does not: its author is told, and the alias stands where
the first put it. So no lock is needed on SQLite, whose event numbers rise in the order of the
writes; on PostgreSQL, where they may not, the ledger's lock is held meanwhile.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from loopline.errors import ConflictError, InputError, NotFoundError
from loopline.store.ledger import Event, Ledger
from loopline.words import nearest

EVENT = "alias.moved"
CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
"""Services that follow the champion try this one beside it; its answers are logged only."""
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_RESERVED = ("latest",)


class HasLedger(Protocol):
    """Whatever keeps a ledger, such as a `Project`."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Args:
        name: the line's name.
        alias: such as champion.
        action: promote, rollback or remove.
        before: the release that it pointed at, None for none.
        release: the release that it points at since, None when it was taken away.
        why: the reason that was given, may be empty.
        who: the user of the machine on which it was done.
        time: UTC, ISO 8601.
        event: the number of the event in the ledger.
        proof: what was proved before the move, as plain data.
    """

    name: str
    alias: str
    action: str
    before: str | None
    release: str | None
    why: str
    who: str
    time: str
    event: int
    proof: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """For example ``churn@champion``."""
        return f"{self.name}@{self.alias}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "alias": self.full_name, "sentence": str(self)}

    def __str__(self) -> str:
        when = self.time[:16].replace("T", " ")
        if self.action == "remove":
            told = f"took {self.full_name} away from {_short(self.before)}"
        elif self.action == "rollback":
            told = f"rolled {self.full_name} back to {_short(self.release)}"
        else:
            told = f"made {_short(self.release)} {self.full_name}"
        before = f", before it was {_short(self.before)}" if self.action != "remove" else ""
        if self.before is None:
            before = ", the first"
        rows = self.proof.get("num_rows")
        proof = f"; {rows:,} rows were answered as in training" if rows else ""
        return f"{when} UTC: {self.who} {told}{before}{proof}{f': {self.why}' if self.why else '.'}"


class Aliases:
    """The aliases of a ledger.

    Args:
        ledger: where moves are written and read.

    >>> import tempfile
    >>> ledger = Ledger.open(f"sqlite:///{tempfile.mkdtemp()}/ledger.db")
    >>> aliases = Aliases(ledger)
    >>> _ = aliases.promote("churn", "champion", "release-aa")
    >>> _ = aliases.promote("churn", "champion", "release-bb", why="better recall")
    >>> _ = aliases.rollback("churn")
    >>> aliases.get("churn", "champion")
    'release-aa'
    >>> ledger.close()
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def history(self, name: str | None = None, alias: str | None = None) -> list[Move]:
        """All moves that count, oldest first; of one line, of one alias, or of all."""
        return [
            move
            for move in _counting(self._ledger.events(kind=EVENT, subject=name))
            if alias in (None, move.alias)
        ]

    def all(self) -> dict[str, str]:
        """Release ids by full name (``churn@champion``), sorted."""
        found = {move.full_name: move.release for move in self.history()}
        return {name: release for name, release in sorted(found.items()) if release is not None}

    def get(self, name: str, alias: str) -> str:
        """The release that an alias points at.

        Raises:
            NotFoundError: the line has no such alias; the message tells which there are.
        """
        moves = self.history(name, alias)
        if moves and moves[-1].release is not None:
            return moves[-1].release
        known = self.all()
        told = nearest(f"{name}@{alias}", list(known)) if known else "There is no alias yet."
        raise NotFoundError(
            f"There is no release {name}@{alias}: the line {name!r} has no alias {alias!r}. {told} "
            f"`loopline promote RELEASE --as {alias}` makes one."
        )

    def promote(
        self,
        name: str,
        alias: str,
        release: str,
        *,
        why: str = "",
        proof: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> Move:
        """Point an alias at a release. `loopline.release.promote` proves the release first.

        Args:
            name: the line's name.
            alias: champion, challenger, or a name of one's own.
            release: the release's id.
            why: the reason, for whoever reads the history.
            proof: what was proved, as plain data.
            after: number of the last move that the caller has seen, 0 for none (default: the
                present last one).

        Returns:
            The move; the last one as it is when the alias points at that release already.

        Raises:
            InputError: a name that no alias may have.
            ConflictError: somebody else moved the alias meanwhile.
        """
        check_alias(alias)
        moves = self.history(name, alias)
        if after is not None:
            moves = [move for move in moves if move.event <= after]
        if moves and moves[-1].release == release:
            return moves[-1]
        return self._append(moves, name, alias, "promote", release, why, proof or {})

    def rollback(
        self, name: str, alias: str = CHAMPION, *, why: str = "", after: int | None = None
    ) -> Move:
        """Point an alias at the release that it pointed at before its last promotion.

        Args:
            name: the line's name.
            alias: champion, challenger, or a name of one's own.
            why: the reason, for whoever reads the history.
            after: number of the last move that the caller has seen (default: the present last one).

        Raises:
            NotFoundError: the alias never pointed at another release.
            ConflictError: somebody else moved the alias meanwhile.
        """
        moves = self.history(name, alias)
        if after is not None:
            moves = [move for move in moves if move.event <= after]
        before = previous(moves)
        if before is None:
            told = "has pointed at no other release" if moves else "is not there"
            raise NotFoundError(
                f"{name}@{alias} cannot be rolled back: it {told}. `loopline releases --history` "
                "tells where each alias pointed, `loopline promote` moves one."
            )
        return self._append(moves, name, alias, "rollback", before, why, {})

    def remove(self, name: str, alias: str, *, why: str = "") -> Move:
        """Take an alias away; its history stays.

        Raises:
            NotFoundError: there is none.
            ConflictError: somebody else moved the alias meanwhile.
        """
        self.get(name, alias)
        return self._append(self.history(name, alias), name, alias, "remove", None, why, {})

    def roots(self) -> set[str]:
        """Releases that are never collected: all that an alias points at or can roll back to."""
        by_alias: dict[str, list[Move]] = {}
        for move in self.history():
            by_alias.setdefault(move.full_name, []).append(move)
        return {release for moves in by_alias.values() for release in _stack(moves)}

    def _append(
        self,
        seen: Sequence[Move],
        name: str,
        alias: str,
        action: str,
        release: str | None,
        why: str,
        proof: Mapping[str, Any],
    ) -> Move:
        after = seen[-1].event if seen else 0
        data = {
            "alias": alias,
            "action": action,
            "from": seen[-1].release if seen else None,
            "to": release,
            "why": why.strip(),
            "who": _user(),
            "after": after,
            "proof": dict(proof),
        }
        with self._ledger.alone(f"alias {name}@{alias}", lambda: None):
            event = self._ledger.append(EVENT, subject=name, data=data)
            moves = self.history(name, alias)
        for move in moves:
            if move.event == event.id:
                return move
        first = next(move for move in moves if move.event > after)
        raise ConflictError(
            f"{name}@{alias} was moved by somebody else at the same time, and theirs counts. "
            f"{first} Look at it, and give the command again if you still want yours."
        )


def resolve(project: HasLedger, which: str) -> str:
    """The id of the release that ``NAME@alias`` points at.

    Raises:
        NotFoundError: no such alias, or a text without a name and an alias.
    """
    name, sign, alias = which.rpartition("@")
    if not sign or not name or not alias:
        raise NotFoundError(
            f"{which!r} is no alias: an alias is a line's name and a word, such as churn@champion."
        )
    return Aliases(project.ledger).get(name, alias)


def is_alias(which: str) -> bool:
    """Whether a text is written like an alias: a name, ``@`` and a word."""
    name, _, alias = which.rpartition("@")
    return bool(name) and _ALIAS.fullmatch(alias) is not None


def check_alias(alias: str) -> None:
    """Refuse what cannot be told from other names.

    Raises:
        InputError: tells the rule.
    """
    if "@" in alias:
        word = alias.rpartition("@")[2] or CHAMPION
        raise InputError(
            f"An alias belongs to the line of its release, so it is a word alone: give {word!r}, "
            f"not {alias!r}."
        )
    if _ALIAS.fullmatch(alias) is None or alias in _RESERVED:
        raise InputError(
            f"An alias is a word of small letters, digits, dots and dashes that begins with a "
            f"letter, at most 63 of them, and not 'latest'; got {alias!r}. "
            f"Usual ones are {CHAMPION} and {CHALLENGER}."
        )


def previous(moves: Iterable[Move]) -> str | None:
    """The release to which an alias with these moves rolls back, None when there is none."""
    stack = _stack(moves)
    return stack[-2] if len(stack) > 1 else None


def _stack(moves: Iterable[Move]) -> list[str]:
    """Releases from the first to the present: a promotion adds one, a rollback takes one away."""
    stack: list[str] = []
    for move in moves:
        if move.action == "remove":
            stack.clear()
        elif move.action == "rollback":
            stack.pop()
        elif move.release is not None:
            stack.append(move.release)
    return stack


def _counting(events: Iterable[Event]) -> list[Move]:
    """The moves that follow one another; those that came second are left out."""
    last: dict[tuple[str, str], int] = {}
    moves = []
    for event in events:
        data = event.data
        key = (str(event.subject), str(data["alias"]))
        if data["after"] == last.get(key, 0):
            last[key] = event.id
            moves.append(
                Move(
                    *key,
                    action=data["action"],
                    before=data["from"],
                    release=data["to"],
                    why=data["why"],
                    who=data["who"],
                    time=event.time,
                    event=event.id,
                    proof=data["proof"],
                )
            )
    return moves


def _short(release: str | None) -> str:
    return "nothing" if release is None else release[:20]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may know no user of that number
        return "unknown"
