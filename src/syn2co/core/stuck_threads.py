"""Threads that wait for a disk that does not answer: their results, waited for in vain, and the end of the process.

Example:
    >>> list(map_in_threads(len, ["a", "bc"], 2))
    [1, 2]
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
POLL_SECONDS = 0.2
_SECONDS = 5.0
"""Time that tasks under way have to end."""
_stuck: list[Future[Any]] = []


def map_in_threads(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    threads: int,
    *,
    ahead: int = 64,
    stop: Event | None = None,
    waiting: Callable[[float], object] = lambda _: None,
) -> Generator[Result, None, None]:
    """Yield `work(job)` of each job, in order; close the generator to end the threads.

    A thread in a read that never returns is left behind, where the main thread would hear no signal.

    Args:
        work: what a thread does.
        jobs: each is taken as soon as a thread may begin with it.
        threads: number of threads; below one is one.
        ahead: jobs that are begun or done before their turn.
        stop: set before the threads are waited for at the end, so that a long task can leave.
        waiting: called as by `result_of`.

    Example:
        >>> list(map_in_threads(abs, [-1, 2], 1))
        [1, 2]
    """
    pool, tasks = ThreadPoolExecutor(max(1, threads)), deque[Future[Result]]()
    try:
        for job in jobs:
            tasks.append(pool.submit(work, job))
            if len(tasks) > ahead:
                yield _first(tasks, waiting)
        while tasks:
            yield _first(tasks, waiting)
    finally:
        if stop is not None:
            stop.set()
        close_pool(pool, tasks)


def _first(tasks: deque[Future[Result]], waiting: Callable[[float], object]) -> Result:
    result = result_of(tasks[0], waiting)
    tasks.popleft()
    return result


def result_of(task: Future[Result], waiting: Callable[[float], object]) -> Result:
    """Return the result of a task, or raise its error.

    Args:
        task: of a pool.
        waiting: called five times a second until it is done, with the seconds waited; an error of it ends the wait.

    Example:
        >>> with ThreadPoolExecutor(1) as pool:
        ...     result_of(pool.submit(abs, -1), print)
        1
    """
    began = time.monotonic()
    while not task.done():
        if wait([task], POLL_SECONDS).not_done:
            waiting(time.monotonic() - began)
    return task.result()


def close_pool(pool: ThreadPoolExecutor, tasks: Collection[Future[Any]]) -> None:
    """Drop the tasks of a pool that have not begun, and wait for the others and their threads, but not for ever.

    Args:
        pool: takes no further task.
        tasks: the pool's tasks that may not be done.

    Example:
        >>> pool = ThreadPoolExecutor(1)
        >>> close_pool(pool, [pool.submit(print, "read")])
        read
    """
    pool.shutdown(wait=False, cancel_futures=True)
    pool.shutdown(wait=have_ended([task for task in tasks if not task.cancelled()]))


def have_ended(tasks: Collection[Future[Any]]) -> bool:
    """Wait some seconds for tasks and return whether they have ended; `leave_if_stuck` does not wait for the others.

    Args:
        tasks: of threads that do not keep the process from its end.

    Example:
        >>> with ThreadPoolExecutor(1) as pool:
        ...     have_ended([pool.submit(abs, -1)])
        True
    """
    late = wait(tasks, _SECONDS).not_done
    _stuck.extend(late)
    return not late


def leave_if_stuck(status: int) -> None:
    """End the process at once with an exit status if a task of a closed pool is still under way.

    Args:
        status: exit status.

    Example:
        >>> leave_if_stuck(2)
    """
    if any(not task.done() for task in _stuck):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
