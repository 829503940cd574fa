"""The real SLURM of one node that studies are tested on: jobs, arrays, requeue, submitit, and nothing left behind."""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import slurm_node
import submitit
from runs import assert_same_run, finish, metrics, saved_steps, start_ranks, train
from slurm_node import SlurmUnavailable, command, wait_until
from synthesis_sets import assert_same_set

pytestmark = pytest.mark.slow
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a job cannot import this file


@pytest.fixture
def executor(slurm: Path, tmp_path: Path) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(
        timeout_min=2, cpus_per_task=1, stderr_to_stdout=True, slurm_array_parallelism=2, slurm_signal_delay_s=30,
        slurm_additional_parameters={"requeue": True},
    )  # fmt: skip
    return executor


class Turns(submitit.helpers.Checkpointable):
    """Waits to be preempted in its first turn; its state counts the turns, its file tells when each begins."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.turn = 0

    def __call__(self) -> tuple[int, str]:
        self.turn += 1
        self.file.write_text(f"{self.turn}")
        while self.turn == 1:
            time.sleep(0.1)
        return self.turn, os.environ["SLURM_RESTART_COUNT"]


def submit(script: str, *options: str) -> str:
    """Submit a batch script without a log of its own, and return the number of its job."""
    return command("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", script)


def documented(begin: str, changes: dict[str, str]) -> str:
    """Return the shell lines of the page from `begin` to the end of their block, with other names and sizes."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    (lines,) = re.findall(rf"^{re.escape(begin)}.*?(?=^```)", page, re.DOTALL | re.MULTILINE)
    for old, new in changes.items():
        assert lines.count(old) == 1, old
        lines = lines.replace(old, new)
    return lines


def states(job: str) -> set[str]:
    return set(command("squeue", "--jobs", job, "--array", "--states=all", "--noheader", "--format=%T").split())


def test_array_runs_to_its_end(slurm: Path, tmp_path: Path) -> None:
    job = submit(f"srun touch {tmp_path}/$SLURM_ARRAY_TASK_ID", "--array=0-2")
    wait_until(lambda: states(job) == {"COMPLETED"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("preempt", ["scontrol requeue {job}", "scontrol update nodename=node state=down reason=test"])
def test_preempted_job_runs_again(preempt: str, slurm: Path, tmp_path: Path) -> None:
    turns = tmp_path / "turns"
    job = submit(f"echo turn $SLURM_RESTART_COUNT >> {turns}; [ $SLURM_RESTART_COUNT ] || sleep 100")
    wait_until(turns.exists)
    command(*preempt.format(job=job).split())
    wait_until(lambda: turns.read_text() == "turn\nturn 1\n")


def test_submitit_maps_a_function(executor: submitit.AutoExecutor) -> None:
    jobs = executor.map_array(lambda value: (value**2, sys.executable), [2, 3, 4])
    wait_until(lambda: all(job.done() for job in jobs))
    assert [job.result() for job in jobs] == [(4, sys.executable), (9, sys.executable), (16, sys.executable)]


@pytest.mark.parametrize("setup", ["export SETUP=mine", ["export SETUP=mine"]])
@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_a_cell_has_all_its_cores_where_tasks_are_bound(
    setup: Any, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: srun gave the task of a job one core, since it no longer reads --cpus-per-task of sbatch."""
    from syn2co.studies.cluster import _executor

    monkeypatch.setenv("SLURM_CPU_BIND", "cores")
    run: Any = SimpleNamespace(folder=tmp_path, study=SimpleNamespace(name="cores"))
    executor = _executor(run, "slurm", None, 2, {"cpus_per_task": 2, "slurm_setup": setup})
    job = executor.submit(lambda: (len(os.sched_getaffinity(0)), os.environ["SETUP"]))
    wait_until(job.done)
    assert job.result() == (2, "mine")


def test_the_script_of_the_documentation_goes_back_into_the_queue_once_its_run_has_saved(
    slurm: Path, tmp_path: Path
) -> None:
    """With a run that takes its time to save. Named defect: after the signal the job had failed, and stayed so."""
    last = documented("trap ", {})
    run, saved, again = tmp_path / "run.sh", tmp_path / "saved", tmp_path / "again"
    # A loop: the signal goes to every process of the step, and a script that waits for one may end before it hears it.
    save = f"trap 'sleep 1; touch {saved}; exit 143' TERM"
    run.write_text(f"{save}; touch {tmp_path}/begun; while true; do sleep 0.1; done")
    job = submit(f"[ $SLURM_RESTART_COUNT ] && [ -e {saved} ] && touch {again} && exit\nsrun bash {run} &\n{last}")
    wait_until((tmp_path / "begun").exists)
    command("scancel", "--signal=USR1", "--batch", job)
    wait_until(again.exists)


def test_the_script_of_the_documentation_pretrains_and_resumes_after_the_signal_before_its_end(
    slurm: Path, tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks on one node, in place of sixteen on two."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    config, run, whole = tiny("training.steps=80", "machine.save_steps=1000"), tmp_path / "run", tmp_path / "whole"
    (tmp_path / "tiny.json").write_text(config.to_json())
    changes = {
        "--nodes=2": f"--nodes=1 --output={tmp_path}/log --open-mode=append",
        "--gpus-per-node=8 --cpus-per-task=64 --time=24:00:00": "--cpus-per-task=1 --time=10",
        "/shared/cache": os.environ["SYN2CO_CACHE"],
        "$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)": "localhost",  # the node's name is no host's
        "--nnodes 2 --nproc-per-node 8": "--nnodes 1 --nproc-per-node 2",
        "--recipe synco-deit-s --real /data/train": f"--config {tmp_path}/tiny.json",
        "/shared/runs/synco": str(run),
    }
    (tmp_path / "job.sh").write_text(documented("#!/bin/bash", changes))
    job = command("sbatch", "--parsable", f"{tmp_path}/job.sh")
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(metrics(run)) > 5)
    command("scancel", "--signal=USR1", "--batch", job)
    wait_until(lambda: bool(saved_steps(run)))
    assert 5 < saved_steps(run)[0] < 80, "it saved when it was told to leave"
    wait_until(lambda: states(job) == {"COMPLETED"})
    assert [finish(one) for one in start_ranks(2, train, config.to_json(), str(whole))] == [0, 0]
    assert_same_run(run, whole)


def test_the_array_of_the_documentation_generates_one_set(
    slurm: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)  # for the logs
    generate = f"syn2co generate --generator fitted --real {image_folder} --size 16 --set work.shard_size=10 --count 35"
    changes = {
        "sbatch --array=1-8": "sbatch --parsable --array=1-3",
        "syn2co generate --generator fitted --real /data/train --count 100000": generate,
        "/shared/fitted": "fitted",
    }
    line = documented("sbatch --array", changes).partition("\n")[0]
    job = command("bash", "-c", line)
    wait_until(lambda: states(job) == {"COMPLETED"})
    command("syn2co", "verify", "fitted")
    command(*generate.split(), "--out", "alone")
    assert_same_set(tmp_path / "fitted", tmp_path / "alone")


def test_submitit_resumes_a_preempted_callable_from_its_checkpoint(
    executor: submitit.AutoExecutor, tmp_path: Path
) -> None:
    file = tmp_path / "turn"
    job = executor.submit(Turns(file))
    wait_until(file.exists)
    command("scancel", "--signal=USR2", job.job_id)
    wait_until(job.done)
    assert job.result() == (2, "1")  # its second turn, in a job that SLURM has restarted once
    log = job.stdout()
    assert log is not None and log.index("Calling checkpoint method") < log.index("Job completed successfully")


def test_nothing_is_left_behind(slurm: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    before = os.environ["SLURM_CONF"]
    with slurm_node.slurm_node() as folder:  # a second one, beside that of the other tests
        assert os.environ["SLURM_CONF"] == f"{folder}/slurm.conf" != before
        submit(f"setsid sleep 1000 & echo $! > {pid}.part; mv {pid}.part {pid}; wait")
        wait_until(pid.exists)
        process = Path("/proc", pid.read_text().strip())
        assert process.exists()
    assert not process.exists()
    assert not folder.exists()
    assert os.environ["SLURM_CONF"] == before
    assert command("sinfo", "--noheader", "--format=%T") == "idle"


def test_start_that_fails_shows_the_logs(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_node, "CONFIG", slurm_node.CONFIG + "Nonsense=1\n")
    with (
        pytest.raises(SlurmUnavailable, match=r"(?s)did not start: .*slurmctld\.log.*Nonsense"),
        slurm_node.slurm_node(),
    ):
        pass


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_node, "PROGRAMS", ("sh", "slurm-of-nowhere"))
    with pytest.raises(SlurmUnavailable, match=r"not installed \(no slurm-of-nowhere\)"), slurm_node.slurm_node():
        pass
