"""Is a file whole? Files arrive while somebody still writes them; half of one must never be read.

A file is taken when its size and time have stood still for `settle` and its content has an end:
Parquet and Arrow close with their own mark, text with a line end. Names that copying programs give
to unfinished files are passed over. Nothing here trusts the machine's clock alone: where a file's
time lies ahead of it, the file is watched for `settle` by the clock that never jumps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
_TEXTS = (".csv", ".tsv", ".tab", ".psv", ".jsonl", ".ndjson")
_MARKS = {
    **dict.fromkeys((".parquet", ".pq"), b"PAR1"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), b"ARROW1"),
}


@dataclass(frozen=True)
class Clock:
    """The two clocks of a machine, to be replaced in tests.

    Args:
        now: seconds since 1970 by the machine's clock, which may jump.
        monotonic: seconds by the clock that never jumps.
        sleep: waits.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Steady:
    """Remembers how files looked, and says which are whole.

    Args:
        settle: seconds for which a file must not have changed.
        patience: seconds after which text without a last line end is taken all the same.
        clock: what time it is.
    """

    def __init__(self, settle: float, patience: float, clock: Clock) -> None:
        self._settle = settle
        self._patience = patience
        self._clock = clock
        self._seen: dict[Path, tuple[int, int, float]] = {}

    def wait_for(self, file: Path) -> str | None:
        """Why the file is not taken yet, in a sentence; None when it is whole."""
        if file.name.lower().endswith(UNFINISHED) or file.name.startswith("."):
            return f"{file.name} has the name of an unfinished file and is passed over."
        try:
            found = file.stat()
        except FileNotFoundError:
            return f"{file.name} went away while it was looked at."
        quiet = self._quiet(file, found)
        if quiet < self._settle:
            return f"{file.name} is still being written; it is taken when it stands still."
        if found.st_size == 0:
            return f"{file.name} is empty so far."
        return self._open_end(file, found.st_size, quiet)

    def patient(self, file: Path) -> bool:
        """Whether a file that cannot be read may still be on its way."""
        return file.exists() and self._quiet(file, file.stat()) < self._patience

    def _quiet(self, file: Path, found: os.stat_result) -> float:
        """Seconds for which the file has not changed, as far as can be known."""
        look = (found.st_size, found.st_mtime_ns)
        before = self._seen.get(file)
        if before is None or before[:2] != look:
            before = (*look, self._clock.monotonic())
            self._seen[file] = before
        watched = self._clock.monotonic() - before[2]
        age = self._clock.now() - found.st_mtime
        return max(watched, age) if age >= 0 else watched

    def _open_end(self, file: Path, size: int, quiet: float) -> str | None:
        name = file.name.lower()
        mark = next((mark for end, mark in _MARKS.items() if name.endswith(end)), None)
        with file.open("rb") as opened:
            head = opened.read(8)
            opened.seek(max(0, size - 8))
            tail = opened.read(8)
        if mark is not None and not (head.startswith(mark) and tail.endswith(mark)):
            return f"{file.name} is cut off: the mark that ends such a file is missing."
        if name.endswith(_TEXTS) and not tail.endswith((b"\n", b"\r")) and quiet < self._patience:
            return (
                f"{file.name} ends in the middle of a line; it is taken when the line ends, or "
                f"after {self._patience:.0f} s without a change."
            )
        return None
