"""A compact list of images: 20 bytes an image (28 in a tar) and its file name, in flat arrays.

Axis letters: M images of one list.
"""

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from syn2co.core.paths import printable
from syn2co.images.quarantine import Quarantined

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_OTHER_NAMES = (".jfif", ".jpe", ".jif")
_OTHER_FORMATS = (".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".pgm", ".ppm", ".psd", ".tga")
IN_SYSTEM_FOLDERS = "images in system folders such as @eaDir or __MACOSX"
HIDDEN_IMAGES = "hidden images, whose names begin with a dot"
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx"}
    | {"$recycle.bin", "system volume information"}
)


def is_image_name(name: str) -> bool:
    """Return whether the file name ends like an image we read, in any case."""
    return name.lower().endswith(SUFFIXES)


def unread_image(name: str) -> str | None:
    """Return what to say of a file that its name calls an image which is not read; None for any other file."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix in _OTHER_NAMES:
        return f"{suffix} files, JPEGs under a name that is not read (rename them .jpg)"
    return f"{suffix} files, a format that is not read (convert them)" if suffix in _OTHER_FORMATS else None


def is_system_folder(name: str) -> bool:
    """Return whether a folder of this name holds thumbnails or copies that a machine made, or what was thrown away."""
    return name.lower() in _SYSTEM_FOLDERS


@dataclass(frozen=True)
class FileIndex:
    """Names and byte sizes of images; `offsets` says where they lie in a tar.

    The file name of image i is names[starts[i]:starts[i+1]] in UTF-8 (odd bytes kept by surrogateescape), below
    `directories[directory[i]]`, which is "" at the top. `ignored` counts the files that are no images by their names,
    `passed` what is passed over for another reason, by its description. `stamp` changes when a file changes.
    """

    directories: tuple[str, ...]
    directory: Int32[np.ndarray, " M"]
    names: bytes
    starts: np.ndarray[Any, Any]
    sizes: Int64[np.ndarray, " M"]
    labels: Int32[np.ndarray, " M"]
    classes: tuple[str, ...] = ()
    offsets: Int64[np.ndarray, " M"] | None = None
    skipped: tuple[Quarantined, ...] = ()
    ignored: int = 0
    passed: tuple[tuple[str, int], ...] = ()
    stamp: str = ""

    def __len__(self) -> int:
        return len(self.sizes)

    def path(self, row: int) -> str:
        """Return the path of one image below the root, with "/", as the file system spells it."""
        file_name = self.names[int(self.starts[row]) : int(self.starts[row + 1])].decode("utf-8", "surrogateescape")
        directory = self.directories[self.directory[row]]
        return f"{directory}/{file_name}" if directory else file_name

    @property
    def nbytes(self) -> int:
        """Return the memory that the list takes, in bytes."""
        arrays = [self.directory, self.starts, self.sizes, self.labels, self.offsets]
        held = sum(0 if array is None else array.nbytes for array in arrays)
        return held + len(self.names) + sum(sys.getsizeof(text) + 8 for text in (*self.directories, *self.classes))

    def digest(self) -> bytes:
        """Return 16 bytes that depend on the names and sizes in their order, not on the place."""
        hasher = blake2b(digest_size=16)
        for text in self.directories:
            hasher.update(text.encode("utf-8", "surrogateescape") + b"\0")
        for array in (self.directory.astype("<i8"), self.starts.astype("<i8"), self.sizes.astype("<i8")):
            hasher.update(array.tobytes())
        hasher.update(self.names)
        return hasher.digest()


class FileIndexBuilder:
    """Gathers one directory after another without keeping a Python object per image."""

    def __init__(self) -> None:
        self._directories: list[str] = []
        self._names = bytearray()
        self._lengths: list[np.ndarray[Any, Any]] = []
        self._sizes: list[np.ndarray[Any, Any]] = []
        self._counts: list[int] = []

    def add(self, directory: str, names: Sequence[str], sizes: Iterable[int]) -> None:
        """Append the images of one directory; a directory without any is left out."""
        if not names:
            return
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._directories.append(directory)
        self._counts.append(len(encoded))
        self._names += b"".join(encoded)
        self._lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        self._sizes.append(np.fromiter(sizes, np.int64, len(encoded)))

    def finish(self, **fields: Any) -> FileIndex:
        """Return the list; `fields` fill the rest of the `FileIndex`."""
        sizes = np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.int64)
        fields.setdefault("labels", np.full(len(sizes), -1, np.int32))
        return FileIndex(
            directories=tuple(self._directories),
            directory=np.repeat(np.arange(len(self._counts), dtype=np.int32), self._counts),
            names=bytes(self._names),
            starts=_starts(self._lengths),
            sizes=sizes,
            **fields,
        )


def _starts(lengths: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return 0 and the running sum of the lengths, in 32 bits where they suffice."""
    ends = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return ends.astype(np.uint32) if ends[-1] < 2**32 else ends


