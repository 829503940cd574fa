"""Blur: out of focus, through frosted glass, in motion, and zooming.

Axis letters: H height, W width, C channels, K length of a kernel in pixels.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy.ndimage import gaussian_filter

from syn2co.images.corruptions.pixels import Image, Strength, to_levels, to_unit

_SMALL_DISK = 8  # up to this radius the kernel has 17 x 17 pixels and is smoothed over 3 x 3, above it over 5 x 5


def defocus_blur(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image under a disk of constant weight; strength (radius, sigma that smooths its rim). Not random."""
    radius, rim = strength
    planes = [cv2.filter2D(plane, -1, _disk(radius, rim)) for plane in cv2.split(to_unit(image))]
    return to_levels(cv2.merge(planes))


def _disk(radius: float, rim: float) -> Float32[np.ndarray, "K K"]:
    """Return the kernel: 1 within the radius and 0 outside, of sum 1, then smoothed by a small Gaussian."""
    reach = max(math.ceil(radius), _SMALL_DISK)
    steps = np.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float32)
    window = 3 if radius <= _SMALL_DISK else 5
    return cv2.GaussianBlur(disk / disk.sum(), (window, window), rim)


def glass_blur(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image blurred, its pixels replaced by near ones, blurred again; strength (sigma, reach, passes).

    Each pass walks from the last pixel to the first and gives each one, `reach` pixels or more from the border, the
    present color of one at an offset in [-reach, reach). Differs from the paper's words (pixels change places) and not
    from its images: its code swaps two NumPy views, which copies one over the other. So does this.
    """
    sigma, reach, passes = strength[0], int(strength[1]), int(strength[2])
    pixels = to_levels(_gaussian(to_unit(image), sigma)).reshape(-1, 3)
    height, width = image.shape[:2]
    count = max(height - 2 * reach, 0) * max(width - 2 * reach, 0)
    for _ in range(passes):
        offsets = rng.integers(-reach, reach, size=(count, 2))
        pixels = pixels[glass_sources(offsets, height, width, reach)]
    return to_levels(_gaussian(to_unit(pixels.reshape(image.shape)), sigma))


def glass_sources(offsets: Int[np.ndarray, "M 2"], height: int, width: int, reach: int) -> Int[np.ndarray, " HW"]:
    """Return, per pixel in reading order, the pixel whose color it has after one pass of glass blur.

    Equal to the walk one pixel at a time. A pixel copies either one that the walk has yet to reach, whose color is its
    own, or one that was walked over before; those chains are followed by doubling, in log2(longest chain) steps.

    Args:
        offsets: (columns, rows) of each step, in the order of the walk.
    """
    rows, columns = np.meshgrid(
        np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1), indexing="ij"
    )
    walked = (rows * width + columns).ravel()
    copied = walked + offsets[:, 1] * width + offsets[:, 0]
    inner = np.zeros((height, width), bool)
    inner[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    pixels = np.arange(height * width)
    source, pointer = pixels.copy(), pixels.copy()
    source[walked] = copied
    later = inner.ravel()[copied] & (copied > walked)  # walked over before: follow on; else the chain ends here
    pointer[walked[later]] = copied[later]
    while not np.array_equal(pointer, further := pointer[pointer]):
        pointer = further
    return source[pointer]


def _gaussian(unit: Float64[np.ndarray, "H W 3"], sigma: float) -> Float64[np.ndarray, "H W 3"]:
    """Return the image under a Gaussian cut at 4 sigma, border pixels repeated."""
    return gaussian_filter(unit, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def motion_blur(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the image drawn out along a line at U(-45, 45) degrees to the rows; strength (radius, sigma)."""
    radius, sigma = strength
    angle = rng.uniform(-45, 45)
    return np.rint(draw_out(image.astype(np.float32), int(radius), sigma, angle)).astype(np.uint8)


def draw_out(
    image: Float32[np.ndarray, "H W *C"], radius: int, sigma: float, angle: float
) -> Float32[np.ndarray, "H W *C"]:
    """Return sum_i k_i image(p + o_i), k_i ~ exp(-i^2 / 2 sigma^2), i = 0..2 radius: half a Gaussian along a line.

    o_i is i pixels in the direction of `angle` degrees, rounded half down; beyond the border its pixels are repeated.
    Source: the motion blur of ImageMagick (its documentation of `-motion-blur`), which made the published images.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    rows = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    columns = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    (height, width), edge = image.shape[:2], 2 * radius + 1
    padded = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    total = np.zeros_like(image)
    for weight, row, column in zip(weights, rows + edge, columns + edge, strict=True):
        total = cv2.scaleAdd(padded[row : row + height, column : column + width], weight, total)
    return total


def zoom_blur(image: Image, strength: Strength, rng: np.random.Generator) -> Image:
    """Return the mean of the image and its enlargements by 1, 1 + step, ... below stop; strength (stop, step).

    The unchanged image counts twice, as published. Not random.
    """
    stop, step = strength
    unit = to_unit(image).astype(np.float32)
    factors = np.arange(1, stop, step)
    total = np.zeros_like(unit)
    for factor in factors:
        total += enlarge(unit, float(factor))
    return to_levels((unit + total) / (len(factors) + 1))


def enlarge(image: Float[np.ndarray, "H W C"], factor: float) -> Float[np.ndarray, "H W C"]:
    """Return the central part of the image enlarged by `factor` to the same size, bilinear, corners on corners."""
    import torch

    height, width = image.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = np.ascontiguousarray(image[top : top + rows, left : left + columns].transpose(2, 0, 1), np.float64)
    size = (max(round(rows * factor), height), max(round(columns * factor), width))
    # In double precision, and 10 times faster than scipy.ndimage.zoom, with which it agrees to the last bit of float32.
    large = torch.nn.functional.interpolate(
        torch.from_numpy(part)[None], size=size, mode="bilinear", align_corners=True
    )[0].numpy()
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, top : top + height, left : left + width].transpose(1, 2, 0).astype(image.dtype)
