"""Separability of real and synthetic images by a linear classifier, by content and by traces of storage.

Axis letters: N synthetic images, M real images, D features, H height, W width in pixels.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from syn2co.audits.feature_space import Rows
from syn2co.audits.image_sets import AuditedSet
from syn2co.core import keyed_rng
from syn2co.images.resize import resize_and_crop

FOLDS = 5
LARGEST_SIDE, BANDS = 128, 12


@dataclass(frozen=True)
class Auc:
    """Probability that a synthetic image is scored above a real one (0.5: cannot be told apart), 95 % interval."""

    value: float
    low: float
    high: float


def probe(synthetic: Rows, real: Rows, *, seed: int, groups: Int64[np.ndarray, " N"] | None = None) -> Auc:
    """Return the AUC of logistic regression (L2, C = 1, standardized features), mean of 5 folds.

    Images of one group stay in one fold. The interval is Hanley and McNeil's (Radiology 1982) for N and M images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([synthetic, real])
    is_synthetic = np.arange(len(rows)) < len(synthetic)
    units = np.arange(len(synthetic)) if groups is None else groups
    fold = np.concatenate([_folds(units, seed, "synthetic"), _folds(np.arange(len(real)), seed, "real")])
    scores = []
    for number in range(FOLDS):
        test = fold == number
        if len(np.unique(is_synthetic[test])) == 2 and len(np.unique(is_synthetic[~test])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(rows[~test], is_synthetic[~test])
            scores.append(roc_auc_score(is_synthetic[test], model.decision_function(rows[test])))
    value = float(np.mean(scores)) if scores else 0.5
    return _interval(value, len(synthetic), len(real))


def _folds(groups: Int64[np.ndarray, " N"], seed: int, side: str) -> Int64[np.ndarray, " N"]:
    """Return the fold of each image, a function of its group."""
    # Not scikit-learn's GroupKFold: its shuffle draws from MT19937, so every AUC of earlier audits would change.
    values, which = np.unique(groups, return_inverse=True)
    return (keyed_rng.permutation(len(values), "audit folds", seed, side) % FOLDS)[which.reshape(-1)]


def _interval(value: float, synthetic: int, real: int) -> Auc:
    """Return the AUC with the interval of Hanley and McNeil, taken on the side above 0.5."""
    area = max(value, 1 - value)
    one, two = area / (2 - area), 2 * area * area / (1 + area)
    spread = area * (1 - area) + (synthetic - 1) * (one - area**2) + (real - 1) * (two - area**2)
    width = 1.96 * float(np.sqrt(max(0.0, spread) / (synthetic * real)))
    return Auc(value, max(0.0, value - width), min(1.0, value + width))


def storage(side: AuditedSet, sizes: np.ndarray) -> dict[str, Any]:
    """Return the kinds of files and the commonest sizes of a side, with their numbers of images."""
    kinds = Counter(side.file_kind(index) for index in range(len(side)))
    shapes = Counter(f"{height} x {width}" for height, width in sizes.tolist())
    return {
        "files": dict(sorted(kinds.items())),
        "sizes": dict(sorted(shapes.most_common(5), key=lambda pair: (-pair[1], pair[0]))),
        "distinct_sizes": len(shapes),
        "median_size": [int(value) for value in np.median(sizes, axis=0)],
    }


def trace_rows(side: AuditedSet, rows: Int64[np.ndarray, " N"], size: int) -> Float64[np.ndarray, "N D"]:
    """Return what codec and resizing leave in each image: its spectrum at `size` and the grid of JPEG blocks."""
    with closing(side.images.read_many(rows.tolist())) as images:
        return np.stack([traces(image, size) for image in images])


def traces(image: UInt8[np.ndarray, "H W 3"], size: int) -> Float64[np.ndarray, " D"]:
    """Return the log power of gray and of color difference in 12 bands, and the strength of an 8 x 8 grid.

    The bands, of frequency, are of the image resized as training does, the grid of the stored image.
    """
    square = resize_and_crop(image, size, 1.0).astype(np.float64)
    gray, difference = square.mean(axis=2), square[..., 0] - square[..., 2]
    grid = [_block_edges(image.astype(np.float64).mean(axis=2), axis) for axis in (0, 1)]
    return np.concatenate([_bands(gray), _bands(difference), grid])


def _bands(plane: Float64[np.ndarray, "H W"]) -> Float64[np.ndarray, " D"]:
    """Return the log of the mean power in rings of frequency."""
    window = np.hanning(plane.shape[0] + 2)[1:-1]
    power = np.abs(np.fft.fft2((plane - plane.mean()) * np.outer(window, window))) ** 2
    along = np.fft.fftfreq(plane.shape[0])
    ring = np.minimum((np.hypot(along[:, None], along) / 0.5 * BANDS).astype(int), BANDS - 1).ravel()
    sums, counts = np.bincount(ring, power.ravel(), BANDS), np.bincount(ring, minlength=BANDS)
    return np.log1p(sums / np.maximum(counts, 1))


def _block_edges(gray: Float64[np.ndarray, "H W"], axis: int) -> float:
    """Return how much larger the steps across multiples of 8 pixels are than the others, as a log of the ratio."""
    steps = np.abs(np.diff(gray, axis=axis)).mean(axis=1 - axis)
    across = np.arange(1, len(steps) + 1) % 8 == 0
    if not across.any() or across.all():
        return 0.0
    return float(np.log((steps[across].mean() + 0.1) / (steps[~across].mean() + 0.1)))


def trace_size(*sides: np.ndarray) -> int:
    """Return the side at which traces are compared: the smallest median side, at most 128 and at least 8."""
    return int(np.clip(min(np.median(sizes.min(axis=1)) for sizes in sides), 8, LARGEST_SIDE))
