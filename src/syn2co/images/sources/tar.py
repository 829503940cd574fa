"""Tar files of images: indexed once, then read by offset; class-folder and WebDataset naming.

WebDataset: `key.jpg` beside `key.cls` (a number or a name) or `key.json` (a "label", "cls", "class" or "class_name").
"""

import json
import os
import tarfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np

from syn2co.core.errors import DataError
from syn2co.images.index import (
    SUFFIXES,
    FileIndex,
    FileIndexBuilder,
    concatenate,
    is_image_name,
    label_by_folder,
    sort_classes,
    strip_top,
)
from syn2co.images.index_cache import load_index, save_index
from syn2co.images.quarantine import BrokenImage, Quarantined
from syn2co.images.sources.folder import printable

Progress = Callable[[str, int, int], None]
_LABEL_SUFFIXES = ("cls", "json")
_LABEL_BYTES = 1 << 20
_JSON_KEYS = ("class_name", "class", "label", "cls")
_KEPT_OPEN = 64


class TarSource:
    """Images in one or several tar files, each tar sorted by folder and name."""

    def __init__(self, paths: Sequence[Path], listings: Sequence[FileIndex]) -> None:
        several = len(paths) > 1
        merged = concatenate(listings, [""] * len(paths))
        stripped, _ = strip_top(merged)
        labeled = stripped if stripped.classes else label_by_folder(stripped)
        if several:
            labeled = replace(labeled, directories=_below_shards(labeled, paths, listings))
        self.listing = labeled
        self.paths = tuple(str(path) for path in paths)
        self.identity = "\n".join(self.paths)
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
            BrokenImage: if the tar cannot be read there.
        """
        assert self.listing.offsets is not None
        offset, size = int(self.listing.offsets[row]), int(self.listing.sizes[row])
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


def _below_shards(merged: FileIndex, paths: Sequence[Path], listings: Sequence[FileIndex]) -> tuple[str, ...]:
    """Return the folders with the tar's own name on top: the same key may occur in two shards."""
    owners = [path.stem for path, listing in zip(paths, listings, strict=True) for _ in listing.directories]
    return tuple(f"{owner}/{text}" if text else owner for owner, text in zip(owners, merged.directories, strict=True))


def open_tars(paths: Sequence[Path], *, cache_dir: Path, report: Progress | None = None) -> TarSource:
    """Return the images in the tars, from remembered indexes where size and time of last change still fit.

    Raises:
        DataError: if a tar is unreadable or compressed, or if no tar holds an image.
    """
    paths = [path.resolve() for path in paths]
    listings = []
    for number, path in enumerate(paths):
        listings.append(_open_tar(path, cache_dir))
        if report is not None:
            report("index", number + 1, len(paths))
    if not any(len(listing) or listing.skipped for listing in listings):
        ignored = sum(listing.ignored for listing in listings)
        raise DataError(
            f"{paths[0]}: none of the {ignored} members of {'this tar is' if len(paths) == 1 else 'these tars is'} an "
            f"image by its name; give a tar with {', '.join(SUFFIXES)} members."
        )
    return TarSource(paths, listings)


def _open_tar(path: Path, cache_dir: Path) -> FileIndex:
    """Return the list of one tar."""
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns]
    listing = load_index(cache_dir, str(path), lambda _, times: times.tolist() == state)
    if listing is None:
        listing = replace(scan_tar(path), stamp=f"tar-{state[0]}-{state[1]}")
        save_index(cache_dir, str(path), listing, [], state)
    return listing


@dataclass
class Members:
    """Members that a pass through a tar found."""

    images: list[tuple[str, str, int, int]] = field(default_factory=list)
    label_of: dict[str, str] = field(default_factory=dict)
    sidecars: int = 0
    skipped: list[Quarantined] = field(default_factory=list)
    ignored: int = 0


