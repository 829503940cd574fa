"""MixUp of several procedural pictures: the largest single gain of arXiv:2211.16412 (shaders21k).

Weights are drawn from a flat Dirichlet, so that often one or two pictures lead and edges stay visible; equal weights
would leave a gray haze. Axis letters: n pictures, S side in pixels.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from syn2co.synthesis.generators.procedural import fractals, leaves, spectrum, warps

PARTS = {"leaves": leaves, "spectrum": spectrum, "fractals": fractals, "warps": warps}


@dataclass(frozen=True)
class Blend:
    """Programs, by name and parameters, and their weights, which sum to 1."""

    names: tuple[str, ...]
    parts: tuple[Any, ...]
    weights: Float[np.ndarray, " n"]


def draw(rng: np.random.Generator, count: int) -> Blend:
    """Return a program of `count` others, each kind as likely as the next."""
    names = tuple(str(name) for name in rng.choice(list(PARTS), count))
    weights = rng.dirichlet(np.ones(count))
    return Blend(names, tuple(PARTS[name].draw(rng) for name in names), weights)


def jitter(blend: Blend, rng: np.random.Generator, strength: float) -> Blend:
    """Return the program with each part jittered, and the weights a little."""
    parts = tuple(PARTS[name].jitter(part, rng, strength) for name, part in zip(blend.names, blend.parts, strict=True))
    weights = blend.weights * np.exp(strength * rng.standard_normal(len(blend.weights)))
    return replace(blend, parts=parts, weights=weights / weights.sum())


def render(blend: Blend, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return sum_i weight_i picture_i, stretched by 1 / sqrt(sum weight_i^2) about the mean, rounded.

    The mean of n independent pictures has less contrast than they have; the stretch gives it back.
    """
    total = np.zeros((size, size, 3), np.float32)
    for name, part, weight in zip(blend.names, blend.parts, blend.weights.tolist(), strict=True):
        picture = PARTS[name].render(part, rng, size).astype(np.float32)
        cv2.scaleAdd(picture, weight, total, total)
    gain = float(np.square(blend.weights).sum() ** -0.5)
    mean = np.array(cv2.mean(total)[:3], np.float32)
    return np.clip(mean + gain * (total - mean) + np.float32(0.5), 0, 255).astype(np.uint8)
