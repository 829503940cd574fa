"""Workers, in real processes: signals pass by, the parent's death ends them, one thread computes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syn2co.core.processes import LEAVE

MAIN = """
import multiprocessing
import os
import sys
import time

import cv2

from syn2co.core.processes import start_worker


def work(late):
    if late:  # the parent is gone before the worker asks to go with it
        time.sleep(0.3)
        print(os.getpid(), flush=True)
        parent = multiprocessing.parent_process().pid
        while os.path.exists(f"/proc/{parent}"):
            time.sleep(0.01)
    else:
        print(os.getpid(), flush=True)
    start_worker()
    print("started", cv2.getNumThreads(), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    method, late = sys.argv[1], sys.argv[2] == "late"
    cv2.setNumThreads(4)
    context = multiprocessing.get_context(method)
    context.Process(target=work, args=(late,), daemon=True).start()
    if late and method == "fork":  # it holds the pipe by which the first one would hear of its parent's end
        context.Process(target=time.sleep, args=(2.5,), daemon=True).start()
    time.sleep(60)
"""
METHODS = ("fork", "forkserver", "spawn") if sys.platform == "linux" else ("spawn",)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
Start = Callable[[str, str], tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(method, when)` is a main process and the number of the worker that it has started."""
    begun: list[subprocess.Popen[str]] = []

    def begin(method: str, when: str) -> tuple[subprocess.Popen[str], int]:
        (tmp_path / "main.py").write_text(MAIN)
        command = [sys.executable, str(tmp_path / "main.py"), method, when]
        main = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(main)
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        if when == "at once":
            assert main.stdout.readline() == "started 1\n"
        return main, worker

    yield begin
    for main in begun:
        main.kill()
        main.communicate()


def _kill(main: subprocess.Popen[str]) -> None:
    main.kill()
    main.wait()


def _alive(worker: int) -> bool:
    """Whether the process runs; one that is dead but not yet waited for does not."""
    stat = Path(f"/proc/{worker}/stat")
    try:
        os.kill(worker, 0)
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _gone(worker: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while _alive(worker) and time.monotonic() < end:
        time.sleep(0.01)
    gone = not _alive(worker)
    if not gone:
        os.kill(worker, signal.SIGKILL)
    return gone


@needs_signals
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_ends_when_its_parent_is_killed(method: str, start: Start) -> None:
    main, worker = start(method, "at once")
    assert _alive(worker)
    _kill(main)
    assert _gone(worker), "the worker outlives its parent"


@needs_signals
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_whose_parent_was_gone_before_it_asked_ends(method: str, start: Start) -> None:
    main, worker = start(method, "late")
    _kill(main)
    assert _gone(worker, 1.5), "the worker outlives its parent"


@needs_signals
@pytest.mark.parametrize("method", METHODS)
def test_a_signal_to_a_worker_does_not_end_it(method: str, start: Start) -> None:
    _, worker = start(method, "at once")
    for number in (signal.SIGINT, *LEAVE):
        os.kill(worker, number)
    time.sleep(0.3)
    assert _alive(worker)
    os.kill(worker, signal.SIGKILL)
    assert _gone(worker), "SIGKILL must end it"
