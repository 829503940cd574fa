"""What a run folder accepts and refuses, and what it keeps when something goes wrong."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from runs import assert_same_run, finish, interrupt_at, metrics, said, saved_steps, start, train, train_slowly
from tiny_images import write_images

from syn2co.core.errors import CheckpointError, ConfigError, DataError
from syn2co.pretraining.train import pretrain


def _train(config, out: Path) -> Path:
    pretrain(config, out=out, progress=False)
    return out


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory) -> Path:
    """A finished run of the tiny config; not to be written to."""
    return _train(tiny(), tmp_path_factory.mktemp("done") / "run")


@pytest.fixture
def copied(done, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(done, tmp_path / "run")


def _damage(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-100] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    "assignment, difference",
    [
        ("queue.size=64", r"queue.size = 60 there, 64 now"),
        ("seed=1", r"seed = 0 there, 1 now"),
        ("encoder.options.depth=3", r"encoder.options.depth = 2 there, 3 now"),
        ("encoder.options.depth=2.0", r"encoder.options.depth = 2 there, 2.0 now"),
        ("encoder.options.mlp_ratio=null", r"encoder.options.mlp_ratio = not set there, null now"),
        ("optimizer.clip=null", r"optimizer.clip = 5.0 there, null now"),
    ],
)
def test_defect_12_a_folder_of_another_config_is_refused(assignment, difference, tiny, copied):
    """The released code lets two experiments share a folder and resume each other in silence."""
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(
        ConfigError, match=rf"--out run: holds a run of another config \({difference}\); choose another"
    ):
        _train(tiny(assignment), copied)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_machine_settings_may_change(tiny, copied):
    _train(tiny("machine.log_steps=3", "machine.keep=5", "machine.save_steps=1"), copied)


def test_a_runs_own_config_repeats_it(tiny, done, tmp_path):
    pretrain(done / "config.json", out=tmp_path / "again", progress=False)
    assert_same_run(tmp_path / "again", done)
    saved = json.loads((done / "config.json").read_text())
    assert saved["hash"] == tiny().hash and saved["queue"] == {"size": 60}


def test_a_folder_of_other_things_is_refused(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="--out run: is not empty and holds no run; choose another folder"):
        _train(tiny(), tmp_path / "run")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


def test_the_config_of_something_else_is_refused_and_kept(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"architectures": ["ViTModel"]}')
    with pytest.raises(ConfigError, match="architectures: there is no such setting"):
        _train(tiny(), tmp_path / "run")
    assert "ViTModel" in (tmp_path / "run" / "config.json").read_text()


def test_a_file_in_the_place_of_the_folder(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=r"--out run: cannot be written \(File exists\); choose another folder"):
        _train(tiny(), tmp_path / "run")


def test_a_start_that_failed_does_not_bind_the_folder(tiny, tmp_path):
    with pytest.raises(DataError, match="26 images are fewer than training.batch = 32"):
        _train(tiny("training.batch=32"), tmp_path / "run")
    _train(tiny("training.steps=4"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["hash"] == tiny("training.steps=4").hash


def test_defect_12_two_runs_in_one_folder_at_the_same_time(tiny, done, tmp_path):
    run = tmp_path / "run"
    first = start(train_slowly, tiny().to_json(), str(run), 0.2)
    while not metrics(run):
        assert first.exitcode is None
    second = start(train, tiny().to_json(), str(run))
    assert finish(second) == 2
    assert said(second) == (
        "ConfigError: --out run: another run is writing to this folder; choose another one, or if that was killed on "
        "another machine and its lock is left, delete run/.lock\n"
    )
    with pytest.raises(ConfigError, match="--out run: another run is writing to this folder"):
        _train(tiny(), run)
    assert finish(first) == 0
    assert_same_run(run, done)


def test_a_damaged_newest_checkpoint_costs_only_its_steps(tiny, done, copied, capsys):
    assert saved_steps(copied) == [10, 12]
    _damage(copied / "checkpoints" / "step-000000012.safetensors")
    _train(tiny(), copied)
    note = "note: step-000000012.safetensors is damaged; resuming from an earlier checkpoint"
    assert note in capsys.readouterr().err
    assert_same_run(copied, done)


def test_all_checkpoints_damaged_is_an_error(tiny, copied):
    for path in (copied / "checkpoints").iterdir():
        _damage(path)
    with pytest.raises(CheckpointError, match=r"run: none of its checkpoints \(2\) is intact; start again in a new"):
        _train(tiny(), copied)


def test_other_images_than_at_the_start_are_refused(tiny, tmp_path):
    images = write_images(tmp_path / "images")
    config = tiny().with_settings([f'data.real=["{images}"]'])
    run = _train(config.with_settings(["training.steps=12"]), tmp_path / "run")
    path = sorted(images.rglob("*.png"))[3]
    path.rename(path.with_name("renamed.png"))
    sentence = (
        r"data.real: the images are not those that the run began with \(26 then, 26 now, or other names or sizes\)"
    )
    with pytest.raises(DataError, match=sentence):
        _train(config, run)
    path.with_name("renamed.png").unlink()
    with pytest.raises(DataError, match=r"\(26 then, 25 now, or other names or sizes\); restore them, or start a"):
        _train(config, run)


def test_images_may_move_to_another_place(tiny, tmp_path, monkeypatch):
    """Where they lie is no part of the config's hash; what they are is checked by the fingerprint."""
    here, there = (write_images(tmp_path / name) for name in ("here", "there"))
    whole = _train(tiny(f'data.real=["{here}"]'), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 7, signal.SIGTERM)
        _train(tiny(f'data.real=["{here}"]'), tmp_path / "run")
    assert_same_run(_train(tiny(f'data.real=["{there}"]'), tmp_path / "run"), whole, state=False)


