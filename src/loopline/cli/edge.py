"""The process edge: errors become one clear sentence and an exit code, here and nowhere else."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from loopline.errors import LooplineError, SettingsError

UNEXPECTED = 1
USAGE = 2
ENVIRONMENT = 5
INTERRUPTED = 130

_ENVIRONMENT_ERRNOS = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EROFS: "The file system is read-only",
    errno.EACCES: "Permission is denied",
    errno.EPERM: "Permission is denied",
    errno.EMFILE: "Too many files are open",
}


def guarded(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run the command line and give its exit code; with ``--json`` errors are JSON too."""
    as_json = "--json" in arguments
    try:
        code = app(args=list(arguments), standalone_mode=False)
    except LooplineError as error:
        return _tell(error, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        return _tell(None, "Interrupted; run the same command to go on.", INTERRUPTED, as_json)
    except BrokenPipeError:
        return 0
    except OSError as error:
        reason = _ENVIRONMENT_ERRNOS.get(error.errno or 0)
        if reason is None:
            return _unexpected(error, as_json)
        where = f" ({error.filename})" if error.filename else ""
        return _tell(
            error, f"{reason}{where}. Nothing was left half-written.", ENVIRONMENT, as_json
        )
    except MemoryError as error:
        return _tell(
            error, "The memory does not suffice. Use fewer rows or columns.", ENVIRONMENT, as_json
        )
    except Exception as error:  # noqa: BLE001  # the process edge
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _tell(error, str(usage()), USAGE, as_json)
        if type(error).__name__ == "Abort":
            return _tell(None, "Interrupted; run the same command to go on.", INTERRUPTED, as_json)
        return _unexpected(error, as_json)
    if code == INTERRUPTED:  # typer turns an interrupt into a silent code
        return _tell(None, "Interrupted; run the same command to go on.", INTERRUPTED, as_json)
    return code if isinstance(code, int) else 0


def _tell(error: BaseException | None, message: str, code: int, as_json: bool) -> int:
    if as_json:
        data: dict[str, Any] = {
            "error": {
                "type": type(error).__name__ if error is not None else "Interrupted",
                "message": message,
                "exit_code": code,
            }
        }
        if isinstance(error, SettingsError):
            data["error"]["problems"] = list(error.problems)
        try:
            sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        except OSError:  # nothing can be said there: the disk under it is full, or nobody listens
            sys.stderr.write(f"error: {message}\n")
    else:
        sys.stderr.write(f"error: {message}\n")
    return code


def _unexpected(error: BaseException, as_json: bool) -> int:
    traceback.print_exception(error)
    return _tell(
        error,
        f"This should not have happened ({type(error).__name__}: {error}). "
        "It is our mistake; please report it with the lines above.",
        UNEXPECTED,
        as_json,
    )
