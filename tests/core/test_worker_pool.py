"""The pool: results in order, every way in which a process ends is told, and no process stays behind."""

import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from syn2co.core import worker_pool
from syn2co.core.errors import DataError, Syn2CoError
from syn2co.core.processes import LEAVE
from syn2co.core.worker_pool import WorkerDied, WorkerPool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and stops processes by signals")


class Foreign(Syn2CoError):
    """An error of ours in a module that another process may not have."""


def _double(job: Any) -> Any:
    match job:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case Exception():
            raise job
    return 2 * job


def _opened() -> Callable[[Any], Any]:
    return _double


def _refused() -> Callable[[Any], Any]:
    raise DataError("a source is missing")


class _Opening:
    """Can be sent `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __reduce__(self) -> tuple[type, tuple[()]]:
        if not self.left:
            raise pickle.PicklingError("sent once too often")
        self.left -= 1
        return dict, ()


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    before = multiprocessing.active_children()
    yield
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("count, jobs_each", [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_results_come_in_the_order_of_the_jobs(count: int, jobs_each: int) -> None:
    asked: list[int] = []
    jobs = (asked.append(number) or number for number in range(40))
    with WorkerPool[int, int](_opened, count, method="fork", jobs_each=jobs_each, ahead=2) as pool:
        results = pool.results(jobs)
        assert next(results) == 0
        assert len(asked) <= 2 * count, "no more is asked for than may be ahead"
        assert list(results) == list(range(2, 80, 2))


def test_errors_of_jobs_and_of_opening() -> None:
    cases = [
        (_opened, DataError("gone"), DataError, "^gone$"),
        (_opened, Foreign("no"), Syn2CoError, "^no$"),
        (_opened, KeyError("x"), RuntimeError, "KeyError: 'x'"),
        (_opened, MemoryError(), WorkerDied, "^out of memory$"),
        (_refused, 1, DataError, "source is missing"),
    ]
    for opening, job, kind, text in cases:
        refused = pytest.raises(kind, match=text)
        with refused as error, WorkerPool[Any, Any](opening, 1, method="fork") as pool:
            list(pool.results(iter([job])))
        assert error.type is kind


def test_a_killed_process_is_told() -> None:
    with pytest.raises(WorkerDied, match="^exit status -9;"), WorkerPool[Any, Any](_opened, 2, method="fork") as pool:
        list(pool.results(iter([1, 2, "die", 3])))


def test_a_wait_for_a_stopped_process_can_be_ended() -> None:
    """As on a disk that does not answer: whoever waits is asked again and again whether to go on."""
    waited: list[float] = []

    def enough(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError), WorkerPool[Any, Any](_opened, 1, method="fork") as pool:
        list(pool.results(iter(["stop"]), enough))
    assert 0 < waited[0] < waited[1] < 5


def test_signals_to_leave_pass_by() -> None:
    with WorkerPool[int, int](_opened, 1, method="fork") as pool:
        assert list(pool.results(iter([1]))) == [2]
        for number in (signal.SIGINT, *LEAVE):
            os.kill(pool.processes[0].pid, number)
        time.sleep(0.2)
        assert list(pool.results(iter([2]))) == [4]


def test_a_pool_that_cannot_be_filled_leaves_no_process() -> None:
    opening: Any = _Opening(1)
    with pytest.raises(pickle.PicklingError, match="sent once too often"):
        WorkerPool(opening, 2, method="forkserver")


def test_more_processes_than_open_files_are_refused_before_one_starts(capfd: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            WorkerPool(_opened, 12, method="forkserver")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert capfd.readouterr().err == ""


def test_a_worker_whose_result_nobody_takes_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main process has left after a signal while the job was done; or the system gives the worker no thread."""
    sent: list[Any] = []

    class Closed:
        def recv(self) -> int:
            return 1

        def send(self, outcome: Any) -> None:
            sent.append(outcome[0])
            raise BrokenPipeError

    def start_worker() -> None:
        if sent:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker_pool, "start_worker", start_worker)
    monkeypatch.setattr(worker_pool, "use_one_thread", lambda: None)
    for _ in range(2):
        worker_pool._work(lambda: abs, cast(Any, Closed()))
    assert sent[0] == 1 and str(sent[1]).endswith("RuntimeError: can't start new thread\n")
