"""Mixup and cutmix: timm's arithmetic and law on keyed draws."""

import numpy as np
import pytest
import torch

from syn2co.core import keyed_rng
from syn2co.evaluation.mixup import Mix, draw_mix, mix_images, mix_targets


class Scripted:
    """A generator of NumPy whose draws are given."""

    def __init__(self, switch: float, share: float, centers: tuple[int, int]) -> None:
        self.switch, self.share, self.centers = switch, share, centers

    def random(self):
        return self.switch

    def beta(self, a, b):
        assert a == b
        return self.share

    def integers(self, high, size):
        return np.array(self.centers)


@pytest.mark.parametrize("switch", [0.3, 0.7])  # cutmix, mixup
@pytest.mark.parametrize(("share", "centers"), [(0.3, (8, 7)), (0.75, (0, 15)), (0.5, (15, 3))])
def test_timm_mixes_the_same_with_the_same_draws(monkeypatch, switch, share, centers):
    from timm.data import Mixup

    uniforms, places = iter([0.0, switch]), iter(centers)  # timm first asks whether it mixes at all
    monkeypatch.setattr(np.random, "rand", lambda: next(uniforms))
    monkeypatch.setattr(np.random, "beta", lambda _a, _b: share)
    monkeypatch.setattr(np.random, "randint", lambda _low, _high, size=None: next(places))
    images, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 3, 0, 1])
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=4)(images.clone(), labels)
    mix = draw_mix(16, mixup=0.8, cutmix=1.0, rng=Scripted(switch, share, centers))  # type: ignore[arg-type]
    assert (mix.box is None) == (switch > 0.5)
    assert mix_images(images, mix).numpy() == pytest.approx(theirs[0].numpy(), abs=1e-6)
    assert mix_targets(labels, mix, classes=4, smoothing=0.1).numpy() == pytest.approx(theirs[1].numpy(), abs=1e-6)


def test_targets_by_hand():
    """Weight 3/4, smoothing 0.2 over 2 classes: 0.75 x (0.9, 0.1) + 0.25 x (0.1, 0.9) = (0.7, 0.3)."""
    targets = mix_targets(torch.tensor([0, 1]), Mix(0.75), classes=2, smoothing=0.2)
    assert targets.flatten().tolist() == pytest.approx([0.7, 0.3, 0.3, 0.7])


def test_cutmix_takes_whole_pixels_of_the_partner_and_weighs_by_them():
    """Share 0.75 at side 16: edge 8 around (2, 8), cut off at the top: rows 0 to 6, columns 4 to 12, 48 pixels."""
    mix = draw_mix(16, mixup=0.0, cutmix=1.0, rng=Scripted(0.9, 0.75, (2, 8)))  # type: ignore[arg-type]
    assert mix == Mix(1 - 48 / 256, (0, 6, 4, 12))
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    mixed = mix_images(images, mix)
    assert mixed.mean(dim=(1, 2, 3)).tolist() == pytest.approx([48 / 256, 1 - 48 / 256])
    assert images[0].sum() == 0  # the input is left alone


def draws(count=2000, **strengths):
    return [draw_mix(16, **strengths, rng=keyed_rng.generator("test", number)) for number in range(count)]


def test_each_kind_has_half_of_the_batches_or_all_of_them():
    both = [mix.box is None for mix in draws(mixup=0.8, cutmix=1.0)]
    assert sum(both) / len(both) == pytest.approx(0.5, abs=0.04)
    assert all(mix.box is None for mix in draws(50, mixup=0.8, cutmix=0.0))
    assert all(mix.box is not None for mix in draws(50, mixup=0.0, cutmix=1.0))


def test_weights_have_the_law_of_beta():
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))."""
    weights = np.array([mix.weight for mix in draws(mixup=0.8, cutmix=0.0)])
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(1 / (4 * 2.6), abs=0.01)


def test_nothing_is_mixed_without_either():
    mix = draw_mix(16, mixup=0.0, cutmix=0.0, rng=keyed_rng.generator("test"))
    images = torch.rand(3, 3, 16, 16)
    assert mix == Mix() and torch.equal(mix_images(images, mix), images)
    assert mix_targets(torch.tensor([1]), mix, classes=2, smoothing=0.0).tolist() == [[0, 1]]


def test_an_odd_batch_mixes_its_middle_image_with_itself():
    images = torch.rand(3, 3, 4, 4)
    assert torch.allclose(mix_images(images, Mix(0.3))[1], images[1])
