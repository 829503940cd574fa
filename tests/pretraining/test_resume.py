"""A run that was stopped, by a signal, a kill or a failure, ends bit for bit like one that was not."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from runs import (
    IN_A_SAVE,
    KernelRuns,
    assert_same_run,
    finish,
    interrupt_at,
    metrics,
    said,
    saved_steps,
    start,
    train,
    train_and_die,
    train_slowly,
)  # fmt: skip
from tiny_images import write_images

from syn2co.core import keyed_rng
from syn2co.core.errors import DataError
from syn2co.data import loader
from syn2co.evaluation.crops import CropReader
from syn2co.images.image_set import ImageSet

STEPS = 12  # of the tiny config: four epochs of three
LONG = ("training.steps=40", "machine.save_steps=3", "training.micro_batches=2")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory) -> Path:
    """The tiny config, never interrupted."""
    return _train(tiny(), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def long(tiny, tmp_path_factory) -> Path:
    """Forty steps of two micro-batches, never interrupted."""
    return _train(tiny(*LONG), tmp_path_factory.mktemp("long") / "run")


def _train(config, out: Path) -> Path:
    from syn2co.pretraining.train import pretrain

    pretrain(config, out=out, progress=False)
    return out


def test_stopping_after_every_step_changes_nothing(tiny, whole, tmp_path, monkeypatch):
    for stop in range(1, STEPS):
        assert _stopped(tiny(), tmp_path / "run", stop, monkeypatch) == 143
    assert_same_run(_train(tiny(), tmp_path / "run"), whole)


def _stopped(config, run: Path, stop: int, monkeypatch) -> int:
    """Go on with a run until a signal in the step `stop`, and return the exit status."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        interrupt_at(patch, stop - 1 - max(saved_steps(run), default=0), signal.SIGTERM)
        _train(config, run)
    assert saved_steps(run)[-1] == stop
    return left.value.code


def test_equal_runs_are_equal_files(tiny, tmp_path):
    runs = [_train(tiny("training.steps=3", "negatives.start=0"), tmp_path / name) for name in ("one", "two")]
    one, two = ((run / "checkpoints" / "step-000000003.safetensors").read_bytes() for run in runs)
    assert one == two


def test_the_number_of_workers_may_change_at_a_restart(tiny, whole, tmp_path, monkeypatch):
    for stop, workers in ((4, 2), (7, 0), (10, 4)):
        _stopped(tiny(f"machine.workers={workers}"), tmp_path / "run", stop, monkeypatch)
    assert_same_run(_train(tiny("machine.workers=1"), tmp_path / "run"), whole)


def test_workers_change_nothing_in_a_run(tiny, whole, tmp_path):
    assert_same_run(_train(tiny("machine.workers=4"), tmp_path / "run"), whole)


def test_a_stop_between_two_log_lines_keeps_the_open_averages(tiny, tmp_path, monkeypatch):
    config = tiny("machine.log_steps=5")
    whole = _train(config, tmp_path / "whole")
    assert [record["step"] for record in metrics(whole)] == [5, 10, 12]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 7, signal.SIGTERM)
        _train(config, tmp_path / "run")
    assert_same_run(_train(config, tmp_path / "run"), whole)


def test_how_often_is_saved_changes_nothing(tiny, whole, tmp_path):
    assert_same_run(_train(tiny("machine.save_steps=1", "machine.keep=4"), tmp_path / "run"), whole)
    assert saved_steps(tmp_path / "run") == [9, 10, 11, 12]


def test_online_knn_changes_nothing_in_the_weights(tiny, image_folder, whole, tmp_path):
    from runs import assert_same_tensors

    from syn2co.runtime.checkpoint import load_checkpoint

    held_out = write_images(tmp_path / "held out", seed=1)
    knn = tiny("online_knn.every_epochs=1", f'online_knn.train=["{image_folder}"]', f'online_knn.test=["{held_out}"]')
    run = _train(knn, tmp_path / "run")
    assert_same_tensors(load_checkpoint(run).tensors, load_checkpoint(whole).tensors)
    assert [record["step"] for record in metrics(run) if "knn" in record] == [3, 6, 9, 12]


# --- early stopping ----------------------------------------------------------------------------------------------

SCORES = {3: 40.0, 6: 50.0, 9: 50.0, 12: 30.0, 15: 60.0}
"""Online k-NN score after each epoch of three steps: with a patience of 2 it stands still at step 12."""


