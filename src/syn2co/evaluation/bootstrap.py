"""95 % bootstrap intervals over test images, of a score and of the paired difference of two scores.

Axes: M test images, U distinct values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int64, UInt8
from numpy.typing import ArrayLike

from syn2co.core import keyed_rng

DRAWS = 10_000
LEVEL = 0.95
_CELLS = 2**22  # counts drawn at once: 32 MiB
_FEW = 64  # distinct values whose counts are drawn one by one; 2 of them take 0.01 s
_KEPT = 2**29  # bytes of counts of images that are kept for the next score: 50,000 test images


@dataclass(frozen=True)
class Interval:
    """A mean over test images and the ends of its 95 % interval, in the unit of the values."""

    value: float
    low: float
    high: float

    def percent(self) -> "Interval":
        """Return the same times 100."""
        return Interval(100 * self.value, 100 * self.low, 100 * self.high)


def bootstrap_mean(values: Float[np.ndarray, " M"], *, seed: int) -> Interval:
    """Return the mean of `values` and its percentile bootstrap interval, a function of the values and `seed`.

    M values drawn with replacement have counts ~ Multinomial(M, share of each distinct value), so the counts of the U
    distinct values are drawn instead of the images where they are few: the same law, 2 numbers a draw for a 0/1 vector.
    Where all values are equal (every image right) the interval has no width: the bootstrap cannot see what the test
    images do not show. Source: Efron, "Bootstrap methods", Ann. Statist. 1979.
    """
    assert len(values) > 0, "no test images"
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    if len(distinct) <= _FEW:
        draws = keyed_rng.generator("bootstrap", seed)
        step = max(1, _CELLS // len(distinct))
        sizes = (min(step, DRAWS - start) for start in range(0, DRAWS, step))
        means = np.concatenate([_means_by_counts(draws, distinct, counts, size) for size in sizes])
    else:
        means = _means_of_images(np.repeat(distinct, counts), seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(distinct @ counts / len(values)), float(low), float(high))


def _means_by_counts(
    draws: np.random.Generator, distinct: Float[np.ndarray, " U"], counts: Int64[np.ndarray, " U"], size: int
) -> Float[np.ndarray, " size"]:
    total = counts.sum()
    return draws.multinomial(total, counts / total, size=size) @ distinct / total


def _means_of_images(values: Float[np.ndarray, " M"], seed: int) -> Float[np.ndarray, " draws"]:
    """Return the means of all draws of images, by counts that all scores of M test images share where they fit."""
    mean = values.mean()
    centered = (values - mean).astype(np.float32)  # so that float32 sums lose nothing of a large common value
    blocks = _counts(len(values), seed) if DRAWS * len(values) <= _KEPT else _count_blocks(len(values), seed)
    return mean + np.concatenate([block.astype(np.float32) @ centered for block in blocks]) / len(values)


@lru_cache(maxsize=1)
def _counts(images: int, seed: int) -> tuple[UInt8[np.ndarray, "draws M"], ...]:
    return tuple(_count_blocks(images, seed))


def _count_blocks(images: int, seed: int) -> Iterator[UInt8[np.ndarray, "draws M"]]:
    """Yield, for some draws at a time, how often each image is drawn; 255 at most, which no draw ever reaches."""
    draws = keyed_rng.generator("bootstrap images", seed)
    step = max(1, _CELLS // images)
    for start in range(0, DRAWS, step):
        size = min(step, DRAWS - start)
        chosen = draws.integers(0, images, size=(size, images), dtype=np.int64)
        chosen += images * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * images).astype(np.uint8).reshape(size, images)


def interval_of(values: Float[np.ndarray, " M"] | Float[np.ndarray, "R M"], *, seed: int) -> Interval:
    """Return the mean of one value per test image with its interval; of R rows, one per draw, with that over draws.

    Over draws: mean +- t_{0.975, R - 1} s / sqrt(R), s the standard deviation of the R means. It says how far another
    draw of the training labels would move the score on these very test images.
    """
    if values.ndim == 1:
        return bootstrap_mean(values, seed=seed)
    from scipy.stats import t

    means = np.asarray(values, np.float64).mean(axis=1)
    assert len(means) > 1, "an interval over draws needs at least two of them"
    half = float(t.ppf((1 + LEVEL) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return Interval(float(means.mean()), float(means.mean()) - half, float(means.mean()) + half)


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int) -> Interval:
    """Return the mean of first - second over the same test images (and draws), with its interval.

    Raises:
        AssertionError: if the two are not values of the same test images.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert one.shape == two.shape, "a paired difference needs the same test images in both"
    return interval_of(one - two, seed=seed)
