"""Adversarial accuracy: a linear encoder by hand, gradients that reach the pixels, and an encoder left as it was."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint, task_on

from syn2co.core.errors import ConfigError
from syn2co.evaluation.attacks import attack
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.evaluate import score
from syn2co.evaluation.features import encoder_hash
from syn2co.evaluation.protocols import adversarial as module
from syn2co.evaluation.protocols.adversarial import _batches, _logits_of, adversarial, normalized
from syn2co.evaluation.protocols.linear import fitted_probe
from syn2co.evaluation.protocols.protocol import chosen_images
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import build_encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("adversarial")
    counts = {"blue": 7, "red": 7}
    return paint(root / "train", counts, noise=160), paint(root / "test", counts, seed=1, noise=160)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, seed=1)


def raw() -> RawPixels:
    return RawPixels(16, 1.0, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.mark.parametrize("kind", ["raw", "vit"])
def test_normalization_is_that_of_preprocess(kind, encoder):
    seen = raw() if kind == "raw" else encoder
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))
    ours = normalized(seen, crops.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(ours, seen.preprocess(crops))


def test_fgsm_on_raw_pixels_by_hand(folders):
    """Encoder and head are linear, so the gradient of every image is +- w, w the difference of the two columns behind
    both standardizations: x' = clip(x -+ epsilon sign(w)). The epsilon is one that some images withstand."""
    task = task_on(raw(), *folders)
    probe, labels = fitted_probe(task), task.splits.test_labels
    slope = (probe.probe.weight[:, 0] - probe.probe.weight[:, 1]).float() * probe.scaling.factor
    by_pixel = slope.view(16, 16, 3).permute(2, 0, 1) / torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    images = torch.cat([part for _, part in _batches(task, np.arange(14))])
    sign = torch.where(labels == 0, -1.0, 1.0).view(-1, 1, 1, 1)
    logits_of = _logits_of(task, probe)

    def by_hand(epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
        moved = (images + epsilon * sign * by_pixel.sign()).clamp(0, 1)
        return moved, logits_of(moved).argmax(1) == labels

    epsilon = next(step for step in range(1, 256) if 0 < by_hand(step / 255)[1].float().mean() < 1)
    wanted, right = by_hand(epsilon / 255)
    found = attack(logits_of, images, labels, epsilon=epsilon / 255, steps=1, keys=[(0, row) for row in range(14)])
    assert torch.equal(found, wanted)
    settings = task.settings.with_settings([f"adversarial.epsilons=[{epsilon}]"])
    fgsm = adversarial(dataclasses.replace(task, settings=settings))[0]
    assert fgsm.name == f"FGSM {epsilon}/255" and fgsm.details["clean"] == 100.0
    assert fgsm.values.tolist() == right.float().tolist()


def test_accuracy_never_rises_with_epsilon_and_pgd_is_not_weaker(folders, encoder):
    epsilons = [1, 4, 8, 16, 32]
    results = {part.name: part for part in adversarial(task_on(encoder, *folders, adversarial={"epsilons": epsilons}))}
    assert list(results) == [f"{name} {epsilon}/255" for epsilon in epsilons for name in ("FGSM", "PGD")]
    for name in ("FGSM", "PGD"):
        scores = [float(results[f"{name} {epsilon}/255"].values.mean()) for epsilon in epsilons]
        assert scores == sorted(scores, reverse=True) and scores[-1] < results["FGSM 1/255"].details["clean"] / 100
    for epsilon in epsilons:
        assert results[f"PGD {epsilon}/255"].values.mean() <= results[f"FGSM {epsilon}/255"].values.mean()


def test_pgd_stays_in_the_ball_and_raises_the_loss(folders, encoder):
    task = task_on(encoder, *folders)
    logits_of, labels = _logits_of(task, fitted_probe(task)), task.splits.test_labels
    encoder.eval()
    (_, images), = _batches(task, np.arange(14))  # fmt: skip
    found = attack(logits_of, images, labels, epsilon=4 / 255, steps=5, keys=[(0, row) for row in range(14)])
    assert float((found - images).abs().max()) <= 4 / 255 + 1e-6 and 0 <= float(found.min()) <= float(found.max()) <= 1
    loss = torch.nn.functional.cross_entropy
    with torch.no_grad():
        assert float(loss(logits_of(found), labels)) > float(loss(logits_of(images), labels))


def test_encoder_is_in_eval_mode_then_left_as_it_was_and_starts_belong_to_images(folders, monkeypatch):
    encoder, seen = build_encoder(TINY, seed=1).train(), []

    def watched(*args, keys, **how):
        seen.append((encoder.training, keys))
        return attack(*args, keys=keys, **how)

    monkeypatch.setattr(module, "attack", watched)
    before = encoder_hash(encoder)
    adversarial(task_on(encoder, *folders, batch_size=3, adversarial={"max_images": 4, "steps": 2, "epsilons": [1]}))
    rows = chosen_images(14, 4, "adversarial", 0).tolist()
    wanted = [[(0, row) for row in part] for part in (rows[:3], rows[3:]) for _ in ("FGSM", "PGD")]
    assert seen == [(False, keys) for keys in wanted] and rows != [0, 1, 2, 3]
    assert encoder.training and all(part.training for part in encoder.modules())
    assert encoder_hash(encoder) == before and all(part.grad is None for part in encoder.parameters())


def test_a_subset_is_attacked_as_in_the_whole_and_counts_as_n(folders, encoder):
    """Also in other batches: random starts belong to the image."""
    whole = adversarial(task_on(encoder, *folders, adversarial={"epsilons": [8], "steps": 3}))
    settings = EvaluationSettings.parse({
        "device": "cpu", "workers": 0, "cache_gib": 0, "baselines": False, "batch_size": 2,
        "adversarial": {"epsilons": [8], "steps": 3, "max_images": 5},
    })  # fmt: skip
    report, _ = score([encoder], *folders, protocols=["adversarial"], transfer=(), settings=settings, progress=False)
    rows = chosen_images(14, 5, "adversarial", 0)
    for row, full in zip(report.rows, whole, strict=True):
        assert row.n_test == 5 and row.values.tolist() == full.values[rows].tolist()
    assert [row.setting for row in report.rows] == ["1 step, 5 images", "3 steps, 5 images"]
    assert report.rows[0].details["images"] == 5


def test_bfloat16_and_classes_that_count_alike(folders, encoder):
    task = task_on(encoder, *folders, metric="mean per class", precision="bfloat16",
                   adversarial={"epsilons": [4], "steps": 2})  # fmt: skip
    fgsm, pgd = adversarial(task)
    labels = task.splits.test_labels
    assert fgsm.metric == "mean per class" and 0 <= float(pgd.values.mean()) <= 1
    assert len(fgsm.values) == len(labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilons": [0]}, "adversarial.epsilons.0 = 0: input should be greater than 0"),
        ({"epsilons": [256]}, "adversarial.epsilons.0 = 256: input should be less than or equal to 255"),
        ({"epsilons": []}, "adversarial.epsilons = \\[\\]: tuple should have at least 1 item"),
        ({"steps": 1}, "adversarial.steps = 1: input should be greater than or equal to 2"),
        ({"max_images": 0}, "adversarial.max_images = 0: input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings.parse({"adversarial": settings})
