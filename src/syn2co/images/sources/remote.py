"""Data sets that another library fetches: torchvision and Hugging Face. Only these may use the network.

Axis letters: M images of the source, H W height and width in pixels.
"""

import difflib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from syn2co.core.errors import DataError
from syn2co.core.keyed_rng import digest
from syn2co.images.decode import rgb
from syn2co.images.index import sort_classes
from syn2co.images.quarantine import BrokenImage, Quarantined


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

    if isinstance(image, dict):
        if image.get("bytes"):
            return image["bytes"]
        if image.get("path"):
            try:
                return Path(image["path"]).read_bytes()
            except OSError as error:
                raise BrokenImage(f"it cannot be read ({error.strerror})") from error
    if isinstance(image, Image.Image):
        return rgb(image)
    raise BrokenImage(f"its data set gives a {type(image).__name__} where an image was expected")


def open_torchvision(name: str, split: str, *, cache_dir: Path) -> MapDatasetSource:
    """Return `torchvision.datasets.NAME`, downloaded below `cache_dir` if it is not there yet.

    Labels come from the data set's `targets` or `labels`; where it has neither, every item is read once for them.

    Raises:
        DataError: if there is no such data set or split, or if it cannot be opened.
    """
    from torchvision import datasets

    makers = {key: value for key, value in vars(datasets).items() if inspect.isclass(value) and key[0].isupper()}
    if name not in makers:
        near = difflib.get_close_matches(name, makers, 3, cutoff=0.5) or sorted(makers)[:3]
        raise DataError(
            f"torchvision:{name}: torchvision has no data set of this name; nearest are {', '.join(near)}; correct it."
        )
    identity = f"torchvision:{name}:{split}"
    arguments = _arguments(makers[name], identity, split, cache_dir)
    try:
        dataset = makers[name](**arguments)
    except (RuntimeError, ValueError, OSError, TypeError, ImportError) as error:
        raise DataError(
            f"{identity}: torchvision cannot open this data set ({_one_line(error)}); mend that or give a folder."
        ) from error
    targets = _targets(dataset)
    return MapDatasetSource(identity, dataset, *_labels(targets, getattr(dataset, "classes", None)))


def _arguments(maker: Any, identity: str, split: str, cache_dir: Path) -> dict[str, Any]:
    """Return the keyword arguments that this data set takes for root, split and download."""
    known = inspect.signature(maker).parameters
    arguments: dict[str, Any] = {}
    if "root" in known:
        arguments["root"] = str(cache_dir / "torchvision")
    if "download" in known:
        arguments["download"] = True
    if "split" in known:
        arguments["split"] = split
    elif "train" in known:
        if split not in ("train", "test"):
            raise DataError(f"{identity}: the split of this data set must be train or test; correct it.")
        arguments["train"] = split == "train"
    elif split != "train":
        raise DataError(f"{identity}: this data set has no splits; leave the split out.")
    return arguments


def _targets(dataset: Any) -> Sequence[Any]:
    """Return one target per item."""
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return values
    return [dataset[row][1] for row in range(len(dataset))]


def _labels(targets: Sequence[Any], names: Sequence[str] | None) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return labels counted in sorted class names; all -1 if the targets are not whole numbers."""
    try:
        values = np.array([int(target) for target in targets], np.int64)
    except (TypeError, ValueError):
        return np.full(len(targets), -1, np.int32), ()
    used = int(values.max(initial=-1)) + 1
    texts = [str(text) for text in names] if names is not None else []
    if len(texts) < used or len(set(texts)) != len(texts):
        texts = [str(number) for number in range(used)]
    classes = sort_classes(texts)
    table = np.array([*(classes.index(text) for text in texts), -1], np.int32)
    return table[np.where(values < 0, -1, values)], classes


def open_hf(name: str, split: str) -> MapDatasetSource:
    """Return one split of a Hugging Face data set: one of the hub, or a folder that `save_to_disk` wrote.

    The image column is the first of type Image, the label column the first of type ClassLabel.

    Raises:
        DataError: if the extra is not installed, or if the data set cannot be opened or has no image column.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name}: this source needs the package datasets; run `pip install 'syn2co[hf]'`.") from None
    local = os.path.isdir(name)
    identity = f"hf:{os.path.abspath(name) if local else name}:{split}"
    try:
        dataset = _load_hf(datasets, name, split)
    except Exception as error:  # the hub, the network and the builders each have errors of their own
        raise DataError(f"{identity}: this data set cannot be opened ({_one_line(error)}); mend that.") from error
    features = dataset.features
    column = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if column is None:
        raise DataError(f"{identity}: none of its columns ({', '.join(features)}) holds images; give another data set.")
    label = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    targets = dataset[label][:] if label is not None else [None] * len(dataset)
    labels, classes = _labels(targets, features[label].names if label is not None else None)
    encoded = dataset.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    return MapDatasetSource(identity, encoded, labels, classes, column, title="hf" if local else identity)


def _load_hf(datasets: Any, name: str, split: str) -> Any:
    """Return the split as a `datasets.Dataset`."""
    if not os.path.isdir(name):
        return datasets.load_dataset(name, split=split)
    stored = datasets.load_from_disk(name)
    if not isinstance(stored, dict):
        return stored
    if split not in stored:
        raise ValueError(f"its splits are {', '.join(stored)}")
    return stored[split]


def _one_line(error: Exception) -> str:
    """Return an error's text in one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
