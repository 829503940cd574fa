"""Duplicates of a picture: equal pixels, or a close perceptual hash that the pixels confirm.

Axis letters: N images of a side.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64

from syn2co.audits.health import flat
from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.scan import ImageStatistics
from syn2co.images.near_copies import AGREEMENT, SAME, Copy, CopySearch, HashedSet, agreements, find_copies


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


def find_all_copies(
    first: AuditedSet, first_scan: ImageStatistics, second: AuditedSet, second_scan: ImageStatistics
) -> CopySearch:
    """Return the images of `first` that are pictures of `second`: with equal pixels, mirrored or not, or near copies.

    Images of one color are looked at for equal pixels only.
    """
    search = find_copies(hashed(first, first_scan), hashed(second, second_scan))
    best = {copy.first: copy for copy in search.copies}
    for change, pixels in (("mirrored", second_scan.mirrored_pixels), ("", second_scan.pixels)):
        for i, j in zip(*_equal(first_scan.pixels, pixels), strict=True):
            best[i] = Copy(i, j, 1.0, change, True)
    return CopySearch(tuple(best[i] for i in sorted(best)), search.complete)


def hashed(side: AuditedSet, scanned: ImageStatistics) -> HashedSet:
    """Return the images of a side with their hashes."""
    return HashedSet(side.images, scanned.hashes, ~flat(scanned))


def find_duplicates(side: AuditedSet, scanned: ImageStatistics) -> Duplicates:
    """Return what in a side repeats itself; images of one color are looked at for equal pixels only."""
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
    ignore = flat(scanned)
    different = np.array([index for index in first_of.values() if not ignore[index]], np.int64)
    images = hashed(side, scanned)
    pairs = agreements(images, images, SAME[0], different, different)
    pictures = DisjointSet(different.tolist())
    alike = pairs.agreement >= AGREEMENT
    for i, j in zip(pairs.first[alike].tolist(), pairs.second[alike].tolist(), strict=True):
        if not pictures.connected(i, j):
            pictures.merge(i, j)
            within += int(groups[i] == groups[j])
            near += [(i, j)] if groups[i] != groups[j] else []
    return Duplicates(tuple(exact), tuple(near), within, pairs.complete)


def _equal(first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"]) -> tuple[list[int], list[int]]:
    """Return for each value of `first` that occurs in `second` its position and the first position there."""
    values, places = np.unique(second, return_index=True)
    slots = np.minimum(np.searchsorted(values, first), len(values) - 1)
    hit = np.flatnonzero(values[slots] == first)
    return hit.tolist(), places[slots[hit]].tolist()
