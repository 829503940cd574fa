"""Noise: Gaussian, shot and impulse.

Axis letters: H height, W width in pixels.
"""

import numpy as np

from syn2co.images.corruptions.pixels import Image, Strength, to_levels, to_unit


def gaussian_noise(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return x + n, n ~ N(0, s^2) per value of x in [0, 1]; strength (s)."""
    (deviation,) = strength
    return to_levels(to_unit(image) + rng.normal(size=image.shape, scale=deviation))


def shot_noise(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return k / p, k ~ Poisson(p x) per value of x in [0, 1]; strength (p), the photons of a white pixel."""
    (photons,) = strength
    return to_levels(rng.poisson(to_unit(image) * photons) / photons)


def impulse_noise(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image with a share of its values, channel by channel, set to 0 or 255, even odds; strength (share)."""
    (share,) = strength
    hit = rng.random(image.shape) <= share
    salt = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, np.uint8(255), np.uint8(0)), image)
