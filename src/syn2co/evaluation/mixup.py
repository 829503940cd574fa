"""Mixup and cutmix of a whole batch, by keyed draws.

timm's `Mixup` in its mode "batch" draws from NumPy's ambient state; this has its law, its arithmetic and its targets.
Source: mixup, arXiv:1710.09412; cutmix, arXiv:1905.04899. Axes: B images of a batch, S side in pixels, C classes.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor


class Mix(NamedTuple):
    """Draw of one batch: the share `weight` of each image stays, the rest is of its partner from the batch's other end.

    `box` is (top, bottom, left, right) of the partner's pixels; None mixes all pixels.
    """

    weight: float = 1.0
    box: tuple[int, int, int, int] | None = None


def draw_mix(side: int, *, mixup: float, cutmix: float, rng: np.random.Generator) -> Mix:
    """Return the draw of a batch of images of `side` pixels.

    Mixup: weight ~ Beta(mixup, mixup). Cutmix: a square of the area share 1 - Beta(cutmix, cutmix) around a uniform
    place, cut off at the edges; the weight is the share of pixels outside. If both are positive each has half of the
    batches, if none is nothing is mixed.
    """
    switch = rng.random()
    alpha = cutmix if cutmix > 0 and (mixup == 0 or switch < 0.5) else 0.0
    if alpha == 0:
        return Mix(float(rng.beta(mixup, mixup))) if mixup > 0 else Mix()
    edge = int(side * math.sqrt(1 - rng.beta(alpha, alpha)))
    (top, bottom), (left, right) = (_ends(int(center), edge, side) for center in rng.integers(side, size=2))
    return Mix(1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


def _ends(center: int, edge: int, side: int) -> tuple[int, int]:
    return max(0, center - edge // 2), min(side, center + (edge + 1) // 2)


def mix_images(images: Float[Tensor, "B 3 S S"], mix: Mix) -> Float[Tensor, "B 3 S S"]:
    """Return the mixed images; image i is mixed with image B - 1 - i."""
    if mix.box is None:
        return images if mix.weight == 1 else mix.weight * images + (1 - mix.weight) * images.flip(0)
    top, bottom, left, right = mix.box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return mixed


def mix_targets(labels: Int64[Tensor, " B"], mix: Mix, *, classes: int, smoothing: float) -> Float[Tensor, "B C"]:
    """Return the distributions over classes that the mixed images are trained towards.

    w s(y_i) + (1 - w) s(y_{B-1-i}), s(y)_c = smoothing / C + (1 - smoothing) [c = y].
    """
    from timm.data.mixup import mixup_target

    return mixup_target(labels, classes, mix.weight, smoothing)
