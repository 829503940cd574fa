"""Means and paired differences of cells with their intervals, the seed as unit of repetition; Holm's correction.

Axes: S seeds, M test images, any number of grids before them (B).

x[s, i] = mean + seed[s] + image[i] + residual[s, i]: seeds and test images are both drawn at random, and every seed is
tested on the same images. With A = MS(seeds) / SM, E = MS(residual) / SM and C = MS(images) / SM, but at least E, the
half width of an interval of error rate a is

    half^2 = max(t(S - 1)^2 A + t(M - 1)^2 (C - E), t(M - 1)^2 C),     t(n): quantile 1 - a/2 of Student's t

Source: Banerjee, "Approximate confidence interval for linear functions of means of k populations when the population
variances are not equal", Sankhya 1960: such a sum of squares never covers too little, whatever the variances and the
level are. Satterthwaite's degrees of freedom give shorter intervals, but these cover 90 to 92 % with two seeds that
differ (`benchmarks/study_statistics.py`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

LEVEL = 0.95
POWER = 0.8
ONE_SEED = "one seed: says nothing about training"
MOST_SEEDS = 10_000
"""Numbers of seeds beyond this one are not looked for."""
_SMALLEST_P = 1e-15
_Numbers = Float[np.ndarray, "*B"]


class Spread(NamedTuple):
    """Parts of the variance of the mean of each grid."""

    seeds: int
    images: int
    of_seeds: _Numbers
    """A: of the seeds' means, with the residual in it; 0 with one seed, of which it is not known."""
    of_images: _Numbers
    """C - E: of test images, whatever the seed."""
    residual: _Numbers
    """E: of one seed on one image."""

    def half(self, error: ArrayLike) -> _Numbers:
        """Return the half width of intervals that miss in this share of the cases at most."""
        images = -stdtrit(max(self.images - 1, 1), np.asarray(error) / 2)
        seeds = -stdtrit(self.seeds - 1, np.asarray(error) / 2) if self.seeds > 1 else 0.0
        both = seeds**2 * self.of_seeds + images**2 * self.of_images
        return np.sqrt(np.maximum(both, images**2 * (self.of_images + self.residual)))

    def p(self, mean: ArrayLike) -> _Numbers:
        """Return the error rate at which the interval around each mean reaches zero, by bisection of its logarithm."""
        low, high = np.full(np.shape(mean), np.log(_SMALLEST_P)), np.zeros(np.shape(mean))
        for _ in range(50):
            middle = (low + high) / 2
            leaves_zero = self.half(np.exp(middle)) < np.abs(mean)
            low, high = np.where(leaves_zero, low, middle), np.where(leaves_zero, middle, high)
        return np.exp(high)

    def smallest(self, seeds: int, *, error: float = 1 - LEVEL) -> _Numbers:
        """Return the smallest difference that as many seeds would resolve at this error rate, with a power of 80 %."""
        share, of_test = self.seeds / seeds, _noncentrality(self.images - 1, error)
        of_seeds = np.maximum(self.of_seeds, self.residual) * share
        both = _noncentrality(seeds - 1, error) ** 2 * of_seeds + of_test**2 * self.of_images
        return np.sqrt(np.maximum(both, of_test**2 * (self.of_images + self.residual * share)))

    def times(self, factor: float) -> "Spread":
        """Return the spread of values that are as many times as large."""
        parts = (part * factor**2 for part in self[2:])
        return Spread(self.seeds, self.images, *parts)


def spread(values: Float[np.ndarray, "*B S M"]) -> Spread:
    """Return the parts of the variance of the mean of each grid, by a two-way analysis without repetition.

    Equal values have no spread, exactly.

    Example:
        >>> float(spread(np.array([[0.0, 0.0], [1.0, 1.0]])).of_seeds)  # s^2 / S of the means 0 and 1
        0.25
    """
    seeds, images = values.shape[-2:]
    values = values - values[..., :1, :1]
    by_seed, by_image = values.mean(-1), values.mean(-2)
    zero = np.zeros(values.shape[:-2])
    of_images = by_image.var(-1, ddof=1) / images if images > 1 else zero
    if seeds == 1:
        return Spread(seeds, images, zero, of_images, zero)
    of_seeds = by_seed.var(-1, ddof=1) / seeds
    if images == 1:
        return Spread(seeds, images, of_seeds, zero, zero)
    squares = np.einsum("...si,...si->...", values, values) - seeds * images * values.mean((-2, -1)) ** 2
    squares -= seeds * images * ((seeds - 1) * of_seeds + (images - 1) * of_images)
    residual = np.maximum(squares, 0) / ((seeds - 1) * (images - 1) * seeds * images)
    return Spread(seeds, images, of_seeds, np.maximum(of_images - residual, 0), residual)


@lru_cache(maxsize=4096)
def _noncentrality(freedom: int, error: float) -> float:
    """Return the true difference, in standard errors, that a two-sided t test finds with a power of 80 %."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    freedom = max(freedom, 1)
    quantile = -float(stdtrit(freedom, error / 2))
    if freedom > 100:
        return quantile + float(stdtrit(freedom, POWER))
    root: Any = brentq(lambda shift: nct.sf(quantile, freedom, shift) - POWER, quantile, 2 * quantile + 10)
    return float(root)


@dataclass(frozen=True)
class Estimate:
    """Mean score of one cell with the ends of its 95 % interval.

    With one seed the interval is over test images only and says nothing about training.
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int

    def times(self, factor: float) -> "Estimate":
        """Return the same in another unit, such as percent."""
        return replace(self, value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True)
