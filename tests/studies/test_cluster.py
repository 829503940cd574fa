"""Cells of a study as jobs: of a real SLURM of one node, of this machine, stopped, put back and refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import slurm_node
import torch
from runs import assert_same_run, metrics, saved_steps
from slurm_node import command, wait_until
from tiny_images import write_images

from syn2co.core.errors import StudyError
from syn2co.core.progress import Bar
from syn2co.studies import cluster
from syn2co.studies.cluster import run_on_cluster
from syn2co.studies.cluster_job import CellWorker
from syn2co.studies.grid import Level, Study
from syn2co.studies.inputs import StudyInputs
from syn2co.studies.merge import read_study
from syn2co.studies.results import FAILED, FailedCell, StudyResults
from syn2co.studies.run import StudyRun, begin, run_cells

pytestmark = pytest.mark.slow
STEPS = 160  # some seconds: a signal from outside meets them in the middle
SETTINGS = (
    "views.size=16", "encoder.name=vit_tiny_patch16_224", "heads.hidden=32", "heads.width=16", "queue.size=64",
    'encoder.options={"patch_size":8,"embed_dim":32,"depth":2,"num_heads":2}', "negatives=none", "training.batch=8",
    "training.precision=float32", "machine.device=cpu", "machine.workers=0", "machine.threads=1",
    "machine.tensorboard=false", "machine.log_steps=1", "machine.save_steps=1000000",
)  # fmt: skip

RUN_HERE = """
import sys
from pathlib import Path
from syn2co.studies.cluster import run_on_cluster
from syn2co.studies.run import reopen
run_on_cluster(reopen(Path(sys.argv[1]), sys.argv[2]), "local", progress=False)
"""
"""A command that runs the cells of a study as jobs of this machine."""

PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=node Default=YES MaxTime=60 PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes=node MaxTime=60 PriorityTier=2 PreemptMode=OFF State=UP
"""
"""End of the configuration of a SLURM whose jobs of `high` preempt those of `low`."""


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.5)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> StudyInputs:
    folder = tmp_path_factory.mktemp("labeled")
    parts = (str(write_images(folder / part, 18, seed=seed)) for seed, part in enumerate(("real", "train", "test"), 5))
    real, train, test = ((part,) for part in parts)
    return StudyInputs(real=real, train=train, test=test)


def tiny_study(
    *settings: str, steps: int = 3, levels: tuple[str, ...] = ("trained", "untrained"), seeds: int = 1
) -> Study:
    """A study of one factor; its levels differ in the temperature or are not trained."""
    known = {
        "untrained": Level(images="untrained"), "trained": Level(),
        "warm": Level(settings=("training.temperature=0.4",)),
        "broken": Level(settings=("training.batch=10000",)),
    }  # fmt: skip
    return Study(
        name="tiny",
        title="Does it run?",
        recipe="demo",
        settings=(*SETTINGS, f"training.steps={steps}", *settings),
        factors={"encoder": {name: known[name] for name in levels}},
        baseline={"encoder": levels[0]},
        protocols=("knn",),
        seeds=seeds,
    )


def scores(results: StudyResults) -> dict[tuple[str, int], list[Any]]:
    """Return value and right answers of each cell."""
    return {
        (cell.levels["encoder"], cell.seed): [cell.report.rows[0].value, *cell.report.rows[0].values]
        for cell in results.cells
    }


def run_folder(run: StudyRun, level: str, seed: int = 0) -> Path:
    job = next(job for job in run.jobs if (job.cell.levels["encoder"], job.cell.seed) == (level, seed))
    return run.cell_folder(job) / "run"


def job_numbers(run: StudyRun) -> list[str]:
    """Return the numbers of the submitted jobs in the order of the cells."""
    numbers = json.loads((run.folder / cluster.LOGS / cluster.SUBMITTED).read_text())
    return [numbers[job.hash] for job in run.jobs]


def in_training(folder: Path) -> bool:
    return (folder / "metrics.jsonl").exists() and len(metrics(folder)) > 5


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], object]], None]]:
    """`meanwhile(function)` calls it in a thread, and its error is the test's."""
    threads: list[threading.Thread] = []
    errors: list[BaseException] = []

    def start(function: Callable[[], object]) -> None:
        def call() -> None:
            try:
                function()
            except BaseException as error:
                errors.append(error)

        threads.append(threading.Thread(target=call))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
    assert not errors, errors


