# ruff: noqa: E501 - messages in one piece
"""Supervised runs: the same images, views and steps with labels, by the same loop, as exact as the others."""

import io
import math
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_folders import paint
from runs import assert_same_run, finish, interrupt_at, metrics, saved_steps, start, start_ranks, train, train_and_die
from synthetic_folders import picture, variations_of, write_set

from syn2co.core.errors import CheckpointError, ConfigError, DataError
from syn2co.data.batch import Batch
from syn2co.models.load import load_encoder
from syn2co.pretraining.config import Config
from syn2co.pretraining.labels import ClassLabels
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.recipes import recipe
from syn2co.pretraining.step import StepPosition
from syn2co.pretraining.supervised import Supervised, unused_settings
from syn2co.pretraining.train import pretrain
from syn2co.runtime.checkpoint import load_checkpoint

KINDS = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
LABELED = ("training.objective=supervised", *(f"negatives.{kind}=0" for kind in KINDS))
LABELS = ClassLabels(np.array([2, 0, 1, 2]), ("a", "b", "c"))
STEPS = 12


@pytest.fixture(scope="session")
def labeled(tiny):
    """`labeled("a.b=c", ...)`: the tiny config with labels."""
    return lambda *assignments: tiny(*LABELED, *assignments)


@pytest.fixture(scope="module")
def whole(labeled, tmp_path_factory) -> Path:
    """The tiny config with labels, never interrupted."""
    return _train(labeled(), tmp_path_factory.mktemp("whole") / "run")


def _train(config: Config, out: Path) -> Path:
    pretrain(config, out=out, progress=False)
    return out


def _batch(rows: list[int]) -> Batch:
    views = np.random.default_rng(5).integers(0, 256, (2, len(rows), 16, 16, 3), dtype=np.uint8)
    ids = torch.tensor(rows)
    return Batch(torch.from_numpy(views), ids, ids, ids, torch.zeros(2, len(rows), dtype=torch.bool))


def _step(model: Supervised, batch: Batch):
    position = StepPosition(0, 0, 0, 0, len(batch.indices))
    return model.training_step(model.online, batch, position, negatives=False)


# --- the loss --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_mean_cross_entropy_of_both_views_with_the_label_of_the_index(smoothing, labeled):
    """Oracle: loops over views, images and classes, from the definition of smoothed targets."""
    config = labeled("training.precision=float64", "encoder.drop_path=0", f"supervised.label_smoothing={smoothing}")
    model, batch = Supervised(config, LABELS).train(), _batch([3, 1, 2])
    model.online.classifier.weight.data.mul_(50)  # logits that differ
    output, right, expected = _step(model, batch), 0, 0.0
    for view in batch.views:
        logits = model.online.classifier(model.online.encoder(model.online.encoder.preprocess(view)))
        for row, label in zip(logits.tolist(), [2, 0, 1], strict=True):
            log_sum = math.log(sum(math.exp(value) for value in row))
            for number, value in enumerate(row):
                target = smoothing / 3 + (1 - smoothing) * (number == label)
                expected -= target * (value - log_sum) / 6
            right += row.index(max(row)) == label
    assert output.loss.item() == pytest.approx(expected, abs=1e-12)
    assert float(output.measured["loss"]) == pytest.approx(expected, abs=1e-12)
    assert float(output.measured["top1"]) == pytest.approx(right / 6)
    assert abs(expected - math.log(3)) > 0.01, "logits that say nothing would hide a wrong label"


def test_first_loss_is_that_of_equal_logits(labeled):
    output = _step(Supervised(labeled(), LABELS).train(), _batch([0, 1, 2, 3]))
    assert output.loss.item() == pytest.approx(math.log(3), abs=0.1)
    assert float(output.measured["uninformative"]) == pytest.approx(math.log(3), abs=1e-6)


