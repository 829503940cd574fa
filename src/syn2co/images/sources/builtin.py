"""Images that come with scikit-image and scikit-learn: nothing is downloaded.

Axis letters: M images of the source, H W height and width in pixels.
"""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from syn2co.core.errors import DataError
from syn2co.core.keyed_rng import digest, generator
from syn2co.images.decode import decode
from syn2co.images.quarantine import BrokenImage, Quarantined

_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
# Origin and terms as scikit-image's docstrings and scikit-learn's README state them. Left out: the motorcycle, whose
# terms are not stated, and pictures that are no photographs (drawings, scans of text, the phase map of a cell).
PHOTOS = {
    "astronaut": (_SKIMAGE, "astronaut.png"),  # Eileen Collins; NASA, public domain
    "brick": (_SKIMAGE, "brick.png"),  # brick wall; CC0Textures, CC0
    "camera": (_SKIMAGE, "camera.png"),  # man with a camera; Lav Varshney, CC0
    "chelsea": (_SKIMAGE, "chelsea.png"),  # a cat; Stefan van der Walt, CC0
    "china": (_SKLEARN, "china.jpg"),  # Chinese roofs; danielbuechele, CC BY 2.0
    "clock": (_SKIMAGE, "clock_motion.png"),  # wall clock, motion blurred; Stefan van der Walt, public domain
    "coffee": (_SKIMAGE, "coffee.png"),  # cup of coffee; Rachel Michetti, CC0
    "coins": (_SKIMAGE, "coins.png"),  # Greek coins; Brooklyn Museum, no known restrictions
    "flower": (_SKLEARN, "flower.jpg"),  # a flower; vultilion, CC BY 2.0
    "grass": (_SKIMAGE, "grass.png"),  # a lawn; linolafett, CC0
    "gravel": (_SKIMAGE, "gravel.png"),  # gravel; CC0Textures, CC0
    "hubble": (_SKIMAGE, "hubble_deep_field.jpg"),  # eXtreme Deep Field; NASA, public domain
    "ihc": (_SKIMAGE, "ihc.png"),  # stained colon tissue; CMMI, no known restrictions
    "moon": (_SKIMAGE, "moon.png"),  # surface of the moon; part of scikit-image (BSD)
    "retina": (_SKIMAGE, "retina.jpg"),  # human retina; Mikael Haggstrom, CC0
    "rocket": (_SKIMAGE, "rocket.jpg"),  # Falcon 9 launch; SpaceX, public domain
}
PATCHES = {"train": 1120, "labeled": 160, "test": 64}
"""Patches of each photograph; those of "labeled" are the first ones of "train": a small bank for quick scores."""
SIDE = 32
BLANK = 1.25
"""Gray levels by which a patch must differ from a smooth surface to be tested on; sky and plain walls do not."""
_LONGER_SIDE, _CUT, _CROP = 512, 0.6, (56, 96)