def test_slurm_array_with_a_preempted_and_a_requeued_cell_equals_cells_in_this_process(
    slurm: Path, inputs: StudyInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny_study(steps=STEPS, levels=("trained", "warm", "untrained"))
    here, there = begin(study, inputs, tmp_path / "here"), begin(study, inputs, tmp_path / "there")
    undisturbed = run_cells(here, progress=False)
    options = {"cpus_per_task": 1, "slurm_signal_delay_s": 30}
    assert run_on_cluster(there, "slurm", minutes=5, options=options, wait=False).cells == ()
    numbers = job_numbers(there)
    array = numbers[0].partition("_")[0]
    assert numbers == [f"{array}_{task}" for task in range(3)]
    stops = {
        "trained": (numbers[0], "scancel --signal=USR2"),  # as before a preemption: submitit puts the job back
        "warm": (numbers[1], "scontrol requeue"),  # as after the failure of a node: SLURM does
    }

    def stop(level: str) -> int:
        """Stop its job in mid-training and return the step that it saved then."""
        number, words = stops[level]
        wait_until(lambda: in_training(run_folder(there, level)))
        command(*words.split(), number)
        wait_until(lambda: bool(saved_steps(run_folder(there, level))))
        return saved_steps(run_folder(there, level))[0]

    with ThreadPoolExecutor() as pool:  # both jobs run at the same time where there are two cores
        stopped = dict(zip(stops, pool.map(stop, stops), strict=True))
    finished = run_on_cluster(there, "slurm", options=options)  # waits for the same jobs
    assert job_numbers(there) == numbers
    assert f"jobs of SLURM: {', '.join(numbers)}" in capsys.readouterr().err
    assert scores(finished) == scores(undisturbed) and len(scores(finished)) == 3
    for level, step in stopped.items():
        assert 5 < step < STEPS, "it saved when it was told to leave"
        assert_same_run(run_folder(here, level), run_folder(there, level))
    log = (there.folder / cluster.LOGS / f"{numbers[0]}_0_log.out").read_text()
    assert "Calling checkpoint method" in log and f"step {stopped['trained']} of {STEPS} is saved" in log


def test_a_preemption_with_a_time_of_grace_puts_the_job_back(
    inputs: StudyInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Path
) -> None:
    """SLURM sends SIGTERM first, and would not put back a job that leaves before the time is over."""
    before = slurm_node.CONFIG[: slurm_node.CONFIG.index("PartitionName=")]
    monkeypatch.setattr(slurm_node, "CONFIG", before + PREEMPTION)
    run = begin(tiny_study(steps=STEPS, levels=("trained",)), inputs, tmp_path / "study")
    with slurm_node.slurm_node():  # a second one
        run_on_cluster(run, "slurm", minutes=5, wait=False, progress=False)
        wait_until(lambda: in_training(run_folder(run, "trained")))
        options = ("--partition=high", f"--cpus-per-task={os.cpu_count()}", "--output=/dev/null")
        command("sbatch", *options, "--wrap", "sleep 1")
        wait_until(lambda: bool(saved_steps(run_folder(run, "trained"))))
        (step,) = saved_steps(run_folder(run, "trained"))
        results = run_on_cluster(run, "slurm", minutes=5, progress=False)
    assert step < STEPS
    assert len(results.cells) == 1
    assert job_numbers(run) == ["1"], "the same job"


def test_a_cancelled_job_is_a_failed_cell_and_does_not_hang_the_waiting(
    slurm: Path, inputs: StudyInputs, tmp_path: Path, meanwhile: Callable[..., None]
) -> None:
    run = begin(tiny_study(steps=STEPS, levels=("trained", "warm")), inputs, tmp_path / "study")

    def cancel() -> None:
        wait_until((run.folder / cluster.LOGS / cluster.SUBMITTED).exists)
        running, waiting = job_numbers(run)
        wait_until(lambda: in_training(run_folder(run, "trained")))
        command("scancel", running, waiting)

    meanwhile(cancel)
    results = run_on_cluster(run, "slurm", jobs=1, minutes=5, progress=False)
    running, waiting = job_numbers(run)
    reasons = {failed.levels["encoder"]: failed.reason for failed in results.failed}
    log = f"cluster/{running}_0_log.out"
    assert reasons["trained"] == f"its job {running} ended (CANCELLED); see {log}, and run the study again to go on"
    assert reasons["warm"] in {
        f"its job {waiting} ended ({state}); run the study again to go on" for state in ("CANCELLED", cluster.GONE)
    }
    (step,) = saved_steps(run_folder(run, "trained"))
    assert step < STEPS
    run.jobs = run.jobs[:1]
    results = run_on_cluster(run, "slurm", minutes=5, progress=False)  # one open cell: a plain job, no array
    assert [cell.levels["encoder"] for cell in results.cells] == ["trained"]
    assert [failed.levels["encoder"] for failed in results.failed] == ["warm"]
    assert job_numbers(run)[0].isdecimal()
    assert [record["step"] for record in metrics(run_folder(run, "trained"))] == list(range(1, STEPS + 1))


def test_a_refused_submission_is_said_and_loses_nothing(slurm: Path, inputs: StudyInputs, tmp_path: Path) -> None:
    run = begin(tiny_study(levels=("untrained", "trained")), inputs, tmp_path / "study")
    run.jobs, jobs = run.jobs[:1], run.jobs
    finished = run_cells(run, progress=False)
    run.jobs = jobs
    with pytest.raises(StudyError, match=r"sbatch refuses the jobs \(invalid partition specified: nowhere; .*\)"):
        run_on_cluster(run, "slurm", options={"slurm_partition": "nowhere"}, progress=False)
    assert scores(read_study(run.folder)) == scores(finished)
    assert [job.cell.levels for job in run.open_jobs] == [{"encoder": "trained"}]


@pytest.mark.parametrize("name", ["debug", "local"])
def test_jobs_of_this_machine_equal_cells_in_this_process(name: Any, inputs: StudyInputs, tmp_path: Path) -> None:
    study = tiny_study(levels=("trained", "broken"))
    here, there = begin(study, inputs, tmp_path / "here"), begin(study, inputs, tmp_path / "there")
    alone = run_cells(here, progress=False)
    results = run_on_cluster(there, name, jobs=2 if name == "local" else None, progress=False)
    assert scores(results) == scores(alone) and len(scores(alone)) == 1
    assert [failed.reason for failed in results.failed] == [failed.reason for failed in alone.failed]
    assert "training.batch" in results.failed[0].reason
    assert_same_run(run_folder(here, "trained"), run_folder(there, "trained"))


@pytest.mark.parametrize(
    ("jobs", "ranks", "options", "shares"),
    [
        (2, 1, {}, {"0", "1"}),
        (1, 1, {}, {"0"}),
        (1, 2, {}, {"0,1"}),
        (2, 1, {"gpus_per_node": 0}, {""}),
    ],
)
def test_jobs_of_this_machine_have_gpus_of_their_own(
    jobs: int,
    ranks: int,
    options: dict[str, Any],
    shares: set[str],
    inputs: StudyInputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Named defect: submitit hid every GPU from them, and they trained on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    script = f'touch "{tmp_path}/on-$CUDA_VISIBLE_DEVICES"'
    monkeypatch.setattr(cluster, "worker_command", lambda *_: ["/bin/sh", "-c", script])
    run = begin(tiny_study("machine.device=auto", levels=("trained", "broken")), inputs, tmp_path / "study")
    run_on_cluster(run, "local", jobs=jobs, ranks=ranks, options=options, progress=False)
    assert {path.name.removeprefix("on-") for path in tmp_path.glob("on-*")} == shares


@pytest.mark.parametrize(("name", "minutes", "limit"), [("local", None, cluster.ENDLESS), ("local", 30, 30)])
def test_jobs_of_this_machine_have_no_limit_unless_asked(
    name: Any, minutes: int | None, limit: int, inputs: StudyInputs, tmp_path: Path
) -> None:
    """Named defect: a cell of more than twelve hours, six times the limit, was given up."""
    run = begin(tiny_study(), inputs, tmp_path / "study")
    executor = cluster._executor(run, name, None, minutes, {})
    assert executor.parameters["timeout_min"] == limit
    assert executor._executor.max_num_timeout == cluster.MAX_TIMEOUTS, "as with SLURM; submitit gave up after three"


def test_ranks_of_a_cell_equal_one_process(inputs: StudyInputs, tmp_path: Path) -> None:
    study = tiny_study("training.precision=float64", levels=("trained", "broken"))
    here, there = begin(study, inputs, tmp_path / "here"), begin(study, inputs, tmp_path / "there")
    alone = run_cells(here, progress=False)
    results = run_on_cluster(there, "local", ranks=2, progress=False)
    assert scores(results) == scores(alone) and len(scores(alone)) == 1
    assert "2 ranks" in results.cells[0].cost.processors
    losses = [[record["loss"] for record in metrics(run_folder(run, "trained"))] for run in (here, there)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-9)
    (failed,) = results.failed
    assert failed.reason == alone.failed[0].reason


def test_what_cannot_be_is_said_before_anything_is_submitted(
    inputs: StudyInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tiny_study(), inputs, tmp_path / "study")
    with pytest.raises(StudyError, match="--cluster local: its jobs are started while this command waits"):
        run_on_cluster(run, "local", wait=False, progress=False)
    with pytest.raises(StudyError, match="nodes = 2: a cell is one task on one machine; use ranks"):
        run_on_cluster(run, "local", options={"nodes": 2}, progress=False)
    with pytest.raises(StudyError, match=r'slurm_setup = 3: must be lines of a shell script, such as \["module load'):
        run_on_cluster(run, "local", options={"slurm_setup": 3}, progress=False)
    for options in ({"speed": 3}, {"mem_gb": "many"}):
        with pytest.raises(StudyError, match=f"--cluster local: .*{next(iter(options))}.*correct the option"):
            run_on_cluster(run, "local", options=options, progress=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="--cluster slurm: this machine has no sbatch"):
        run_on_cluster(run, "slurm", progress=False)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(StudyError, match=r"--cluster local: needs submitit, .*pip install 'syn2co\[cluster\]'"):
        run_on_cluster(run, "local", progress=False)
    assert len(run.open_jobs) == len(run.jobs)


def test_a_job_that_slurm_has_forgotten_has_ended_and_one_that_it_does_not_tell_of_has_not(
    inputs: StudyInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tiny_study(), inputs, tmp_path / "study")
    answers: list[dict[str, str] | None] = [{"7": "RUNNING"}, None, {}, {"7": "PENDING"}, {}, {}, {}]
    monkeypatch.setattr(cluster, "_states", lambda: answers.pop(0))
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)
    with Bar("study", 1, show=False) as bar:
        ended = list(cluster._ended_in_slurm(run, {"7": run.jobs[0]}, bar))
    assert ended == [(run.jobs[0], "7", cluster.GONE)]
    assert answers == [{}], "by two looks in a row, of which neither is a missing answer"


def test_nothing_is_submitted_again_while_slurm_does_not_answer(
    inputs: StudyInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tiny_study(), inputs, tmp_path / "study")
    waiting = {job.hash: (job, cluster._worker(run, job, 1, None)) for job in run.jobs}
    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps({run.jobs[0].hash: "7_0"}))
    monkeypatch.setattr(cluster, "_states", lambda: None)
    with pytest.raises(StudyError, match="squeue does not answer, so nobody can tell"):
        cluster._submit(None, waiting, jobs)  # type: ignore[arg-type]
    assert json.loads(jobs.read_text()) == {run.jobs[0].hash: "7_0"}


