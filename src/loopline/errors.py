"""The error tree: one type per kind of person who must act, each with its exit code.

    LooplineError                      1  anything we raise on purpose
    ├── InputError (ValueError)        2  the caller's data, argument or command
    │   ├── DataError                     a file, row or column
    │   ├── SettingsError                 one or more wrong settings, all told at once
    │   ├── NotFoundError                 an id, release, run or file that is not there
    │   └── ConflictError                 somebody else was faster
    ├── HonestyError                   3  going on would print a score nobody should believe
    │   ├── LeakError                     a column or row would leak the answer
    │   ├── LimitError                    no candidate is within the limits, and none is relaxed
    │   └── SplitError                    the declared structure cannot be honoured
    ├── IntegrityError                 4  a damaged artifact, or a proof that failed
    └── EnvironmentProblem             5  full disk, read-only folder, missing extra, newer store

Every message says what was asked, the rule, what came, and how to fix it.
This module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence


class LooplineError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(LooplineError, ValueError):
    """The caller's data, argument or command cannot be used as it is."""

    exit_code = 2


class DataError(InputError):
    """A file, row or column breaks a rule; the message names it."""


class NotFoundError(InputError):
    """The named id, release, run or file does not exist; the message lists near names."""


class ConflictError(InputError):
    """Somebody else changed the same thing meanwhile; nothing of theirs was overwritten."""


class SettingsError(InputError):
    """One or more settings are wrong. `problems` holds one sentence for each.

    >>> str(SettingsError(["`seed` must be >= 0, got -1."]))
    '`seed` must be >= 0, got -1.'
    """

    def __init__(self, problems: Sequence[str], where: str = "") -> None:
        self.problems = tuple(problems)
        self.where = where
        head = f"{where}: " if where else ""
        if len(self.problems) == 1:
            text = head + self.problems[0]
        else:
            text = f"{head}{len(self.problems)} problems:\n" + "\n".join(
                f"  - {problem}" for problem in self.problems
            )
        super().__init__(text)


class HonestyError(LooplineError):
    """Going on would give a score nobody should believe."""

    exit_code = 3


class LeakError(HonestyError):
    """A column or a row would carry the answer into training or across the split."""


class LimitError(HonestyError):
    """No candidate is within the limits that were set; a limit is never relaxed in silence."""


class SplitError(HonestyError):
    """The declared structure (groups, time, folds) cannot be honoured on this data."""


class IntegrityError(LooplineError):
    """Stored bytes are damaged, or a proof failed when it was made again."""

    exit_code = 4


class EnvironmentProblem(LooplineError):  # noqa: N818  # EnvironmentError is Python's own
    """The machine lacks something: disk space, write permission, an extra, a newer version."""

    exit_code = 5
