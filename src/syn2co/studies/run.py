"""Running a study: cells in the order of their worth, each once; kills resume, failures are written down."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from syn2co.core.cpus import available_cpus
from syn2co.core.errors import StudyError, Syn2CoError
from syn2co.core.files import no_link
from syn2co.core.launcher import launcher
from syn2co.core.locks import hold
from syn2co.core.progress import Bar
from syn2co.models.provenance import source_name
from syn2co.pretraining.config import Config
from syn2co.runtime import distributed
from syn2co.runtime.determinism import limited_threads
from syn2co.runtime.device import choose_device
from syn2co.runtime.signals import ends_on_signals
from syn2co.studies.cell import CellJob, cell_job
from syn2co.studies.cell_run import run_cell
from syn2co.studies.gpus import gpus_of, seen_gpus
from syn2co.studies.grid import LONGEST_SLUG, Study
from syn2co.studies.inputs import StudyInputs, inputs_file, read_inputs, with_named_sources, write_study
from syn2co.studies.merge import read_study
from syn2co.studies.result_files import read_cost, read_definition
from syn2co.studies.results import CELLS, FAILED, RESULT, Cost, FailedCell, StudyResults

LOCK, LOG = ".cell-lock", "log.txt"
_OF_SPEED = ("encoder", "heads", "queue", "negatives", "training", "views")


@dataclass
class StudyRun:
    """A study in its folder, and the cells that this call runs."""

    study: Study
    inputs: StudyInputs
    folder: Path
    jobs: list[CellJob] = field(default_factory=list)
    _costs: dict[str, Cost] = field(default_factory=dict, repr=False)
    _lengths: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)

    def cell_folder(self, job: CellJob) -> Path:
        """Return the folder of a cell; one whose long name was cut otherwise is found by the hash at its end."""
        cells, slug = self.folder / CELLS, job.cell.slug
        folder = cells / f"{slug}-{job.hash}"
        if len(slug.encode()) < LONGEST_SLUG - 3 or folder.exists():
            return folder
        return next(cells.glob(f"*-{job.hash}"), folder)

    def is_done(self, job: CellJob) -> bool:
        """Return whether the cell is finished."""
        return self.cost(job) is not None

    def cost(self, job: CellJob) -> Cost | None:
        """Return what a finished cell took, None if it is not finished; one whose file is torn is not."""
        if job.hash not in self._costs and (cost := read_cost(self.cell_folder(job) / RESULT)) is not None:
            self._costs[job.hash] = cost
        return self._costs.get(job.hash)

    def length(self, job: CellJob) -> tuple[str, float]:
        """Return the kind of run of a cell and the images that it sees, none if untrained; equals take equal time."""
        if job.hash not in self._lengths:
            self._lengths[job.hash] = kind_of_run(job.config), job.images_seen
        return self._lengths[job.hash]

    @property
    def open_jobs(self) -> list[CellJob]:
        """The cells of this call that are not finished, in order."""
        return [job for job in self.jobs if not self.is_done(job)]


def begin(study: Study, inputs: StudyInputs, folder: Path, *, shard: str | None = None, write: bool = True) -> StudyRun:
    """Return the study in its folder, made if needed, with the cells of one shard or all.

    Args:
        study: the grid.
        inputs: sources, whose content is looked at here.
        folder: folder of the study; the same study of the same images goes on in it.
        shard: "i/n", part i (from 1) of n of the cells.
        write: write study.json and the inputs; False is for a preview.

    Raises:
        StudyError: if the folder holds something else, a cell cannot be, or `shard` is wrong.
        CheckpointError: if weights that runs begin with cannot be read.
        ConfigError: if a setting is unknown or out of range.
        DataError: if a source cannot be opened.
        EvaluationError: if the labeled images cannot be scored.
    """
    study, inputs = with_named_sources(study, inputs)
    cells = study.cells()
    configs = [cell_job(cell, inputs).config for cell in cells]  # settings are wrong before images are opened
    weights = [config.init_from for config in configs if config.init_from is not None]
    inputs = inputs.with_fingerprints(study, configs[0].data, weights)
    jobs = [cell_job(cell, inputs) for cell in cells]
    _refuse_twice(jobs)
    part = _part(shard, len(jobs))
    if write:
        write_study(folder, study, inputs)
    return StudyRun(study, inputs, folder, [jobs[number] for number in part])


def _refuse_twice(jobs: Sequence[CellJob]) -> None:
    """Refuse a grid of which two cells are one and the same run."""
    known: dict[str, CellJob] = {}
    for job in jobs:
        if known.setdefault(job.hash, job) is not job:
            raise StudyError(
                f"{known[job.hash].cell.text} and {job.cell.text}: are one and the same run; leave one out with `only`"
            )


def _part(shard: str | None, count: int) -> range:
    if shard is None:
        return range(count)
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise StudyError(f"--shard {shard}: must be I/N with I from 1 to N, such as 1/4; correct it")
    return range(int(part) - 1, count, int(parts))


def run_cells(
    run: StudyRun,
    *,
    budget: float | None = None,
    expected: Mapping[str, float] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> StudyResults:
    """Run the cells that are not finished and return all results of the folder.

    Args:
        run: the study.
        budget: seconds; no comparison is begun that is not expected to end in time. None is no limit.
        expected: seconds of cells by hash, for as long as no finished cell tells them.
        jobs: cells at the same time, in as many processes if there are several.
        progress: show bars and lines on standard error.

    Raises:
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, once running cells have saved.
    """
    waiting = run.open_jobs
    done = len(run.jobs) - len(waiting)
    with Bar("study", len(run.jobs), done=done, show=progress) as bar:
        bar.say(f"{run.study.name}: {len(run.jobs)} cells, {done} finished before")
        queue = _Queue(run, waiting, budget, jobs, expected or {})
        if jobs == 1:
            for job in queue:
                bar.say(f"cell {job.cell.text}")
                bar.advance(1, run_one(run, job, progress=progress))
        else:
            _Processes(run, queue, jobs, bar).run_all()
        if queue.left_out:
            bar.say(f"{queue.left_out} cells were not begun: the budget would not have lasted; run it again to go on")
    return read_study(run.folder)


def cells_within(run: StudyRun, budget: float, expected: Mapping[str, float], jobs: int) -> int:
    """Return the number of open cells that a budget of seconds would begin, if they take as long as expected."""
    queue = _Queue(run, run.open_jobs, budget, jobs, expected)
    return sum(1 for _ in iter(queue.next, None))


class _Queue:
    """The cells to run, handed out one by one; with a budget, a comparison is begun only if all of it fits in."""

    def __init__(
        self, run: StudyRun, waiting: Sequence[CellJob], budget: float | None, jobs: int, expected: Mapping[str, float]
    ) -> None:
        self.run, self.waiting, self.budget, self.jobs, self.expected = run, list(waiting), budget, jobs, expected
        self.started, self.lock = time.monotonic(), threading.Lock()
        self.begun: list[CellJob] = []
        self.ended: list[CellJob] = []
        self.left_out = 0

    def __iter__(self) -> Iterator[CellJob]:
        while (job := self.next()) is not None:
            yield job
            with self.lock:
                self.ended.append(job)  # finished, failed, or run elsewhere: it takes no more time

    def next(self) -> CellJob | None:
        """Return the next cell, None if there is none or the budget is used up."""
        with self.lock:
            if not self.waiting:
                return None
            job = self.waiting[0]
            if self.budget is not None and not _among(self.begun, job):
                group = self._comparison(job)
                pledged = [cell for cell in self.begun if not _among(self.ended, cell)]
                if time.monotonic() - self.started + self._seconds([*pledged, *group]) > self.budget:
                    self.left_out, self.waiting = len(self.waiting), []
                    return None
                self.begun += group
            return self.waiting.pop(0)

    def _seconds(self, cells: Sequence[CellJob]) -> float:
        """Return when the last of some cells will have ended, each begun by the first process that is free."""
        ends = [0.0] * self.jobs
        for cell in cells:
            first = ends.index(min(ends))
            ends[first] += expected_seconds(self.run, cell) or self.expected.get(cell.hash, 0.0)
        return max(ends)

    def stop(self) -> None:
        """Hand out no more cells."""
        with self.lock:
            self.waiting = []

    def _comparison(self, job: CellJob) -> list[CellJob]:
        """Return the cell and the waiting ones that make its first primary contrast whole."""
        study, cell = self.run.study, job.cell
        for contrast in study.contrasts:
            sides = [study.complete(contrast.other), study.complete(contrast.one)]
            if cell.levels in sides:
                return [one for one in self.waiting if one.cell.seed == cell.seed and one.cell.levels in sides]
        return [job]


def _among(cells: Sequence[CellJob], job: CellJob) -> bool:
    return any(job is cell for cell in cells)


def expected_seconds(run: StudyRun, job: CellJob) -> float:
    """Return the seconds that finished cells let expect of a cell; 0 if none trains and scores alike.

    The mean of those of equal levels; else of those that train alike, with what images made alike have cost.
    """
    costs = [(other, cost) for other in run.jobs if (cost := run.cost(other)) is not None]
    equal = [cost.seconds for other, cost in costs if other.cell.levels == job.cell.levels]
    if equal:
        return sum(equal) / len(equal)
    alike = [
        cost.training_seconds + cost.evaluation_seconds for other, cost in costs if run.length(other) == run.length(job)
    ]
    if not alike:
        return 0.0
    making = [cost.generation_seconds for other, cost in costs if makes_alike(other, job)]
    return sum(alike) / len(alike) + (sum(making) / len(making) if making else 0.0)


def kind_of_run(config: Config) -> str:
    """Return the settings that the speed of a run depends on, as JSON."""
    return config.model_dump_json(include=dict.fromkeys(_OF_SPEED, True))


def makes_alike(one: CellJob, other: CellJob) -> bool:
    """Return whether two cells have images of one generator made, from scratch or as variations."""
    made = [(job.images.generator, job.images.vary) if job.images else None for job in (one, other)]
    return made[0] is not None and made[0] == made[1]


def run_one(run: StudyRun, job: CellJob, *, progress: bool) -> str:
    """Run one cell unless another process does; return what became of it in words. All ranks of torchrun call this.

    Raises:
        SystemExit: on a rank that fails, so that torchrun ends those that wait for it.
    """
    folder = run.cell_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    try:
        with distributed.session(choose_device(job.config.machine.device).type), _only_here(folder) as mine:
            if not mine:
                return f"{job.cell.text}: another process runs it"
            if distributed.broadcast_object(run.is_done(job)):
                return f"{job.cell.text}: finished before"
            with limited_threads(job.config.machine):  # of generation and evaluation too
                result = run_cell(job, run.folder, folder, progress=progress)
    except Exception as error:  # whatever ends one cell must not end the others
        reason = str(error) if isinstance(error, Syn2CoError) else f"{type(error).__name__}: {error}"
        for path in run.inputs.paths:
            reason = reason.replace(path, source_name(path))  # pages show it
        if not (folder / FAILED).exists():  # of several ranks, the first one knows the reason
            if not isinstance(error, Syn2CoError):
                with open(folder / LOG, "a", encoding="utf-8", opener=no_link) as log:
                    log.write(traceback.format_exc())
            FailedCell(job.hash, job.cell.levels, job.cell.seed, reason).write(folder)
        if launcher().size > 1:
            raise SystemExit(1) from error
        return f"{job.cell.text}: failed ({reason})"
    first = result.report.rows[0]
    return f"{first.protocol} {first.value:.1f}"


@contextlib.contextmanager
def _only_here(folder: Path) -> Iterator[bool]:
    """Hold the lock of a cell inside the block, rank 0 for all ranks, and yield whether it is held."""
    with hold(folder / LOCK, wait=False) if distributed.is_main() else contextlib.nullcontext(False) as mine:
        yield distributed.broadcast_object(mine)


class _Processes:
    """Processes that run cells, each with its part of the cores and its own GPU; they end with this one."""

    def __init__(self, run: StudyRun, queue: _Queue, jobs: int, bar: Bar) -> None:
        self.run, self.queue, self.jobs, self.bar = run, queue, jobs, bar
        self.threads, self.gpus = max(1, available_cpus() // jobs), seen_gpus()
        self.lock, self.stopped = threading.Lock(), False
        self.running: list[subprocess.Popen[str]] = []

    def run_all(self) -> None:
        """Run the queue; on Ctrl-C or a signal to leave the running cells save and leave."""
        with ends_on_signals(), ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in [pool.submit(self._work, slot) for slot in range(self.jobs)]:
                    future.result()
            except BaseException:
                self._stop()
                raise

    def _work(self, slot: int) -> None:
        """Hand cells to one worker process after the other; a new one begins where one has died."""
        process = None
        for job in self.queue:
            process = process if process is not None and process.poll() is None else self._start(job, slot)
            if process is not None and not _hand_over(process, job.hash):
                self._write_down(job, process.wait())
            self.bar.advance(1, f"{job.cell.text}: " + ("done" if self.run.is_done(job) else "not finished"))
        if process is not None:
            process.communicate()  # closes what it reads from, so that it ends

    def _write_down(self, job: CellJob, code: int) -> None:
        """Write down the cell that ended its process, unless that was told to leave or has told the reason itself."""
        folder = self.run.cell_folder(job)
        if code not in (0, -signal.SIGTERM, 143, 130) and not (folder / FAILED).exists():
            reason = f"its process ended with {code}; see {LOG}, and run the study again to go on"
            FailedCell(job.hash, job.cell.levels, job.cell.seed, reason).write(folder)

    def _start(self, job: CellJob, slot: int) -> "subprocess.Popen[str] | None":
        machine = job.config.machine
        command = worker_command(self.run, "-", None if machine.threads else self.threads)
        gpus = gpus_of(slot, self.gpus, machine.device)
        environment = {**os.environ, **gpus, "OMP_NUM_THREADS": str(machine.threads or self.threads)}
        log = self.run.cell_folder(job) / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with self.lock, open(log, "ab", opener=no_link) as errors:  # none is started once all are stopped
            if self.stopped:
                return None
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,
            )
            self.running.append(process)
            return process

    def _stop(self) -> None:
        with self.lock:
            self.stopped = True
            self.queue.stop()
            for process in self.running:
                if process.poll() is None:
                    process.terminate()


def _hand_over(process: "subprocess.Popen[str]", cell: str) -> bool:
    """Have a worker run a cell; return whether it lives."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(f"{cell}\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return bool(process.stdout.readline())


def worker_command(run: StudyRun, cell: str, threads: int | None, launch: Sequence[str] = ()) -> list[str]:
    """Return the command of a process that runs cells of this call, as `studies.worker` takes them.

    Args:
        run: the study.
        cell: hash of a cell, or "-".
        threads: of the process; None is as the settings say.
        launch: words between Python and the worker, such as those of torchrun.
    """
    words = [str(run.folder.absolute()), cell, inputs_file(run.inputs), *([] if threads is None else [str(threads)])]
    return [sys.executable, *launch, "-m", "syn2co.studies.worker", *words]


def reopen(folder: Path, inputs_name: str, threads: int | None = None) -> StudyRun:
    """Return the study of a folder that `begin` has made, with the inputs of one call, for another process."""
    study, inputs = read_definition(folder), read_inputs(folder, inputs_name)
    if threads is not None:
        inputs = inputs.model_copy(update={"settings": (*inputs.settings, f"machine.threads={threads}")})
    return StudyRun(study, inputs, folder, [cell_job(cell, inputs) for cell in study.cells()])
