"""Work spread over threads."""

from __future__ import annotations

import threading

import pytest

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


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_an_item_reaches_the_caller(threads: int) -> None:
    """Results before it come out, then the error itself; no item is passed over in silence."""
    found = in_threads(lambda number: 6 // (2 - number), range(5), threads=threads)
    assert [next(found), next(found)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_several_items_are_worked_on_at_a_time() -> None:
    """With two threads two items are under way together: each waits for the other."""
    meeting = threading.Barrier(2, timeout=20)
    assert sorted(in_threads(lambda _: meeting.wait(), range(2), threads=2)) == [0, 1]
