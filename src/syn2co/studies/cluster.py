"""Cells of a study as jobs of SLURM or of this machine, through submitit; the study's folder is the truth."""

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import RootModel

from syn2co.core.errors import StudyError
from syn2co.core.files import write_atomically
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.locks import LOCK, hold
from syn2co.core.progress import Bar
from syn2co.studies.cell import CellJob
from syn2co.studies.cluster_job import CellWorker
from syn2co.studies.gpus import gpus_of, seen_gpus
from syn2co.studies.merge import read_study
from syn2co.studies.results import FAILED, FailedCell, StudyResults
from syn2co.studies.run import StudyRun, worker_command

if TYPE_CHECKING:
    from submitit import AutoExecutor

Cluster = Literal["slurm", "local", "debug"]
LOGS, SUBMITTED = "cluster", "jobs.json"
MAX_TIMEOUTS = 100
"""Times that a job which reaches its time limit begins again; each time it goes on where it saved."""
ENDLESS = 366 * 24 * 60
"""Minutes of a job of this machine without a limit."""
POLL_SECONDS = 5.0
GONE = "no longer in the queue"
"""State of a job that SLURM has forgotten: minutes after its end, at once if it was cancelled before it began."""
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT", GONE,
}  # fmt: skip
"""States of SLURM that a job does not leave; in all others it is waited for."""
ENDED_WELL = {"COMPLETED", "FINISHED", "DONE"}
"""States of SLURM, of local and of debug jobs whose worker has said itself what became of the cell."""


