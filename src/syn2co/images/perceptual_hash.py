"""Perceptual hash: 64 bits that stay the same when an image is stored again, brightened a little or resized.

Axis letters: H height, W width in pixels.
"""

from collections.abc import Sequence
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
    return turned_bits(image, 1)[0]


def turned_bits(image: UInt8[np.ndarray, "H W 3"], turns: int = 8) -> list[int]:
    """Return the perceptual hashes of `image` in its first `turns` of 8 turns; see `turn`.

    Mirroring an image changes the sign of the odd frequencies of its DCT, transposing it swaps u and v.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        >>> turned_bits(image, 2)[1] == phash_bits(image[:, ::-1])
        True
    """
    return bits_of([image], [turns])


def bits_of(images: Sequence[UInt8[np.ndarray, "H W 3"]], turns: Sequence[int]) -> list[int]:
    """Return the perceptual hashes of several images one after the other, each in its first `turns` of 8 turns.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        >>> bits_of([image, image[:20]], [2, 1]) == turned_bits(image, 2) + turned_bits(image[:20], 1)
        True
    """
    basis, lowest = _basis()
    # Rounding makes a constant image all zeros instead of the sign of rounding errors.
    values = np.round(basis @ np.stack([_small_gray(image) for image in images]) @ basis.T, 2)
    numbers = np.concatenate([np.arange(count) for count in turns])
    turned = np.repeat(values, turns, axis=0)
    sign = np.where(np.arange(turned.shape[1]) % 2, -1.0, 1.0)
    transposed = (numbers & 4) > 0
    turned[transposed] = turned[transposed].swapaxes(1, 2)
    turned[(numbers & 1) > 0] *= sign
    turned[(numbers & 2) > 0] *= sign[:, None]
    chosen = turned.reshape(len(turned), -1)[:, lowest]
    bits = np.packbits(chosen > np.median(chosen, axis=1, keepdims=True), axis=1)
    return [int.from_bytes(row.tobytes(), "big") for row in bits]


def _small_gray(image: UInt8[np.ndarray, "H W 3"]) -> Float64[np.ndarray, "S S"]:
    """Return the image in gray at 32 x 32."""
    gray = image.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    method = cv2.INTER_AREA if min(gray.shape) >= _SIDE else cv2.INTER_LINEAR
    return cv2.resize(gray, (_SIDE, _SIDE), interpolation=method).astype(np.float64)


def turn(image: UInt8[np.ndarray, "H W 3"], number: int) -> UInt8[np.ndarray, "V U 3"]:
    """Return `image` transposed (4), then mirrored left to right (1), then top to bottom (2): the sum is `number`.

    Example:
        >>> turn(np.arange(4).reshape(2, 2, 1), 5)[..., 0].tolist()
        [[2, 0], [3, 1]]
    """
    turned = image.swapaxes(0, 1) if number & 4 else image
    turned = turned[:, ::-1] if number & 1 else turned
    return turned[::-1] if number & 2 else turned


@cache
def _basis() -> tuple[Float64[np.ndarray, "U S"], np.ndarray]:
    """Return the rows of the orthonormal DCT-II that are needed, and the flat places of the lowest frequencies."""
    count = 12
    rows = np.cos(np.pi / _SIDE * np.outer(np.arange(count), np.arange(_SIDE) + 0.5)) * np.sqrt(2 / _SIDE)
    rows[0] /= np.sqrt(2)
    places = sorted((u + v, abs(u - v), u, v) for u in range(count) for v in range(count))
    return rows, np.array([u * count + v for _, _, u, v in places[1 : _BITS + 1]])
