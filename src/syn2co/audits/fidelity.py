"""Fidelity of synthetic images: coverage of the real ones, variety, and nearness to single real images.

Axis letters: N synthetic images, M real images, Q queries, B bank, D features, k neighbors.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from syn2co.audits.feature_space import Rows

K_PRECISION, K_COVERAGE = 3, 5
NEIGHBORS = 50
TAIL = 0.01
# The level of z = 1.96 exactly, which the intervals of the AUC take too; at 0.95 (z = 1.959964) the end moves by 5e-6.
_LEVEL = 0.950004209703559
_CELLS = 1 << 22


@dataclass(frozen=True)
class Fidelity:
    """Four shares of two samples of equal size: see `fidelity`."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Memorization:
    """Distance of synthetic images to single real ones, beside that of other real images."""

    share: float
    """Share of the synthetic images whose ratio is below `threshold`, each real image counted as often as even copies
    of all real images would have it: once, or N / M times if that is more."""
    threshold: float
    """The ratio below which 1 % of the real images lie when each is compared to all other real ones."""
    ratios: Float64[np.ndarray, " N"]
    nearest: Int64[np.ndarray, " N"]
    """The nearest real image of each synthetic one, as a row of the real features."""
    low: float
    """Lower end of the 95 % interval (Wilson) of `share`."""


def nearest(
    queries: Rows, bank: Rows, k: int, *, itself: bool = False
) -> tuple[Float64[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
    """Return the distances and rows of the k nearest in the bank, nearest first; `itself`: the bank is the queries.

    Then a row is not its own neighbor. The distances found are computed from differences, so equal rows have 0.
    """
    assert k <= len(bank) - itself, "the bank is too small for k"
    distances, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for part in _parts(len(queries), len(bank)):
        squares = _squares(queries[part], bank)
        if itself:
            squares[np.arange(len(squares)), np.arange(part.start, part.start + len(squares))] = np.inf
        columns = np.sort(np.argpartition(squares, k - 1, axis=1)[:, :k], axis=1)
        exact = np.stack([((queries[part] - bank[column]) ** 2).sum(axis=1) for column in columns.T], axis=1)
        order = np.argsort(exact, axis=1, kind="stable")
        rows[part] = np.take_along_axis(columns, order, axis=1)
        distances[part] = np.sqrt(np.take_along_axis(exact, order, axis=1))
    return distances, rows


def fidelity(synthetic: Rows, real: Rows) -> Fidelity:
    """Return precision, recall, density and coverage of two samples of equal size.

    With the ball of an image = all points within the distance to its k-th nearest neighbor in its own sample:
    precision = share of synthetic images in the ball of some real one (k = 3), recall = share of real images in the
    ball of some synthetic one (k = 3), density = mean number of real balls that hold a synthetic image, divided by
    k = 5, coverage = share of real balls (k = 5) that hold a synthetic image.
    Source: Kynkaanniemi et al., arXiv:1904.06991 (precision, recall); Naeem et al., arXiv:2002.09797 (the others).
    """
    assert len(synthetic) == len(real), "equal numbers are compared"
    real_radius = nearest(real, real, K_COVERAGE, itself=True)[0]
    own_radius = nearest(synthetic, synthetic, K_PRECISION, itself=True)[0][:, -1]
    precise, held = np.zeros(len(synthetic), bool), 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for part in _parts(len(synthetic), len(real)):
        squares = np.maximum(_squares(synthetic[part], real), 0)
        inside = squares <= real_radius[:, -1] ** 2
        precise[part] = (squares <= real_radius[:, K_PRECISION - 1] ** 2).any(axis=1)
        recalled |= (squares <= own_radius[part, None] ** 2).any(axis=0)
        covered |= inside.any(axis=0)
        held += int(inside.sum())
    density = held / (K_COVERAGE * len(synthetic))
    return Fidelity(float(precise.mean()), float(recalled.mean()), density, float(covered.mean()))


def vendi(rows: Rows) -> float:
    """Return the effective number of different images, 1 .. D: exp of the entropy of the eigenvalues of K / N.

    K holds the cosine similarities. Its eigenvalues are those of the D x D matrix of second moments.
    Source: Friedman and Dieng, "The Vendi score", arXiv:2210.02410.
    """
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    values = np.linalg.eigvalsh(unit.T @ unit / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_nearest(rows: Rows) -> float:
    """Return the mean distance of an image to the nearest other one."""
    return float(nearest(rows, rows, 1, itself=True)[0].mean())


def distance_ratios(queries: Rows, bank: Rows, *, itself: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query its distance to the nearest in the bank over the mean distance to the next ones, and who.

    The next ones are the 2nd to the 51st nearest (fewer in a small bank). Near 1 for an image that is like many, near 0
    for a copy of one. Source: Carlini et al., "Extracting training data from diffusion models", arXiv:2301.13188.
    """
    k = min(NEIGHBORS + 1, len(bank) - itself)
    distances, rows = nearest(queries, bank, k, itself=itself)
    return distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-12), rows[:, 0]


def memorization(synthetic: Rows, real: Rows) -> Memorization:
    """Return how many synthetic images are nearer to one real image than real images are to each other.

    Each real image compared to all others shows what a fresh image of the same kind looks like: 1 % of them lie below
    the threshold, so a share near 1 % is what an honest generator has.
    """
    fresh = distance_ratios(real, real, itself=True)[0]
    threshold = float(np.quantile(fresh, TAIL))
    ratios, who = distance_ratios(synthetic, real)
    below: Bool[np.ndarray, " N"] = ratios < threshold
    # One odd real image can be the nearest of all odd synthetic ones (a hub) and is no sign of memorization.
    most = -(-len(synthetic) // len(real))
    hits = int(np.minimum(np.bincount(who[below], minlength=1), most).sum())
    return Memorization(hits / len(below), threshold, ratios, who, wilson_low(hits, len(below)))


def wilson_low(hits: int, count: int) -> float:
    """Return the lower end of the 95 % Wilson interval of hits / count."""
    from scipy.stats import binomtest

    return float(binomtest(hits, count).proportion_ci(_LEVEL, method="wilson").low)


def _squares(queries: Rows, bank: Rows) -> Float64[np.ndarray, "Q B"]:
    """Return squared distances by |a|^2 + |b|^2 - 2ab, which may be off by 1e-12 relative."""
    squares = -2 * (queries @ bank.T)
    squares += (queries**2).sum(axis=1)[:, None]
    squares += (bank**2).sum(axis=1)
    return squares


def _parts(queries: int, bank: int) -> list[slice]:
    """Return slices of the queries with a bounded number of distances each."""
    step = max(1, _CELLS // bank)
    return [slice(start, min(start + step, queries)) for start in range(0, queries, step)]
