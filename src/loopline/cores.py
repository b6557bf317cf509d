"""The cores that this process may use, and work on columns or blocks that is spread over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_THREADS = 8
"""More threads than this wait for memory, not for each other's cores."""


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """What `work` gives for each item, in their order, several at a time.

    Worth while where the work is numpy's and polars' on long arrays, which leave Python's lock.

    Args:
        work: called with each item; in this thread where one core is all there is.
        items: what to work on.
        threads: how many at a time, by default the cores of this process, at most 8.

    >>> list(in_threads(lambda number: number * number, range(4)))
    [0, 1, 4, 9]
    """
    listed = list(items)
    workers = min(threads or min(num_cores(), MOST_THREADS), len(listed))
    if workers <= 1:
        yield from map(work, listed)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, listed)
