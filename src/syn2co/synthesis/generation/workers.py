"""Worker processes that make images: batches of jobs out, results back in the order of the jobs."""

import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from syn2co.core.errors import Syn2CoError, SynthesisError
from syn2co.core.worker_pool import WorkerDied, WorkerPool
from syn2co.synthesis.generation.encode import JobRunner, Result
from syn2co.synthesis.generation.generator_factory import GeneratorFactory
from syn2co.synthesis.sets.job import Job


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
        method = "forkserver" if sys.platform != "win32" else "spawn"
        try:
            self.workers = WorkerPool[Sequence[Job], list[Result]](factory.open, count, method=method)
        except OSError as error:
            raise SynthesisError(
                f"work.workers = {count}: the processes that make images cannot be started ({error.strerror}); use "
                "fewer workers, or raise the limits of open files and memory (ulimit -n, ulimit -v)"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.workers.__exit__(kind, error, trace)

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes until each one's last batch."""
        return self.workers.cpu_seconds

    def results(self, batches: Iterator[Sequence[Job]]) -> Iterator[list[Result]]:
        """Yield the results of each batch, in order.

        Raises:
            SynthesisError: what a process raised, or that it died.
        """
        try:
            yield from self.workers.results(batches)
        except WorkerDied as died:
            raise SynthesisError(
                f"work.workers: a process that makes images died ({died}); use fewer workers or a smaller batch, and "
                "run the same command again"
            ) from None
        except Syn2CoError as error:
            raise SynthesisError(str(error)) from None