@pytest.fixture
def patient(tiny, image_folder, tmp_path, monkeypatch):
    """`patient("a.b=c")`: a config of 24 steps with a patience of 2; its scores are those of `SCORES`."""
    import syn2co.pretraining.observers as observers

    due = observers.OnlineKnn.due
    step = 0

    def noting(self, now, *rest):
        nonlocal step
        step = now
        return due(self, now, *rest)

    monkeypatch.setattr(observers.OnlineKnn, "due", noting)
    monkeypatch.setattr(observers.OnlineKnn, "score", lambda self, encoder: SCORES.get(step, 0.0))
    held_out = write_images(tmp_path / "held out", seed=1)
    knn = (f'online_knn.train=["{image_folder}"]', f'online_knn.test=["{held_out}"]', "online_knn.every_epochs=1")
    return lambda *more: tiny("training.steps=24", *knn, "online_knn.patience=2", *more)


def test_a_run_stops_early_and_is_finished(patient, tmp_path):
    from syn2co.diagnostics.doctor import doctor
    from syn2co.pretraining.train import pretrain

    run = tmp_path / "run"
    done = pretrain(patient(), out=run, progress=False)
    assert (done.steps, done.metrics["step"], saved_steps(run)[-1]) == (12, 12, 12)
    assert [record["step"] for record in metrics(run) if "knn" in record] == [3, 6, 9, 12]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    again = pretrain(patient(), out=run, progress=False)
    assert again.steps == 12 and {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    found = doctor(run)
    assert "stopped early" in found.checks and "unfinished" not in found.checks
    assert "stopped early: no better k-NN in 2 scores; step 12 of 24" in found.text()
    assert pretrain(patient("online_knn.patience=3"), out=tmp_path / "longer", progress=False).steps == 24, (
        "15 is better"
    )


def test_a_run_that_stops_early_resumes_with_the_scores_that_it_had(patient, tmp_path, monkeypatch):
    whole = _train(patient(), tmp_path / "whole")
    for stop in (5, 9, 10, 11, 12):  # at 12 the signal comes with the stop: all is done, and it is not lost
        _stopped(patient(), tmp_path / "run", stop, monkeypatch)
    assert_same_run(_train(patient(), tmp_path / "run"), whole)


def test_scores_before_the_change_to_real_images_do_not_count(patient, image_folder, tmp_path):
    """Synthetic up to step 9: of the scores .., 50, 30, 60, 0, 0 those from step 12 on count, and 21 is the end."""
    then = ("mix.then=0.375", 'data.synthetic=["procedural:mix:30:16"]')
    run = _train(patient(*then), tmp_path / "run")
    assert json.loads((run / "mix.json").read_text())["switch_step"] == 9
    assert saved_steps(run)[-1] == 21


def test_a_finished_run_is_left_as_it_is(tiny, whole):
    from syn2co.pretraining.train import pretrain

    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = pretrain(tiny(), out=whole, progress=False)
    assert done.steps == STEPS
    assert done.metrics["step"] == STEPS
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_defect_03_schedules_go_on_from_the_saved_step(tiny, whole, tmp_path, monkeypatch):
    """The released code counts the steps of the target's momentum from zero after a restart."""
    from syn2co import objective

    seen: list[int] = []
    momentum = objective.ema_momentum
    monkeypatch.setattr(objective, "ema_momentum", lambda step, **rest: seen.append(step) or momentum(step, **rest))
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 4, signal.SIGTERM)
        _train(tiny(), tmp_path / "run")
    _train(tiny(), tmp_path / "run")
    assert seen == list(range(STEPS))


def test_defect_02_the_window_opens_at_its_step_after_any_restart(tiny, tmp_path, monkeypatch):
    """The released code counts the window in steps of this process: after one restart it may never open."""
    config = tiny("negatives.start=2.0", "negatives.stop=3.0")
    for stop in (2, 5, 8):
        _stopped(config, tmp_path / "run", stop, monkeypatch)
    _train(config, tmp_path / "run")
    assert [record["step"] for record in metrics(tmp_path / "run") if record["synthetic"]] == [7, 8, 9]


# --- kills -----------------------------------------------------------------------------------------------------

ELSEWHERE = ("before a micro-batch", "before the enqueue", "after the enqueue", "before a save", "after a save")
LATEST = {  # so that a run of 40 steps, saved every third, passes each point often enough before it ends
    "half a file": 2, "before a flush": 5, "before a rename": 2, "after a rename": 2, "before a deletion": 2,
    "before a micro-batch": 9, "before the enqueue": 9, "after the enqueue": 9,
    "before a save": 2, "after a save": 2,
}  # fmt: skip


