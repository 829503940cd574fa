# ruff: noqa: E501 - messages in one piece
"""The loop: what it refuses before the optimizer step, what it writes, and what a whole run does."""

import json
import math

import pytest
import torch
from runs import metrics, saved_steps
from tiny_images import write_images

from syn2co.core.errors import ConfigError, DataError, TrainingError
from syn2co.data import training_data
from syn2co.pretraining import loop, preparation
from syn2co.pretraining import train as module
from syn2co.pretraining.config import load_config
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.train import pretrain
from syn2co.runtime.checkpoint import load_checkpoint

ADVICE = (
    "not finite, so the optimizer step was not taken; the images of the batch are listed in nonfinite-step-7.json; look at "
    "them, or start a new run with a lower optimizer.base_lr or a longer optimizer.warmup_epochs"
)


@pytest.fixture
def built(monkeypatch):
    """The models that runs build, newest last."""
    models: list[Syn2Co] = []
    monkeypatch.setattr(preparation, "Syn2Co", lambda *args: models.append(Syn2Co(*args)) or models[-1])
    return models


def _at_step(monkeypatch, step: int, change) -> None:
    """Call change(model, outcome) after the forward pass of a step; its result is the outcome that counts."""
    take = loop.training_step

    def changed(model, online, batch, place, *args, **named):
        outcome = take(model, online, batch, place, *args, **named)
        return change(model, outcome) if place.step == step else outcome

    monkeypatch.setattr(loop, "training_step", changed)


def _poison_gradient(model: Syn2Co, outcome):
    parameter = next(model.online.parameters())
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    return outcome


def _poison_loss(model: Syn2Co, outcome):
    outcome.measured["loss"] = torch.tensor(float("nan"))
    return outcome


@pytest.mark.parametrize(
    "change, bad", [(_poison_loss, "loss"), (_poison_gradient, "gradient_norm")], ids=["loss", "gradient"]
)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_what_is_not_finite_is_caught_before_the_step(change, bad, micro_batches, tiny, tmp_path, monkeypatch, built):
    _at_step(monkeypatch, 7, change)
    config = tiny("machine.save_steps=1", f"training.micro_batches={micro_batches}")
    with pytest.raises(TrainingError) as caught:
        pretrain(config, out=tmp_path / "run", progress=False)
    assert str(caught.value) == f"{bad} at step 7: {ADVICE}"
    saved = load_checkpoint(tmp_path / "run")
    assert saved.state["step"] == 7
    for name, parameter in built[0].online.named_parameters():
        assert torch.equal(parameter, saved.tensors[f"online.{name}"]), name
    assert all(parameter.isfinite().all() for parameter in built[0].parameters())
    if micro_batches == 1:
        for number, queue in enumerate(built[0].queues, start=1):
            assert torch.equal(queue.keys, saved.tensors[f"queue{number}.keys"]), "nothing was enqueued"
    found = json.loads((tmp_path / "run" / "nonfinite-step-7.json").read_text())
    from syn2co.data.loader import Schedule
    from syn2co.data.open import open_images

    schedule, images = Schedule(26, 8, micro_batches, 1, 0), open_images(config.data.real)
    expected = [index for part in schedule.keys(0, 7, 8) for _, index in part]
    listed = [image["index"] for image in found["images"]]
    assert listed == expected[: len(listed)] and len(listed) >= 8 / micro_batches
    assert [image["name"] for image in found["images"]] == [images.name(index) for index in listed]
    assert found["step"] == 7 and found["measured"][bad] in ("nan", "inf")


def test_weights_that_are_not_finite(tiny, tmp_path, monkeypatch, built):
    """A real one: a weight that overflowed spoils loss and gradient of the next step."""
    take = loop.training_step

    def spoiled(model, online, batch, place, *args, **named):
        if place.step == 7:
            with torch.no_grad():
                model.online.projector[0].weight[0, 0] = float("nan")
        return take(model, online, batch, place, *args, **named)

    monkeypatch.setattr(loop, "training_step", spoiled)
    with pytest.raises(TrainingError, match="loss and gradient_norm at step 7: not finite"):
        pretrain(tiny(), out=tmp_path / "run", progress=False)
    assert saved_steps(tmp_path / "run") == [5]


def test_mostly_masked_negatives_stop_the_run(tiny, tmp_path, monkeypatch):
    from syn2co.images.image_set import ImageSet

    opened = training_data.open_images

    def one_group(*args, **named) -> ImageSet:
        images = opened(*args, **named)
        images.groups = images.groups * 0
        return images

    monkeypatch.setattr(training_data, "open_images", one_group)
    sentence = (
        r"masked share at step 4: 53 % of all negatives are of the query's own group, more than half; lower queue.size"
    )
    with pytest.raises(TrainingError, match=sentence):
        pretrain(tiny(), out=tmp_path / "run", progress=False)
    done = pretrain(tiny("negatives.mask_groups=false"), out=tmp_path / "other", progress=False)
    assert done.metrics["masked_share"] == 0


