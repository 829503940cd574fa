"""95 % bootstrap intervals over test images, of a score and of the paired difference of two scores.

Axes: M test images, U distinct values.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from syn2co.core import keyed_rng

DRAWS = 10_000
LEVEL = 0.95
_CELLS = 2**22  # counts drawn at once: 32 MiB


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
    distinct values are drawn instead of the images: the same law, 2 numbers a draw for a 0/1 vector.
    Where all values are equal (every image right) the interval has no width: the bootstrap cannot see what the test
    images do not show. Source: Efron, "Bootstrap methods", Ann. Statist. 1979.
    """
    assert len(values) > 0, "no test images"
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    draws = keyed_rng.generator("bootstrap", seed)
    step = max(1, _CELLS // len(distinct))
    means = np.concatenate([
        draws.multinomial(len(values), counts / len(values), size=min(step, DRAWS - start)) @ distinct / len(values)
        for start in range(0, DRAWS, step)
    ])  # fmt: skip
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(distinct @ counts / len(values)), float(low), float(high))


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int) -> Interval:
    """Return the mean of first - second over the same test images, with its interval.

    Raises:
        AssertionError: if the two are not values of the same number of test images.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert one.shape == two.shape, "a paired difference needs the same test images in both"
    return bootstrap_mean(one - two, seed=seed)
