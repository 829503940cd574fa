"""The two sides of a score: labeled training and test images, checked to be different and labeled alike.

Axes: N labeled training images, M labeled test images, C classes of the training images, P pixel values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.core.errors import EvaluationError
from syn2co.core.keyed_rng import digest
from syn2co.images.image_set import ImageSet

Specs = str | Path | Sequence[str | Path]
_SHOWN = 5


@dataclass(frozen=True)
class Splits:
    """Training and test images that have a label, labels 0..C-1 in the order of `classes`, and notes."""

    train: ImageSet
    test: ImageSet
    train_labels: Int64[Tensor, " N"]
    test_labels: Int64[Tensor, " M"]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Return 32 hex digits of both image sets and their labels, wherever the data lie."""
        hasher = blake2b(digest(self.train.fingerprint, self.test.fingerprint, *self.classes), digest_size=16)
        for labels in (self.train_labels, self.test_labels):
            hasher.update(labels.numpy().astype("<i8").tobytes())
        return hasher.hexdigest()


def make_splits(train: ImageSet, test: ImageSet) -> Splits:
    """Return the labeled images of both sides with classes matched by name.

    Images without a label are left out and counted. The classes are those of the training images that have at least
    one image, so gaps in the labels close; a class without test images is noted.

    Raises:
        EvaluationError: if both sides are the same images, a side has no labels, the training images have one class,
            or test images have a class that the training images lack.
    """
    if train.fingerprint == test.fingerprint:
        raise EvaluationError(
            f"--train and --test are the same {len(train)} images, so the score would say nothing; give test images "
            "that are not among the training images"
        )
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
        notes.append(f"{len(missing)} of {len(classes)} classes have no test images ({_some(missing)})")
    return Splits(sides[0], sides[1], labels[0], labels[1], tuple(classes), tuple(notes))


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
    if images.quarantined:
        notes.append(f"{len(images.quarantined)} images of --{side} are broken and left out")
    if len(kept) == len(images):
        return images
    notes.append(f"{len(images) - len(kept)} of {len(images)} images of --{side} have no label and are left out")
    return images.subset(kept)


def _refuse_unknown(unknown: list[str], labels: Int64[Tensor, " M"], classes: list[str]) -> None:
    """Refuse test images that no training image could ever be right about."""
    if unknown:
        count = int((labels < 0).sum())
        raise EvaluationError(
            f"--test: {count} of {len(labels)} images have a class that no training image has ({_some(unknown)}; "
            f"--train has {_some(classes)}), so they could only count as wrong; name the classes alike or take these "
            "images out"
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


def identical_rows(train: Float[Tensor, "N P"], test: Float[Tensor, "M P"]) -> int:
    """Return how many test rows are equal to some training row, value for value."""
    seen = {hash(row.tobytes()) for row in train.numpy()}
    return sum(hash(row.tobytes()) in seen for row in test.numpy())


def _places(images: ImageSet) -> list[Path]:
    return [Path(part) for source in images.sources for part in source.identity.split("\n")]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
