"""Threads that wait for a disk that does not answer: Python would wait for them at its end.

Example:
    >>> leave_if_stuck(0)  # returns, as no thread is stuck
"""

import os
import sys
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

_SECONDS = 5.0
"""Time that tasks under way have to end."""
_stuck: list[Future[Any]] = []


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
    late = wait([task for task in tasks if not task.cancelled()], _SECONDS).not_done
    _stuck.extend(late)
    pool.shutdown(wait=not late)


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
