"""Test images that are training images stored again: counted by their hashes, and refused above a share."""

from contextlib import closing

import cv2
import numpy as np
from jaxtyping import Bool, UInt64

from syn2co.core import keyed_rng
from syn2co.core.errors import EvaluationError
from syn2co.core.stuck_threads import map_in_threads
from syn2co.evaluation.splits import shared_files
from syn2co.images.image_set import ImageSet
from syn2co.images.near_copies import SAME, HashedSet, find_copies
from syn2co.images.perceptual_hash import turned_bits

COMPARED = 50_000
"""Most images of each side that are compared, drawn by key."""
STORED_AGAIN = 0.98
"""Least correlation of the thumbnails."""
_KEPT = 32
_hashed: dict[str, tuple[UInt64[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]] = {}
"""Hashes of the newest sets by fingerprint: a process that scores many encoders on the same images hashes them once."""


def near_overlap(
    train: ImageSet,
    test: ImageSet,
    most: float,
    *,
    threads: int,
    sides: str = "--train and --test",
    adjustable: bool = True,
    bank: HashedSet | None = None,
) -> list[str]:
    """Return a note with the number of test images that are training images stored again, as they are or mirrored.

    Files that are equal byte for byte are counted with them against `most`, and noted by `make_splits`. Of a side with
    more than 50,000 images as many are drawn, and the note says so; the share is then that of all training images.

    Args:
        train: training images of a score.
        test: test images.
        most: largest share of test images that may be training images.
        threads: threads that decode images.
        sides: name of both sides in the message of the error.
        adjustable: whether the setting max_overlap allows a larger share.
        bank: `hashed_sample` of the training images, where it is known.

    Raises:
        EvaluationError: if a larger share of the test images are training images.
    """
    total, asked = len(train), len(test)
    bank = bank or hashed_sample(train, threads)
    sample = hashed_sample(test, threads)
    train, test = bank.images, sample.images
    copies = find_copies(sample, bank, SAME, least=STORED_AGAIN).copies
    equal = set(shared_files(train, test))
    near = [copy for copy in copies if copy.first not in equal]
    if not near:
        return []
    seen = len(train) / total
    share = min(1.0, (len(near) + len(equal)) / len(test) / seen)
    drawn = f" ({len(test)} test and {len(train)} training images were compared)"
    text = f"{len(near)} of {len(test)} test images look like training images stored again" + drawn * (
        seen < 1 or len(test) < asked
    )
    if share > most:
        allow = f", or allow a larger share with --set max_overlap={min(1.0, np.ceil(share * 1000) / 1000):.3g}"
        raise EvaluationError(
            f"{sides}: {text}, {len(equal)} more byte for byte (first: {test.name(near[0].first)} is "
            f"{train.name(near[0].second)}), so they would be scored against themselves; take them out"
            + allow
            * adjustable
        )
    return [text]


def hashed_sample(images: ImageSet, threads: int) -> HashedSet:
    """Return at most 50,000 images with their hashes, as they are and mirrored.

    Args:
        images: the set; images of one color are not compared.
        threads: threads that decode images.
    """
    images = _some(images)
    is_checked = all(sums is not None for sums in images.checksums)  # else the fingerprint does not tell the contents
    if not is_checked:
        return HashedSet(images, *_measured(images, threads))
    key = images.fingerprint
    measured = _hashed.pop(key) if key in _hashed else _measured(images, threads)
    _hashed[key] = measured  # as the one that was used last
    for oldest in list(_hashed)[:-_KEPT]:
        del _hashed[oldest]
    return HashedSet(images, *measured)


def _measured(images: ImageSet, threads: int) -> tuple[UInt64[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
    """Return the hashes of all images, as they are and mirrored, and which of them are not of one color."""

    def measure(index: int) -> tuple[list[int], bool]:
        image = images.read(index)
        return turned_bits(image, 2), bool(cv2.meanStdDev(image)[1].max() >= 2)

    with closing(map_in_threads(measure, range(len(images)), threads)) as measured:
        hashes, usable = zip(*measured, strict=True)
    return np.array(hashes, np.uint64), np.array(usable)


def _some(images: ImageSet) -> ImageSet:
    """Return at most 50,000 of the images."""
    if len(images) <= COMPARED:
        return images
    return images.subset(np.sort(keyed_rng.permutation(len(images), "near overlap", images.fingerprint)[:COMPARED]))
