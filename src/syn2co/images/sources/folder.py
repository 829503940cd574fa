"""A folder of images, with or without class subfolders, at any depth.

Axis letters: H W height and width in pixels.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from syn2co.core.errors import DataError
from syn2co.core.hints import first_names
from syn2co.core.paths import printable, unreachable
from syn2co.core.progress import note
from syn2co.images.index import (
    HIDDEN_IMAGES,
    IN_SYSTEM_FOLDERS,
    FileIndex,
    FileIndexBuilder,
    is_image_name,
    is_system_folder,
    label_by_folder,
    strip_top,
    unread_image,
)
from syn2co.images.index_cache import load_index, save_index
from syn2co.images.quarantine import Quarantined, read_image_file

# A smaller tree is listed in less than a quarter of a second, and listing it sees files that changed in place.
REMEMBER_FROM = 20_000
_SETTLED_NS = 2 * 10**9
_DATA_SETS = "data sets of syn2co generate, each a source that is named by itself"
_LINKED = "folders that are read under another name already (links)"
_TARS = "tar files, which are named by themselves ('FOLDER/*.tar')"
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})

Progress = Callable[[str, int, int], None]


class FolderSource:
    """Images below a folder, sorted by folder and name; the class is the first folder below the root."""

    def __init__(self, root: Path, listing: FileIndex) -> None:
        stripped, top = strip_top(listing)
        self.root = os.path.join(root, *top.split("/")) if top else str(root)
        self.top = top
        self.identity = str(root)
        self.listing = label_by_folder(stripped)
        self.labels, self.classes, self.skipped = self.listing.labels, self.listing.classes, listing.skipped
        self.ignored = listing.ignored

    @property
    def nbytes(self) -> int:
        """Return the memory of the index in bytes."""
        return self.listing.nbytes

    @property
    def stamp(self) -> str | None:
        """Return a text that changes whenever a file may have changed."""
        return self.listing.stamp

    def __len__(self) -> int:
        return len(self.listing)

    def name(self, row: int) -> str:
        """Return the path below the root, printable."""
        return printable(self.listing.path(row))

    def load(self, row: int) -> bytes:
        """Return the file's bytes.

        Raises:
            BrokenImage: if the file cannot be read, or is too large.
        """
        return read_image_file(os.path.join(self.root, self.listing.path(row)))

    def digest(self) -> bytes:
        """Return the hash of names and sizes."""
        return self.listing.digest()


@dataclass
class Scan:
    """Files that a walk through a folder found."""

    builder: FileIndexBuilder = field(default_factory=FileIndexBuilder)
    folders: list[str] = field(default_factory=list)
    times: list[tuple[int, int]] = field(default_factory=list)
    skipped: list[Quarantined] = field(default_factory=list)
    images: int = 0
    ignored: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    stamp: "blake2b" = field(default_factory=lambda: blake2b(digest_size=16))

    def listing(self) -> FileIndex:
        """Return the images found, as a list."""
        return self.builder.finish(
            skipped=tuple(self.skipped),
            ignored=self.ignored,
            passed=tuple(sorted((+self.passed).items())),
            stamp=f"folder-{self.stamp.hexdigest()}",
        )


def open_folder(root: Path, *, cache_dir: Path, report: Progress | None = None) -> FolderSource:
    """Return the images below `root`, from the remembered index if no folder of the tree has changed since.

    Only trees of `REMEMBER_FROM` images and more are remembered; in such a tree a file that is rewritten under its
    old name is noticed when its folder changes.

    Raises:
        DataError: if the folder holds no image.
        PathError: if it cannot be read.
    """
    root = root.resolve()
    listing = load_index(cache_dir, str(root), lambda folders, times: _unchanged(root, folders, times))
    if listing is None:
        scan = scan_folder(root, report=report)
        listing = scan.listing()
        settled = max(modified for modified, _ in scan.times) < time.time_ns() - _SETTLED_NS
        if len(listing) >= REMEMBER_FROM and settled and not scan.skipped:  # what was skipped may be mended
            save_index(cache_dir, str(root), listing, scan.folders, scan.times)
    if not len(listing) and not listing.skipped:
        raise DataError(_nothing(root, listing))
    say_passed(str(root), listing.passed)
    source = FolderSource(root, listing)
    _say_splits(source.root, source.classes)
    return source


@cache
def _say_splits(root: str, classes: tuple[str, ...]) -> None:
    """Note once in a process that the classes of a folder are the splits of a data set, such as train and val."""
    if len(classes) > 1 and _SPLITS.issuperset(map(str.lower, classes)):
        note(f"{root}: {' and '.join(classes)} are read together, as if they were classes; name the one that is meant")


@cache
def say_passed(source: str, passed: tuple[tuple[str, int], ...]) -> None:
    """Note once in a process what is passed over in a source."""
    if passed:
        note(f"{source}: passed over: {'; '.join(f'{text}: {count:,}' for text, count in passed)}")


def _unchanged(root: Path, folders: list[str], times: Int64[np.ndarray, " F"]) -> bool:
    """Return whether every folder still has its times of last change."""
    try:
        return all(
            _times(os.stat(os.path.join(root, folder))) == (modified, changed)
            for folder, (modified, changed) in zip(folders, times.tolist(), strict=True)
        )
    except OSError:
        return False


def _times(status: os.stat_result) -> tuple[int, int]:
    """Return when a folder was last changed, by itself and by its inode: the second cannot be set."""
    return status.st_mtime_ns, status.st_ctime_ns


def scan_folder(root: Path, *, report: Progress | None = None) -> Scan:
    """Return every image below `root`, a folder's own images before its subfolders, each sorted by name.

    Hidden names (with a leading dot), folders of the system and data sets of `syn2co generate` are passed over. Links
    to folders are followed, but no folder is read twice. A subfolder that cannot be read is skipped and listed.

    Raises:
        PathError: if `root` itself cannot be read.
    """
    scan, seen, waiting = Scan(), set(), [""]
    while waiting:
        folder = waiting.pop()
        subfolders = _scan_one(root, folder, scan, seen)
        waiting.extend(sorted(subfolders, reverse=True))
        if report is not None:
            report("index", scan.images, 0)
    return scan


def _scan_one(root: Path, folder: str, scan: Scan, seen: set[tuple[int, int]]) -> list[str]:
    """Add one folder's images to `scan` and return its subfolders."""
    path = os.path.join(root, folder)
    try:
        status = os.stat(path)
        with os.scandir(path) as entries:
            listed = list(entries)
    except OSError as error:
        if not folder:
            raise unreachable(root, error) from error
        scan.skipped.append(Quarantined(printable(folder), f"this folder cannot be read ({error.strerror})"))
        return []
    if (status.st_dev, status.st_ino) in seen:
        scan.passed[_LINKED] += 1
        return []
    seen.add((status.st_dev, status.st_ino))
    if folder and _is_data_set(listed):
        scan.passed[_DATA_SETS] += 1
        return []
    scan.folders.append(folder)
    scan.times.append(_times(status))
    subfolders: list[str] = []
    images: list[tuple[str, int, tuple[int, int, int]]] = []
    for entry in listed:
        _sort_entry(entry, folder, scan, subfolders, images)
    images.sort()
    scan.images += len(images)
    scan.builder.add(folder, [name for name, _, _ in images], (size for _, size, _ in images))
    scan.stamp.update(f"{folder}\0{images}\n".encode("utf-8", "surrogateescape"))
    return subfolders


