"""One pass over all images of a side: hashes of the pixels, and the statistics that show dead or noisy images.

Axis letters: N images, K hashes of an image, H height, W width in pixels.
"""

from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8, UInt64

from syn2co.audits.image_sets import AuditedSet
from syn2co.core.progress import Bar
from syn2co.images.near_copies import HASHES, view_hashes


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images of one side, 310 bytes per image."""

    pixels: UInt64[np.ndarray, " N"]
    """blake2b of shape and pixels: equal for images that are equal, whatever file they came from."""
    mirrored_pixels: UInt64[np.ndarray, " N"]
    """The same of the image mirrored left to right."""
    hashes: UInt64[np.ndarray, "N K"]
    """Perceptual hashes of the views of each image; see `near_copies.view_hashes`."""
    brightness: Float32[np.ndarray, " N"]
    """Mean over all pixels and channels, 0..255."""
    spread: Float32[np.ndarray, " N"]
    """Largest standard deviation of a channel, 0..127.5."""
    smoothness: Float32[np.ndarray, " N"]
    """Correlation of near pixels: near 0 for white noise, 0.7 to 1 for photographs; 1 for a constant."""
    sizes: Int32[np.ndarray, "N 2"]
    """Height and width."""


def scan(side: AuditedSet, *, progress: bool = False) -> ImageStatistics:
    """Return the hashes and statistics of all images of the side."""
    count = len(side)
    pixels, mirrored = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    values = (np.zeros(count, np.float32) for _ in range(3))
    sizes = np.zeros((count, 2), np.int32)
    stats = ImageStatistics(pixels, mirrored, np.zeros((count, HASHES), np.uint64), *values, sizes=sizes)
    with (
        Bar(f"{side.role}: hashes", count, show=progress) as bar,
        closing(side.images.read_many(range(count))) as images,
    ):
        for index, image in enumerate(images):
            stats.pixels[index] = pixel_hash(image)
            stats.mirrored_pixels[index] = pixel_hash(image[:, ::-1])
            stats.hashes[index] = view_hashes(image)
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
