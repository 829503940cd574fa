"""The two sides of a score: labeled training and test images, checked to be different and labeled alike.

Axes: N labeled training images, M labeled test images, C classes of the training images.
"""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt32
from torch import Tensor

from syn2co.core.errors import EvaluationError
from syn2co.core.hints import first_names
from syn2co.core.keyed_rng import digest
from syn2co.evaluation.segmentation import Masks
from syn2co.images.image_set import ImageSet
from syn2co.images.index import class_name
from syn2co.images.source import parts

Specs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Splits:
    """Training and test images, labels 0..C-1 in the order of `classes` (-1 where no protocol needs them), notes, and
    the masks of segmentation data.
    """

    train: ImageSet
    test: ImageSet
    train_labels: Int64[Tensor, " N"]
    test_labels: Int64[Tensor, " M"]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    masks: Masks | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Return 32 hex digits of both image sets and their labels, wherever the data lie."""
        masks = () if self.masks is None else (self.masks.digest,)
        hasher = blake2b(digest(self.train.fingerprint, self.test.fingerprint, *self.classes, *masks), digest_size=16)
        for labels in (self.train_labels, self.test_labels):
            hasher.update(labels.numpy().astype("<i8").tobytes())
        return hasher.hexdigest()


def make_splits(train: ImageSet, test: ImageSet, *, max_overlap: float = 0.0) -> Splits:
    """Return the labeled images of both sides with classes matched by name.

    Images without a label are left out and counted. The classes are those of the training images that have at least
    one image, so gaps in the labels close; a class without test images is noted, as are test images that are files
    of the training images too, and files that two classes have.

    Args:
        train: training images.
        test: test images.
        max_overlap: largest share of test images that may be training images too.

    Raises:
        EvaluationError: if both sides are the same images or share more than `max_overlap`, a side has no labels, the
            training images have one class, or test images have a class that the training images lack.
    """
    _refuse_same(train, test)
    notes: list[str] = []
    sides = [_labeled(images, side, notes) for images, side in ((train, "train"), (test, "test"))]
    classes, tested = ([images.classes[label] for label in np.unique(images.labels)] for images in sides)
    if len(classes) == 1:
        raise EvaluationError(
            f"--train: all {len(sides[0])} images have the class '{classes[0]}', so any encoder scores 100 %; give "
            "training images of at least two classes"
        )
    labels = [_renumber(images, classes) for images in sides]
    _refuse_unknown([name for name in tested if name not in classes], labels[1], classes)
    missing = [name for name in classes if name not in tested]
    if missing:
        notes.append(f"{len(missing)} of {len(classes)} classes have no test images ({first_names(missing)})")
    for images, side in zip(sides, ("train", "test"), strict=True):
        notes += _under_two_classes(images, side)
    notes += _overlap(sides[0], sides[1], max_overlap)
    return Splits(sides[0], sides[1], labels[0], labels[1], tuple(classes), tuple(notes))


def unlabeled_splits(
    train: ImageSet, test: ImageSet, *, masks: Masks | None = None, max_overlap: float = 0.0
) -> Splits:
    """Return both sides as they are, for protocols that need no classes of images: every label is -1.

    The classes are those of the masks, if there are some.

    Raises:
        EvaluationError: if both sides are the same images or share more than `max_overlap`.
    """
    _refuse_same(train, test)
    broken = [(len(images.quarantined), side) for images, side in ((train, "train"), (test, "test"))]
    notes = [f"{count} images of --{side} are broken and left out" for count, side in broken if count]
    notes += [*_overlap(train, test, max_overlap), *(masks.notes if masks else ())]
    none = [torch.full((len(images),), -1, dtype=torch.int64) for images in (train, test)]
    return Splits(train, test, none[0], none[1], masks.classes if masks else (), tuple(notes), masks)


def _refuse_same(train: ImageSet, test: ImageSet) -> None:
    if train.fingerprint == test.fingerprint:
        raise EvaluationError(
            f"--train and --test are the same {len(train)} images, so the score would say nothing; give test images "
            "that are not among the training images"
        )


def _overlap(train: ImageSet, test: ImageSet, most: float) -> list[str]:
    """Refuse test images that are training images too, or return a note with their number."""
    shared = shared_files(train, test)
    if not shared:
        return []
    text = f"{len(shared)} of {len(test)} test images are training images too, byte for byte"
    if len(shared) > most * len(test):
        raise EvaluationError(
            f"--train and --test: {text} (first: {test.name(shared[0])}), so they would be scored against themselves; "
            f"take them out, or allow a larger share with --set max_overlap={len(shared) / len(test):.3g}"
        )
    return [text]


def _under_two_classes(images: ImageSet, side: str) -> list[str]:
    """Return a note with the number of images whose file another class has too, of which one label must be wrong."""
    sums, labels = _checksums(images), images.labels
    if sums is None:
        return []
    order = np.lexsort((labels, sums))
    ends = np.flatnonzero((np.diff(sums[order]) == 0) & (np.diff(labels[order]) != 0))
    files = defaultdict[bytes, list[int]](list)
    for row in np.flatnonzero(np.isin(sums, sums[order[ends]])).tolist():
        files[blake2b(_content(images.load(row)), digest_size=16).digest()].append(row)
    shared = [row for rows in files.values() if len(set(labels[rows])) > 1 for row in rows]
    if not shared:
        return []
    count, names = f"{len(shared)} of {len(images)} images of --{side}", first_names([images.name(r) for r in shared])
    return [f"{count} are, byte for byte, in another class too ({names})"]


def shared_files(train: ImageSet, test: ImageSet) -> list[int]:
    """Return the test images whose file (or pixels, where there is no file) is that of some training image.

    Checksums of 32 bits find them and bytes decide; empty where a side was opened without a check.
    """
    sides = [_checksums(images) for images in (train, test)]
    if any(sums is None for sums in sides):
        return []
    seen, tested = (np.asarray(sums) for sums in sides)
    order = np.argsort(seen, kind="stable")
    ends = [np.searchsorted(seen[order], tested, side=side) for side in ("left", "right")]
    return [
        int(row)
        for row in np.flatnonzero(ends[1] > ends[0])
        if any(_same(train.load(int(order[i])), test.load(int(row))) for i in range(ends[0][row], ends[1][row]))
    ]


def _checksums(images: ImageSet) -> UInt32[np.ndarray, " N"] | None:
    if any(sums is None for sums in images.checksums):
        return None
    return np.concatenate([np.asarray(sums, np.uint32) for sums in images.checksums])[images.rows]


def _content(image: bytes | np.ndarray) -> bytes:
    return image if isinstance(image, bytes) else repr(image.shape).encode() + image.tobytes()


def _same(one: bytes | np.ndarray, other: bytes | np.ndarray) -> bool:
    if isinstance(one, bytes) or isinstance(other, bytes):
        return isinstance(one, bytes) and one == other
    return np.array_equal(one, other)


def _renumber(images: ImageSet, classes: list[str]) -> Int64[Tensor, " N"]:
    """Return each image's place in `classes`, -1 if its class is not there."""
    number = {name: label for label, name in enumerate(classes)}
    return torch.tensor([number.get(name, -1) for name in images.classes])[torch.from_numpy(images.labels)]


