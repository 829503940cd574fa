"""FGSM and PGD: by hand on linear classifiers, and properties on a small network."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syn2co.core.errors import ConfigError, EvaluationError
from syn2co.core.keyed_rng import generator
from syn2co.evaluation import attacks
from syn2co.evaluation.attacks import attack

KEYS = [(3, index) for index in range(4)]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Four images of 6 px that touch both ends of [0, 1]."""
    drawn = torch.from_numpy(generator("attacked").uniform(-0.2, 1.2, (4, 3, 6, 6)).astype(np.float32))
    return drawn.clamp(0, 1)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.tensor([0, 1, 1, 0])


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small network with random weights and curved logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.Tanh(), nn.Linear(16, 2)).eval()


def linear(weights: Tensor):
    """Return the two-class model with logits (0, w.x)."""

    def logits_of(images: Tensor) -> Tensor:
        score = (images * weights).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)

    return logits_of


@pytest.fixture(scope="module")
def weights() -> Tensor:
    drawn = torch.from_numpy(generator("weights").standard_normal((3, 6, 6)).astype(np.float32))
    drawn[0, 0, 0] = 0.0
    return drawn


def toward(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the direction that raises the loss of a linear model: away from the label."""
    return torch.where(labels == 1, -1.0, 1.0)[:, None, None, None] * weights.sign()


def test_fgsm_on_a_linear_model_is_exact(images: Tensor, labels: Tensor, weights: Tensor) -> None:
    found = attack(linear(weights), images, labels, epsilon=0.1, steps=1, keys=KEYS)
    torch.testing.assert_close(found, (images + 0.1 * toward(labels, weights)).clamp(0, 1), rtol=0, atol=1e-7)
    assert torch.equal(found[:, 0, 0, 0], images[:, 0, 0, 0])  # weight 0: no gradient, no change


def test_pgd_on_a_linear_model_ends_in_the_corner(images: Tensor, labels: Tensor, weights: Tensor) -> None:
    """From any start, 10 steps of a quarter of epsilon reach the border that FGSM reaches at once."""
    found = attack(linear(weights), images, labels, epsilon=0.1, steps=10, keys=KEYS)
    expected = (images + 0.1 * toward(labels, weights)).clamp(0, 1)
    moved = (weights != 0).expand_as(images)
    torch.testing.assert_close(found[moved], expected[moved], rtol=0, atol=1e-7)


def test_short_steps_start_at_keyed_random_places(images: Tensor, labels: Tensor, weights: Tensor) -> None:
    inner = images.clamp(0.3, 0.7)
    found = attack(linear(weights), inner, labels, epsilon=0.1, steps=2, step_size=1e-6, keys=KEYS)
    drawn = np.stack([generator("attack", *key).uniform(-1, 1, (3, 6, 6)) for key in KEYS])
    np.testing.assert_allclose((found - inner).numpy(), 0.1 * drawn, atol=3e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_results_stay_in_ball_and_range_and_cost_more(
    images: Tensor, labels: Tensor, network: nn.Module, steps: int
) -> None:
    before = images.clone()
    found = attack(network, images, labels, epsilon=8 / 255, steps=steps, keys=KEYS)
    assert torch.equal(images, before) and not found.requires_grad
    assert float((found - images).abs().max()) <= 8 / 255 + 1e-7
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    clean, attacked = (nn.functional.cross_entropy(network(x), labels, reduction="none") for x in (images, found))
    assert (attacked > clean).all()
    assert all(weight.grad is None for weight in network.parameters())


def test_more_steps_cost_at_least_as_much(images: Tensor, labels: Tensor, network: nn.Module) -> None:
    found = [attack(network, images, labels, epsilon=0.3, steps=steps, keys=KEYS) for steps in (1, 20)]
    losses = [float(nn.functional.cross_entropy(network(x), labels).detach()) for x in found]
    assert losses[1] >= losses[0] - 1e-4


@pytest.mark.parametrize("steps", [1, 3])
def test_an_image_does_not_depend_on_its_batch(images: Tensor, labels: Tensor, network: nn.Module, steps: int) -> None:
    whole = attack(network, images, labels, epsilon=0.1, steps=steps, keys=KEYS)
    alone = attack(network, images[2:3], labels[2:3], epsilon=0.1, steps=steps, keys=KEYS[2:3])
    torch.testing.assert_close(whole[2:3], alone, rtol=0, atol=1e-6)
    other = attack(network, images, labels, epsilon=0.1, steps=steps, keys=[(4, *key) for key in KEYS])
    assert torch.equal(other, whole) == (steps == 1)


def test_works_inside_no_grad_and_inference_mode(images: Tensor, labels: Tensor, network: nn.Module) -> None:
    expected = attack(network, images, labels, epsilon=0.1, steps=2, keys=KEYS)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(attack(network, images, labels, epsilon=0.1, steps=2, keys=KEYS), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, r"epsilon = 0.0: must be in \(0, 1\], the range of the images; 8 / 255 is usual"),
        ({"epsilon": 8.0}, r"epsilon = 8.0: must be in \(0, 1\]"),
        ({"steps": 0}, "steps = 0: must be at least 1; 1 is FGSM, more are PGD"),
        ({"steps": 1, "step_size": 0.1}, r"step_size = 0.1: FGSM \(steps = 1\) steps by epsilon; leave step_size out"),
        ({"step_size": 0.0}, r"step_size = 0.0: must be in \(0, 1\]; leave it out for 2.5 epsilon / steps"),
    ],
)
def test_settings_out_of_range(images: Tensor, labels: Tensor, network: nn.Module, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attack(network, images, labels, **({"epsilon": 0.1, "steps": 2, "keys": KEYS} | options))


def test_inputs_that_cannot_be_attacked(images: Tensor, labels: Tensor, network: nn.Module) -> None:
    with pytest.raises(EvaluationError, match="keys = 3 for 4 images: must be one per image; give each its own"):
        attack(network, images, labels, epsilon=0.1, steps=2, keys=KEYS[:3])
    with pytest.raises(EvaluationError, match=r"images = 0 to 255: must lie in \[0, 1\]; pass them before normal"):
        attack(network, images * 255, labels, epsilon=0.1, steps=2, keys=KEYS)
    with pytest.raises(EvaluationError, match="images = nan to nan"):
        attack(network, images * float("nan"), labels, epsilon=0.1, steps=2, keys=KEYS)
    with pytest.raises(EvaluationError, match="attack: the logits have no gradient in the images"):
        attack(lambda x: network(x).detach(), images, labels, epsilon=0.1, steps=2, keys=KEYS)
    with pytest.raises(EvaluationError, match="attack: the logits have no gradient in the images"):
        attack(lambda x: network(torch.zeros_like(x)), images, labels, epsilon=0.1, steps=2, keys=KEYS)
    with pytest.raises(EvaluationError, match="the logits have a gradient that is not finite in the images"):
        attack(lambda x: network(x) * float("inf"), images, labels, epsilon=0.1, steps=2, keys=KEYS)


def test_the_example_runs() -> None:
    results = doctest.testmod(attacks)
    assert results.attempted > 0 and results.failed == 0
