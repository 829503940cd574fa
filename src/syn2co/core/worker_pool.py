"""Pool of worker processes: jobs out, results back in the order of the jobs, and no wait without an end.

Everything goes through one pipe per process. Shared memory and semaphores of the system are not used: a container may
have 64 MB of /dev/shm, or one that cannot be written.
"""

import contextlib
import multiprocessing
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from syn2co.core.errors import Syn2CoError
from syn2co.core.processes import start_worker, use_one_thread

Job = TypeVar("Job")
Result = TypeVar("Result")
POLL_SECONDS = 0.2
_END: Any = object()
_FILES_EACH, _FILES_SPARE = 3, 6  # pipe, sentinel and its other end; those that are open only during a start


class WorkerDied(Exception):
    """A worker process is gone, or has no memory for its job; the text says how in a few words."""


class WorkerPool(Generic[Job, Result]):
    """So many processes, each with what it needs open, until the block is left."""

    def __init__(
        self,
        opening: Callable[[], Callable[[Job], Result]],
        count: int,
        *,
        method: Literal["fork", "forkserver", "spawn"],
        jobs_each: int = 1,
        ahead: int = 4,
    ) -> None:
        """Start the processes.

        Args:
            opening: called in each process, returns what turns a job into a result; its error becomes that of each job.
            count: processes.
            method: start method of multiprocessing.
            jobs_each: jobs that a process has in hand or in its pipe. Above one, jobs must be small (a few kB): while
                a process sends a large result, nobody reads its jobs.
            ahead: jobs per process that are sent before the first of them is asked for; what comes early is kept.

        Raises:
            OSError: if a process cannot be started, or the limit of open files is too low for so many.
        """
        _require_files(count)
        context: Any = multiprocessing.get_context(method)
        self.jobs_each, self.ahead = jobs_each, ahead * count
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        self._cpu_seconds: dict[Connection, float] = {}
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                self.connections.append(ours)
                with theirs:  # closed here before the next process starts, which would hold it open
                    process = context.Process(target=_work, args=(opening, theirs), daemon=True)
                    process.start()
                self.processes.append(process)
        except BaseException:  # they ignore SIGTERM, so that multiprocessing would wait for them at exit
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.kill()
            process.join()

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes until each one's last result."""
        return sum(self._cpu_seconds.values())

    def results(self, jobs: Iterator[Job], waiting: Callable[[float], object] = lambda _: None) -> Iterator[Result]:
        """Yield the result of each job, in order.

        Args:
            jobs: each is sent as soon as a process can take it.
            waiting: called five times a second while no process has a result, with the seconds for which that has
                been so; what it raises ends the wait.

        Raises:
            WorkerDied: if a process is gone or has no memory.
            Syn2CoError, RuntimeError: what a job raised; an error that is not ours as a text, with its traceback.
        """
        at_work = {connection: deque[int]() for connection in self.connections}
        finished: dict[int, Result] = {}
        sent = given = 0
        while True:
            while sent - given < self.ahead and len(at_work[idle := _least_busy(at_work)]) < self.jobs_each:
                job = next(jobs, _END)
                if job is _END:
                    break
                self._send(idle, job)
                at_work[idle].append(sent)
                sent += 1
            if given == sent:
                return
            busy = [connection for connection, numbers in at_work.items() if numbers]
            for connection in _ready(busy, None if given in finished else waiting):
                finished[at_work[connection].popleft()] = self._receive(connection)
            if given in finished:
                yield finished.pop(given)
                given += 1

    def _send(self, connection: Connection, job: Job) -> None:
        try:
            connection.send(job)
        except OSError:
            raise self._died(connection) from None

    def _receive(self, connection: Connection) -> Result:
        try:
            outcome, self._cpu_seconds[connection] = connection.recv()
        except (EOFError, OSError):
            raise self._died(connection) from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _died(self, connection: Connection) -> WorkerDied:
        process = self.processes[self.connections.index(connection)]
        process.join(5)
        return WorkerDied(f"exit status {process.exitcode}; -9 is often a lack of memory")


def _require_files(count: int) -> None:
    """Open as many files as the processes will take: a fork server without them prints a traceback of its own."""
    with contextlib.ExitStack() as stack:
        for _ in range(_FILES_EACH * count + _FILES_SPARE):
            stack.enter_context(open(os.devnull))


def _least_busy(at_work: dict[Connection, deque[int]]) -> Connection:
    return min(at_work, key=lambda connection: len(at_work[connection]))


def _ready(busy: list[Connection], waiting: Callable[[float], object] | None) -> list[Connection]:
    """Return the connections with a result; if `waiting` is None at once, else as soon as there is one."""
    began = time.monotonic()
    while True:
        ready = wait(busy, 0 if waiting is None else POLL_SECONDS)
        if ready or waiting is None:
            return [connection for connection in ready if isinstance(connection, Connection)]
        waiting(time.monotonic() - began)


def _work(opening: Callable[[], Callable[[Any], Any]], connection: Connection) -> None:
    """Turn jobs into results until the pipe closes."""
    runner = failure = None
    try:
        start_worker()
        runner = opening()
        use_one_thread()  # opening may have imported torch
    except Exception as error:
        failure = _portable(error)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outcome = failure if runner is None else runner(job)
        except Exception as error:
            outcome = _portable(error)
        try:
            connection.send((outcome, time.process_time()))
        except OSError:  # nobody listens any more
            return
        except Exception as error:  # it cannot be sent
            connection.send((_portable(error), time.process_time()))


def _portable(error: Exception) -> Exception:
    """Return an error that survives the pipe."""
    if isinstance(error, Syn2CoError):
        return error if type(error).__module__.startswith("syn2co.") else Syn2CoError(str(error))
    if isinstance(error, MemoryError):
        return WorkerDied(f"out of memory{f': {error}' if str(error) else ''}")
    return RuntimeError("".join(traceback.format_exception(error)))