def test_both_views_are_trained_on(labeled):
    """A change of either view changes loss and gradient."""
    model, batch = Supervised(labeled("encoder.drop_path=0"), LABELS).train(), _batch([0, 1])
    losses = [_step(model, batch).loss.item()]
    for view in (0, 1):
        views = batch.views.clone()
        views[view] = 255 - views[view]
        losses.append(_step(model, batch._replace(views=views)).loss.item())
    assert len(set(losses)) == 3


def test_a_bfloat16_loss_is_computed_in_float32(labeled):
    output = _step(Supervised(labeled("training.precision=bfloat16"), LABELS).train(), _batch([0, 1]))
    assert output.loss.dtype == torch.float32


def test_encoder_starts_like_that_of_a_contrastive_run_and_has_its_drop_path(tiny, labeled):
    one, two = Syn2Co(tiny()), Supervised(labeled(), LABELS)
    other = two.online.encoder.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.online.encoder.state_dict().items())
    rates = [[layer.rate for layer in model.online.encoder.drop_layers] for model in (one, two)]
    assert rates[0] == rates[1] != []
    assert all(name.startswith("online.") for name in two.state_dict()) and two.queues == []


# --- settings --------------------------------------------------------------------------------------------------


def test_negatives_mean_nothing_with_labels(tiny):
    sentence = "negatives.interpolated = 3: means nothing with training.objective = supervised, which has no negatives; set all their counts to 0, or set contrastive"
    with pytest.raises(ConfigError, match=sentence):
        tiny("training.objective=supervised")


def test_smoothing_means_nothing_without_labels(tiny):
    sentence = "supervised.label_smoothing = 0.1: means nothing with training.objective = contrastive; set it to 0, or set supervised"
    with pytest.raises(ConfigError, match=sentence):
        tiny("supervised.label_smoothing=0.1")


def test_what_is_not_used_is_noted(labeled, tmp_path, capsys):
    unused = ["heads.hidden", "heads.width", "queue.size", "negatives.hardest", "negatives.start"]
    assert unused_settings(labeled()) == unused and unused_settings(recipe("supervised-cifar10")) == []
    pretrain(labeled("training.steps=1"), out=tmp_path / "run", progress=False)
    said = capsys.readouterr().err
    assert f"training.objective = supervised: {', '.join(unused)} are settings of contrastive training, and not" in said


def test_newer_settings_at_their_defaults_are_not_in_the_hash(tiny, monkeypatch):
    """Run folders from before there were labels keep their hash, and can be resumed; hashes recorded by commit 1c5fb84."""
    from syn2co.pretraining import config as module

    assert Config().hash == "efbf0eb233f86652"
    assert [recipe(name).hash for name in ("synco-cifar10", "syn2co-deit-s")] == [
        "7dc3a2a0a1f73f77",
        "ed50c20f632a45c3",
    ]
    config, labeled = Config(), Config.parse({"training": {"objective": "supervised"}})
    smoothed = labeled.with_settings(["supervised.label_smoothing=0.1"])
    assert len({config.hash, labeled.hash, smoothed.hash}) == 3
    hashes = config.hash, labeled.hash
    monkeypatch.setattr(module, "HASHED_WHEN_SET", ())
    assert config.hash != hashes[0] and labeled.hash != hashes[1]
    values: dict = {"training": {"a": 1, "b": 2}, "new": {"c": 3}, "d": 4}
    for name in ("training.a", "training.b", "new.c", "d"):
        module._leave_out_default(values, {"training": {"a": 1, "b": 0}, "new": {"c": 3}, "d": 4}, name)
    assert values == {"training": {"b": 2}}


# --- labels ----------------------------------------------------------------------------------------------------