def _is_data_set(entries: list[os.DirEntry[str]]) -> bool:
    """Return whether a folder is a synthetic data set: its pictures are contact sheets."""
    names = {entry.name for entry in entries}
    return "recipe.json" in names and any(re.fullmatch(r"\d{6,}\.(tar|jsonl)", name) for name in names)


def _sort_entry(
    entry: os.DirEntry[str],
    folder: str,
    scan: Scan,
    subfolders: list[str],
    images: list[tuple[str, int, tuple[int, int, int]]],
) -> None:
    """Put one directory entry where it belongs: subfolder, image, skipped, passed over or ignored."""
    name = f"{folder}/{entry.name}" if folder else entry.name
    hidden = entry.name.startswith(".")
    try:
        if entry.is_dir():
            if hidden or is_system_folder(entry.name):
                scan.passed[HIDDEN_IMAGES if hidden else IN_SYSTEM_FOLDERS] += _count_images(entry.path)
            else:
                subfolders.append(name)
        elif hidden or not is_image_name(entry.name):
            unread = None if hidden else unread_image(entry.name)
            scan.ignored += not hidden and unread is None
            scan.passed[unread or HIDDEN_IMAGES] += unread is not None or (hidden and is_image_name(entry.name))
            scan.passed[_TARS] += not hidden and entry.name.lower().endswith(".tar")
        elif not entry.is_file():
            reason = "it is a link to nothing" if entry.is_symlink() else "it is not a regular file"
            scan.skipped.append(Quarantined(printable(name), reason))
        else:
            status = entry.stat()
            # the time of the inode and its number: a replacement can keep size and date, but not these
            images.append((entry.name, status.st_size, (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)))
    except OSError as error:
        if is_image_name(entry.name):
            scan.skipped.append(Quarantined(printable(name), f"it cannot be read ({error.strerror})"))
        else:
            scan.ignored += 1


def _count_images(folder: str) -> int:
    """Return how many images lie below a folder that is passed over."""
    return sum(is_image_name(name) for _, _, names in os.walk(folder) for name in names)


def _nothing(root: Path, listing: FileIndex) -> str:
    """Return the message for a folder without images, saying what was there."""
    passed = dict(listing.passed)
    if _DATA_SETS in passed:
        sets = sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("recipe.json"))
        return (
            f"{root}: this folder holds data sets of syn2co generate ({passed[_DATA_SETS]}) and no other image; give "
            f"them one by one ({first_names(sets)})."
        )
    if not listing.ignored and not passed:
        return f"{root}: this folder is empty; give a folder with JPEG, PNG, WebP, BMP or TIFF images."
    tars = sorted(path.name for path in root.glob("*.tar"))
    if tars:
        return f"{root}: this folder holds {len(tars)} tar files but no image; give the tars: '{root}/*.tar'."
    rest = "".join(f"; passed over: {text}: {count:,}" for text, count in listing.passed)
    count = listing.ignored + sum(passed.values())
    return (
        f"{root}: none of the {count} files in this folder is an image by its name{rest}; "
        "give a folder with .jpg, .jpeg, .png, .webp, .bmp, .tif or .tiff files."
    )
