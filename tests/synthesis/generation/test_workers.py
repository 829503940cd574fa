"""Processes that make images: none stays when a pool is left or cannot be filled."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from typing import Any

import pytest

from syn2co.synthesis.generation.workers import ProcessPool

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to ignore")


class _Factory:
    """A factory that can be sent `times` times; what arrives opens no generator."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __reduce__(self) -> tuple[type, tuple[()]]:
        if not self.left:
            raise pickle.PicklingError("sent once too often")
        self.left -= 1
        return dict, ()


def test_a_worker_ignores_signals_and_is_gone_after_the_block() -> None:
    factory: Any = _Factory(1)
    with ProcessPool(factory, 1) as pool:
        (process,) = pool.processes
        pool.connections[0].send([])
        assert isinstance(pool.connections[0].recv()[0], Exception)  # it has started
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        time.sleep(0.2)
        assert process.is_alive()
    assert process.exitcode in (0, -signal.SIGKILL)  # its pipe closes first: on a busy machine it leaves by itself


def test_a_pool_that_cannot_be_filled_leaves_no_process() -> None:
    before = multiprocessing.active_children()
    factory: Any = _Factory(1)
    with pytest.raises(pickle.PicklingError, match="sent once too often"):
        ProcessPool(factory, 2)
    assert multiprocessing.active_children() == before
