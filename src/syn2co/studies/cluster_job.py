"""The job of one cell on a cluster: its worker, a process that saves when the scheduler stops it, and resumes."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from syn2co.studies.results import FAILED, FailedCell

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

LEFT = 128 + signal.SIGTERM
"""Exit status of a worker that has saved and left."""


class CellWorker:
    """What a job calls: it starts the worker of a cell and waits for it.

    submitit calls `checkpoint` before a preemption and before the end of the job's time, and puts the job back into the
    queue. A job that SLURM itself puts back is simply called again. Either way the cell resumes from its run folder.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, cell: FailedCell) -> None:
        """Remember the command of the worker.

        Args:
            command: program and arguments of the worker.
            environment: variables of the worker beside those of the job, such as OMP_NUM_THREADS.
            folder: folder of the cell.
            cell: what failed.json says if the worker is killed, but for the reason.
        """
        self.command, self.environment, self.folder, self.cell = list(command), dict(environment), folder, cell
        self.process: int | None = None
        self.terminated = False

    def __call__(self) -> str:
        """Return what became of the worker in words.

        Raises:
            SystemExit: after SIGTERM, so that submitit records no result and a job that begins again is waited for.
        """
        self.terminated = False
        # SLURM sends USR2 to every process of a job, and whoever does not handle it dies: blocked, it reaches this one
        # alone, and the worker is told by SIGTERM, after which it saves.
        masked = [signal.SIGUSR2]
        self.process = os.posix_spawn(
            self.command[0], self.command, {**os.environ, **self.environment}, setsigmask=masked
        )
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
            self.process = None
        finally:
            self._stop()
            signal.signal(signal.SIGTERM, before)
        if self.terminated or code in (-signal.SIGTERM, LEFT):
            _requeue_if_preempted()
            raise SystemExit(LEFT)
        if code and not (self.folder / FAILED).exists():
            replace(self.cell, reason=f"its process ended with {code}; see the log of its job").write(self.folder)
        return f"the worker ended with {code}"

    def checkpoint(self) -> "DelayedSubmission":
        """Let the worker save, and return what the job is to call when it begins again: the same."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        return DelayedSubmission(self)

    def _terminate(self, *_: object) -> None:
        self.terminated = True
        if self.process is not None:
            os.kill(self.process, signal.SIGTERM)

    def _stop(self) -> None:
        """Let the worker save and leave, and wait until it has; in a signal's handler too, so without `subprocess`."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGTERM)
                os.waitpid(process, 0)


def _requeue_if_preempted() -> None:
    """Put this job of SLURM back into the queue if a preemption with a time of grace (GraceTime) ends it.

    SLURM begins that time with SIGTERM, and requeues the jobs that are still there when it is over; a worker that has
    saved leaves before.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if number is not None:
        shown = subprocess.run(["scontrol", "show", "job", "--oneliner", number], capture_output=True, text=True)
        if re.search(r"\bPreemptTime=\d", shown.stdout):
            subprocess.run(["scontrol", "requeue", number])
