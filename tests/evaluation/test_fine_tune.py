"""Fine-tuning: what it learns, what it leaves alone, and what it repeats."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint, task_on

from syn2co.core.errors import ConfigError
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.protocols import fine_tune as module
from syn2co.evaluation.protocols.few_shot import LabelCount, draw_labels
from syn2co.evaluation.protocols.fine_tune import crop_scale, fine_tune, fine_tune_few, micro_batches, plan_of
from syn2co.evaluation.protocols.protocol import NotApplicable
from syn2co.evaluation.settings import EvaluationSettings, FineTuneSettings
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.reports.evaluation import evaluate

DEEP = TINY.model_copy(update={"options": {**TINY.options, "depth": 2}})
FAST = {"epochs": 1, "min_steps": 30, "batch": 16, "base_lr": 0.3, "warmup": 0.2, "drop_path": 0.2}
SHORT = {**FAST, "min_steps": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine-tune")
    train = paint(folder / "train", {"blue": 9, "green": 8, "red": 10})
    return train, paint(folder / "test", {"blue": 3, "green": 4, "red": 5}, seed=1)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(DEEP, seed=1)


def tuned(encoder, folders, **settings):
    return fine_tune(task_on(encoder, *folders, fine_tune={**SHORT, **settings}))[0]


def test_colors_are_learned_and_the_encoder_is_left_alone(folders, encoder):
    before = copy.deepcopy(encoder.state_dict())
    result = tuned(encoder, folders, **FAST)
    assert float(result.values.mean()) == 1.0 and result.metric == "top-1"
    assert result.setting == "30 epochs" and result.details["steps"] == 30 and result.details["layers"] == 4
    assert result.notes == ()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_the_same_again_and_with_other_threads(folders, encoder):
    first, second = tuned(encoder, folders), tuned(encoder, folders)
    task = task_on(encoder, *folders, fine_tune=SHORT, workers=2)
    third = fine_tune(task)[0]
    assert first.details == second.details == third.details
    assert torch.equal(first.predicted, second.predicted) and torch.equal(first.predicted, third.predicted)
    assert fine_tune(task_on(encoder, *folders, fine_tune=SHORT, seed=1))[0].details != first.details


def test_bfloat16(folders, encoder):
    plain, narrow = (
        fine_tune(task_on(encoder, *folders, fine_tune=SHORT, precision=precision))[0]
        for precision in ("float32", "bfloat16")
    )
    assert narrow.details["last_loss"] == pytest.approx(plain.details["last_loss"], rel=0.1)
    assert narrow.details["last_loss"] != plain.details["last_loss"]


def test_no_ambient_draw_is_taken(folders, encoder):
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    tuned(encoder, folders)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


def test_test_labels_change_nothing_but_the_score(folders, encoder):
    task = task_on(encoder, *folders, fine_tune=SHORT)
    splits = dataclasses.replace(task.splits, test_labels=(task.splits.test_labels + 1) % 3)
    first, second = fine_tune(task)[0], fine_tune(dataclasses.replace(task, splits=splits))[0]
    assert first.details == second.details and torch.equal(first.predicted, second.predicted)
    assert not torch.equal(first.values, second.values)


def test_micro_batches_give_the_gradient_of_the_batch(folders, encoder):
    """Without batch norm the parts of 5 and 6 images add up to the batch of 16, but for rounding."""
    whole, parts = tuned(encoder, folders), tuned(encoder, folders, micro_batch=6)
    assert parts.details["last_loss"] == pytest.approx(whole.details["last_loss"], rel=1e-4)
    assert whole.definition != parts.definition


@pytest.mark.parametrize(
    "changed", [{"mixup": 0.0}, {"cutmix": 0.0}, {"smoothing": 0.0}, {"drop_path": 0.0}, {"layer_decay": 1.0},
                {"weight_decay": 0.5}, {"clip": 0.01}, {"crop_scale": (0.9, 1.0)}],
)  # fmt: skip
def test_every_setting_counts(folders, encoder, changed):
    usual, other = tuned(encoder, folders), tuned(encoder, folders, **changed)
    assert usual.details["last_loss"] != other.details["last_loss"]
    assert usual.definition != other.definition


def test_raw_pixels_have_nothing_to_tune(folders):
    task = task_on(RawPixels(16, 1.0, (0.5,) * 3, (0.25,) * 3), *folders)
    for protocol in (fine_tune, fine_tune_few):
        with pytest.raises(NotApplicable, match="raw pixels have no weights, so there is nothing to fine-tune"):
            protocol(task)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_batch_norm_is_trained(folders, name):
    network = build_encoder(EncoderSettings(name=name, size=16), seed=0)
    before = copy.deepcopy(network.state_dict())
    result = tuned(network, folders, min_steps=2)
    assert np.isfinite(result.details["last_loss"]) and result.details["layers"] > 3
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_batch_norm_of_a_single_image_is_refused(folders):
    """Of 16 images in parts of at most 5, four have four; in parts of one each has one."""
    network = build_encoder(EncoderSettings(name="test_efficientnet", size=16), seed=0)
    message = "^fine_tune.micro_batch = 1: a batch of 16 images leaves a part of a single image, over which batch norm"
    with pytest.raises(NotApplicable, match=message):
        tuned(network, folders, micro_batch=1)
    assert [len(part) for part in micro_batches(16, 5)] == [4, 4, 4, 4]


def test_definition_has_the_fixed_numbers_too(folders, encoder):
    definition = tuned(encoder, folders, min_steps=1).definition
    assert (definition["warmup_lr"], definition["final_lr"], definition["betas"]) == (5e-7, 5e-6, (0.9, 0.999))


def test_networks_without_layers_or_drop_path_are_noted(folders, monkeypatch):
    network = build_encoder(EncoderSettings(name="vgg11", size=32, options={"mlp_ratio": 0.01}), seed=0)
    monkeypatch.setattr(type(network.backbone), "group_matcher", lambda _self, coarse: {})
    assert tuned(network, folders, min_steps=1, base_lr=1e-3).notes == (
        "fine-tune: vgg11 has no drop path, so it is trained without",
        "fine-tune: timm knows no layers of vgg11, so all of them have the same learning rate",
    )


def test_few_labels_are_the_draws_of_the_few_shot_protocol(folders, encoder, monkeypatch):
    settings = {**SHORT, "shares": [0.25], "per_class": [1, 9], "draws": 2}
    task, seen = task_on(encoder, *folders, fine_tune=settings), []
    original = module.plan_of
    monkeypatch.setattr(module, "plan_of", lambda rows, *rest, **key: seen.append(rows) or original(rows, *rest, **key))
    rows = fine_tune_few(task)
    assert [row.name for row in rows] == ["fine-tune 25 %", "fine-tune 1 per class", "fine-tune 9 per class"]
    assert [row.setting for row in rows] == ["6 labels, 2 draws", "3 labels, 2 draws", "26 labels, 2 draws"]
    wanted = [
        draw_labels(task.splits.train_labels, labels, draw=draw)
        for labels in (LabelCount(share=0.25), LabelCount(per_class=1), LabelCount(per_class=9))
        for draw in range(2)
    ]
    assert all(torch.equal(one, two) for one, two in zip(seen, wanted, strict=True))
    assert all(row.values.shape == (2, 12) and row.details["seeds"] == [0, 1] for row in rows)
    assert rows[2].notes == (
        "fine-tune 9 per class: 1 of 3 classes have fewer images than that, so all of theirs are taken",
    )
    assert len({str(row.definition) for row in rows}) == 3


def test_few_labels_learn_colors(folders, encoder):
    settings = {**FAST, "shares": [], "per_class": [3], "draws": 2, "min_steps": 40}
    row = fine_tune_few(task_on(encoder, *folders, fine_tune=settings))[0]
    assert row.values.mean() > 0.9 and row.details["by_draw"] == pytest.approx((100 * row.values.mean(1)).tolist())


def test_a_table_has_all_rows_and_notes(folders, encoder):
    settings = EvaluationSettings.parse({"device": "cpu", "fine_tune": {**SHORT, "shares": [0.2], "draws": 2}})
    report = evaluate(encoder, *folders, protocols=["fine-tune", "fine-tune-few"], settings=settings)
    assert [(row.encoder, row.protocol, row.draws) for row in report.rows] == [
        (name, *rest) for name in ("encoder", "random init") for rest in (("fine-tune", 1), ("fine-tune 20 %", 2))
    ]
    assert report.compare("encoder", "random init", "fine-tune 20 %").low <= 100
    assert "raw pixels: fine-tune: raw pixels have no weights, so there is nothing to fine-tune" in report.notes


def test_nothing_to_draw(folders, encoder):
    task = task_on(encoder, *folders, fine_tune={"shares": [], "per_class": []})
    with pytest.raises(NotApplicable, match="fine_tune.shares and fine_tune.per_class are empty, so there is nothing"):
        fine_tune_few(task)


def test_a_loss_that_is_no_number_gives_no_score(folders, encoder):
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        broken.backbone.norm.weight.fill_(float("nan"))
    with pytest.raises(NotApplicable, match="the loss is nan at step 0, .* lower fine_tune.base_lr"):
        tuned(broken, folders)


def test_plan_has_enough_steps_by_hand():
    """70 images in batches of 32: 2 steps an epoch; 5 steps need 3 epochs. Of 10 images a batch is 10."""
    settings = FineTuneSettings(epochs=2, min_steps=5, batch=32)
    plan = plan_of(torch.arange(70), settings, seed=0)
    assert (plan.batch, plan.epochs, plan.steps) == (32, 3, 6)
    few = plan_of(torch.arange(10), settings, seed=0)
    assert (few.batch, few.epochs, few.steps) == (10, 5, 5)
    assert plan_of(torch.arange(70), FineTuneSettings(epochs=9, min_steps=5, batch=32), seed=0).epochs == 9


@pytest.mark.parametrize(("size", "scale"), [(224, (0.08, 1.0)), (64, (0.2, 1.0))])
def test_small_images_are_cropped_less(size, scale):
    assert crop_scale(FineTuneSettings(), size) == scale
    assert crop_scale(FineTuneSettings(crop_scale=(0.5, 0.9)), size) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("fine_tune.epochs=0", "fine_tune.epochs = 0: input should be greater than or equal to 1"),
        ("fine_tune.layer_decay=0", "fine_tune.layer_decay = 0: input should be greater than 0"),
        ("fine_tune.crop_scale=[0,1]", "fine_tune.crop_scale.0 = 0: input should be greater than 0"),
        ("fine_tune.crop_scale=[0.9,0.1]", r"^fine_tune.crop_scale = \(0.9, 0.1\): must be low <= high; exchange them"),
        ("fine_tune.shares=[0.1,0.1]", "^fine_tune.shares: 0.1 is named twice and would count double; name it once"),
        ("fine_tune.per_class=[2,2]", "^fine_tune.per_class: 2 is named twice"),
        ("fine_tune.draws=1", "fine_tune.draws = 1: input should be greater than or equal to 2"),
    ],
)
def test_settings_out_of_range(assignment, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings().with_settings([assignment])
