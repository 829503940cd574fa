"""The interface that every image source offers to an `ImageSet`.

Axis letters: M images of the source, H W height and width in pixels.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from syn2co.images.quarantine import Quarantined

SEPARATOR = "\0"
"""Between the parts of an identity (several tars, joined splits): the one character that no path holds."""


def parts(source: "Source") -> list[str]:
    """Return the identities of the parts of a source, such as the paths of its tars."""
    return source.identity.split(SEPARATOR)


class Source(Protocol):
    """An ordered list of images; two sources with the same `identity` are the same images."""

    identity: str
    labels: Int32[np.ndarray, " M"]
    classes: tuple[str, ...]
    skipped: tuple[Quarantined, ...]
    ignored: int

    @property
    def nbytes(self) -> int:
        """Memory of the index in bytes."""
        ...

    @property
    def stamp(self) -> str | None:
        """A text that changes whenever a file may have changed; None if a verdict must not be kept on disk."""
        ...

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Name below the source's root."""
        ...

    def load(self, row: int) -> bytes | UInt8[np.ndarray, "H W 3"]:
        """Return the encoded file, or RGB pixels; raises BrokenImage."""
        ...

    def digest(self) -> bytes:
        """Hash of the names and byte sizes, independent of where the source lies."""
        ...


@runtime_checkable
class SyntheticSource(Source, Protocol):
    """A source that knows how its images were made."""

    group_ids: Int64[np.ndarray, " M"]
    """Group of each image, a hash of its text (`identity.group_id`)."""
    source_ids: Int64[np.ndarray, " M"]
    """Hash of the key of the real image that each one is a variation of; -1 for none."""
    labels_used: bool
    """Whether somebody's labels went into these images."""
    made_by: tuple[str, ...]
    """Names of the generators."""
    licenses: Mapping[str, tuple[str, ...]]
    """Licenses of each generator that names some."""
    on_the_fly: bool
    """Whether `load` makes the image: nothing to check, nothing to keep."""
