"""Worker processes that make images: batches of jobs out, results back in the order of the jobs.

A process has one batch at a time and the next one is sent only to a process that waits, so no pipe can fill on both
sides; results that come early are kept, at most four batches per process.
"""

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

from syn2co.core.errors import Syn2CoError, SynthesisError
from syn2co.core.processes import start_worker, use_one_thread
from syn2co.synthesis.generation.encode import JobRunner, Result
from syn2co.synthesis.generation.generator_factory import GeneratorFactory
from syn2co.synthesis.sets.job import Job

AHEAD = 4


class SerialPool:
    """No processes: images are made where they are asked for."""

    cpu_seconds = 0.0
    """Of other processes."""

    def __init__(self, runner: JobRunner) -> None:
        self.runner = runner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def results(self, batches: Iterator[Sequence[Job]]) -> Iterator[list[Result]]:
        """Yield the results of each batch."""
        for jobs in batches:
            yield self.runner(jobs)


class ProcessPool:
    """So many processes, each with the generator open, until the block is left."""

    def __init__(self, factory: GeneratorFactory, count: int) -> None:
        context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        self._cpu_seconds: dict[Connection, float] = {}
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(factory, theirs), daemon=True)
                process.start()
                theirs.close()
                self.connections.append(ours)
                self.processes.append(process)
        except BaseException:  # they ignore SIGTERM, so that multiprocessing would wait for them at exit
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, process in zip(self.connections, self.processes, strict=True):
            connection.close()
            process.kill()
            process.join()

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes until each one's last batch."""
        return sum(self._cpu_seconds.values())

    def results(self, batches: Iterator[Sequence[Job]]) -> Iterator[list[Result]]:
        """Yield the results of each batch, in order.

        Raises:
            Syn2CoError: what a process raised, or that it died.
        """
        idle, at_work = list(self.connections), dict[Connection, int]()
        finished: dict[int, list[Result]] = {}
        numbered, sent, given = enumerate(batches), 0, 0
        while True:
            while idle and sent - given < AHEAD * len(self.connections):
                number, jobs = next(numbered, (None, None))
                if number is None:
                    break
                self._send(idle[-1], jobs)
                at_work[idle.pop()], sent = number, number + 1
            if not at_work and not finished:
                return
            for connection in wait(list(at_work)) if given not in finished else ():
                assert isinstance(connection, Connection)
                finished[at_work.pop(connection)] = self._receive(connection)
                idle.append(connection)
            while given in finished:
                yield finished.pop(given)
                given += 1

    def _send(self, connection: Connection, jobs: Any) -> None:
        try:
            connection.send(jobs)
        except OSError:
            raise self._died(connection) from None

    def _receive(self, connection: Connection) -> list[Result]:
        try:
            received, self._cpu_seconds[connection] = connection.recv()
        except (EOFError, OSError):
            raise self._died(connection) from None
        if isinstance(received, Exception):
            raise received
        return received

    def _died(self, connection: Connection) -> SynthesisError:
        process = self.processes[self.connections.index(connection)]
        process.join(5)
        return SynthesisError(
            f"work.workers: a process that makes images died (exit status {process.exitcode}; -9 is often a lack of "
            "memory); use fewer workers or a smaller batch, and run the same command again"
        )


def _work(factory: GeneratorFactory, connection: Connection) -> None:
    """Open the generator, then turn batches into results until the pipe closes."""
    start_worker()
    try:
        runner = factory.open()
        use_one_thread()  # opening may have imported torch
    except Exception as error:
        runner, failure = None, _portable(error)
    while True:
        try:
            jobs = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outcome = runner(jobs) if runner is not None else failure
            connection.send((outcome, time.process_time()))
        except Exception as error:
            connection.send((_portable(error), time.process_time()))


def _portable(error: Exception) -> Exception:
    """Return an error that survives the pipe."""
    if isinstance(error, Syn2CoError):
        return SynthesisError(str(error))
    import traceback

    return RuntimeError("".join(traceback.format_exception(error)))