def test_a_checkpoint_of_another_run_is_refused(tiny, copied, tmp_path):
    """Defect 12 by another door: a file that was copied into the run's folder."""
    other = _train(tiny("seed=3", "training.steps=4"), tmp_path / "other")
    for path in (copied / "checkpoints").iterdir():
        path.unlink()
    foreign = next((other / "checkpoints").iterdir())
    (copied / "checkpoints" / foreign.name).write_bytes(foreign.read_bytes())
    with pytest.raises(
        CheckpointError, match="is a checkpoint of a run with other settings .* take it out of this run"
    ):
        _train(tiny(), copied)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda t: t.pop("target.projector.0.bias"), "has no tensor 'target.projector.0.bias'; it is of another model"),
        (lambda t: t.update({"online.more": torch.zeros(1)}), "tensor 'online.more' is unknown to this model"),
        (
            lambda t: t.update({"target.projector.0.bias": torch.zeros(3, 2)}),
            r"has shape \[3, 2\] in the checkpoint, but",
        ),
        (
            lambda t: t.update({"queue2.keys": torch.zeros(50, 16)}),
            r"queue of shape \(50, 16\) in the checkpoint: must",
        ),
        (lambda t: t.pop("queue1.groups"), "holds no queue of view 1; it cannot be resumed"),
        (lambda t: t.update({"queue1.pointer": torch.tensor(60)}), "queue: its pointer 60 is no slot of 60 in the"),
        (lambda t: t.update({"queue1.pointer": torch.empty(0)}), "queue: its keys, groups or pointer are of another"),
        (
            lambda t: t.update({"target.projector.0.bias": torch.zeros(32, dtype=torch.int64)}),
            "tensor 'target.projector.0.bias' is of int64 in the checkpoint, but of float32 in this model",
        ),
        (
            lambda t: t.update({"optimizer.projector.0.bias.step": torch.empty(0)}),
            "optimizer.projector.0.bias: is not the state of AdamW in the checkpoint; give an earlier one",
        ),
        (
            lambda t: t.update({"optimizer.projector.0.bias.exp_avg": torch.zeros(32).double()}),
            "optimizer.projector.0.bias: is not the state of AdamW in the checkpoint; give an earlier one",
        ),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(change, sentence, tiny, copied):
    from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

    found = load_checkpoint(copied)
    change(found.tensors)
    save_checkpoint(copied, 12, found.tensors, found.state, keep=2)
    with pytest.raises(CheckpointError, match=sentence):
        _train(tiny(), copied)


