"""Work in threads beside the calling one: begun ahead of need, given in order, bounded.

A chain of ``ahead`` is a pipeline: the calling thread takes from the last one, and while it works
on what it took, the threads work on what comes next. Nothing runs that the calling thread has not
begun: a chain that is taken from no more stands still, and ends with the block of ``helpers``.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


@contextmanager
def helpers(count: int) -> Iterator[Executor]:
    """So many threads. When the block is left, for whatever reason, what has not begun is dropped
    and what runs is waited for."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(begun: Iterable[Future[Result]], count: int) -> Iterator[Result]:
    """The results in order. ``begun`` starts the work when it is asked for the next future, and is
    asked for ``count`` more than have been taken."""
    waiting: deque[Future[Result]] = deque()
    for future in begun:
        waiting.append(future)
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
