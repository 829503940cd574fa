"""Worker processes and their start: those that load images, and those that make them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

if sys.platform == "linux":
    from multiprocessing.context import ForkServerProcess

LEAVE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals that tell a program to leave: SIGTERM, that of a closed terminal, and those by which SLURM warns."""
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def start_worker() -> None:
    """Prepare a process that multiprocessing has started for work that another process hands to it.

    Signals to leave are ignored: a terminal or a scheduler sends them to every process, and the main one decides. So
    the main process ends a worker by closing what it reads from, or by SIGKILL; `Process.terminate` does nothing. The
    worker ends by itself when the process that started it is gone, even killed. OpenCV and torch use one thread.

    To be called first, in the main thread of the worker.
    """
    for number in (signal.SIGINT, *LEAVE):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "not a process that multiprocessing has started"
    if not _killed_with(parent.pid):
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()
    use_one_thread()


def use_one_thread() -> None:
    """Let OpenCV and torch compute on one thread in this process, because other processes have the other cores.

    torch is set only if it is imported already; after something that may import it, call this again.

    Example:
        >>> import torch
        >>> use_one_thread()
        >>> torch.get_num_threads()
        1
    """
    import cv2

    cv2.setNumThreads(0)  # not 1: after a fork that waits forever for the parent's pool of threads (OpenCV 5.0)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _killed_with(parent: int) -> bool:
    """Have Linux kill this process when `parent` is gone; False where that cannot be had.

    The signal asks no interpreter, so that it ends processes too that hang in a library. It comes when the process
    that forked this one ends; after a fork server that is the server, which outlives the main process while other
    children of it live.
    """
    if sys.platform != "linux" or isinstance(multiprocessing.current_process(), ForkServerProcess):
        return False
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the call, so no signal will come
        os._exit(1)
    return True


def _end_after(sentinel: int) -> None:
    """End this process once the parent's sentinel is ready, which it is at once if the parent is gone already."""
    wait([sentinel])
    os._exit(1)
