"""Tar files of images: indexed once, then read by offset; class-folder and WebDataset naming."""

import os
import tarfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from syn2co.core.errors import DataError
from syn2co.core.paths import printable, unreachable
from syn2co.images.index import (
    SUFFIXES,
    FileIndex,
    concatenate,
    label_by_folder,
    strip_top,
)
from syn2co.images.index_cache import load_index, save_index
from syn2co.images.quarantine import BrokenImage, check_file_size
from syn2co.images.source import SEPARATOR
from syn2co.images.sources.folder import say_passed
from syn2co.images.sources.tar_members import scan_tar

Progress = Callable[[str, int, int], None]
_KEPT_OPEN = 64
_PROBED_HEADERS = 32


class TarSource:
    """Images in one or several tar files, each tar sorted by folder and name.

    `names` stand for the tars in messages and in the identity, such as the URLs that they were fetched from.
    """

    def __init__(self, paths: Sequence[Path], listings: Sequence[FileIndex], names: Sequence[str]) -> None:
        several = len(paths) > 1
        merged = concatenate(listings, [""] * len(paths))
        stripped, self.top = strip_top(merged)
        labeled = _labeled(names[0], stripped)
        if several:
            labeled = replace(labeled, directories=_below_shards(labeled, names, listings))
        self.listing = labeled
        self.paths = tuple(str(path) for path in paths)
        self.identity = SEPARATOR.join(names)
        self.labels, self.classes, self.skipped = labeled.labels, labeled.classes, labeled.skipped
        self.ignored = labeled.ignored
        self._starts = [0, *accumulate(len(listing) for listing in listings)]
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the open files, which belong to one process."""
        return self.__dict__ | {"_open": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound: `os` may be gone at the end
        for descriptor in self.__dict__.get("_open", {}).values():
            close(descriptor)

    @property
    def nbytes(self) -> int:
        """Return the memory of the index in bytes."""
        return self.listing.nbytes

    @property
    def stamp(self) -> str | None:
        """Return a text that changes whenever a tar may have changed."""
        return self.listing.stamp

    def __len__(self) -> int:
        return len(self.listing)

    def name(self, row: int) -> str:
        """Return the member's name, printable, below its shard's name if there are several tars."""
        return printable(self.listing.path(row))

    def load(self, row: int) -> bytes:
        """Return the member's bytes.

        Raises:
            BrokenImage: if the tar cannot be read there, or the member is too large.
        """
        assert self.listing.offsets is not None
        offset, size = int(self.listing.offsets[row]), int(self.listing.sizes[row])
        check_file_size(size)
        try:
            data = self._read(bisect_right(self._starts, row) - 1, offset, size)
        except OSError as error:
            raise BrokenImage(f"its tar file cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise BrokenImage(f"its tar file ends too early ({len(data)} of {size} bytes)")
        return data

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        """Return bytes of one tar; no file position is shared, so forks and threads may read."""
        if not hasattr(os, "pread") or len(self.paths) > _KEPT_OPEN:
            with open(self.paths[shard], "rb", buffering=0) as file:
                file.seek(offset)
                return file.read(size)
        if shard not in self._open:
            with self._lock:
                if shard not in self._open:
                    self._open[shard] = os.open(self.paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._open[shard], size, offset)

    def digest(self) -> bytes:
        """Return the hash of names and sizes."""
        return self.listing.digest()


def _labeled(source: str, images: FileIndex) -> FileIndex:
    """Return the list with the labels of label files or of class folders, of whichever label more images.

    A description of the data set, or of one image, is no label file of a tar of class folders.
    """
    by_folder = label_by_folder(images)
    files, folders = (int((listing.labels >= 0).sum()) for listing in (images, by_folder))
    if files and (files >= folders or len(by_folder.classes) < 2):
        return images
    if files:
        say_passed(source, ((f"label files, since more images ({folders:,}) lie in class folders", files),))
    return by_folder


def _below_shards(merged: FileIndex, names: Sequence[str], listings: Sequence[FileIndex]) -> tuple[str, ...]:
    """Return the folders with the tar's own name on top: the same key may occur in two shards."""
    owners = [Path(name).stem for name, listing in zip(names, listings, strict=True) for _ in listing.directories]
    return tuple(f"{owner}/{text}" if text else owner for owner, text in zip(owners, merged.directories, strict=True))


def open_tars(
    paths: Sequence[Path],
    *,
    cache_dir: Path,
    report: Progress | None = None,
    follow: bool = True,
    names: Sequence[str] | None = None,
) -> TarSource:
    """Return the images in the tars, from remembered indexes where a tar is the same file, unchanged.

    A tar that is a link is named after its target; without `follow` it has its own name, and one of `names` if given.

    Raises:
        DataError: if a tar is damaged or compressed, or if no tar holds an image.
        PathError: if a tar cannot be read.
    """
    paths = [path.resolve() if follow else path for path in paths]
    names = list(map(str, paths)) if names is None else names
    listings = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        try:
            listings.append(_open_tar(path, name, cache_dir))
        except OSError as error:
            raise unreachable(path, error) from None
        if report is not None:
            report("index", number + 1, len(paths))
    if not any(len(listing) or listing.skipped for listing in listings):
        raise DataError(_nothing(paths, names[0], listings))
    for name, listing in zip(names, listings, strict=True):
        say_passed(name, listing.passed)
    return TarSource(paths, listings, names)


def _nothing(paths: Sequence[Path], name: str, listings: Sequence[FileIndex]) -> str:
    """Return the message for tars without an image."""
    passed = {text: count for listing in listings for text, count in listing.passed}
    count = sum(listing.ignored + sum(dict(listing.passed).values()) for listing in listings)
    which = f"{name}: none of the {count} members of {'this tar is' if len(paths) == 1 else 'these tars is'}"
    with tarfile.open(paths[0], "r:") as archive:
        first = next((member.name for member in archive if member.isreg()), "")
    if first.endswith(".tar"):  # ImageNet's ILSVRC2012_img_train.tar: a tar of each class
        return (
            f"{which} an image, and the first is the tar {first}; unpack it, and each tar in it into a folder of its "
            "name (for t in *.tar; do mkdir ${t%.tar} && tar -xf $t -C ${t%.tar}; done), and give the folder of these."
        )
    rest = "".join(f"; passed over: {text}" for text in passed)
    return f"{which} an image by its name{rest}; give a tar with {', '.join(SUFFIXES)} members."


def _open_tar(path: Path, name: str, cache_dir: Path) -> FileIndex:
    """Return the list of one tar."""
    state = _state(path)
    listing = load_index(cache_dir, str(path), lambda _, times: times.tolist() == state)
    if listing is None or listing.stamp != _stamp(path, state, listing):
        listing = scan_tar(path, name)
        listing = replace(listing, stamp=_stamp(path, state, listing))
        save_index(cache_dir, str(path), listing, [], state)
    return listing


def _state(path: Path) -> list[int]:
    """Return what changes with a file: a replacement can keep size and date, but not time and number of the inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _stamp(path: Path, state: Sequence[int], listing: FileIndex) -> str:
    """Return a text that changes with the file's state or with the headers of some of its members."""
    assert listing.offsets is not None
    headers = blake2b(digest_size=8)
    rows = np.unique(np.linspace(0, len(listing) - 1, min(_PROBED_HEADERS, len(listing))).astype(int))
    with open(path, "rb") as file:
        for offset in listing.offsets[rows].tolist():
            file.seek(offset - tarfile.BLOCKSIZE)
            headers.update(file.read(tarfile.BLOCKSIZE))
    return f"tar-{'-'.join(map(str, state))}-{headers.hexdigest()}"
