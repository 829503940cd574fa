"""Conditions that an image is made on: a cluster of the real images, a class, or nothing.

Axis letters: N images, C conditions, D numbers of a thumbnail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.core.hints import nearest
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generators.real_images import Square, thumbnail
from syn2co.synthesis.sets.job import Job

Kind = Literal["cluster", "class", "none"]
_CENTERS = "conditions.centres"  # the name under which model files hold it: their hash stays


@dataclass(frozen=True)
class Conditions:
    """The conditions that a model knows, with the number of real images of each."""

    kind: Kind
    names: tuple[str, ...]
    sizes: Int64[np.ndarray, " C"]
    centers: Float[np.ndarray, "C D"]
    """Mean thumbnail of each."""

    def of_job(self, job: Job) -> int:
        """Return the condition of a job: its class, or a keyed draw in proportion to the sizes.

        Raises:
            ConfigError: if the job names a class and the model knows no classes, or not this one.
        """
        if job.class_name is None:
            shares = np.cumsum(self.sizes) / self.sizes.sum()
            return int(np.searchsorted(shares, job.rng("condition").random(), side="right"))
        if self.kind != "class":
            raise ConfigError(
                f"condition = {self.kind}: cannot make an image of the class {job.class_name!r}; set condition to "
                "class, or ask for images without class names"
            )
        if job.class_name not in self.names:
            hint = nearest(job.class_name, self.names) or f"; the first of them is {self.names[0]}"
            raise ConfigError(
                f"class {job.class_name!r}: the model knows {len(self.names)} classes and not this one{hint}"
            )
        return self.names.index(job.class_name)

    def of_image(self, square: Square, class_name: str | None) -> int:
        """Return the condition of a real image: its class, or the nearest cluster."""
        if self.kind == "class":
            if class_name not in self.names:
                raise DataError(f"class {class_name!r}: the source image is of no class that the model knows")
            return self.names.index(class_name)
        return int(np.square(self.centers - thumbnail(square).ravel()).sum(1).argmin())

    @property
    def note(self) -> str:
        """Name of an image's condition in the manifest: "cluster" or "of_class"."""
        return "of_class" if self.kind == "class" else self.kind

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {"conditions.sizes": self.sizes, _CENTERS: self.centers}

    @property
    def metadata(self) -> dict[str, Any]:
        return {"condition": self.kind, "condition_names": list(self.names)}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> "Conditions":
        """Return what `arrays` and `metadata` were taken from."""
        names = tuple(metadata["condition_names"])
        return cls(metadata["condition"], names, arrays["conditions.sizes"], arrays[_CENTERS])


def assign(
    kind: Kind, images: ImageSet, thumbnails: Float[np.ndarray, "N D"], *, clusters: int, seed: int
) -> tuple[Conditions, Int64[np.ndarray, " N"]]:
    """Return the conditions of the images and the number of each image's own; every condition has an image.

    Clusters are those of k-means over the thumbnails, so of colors and their coarse layout.

    Raises:
        DataError: if `kind` is class and images have none.
    """
    if kind == "class":
        raw, names = _classes(images)
    elif kind == "cluster":
        raw = _clusters(thumbnails, min(clusters, len(thumbnails)), seed)
        names = ()
    else:
        raw, names = np.zeros(len(thumbnails), np.int64), ("",)
    distinct, labels = np.unique(raw, return_inverse=True)
    names = tuple(names[number] for number in distinct) if names else tuple(str(n) for n in range(len(distinct)))
    centers = np.stack([thumbnails[labels == number].mean(0) for number in range(len(distinct))])
    sizes = np.bincount(labels).astype(np.int64)
    return Conditions(kind, names, sizes, centers.astype(np.float32)), labels.astype(np.int64)


def _classes(images: ImageSet) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    labels = np.asarray(images.labels)
    without = int((labels < 0).sum())
    if without:
        raise DataError(
            f"condition = class: {without} of {len(labels)} images have no class; put each class in a folder of its "
            "own, or set condition to cluster"
        )
    return labels, images.classes


def _clusters(thumbnails: Float[np.ndarray, "N D"], count: int, seed: int) -> Int64[np.ndarray, " N"]:
    from sklearn.cluster import MiniBatchKMeans

    state = keyed_rng.key64("clusters", seed) % 2**32
    starts: Any = 3  # sklearn's annotation knows "auto" alone
    model = MiniBatchKMeans(count, random_state=state, n_init=starts, batch_size=1024)
    return model.fit_predict(thumbnails).astype(np.int64)