def test_a_command_that_is_told_to_leave_takes_its_local_jobs_along(inputs: StudyInputs, tmp_path: Path) -> None:
    """Ctrl-C of a terminal reaches all of its processes. Named defect: the controllers killed their workers at once."""
    run = begin(tiny_study(steps=STEPS, levels=("trained",)), inputs, tmp_path / "study")
    words = [sys.executable, "-c", RUN_HERE, str(run.folder), next(run.folder.glob("inputs-*")).name]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: in_training(run_folder(run, "trained")))
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGINT and told.count("Traceback") == 1, told
    (step,) = saved_steps(run_folder(run, "trained"))
    assert step < STEPS
    results = run_on_cluster(run, "local", progress=False)  # at once: nobody holds the cell
    assert [cell.levels["encoder"] for cell in results.cells] == ["trained"]
    assert [record["step"] for record in metrics(run_folder(run, "trained"))] == list(range(1, STEPS + 1))


def test_a_job_that_found_its_cell_taken_is_no_failure(inputs: StudyInputs, tmp_path: Path) -> None:
    run = begin(tiny_study(), inputs, tmp_path / "study")
    text = cluster._outcome(run, run.jobs[0], "7", "COMPLETED")
    said = "not finished, another process may run it, or its time limit came too often; see cluster/7_0_log.out"
    assert text == said
    assert not read_study(run.folder).failed