def test_images_without_a_label_are_refused_with_their_count(labeled, image_folder, tmp_path):
    for number, path in enumerate(sorted(image_folder.rglob("*.png"))):
        target = tmp_path / "some" / ("cat" if number % 2 else "")
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{number}.png").write_bytes(path.read_bytes())
    sentence = r"data.real: 13 of 26 images have no label \(the first is 0:0.png\), and training.objective = supervised needs one of each; put the images into one folder per class, or set contrastive"
    with pytest.raises(DataError, match=sentence):
        _train(labeled(f'data.real=["{tmp_path / "some"}"]'), tmp_path / "run")


def test_one_class_leaves_nothing_to_tell_apart(labeled, tmp_path):
    paint(tmp_path / "one", {"red": 9})
    sentence = r"training.objective = supervised: all images are of one class \(red\), which leaves nothing to tell apart; add images of other classes, or set contrastive"
    with pytest.raises(DataError, match=sentence):
        _train(labeled(f'data.real=["{tmp_path / "one"}"]'), tmp_path / "run")


def _synthetic(folder: Path, *classes: str | None) -> Path:
    lines = [{"class": name, "labels": "used" if name else "none"} for name in classes]
    return write_set(folder, [picture(7, number) for number in range(len(classes))], lines)


def test_synthetic_images_of_the_same_classes_are_trained_on(labeled, tmp_path):
    made = _synthetic(tmp_path / "made", "class-1", "class-0", "class-2", "class-1")
    run = _train(labeled(f'data.synthetic=["{made}"]', "training.steps=3"), tmp_path / "run")
    state = load_checkpoint(run).state
    assert state["classes"] == ["class-0", "class-1", "class-2"] and state["mix"]["synthetic"] == 4
    assert all({"drawn_synthetic", "loss/real"} <= record.keys() for record in metrics(run))


def test_synthetic_images_of_other_classes_are_refused(labeled, tmp_path):
    made = _synthetic(tmp_path / "made", "class-1", "dog")
    sentence = r"data.synthetic: has 1 classes that no real image has \(dog\), so its labels are not those of data.real; give both the same class names, or train with training.objective=contrastive"
    with pytest.raises(DataError, match=sentence):
        _train(labeled(f'data.synthetic=["{made}"]'), tmp_path / "run")


def test_synthetic_images_without_classes_are_refused(labeled, tmp_path):
    made = _synthetic(tmp_path / "made", "class-1", None)
    with pytest.raises(DataError, match=r"data.synthetic: 1 of 2 images have no label \(the first is 1:0+1.png\)"):
        _train(labeled(f'data.synthetic=["{made}"]'), tmp_path / "run")


def test_a_view_that_is_replaced_keeps_the_label_of_its_real_image(labeled, image_folder, tmp_path):
    made = variations_of(tmp_path / "made", image_folder, 1)  # without classes
    run = _train(labeled(f'data.synthetic=["{made}"]', "mix.replace=1.0", "training.steps=2"), tmp_path / "run")
    assert [record["drawn_synthetic"] for record in metrics(run)] == [0.5, 0.5]


