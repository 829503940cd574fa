"""Class labels of the images of a supervised run."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Int64

from syn2co.core.errors import DataError
from syn2co.data.training_data import TrainingData
from syn2co.images.image_set import ImageSet


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Label of each image of a set, counted in `classes`; images that are never drawn may have -1."""

    numbers: Int64[np.ndarray, " N"]
    classes: tuple[str, ...]

    @property
    def provenance(self) -> dict[str, Any]:
        """Return what checkpoints say of the labels: that they were used, the classes, and 32 hex digits of both."""
        hasher = blake2b("\n".join(self.classes).encode(), digest_size=16)
        hasher.update(self.numbers.astype("<i8").tobytes())
        return {"objective": "supervised", "classes": list(self.classes), "label_fingerprint": hasher.hexdigest()}


def training_labels(data: TrainingData) -> ClassLabels:
    """Return the labels of the images that a run draws; classes are those of all sources, merged by name.

    A view that is replaced by a synthetic variation keeps the label of its real image.

    Raises:
        DataError: if an image that may be drawn has no label, synthetic images have a class that no real image has, or
            all images are of one class.
    """
    images, mixer = data.images, data.mixer
    real = _drawn(images, mixer.real if mixer.mode != "synthetic" else mixer.real[:0], "real")
    rows = mixer.synthetic if mixer.mode not in ("real", "replace") else mixer.synthetic[:0]
    synthetic = _drawn(images, rows, "synthetic")
    unknown = [images.classes[number] for number in np.setdiff1d(synthetic, real)] if len(real) else []
    if unknown:
        names = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise DataError(
            f"data.synthetic: has {len(unknown)} classes that no real image has ({names}), so its labels are not those "
            "of data.real; give both the same class names, or train with training.objective=contrastive"
        )
    drawn = np.union1d(real, synthetic)
    if len(drawn) < 2:
        raise DataError(
            f"training.objective = supervised: all images are of one class ({images.classes[drawn[0]]}), which leaves "
            "nothing to tell apart; add images of other classes, or set contrastive"
        )
    return ClassLabels(images.labels, images.classes)


def _drawn(images: ImageSet, rows: Int64[np.ndarray, " n"], kind: str) -> Int64[np.ndarray, " c"]:
    """Return the classes of the images at `rows`, all of which must have one."""
    labels = images.labels[rows]
    missing = rows[labels < 0]
    if len(missing):
        raise DataError(
            f"data.{kind}: {len(missing)} of {len(rows)} images have no label (the first is "
            f"{images.name(int(missing[0]))}), and training.objective = supervised needs one of each; put the images "
            "into one folder per class, or set contrastive"
        )
    return np.unique(labels)