def test_metrics_of_a_run(tiny, tmp_path):
    done = pretrain(tiny("machine.tensorboard=true"), out=tmp_path / "run", progress=False)
    records = metrics(tmp_path / "run")
    assert [record["step"] for record in records] == list(range(1, 13))
    assert done.steps == 12 and {name: done.metrics[name] for name in records[-1]} == records[-1]
    kinds = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
    for record in records:
        assert record["epoch"] == record["step"] / 3
        assert record["synthetic"] == (record["step"] > 3)
        assert math.isfinite(record["loss"]) and record["gradient_norm"] > 0
        assert 1 <= record["effective_rank"] <= 8
        assert all(
            (f"mass/{kind}" in record) == (f"hardness/{kind}" in record) == record["synthetic"] for kind in kinds
        )
        assert (record["loss"] > record["real_loss"]) == record["synthetic"]
    assert records[0]["uninformative"] == pytest.approx(2 * math.log(61))
    assert records[-1]["lr"] < records[4]["lr"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_run_learns(tiny, tmp_path):
    """Two constant groups of images are told apart: the loss falls well below the uninformative line."""
    config = tiny("training.steps=45", "encoder.drop_path=0", "optimizer.base_lr=0.1", "negatives.mask_groups=false")
    pretrain(config, out=tmp_path / "run", progress=False)
    records = metrics(tmp_path / "run")
    early, late = (sum(record["real_loss"] for record in part) / 6 for part in (records[:6], records[-6:]))
    assert late < early
    assert records[-1]["embedding_std"] > 0.3


def test_epochs_and_steps(tiny, tmp_path):
    done = pretrain(tiny("training.steps=null", "training.epochs=1.6"), out=tmp_path / "run", progress=False)
    assert done.steps == 5 == saved_steps(tmp_path / "run")[-1]


def test_every_argument_of_the_front_door(tiny, image_folder, tmp_path):
    """A recipe's name, a file, a config; images and settings on top of either."""
    small = [f"{path}={json.dumps(value)}" for path, value in {
        "views.size": 16, "encoder": tiny().encoder.model_dump(), "heads": {"hidden": 8, "width": 8},
        "queue.size": 60, "negatives.hardest": 8, "training.batch": 8, "training.steps": 3,
        "training.precision": "float32", "machine": tiny().machine.model_dump(),
    }.items()]  # fmt: skip
    done = pretrain("synco-cifar10", out=tmp_path / "a", real=[image_folder], settings=small, progress=False)
    assert done.steps == 3
    saved = json.loads((tmp_path / "a" / "config.json").read_text())
    assert saved["recipe"] == "synco-cifar10" and saved["data"]["real"] == [str(image_folder)]
    assert pretrain(str(tmp_path / "a" / "config.json"), out=tmp_path / "b", progress=False).steps == 3
    assert saved_steps(tmp_path / "b") == [3]
    with pytest.raises(ConfigError, match="data.real: names no images; give folders, tar files or builtin:photos with"):
        pretrain("moby-cifar10", out=tmp_path / "c")


def test_the_callers_torch_settings_come_back(tiny, tmp_path, monkeypatch):
    seen = []
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    monkeypatch.setattr(module, "_run", lambda *_: seen.append(torch.get_num_threads()))
    pretrain(tiny("machine.threads=2"), out=tmp_path / "run", progress=False)
    assert seen == [2] and torch.get_num_threads() == 1
    after = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    assert after == before


def test_signals_are_the_callers_again(tiny, tmp_path):
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    pretrain(tiny("training.steps=4"), out=tmp_path / "run", progress=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_training_outside_the_main_thread(tiny, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(pretrain, tiny("training.steps=4"), out=tmp_path / "run", progress=False).result()
    assert done.steps == 4


def test_an_image_that_vanishes_while_training(tiny, tmp_path, monkeypatch):
    from tiny_images import write_images

    images = write_images(tmp_path / "images")
    take = loop.training_step

    def vanishing(model, online, batch, place, *args, **named):
        if place.step == 5:
            for path in images.rglob("*.png"):
                path.unlink()
        return take(model, online, batch, place, *args, **named)

    monkeypatch.setattr(loop, "training_step", vanishing)
    config = tiny(f'data.real=["{images}"]', "machine.cache=never", "machine.save_steps=2")
    with pytest.raises(DataError, match=r"0:class-\d/\d\d.png"):
        pretrain(config, out=tmp_path / "run", progress=False)
    assert saved_steps(tmp_path / "run")[-1] in (6, 7)  # the next batch may lie ready


def test_defect_09_no_gpu_and_no_nccl_are_needed(tiny, tmp_path):
    """The released code requires CUDA and NCCL; this test, like all others, is a run on a CPU."""
    pretrain(tiny("training.steps=4"), out=tmp_path / "run", progress=False)
    assert load_checkpoint(tmp_path / "run").state["machine"]["device"] == "cpu"


def test_unlabeled_images_cannot_give_an_online_score(tiny, image_folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(image_folder.rglob("*.png"))):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    config = tiny(
        "online_knn.every_epochs=1", f'online_knn.train=["{image_folder}"]', f'online_knn.test=["{flat}"]',
    )  # fmt: skip
    with pytest.raises(DataError, match="online_knn: --test: none of the 26 images has a label"):
        pretrain(config, out=tmp_path / "run", progress=False)
    config = config.with_settings([f'online_knn.test=["{image_folder}"]'])
    with pytest.raises(DataError, match="online_knn: .*given as --train and as --test"):
        pretrain(config, out=tmp_path / "run", progress=False)


def test_the_optimizer_takes_each_step_at_its_learning_rate(tiny, tmp_path, monkeypatch):
    """Step s, counted from 0, runs at lr(s): metrics.jsonl computes the rate anew and could not show a shift."""
    taken: list[float] = []
    real = torch.optim.AdamW.step

    def step(self, *args, **named):
        taken.append(self.param_groups[0]["lr"])
        assert len({group["lr"] for group in self.param_groups}) == 1
        return real(self, *args, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    config = tiny()
    pretrain(config, out=tmp_path / "run", progress=False)
    scale = config.training.batch / 512
    peak, start, end = (scale * rate for rate in (0.02, 5e-7, 5e-6))
    expected = [
        start + (peak - start) * s / 3 if s < 3 else end + (peak - end) * (1 + math.cos(math.pi * s / 12)) / 2
        for s in range(12)
    ]
    assert taken == pytest.approx(expected)


def test_real_replaces_the_images_of_the_config(tiny, tmp_path):
    other = write_images(tmp_path / "other", 20)
    run = pretrain(tiny("training.steps=3"), out=tmp_path / "run", real=[other], progress=False)
    assert load_config(run.folder / "config.json").data.real == (str(other),)
    assert load_checkpoint(run.folder).state["images"] == 20


def test_files_that_are_no_images_are_counted(tiny, tmp_path, capsys):
    images = write_images(tmp_path / "images")
    for name in ("a.heic", "b.txt", "c.txt"):
        (images / name).write_text("")
    pretrain(tiny("training.steps=4"), out=tmp_path / "run", real=[images], progress=True)
    said = capsys.readouterr().err
    assert "note: 2 files of the sources are no images by their names and are passed over" in said
    assert "passed over: .heic files, a format that" in said


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_other_precisions(precision, tiny, tmp_path):
    pretrain(
        tiny(f"training.precision={precision}", "machine.emulate_bfloat16=true"), out=tmp_path / "run", progress=False
    )
    stored = load_checkpoint(tmp_path / "run").tensors["online.projector.0.weight"].dtype
    assert stored == (torch.float64 if precision == "float64" else torch.float32)


def test_a_checkpoint_is_written_at_least_every_so_many_minutes(tiny, tmp_path):
    config = tiny("machine.save_steps=1000", "machine.save_minutes=0.000001", "machine.keep=20", "training.steps=6")
    pretrain(config, out=tmp_path / "run", progress=False)
    assert saved_steps(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_is_written_once_an_epoch_if_nothing_is_said(tiny, tmp_path):
    pretrain(tiny("machine.save_steps=null", "machine.keep=20"), out=tmp_path / "run", progress=False)
    assert saved_steps(tmp_path / "run") == [3, 6, 9, 12]


def test_a_long_warm_up_is_noted_once(tiny, tmp_path, capsys):
    """12 steps of 3 per epoch: 6 are half, 7 are more. A resumed run is not told again."""
    from syn2co.pretraining.train import pretrain

    pretrain(tiny("optimizer.warmup_epochs=2"), out=tmp_path / "half", progress=False)
    assert "warmup" not in capsys.readouterr().err
    long = tiny("optimizer.warmup_epochs=3")
    for told in (True, False):
        pretrain(long, out=tmp_path / "long", progress=False)
        said = capsys.readouterr().err
        assert (
            "optimizer.warmup_epochs = 3 is 9 of 12 steps, and then the learning rate falls 6.8-fold" in said
        ) == told


def test_one_source_is_no_list_of_letters(tiny, image_folder, tmp_path):
    from syn2co.pretraining.config import load_config
    from syn2co.pretraining.train import pretrain

    small = tiny("training.steps=1", "negatives.start=0")
    for number, source in enumerate((str(image_folder), image_folder, [image_folder])):
        run = pretrain(small, out=tmp_path / str(number), real=source, settings="seed=3", progress=False)
        config = load_config(run.folder / "config.json")
        assert (config.data.real, config.seed) == ((str(image_folder),), 3)