def scan_tar(path: Path) -> FileIndex:
    """Return the images in one tar, sorted by folder and name.

    Links and names that lead out of the tar are skipped and listed.

    Raises:
        DataError: if the tar is compressed, damaged or not a tar.
    """
    _refuse_compressed(path)
    members = Members()
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                # tarfile would keep every header: 1 GB for a million members
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                _sort_member(archive, member, members)
            _check_end(path, archive.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: this file cannot be read as a tar ({error}); fetch or make it again.") from error
    return _listing(members)


def _check_end(path: Path, end: int) -> None:
    """Refuse a tar with something else than zeros behind its last member: tarfile stops there without a word."""
    with open(path, "rb") as file:
        file.seek(end)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"damaged header at byte {end:,}")


def _refuse_compressed(path: Path) -> None:
    """Refuse a compressed tar: its members have no offset to read from."""
    with open(path, "rb") as file:
        head = file.read(6)
    for magic, name, command in (
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"BZh", "bzip2", "bunzip2"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    ):
        if head.startswith(magic):
            raise DataError(
                f"{path}: this tar is compressed with {name} and cannot be read by offset; decompress it ({command})."
            )


def _sort_member(archive: tarfile.TarFile, member: tarfile.TarInfo, members: Members) -> None:
    """Put one member where it belongs: image, label, skipped or ignored."""
    name = member.name.removeprefix("./")
    folder, _, file_name = name.rpartition("/")
    if member.isdir() or any(part.startswith(".") and part not in (".", "..") for part in name.split("/")):
        return
    if is_image_name(file_name):
        reason = _nasty(member, name)
        if reason:
            members.skipped.append(Quarantined(printable(name), reason))
        else:
            members.images.append((folder, file_name, member.size, member.offset_data))
    elif member.isreg() and file_name.endswith((".cls", ".json")) and member.size <= _LABEL_BYTES:
        members.sidecars += 1
        file = archive.extractfile(member)
        assert file is not None
        label = _label(file.read(), json_text=file_name.endswith(".json"))
        if label is not None:
            members.label_of[_key(folder, file_name)] = label
    else:
        members.ignored += 1


def _nasty(member: tarfile.TarInfo, name: str) -> str | None:
    """Return why a member is not to be read, None if it may."""
    if name.startswith("/") or name[1:2] == ":":
        return "its name in the tar is absolute"
    if ".." in name.split("/"):
        return "its name leads out of the tar with '..'"
    if member.issym() or member.islnk():
        return "it is a link inside the tar; store the image itself"
    if not member.isreg() or member.issparse():
        return "it is not a plain file inside the tar"
    return None


def _key(folder: str, file_name: str) -> str:
    """Return WebDataset's key: the path up to the first dot of the file name."""
    return f"{folder}/{file_name.split('.', 1)[0]}"


def _label(data: bytes, *, json_text: bool) -> str | None:
    """Return the class named in a label file as text; None if it names none."""
    try:
        value: Any = json.loads(data) if json_text else data.decode().strip()
    except ValueError:
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in _JSON_KEYS if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    return str(value)


def _listing(members: Members) -> FileIndex:
    """Return the members' images as a list; labeled only if label files name classes."""
    if members.label_of:
        kept = [
            image
            for image in members.images
            if is_image_name("." + image[1].partition(".")[2]) and "." not in image[1].partition(".")[2]
        ]
        members.ignored += len(members.images) - len(kept)
        members.images = kept
    members.images.sort(key=lambda image: (image[0].split("/") if image[0] else [], image[1]))
    builder = FileIndexBuilder()
    for folder, group in groupby(members.images, key=lambda image: image[0]):
        images = list(group)
        builder.add(folder, [image[1] for image in images], (image[2] for image in images))
    classes = sort_classes(set(members.label_of.values()))
    number = {name: position for position, name in enumerate(classes)}
    of_key = {key: number[label] for key, label in members.label_of.items()}
    labels = (of_key.get(_key(image[0], image[1]), -1) for image in members.images)
    return builder.finish(
        labels=np.fromiter(labels, np.int32, len(members.images)),
        classes=classes,
        offsets=np.fromiter((image[3] for image in members.images), np.int64, len(members.images)),
        skipped=tuple(members.skipped),
        ignored=members.ignored + (0 if members.images else members.sidecars),  # labels of nothing
    )
