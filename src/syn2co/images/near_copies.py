"""Near copies: images of one set that are pictures of another set, as they are or after ordinary preprocessing.

Axis letters: N images of a set, K hashes of an image, P pairs, D values of a thumbnail, H height, W width in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt64

from syn2co.core import keyed_rng
from syn2co.images.hash_pairs import close_pairs
from syn2co.images.image_set import ImageSet
from syn2co.images.perceptual_hash import bits_of, turn

RADIUS = 12
"""Bits of 64 in which the perceptual hashes of near copies may differ."""
AGREEMENT = 0.9
"""Least correlation of the 16 x 16 color thumbnails of near copies."""
CLOSER = 0.25
"""Distance (1 - correlation) of a near copy, as a share of that of the closest different images of the second set."""
ALIKE_SHARE = 0.05
"""Share of the second set that counts as its closest different images."""
_EQUAL, _NOISE, _DUST = 0.9999, 16, 50
_THUMB, _SAMPLE, _PAIRS, _CHUNK, _SHRUNK = 16, 1000, 1 << 17, 4096, 64
WHOLE, TRIMMED, SQUARE, CLOSE, CLOSEST = range(5)
_MIRRORED = 4  # views above, but for the whole image, of which the mirror image is hashed too
_OFF_CENTER = tuple(
    (share, *place)
    for share, places in ((15 / 16, (0.0, 1.0)), (7 / 8, (0.0, 0.5, 1.0)), (3 / 4, (0.0, 1.0)))
    for place in product(places, repeat=2)
    if place != (0.5, 0.5)
)
"""Share of both sides, and place down and across: 0 at the first edge, 1 at the other one."""
_DEGREES = (-8.0, -4.0, 4.0, 8.0)
HASHES = 8 + 2 * _MIRRORED + len(_OFF_CENTER) + len(_DEGREES)

Image = UInt8[np.ndarray, "H W 3"]


class Change(NamedTuple):
    """A change between the two: a view of the first image, turned, is a view of the second one."""

    words: str
    first: int = WHOLE
    second: int = WHOLE
    turn: int = 0
    inverted: bool = False


SAME = (Change(""), Change("mirrored", turn=1))
_TURNS = ("", "mirrored", "top to bottom", "half turn", "transposed", "quarter turn", "quarter turn", "transposed")
CHANGES = (
    *(Change(words, turn=number) for number, words in enumerate(_TURNS)),
    Change("inverted", inverted=True),
    *(
        Change(f"{words}, mirrored" if mirrored else words, first, second, mirrored)
        for words, first, second in (
            ("border added", TRIMMED, WHOLE),
            ("border removed", WHOLE, TRIMMED),
            ("other border", TRIMMED, TRIMMED),
            ("center square", WHOLE, SQUARE),
            ("center 88 %", WHOLE, CLOSE),
            ("center 75 %", WHOLE, CLOSEST),
        )
        for mirrored in (0, 1)
    ),
    *(
        Change(f"{words}, mirrored" if mirrored else words, WHOLE, CLOSEST + 1 + number, mirrored)
        for number, words in enumerate(
            [*(f"off-center {100 * share:.0f} %" for share, _, _ in _OFF_CENTER), *("rotated" for _ in _DEGREES)]
        )
        for mirrored in (0, 1)
    ),
)


class Copy(NamedTuple):
    """An image of the first set that is an image of the second one."""

    first: int
    second: int
    agreement: float
    """Correlation of the thumbnails; 1 for equal pixels."""
    change: str
    """The change in words; empty if the two only differ in storage."""
    exact: bool


@dataclass(frozen=True)
class CopySearch:
    """Copies, the best of each image of the first set; `complete` is False if hashes were too crowded to see all."""

    copies: tuple[Copy, ...]
    complete: bool

    @property
    def exact(self) -> int:
        return sum(copy.exact for copy in self.copies)

    @property
    def near(self) -> int:
        return len(self.copies) - self.exact


@dataclass(frozen=True)
class HashedSet:
    """Images with the hashes of their views: the whole image in eight turns, those about its center as they are and
    mirrored, those off center and rotated as they are.
    """

    images: ImageSet
    hashes: UInt64[np.ndarray, "N K"]
    usable: Bool[np.ndarray, " N"]
    """Images that are not of one color."""
    seen: dict[tuple[int, int], UInt8[np.ndarray, "S S 3"]] = field(default_factory=dict, repr=False)
    """Thumbnails by row and view: each is made once."""

    def column(self, view: int, number: int = 0) -> UInt64[np.ndarray, " N"]:
        if view == WHOLE:
            return self.hashes[:, number]
        return self.hashes[:, 6 + 2 * view + number if view <= CLOSEST else 11 + view]

    def rows(self, view: int) -> Int64[np.ndarray, " n"]:
        """Return the usable images of which the view is not the whole image."""
        differs = view == WHOLE or self.column(view) != self.column(WHOLE)
        return np.flatnonzero(self.usable & differs)

    def thumbnails(self, rows: Int64[np.ndarray, " n"], view: int, number: int = 0) -> Float32[np.ndarray, "n D"]:
        """Return thumbnails of unit length, the mean of each channel removed; zeros for a constant one."""
        values = np.empty((len(rows), _THUMB * _THUMB * 3), np.float32)
        for slot, row in enumerate(rows.tolist()):
            if (row, view) not in self.seen:
                self.seen[row, view] = thumbnail(see(self.images.read(row), view))
            values[slot] = unit_thumbnail(turn(self.seen[row, view], number))
        return values


def view_hashes(image: Image) -> list[int]:
    """Return the 36 hashes of the views of `image`, in the order of `HashedSet.column`."""
    single = HASHES - 8 - 2 * _MIRRORED
    small = _shrunk(image)
    views = [see(image, view) for view in range(_MIRRORED + 1)]
    views += [_off_center_or_rotated(small, number) for number in range(single)]
    return bits_of(views, [8, *[2] * _MIRRORED, *[1] * single])


def see(image: Image, view: int) -> Image:
    """Return a view of the image."""
    if view == WHOLE:
        return image
    return image[_box(image, view)] if view <= CLOSEST else _off_center_or_rotated(_shrunk(image), view - CLOSEST - 1)


def _shrunk(image: Image) -> Image:
    """Return the image with a shorter side of at most 64 pixels: enough for a hash, and quick to crop and rotate."""
    scale = _SHRUNK / min(image.shape[:2])
    size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _off_center_or_rotated(image: Image, number: int) -> Image:
    """Return a crop off the center, or behind them the image rotated, its edges mirrored."""
    height, width = image.shape[:2]
    if number < len(_OFF_CENTER):
        share, down, across = _OFF_CENTER[number]
        high, wide = max(1, round(share * height)), max(1, round(share * width))
        top, left = round((height - high) * down), round((width - wide) * across)
        return image[top : top + high, left : left + wide]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), _DEGREES[number - len(_OFF_CENTER)], 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def _box(image: Image, view: int) -> tuple[slice, slice]:
    """Return the part of the image that a view about its center shows; the whole image where that has no pixels."""
    height, width = image.shape[:2]
    if view == TRIMMED:
        return _trimmed(image)
    share = {SQUARE: 1.0, CLOSE: 7 / 8, CLOSEST: 3 / 4}[view]
    side = max(1, round(share * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _trimmed(image: Image) -> tuple[slice, slice]:
    """Return the image without the rows and columns at its edges that have the color of its corner, JPEG's noise aside.

    An image of which fewer than 8 rows or columns would be left stays whole.
    """
    # Counted pixels do not depend on the width of the border, as a mean does (black borders on aligned scans: 1 of 30
    # found by the mean); JPEG rings by less than a third of the contrast, and dust is a pixel or 2 % of a row.
    differs = np.abs(image.astype(np.float32) - image[0, 0]).mean(axis=2)
    content = differs > max(_NOISE, differs.max() / 3)
    rows, columns = (np.flatnonzero(content.sum(axis) > max(1, content.shape[axis] // _DUST)) for axis in (1, 0))
    if not len(rows) or not len(columns) or min(rows[-1] - rows[0], columns[-1] - columns[0]) < 7:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def thumbnail(image: Image) -> UInt8[np.ndarray, "S S 3"]:
    """Return the image shrunk to 16 x 16."""
    method = cv2.INTER_AREA if min(image.shape[:2]) >= _THUMB else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (_THUMB, _THUMB), interpolation=method)


def unit_thumbnail(thumb: UInt8[np.ndarray, "S S 3"]) -> Float32[np.ndarray, " D"]:
    """Return the values of a thumbnail at unit length, the mean of each channel removed; zeros for a constant one."""
    values = thumb - thumb.mean(axis=(0, 1))
    length = float(np.linalg.norm(values))
    return (values / length if length > 1e-3 else np.zeros_like(values)).ravel().astype(np.float32)


def find_copies(
    first: HashedSet, second: HashedSet, changes: Sequence[Change] = CHANGES, *, least: float = AGREEMENT
) -> CopySearch:
    """Return the near copies among the images of `first`: for each, the image of `second` that it agrees with most.

    Two images are near copies if the hashes of their views differ in at most 12 bits and their thumbnails correlate by
    at least `least`. Where the images of `second` are alike, more is asked for: a copy must be 4 times closer than the
    closest 5 % of the images of `second` are to another one of them, under this change or one before it.

    Args:
        first: the images that may be copies.
        second: the images that they may be copies of.
        changes: the changes that are looked for.
        least: least correlation of the thumbnails, from 0 to 1.

    Returns:
        The copies with the change of each, in the order of `first`.

    Example:
        >>> from syn2co.data.open import open_images
        >>> images = open_images(["builtin:digits:test"]).subset(np.arange(20))
        >>> hashes = np.array([view_hashes(images.read(index)) for index in range(20)], np.uint64)
        >>> digits = HashedSet(images, hashes, np.ones(20, bool))
        >>> find_copies(digits, digits).near
        20
    """
    best: dict[int, Copy] = {}
    complete, nearest = True, np.zeros(len(second.images))
    sample = second.rows(WHOLE)
    sample = sample[keyed_rng.permutation(len(sample), "copies", second.images.fingerprint)[:_SAMPLE]]
    for change in changes:
        _bring_nearer(nearest, second, change, sample)
        alike = np.quantile(nearest[sample], 1 - ALIKE_SHARE) if len(sample) else 0.0
        limit = max(least, 1 - CLOSER * (1 - alike))
        pairs = agreements(first, second, change, first.rows(change.first), second.rows(change.second))
        complete &= pairs.complete
        for i, j, value in zip(*(part[pairs.agreement >= limit].tolist() for part in pairs[:3]), strict=True):
            if i not in best or value > best[i].agreement + 0.005:  # the simpler change, unless another is closer
                best[i] = Copy(i, j, value, change.words, False)
    return CopySearch(tuple(best[i] for i in sorted(best)), complete)


class Agreements(NamedTuple):
    """Pairs with close hashes and the correlations of their thumbnails."""

    first: Int64[np.ndarray, " P"]
    second: Int64[np.ndarray, " P"]
    agreement: Float64[np.ndarray, " P"]
    complete: bool


def agreements(
    first: HashedSet,
    second: HashedSet,
    change: Change,
    rows: Int64[np.ndarray, " n"],
    others: Int64[np.ndarray, " m"],
    *,
    itself: bool = True,
) -> Agreements:
    """Return the pairs of some images of both sets whose hashes are close under a change; i < j where both are one.

    Without `itself` no image is a pair with its own row.
    """
    hashes = first.column(change.first, change.turn)[rows]
    within = rows is others
    pairs = close_pairs(
        ~hashes if change.inverted else hashes, None if within else second.column(change.second)[others], RADIUS
    )
    i, j = rows[pairs.first], others[pairs.second]
    if not itself:
        i, j = i[i != j], j[i != j]
    values = np.empty(len(i))
    for start in range(0, len(i), _PAIRS):
        part = slice(start, start + _PAIRS)
        rows_one, one = np.unique(i[part], return_inverse=True)
        rows_two, two = np.unique(j[part], return_inverse=True)
        thumbs_one = first.thumbnails(rows_one, change.first, change.turn)
        thumbs_two = second.thumbnails(rows_two, change.second)
        for at in range(0, len(one), _CHUNK):
            block = slice(at, at + _CHUNK)
            values[start + at : start + at + len(one[block])] = np.einsum(
                "pd,pd->p", thumbs_one[one[block]], thumbs_two[two[block]]
            )
    return Agreements(i, j, -values if change.inverted else values, pairs.complete)


def _bring_nearer(
    nearest: Float64[np.ndarray, " N"], images: HashedSet, change: Change, rows: Int64[np.ndarray, " n"]
) -> None:
    """Raise the agreement of some images with the nearest other one of their set to that under a change."""
    pairs = agreements(images, images, change, rows, images.rows(change.second), itself=False)
    others = pairs.agreement < _EQUAL
    np.maximum.at(nearest, pairs.first[others], pairs.agreement[others])