class Difference:
    """Paired difference of two cells with the ends of its interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided: the error rate at which the interval reaches zero."""
    improvement: float
    """P(true difference > 0): 1 - p/2 for a positive difference, p/2 for a negative one."""
    smallest: float | None
    """Smallest true difference that this design would have resolved at the level with a power of 80 %; None if it is
    not known: one seed, or no spread at all."""
    seeds_for_one_point: int | None
    """Seeds with which one point would be the smallest; None: no number of seeds does, the test images are too few, or
    it is not known."""
    seeds: int
    images: int
    spread: Spread

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the interval of another level."""
        half = float(self.spread.half(1 - level))
        return self.value - half, self.value + half

    def resolvable_at(self, level: float, *, point: float = 0.01) -> "Difference":
        """Return the same with the smallest difference and the seeds for one point of another level."""
        if self.smallest is None:
            return self
        smallest = float(self.spread.smallest(self.seeds, error=1 - level))
        return replace(self, smallest=smallest, seeds_for_one_point=_seeds_for(point, self.spread, 1 - level))

    def times(self, factor: float) -> "Difference":
        """Return the same in another unit, such as percent."""
        return replace(
            self,
            value=self.value * factor,
            low=self.low * factor,
            high=self.high * factor,
            smallest=None if self.smallest is None else self.smallest * factor,
            spread=self.spread.times(factor),
        )


def estimate(values: Float[np.ndarray, "S M"], *, level: float = LEVEL) -> Estimate:
    """Return the mean over seeds and test images with the interval that both of them leave.

    Args:
        values: one number per seed and test image whose mean is the score.
        level: share of the intervals that hold the true mean.

    Example:
        >>> result = estimate(np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
        >>> result.value, result.seeds, result.images
        (0.5, 2, 3)
    """
    values = np.asarray(values, np.float64)
    mean, half = float(values.mean()), float(spread(values).half(1 - level))
    return Estimate(mean, mean - half, mean + half, *values.shape)


def difference(
    one: Float[np.ndarray, "S M"], other: Float[np.ndarray, "S M"], *, level: float = LEVEL, point: float = 0.01
) -> Difference:
    """Return the mean of one - other, paired by seed and test image, with all that is known of its accuracy.

    Args:
        one: one number per seed and test image.
        other: those of the other cell, the same seeds and images in the same order.
        level: share of the intervals that hold the true difference; what could be resolved is of this level too.
        point: what "one point" is in the unit of the values.

    Raises:
        AssertionError: if the two do not have the same seeds and images.

    Example:
        >>> one, other = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), np.zeros((2, 3))
        >>> round(difference(one, other).value, 2), difference(one, one).p
        (0.83, 1.0)
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert one.shape == other.shape, "a paired difference needs the same seeds and test images in both"
    values = one - other
    mean, parts = float(values.mean()), spread(values)
    half, p = float(parts.half(1 - level)), float(parts.p(mean))
    known = parts.seeds > 1 and half > 0
    return Difference(
        mean, mean - half, mean + half, p,
        improvement=float(1 + np.sign(mean) * (1 - p)) / 2,
        smallest=float(parts.smallest(parts.seeds, error=1 - level)) if known else None,
        seeds_for_one_point=_seeds_for(point, parts, 1 - level) if known else None,
        seeds=parts.seeds, images=parts.images, spread=parts,
    )  # fmt: skip


def _seeds_for(point: float, parts: Spread, error: float) -> int | None:
    """Return the smallest number of seeds, 2 at least, that resolves a difference; None if none of 10,000 does."""
    numbers = range(2, MOST_SEEDS + 1)
    index = bisect_left(numbers, True, key=lambda seeds: bool(parts.smallest(seeds, error=error) <= point))
    return numbers[index] if index < len(numbers) else None


def holm(p: Sequence[float]) -> list[float]:
    """Return adjusted p: those at most 0.05 are at a family-wise 5 %. Source: Holm, Scand. J. Statist. 1979.

    Args:
        p: one per hypothesis of the family, in any order.

    Example:
        >>> [round(value, 2) for value in holm([0.03, 0.01, 0.04])]
        [0.06, 0.03, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p, np.float64)[order]), 1)
    return adjusted.tolist()


def holm_levels(p: Sequence[float], *, level: float = LEVEL) -> list[float]:
    """Return the levels at which intervals leave zero exactly where Holm's procedure rejects.

    1 - a / (m - k) at the k-th smallest p, from 0, of m; behind the first one that is not rejected the level stays.
    Source: Strassburger and Bretz, Stat. Med. 2008, for the intervals of those that are not rejected.

    Args:
        p: one per hypothesis of the family, in any order.
        level: 1 - the family-wise error rate a.

    Example:
        >>> [round(value, 4) for value in holm_levels([0.03, 0.01, 0.04])]
        [0.975, 0.9833, 0.975]
    """
    ranked = np.argsort(p, kind="stable")
    levels = [0.0] * len(p)
    remaining, stopped = len(p), False
    for index in ranked.tolist():
        levels[index] = 1 - (1 - level) / remaining
        stopped = stopped or p[index] > (1 - level) / remaining
        remaining -= not stopped
    return levels
