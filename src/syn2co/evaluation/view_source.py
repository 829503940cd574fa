"""Random views of an image set as an image set of its own, so that their features are extracted and cached like others.

Axes: N images of the set, S side of a view in pixels.
"""

from copy import copy
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8
from torch import nn

from syn2co.core.keyed_rng import digest
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import one_view
from syn2co.images.image_set import ImageSet
from syn2co.images.quarantine import Quarantined
from syn2co.images.source import Source

_PURPOSE = "evaluation views"
_SMALL = 64


class ViewSource:
    """One keyed view of every image of a set, made when it is read: a `Source`."""

    stamp = None
    nbytes = 0
    ignored = 0

    def __init__(self, images: ImageSet, settings: ViewsSettings, *, seed: int, view: int) -> None:
        self.images = images
        self.settings = settings
        self.seed = seed
        self.view = view
        self.identity = f"view {view} of {images.fingerprint}"
        self.labels = images.labels.astype(np.int32)
        self.classes = images.classes
        self.skipped: tuple[Quarantined, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        """Return the name of the image that the view is of."""
        return self.images.name(row)

    def load(self, row: int) -> UInt8[np.ndarray, "S S 3"]:
        """Return the view; raises BrokenImage."""
        image = self.images.read(row)
        return one_view(image, self.settings, seed=self.seed, epoch=0, index=row, view=self.view, purpose=_PURPOSE)

    def digest(self) -> bytes:
        """Return the hash of the images and of all that the views depend on."""
        return digest(_PURPOSE, self.images.fingerprint, self.settings.model_dump_json(), self.seed, self.view)


def view_settings(size: int) -> ViewsSettings:
    """Return the views that the recipes train with at this side."""
    return ViewsSettings.small(size) if size <= _SMALL else ViewsSettings(size=size)


def viewed(images: ImageSet, size: int, *, seed: int, view: int) -> ImageSet:
    """Return one random view of each image at `size` pixels, a function of the image's index, `seed` and `view`.

    Args:
        images: the set; its order counts.
        size: side of the views; the augmentations are those that the recipes train with at this side.
        seed: of the draws.
        view: 0 or 1; their blur and solarization differ.

    Returns:
        A set of the same length, names and labels, that decodes and augments an image when it is read.

    Example:
        >>> from syn2co.data.open import open_images
        >>> views = viewed(open_images("builtin:digits:test"), 16, seed=0, view=1)
        >>> views.read(0).shape
        (16, 16, 3)
    """
    source: Source = ViewSource(images, view_settings(size), seed=seed, view=view)
    rows = np.arange(len(images))
    return replace(images, sources=(source,), rows=rows, checksums=(None,), bits=(16,), quarantined=[], cache=None)


def without_crop(encoder: nn.Module) -> nn.Module:
    """Return the encoder, its weights shared, with an evaluation crop that leaves an image of its own size as it is."""
    whole = copy(encoder)
    whole.crop_ratio = 1.0  # type: ignore[assignment]
    return whole
