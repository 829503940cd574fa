"""`pretrain --extend`: a finished run made longer goes on with the schedules of the longer run, bit for bit again."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from syn2co.core.errors import CheckpointError, ConfigError
from syn2co.pretraining.config import load_config
from syn2co.pretraining.extension import EXTENSIONS, Extend, extensions
from syn2co.pretraining.train import pretrain
from syn2co.runtime.checkpoint import newest_checkpoint

LONGER = ("training.steps=20",)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps; not to be written to."""
    return pretrain(tiny(), out=tmp_path_factory.mktemp("extension") / "run", progress=False).folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def records(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_the_schedules_are_those_of_the_longer_run(run: Path, tiny, tmp_path: Path, capsys) -> None:
    before = records(run)
    assert pretrain(Extend(), out=run, settings=LONGER, progress=False).steps == 20
    assert "note: made longer at step 12, to 20 steps: the rate goes from" in capsys.readouterr().err
    whole = pretrain(tiny(*LONGER), out=tmp_path / "whole", progress=False).folder
    assert load_config(run / "config.json").hash == load_config(whole / "config.json").hash
    after, longer = records(run), records(whole)
    assert after[:12] == before and [line["step"] for line in after] == list(range(1, 21))
    assert [line["lr"] for line in after[12:]] == [line["lr"] for line in longer[12:]]
    assert before[11]["lr"] < after[12]["lr"]


def test_a_longer_run_that_was_killed_ends_bit_for_bit_like_one_that_was_not(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    pretrain(Extend(), out=run, settings=LONGER, progress=False)
    for path in pretrain(Extend(), out=other, settings=LONGER, progress=False).folder.glob("checkpoints/*20*"):
        path.unlink()
    assert pretrain(Extend(), out=other, settings=LONGER, progress=False).steps == 20  # the same call resumes
    ends = [newest_checkpoint(folder) for folder in (run, other)]
    assert ends[0] is not None and ends[1] is not None and ends[0].state["step"] == 20
    assert all(torch.equal(tensor, ends[1].tensors[name]) for name, tensor in ends[0].tensors.items())


def test_a_run_may_be_made_longer_twice(run: Path) -> None:
    hashes = [load_config(run / "config.json").hash]
    for steps in (14, 16):
        assert pretrain(Extend(), out=run, settings=f"training.steps={steps}", progress=False).steps == steps
        hashes.append(load_config(run / "config.json").hash)
    assert extensions(run) == {hashes[0]: 12, hashes[1]: 14}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("training.steps=12", "machine.log_steps=2"), None),
        (("training.steps=8",), "--extend run: 8 steps are no more than the 12 that are done; raise training.steps"),
        (
            ("training.steps=null", "training.epochs=3"),
            "9 steps are no more than the 12 that are done; raise train",
        ),
        (("training.steps=20", "seed=1"), "--extend run: only training.epochs, training.steps and machine may change"),
        (("training.steps=20", "training.batch=4"), "only training.epochs, training.steps and machine may change"),
    ],
)
def test_only_the_length_may_change(run: Path, settings: tuple[str, ...], sentence: str | None) -> None:
    if sentence is None:
        assert pretrain(Extend(), out=run, settings=settings, progress=False).steps == 12
        return
    with pytest.raises(ConfigError, match=sentence):
        pretrain(Extend(), out=run, settings=settings, progress=False)
    assert load_config(run / "config.json").training.steps == 12 and not (run / EXTENSIONS).exists()


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--extend none: there is no run in this folder; train one first"):
        pretrain(Extend(), out=tmp_path / "none", settings=LONGER, progress=False)
    for path in run.glob("checkpoints/*12*"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"--extend run: the run is not finished \(step 10 of 12\); resume it first"):
        pretrain(Extend(), out=run, settings=LONGER, progress=False)


def test_the_end_of_the_shorter_run_must_be_there(run: Path) -> None:
    (run / EXTENSIONS).write_text(json.dumps({load_config(run / "config.json").hash: 12}))
    (run / "config.json").write_text(load_config(run / "config.json").with_settings(LONGER).to_json())
    for path in run.glob("checkpoints/*12*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="is of step 10, and extensions.json says that the run was made longer"):
        pretrain(Extend(), out=run, settings=LONGER, progress=False)


def test_a_change_to_real_images_moves_with_the_length(run: Path) -> None:
    moved = load_config(run / "config.json").with_settings("mix.then=0.5")
    (run / "config.json").write_text(moved.to_json())
    with pytest.raises(ConfigError, match="mix.then = 0.5: the change to real images moves with the length"):
        pretrain(Extend(), out=run, settings=LONGER, progress=False)


def test_a_run_that_stopped_early_is_told_apart(run: Path) -> None:
    knn = ['online_knn.train=["a"]', 'online_knn.test=["b"]', "online_knn.every_epochs=1", "online_knn.patience=1"]
    (run / "config.json").write_text(load_config(run / "config.json").with_settings(knn).to_json())
    for path in run.glob("checkpoints/*12*"):
        path.unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps({"step": step, "knn": 0.5}) + "\n" for step in (3, 6)))
    sentence = r"the run stopped early at step 10 of 12, .*patience = 1\); begin a new run with --init-from"
    with pytest.raises(ConfigError, match=sentence):
        pretrain(Extend(), out=run, settings=LONGER, progress=False)
