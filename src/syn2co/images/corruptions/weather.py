"""Weather: snow, frost, fog, and brightness.

Axis letters: H height, W width, N side of a square map, a power of two.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from skimage.color import hsv2rgb, rgb2hsv

from syn2co.images.corruptions.blur import draw_out, enlarge
from syn2co.images.corruptions.frost_plates import PLATES, plate
from syn2co.images.corruptions.pixels import Image, Strength, to_levels, to_unit

_FIRST_ROUGHNESS = 100.0


def snow(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image paled, under falling flakes and the same flakes turned by 180 degrees.

    x' = a x + (1 - a) max(x, 1.5 gray(x) + 0.5);  result = x' + flakes + turned flakes.
    strength (mean, deviation, zoom, threshold of the flakes; radius, sigma of their fall; a).
    """
    mean, deviation, zoom, threshold, radius, sigma, kept = strength
    flakes = enlarge(rng.normal(mean, deviation, image.shape[:2])[..., None], zoom)[..., 0]
    flakes = np.where(flakes < threshold, 0, flakes)
    levels = np.trunc(np.clip(flakes, 0, 1) * 255).astype(np.float32)  # stored in 8 bits before and after the fall
    flakes = np.rint(draw_out(levels, int(radius), sigma, rng.uniform(-135, -45))) / 255.0
    unit = to_unit(image).astype(np.float32)
    pale = np.maximum(unit, cv2.cvtColor(unit, cv2.COLOR_RGB2GRAY)[..., None] * 1.5 + 0.5)
    return to_levels(kept * unit + (1 - kept) * pale + (flakes + flakes[::-1, ::-1])[..., None])


def frost(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return a x + b f, f a random cut of one of five plates of frost; strength (a, b, scale of the plates).

    Differs from the paper, which ships photographs: ours are drawn, with the mean color and contrast of those.
    """
    kept, added, scale = strength
    whole = _scaled(plate(int(rng.integers(PLATES))), scale, max(image.shape[:2]))
    top, left = (int(rng.integers(0, whole.shape[0] - side + 1)) for side in image.shape[:2])
    cut = whole[top : top + image.shape[0], left : left + image.shape[1]]
    return np.clip(kept * image + added * cut, 0, 255).astype(np.uint8)


def _scaled(whole: Image, scale: float, least: int) -> Image:
    """Return the plate at `scale`, or larger if one side would have fewer than `least` pixels."""
    side = max(round(scale * whole.shape[0]), least)
    return whole if side == whole.shape[0] else cv2.resize(whole, (side, side), interpolation=cv2.INTER_LINEAR)


def fog(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return (x + t f) m / (m + t), m the largest value of x, f a plasma fractal in [0, 1]; strength (t, decay)."""
    thickness, decay = strength
    unit, (height, width) = to_unit(image), image.shape[:2]
    brightest = unit.max()
    haze = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    return to_levels((unit + thickness * haze) * brightest / (brightest + thickness))


def plasma(side: int, decay: float, rng: np.random.Generator) -> Float32[np.ndarray, "N N"]:
    """Return a height map in [0, 1] by the diamond-square algorithm on a torus; the roughness falls by `decay` a level.

    Each new point is the mean of its four neighbors plus w U(-w, w), w = 100 / decay^level.
    Source: Fournier et al., "Computer rendering of stochastic models", CACM 1982; constants of ImageNet-C.
    """
    heights = np.zeros((side, side), np.float32)
    step, roughness = side, _FIRST_ROUGHNESS
    while step >= 2:
        _diamond_square(heights, step, roughness, rng)
        step, roughness = step // 2, roughness / decay
    heights -= heights.min()
    return heights / heights.max()


def _diamond_square(heights: Float32[np.ndarray, "N N"], step: int, roughness: float, rng: np.random.Generator) -> None:
    """Fill the centers of the squares of side `step` between known points, then the centers of the diamonds."""

    def jittered(total: Float32[np.ndarray, "M M"]) -> Float64[np.ndarray, "M M"]:
        return total / 4 + roughness * rng.uniform(-roughness, roughness, total.shape)

    half = step // 2
    corners = heights[::step, ::step]
    pairs = corners + np.roll(corners, -1, axis=0)
    heights[half::step, half::step] = jittered(pairs + np.roll(pairs, -1, axis=1))
    centers = heights[half::step, half::step]
    around = (centers + np.roll(centers, 1, axis=0)) + (corners + np.roll(corners, -1, axis=1))
    heights[::step, half::step] = jittered(around)
    around = (centers + np.roll(centers, 1, axis=1)) + (corners + np.roll(corners, -1, axis=0))
    heights[half::step, ::step] = jittered(around)


def brightness(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image with its value (HSV, in [0, 1]) raised; strength (by how much). Not random."""
    hsv = rgb2hsv(to_unit(image))
    hsv[..., 2] = np.clip(hsv[..., 2] + strength[0], 0, 1)
    return to_levels(hsv2rgb(hsv))
