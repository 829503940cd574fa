"""Images in: sources, their index, decoding, and what is left out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet as ImageSet
    from syn2co.images.opening import open_images as open_images
    from syn2co.images.quarantine import BrokenImage as BrokenImage
    from syn2co.images.quarantine import Quarantined as Quarantined

_HOME = {
    "BrokenImage": "syn2co.images.quarantine",
    "ImageSet": "syn2co.images.image_set",
    "Quarantined": "syn2co.images.quarantine",
    "open_images": "syn2co.images.opening",
}
__all__ = ["BrokenImage", "ImageSet", "Quarantined", "open_images"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: OpenCV and Pillow cost a tenth of a second."""
    if name not in _HOME:
        raise AttributeError(f"module 'syn2co.images' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