def test_a_signal_in_the_last_step_is_not_lost(tiny, tmp_path, monkeypatch):
    """The run is done and saved; whoever called it must still hear that it is time to leave."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="143"):
        interrupt_at(patch, STEPS - 1, signal.SIGTERM)
        _train(tiny(), tmp_path / "run")
    assert saved_steps(tmp_path / "run")[-1] == STEPS


def test_a_run_killed_ten_times_ends_like_one_that_was_not(tiny, long, tmp_path):
    """Kills of real processes at keyed moments, one at each point; a kill inside a save loses no earlier checkpoint."""
    draws, run, saved = keyed_rng.generator("kills", 0), tmp_path / "run", 0
    for attempt, point in enumerate(draws.permutation([*IN_A_SAVE, *ELSEWHERE])):
        config = tiny(*LONG, f"machine.workers={2 * (attempt % 2)}")
        number = int(draws.integers(2, LATEST[str(point)], endpoint=True))
        assert finish(start(train_and_die, config.to_json(), str(run), str(point), number)) == -signal.SIGKILL
        assert saved <= (saved := max(saved_steps(run), default=0)) < 40, point
    assert finish(start(train, tiny(*LONG).to_json(), str(run))) == 0
    assert_same_run(run, long)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-000000039.safetensors", "step-000000040.safetensors",
    ]  # fmt: skip


def test_kills_from_outside_at_keyed_moments(tiny, whole, tmp_path):
    draws, run, kills = keyed_rng.generator("kills from outside", 0), tmp_path / "run", 0
    config = tiny("machine.save_steps=1", "machine.workers=2").to_json()
    for _ in range(2):
        process = start(train_slowly, config, str(run), 0.1)
        before = saved_steps(run)
        _wait_for(lambda before=before: saved_steps(run)[-1:] > before[-1:], process)
        time.sleep(float(draws.uniform(0.0, 0.2)))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        kills += finish(process) == -signal.SIGKILL
    assert kills == 2
    assert finish(start(train, config, str(run))) == 0
    assert_same_run(run, whole)


def _wait_for(condition, process, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.exitcode is None, f"the process ended with {process.exitcode}"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_leaves(number, code, tiny, whole, tmp_path):
    """To the whole process group, as a terminal and cluster schedulers send it: loading processes must not mind."""
    run, config = tmp_path / "run", tiny("machine.save_steps=1000", "machine.workers=2").to_json()
    process = start(_train_in_a_group, config, str(run))
    _wait_for(lambda: len(metrics(run)) >= 2, process)
    assert process.pid is not None
    os.killpg(process.pid, number)
    assert finish(process) == code
    assert saved_steps(run) == [metrics(run)[-1]["step"]]
    assert saved_steps(run)[0] < STEPS
    assert said(process).strip() == ""  # a line break after Ctrl-C
    assert finish(start(train, tiny().to_json(), str(run))) == 0
    assert_same_run(run, whole)


def _train_in_a_group(config: str, out: str) -> None:
    os.setpgrp()
    train_slowly(config, out, 0.1)


def _vanish(images: Path) -> None:
    images.rename(images.with_name("elsewhere"))


def _kill(images: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(images: Path) -> None:
    """As on a disk that does not answer; somebody then ends the run."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("act, kind", [(_vanish, DataError), (_kill, DataError), (_stop, SystemExit)])
def test_the_state_is_saved_when_no_images_come(act, kind, tiny, image_folder, tmp_path, monkeypatch):
    """In the fourth step, while its second micro-batch is loaded."""
    shutil.copytree(image_folder, tmp_path / "images")
    config = tiny(f'data.real=["{tmp_path / "images"}"]', "machine.cache=never", "machine.save_steps=1000",
                  "machine.workers=1", "training.micro_batches=2", "training.steps=5")  # fmt: skip
    expected = _train(config, tmp_path / "whole")
    one_view, seen = loader.one_view, list[None]()

    def view(*args, **named):
        seen.append(None)
        if len(seen) == 3 * 16 + 11:  # 16 views a step
            act(tmp_path / "images")
        return one_view(*args, **named)

    with monkeypatch.context() as patch, pytest.raises(kind):
        patch.setattr(loader, "one_view", view)
        _train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == [3] == [metrics(tmp_path / "run")[-1]["step"]]
    if act is _vanish:
        (tmp_path / "elsewhere").rename(tmp_path / "images")
    assert_same_run(_train(config, tmp_path / "run"), expected)