@pytest.mark.parametrize(
    ("forged", "sentence"),
    [
        ({"steps_per_epoch": 4}, "has steps_per_epoch = 4, and this run 3; it was changed after it was written"),
        ({"total_steps": 99}, "has total_steps = 99, and this run 12; it was changed after it was written"),
        (None, r"holds no state of a run \(it does not fit: total_steps: field required\); take it out of this folder"),
    ],
)
def test_a_forged_state_is_refused(forged, sentence, tiny, copied):
    from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

    saved = load_checkpoint(copied)
    save_checkpoint(copied, 12, saved.tensors, {} if forged is None else saved.state | forged, keep=2)
    with pytest.raises(CheckpointError, match=sentence):
        _train(tiny(), copied)


def test_damaged_metrics_do_not_stop_a_resume(tiny, done, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 7, signal.SIGTERM)
        _train(tiny(), run)
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([*lines[:2], b'{"loss": "\xff"}\n', b'{"epoch": 1}\n', *lines[2:]]))
    assert_same_run(_train(tiny(), run), done)
    assert "metrics.jsonl: 2 lines are damaged and are left out" in capsys.readouterr().err


def test_another_machine_is_reported(tiny, copied, capsys):
    from syn2co.runtime.checkpoint import load_checkpoint, save_checkpoint

    found = load_checkpoint(copied)
    found.state["machine"] |= {"threads": 7, "torch": "1.0"}
    save_checkpoint(copied, 12, found.tensors, found.state, keep=2)
    _train(tiny(), copied)
    said = capsys.readouterr().err
    assert "note: resumed on another machine, so the last bits may differ: torch 1.0 -> " in said
    assert "threads 7 -> 1" in said


def test_broken_images_are_listed_in_the_run_folder(tiny, tmp_path):
    images = write_images(tmp_path / "images")
    (images / "class-0" / "00.png").write_bytes(b"no image")
    config = tiny(f'data.real=["{images}"]', "data.max_broken_share=0.1", "training.steps=4")
    run = _train(config, tmp_path / "run")
    (line,) = (run / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "0:class-0/00.png"
    strict, other = config.with_settings(["data.max_broken_share=0"]), tmp_path / "other"
    with pytest.raises(DataError, match=rf"1 of 26 images .*; all are listed in {other}/quarantine.jsonl\); fix"):
        _train(strict, other)
    (line,) = (other / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "0:class-0/00.png"
    with pytest.raises(DataError, match=f"{tmp_path / 'auto'}/quarantine.jsonl"):
        pretrain(out=tmp_path / "auto", real=images, settings="data.max_broken_share=0", progress=False)
    write_images(images)
    _train(strict, other)
    assert not (other / "quarantine.jsonl").exists()


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("ballast, tensorboard", [(0, False), (1, False), (1, True), (2, True)])
def test_a_full_disk_stops_the_run_and_loses_nothing(ballast, tensorboard, tiny, done, small_disk):
    """Full at a save, at a line of the metrics, or before the run has its folder."""
    config = tiny("machine.save_steps=3", f"machine.tensorboard={tensorboard}")
    run = small_disk / "run"
    if ballast:
        assert finish(start(_train_and_stop, config.to_json(), str(run))) == 143
    free = 0 if ballast == 2 else 100_000
    with open(small_disk / "ballast", "wb") as file:
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        file.write(bytes(max(0, room - free)))
    process = start(train, config.to_json(), str(run))
    assert finish(process) == 2
    assert said(process).count("\n") == 1 and "Error: " in said(process)
    assert "pace left on " in said(process) or "space is left on" in said(process)
    if ballast:
        assert saved_steps(run) == [3, 4]
    (small_disk / "ballast").unlink()
    assert finish(start(train, config.with_settings(["machine.keep=2"]).to_json(), str(run))) in (0, 2)
    if ballast and saved_steps(run)[-1] == 12:
        assert_same_run(run, done)


def _train_and_stop(config: str, out: str) -> None:
    import syn2co.pretraining.loop as loop

    take, passed = loop.training_step, []

    def stopped(*args, **named):
        passed.append(None)
        if len(passed) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(*args, **named)

    loop.training_step = stopped
    train(config, out)
