"""One pass over all images of a side: hashes of the pixels, and the statistics that show dead or noisy images.

Axis letters: N images, H height, W width in pixels.
"""

from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8, UInt64

from syn2co.audits.image_sets import AuditedSet
from syn2co.core.progress import Bar
from syn2co.images.perceptual_hash import phash_bits


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images of one side, 44 bytes per image."""

    pixels: UInt64[np.ndarray, " N"]
    """blake2b of shape and pixels: equal for images that are equal, whatever file they came from."""
    hashes: UInt64[np.ndarray, " N"]
    mirrored_pixels: UInt64[np.ndarray, " N"]
    """The same of the image mirrored left to right; of length 0 unless asked for."""
    mirrored_hashes: UInt64[np.ndarray, " N"]
    brightness: Float32[np.ndarray, " N"]
    """Mean over all pixels and channels, 0..255."""
    spread: Float32[np.ndarray, " N"]
    """Largest standard deviation of a channel, 0..127.5."""
    smoothness: Float32[np.ndarray, " N"]
    """Correlation of near pixels: near 0 for white noise, 0.7 to 1 for photographs; 1 for a constant."""
    sizes: Int32[np.ndarray, "N 2"]
    """Height and width."""


def scan(side: AuditedSet, *, mirrored: bool = False, progress: bool = False) -> ImageStatistics:
    """Return the hashes and statistics of all images of the side, mirrored hashes too if asked for."""
    count = len(side)
    other = count if mirrored else 0
    stats = ImageStatistics(
        *(np.zeros(length, np.uint64) for length in (count, count, other, other)),
        *(np.zeros(count, np.float32) for _ in range(3)),
        sizes=np.zeros((count, 2), np.int32),
    )
    with Bar(f"{side.role}: hashes", count, show=progress) as bar:
        for index in range(count):
            image = side.images.read(index)
            stats.pixels[index], stats.hashes[index] = pixel_hash(image), phash_bits(image)
            if mirrored:
                flipped = np.ascontiguousarray(image[:, ::-1])
                stats.mirrored_pixels[index], stats.mirrored_hashes[index] = pixel_hash(flipped), phash_bits(flipped)
            stats.brightness[index], stats.spread[index], stats.smoothness[index] = statistics(image)
            stats.sizes[index] = image.shape[:2]
            bar.advance()
    return stats


def pixel_hash(image: UInt8[np.ndarray, "H W 3"]) -> int:
    """Return 64 bits of blake2b over the shape and the pixels of `image`."""
    hasher = blake2b(f"{image.shape}".encode(), digest_size=8)
    hasher.update(np.ascontiguousarray(image).data)
    return int.from_bytes(hasher.digest(), "big")


def statistics(image: UInt8[np.ndarray, "H W 3"]) -> tuple[float, float, float]:
    """Return the mean value, the largest standard deviation of a channel, and the smoothness of the image.

    The smoothness is the correlation of neighboring pixels, or that of pixels in blocks of 4 x 4 where it is larger:
    fine lines on a ground correlate little from pixel to pixel and are not noise.
    """
    means, deviations = cv2.meanStdDev(image)
    pixels = image.astype(np.float32)
    pixels -= pixels.mean(axis=(0, 1))
    power = float((pixels * pixels).mean())
    if power < 0.25 or min(image.shape[:2]) < 4:
        return float(means.mean()), float(deviations.max()), 1.0
    across, down = float((pixels[:, 1:] * pixels[:, :-1]).mean()), float((pixels[1:] * pixels[:-1]).mean())
    high, wide = (side // 4 for side in image.shape[:2])
    blocks = pixels[: 4 * high, : 4 * wide].reshape(high, 4, wide, 4, 3).mean(axis=(1, 3))
    in_blocks = (16 * float((blocks * blocks).mean()) / power - 1) / 15
    return float(means.mean()), float(deviations.max()), max((across + down) / (2 * power), in_blocks)
