"""Colors of procedural images: palettes with a wide span of lightness, and a floor under the contrast of a picture.

Axis letters: A anchor colors, S side in pixels. Colors are RGB; lightness is ITU-R BT.601 luma.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

ANCHORS = 6
LUMA = np.array([0.299, 0.587, 0.114])
LEAST_STD = 24.0
"""Gray levels: a picture with less standard deviation of its luma is stretched."""
_PURE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], float)


@dataclass(frozen=True)
class Palette:
    """Colors in 0..255 that belong together, in the order in which a color scale runs through them."""

    anchors: Float[np.ndarray, "A 3"]

    def table(self) -> UInt8[np.ndarray, "256 1 3"]:
        """Return the color scale through the anchors, as `cv2.applyColorMap` wants it."""
        places = np.arange(256) * ((len(self.anchors) - 1) / 255)
        columns = [np.interp(places, np.arange(len(self.anchors)), column) for column in self.anchors.T]
        return np.rint(np.stack(columns, axis=1)).astype(np.uint8)[:, None]

    def by_lightness(self) -> Float[np.ndarray, "A 3"]:
        """Return the anchors from dark to light."""
        return self.anchors[np.argsort((self.anchors * LUMA).sum(axis=1), kind="stable")]

    def jittered(self, rng: np.random.Generator, strength: float) -> "Palette":
        """Return the palette with each channel of each anchor moved by N(0, 80 strength) levels."""
        moved = self.anchors + 80 * strength * rng.standard_normal(self.anchors.shape)
        return Palette(np.clip(moved, 0, 255))


def draw_palette(rng: np.random.Generator) -> Palette:
    """Return a palette whose lightness spans at least half of the scale, in one of several schemes of hues.

    Lightness is stratified, hues lie around one to three centers, and each color has a drawn share of the greatest
    saturation that its hue and lightness allow.
    """
    light = (np.arange(ANCHORS) + rng.random(ANCHORS)) / ANCHORS
    light = 0.04 + 0.92 * rng.permutation(light) if rng.random() < 0.6 else 0.04 + 0.92 * light
    centers = rng.random() + np.arange(3) / rng.choice([1, 2, 3, 7])
    hues = rng.choice(centers, ANCHORS) + rng.normal(0, 0.05, ANCHORS)
    saturation = np.clip(rng.uniform(0.3, 1.1) * rng.uniform(0.6, 1.0, ANCHORS), 0, 1)
    return Palette(255 * _colors(hues, saturation, light))


def _colors(
    hues: Float[np.ndarray, " A"], saturation: Float[np.ndarray, " A"], light: Float[np.ndarray, " A"]
) -> Float[np.ndarray, "A 3"]:
    """Return colors in 0..1 with exactly the lightness asked for: l + saturation * t * (pure - luma(pure)).

    t is the largest step that stays within 0..1 in all channels.
    """
    turns = 6 * (hues % 1.0)
    pure = np.stack([np.interp(turns, np.arange(7), channel) for channel in _PURE.T], axis=1)
    chroma = pure - (pure * LUMA).sum(axis=1, keepdims=True)
    room = np.where(chroma > 0, 1 - light[:, None], light[:, None])
    step = (room / np.maximum(np.abs(chroma), 1e-9)).min(axis=1, keepdims=True)
    return light[:, None] + saturation[:, None] * step * chroma


def with_contrast(image: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """Return the picture, its values stretched about the mean luma if their spread is under `LEAST_STD`."""
    mean, std = cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    spread = float(std[0, 0])
    if spread >= LEAST_STD:
        return image
    middle = float(mean[0, 0])
    table = middle + LEAST_STD / max(spread, 1.0) * (np.arange(256) - middle)
    return cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8))