@pytest.mark.parametrize("kind", [DataError, SystemExit])
def test_a_run_that_ends_in_a_score_scores_when_it_goes_on(kind, tiny, image_folder, tmp_path, monkeypatch):
    """Images of the score vanish, or a signal comes while they are read: after step 3, when no checkpoint is due."""
    bank, queries = (shutil.copytree(image_folder, tmp_path / "bank"), write_images(tmp_path / "queries", seed=1))
    config = tiny(f'online_knn.train=["{bank}"]', f'online_knn.test=["{queries}"]', "online_knn.every_epochs=1",
                  "machine.save_steps=1000", "training.steps=4")  # fmt: skip
    expected = _train(config, tmp_path / "whole")
    fill = CropReader.fill

    def ending(*args):
        if kind is SystemExit:
            os.kill(os.getpid(), signal.SIGTERM)
        elif bank.exists():
            bank.rename(tmp_path / "elsewhere")
        return fill(*args)

    monkeypatch.setattr(ImageSet, "cached", False)
    monkeypatch.setattr(ImageSet, "read", lambda self, index: self.decoded(index, self.load(index)))
    with monkeypatch.context() as patch, pytest.raises(kind):
        patch.setattr(CropReader, "fill", ending)
        _train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == [3]
    assert not any("knn" in record for record in metrics(tmp_path / "run"))
    if kind is DataError:
        (tmp_path / "elsewhere").rename(bank)
    assert_same_run(_train(config, tmp_path / "run"), expected)


def test_a_killed_run_with_loading_processes_can_be_restarted_at_once(tiny, tmp_path):
    """Neither the lock nor the loading processes outlive it (hundreds of them once filled a machine's memory)."""
    run, config = tmp_path / "run", tiny("machine.workers=2").to_json()
    process = start(train_slowly, config, str(run), 0.05)
    _wait_for(lambda: len(metrics(run)) >= 1, process)
    assert process.pid is not None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    orphans = [int(child) for child in children.read_text().split()] if children.exists() else []
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    end = time.monotonic() + 5
    while any(map(_alive, orphans)):
        assert time.monotonic() < end, "a loading process outlives the run"
        time.sleep(0.02)
    assert len(orphans) == 2 or not children.exists()
    assert finish(start(train, config, str(run))) == 0


def _alive(pid: int) -> bool:
    """Whether the process still runs; one that is dead but not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_ctrl_c_leaves_at_once(tiny, tmp_path):
    process = start(train_slowly, tiny().to_json(), str(tmp_path / "run"), 2.0)
    _wait_for((tmp_path / "run" / "metrics.jsonl").exists, process)
    assert process.pid is not None
    for _ in range(2):
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
    assert finish(process, 10) == 130
    assert saved_steps(tmp_path / "run") == []


def test_a_kill_while_the_config_is_written_does_not_spoil_the_folder(tiny, tmp_path):
    run = tmp_path / "run"
    assert finish(start(train_and_die, tiny().to_json(), str(run), "before config.json", 1)) == -signal.SIGKILL
    assert sorted(path.name[:13] for path in run.iterdir()) == [".config.json.", ".lock"]
    assert finish(start(train, tiny().to_json(), str(run))) == 0
    assert json.loads((run / "config.json").read_text())["hash"] == tiny().hash


def test_a_torn_line_of_the_metrics_is_written_again(tiny, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 6, signal.SIGTERM)
        _train(tiny(), tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "loss": 3.0}\n{"step": 9, "lo')
    assert_same_run(_train(tiny(), tmp_path / "run"), whole)


def test_a_run_from_before_blocks_of_noise_keeps_its_draws(tiny, tmp_path, monkeypatch):
    """Named defect: it went on with other draws of kind 4 in silence. Blocks of 2 rows stand for the 512."""
    import syn2co.pretraining.method as method

    with monkeypatch.context() as patch:
        patch.setattr(method, "NOISE_BLOCK", 2)
        runs = KernelRuns(tiny("negatives.start=0", "negatives.noise=4", "training.steps=3"), tmp_path, patch)
        runs.check_former("noise_blocks", method, "NOISE_BLOCK", sys.maxsize)