def _labeled(images: ImageSet, side: str, notes: list[str]) -> ImageSet:
    """Return the images that have a label, and note how many have none."""
    kept = np.flatnonzero(images.labels >= 0)
    if not len(kept):
        raise EvaluationError(
            f"--{side}: none of the {len(images)} images has a label, and a score needs labels; give a folder with one "
            "subfolder a class, such as cat/1.jpg and dog/2.jpg"
        )
    empty = _empty_class_folders(images)
    if empty:
        notes.append(f"class folders of --{side} without an image: {len(empty)} ({first_names(empty)})")
    if images.quarantined:
        notes.append(f"{len(images.quarantined)} images of --{side} are broken and left out")
    if len(kept) == len(images):
        return images
    notes.append(f"{len(images) - len(kept)} of {len(images)} images of --{side} have no label and are left out")
    return images.subset(kept)


def _empty_class_folders(images: ImageSet) -> list[str]:
    """Return the subfolders that stand beside class folders and hold no image that can be read."""
    used = {images.classes[label] for label in np.unique(images.labels[images.labels >= 0])}
    empty: list[str] = []
    for folder in _places(images):
        with contextlib.suppress(OSError):  # no folder, or one that may not be listed
            names = {class_name(path.name) for path in folder.iterdir() if path.is_dir() and path.name[0] not in ".@_"}
            empty += sorted(names - used) if names & used else []
    return empty


def _refuse_unknown(unknown: list[str], labels: Int64[Tensor, " M"], classes: list[str]) -> None:
    """Refuse test images that no training image could ever be right about."""
    if unknown:
        count = int((labels < 0).sum())
        raise EvaluationError(
            f"--test: {count} of {len(labels)} images have a class that no training image has ({first_names(unknown)}; "
            f"--train has {first_names(classes)}), so they could only count as wrong; name the classes alike or take "
            "these images out"
        )


def refuse_overlap(train: ImageSet, test: ImageSet) -> None:
    """Refuse a source that is on both sides, or a folder inside a folder of the other side.

    Raises:
        EvaluationError: naming the source.
    """
    for one in _places(train):
        for other in _places(test):
            if one == other:
                raise EvaluationError(
                    f"{one.name}: this source is given as --train and as --test, so its images would be scored against "
                    "themselves; give test images that are not among the training images"
                )
            inner, outer = (one, other) if other in one.parents else (other, one)
            if outer in inner.parents and inner.is_dir():
                raise EvaluationError(
                    f"{outer.name}: this folder holds {inner.relative_to(outer)}, which is given as the other side, so "
                    "training and test images would overlap; give two folders of which none holds the other"
                )


def _places(images: ImageSet) -> list[Path]:
    return [Path(part) for source in images.sources for part in parts(source)]
