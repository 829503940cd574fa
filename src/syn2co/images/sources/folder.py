"""A folder of images, with or without class subfolders, at any depth.

Axis letters: H W height and width in pixels.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from syn2co.core.errors import DataError
from syn2co.images.index import FileIndex, FileIndexBuilder, is_image_name, label_by_folder, strip_top
from syn2co.images.index_cache import load_index, save_index
from syn2co.images.quarantine import BrokenImage, Quarantined

# A smaller tree is listed in less than a quarter of a second, and listing it sees files that changed in place.
REMEMBER_FROM = 20_000
_SETTLED_NS = 2 * 10**9

Progress = Callable[[str, int, int], None]


class FolderSource:
    """Images below a folder, sorted by folder and name; the class is the first folder below the root."""

    def __init__(self, root: Path, listing: FileIndex) -> None:
        stripped, top = strip_top(listing)
        self.root = os.path.join(root, *top.split("/")) if top else str(root)
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
            BrokenImage: if the file cannot be read.
        """
        try:
            with open(os.path.join(self.root, self.listing.path(row)), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise BrokenImage(f"it cannot be read ({error.strerror})") from error

    def digest(self) -> bytes:
        """Return the hash of names and sizes."""
        return self.listing.digest()


def printable(name: str) -> str:
    """Return a file name that can be written as UTF-8: odd bytes as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass
class Scan:
    """Files that a walk through a folder found."""

    builder: FileIndexBuilder = field(default_factory=FileIndexBuilder)
    folders: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    skipped: list[Quarantined] = field(default_factory=list)
    images: int = 0
    ignored: int = 0
    stamp: "blake2b" = field(default_factory=lambda: blake2b(digest_size=16))

    def listing(self) -> FileIndex:
        """Return the images found, as a list."""
        return self.builder.finish(
            skipped=tuple(self.skipped), ignored=self.ignored, stamp=f"folder-{self.stamp.hexdigest()}"
        )


def open_folder(root: Path, *, cache_dir: Path, report: Progress | None = None) -> FolderSource:
    """Return the images below `root`, from the remembered index if no folder of the tree has changed since.

    Only trees of `REMEMBER_FROM` images and more are remembered; in such a tree a file that is rewritten under its
    old name is noticed when its folder changes.

    Raises:
        DataError: if a folder cannot be read or holds no image.
    """
    root = root.resolve()
    listing = load_index(cache_dir, str(root), lambda folders, times: _unchanged(root, folders, times))
    if listing is None:
        scan = scan_folder(root, report=report)
        listing = scan.listing()
        if len(listing) >= REMEMBER_FROM and max(scan.times) < time.time_ns() - _SETTLED_NS:
            save_index(cache_dir, str(root), listing, scan.folders, scan.times)
    if not len(listing) and not listing.skipped:
        raise DataError(_nothing(root, listing.ignored))
    return FolderSource(root, listing)


def _unchanged(root: Path, folders: list[str], times: Int64[np.ndarray, " F"]) -> bool:
    """Return whether every folder still has its time of last change."""
    try:
        return all(
            os.stat(os.path.join(root, folder)).st_mtime_ns == mtime
            for folder, mtime in zip(folders, times.tolist(), strict=True)
        )
    except OSError:
        return False


def scan_folder(root: Path, *, report: Progress | None = None) -> Scan:
    """Return every image below `root`, a folder's own images before its subfolders, each sorted by name.

    Hidden names (with a leading dot) are passed over. Links to folders are followed, but no folder is read twice.

    Raises:
        DataError: if a folder cannot be read.
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
    subfolders: list[str] = []
    images: list[tuple[str, int, int]] = []
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        scan.folders.append(folder)
        scan.times.append(status.st_mtime_ns)
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _sort_entry(entry, folder, scan, subfolders, images)
    except OSError as error:
        raise DataError(f"{path}: this folder cannot be read ({error.strerror}); fix its permissions.") from error
    images.sort()
    scan.images += len(images)
    scan.builder.add(folder, [name for name, _, _ in images], (size for _, size, _ in images))
    scan.stamp.update(f"{folder}\0{images}\n".encode("utf-8", "surrogateescape"))
    return subfolders


def _sort_entry(
    entry: os.DirEntry[str], folder: str, scan: Scan, subfolders: list[str], images: list[tuple[str, int, int]]
) -> None:
    """Put one directory entry where it belongs: subfolder, image, skipped or ignored."""
    name = f"{folder}/{entry.name}" if folder else entry.name
    if entry.is_dir():
        subfolders.append(name)
    elif not is_image_name(entry.name):
        scan.ignored += 1
    elif not entry.is_file():
        reason = "it is a link to nothing" if entry.is_symlink() else "it is not a regular file"
        scan.skipped.append(Quarantined(printable(name), reason))
    else:
        status = entry.stat()
        images.append((entry.name, status.st_size, status.st_mtime_ns))


def _nothing(root: Path, ignored: int) -> str:
    """Return the message for a folder without images, saying what was there."""
    if not ignored:
        return f"{root}: this folder is empty; give a folder with JPEG, PNG, WebP, BMP or TIFF images."
    tars = sorted(path.name for path in root.glob("*.tar"))
    if tars:
        return f"{root}: this folder holds {len(tars)} tar files but no image; give the tars: '{root}/*.tar'."
    return (
        f"{root}: none of the {ignored} files in this folder is an image by its name; "
        "give a folder with .jpg, .jpeg, .png, .webp, .bmp, .tif or .tiff files."
    )
