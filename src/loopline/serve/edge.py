"""The edges of the service, where an error of ours must not become somebody else's.

A challenger that fails must not fail the request that it was tried on, and a mistake in one
request must not end the process. Whatever is caught here is counted and logged with its trace;
callers read one sentence without paths or code.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from loopline.errors import (
    DataError,
    EnvironmentProblem,
    InputError,
    IntegrityError,
    LooplineError,
    NotFoundError,
)
from loopline.serve.reply import Refusal

LOGGER = logging.getLogger("loopline.serve")
T = TypeVar("T")


def attempt(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What a call gives, or the error it raises.

    >>> attempt(lambda: 1), type(attempt(lambda: 1 / 0)[1]).__name__
    ((1, None), 'ZeroDivisionError')
    """
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001  # the edge between a challenger and a request
        return None, error


async def refused(work: Awaitable[T], failed: Callable[[], None]) -> T | Refusal:
    """What a request's work gives, or the refusal that tells the caller why not.

    Args:
        work: the request's work.
        failed: called when the error was our own mistake.
    """
    try:
        return await work
    except Refusal as refusal:
        return refusal
    except LooplineError as error:
        return told(error)
    except Exception:
        LOGGER.exception("A request failed; this is a mistake of Loopline's, please report it.")
        failed()
        return Refusal(500, "The service made a mistake; its log says which.")


def told(error: LooplineError) -> Refusal:
    """The status and sentence for an error that was raised on purpose."""
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return Refusal(status, str(error))
    LOGGER.error("A request failed: %s", error)
    return Refusal(500, "The model could not answer; the service's log says why.")


_STATUSES: dict[type[LooplineError], int] = {
    DataError: 422,
    NotFoundError: 404,
    InputError: 400,
    EnvironmentProblem: 503,
    IntegrityError: 500,
}
