"""The papers' linear protocol: one step by hand, what it learns from, and MoBY's variant of it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint, task_on
from torch import nn

from syn2co.core.errors import ConfigError
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.protocols import linear_augmented as module
from syn2co.evaluation.protocols.linear_augmented import (
    frozen_features,
    linear_augmented,
    linear_moby_as_released,
    optimizer_of,
    step,
)
from syn2co.evaluation.protocols.protocol import NotApplicable
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.training import TrainingBatch, trainable_copy
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.runtime.optimizer import set_lr

DEEP = TINY.model_copy(update={"options": {**TINY.options, "depth": 2}})
QUICK = {"linear_augmented": {"epochs": 30}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    train = paint(folder / "train", {"blue": 9, "green": 8, "red": 10})
    return train, paint(folder / "test", {"blue": 3, "green": 4, "red": 5}, seed=1)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(DEEP, seed=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_steps_by_hand(smoothing):
    """Nesterov, v <- 0.9 v + g and w <- w - lr (g + 0.9 v); g = (softmax - target)^T x / B, scaled down to norm 5."""
    draws = np.random.default_rng(0)
    features, labels = 20 * draws.normal(size=(6, 4)), draws.integers(0, 3, 6)
    head = nn.Linear(4, 3).double()
    weight = np.concatenate([head.weight.detach().numpy().T, head.bias.detach().numpy()[None]])
    optimizer = optimizer_of(head)
    set_lr(optimizer, 0.1)
    inputs, speed = np.concatenate([features, np.ones((6, 1))], axis=1), np.zeros((5, 3))
    clipped = []
    for _ in range(2):
        step(head, optimizer, torch.tensor(features), torch.tensor(labels), smoothing=smoothing)  # type: ignore[arg-type]
        logits = inputs @ weight
        shares = np.exp(logits - logits.max(1, keepdims=True))
        target = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
        gradient = inputs.T @ (shares / shares.sum(1, keepdims=True) - target) / 6
        clipped.append(np.linalg.norm(gradient) > 5)
        gradient *= min(1, 5 / (np.linalg.norm(gradient) + 1e-6))
        speed = 0.9 * speed + gradient
        weight = weight - 0.1 * (gradient + 0.9 * speed)
    found = np.concatenate([head.weight.detach().numpy().T, head.bias.detach().numpy()[None]])
    assert found == pytest.approx(weight, rel=1e-9) and clipped[0]


def test_colors_are_learned_and_the_encoder_is_left_alone(folders, encoder):
    before = copy.deepcopy(encoder.state_dict())
    encoder.train()
    first, second = (linear_augmented(task_on(encoder, *folders, **QUICK))[0] for _ in range(2))
    assert float(first.values.mean()) == 1.0 and first.metric == "top-1" and first.setting == "30 epochs"
    assert torch.equal(first.values, second.values) and first.details == second.details
    assert first.details["batch"] == 27 and first.details["steps"] == 30
    assert encoder.training and all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_bfloat16_is_of_the_encoder_alone(folders, encoder):
    plain, narrow = (
        linear_augmented(task_on(encoder, *folders, **QUICK, precision=precision))[0]
        for precision in ("float32", "bfloat16")
    )
    assert narrow.details["last_loss"] == pytest.approx(plain.details["last_loss"], rel=0.1)
    assert narrow.details["last_loss"] != plain.details["last_loss"]


def test_as_released_is_noted_and_different(folders, encoder):
    task = task_on(encoder, *folders, **QUICK)
    plain, released = linear_augmented(task)[0], linear_moby_as_released(task)[0]
    assert released.definition["drop_path"] == 0.2 and released.definition["smoothing"] == 0.1
    assert released.definition["nesterov"] and released.definition["final_lr"] == 5e-6
    assert "batch_size" not in released.definition  # without batch norm it changes no feature
    assert plain.definition["drop_path"] == 0.0 and not plain.definition["train_mode"]
    assert released.details["last_loss"] > plain.details["last_loss"]
    assert "only to compare with published rows" in released.notes[0] and not plain.notes


def test_raw_pixels_have_a_head_but_no_train_mode(folders):
    pixels = RawPixels(16, 1.0, (0.5,) * 3, (0.25,) * 3)
    assert float(linear_augmented(task_on(pixels, *folders, **QUICK))[0].values.mean()) == 1.0
    with pytest.raises(NotApplicable, match="raw pixels have neither a train mode nor drop path"):
        linear_moby_as_released(task_on(pixels, *folders))


def test_test_labels_change_nothing_but_the_score(folders, encoder):
    task = task_on(encoder, *folders, **QUICK)
    splits = dataclasses.replace(task.splits, test_labels=(task.splits.test_labels + 1) % 3)
    other = dataclasses.replace(task, splits=splits)
    first, second = linear_augmented(task)[0], linear_augmented(other)[0]
    assert first.details == second.details and float(second.values.mean()) == 0.0
    assert torch.equal(first.predicted, second.predicted)


def test_the_encoder_is_in_eval_mode_and_as_released_in_train_mode(folders, encoder, monkeypatch):
    modes, original = [], module.frozen_features
    monkeypatch.setattr(
        module, "frozen_features", lambda task, net, batch: modes.append(net.training) or original(task, net, batch)
    )
    task = task_on(encoder.train(), *folders, linear_augmented={"epochs": 2})
    linear_augmented(task)
    linear_moby_as_released(task)
    assert modes == [False, False, True, True]


def test_frozen_features_drop_in_train_mode_alone(folders, encoder):
    """One image twice in a batch: equal features in eval mode; in train mode they depend on the number of the image."""
    task = task_on(encoder, *folders)
    pixels = torch.randint(256, (1, 16, 16, 3), dtype=torch.uint8).expand(40, -1, -1, -1).contiguous()
    batch = TrainingBatch(0, 0, torch.arange(40), pixels)
    dropping, _ = trainable_copy(encoder, drop_path=0.5)
    plain, dropped = (frozen_features(task, net, batch) for net in (encoder.eval(), dropping.train()))
    assert (plain - plain[0]).abs().max() < 1e-5
    assert len(dropped.unique(dim=0)) == 4  # two branches of the last block can be dropped; the first block has rate 0
    assert not dropped.requires_grad


def test_batch_norm_moves_in_train_mode_alone(folders):
    """The released code leaves running statistics in train mode; the plain protocol never does."""
    network = build_encoder(EncoderSettings(name="test_efficientnet", size=16), seed=0)
    before = copy.deepcopy(network.state_dict())
    task = task_on(network, *folders, linear_augmented={"epochs": 1})
    plain, released = linear_augmented(task)[0], linear_moby_as_released(task)[0]
    assert plain.details["last_loss"] != released.details["last_loss"]
    assert released.definition["batch_size"] == 256 and "batch_size" not in plain.definition
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_batch_norm_of_a_single_image_is_refused(folders):
    """27 images in parts of 13 leave one."""
    network = build_encoder(EncoderSettings(name="test_efficientnet", size=16), seed=0)
    task = task_on(network, *folders, linear_augmented={"epochs": 1}, batch_size=13)
    with pytest.raises(NotApplicable, match="^batch_size = 13: a batch of 27 images leaves a part of a single image, "):
        linear_moby_as_released(task)
    assert linear_augmented(task)  # in eval mode nothing is wrong with that


def test_a_network_without_drop_path_is_noted(folders):
    network = build_encoder(EncoderSettings(name="vgg11", size=32, options={"mlp_ratio": 0.01}), seed=0)
    result = linear_moby_as_released(task_on(network, *folders, linear_augmented={"epochs": 1}))[0]
    assert "linear-moby-as-released: vgg11 has no drop path, so it runs without" in result.notes


def test_mean_per_class(folders, encoder):
    task = dataclasses.replace(task_on(encoder, *folders, linear_augmented={"epochs": 2}), metric="mean per class")
    result = linear_augmented(task)[0]
    labels = task.splits.test_labels
    wanted = np.mean([float((result.predicted == labels)[labels == c].float().mean()) for c in range(3)])
    assert result.metric == "mean per class" and float(result.values.mean()) == pytest.approx(wanted, abs=1e-6)


def test_a_broken_encoder_gets_no_score_but_a_reason(folders, encoder):
    broken = copy.deepcopy(encoder)
    task = task_on(broken, *folders, **QUICK)
    task.__dict__["test_features"] = torch.zeros(12, 12)
    with torch.no_grad():
        broken.backbone.norm.weight.fill_(float("nan"))
    with pytest.raises(NotApplicable, match="the loss is nan at step 0, .* lower linear_augmented.base_lr"):
        linear_augmented(task)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("linear_augmented.epochs=0", "linear_augmented.epochs = 0: input should be greater than or equal to 1"),
        ("linear_augmented.base_lr=0", "linear_augmented.base_lr = 0: input should be greater than 0"),
        ("linear_augmented.warmup=1", "linear_augmented.warmup = 1: input should be less than 1"),
    ],
)
def test_settings_out_of_range(assignment, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings().with_settings([assignment])
