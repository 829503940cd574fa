"""Adversarial images within an L-infinity ball: FGSM, one step, and PGD, several from a keyed random start.

Axis letters: B images of the batch, C classes, S side in pixels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from syn2co.core.errors import ConfigError, EvaluationError
from syn2co.core.keyed_rng import Key, generator

Images = Float[Tensor, "B 3 S S"]
LogitsOf = Callable[[Images], Float[Tensor, "B C"]]


def attack(
    logits_of: LogitsOf,
    images: Images,
    labels: Int64[Tensor, " B"],
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    keys: Sequence[tuple[Key, ...]],
) -> Images:
    """Return adversarial images in [0, 1], none of whose values differs by more than `epsilon` from the original.

    steps = 1, FGSM: x' = clip(x + epsilon sign(g)), g the gradient of the cross-entropy at x.
    steps > 1, PGD:  x_0 = clip(x + U(-epsilon, epsilon)), x_k = clip(x_k-1 + a sign(g_k-1)), clipped to the ball and to
    [0, 1]; the last one is the result. Values whose gradient is 0 stay.

    Source: FGSM, Goodfellow et al., arXiv:1412.6572, Eq. in Sec. 4; PGD, Madry et al., arXiv:1706.06083, Sec. 2.1.
    An image's result depends on its key and not on the batch, as far as `logits_of` treats images alone (batch norm in
    evaluation mode). Weights get no gradient.

    Args:
        logits_of: encoder and head, differentiable in the images; normalization belongs inside.
        images: originals in [0, 1].
        labels: the true classes, from which the attack moves away.
        epsilon: radius of the ball, in (0, 1], such as 8 / 255.
        steps: gradients taken; 1 is FGSM.
        step_size: a, in (0, 1]; by default 2.5 epsilon / steps, which reaches the border from any start. FGSM has none:
            its step is epsilon.
        keys: one per image, such as (seed, number of the image); the random starts of PGD depend on it.

    Returns:
        Adversarial images, detached, on the device and in the dtype of `images`.

    Raises:
        ConfigError: if epsilon, steps or step_size is out of range, or step_size is given to FGSM.
        EvaluationError: if images leave [0, 1], keys and images differ in number, or the gradient is not finite.

    Example:
        >>> dark = torch.full((1, 3, 2, 2), 0.5)
        >>> by_light = lambda images: torch.stack([images.sum((1, 2, 3)), -images.sum((1, 2, 3))], 1)  # class 0: light
        >>> attack(by_light, dark, torch.tensor([0]), epsilon=0.25, steps=1, keys=[(0, 0)]).unique()
        tensor([0.2500])
    """
    _check_settings(epsilon, steps, step_size)
    _check_images(images, keys)
    images, low, high = images.detach(), (images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1)
    if steps == 1:
        return _step(logits_of, images, labels, epsilon).clamp(low, high)
    length = 2.5 * epsilon / steps if step_size is None else step_size
    adversarial = (images + epsilon * _starts(images, keys)).clamp(low, high)
    for _ in range(steps):
        adversarial = _step(logits_of, adversarial, labels, length).clamp(low, high)
    return adversarial


def _step(logits_of: LogitsOf, images: Images, labels: Int64[Tensor, " B"], length: float) -> Images:
    """Return x + length sign(gradient of the cross-entropy at x)."""
    with torch.inference_mode(False), torch.enable_grad():
        moving = images.clone().requires_grad_()
        loss = functional.cross_entropy(logits_of(moving).float(), labels, reduction="sum")  # sum: images stay apart
        gradient = torch.autograd.grad(loss, moving, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None or not bool(gradient.isfinite().all()):
        state = "no gradient" if gradient is None else "a gradient that is not finite"
        raise EvaluationError(
            f"attack: the logits have {state} in the images, so there is nothing to follow; "
            "attack an encoder and head that are differentiable, outside torch.no_grad, with finite weights"
        )
    return images + length * gradient.sign()


def _starts(images: Images, keys: Sequence[tuple[Key, ...]]) -> Images:
    """Return U(-1, 1) per value, each image from its own key."""
    drawn = [generator("attack", *key).uniform(-1, 1, tuple(images.shape[1:])) for key in keys]
    return torch.from_numpy(np.stack(drawn)).to(images.device, images.dtype)


def _check_settings(epsilon: float, steps: int, step_size: float | None) -> None:
    if not 0 < epsilon <= 1:
        raise ConfigError(f"epsilon = {epsilon}: must be in (0, 1], the range of the images; 8 / 255 is usual")
    if steps < 1:
        raise ConfigError(f"steps = {steps}: must be at least 1; 1 is FGSM, more are PGD")
    if step_size is not None and steps == 1:
        raise ConfigError(f"step_size = {step_size}: FGSM (steps = 1) steps by epsilon; leave step_size out")
    if step_size is not None and not 0 < step_size <= 1:
        raise ConfigError(f"step_size = {step_size}: must be in (0, 1]; leave it out for 2.5 epsilon / steps")


def _check_images(images: Images, keys: Sequence[tuple[Key, ...]]) -> None:
    if len(keys) != len(images):
        raise EvaluationError(f"keys = {len(keys)} for {len(images)} images: must be one per image; give each its own")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise EvaluationError(
            f"images = {low:g} to {high:g}: must lie in [0, 1]; pass them before normalization and divide by 255"
        )