class ArraySource:
    """Images held in memory."""

    skipped: tuple[Quarantined, ...] = ()
    ignored = 0
    stamp: str | None = None

    def __init__(
        self,
        identity: str,
        images: UInt8[np.ndarray, "M H W 3"],
        labels: Int32[np.ndarray, " M"],
        classes: tuple[str, ...],
        names: Sequence[str],
    ) -> None:
        self.identity = identity
        self.images, self.labels, self.classes = images, labels, classes
        self._names = tuple(names)
        images.flags.writeable = False

    @property
    def nbytes(self) -> int:
        """Return the memory of names and labels in bytes (the pixels are not an index)."""
        return self.labels.nbytes + sum(len(name) + 57 for name in self._names)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        """Return "class/number"."""
        return self._names[row]

    def load(self, row: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return the pixels as a read-only view."""
        return self.images[row]

    def digest(self) -> bytes:
        """Return the hash of the source's name and pixels."""
        return digest(self.identity, crc32(self.images.data))


def open_builtin(name: str, split: str) -> ArraySource:
    """Return the images of `builtin:name:split`; the same bytes every time.

    Raises:
        DataError: if the name or the split is unknown.
    """
    makers = {"photos": _photos, "digits": _digits}
    if name not in makers:
        raise DataError(f"builtin:{name}: must be builtin:photos or builtin:digits; correct the name.")
    splits = tuple(PATCHES) if name == "photos" else ("train", "test")
    if split not in splits:
        raise DataError(f"builtin:{name}:{split}: the split must be one of {', '.join(splits)}; correct it.")
    return makers[name](split)


def _photos(split: str) -> ArraySource:
    """Return patches of 16 photographs: from the left 60 % for train and labeled, from the rest for test: no pixel is
    shared, and no blank patch is tested on.

    The photograph is cut first; each part is then scaled as if the whole photograph's longer side became 512, and
    crops of 56 to 96 px, drawn by key, are shrunk to 32 px by area. The label is the photograph.
    """
    count = PATCHES[split]
    names = [f"{name}/{number:04d}" for name in PHOTOS for number in range(count)]
    labels = np.repeat(np.arange(len(PHOTOS), dtype=np.int32), count)
    return ArraySource(f"builtin:photos:{split}", _all_patches(split, count), labels, tuple(PHOTOS), names)


@functools.cache
def _all_patches(split: str, count: int) -> UInt8[np.ndarray, "M H W 3"]:
    """Return `count` patches per photograph, cut once per process: a study opens them for each of its cells."""
    return np.stack([patch for name in PHOTOS for patch in _patches(name, split, count)])


def _patches(name: str, split: str, count: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Return the first patches of one photograph."""
    part = photo_part(name, split)
    tested = split == "test"
    draws = generator("builtin:photos", name, "test" if tested else "train")
    patches: list[UInt8[np.ndarray, "H W 3"]] = []
    while len(patches) < count:
        side = int(draws.integers(_CROP[0], _CROP[1] + 1))
        top = int(draws.integers(0, part.shape[0] - side + 1))
        left = int(draws.integers(0, part.shape[1] - side + 1))
        crop = part[top : top + side, left : left + side]
        patch = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if not (tested and is_blank(patch)):
            patches.append(patch)
    return patches


def is_blank(patch: UInt8[np.ndarray, "S S 3"]) -> bool:
    """Return whether nothing is to be seen on a square patch: its gray values are a quadratic surface but for noise."""
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : patch.shape[0] * 1j, -1 : 1 : patch.shape[1] * 1j])
    surface = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    gray = patch.mean(axis=2).ravel()
    rest = gray - surface @ np.linalg.lstsq(surface, gray, rcond=None)[0]
    return bool(rest.std() < BLANK)


def photo_part(name: str, split: str) -> UInt8[np.ndarray, "H W 3"]:
    """Return one photograph's left 60 % (train, labeled) or the rest (test), scaled."""
    photo = decode(_find(*PHOTOS[name]).read_bytes())
    height, width, _ = photo.shape
    cut, factor = round(width * _CUT), _LONGER_SIDE / max(height, width)
    part = photo[:, cut:] if split == "test" else photo[:, :cut]
    size = (round(part.shape[1] * factor), round(height * factor))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _find(package_folder: tuple[str, str], file_name: str) -> Path:
    """Return the path of a file inside an installed package, without importing it."""
    package, folder = package_folder
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BrokenImage(f"the package {package} is not installed", name=file_name)
    return Path(spec.submodule_search_locations[0], folder, file_name)


def _digits(split: str) -> ArraySource:
    """Return scikit-learn's 8 px digits at 32 px; a fifth of each digit, drawn by key, is the test split."""
    from sklearn.datasets import load_digits

    values, targets = (np.asarray(array) for array in load_digits(return_X_y=True))
    chosen = np.concatenate([_fifth(np.flatnonzero(targets == value), value, split) for value in range(10)])
    small = np.rint(values[chosen].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in small]
    labels = targets[chosen].astype(np.int32)
    names = [f"{label}/{row:04d}" for label, row in zip(labels, chosen, strict=True)]
    pixels = np.repeat(np.stack(large)[..., None], 3, axis=3)
    return ArraySource(f"builtin:digits:{split}", pixels, labels, tuple("0123456789"), names)


def _fifth(rows: np.ndarray, value: int, split: str) -> np.ndarray:
    """Return the keyed fifth of `rows` for test, the other four for train, in order."""
    shuffled = generator("builtin:digits", value).permutation(rows)
    cut = len(rows) // 5
    return np.sort(shuffled[:cut] if split == "test" else shuffled[cut:])
