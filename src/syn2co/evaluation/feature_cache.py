"""Clean features remembered on disk between evaluations: bounded, cleared by one command, never trusted if damaged.

One .npy file per (encoder, images, crop, precision, machine); the files used longest ago leave when the bound is hit.
"""

import contextlib
import os
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from syn2co.core.files import atomic_file, best_effort
from syn2co.data.remote_source import FOLDER as REMOTE
from syn2co.images.index_cache import default_cache_dir
from syn2co.images.objects.cache import ObjectCache
from syn2co.runtime import distributed

FOLDER = "features"
FORMAT = 1
"""Counts up whenever resizing, cropping or an encoder's forward pass changes its bits."""
GIB = 2**30


class CacheContent(NamedTuple):
    """Content of the cache: clean features, and tars that were fetched from a URL."""

    folder: Path
    """$SYN2CO_CACHE or the user's cache folder."""
    files: int
    """Of features."""
    nbytes: int
    """Of the files of features."""
    tars: int
    tar_nbytes: int
    """Of the tars."""


def cache(*, clear: bool = False, clear_remote: bool = False) -> CacheContent:
    """Return what the cache holds, after emptying it if asked to; indexes and check results of images always stay.

    Args:
        clear: delete every file of cached features.
        clear_remote: delete every tar that was fetched from a URL and that no living process reads.

    Returns:
        The folder ($SYN2CO_CACHE or the user's cache folder), files of features and tars, and the bytes of each.

    Raises:
        OSError: if a file cannot be deleted.

    Example:
        >>> cache(clear=True).files
        0
    """
    folder = default_cache_dir()
    for path in _files(folder / FOLDER) if clear else ():
        path.unlink(missing_ok=True)
    remote = ObjectCache(folder / REMOTE)
    if clear_remote:
        remote.clear()
    sizes = [size for path in _files(folder / FOLDER) if (size := _size(path)) is not None]
    return CacheContent(folder, len(sizes), sum(sizes), *remote.content())


class FeatureCache:
    """Features by key, in a folder of at most `limit` bytes; a limit of 0 remembers nothing."""

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self.limit = limit
        self.folder = folder or default_cache_dir() / FOLDER

    def fetch(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        """Return the float32 tensor of `key`, made and remembered if there is none; all ranks call this together."""
        path = self.folder / f"{blake2b(repr((FORMAT, key)).encode(), digest_size=16).hexdigest()}.npy"
        kept = self._load(path) if self.limit else None
        if distributed.largest(int(kept is None)):
            kept = None  # extraction is shared work: all ranks take part, or none
        if kept is not None:
            return kept
        made = make()
        if self.limit and distributed.is_main():
            self._save(path, made)
        return made

    def _load(self, path: Path) -> Tensor | None:
        try:
            with open(path, "rb") as file:
                array = np.load(file, allow_pickle=False)
                checksum = file.read()
            with best_effort("the cache cannot note when features were used, so old ones may leave late"):
                os.utime(path)  # used now: it leaves last
        except Exception:  # a damaged header makes NumPy raise whatever its parser does
            return None
        return torch.from_numpy(array) if checksum == _checksum(array) else None

    def _save(self, path: Path, features: Tensor) -> None:
        """Write the file, whole or not at all, and make room; a folder that cannot be written is no error."""
        if features.nbytes > self.limit:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as partial, open(partial, "wb") as file:
                np.save(file, features.numpy(), allow_pickle=False)
                file.write(_checksum(features.numpy()))
            self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        def last_used(path: Path) -> float:
            return path.stat().st_mtime if path.exists() else 0.0

        files = sorted(_files(self.folder), key=last_used)
        total = sum(_size(path) or 0 for path in files)
        for path in files:
            if total <= self.limit:
                return
            if path != newest:
                total -= _size(path) or 0
                path.unlink(missing_ok=True)


def _checksum(array: np.ndarray[Any, Any]) -> bytes:
    return zlib.crc32(np.ascontiguousarray(array).data).to_bytes(4, "little")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
