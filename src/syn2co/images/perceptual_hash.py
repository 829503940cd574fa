"""Perceptual hash: 64 bits that stay the same when an image is stored again, brightened a little or resized.

Axis letters: H height, W width in pixels.
"""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

_SIDE, _BITS = 32, 64


def phash(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """Return the perceptual hash of `image` as 16 hex digits.

    The image is turned gray and shrunk to 32 x 32; a bit says whether one of the 64 lowest frequencies of its DCT
    (ordered by u + v, the mean left out) is above their median.

    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010. Differs: the lowest
    frequencies by u + v, pure horizontal and vertical ones among them, instead of an 8 x 8 block.
    """
    return f"{phash_bits(image):016x}"


def phash_bits(image: UInt8[np.ndarray, "H W 3"]) -> int:
    """Return the perceptual hash of `image` as a 64-bit integer; see `phash`."""
    gray = image.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    smaller = min(gray.shape) >= _SIDE
    gray = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    basis, lowest = _basis()
    # Rounding makes a constant image all zeros instead of the sign of rounding errors.
    values = np.round((basis @ gray.astype(np.float64) @ basis.T).ravel()[lowest], 2)
    bits = values > np.median(values)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@cache
def _basis() -> tuple[Float64[np.ndarray, "U S"], np.ndarray]:
    """Return the rows of the orthonormal DCT-II that are needed, and the flat places of the lowest frequencies."""
    count = 12
    rows = np.cos(np.pi / _SIDE * np.outer(np.arange(count), np.arange(_SIDE) + 0.5)) * np.sqrt(2 / _SIDE)
    rows[0] /= np.sqrt(2)
    places = sorted((u + v, abs(u - v), u, v) for u in range(count) for v in range(count))
    return rows, np.array([u * count + v for _, _, u, v in places[1 : _BITS + 1]])
