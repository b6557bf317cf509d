"""Work spread over threads."""

from __future__ import annotations

import threading

from loopline.cores import in_threads, num_cores


def test_results_come_in_the_order_of_the_items() -> None:
    """However long each takes, and with any number of threads."""
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            later.wait(5)
        if number == 1:
            later.set()
        return number * 10

    assert list(in_threads(work, range(4), threads=2)) == [0, 10, 20, 30]
    assert list(in_threads(lambda number: number + 1, [], threads=3)) == []


def test_one_thread_is_this_thread() -> None:
    """With one core nothing is started, so errors and the debugger stay where they are."""
    assert num_cores() >= 1
    found = list(in_threads(lambda _: threading.get_ident(), range(3), threads=1))
    assert set(found) == {threading.get_ident()}
