"""The index and the verdicts remembered on disk: a cache only, so anything odd in it means doing the work again.

Files are .npz without pickled objects, written to a temporary name and renamed. Axis letters: F folders, M images.
"""

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt32
from platformdirs import user_cache_path

from syn2co.core.files import atomic_file
from syn2co.core.paths import user_path
from syn2co.core.progress import note
from syn2co.images.index import FileIndex
from syn2co.images.quarantine import Quarantined

_VERSION = 3
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, IndexError, zipfile.BadZipFile)


def default_cache_dir() -> Path:
    """Return $SYN2CO_CACHE, or the folder "syn2co" in the user's cache folder of the platform.

    An account without a home folder, as containers have, gets a temporary one that goes with the process.
    """
    chosen = os.environ.get("SYN2CO_CACHE")
    if chosen:
        return user_path(chosen)
    try:
        return user_cache_path("syn2co", appauthor=False, opinion=False)
    except RuntimeError:
        return Path(_temporary_cache().name)


@cache
def _temporary_cache() -> tempfile.TemporaryDirectory[str]:
    note("this account has no home folder, so nothing is remembered for the next call; set SYN2CO_CACHE to a folder")
    return tempfile.TemporaryDirectory(prefix="syn2co-cache-", ignore_cleanup_errors=True)


def _file(cache_dir: Path, kind: str, key: str) -> Path:
    """Return the cache file of `key`."""
    return (
        cache_dir
        / "index"
        / f"{kind}-{blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=12).hexdigest()}.npz"
    )


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write the arrays, whole or not at all; a folder that cannot be written is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, durable=False) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)


def _pack(value: Any) -> np.ndarray[Any, Any]:
    """Return a JSON value as an array of bytes (lone surrogates survive as escapes)."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _unpack(array: np.ndarray[Any, Any]) -> Any:
    """Return the JSON value that `_pack` packed."""
    return json.loads(array.tobytes().decode())


def save_index(
    cache_dir: Path, key: str, listing: FileIndex, folders: list[str], times: Sequence[int | tuple[int, int]]
) -> None:
    """Remember a list with the folders it depends on and their states (times of last change in ns, or a tar's)."""
    texts = {
        "version": _VERSION,
        "key": key,
        "directories": listing.directories,
        "classes": listing.classes,
        "skipped": listing.skipped,
        "ignored": listing.ignored,
        "passed": listing.passed,
        "stamp": listing.stamp,
        "folders": folders,
    }
    arrays = {
        "texts": _pack(texts),
        "times": np.array(times, np.int64),
        "directory": listing.directory,
        "names": np.frombuffer(listing.names, np.uint8),
        "starts": listing.starts,
        "sizes": listing.sizes,
        "labels": listing.labels,
    }
    if listing.offsets is not None:
        arrays["offsets"] = listing.offsets
    _write(_file(cache_dir, "list", key), arrays)


def load_index(
    cache_dir: Path, key: str, unchanged: Callable[[list[str], Int64[np.ndarray, "F ..."]], bool]
) -> FileIndex | None:
    """Return the remembered list if `unchanged(folders, times)` says that it still holds; else None."""
    try:
        with np.load(_file(cache_dir, "list", key), allow_pickle=False) as stored:
            texts = _unpack(stored["texts"])
            if texts["version"] != _VERSION or texts["key"] != key or not unchanged(texts["folders"], stored["times"]):
                return None
            listing = FileIndex(
                directories=tuple(texts["directories"]),
                directory=stored["directory"],
                names=stored["names"].tobytes(),
                starts=stored["starts"],
                sizes=stored["sizes"],
                labels=stored["labels"],
                classes=tuple(texts["classes"]),
                offsets=stored.get("offsets"),
                skipped=tuple(Quarantined(*entry) for entry in texts["skipped"]),
                ignored=texts["ignored"],
                passed=tuple((text, count) for text, count in texts["passed"]),
                stamp=texts["stamp"],
            )
    except _UNREADABLE:
        return None
    return listing if _consistent(listing) else None


def _consistent(listing: FileIndex) -> bool:
    """Return whether the arrays of a list fit each other."""
    count = len(listing.sizes)
    return (
        len(listing.directory) == len(listing.labels) == count
        and len(listing.starts) == count + 1
        and int(listing.starts[-1]) == len(listing.names)
        and (listing.offsets is None or len(listing.offsets) == count)
        and (not count or int(listing.directory.max()) < len(listing.directories))
    )


class CheckResults(NamedTuple):
    """Check results of one source."""

    checksums: UInt32[np.ndarray, " M"]
    reasons: dict[int, str]
    decoded_bytes: int
    dark: int = 0
    """Images that are nearly black (`decode.NEARLY_BLACK`), JPEGs not counted."""


def save_check(cache_dir: Path, key: str, stamp: str, verdicts: CheckResults) -> None:
    """Remember the verdicts on the files that `stamp` stands for."""
    texts = {
        "version": _VERSION,
        "key": key,
        "stamp": stamp,
        "rows": list(verdicts.reasons),
        "reasons": list(verdicts.reasons.values()),
        "decoded_bytes": verdicts.decoded_bytes,
        "dark": verdicts.dark,
    }
    _write(_file(cache_dir, "check", key), {"texts": _pack(texts), "checksums": verdicts.checksums})


def load_check(cache_dir: Path, key: str, stamp: str, count: int) -> CheckResults | None:
    """Return the remembered verdicts on `count` files if they were made for this `stamp`; else None."""
    try:
        with np.load(_file(cache_dir, "check", key), allow_pickle=False) as stored:
            texts, checksums = _unpack(stored["texts"]), stored["checksums"]
            known = (texts["version"], texts["key"], texts["stamp"], len(checksums)) == (_VERSION, key, stamp, count)
            reasons = dict(zip(texts["rows"], texts["reasons"], strict=True))
            return CheckResults(checksums, reasons, texts["decoded_bytes"], texts["dark"]) if known else None
    except _UNREADABLE:
        return None