def run_on_cluster(
    run: StudyRun,
    cluster: Cluster,
    *,
    jobs: int | None = None,
    minutes: int | None = None,
    ranks: int = 1,
    options: Mapping[str, Any] | None = None,
    wait: bool = True,
    progress: bool = True,
) -> StudyResults:
    """Run the cells that are not finished as jobs, and return all results of the folder.

    With SLURM they are one array in the order of their worth. A cell whose job of an earlier call still waits or runs
    is not submitted again. Ctrl-C ends the waiting, not these jobs; the same call waits for them again.

    Args:
        run: the study, in a folder that all machines share.
        cluster: "slurm"; "local" is jobs as processes of this machine; "debug" is one job after another, waited for.
        jobs: jobs at the same time. None is 256 with SLURM, which has its own limits, else 1.
        minutes: time limit of a job; one that reaches it saves, and begins again where it was. None is 120 with SLURM,
            else none: submitit begins a job of this machine six times at most, and one of SLURM 101 times.
        ranks: processes of a cell, started by torchrun inside its job, such as one a GPU.
        options: parameters of submitit, such as slurm_partition, gpus_per_node, cpus_per_task, mem_gb. cpus_per_task is
            also the number of threads, divided by `ranks`.
        wait: until all jobs have ended. False returns after the submission, with SLURM alone.
        progress: show bars and lines on standard error.

    Raises:
        StudyError: if submitit or SLURM is missing, an option is wrong, or the cluster refuses the jobs.
        KeyboardInterrupt: after Ctrl-C; jobs of SLURM continue, those of this machine save and leave.
    """
    options = dict(options or {})
    if not wait and cluster != "slurm":
        raise StudyError(f"--cluster {cluster}: its jobs are started while this command waits; leave out --no-wait")
    executor = _executor(run, cluster, jobs, minutes, options)
    threads = max(1, options["cpus_per_task"] // ranks) if "cpus_per_task" in options else None
    waiting = {job.hash: (job, _worker(run, job, ranks, threads)) for job in run.open_jobs}
    done, logs = len(run.jobs) - len(waiting), run.folder / LOGS
    with Bar("study", len(run.jobs), done=done, show=progress) as bar:
        bar.say(f"{run.study.name}: {len(run.jobs)} cells, {done} finished before; logs of the jobs in {logs}")
        if cluster == "slurm":
            logs.mkdir(parents=True, exist_ok=True)
            with hold(logs / LOCK, wait=True):  # two shards may submit at once
                submitted = _submit(executor, waiting, logs / SUBMITTED)
            bar.say(f"jobs of SLURM: {', '.join(submitted) or 'none'}" + "; Ctrl-C ends the waiting, not them" * wait)
            ended = _ended_in_slurm(run, submitted, bar) if wait else iter(())
        else:
            gpus = () if options.get("gpus_per_node") == 0 else seen_gpus()
            each = max(ranks, options.get("gpus_per_node", 1))
            ended = _ended_here(executor, list(waiting.values()), jobs or 1, gpus, each)
        for job, number, state in ended:
            bar.advance(1, f"{job.cell.text}: {_outcome(run, job, number, state)}")
    return read_study(run.folder)


SETUP = "slurm_setup"
ALL_CORES = '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'
"""srun no longer reads what sbatch was given, from SLURM 22.05 on: where it binds tasks, one core would do all."""


def _executor(
    run: StudyRun, cluster: Cluster, jobs: int | None, minutes: int | None, options: Mapping[str, Any]
) -> "AutoExecutor":
    """Return submitit's executor.

    Raises:
        StudyError: if a program is missing or a parameter is wrong.
    """
    try:
        from submitit import AutoExecutor
    except ImportError:
        raise StudyError(
            f"--cluster {cluster}: needs submitit, which is missing; pip install 'syn2co[cluster]', or use --shard"
        ) from None
    for name in ("nodes", "tasks_per_node"):
        if options.get(name, 1) != 1:
            raise StudyError(
                f"{name} = {options[name]}: a cell is one task on one machine; use ranks for more processes"
            )
    if cluster == "slurm":
        missing = next((program for program in ("sbatch", "srun", "squeue") if shutil.which(program) is None), None)
        if missing:
            raise StudyError(
                f"--cluster slurm: this machine has no {missing}; call it where SLURM is, or use --cluster local"
            )
    limit = {} if cluster == "debug" else {f"{cluster}_max_num_timeout": MAX_TIMEOUTS}
    executor = AutoExecutor(run.folder / LOGS, cluster=cluster, **limit)
    given = {name: value for name, value in options.items() if name not in ("slurm_additional_parameters", SETUP)}
    more = options.get("slurm_additional_parameters", {})
    if not isinstance(more, Mapping):
        raise StudyError(f'slurm_additional_parameters = {more}: must be an object, such as {{"nice": 10}}')
    requeue = {"requeue": True, **more}  # some clusters leave it out
    try:
        executor.update_parameters(
            **{
                "name": f"syn2co-{run.study.name}",
                "timeout_min": minutes or (120 if cluster == "slurm" else ENDLESS),
                "stderr_to_stdout": True,
                "slurm_array_parallelism": jobs,
                "slurm_additional_parameters": requeue,
                SETUP: [ALL_CORES, *_setup(options.get(SETUP, []))],
                **given,
            }  # fmt: skip
        )
    except (AssertionError, NameError, ValueError) as error:
        raise StudyError(f"--cluster {cluster}: {str(error).splitlines()[0]}; correct the option") from None
    return executor


def _setup(lines: Any) -> Sequence[str]:
    """Return the lines of a script that were given as one text or as several."""
    several = [lines] if isinstance(lines, str) else lines
    if not isinstance(several, list | tuple) or not all(isinstance(line, str) for line in several):
        raise StudyError(f'{SETUP} = {lines}: must be lines of a shell script, such as ["module load cuda"]')
    return several


def _worker(run: StudyRun, job: CellJob, ranks: int, threads: int | None) -> CellWorker:
    """Return what the job of a cell calls."""
    launch = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = worker_command(run, job.hash, threads, launch)
    cell = FailedCell(job.hash, job.cell.levels, job.cell.seed, "")
    environment = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return CellWorker(command, environment, run.cell_folder(job).absolute(), cell)


def _submitted(path: Path) -> dict[str, str]:
    """Return the job that each cell was given before."""
    try:
        return read_json(path, _JobsFile) if path.exists() else {}
    except JsonError as error:
        raise StudyError(f"{path.name}: {error}; delete it once no job of this study is queued or runs") from None


class _JobsFile(RootModel[dict[str, str]]):
    """JSON of the jobs of a study: the number of each by its cell."""


def _submit(
    executor: "AutoExecutor", waiting: Mapping[str, tuple[CellJob, CellWorker]], path: Path
) -> dict[str, CellJob]:
    """Submit the cells without a job, and return all cells by the number of their job.

    Raises:
        StudyError: if SLURM refuses them.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    earlier, states = _submitted(path), _states()
    if states is None and earlier:
        raise StudyError(
            "--cluster slurm: squeue does not answer, so nobody can tell whether jobs submitted before still run; run "
            "the same command again later"
        )
    states = states or {}
    numbers = {cell: number for cell, number in earlier.items() if states.get(number, GONE) not in ENDED}
    fresh = [cell for cell in waiting if cell not in numbers]
    if fresh:
        try:
            submitted = executor.submit_array([waiting[cell][1] for cell in fresh])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            lines = (line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines())
            reason = "; ".join(filter(None, lines)) or "no reason is given"
            raise StudyError(
                f"--cluster slurm: sbatch refuses the jobs ({reason}); nothing was submitted and finished cells stay; "
                "change the options of the jobs and run the same command again"
            ) from None
        numbers |= {cell: job.job_id for cell, job in zip(fresh, submitted, strict=True)}
        write_atomically(path, json.dumps(numbers, indent=1) + "\n")
        for cell in fresh:
            (waiting[cell][1].folder / FAILED).unlink(missing_ok=True)  # of an earlier try
    return {numbers[cell]: job for cell, (job, _) in waiting.items()}


def _states() -> dict[str, str] | None:
    """Return the states of this user's jobs by number, those just ended among them; None if SLURM does not answer.

    squeue knows them without an accounting database, unlike sacct, which submitit asks.
    """
    command = ("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split(maxsplit=1) for line in answer.splitlines())


def _ended_in_slurm(run: StudyRun, submitted: Mapping[str, CellJob], bar: Bar) -> Iterator[tuple[CellJob, str, str]]:
    """Yield cell, number and state of each job once its cell is finished, or it has ended by two looks in a row.

    Two, because files of another machine may appear a moment after the end of the job that wrote them.
    """
    left, before = dict(submitted), set[str]()
    while left:
        answer = _states()
        states = {number: (answer or {}).get(number, GONE) for number in left}
        ended = set() if answer is None else {number for number, state in states.items() if state in ENDED}
        for number in [number for number in left if run.is_done(left[number]) or number in ended & before]:
            yield left.pop(number), number, states[number]
        before = ended
        if left:
            bar.advance(0, "squeue does not answer" if answer is None else _counts([states[number] for number in left]))
            time.sleep(POLL_SECONDS)


def _counts(states: Sequence[str]) -> str:
    return ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))


def _ended_here(
    executor: "AutoExecutor",
    waiting: list[tuple[CellJob, CellWorker]],
    jobs: int,
    gpus: Sequence[str],
    each: int,
) -> Iterator[tuple[CellJob, str, str]]:
    """Start `jobs` jobs at a time, with `each` GPUs, and yield cell, number and state of each that has ended."""
    running: dict[int, tuple[CellJob, Any]] = {}  # by place among the jobs at a time
    try:
        while waiting or running:
            for slot in sorted({*range(jobs)} - {*running})[: len(waiting)]:
                job, worker = waiting.pop(0)
                worker.environment |= gpus_of(slot, gpus, job.config.machine.device, each)
                with _without_ctrl_c():
                    running[slot] = job, executor.submit(worker)
            for slot, (job, process) in [item for item in running.items() if item[1][1].done()]:
                del running[slot]
                yield job, process.job_id, process.state
            if running:
                time.sleep(0.2)
    except BaseException:  # a signal: the jobs would outlive this command, and hold their cells
        _end([process for _, process in running.values()])
        raise


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let processes that begin in the block hear no Ctrl-C of the terminal: they would kill their workers at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(processes: Sequence[Any]) -> None:
    """Have jobs of this machine save and leave: their controllers pass SIGTERM on; a debug job is no process."""
    controllers = [job._process for job in processes if getattr(job, "_process", None) is not None]
    for controller in controllers:
        controller.terminate()
    for controller in controllers:
        controller.wait()


def _outcome(run: StudyRun, job: CellJob, number: str, state: str) -> str:
    """Return what became of a cell whose job has ended; if it could not say so itself, write it down."""
    folder, log = run.cell_folder(job), f"{LOGS}/{number}_0_log.out"
    if run.is_done(job):
        return "done"
    if (folder / FAILED).exists() and state in (*ENDED_WELL, GONE):
        return "failed"
    if state in ENDED_WELL:
        return f"not finished, another process may run it, or its time limit came too often; see {log}"
    seen = f"see {log}, and " if (run.folder / log).exists() else ""
    reason = f"its job {number} ended ({state}); {seen}run the study again to go on"
    FailedCell(job.hash, job.cell.levels, job.cell.seed, reason).write(folder)
    return f"failed ({reason})"
