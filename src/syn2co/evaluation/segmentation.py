"""Segmentation data: folders with images/ and masks/, found, checked and cropped as the images are.

Axes: N images of one side, H W height and width in pixels, S side of a crop in pixels.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from syn2co.core.errors import DataError
from syn2co.core.hints import first_names
from syn2co.core.paths import is_folder, user_path
from syn2co.core.settings import one_or_many
from syn2co.core.stuck_threads import map_in_threads
from syn2co.evaluation.crops import decoding_threads
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop_mask
from syn2co.images.sources.folder import FolderSource

IGNORED = 255
"""The value of pixels that neither train the head nor count in a score."""
IMAGES, MASKS, NAMES = "images", "masks", "classes.txt"
_MODES = ("L", "P", "1")


@dataclass(frozen=True)
class Masks:
    """Masks of both sides, one per image in the order of the images, all read and checked.

    Attributes: `classes`, their names; `digest`, 32 hex digits of all pixels; `notes`, whole sentences for the reader.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]
    classes: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


def image_folders(specs: str | Path | Sequence[str | Path], side: str) -> list[Path]:
    """Return FOLDER/images of each source of a side.

    Args:
        specs: folders with images/ and masks/ in them.
        side: "train" or "test", for the message.

    Returns:
        The folders of images, in the order of `specs`.

    Raises:
        DataError: if a source is no such folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part in ("images", "masks"):
        ...         (Path(folder) / part).mkdir()
        ...     [path.name for path in image_folders(folder, "train")]
        ['images']
    """
    folders = list(map(user_path, one_or_many(specs)))
    for folder in folders:
        missing = [part for part in (IMAGES, MASKS) if not is_folder(folder / part)]
        if missing:
            raise DataError(
                f"--{side} {folder}: there is no folder {missing[0]} in it; segmentation needs FOLDER/images and "
                "FOLDER/masks with a PNG of class numbers of the same name for each image"
            )
    return [folder / IMAGES for folder in folders]


def find_masks(train: tuple[list[Path], ImageSet], test: tuple[list[Path], ImageSet]) -> Masks:
    """Return the masks of both sides, each read once and held against its image and the classes.

    The classes are the lines of FOLDER/classes.txt, or else the numbers up to the largest of the training masks.

    Args:
        train: the folders of images as `image_folders` returns them, and the images that were opened there.
        test: likewise.

    Returns:
        One mask per image; masks without an image and classes without training pixels are noted.

    Raises:
        DataError: if an image has no mask; if a mask cannot be read, has colors, another size than its image or a class
            beyond; if lists of classes differ, a side has no labeled pixel, or the training masks have one class.
    """
    names = _names([*train[0], *test[0]])
    sides = [_Side("train", *train), _Side("test", *test)]
    checks = [_check(side) for side in sides]
    trained = np.flatnonzero(checks[0].used.any(axis=0))
    count = len(names) if names else int(trained[-1]) + 1
    for side, checked in zip(sides, checks, strict=True):
        _refuse_beyond(side, checked, count, listed=bool(names))
    classes = names or tuple(map(str, range(count)))
    if len(trained) == 1:
        raise DataError(
            f"--train: all labeled pixels of the {len(sides[0].masks)} masks have the class '{classes[trained[0]]}', "
            "so any encoder scores 100 %; give masks of at least two classes"
        )
    untrained = [classes[label] for label in np.flatnonzero(checks[1].used.any(axis=0)) if label not in trained]
    notes = [note for side in sides for note in side.notes]
    if untrained:
        notes.append(
            f"{len(untrained)} classes of the test masks have no pixel in the training masks ({first_names(untrained)})"
        )
    hasher = blake2b(b"".join(checked.digest for checked in checks), digest_size=16)
    return Masks(sides[0].masks, sides[1].masks, classes, hasher.hexdigest(), tuple(notes))


def crop_masks(paths: Sequence[Path], size: int, crop_ratio: float, *, squash: bool = False) -> UInt8[Tensor, "N S S"]:
    """Return the masks under the evaluation crops of their images.

    Args:
        paths: PNG files, as in `Masks`.
        size: side of the crops in pixels.
        crop_ratio: the encoder's.
        squash: the encoder's.

    Returns:
        Class numbers; 255 is no class.

    Raises:
        DataError: if a mask can no longer be read.
    """
    crops = torch.empty(len(paths), size, size, dtype=torch.uint8)

    def fill(row: int) -> None:
        crops[row] = torch.from_numpy(resize_and_crop_mask(read_mask(paths[row]), size, crop_ratio, squash=squash))

    _each(fill, len(paths))
    return crops


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Return the class numbers of a mask, of a palette's colors their numbers.

    Args:
        path: an 8-bit image file of one channel.

    Returns:
        One number per pixel; 255 is no class.

    Raises:
        DataError: if the file cannot be read or has colors.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image) if image.mode in _MODES else None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: this mask cannot be read ({error}); write it anew as an 8-bit PNG") from None
    if pixels is None:
        raise DataError(
            f"{path}: this mask has the color mode {mode}; a mask must be an 8-bit PNG of class numbers (mode L or P), "
            "255 for pixels without a class; convert it"
        )
    return pixels.astype(np.uint8)