def concatenate(listings: Sequence[FileIndex], tops: Sequence[str]) -> FileIndex:
    """Return the lists one after the other, each below its folder of `tops` ("" for none)."""
    if len(listings) == 1 and not tops[0]:
        return listings[0]
    classes = sort_classes({name for listing in listings for name in listing.classes})
    shifts = np.cumsum([0, *(len(listing.directories) for listing in listings[:-1])])
    pairs = list(zip(listings, tops, strict=True))
    offsets = [listing.offsets for listing in listings if listing.offsets is not None]
    return FileIndex(
        directories=tuple(join(top, text) for listing, top in pairs for text in listing.directories),
        directory=np.concatenate(
            [listing.directory + np.int32(shift) for listing, shift in zip(listings, shifts, strict=True)]
        ),
        names=b"".join(listing.names for listing in listings),
        starts=_starts([np.diff(listing.starts.astype(np.int64)) for listing in listings]),
        sizes=np.concatenate([listing.sizes for listing in listings]),
        labels=np.concatenate([relabel(listing.labels, listing.classes, classes) for listing in listings]),
        classes=classes,
        offsets=np.concatenate(offsets) if offsets else None,
        skipped=tuple(Quarantined(join(top, q.name), q.reason) for listing, top in pairs for q in listing.skipped),
        ignored=sum(listing.ignored for listing in listings),
        passed=tuple(sum((Counter(dict(listing.passed)) for listing in listings), Counter()).items()),
        stamp="+".join(listing.stamp for listing in listings),
    )


def join(top: str, path: str) -> str:
    """Return `path` below `top`, either of which may be ""."""
    return f"{top}/{path}" if top and path else top or path


def strip_top(listing: FileIndex) -> tuple[FileIndex, str]:
    """Return the list without the folders that hold everything and only subfolders, and their path.

    A tar of `train/cat/1.jpg`, `train/dog/2.jpg` has the classes cat and dog, not train.
    """
    paths = [text.split("/") if text else [] for text in listing.directories]
    depth = 0
    while paths and all(len(path) > depth + 1 for path in paths) and len({path[depth] for path in paths}) == 1:
        depth += 1
    stripped = tuple("/".join(path[depth:]) for path in paths)
    return replace(listing, directories=stripped), "/".join(paths[0][:depth]) if paths else ""


def class_name(text: str) -> str:
    """Return a class as every file system spells it: composed letters (NFC; macOS stores "e" and an accent), odd bytes
    as \\xNN.
    """
    return unicodedata.normalize("NFC", printable(text))


def label_by_folder(listing: FileIndex) -> FileIndex:
    """Return the list with the first folder of each path as its class; -1 for images outside any folder."""
    tops = [class_name(text.split("/", 1)[0]) for text in listing.directories]
    classes = sort_classes(set(tops) - {""})
    number = {name: position for position, name in enumerate(classes)} | {"": -1}
    of_directory = np.array([number[top] for top in tops], np.int32)
    return replace(listing, labels=of_directory[listing.directory], classes=classes)


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in order; by value if all are whole numbers ("2" before "10")."""
    names = list(names)
    return tuple(sorted(names, key=int if all(name.isdecimal() for name in names) else None))


def relabel(labels: Int32[np.ndarray, " M"], old: Sequence[str], new: Sequence[str]) -> Int32[np.ndarray, " M"]:
    """Return `labels` counted in `new` instead of `old`; -1 stays."""
    number = {name: position for position, name in enumerate(new)}
    table = np.array([*(number[name] for name in old), -1], np.int32)
    return table[labels]