def _tar(path: Path, labels: str) -> Path:
    import cv2

    with tarfile.open(path, "w") as archive:
        for number, label in enumerate(labels):
            image = cv2.imencode(".png", picture(number))[1].tobytes()
            for name, body in ((f"{number:02d}.png", image), (f"{number:02d}.cls", label.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    return path


def test_other_labels_of_the_same_images_are_not_resumed_on(labeled, tmp_path):
    run, config = tmp_path / "run", labeled(f'data.real=["{tmp_path / "images.tar"}"]', "training.steps=2")
    _tar(tmp_path / "images.tar", "ab" * 6)
    _train(config, run)
    _tar(tmp_path / "images.tar", "ab" * 5 + "ba")
    sentence = "data.real: the labels are not those that the run began with, though the images are; restore them, or start a new run"
    with pytest.raises(DataError, match=sentence):
        _train(config, run)


# --- runs ------------------------------------------------------------------------------------------------------


def test_metrics_of_a_run(whole):
    records = metrics(whole)
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert set(records[0]) == {
        "step", "epoch", "loss", "uninformative", "top1", "feature_std", "gradient_norm", "effective_rank", "lr",
    }  # fmt: skip
    assert all(0 <= record["top1"] <= 1 for record in records)


def test_a_run_learns_colors(labeled, tmp_path):
    """Four colors, which a linear map of the pixels can tell apart."""
    paint(tmp_path / "colors", dict.fromkeys(("blue", "green", "red", "white"), 8))
    gentle = (
        "views.color_jitter_prob=0",
        "views.grayscale=0",
        "views.solarize=[0,0]",
        "training.steps=40",
        "optimizer.base_lr=0.2",
    )
    run = _train(labeled(f'data.real=["{tmp_path / "colors"}"]', *gentle), tmp_path / "run")
    assert metrics(run)[-1]["top1"] == 1.0 and metrics(run)[-1]["loss"] < 0.5 < metrics(run)[0]["loss"]


@pytest.mark.parametrize("stop", [1, 5, 8])
def test_stopping_changes_nothing(stop, labeled, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, stop - 1, signal.SIGTERM)
        _train(labeled(), tmp_path / "run")
    assert saved_steps(tmp_path / "run")[-1] == stop
    assert_same_run(_train(labeled("machine.workers=2"), tmp_path / "run"), whole)


@pytest.mark.parametrize("point, number", [("before a micro-batch", 8), ("after a rename", 2)])
def test_a_killed_run_ends_like_one_that_was_not(point, number, labeled, whole, tmp_path):
    run, config = tmp_path / "run", labeled().to_json()
    assert finish(start(train_and_die, config, str(run), point, number)) == -signal.SIGKILL
    assert 0 < max(saved_steps(run)) < STEPS
    assert finish(start(train, config, str(run))) == 0
    assert_same_run(run, whole)


def test_two_ranks_equal_one_in_float64(labeled, tmp_path):
    config = labeled("training.precision=float64", "training.steps=5", "training.micro_batches=2")
    alone = _train(config, tmp_path / "one")
    processes = start_ranks(2, train, config.to_json(), str(tmp_path / "two"))
    assert [finish(process) for process in processes] == [0, 0]
    one, two = load_checkpoint(alone).tensors, load_checkpoint(tmp_path / "two").tensors
    assert one.keys() == two.keys()
    assert max(float((one[name].double() - two[name].double()).abs().max()) for name in one) < 1e-9
    pairs = zip(metrics(alone), metrics(tmp_path / "two"), strict=True)
    assert max(abs(here[name] - there[name]) for here, there in pairs for name in ("loss", "top1")) < 1e-9


def test_online_knn_changes_nothing_in_the_weights(labeled, image_folder, whole, tmp_path):
    from runs import assert_same_tensors
    from tiny_images import write_images

    held_out = write_images(tmp_path / "held out", seed=1)
    knn = (
        "online_knn.every_epochs=2", f'online_knn.train=["{image_folder}"]', f'online_knn.test=["{held_out}"]',
    )  # fmt: skip
    run = _train(labeled(*knn), tmp_path / "run")
    assert_same_tensors(load_checkpoint(run).tensors, load_checkpoint(whole).tensors)
    assert [record["step"] for record in metrics(run) if "knn" in record] == [6, 12]


def test_the_encoder_of_a_run_can_be_loaded_and_says_that_labels_went_in(whole):
    encoder, tensors = load_encoder(whole), load_checkpoint(whole).tensors
    assert encoder.provenance["objective"] == "supervised"
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, tensors[f"online.encoder.{name}"])
    with pytest.raises(
        CheckpointError, match="branch = target: run was trained with labels and has none; use 'online'"
    ):
        load_encoder(whole, branch="target")


def test_a_contrastive_folder_is_not_taken_over(tiny, labeled, tmp_path):
    _train(tiny("training.steps=4"), tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run of another config"):
        _train(labeled("training.steps=4"), tmp_path / "run")
