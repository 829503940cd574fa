"""Digital: contrast, elastic transform, pixelate, and JPEG compression.

Axis letters: H height, W width in pixels.
"""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import PIL.Image
from jaxtyping import Float32, Float64
from scipy.fft import dctn, idctn
from scipy.ndimage import map_coordinates

from syn2co.images.corruptions.pixels import Image, Strength, to_levels, to_unit


def contrast(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return (x - m) c + m, m the mean of each channel; strength (c). Not random."""
    unit = to_unit(image)
    means = unit.mean(axis=(0, 1), keepdims=True)
    return to_levels((unit - means) * strength[0] + means)


def elastic_transform(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image under a random affine map, then with each pixel displaced by a smooth random field.

    The field is U(-1, 1) per pixel, under a Gaussian of sigma, times alpha; the affine map moves three points by
    U(-a, a). strength (alpha, sigma, a, unit): the first three in units of `unit` times the shorter side.
    """
    height, width = image.shape[:2]
    unit = strength[3] * min(height, width)
    alpha, sigma, reach = (unit * part for part in strength[:3])
    moved = _shaken(to_unit(image).astype(np.float32), reach, rng)
    right = _smooth(rng.uniform(-1, 1, (height, width)), sigma) * alpha
    down = _smooth(rng.uniform(-1, 1, (height, width)), sigma) * alpha
    rows, columns = np.mgrid[:height, :width]
    places = (rows + down.astype(np.float32), columns + right.astype(np.float32))
    planes = [map_coordinates(plane, places, order=1, mode="reflect") for plane in cv2.split(moved)]
    return to_levels(cv2.merge(planes))


def _shaken(
    image: Float32[np.ndarray, "H W 3"], reach: float, rng: np.random.Generator
) -> Float32[np.ndarray, "H W 3"]:
    """Return the image under the affine map that moves three corners of a central square by U(-reach, reach)."""
    height, width = image.shape[:2]
    center, half = np.array([width // 2, height // 2], np.float32), min(height, width) // 3
    corners = np.stack([center + half, center + (half, -half), center - half]).astype(np.float32)
    goals = corners + rng.uniform(-reach, reach, corners.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, goals)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def _smooth(field: Float64[np.ndarray, "H W"], sigma: float) -> Float64[np.ndarray, "H W"]:
    """Return the field under a Gaussian cut at 3 sigma, mirrored at the border as often as needed.

    That convolution is diagonal in the cosine basis: exact, and no slower where sigma is as long as the image.
    """
    for axis, size in enumerate(field.shape):
        taps = np.arange(1, int(3 * sigma + 0.5) + 1)
        weights = np.exp(-0.5 * (taps / sigma) ** 2) if taps.size else np.zeros(0)
        waves = np.cos(np.pi / size * np.outer(np.arange(size), taps))
        gains = (1 + 2 * waves @ weights) / (1 + 2 * weights.sum())
        waved: Any = dctn(field, axes=[axis])
        field = np.asarray(idctn(waved * np.expand_dims(gains, 1 - axis), axes=[axis]))
    return field


def pixelate(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image shrunk to a share of its sides and enlarged again, both by box; strength (share). Not random."""
    height, width = image.shape[:2]
    small = (max(int(width * strength[0]), 1), max(int(height * strength[0]), 1))
    box = PIL.Image.Resampling.BOX
    return np.array(PIL.Image.fromarray(image).resize(small, box).resize((width, height), box))


def jpeg_compression(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image stored as JPEG by Pillow and read again; strength (quality). Not random."""
    stored = BytesIO()
    PIL.Image.fromarray(image).save(stored, "JPEG", quality=int(strength[0]))
    return np.array(PIL.Image.open(stored))
