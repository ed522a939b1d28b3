"""Threads beside the calling one: order, bounds, ends."""

import threading
import time
from concurrent.futures import Future

import pytest

from sightline.threads import ahead, helpers


def test_results_come_in_order_whatever_is_done_first() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number % 4 == 0 else 0)
        return number

    with helpers(4) as pool:
        futures = (pool.submit(slow_at_first, number) for number in range(20))
        assert list(ahead(futures, 5)) == list(range(20))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_so_many_are_begun_beyond_those_taken(count: int) -> None:
    begun: list[int] = []

    def begin(number: int) -> Future[int]:
        begun.append(number)
        future: Future[int] = Future()
        future.set_result(number)
        return future

    results = ahead(map(begin, range(10)), count)
    assert begun == []
    for taken, number in enumerate(results, 1):
        assert number == taken - 1
        assert len(begun) == min(taken + count, 10)
    assert list(ahead(map(begin, []), count)) == []


def test_an_error_comes_in_its_turn() -> None:
    def divide(number: int) -> float:
        return 1 / number

    with helpers(2) as pool:
        results = ahead((pool.submit(divide, number) for number in (1, 2, 0, 4)), 3)
        assert [next(results), next(results)] == [1, 0.5]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_threads_end_with_the_block_and_what_has_not_begun_is_dropped() -> None:
    before, gate, done = threading.active_count(), threading.Event(), list[int]()

    def wait(number: int) -> None:
        gate.wait()
        done.append(number)

    with pytest.raises(KeyboardInterrupt), helpers(1) as pool:  # noqa: PT012, the block is meant
        futures = [pool.submit(wait, number) for number in range(3)]
        while not futures[0].running():
            time.sleep(0.001)
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt
    assert done == [0]
    assert [future.cancelled() for future in futures] == [False, True, True]
    while threading.active_count() > before:  # the timer, perhaps
        time.sleep(0.001)
