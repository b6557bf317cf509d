"""Promotion: an alias moves to a release only after the release has proved itself.

Three things are proved, in this order: every byte is what was written, the kept rows can be read,
and the packaged release answers them as the training process did (`loopline.release.replay`).
Rolling back proves the bytes alone: that release was proved when it was promoted, and whoever rolls
back is in a hurry.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from loopline.errors import IntegrityError, NotFoundError
from loopline.release.aliases import CHAMPION, Aliases, Move, check_alias, previous
from loopline.release.bundle import Release
from loopline.release.fresh import in_fresh_process
from loopline.release.replay import Answer, Answers, Proof, kept_rows, prove
from loopline.store.artifacts import Store
from loopline.store.ledger import Ledger


def promote(
    store: Store,
    ledger: Ledger,
    release: Release,
    alias: str = CHAMPION,
    *,
    why: str = "",
    through: Answer | None = None,
) -> Move:
    """Prove a release and point ``NAME@alias`` of its line at it.

    Args:
        store: where the release and its kept rows are.
        ledger: where the move is written.
        release: the release; its name is the alias's first half.
        alias: champion, challenger, or a word of one's own.
        why: the reason, for whoever reads the history.
        through: one more way to answer that is proved, such as a running service (`over_http`).

    Returns:
        The move, or the last one when the alias points at this release already.

    Raises:
        IntegrityError: damaged bytes, or an answer that is not that of training.
        NotFoundError: the release or its kept rows are not in the store.
        ConflictError: somebody else moved the alias meanwhile.
    """
    check_alias(alias)
    aliases = Aliases(ledger)
    moves = aliases.history(release.name, alias)
    if moves and moves[-1].release == release.id:
        return moves[-1]
    proof = prove_release(store, release, through)
    return aliases.promote(
        release.name,
        alias,
        release.id,
        why=why,
        proof=proof.to_dict(),
        after=moves[-1].event if moves else 0,
    )


def rollback(
    store: Store,
    ledger: Ledger,
    name: str,
    alias: str = CHAMPION,
    *,
    why: str = "",
    after: int | None = None,
) -> Move:
    """Point ``NAME@alias`` at the release before, after a look at its bytes.

    Args:
        store: where releases are.
        ledger: where moves are written.
        name: the line's name.
        alias: champion, challenger, or a name of one's own.
        why: the reason, for whoever reads the history.
        after: number of the last move that the caller has seen (default: the present last one).

    Raises:
        NotFoundError: there is none before, or it is no longer in the store.
        IntegrityError: it is damaged.
        ConflictError: somebody else moved the alias after that.
    """
    aliases = Aliases(ledger)
    before = previous(aliases.history(name, alias))
    if before is not None:
        _verify(store, before, "rolled back to")
    return aliases.rollback(name, alias, why=why, after=after)


def prove_release(store: Store, release: Release, through: Answer | None = None) -> Proof:
    """Prove a release's bytes, then its answers in a fresh process and through one more way.

    Raises:
        IntegrityError: damaged bytes, or an answer that is not that of training.
        NotFoundError: the release or its kept rows are not in the store.
    """
    _verify(store, release.id, "promoted")
    stored = Release(store.get(release.id))

    def answer(frame: pl.DataFrame) -> Mapping[str, Answers]:
        with tempfile.TemporaryDirectory(prefix="loopline-promote-") as place:
            found = in_fresh_process(stored.save(Path(place) / "release"), frame)
        return found if through is None else {**found, **through(frame)}

    return prove(stored, kept_rows(store, stored), answer)


def _verify(store: Store, release: str, doing: str) -> None:
    try:
        store.verify(release)
    except IntegrityError as error:
        raise IntegrityError(f"{release[:20]} is not {doing}: {error}") from error
    except NotFoundError as error:
        raise NotFoundError(f"{release[:20]} cannot be {doing}: {error}") from error
