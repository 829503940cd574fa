"""Duplicates of a picture: equal pixels, or a close perceptual hash that the pixels confirm.

Axis letters: N images of a side, P pairs, H height, W width in pixels, S side of a thumbnail.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt64

from syn2co.audits.hash_pairs import close_pairs
from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.scan import ImageStatistics
from syn2co.images.image_set import ImageSet

RADIUS = 12
"""Bits of 64 in which the perceptual hashes of near duplicates may differ."""
AGREEMENT = 0.9
"""Least correlation of the 16 x 16 color thumbnails of near duplicates."""
_THUMB = 16

Thumb = UInt8[np.ndarray, "S S 3"]


class Copy(NamedTuple):
    """An image of the first side that is an image of the second one."""

    first: int
    second: int
    agreement: float
    """Correlation of the thumbnails; 1 for equal pixels."""
    mirrored: bool
    exact: bool


@dataclass(frozen=True)
class CopySearch:
    """Copies, the best of each image of the first side; `complete` is False if hashes were too crowded to see all."""

    copies: tuple[Copy, ...]
    complete: bool

    @property
    def exact(self) -> int:
        return sum(copy.exact for copy in self.copies)

    @property
    def near(self) -> int:
        return len(self.copies) - self.exact


@dataclass(frozen=True)
class Duplicates:
    """Sets of images of one side that are the same picture.

    `exact` and `near` are pairs (kept, redundant) across groups: one for each image that adds nothing to the set.
    """

    exact: tuple[tuple[int, int], ...]
    near: tuple[tuple[int, int], ...]
    within_groups: int
    """Further redundant images whose group is that of the image they repeat: variations, as was ordered."""
    complete: bool


def find_copies(
    first: AuditedSet,
    first_scan: ImageStatistics,
    second: AuditedSet,
    second_scan: ImageStatistics,
    ignore: Bool[np.ndarray, " N"],
) -> CopySearch:
    """Return the images of `first` that are pictures of `second`, as they are or mirrored left to right.

    Images marked in `ignore` (constant ones) are looked at for equal pixels only.
    """
    best: dict[int, Copy] = {}
    confirm = _confirmer(first.images, second.images)
    complete = True
    usable = np.flatnonzero(~ignore)
    for mirrored in (False, True):
        pixels = second_scan.mirrored_pixels if mirrored else second_scan.pixels
        for i, j in zip(*_equal(first_scan.pixels, pixels), strict=True):
            _keep(best, Copy(i, j, 1.0, mirrored, True))
        hashes = second_scan.mirrored_hashes if mirrored else second_scan.hashes
        pairs = close_pairs(first_scan.hashes[usable], hashes, RADIUS)
        complete &= pairs.complete
        for i, j in zip(usable[pairs.first].tolist(), pairs.second.tolist(), strict=True):
            if i not in best or not best[i].exact:
                agreement = confirm(i, j, mirrored)
                if agreement >= AGREEMENT:
                    _keep(best, Copy(i, j, agreement, mirrored, False))
    return CopySearch(tuple(best[i] for i in sorted(best)), complete)


def find_duplicates(side: AuditedSet, scanned: ImageStatistics, ignore: Bool[np.ndarray, " N"]) -> Duplicates:
    """Return what in a side repeats itself; images marked in `ignore` are looked at for equal pixels only."""
    from scipy.cluster.hierarchy import DisjointSet

    groups = side.group_numbers()
    within = 0
    exact: list[tuple[int, int]] = []
    near: list[tuple[int, int]] = []
    first_of: dict[int, int] = {}
    for index, value in enumerate(scanned.pixels.tolist()):
        kept = first_of.setdefault(value, index)
        if kept != index:
            within += int(groups[kept] == groups[index])
            exact += [(kept, index)] if groups[kept] != groups[index] else []
    different = np.array([index for index in first_of.values() if not ignore[index]], np.int64)
    pairs = close_pairs(scanned.hashes[different], None, RADIUS)
    confirm = _confirmer(side.images, side.images)
    pictures = DisjointSet(different.tolist())
    for i, j in zip(different[pairs.first].tolist(), different[pairs.second].tolist(), strict=True):
        if not pictures.connected(i, j) and confirm(i, j, False) >= AGREEMENT:
            pictures.merge(i, j)
            within += int(groups[i] == groups[j])
            near += [(i, j)] if groups[i] != groups[j] else []
    return Duplicates(tuple(exact), tuple(near), within, pairs.complete)


def agreement(first: Thumb, second: Thumb) -> float:
    """Return the correlation of two thumbnails over all pixels and channels, the mean of each channel removed.

    Brightness and contrast do not change it. 0 if one of the two is constant.
    """
    one, two = (part - part.mean(axis=(0, 1)) for part in (first, second))
    powers = float((one * one).sum()) * float((two * two).sum())
    return float((one * two).sum()) / powers**0.5 if powers > 1e-6 else 0.0


def thumbnail(image: UInt8[np.ndarray, "H W 3"]) -> Thumb:
    """Return the image shrunk to 16 x 16."""
    method = cv2.INTER_AREA if min(image.shape[:2]) >= _THUMB else cv2.INTER_LINEAR
    return cv2.resize(image, (_THUMB, _THUMB), interpolation=method)


def _confirmer(first: ImageSet, second: ImageSet) -> Callable[[int, int, bool], float]:
    """Return a function that gives the agreement of two images by number, each read once."""
    seen: dict[tuple[bool, int], Thumb] = {}

    def thumb(images: ImageSet, is_second: bool, index: int) -> Thumb:
        key = (is_second and first is not second, index)
        if key not in seen:
            seen[key] = thumbnail(images.read(index))
        return seen[key]

    def confirm(i: int, j: int, mirrored: bool) -> float:
        other = thumb(second, True, j)
        return agreement(thumb(first, False, i), other[:, ::-1] if mirrored else other)

    return confirm


def _equal(first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"]) -> tuple[list[int], list[int]]:
    """Return for each value of `first` that occurs in `second` its position and the first position there."""
    values, places = np.unique(second, return_index=True)
    slots = np.minimum(np.searchsorted(values, first), len(values) - 1)
    hit = np.flatnonzero(values[slots] == first)
    return hit.tolist(), places[slots[hit]].tolist()


def _keep(best: dict[int, Copy], copy: Copy) -> None:
    """Remember a copy unless one as good is known."""
    known = best.get(copy.first)
    if known is None or (copy.exact, copy.agreement) > (known.exact, known.agreement):
        best[copy.first] = copy
