"""Data sets that another library fetches, as sources: the part that torchvision and Hugging Face share.

Axis letters: M images of the source, H W height and width in pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from syn2co.core.keyed_rng import digest
from syn2co.images.decode import rgb
from syn2co.images.index import class_name, sort_classes
from syn2co.images.quarantine import BrokenImage, Quarantined, read_image_file


class MapDatasetSource:
    """A map-style data set; item i is an (image, target) pair or a row with an image column.

    `title` stands for the source in the fingerprint where `identity` would name a place on this machine.
    """

    skipped: tuple[Quarantined, ...] = ()
    ignored = 0
    stamp: str | None = None

    def __init__(
        self,
        identity: str,
        dataset: Any,
        labels: Int32[np.ndarray, " M"],
        classes: tuple[str, ...],
        column: str | None = None,
        title: str | None = None,
    ) -> None:
        self.identity, self.dataset, self.column, self.title = identity, dataset, column, title or identity
        self.labels, self.classes = labels, classes

    @property
    def nbytes(self) -> int:
        """Return the memory of the labels in bytes; the rest is the data set's own."""
        return self.labels.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Return the row's number."""
        return f"{row:08d}"

    def load(self, row: int) -> bytes | UInt8[np.ndarray, "H W 3"]:
        """Return the encoded image where the data set has it, else RGB pixels.

        Raises:
            BrokenImage: if the data set fails on this row, or if it gives no image.
        """
        try:
            item = self.dataset[row]
        except Exception as error:  # another library's readers raise nearly anything
            raise BrokenImage(f"its data set cannot read it ({type(error).__name__}: {error})") from error
        return _pixels(item[self.column] if self.column is not None else item[0])

    def digest(self) -> bytes:
        """Return the hash of the source's name, length and labels (contents join after a check)."""
        return digest(self.title, len(self), self.labels.astype("<i4").tobytes().hex())


def _pixels(image: Any) -> bytes | UInt8[np.ndarray, "H W 3"]:
    """Return what a data set calls an image as bytes or RGB pixels."""
    from PIL import Image

    if isinstance(image, bytes):
        return image
    if isinstance(image, dict):
        if image.get("bytes"):
            return image["bytes"]
        if image.get("path"):
            return read_image_file(image["path"])
    if isinstance(image, Image.Image):
        return rgb(image)
    raise BrokenImage(f"its data set gives a {type(image).__name__} where an image was expected")


def class_labels(
    targets: Sequence[Any], names: Sequence[str] | None
) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return labels counted in sorted class names; all -1 if the targets are not whole numbers."""
    try:
        values = np.array([int(target) for target in targets], np.int64)
    except (TypeError, ValueError):
        return np.full(len(targets), -1, np.int32), ()
    used = int(values.max(initial=-1)) + 1
    texts = [class_name(str(text)) for text in names] if names is not None else []
    if len(texts) < used or len(set(texts)) != len(texts):
        texts = [str(number) for number in range(used)]
    classes = sort_classes(texts)
    table = np.array([*(classes.index(text) for text in texts), -1], np.int32)
    return table[np.where(values < 0, -1, values)], classes


def one_line(error: Exception) -> str:
    """Return an error's text in one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