class _Side:
    """Images of one side and the masks beside them."""

    def __init__(self, name: str, folders: list[Path], images: ImageSet) -> None:
        self.name = name
        self.images = images
        self.masks = tuple(_mask_of(folders, images, index) for index in range(len(images)))
        used = {str(path) for path in self.masks}
        unused = [
            path for folder in folders for path in (folder.parent / MASKS).rglob("*.png") if str(path) not in used
        ]
        self.notes = [f"{len(unused)} masks of --{name} belong to no image that can be read"] if unused else []


def _mask_of(folders: list[Path], images: ImageSet, index: int) -> Path:
    """Return the path of an image's mask: masks/ for images/, .png for the image's own suffix."""
    number, _, name = images.name(index).partition(":")
    folder, source = folders[int(number)], images.sources[int(number)]
    if not isinstance(source, FolderSource):
        raise DataError(f"{folder}: this is no plain folder of images; segmentation needs one file per image")
    below = os.path.relpath(source.root, source.identity)  # a single subfolder is not part of the names
    path = folder.parent / MASKS / below / Path(name).with_suffix(".png")
    if not path.is_file():
        raise DataError(f"{folder / below / name}: there is no mask of this image; it must be {path}")
    return path


class _Checked(NamedTuple):
    """Which of the 256 numbers each mask of a side uses (255 taken out), and a digest of all pixels."""

    used: np.ndarray
    digest: bytes


def _check(side: _Side) -> _Checked:
    used, digests = np.zeros((len(side.masks), 256), dtype=bool), [b""] * len(side.masks)

    def check(row: int) -> None:
        mask, shape = read_mask(side.masks[row]), side.images.read(row).shape[:2]
        if mask.shape != shape:
            raise DataError(
                f"{side.masks[row]}: this mask has {mask.shape[1]} x {mask.shape[0]} pixels and its image "
                f"{shape[1]} x {shape[0]}; give a mask of the image's size"
            )
        used[row, np.unique(mask)] = True
        digests[row] = blake2b(f"{mask.shape}".encode() + mask.tobytes(), digest_size=16).digest()

    _each(check, len(side.masks))
    used[:, IGNORED] = False
    if not used.any():
        raise DataError(
            f"--{side.name}: all pixels of the {len(side.masks)} masks are 255, which is no class; give masks with "
            "class numbers"
        )
    return _Checked(used, b"".join(digests))


def _each(work: Callable[[int], None], count: int) -> None:
    """Do the work for 0..count-1 in threads; the first error by number is raised."""
    with closing(map_in_threads(work, range(count), decoding_threads(None))) as done:
        for _ in done:
            pass


def _refuse_beyond(side: _Side, checked: _Checked, count: int, *, listed: bool) -> None:
    beyond = np.argwhere(checked.used[:, count:])
    if len(beyond):
        row, label = int(beyond[0, 0]), count + int(beyond[0, 1])
        whose = f"of {NAMES}" if listed else "of the training masks"
        raise DataError(
            f"{side.masks[row]}: this mask has the class {label}, beyond the classes {whose}, 0 to {count - 1} (255 is "
            "none); correct the mask" + (" or the list" if listed else ", or name all classes in classes.txt")
        )


def _lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a list of classes but for blank ones at its end; one before would shift all numbers."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write one class a line, as UTF-8 text") from None
    if "" in lines:
        raise DataError(
            f"{path}: line {lines.index('') + 1} is blank, but the number of a line is its class; name that class, or "
            "remove the line"
        )
    return tuple(lines)


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the classes that the lists beside the images name, the same in all; empty if there is no list."""
    lists: dict[Path, tuple[str, ...]] = {}
    for folder in folders:
        path = folder.parent / NAMES
        if path.is_file():
            lists[path] = _lines(path)
    for path, names in lists.items():
        first = next(iter(lists))
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(f"{path}: names the class '{twice[0]}' more than once; name each class on one line")
        if names != lists[first]:
            raise DataError(f"{path}: names other classes than {first}; give both sides the same list")
    return next(iter(lists.values()), ())
