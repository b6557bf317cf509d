"""One controller a line: the second says who holds the lease, and waits or ends.

The lease is a lock that the operating system frees when its holder dies, however it dies, so
nothing has to be cleaned up. On PostgreSQL the ledger's lock keeps other machines out as well; it
is lost with the connection, so a controller asks before each look whether it is still its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from loopline.digest import value_digest
from loopline.errors import ConflictError
from loopline.line.project import Project
from loopline.store.disk import disk_problems


@contextmanager
def lease(
    project: Project, name: str, *, wait: bool, tell: Callable[[str], None]
) -> Iterator[Callable[[], bool]]:
    """Hold the lease of a line's loop.

    The context gives a function that tells whether the lease is held now; one that was lost is
    taken again as soon as nobody else has it.

    Args:
        project: store and ledger.
        name: the line's name.
        wait: wait for the other controller to end, in place of an error.
        tell: hears who holds it, and of a lease that was lost.

    Raises:
        ConflictError: another controller holds it, and `wait` is false.
    """
    file = project.store.scratch("locks") / f"watch-{value_digest(name)[:16]}.lock"
    with disk_problems(f"hold the lease of the loop in {file.parent}"):
        opened = file.open("a+", encoding="utf-8")

    def busy(who: str) -> None:
        told = f"{who} watches {name!r} already."
        if not wait:
            raise ConflictError(
                f"{told} One controller a line is enough; end that one first, or leave it be. "
                "`loopline watch --history` shows what it does."
            )
        tell(f"{told} Waiting for it to end.")

    with opened as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(_holder(file))
            fcntl.flock(held, fcntl.LOCK_EX)
        _sign(held)
        elsewhere = "A controller elsewhere"
        with project.ledger.alone(f"watch {name}", lambda: busy(elsewhere)) as ours:
            lost: list[str] = []

            def still_held() -> bool:
                if ours():
                    lost.clear()
                elif not lost:
                    lost.append(
                        f"The connection to the ledger broke, and {elsewhere.lower()} watches "
                        f"{name!r} since. Waiting for it to end."
                    )
                    tell(lost[0])
                return not lost

            yield still_held


def _sign(held: IO[str]) -> None:
    held.seek(0)
    held.truncate()
    since = datetime.now(UTC).isoformat(timespec="seconds")
    held.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
    held.flush()


def _holder(file: Path) -> str:
    for _ in range(20):  # it may be about to sign
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            since = str(data["since"])[:16].replace("T", " ")
            return f"Process {data['pid']} on {data['host']}, since {since} UTC,"
        except (ValueError, KeyError, OSError):
            time.sleep(0.01)
    return "Another process"
