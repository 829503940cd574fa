"""Images that show nothing, images that could not be read, and how evenly the classes are filled.

Axis letters: N images of a side.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.scan import ImageStatistics

BLACK, FLAT, ROUGH = 10.0, 2.0, 0.1
"""Mean below which a constant image is black; spread below which it is constant; smoothness below which it is noise."""


@dataclass(frozen=True)
class Health:
    """The numbers of the images of each kind of defect, and the reasons of those that could not be read."""

    black: tuple[int, ...]
    constant: tuple[int, ...]
    noise: tuple[int, ...]
    broken: tuple[tuple[str, str], ...]


def health(side: AuditedSet, scanned: ImageStatistics) -> Health:
    """Return which images are black (a constant near 0), of another constant color, or white noise."""
    constant = flat(scanned)
    black = constant & (scanned.brightness < BLACK)
    rough = ~constant & (scanned.smoothness < ROUGH)
    broken = tuple((entry.name.split(":", 1)[1], entry.reason) for entry in side.images.quarantined)
    return Health(*(tuple(np.flatnonzero(mask).tolist()) for mask in (black, constant & ~black, rough)), broken=broken)


def flat(scanned: ImageStatistics) -> Bool[np.ndarray, " N"]:
    """Return which images are of one color: no channel deviates by more than 2 of 255 from its mean."""
    return scanned.spread < FLAT


def class_counts(side: AuditedSet) -> dict[str, int]:
    """Return the number of images of each class, empty classes included; nothing if the side has no classes."""
    if not side.classed:
        return {}
    labels = side.images.labels
    counts = np.bincount(labels[labels >= 0], minlength=len(side.images.classes))
    return dict(zip(side.images.classes, counts.tolist(), strict=True))


def effective_classes(counts: dict[str, int]) -> float:
    """Return exp of the entropy of the class shares: the number of classes if all are equally full, else less."""
    shares = np.array([count for count in counts.values() if count], np.float64)
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