def worker(folder: Path, script: str) -> CellWorker:
    return CellWorker([sys.executable, "-c", script], {}, folder, FailedCell("0", {"encoder": "trained"}, 3, ""))


def test_a_killed_worker_is_a_failed_cell(tmp_path: Path) -> None:
    assert worker(tmp_path, "import os; os.kill(os.getpid(), 9)")() == "the worker ended with -9"
    failed = json.loads((tmp_path / FAILED).read_text())
    assert failed["reason"] == "its process ended with -9; see the log of its job"
    assert (failed["levels"], failed["seed"]) == ({"encoder": "trained"}, 3)


@pytest.mark.parametrize("code", ["import sys; sys.exit(143)", "import os; os.kill(os.getpid(), 15)"])
def test_a_worker_that_was_told_to_leave_leaves_no_result(code: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        worker(tmp_path, code)()
    assert left.value.code == 143
    assert not (tmp_path / FAILED).exists()


def test_signals_of_a_job_reach_the_worker_as_one_sigterm(tmp_path: Path) -> None:
    """USR2, which SLURM sends to all processes of a job, does not end the worker; SIGTERM to the job alone does."""
    script = f"""
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
Path({str(tmp_path / "ready")!r}).touch()
time.sleep(60)
"""
    job = worker(tmp_path, script)

    def tell() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        assert job.process is not None
        os.kill(job.process, signal.SIGUSR2)
        time.sleep(0.5)
        assert Path("/proc", str(job.process)).exists()
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=tell)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    with pytest.raises(SystemExit):
        job()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
