"""Cache of remote objects: a bounded folder of files, of which no process loses one that it reads.

DIR/KEY/object.json says which version of which URL lies there, DIR/KEY/data.part is what has come, and DIR/KEY/data.tar
the whole. DIR/in-use/ID.json names the keys that a process reads, as long as it holds the lock ID.lock.
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.files import atomic_file, remove, why_not_written
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.keyed_rng import digest
from syn2co.core.locks import hold
from syn2co.images.objects.store import RemoteObject

GB = 10**9
BOUND = "SYN2CO_REMOTE_CACHE_GB"
"""Environment variable: most gigabytes (10**9 bytes) of the cache."""
DEFAULT_GB = 100.0
_RECORD, _PART, _WHOLE, _IN_USE = "object.json", "data.part", "data.tar", "in-use"


def bound() -> int:
    """Return the most bytes that the cache may take.

    Raises:
        ConfigError: if the variable is no number above 0.
    """
    text = os.environ.get(BOUND) or str(DEFAULT_GB)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ConfigError(f"{BOUND} = {text}: must be a number of gigabytes above 0; correct it or unset it")
    return int(value * GB)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Word the system's errors of the block, which writes below a folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{error.strerror}; let all users of the cache write to all of it, or set SYN2CO_CACHE to your own"
        else:
            reason = why_not_written(error)
        raise DataError(f"{folder}: cannot be written ({reason})") from None


class Entry(NamedTuple):
    """A version of an object in the cache."""

    folder: Path
    object: RemoteObject
    kept: bool = False
    """Whether it is taken as it lies there, since its server does not answer."""

    @property
    def key(self) -> str:
        """Name of the entry's folder."""
        return self.folder.name

    @property
    def part(self) -> Path:
        """The file of what has come."""
        return self.folder / _PART

    @property
    def file(self) -> Path:
        """The file of the whole object."""
        return self.folder / _WHOLE

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return _size(self.file) == self.object.size

    @property
    def used(self) -> float:
        """Time of the last use."""
        try:
            return (self.folder / _RECORD).stat().st_mtime
        except OSError:
            return 0.0


class ObjectCache:
    """Remote objects in a folder, which may be shared by processes and machines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entry(self, version: RemoteObject) -> Entry:
        """Return the place of a version; those that a server does not tell apart have one."""
        return Entry(self.folder / digest("remote", *version).hex()[:24], version)

    def newest(self) -> dict[str, Entry]:
        """Return the complete version of each URL that was used last."""
        held = sorted(self._entries(), key=lambda entry: entry.used)
        return {entry.object.url: entry for entry in held if entry.complete}

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be the one process that fetches into the cache, inside the block."""
        with hold(self._made() / "fetch.lock", wait=True):
            yield

    def claim(self, entries: Sequence[Entry]) -> list[Entry]:
        """Keep entries from being removed until this process ends; return those that are not complete.

        Of an object without a version, what no living process reads is removed: it may be of another version.
        """
        with self._locked():
            used = self._in_use()
            _claims(self.folder / _IN_USE, os.getpid()).add(entry.key for entry in entries)
            for entry in entries:
                if not (entry.object.version or entry.kept or entry.key in used):
                    shutil.rmtree(entry.folder, ignore_errors=True)
                elif entry.complete:
                    with suppress(PermissionError):  # of another user
                        _write(entry.folder / _RECORD, entry.object._asdict())
            return [entry for entry in dict.fromkeys(entries) if not entry.complete]

    def make_room(self, entries: Sequence[Entry]) -> None:
        """Make the folders of claimed entries, and remove versions that nobody uses, longest unused first.

        Raises:
            DataError: if the bound or the disk is too small for them.
        """
        with self._locked():
            used, wanted = self._in_use(), {entry.key for entry in entries}
            others = sorted((old for old in self._entries() if old.key not in wanted), key=lambda old: old.used)
            need = sum(entry.object.size for entry in entries)
            taken = sum(old.object.size for old in others if old.key in used)
            most, first = bound(), entries[0].object.url
            if need + taken > most:
                beside = f" beside {taken / GB:.3g} GB in use" if taken else ""
                raise DataError(
                    f"{BOUND} = {most / GB:g}: leaves no room{beside} for {first}{_and_more(entries)} "
                    f"({need / GB:.3g} GB); set it to at least {(need + taken) / GB * 1.01:.3g}"
                )
            unused = [old for old in others if old.key not in used]
            self._sweep(used | wanted)
            excess = need + taken + sum(old.object.size for old in unused) - most
            for old in unused:
                if excess > 0:
                    shutil.rmtree(old.folder, ignore_errors=True)
                    excess -= 0 if old.folder.exists() else old.object.size
            free, missing = shutil.disk_usage(self.folder).free, need - sum(_size(entry.part) for entry in entries)
            if missing > free:
                raise DataError(
                    f"{self.folder}: has no room for {first}{_and_more(entries)} ({missing / GB:.3g} GB to fetch, "
                    f"{free / GB:.3g} GB free); free some, or set SYN2CO_CACHE to a folder of another disk"
                )
            for entry in entries:
                _write(entry.folder / _RECORD, entry.object._asdict())

    def content(self) -> tuple[int, int]:
        """Return the number of objects and the bytes that have come of them."""
        sizes = [_size(entry.file) + _size(entry.part) for entry in self._entries()]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Remove every object that no living process reads."""
        if self.folder.is_dir():
            with writing(self.folder), self._locked():
                used = self._in_use()
                for entry in self._entries():
                    if entry.key not in used:
                        shutil.rmtree(entry.folder, ignore_errors=True)
                self._sweep(used)

    def remember(self, pattern: str, urls: Sequence[str]) -> None:
        """Remember the URLs that a pattern named."""
        _write(self._listing(pattern), {"urls": list(urls)})

    def remembered(self, pattern: str) -> list[str]:
        """Return the URLs that a pattern named when it was last listed; none if it never was."""
        try:
            return read_json(self._listing(pattern), _ListingFile)["urls"]
        except (OSError, JsonError):
            return []

    def _listing(self, pattern: str) -> Path:
        return self.folder / f"list-{digest('remote', pattern).hex()[:24]}.json"

    def _made(self) -> Path:
        (self.folder / _IN_USE).mkdir(parents=True, exist_ok=True)
        return self.folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock under which entries are claimed and removed; no network is waited for."""
        with hold(self._made() / "entries.lock", wait=True):
            yield

    def _entries(self) -> list[Entry]:
        """Return all versions that have a record."""
        entries = []
        for path in self.folder.glob(f"*/{_RECORD}"):
            with suppress(OSError, JsonError):  # removed by another process, or damaged
                record = read_json(path, _ObjectFile)
                version = RemoteObject(*(record[field] for field in RemoteObject._fields))
                entries.append(Entry(path.parent, version, kept=True))
        return entries

    def _sweep(self, kept: Collection[str]) -> None:
        """Remove folders without a readable record, such as those whose removal was cut off."""
        recorded = {entry.key for entry in self._entries()}
        for key in self._keys() - recorded - set(kept):
            shutil.rmtree(self.folder / key, ignore_errors=True)

    def _keys(self) -> set[str]:
        """Return the names of all folders of versions."""
        return {path.name for path in self.folder.iterdir() if re.fullmatch("[0-9a-f]{24}", path.name)}

    def _in_use(self) -> set[str]:
        """Return the keys that living processes have claimed; what dead ones have left goes."""
        mine = _claims(self.folder / _IN_USE, os.getpid())
        keys = set(mine.keys)
        for path in self.folder.glob(f"{_IN_USE}/*.json"):
            if path == mine.path:
                continue
            if _lives(path.with_suffix(".lock")):
                try:
                    keys.update(read_json(path, _ClaimsFile)["keys"])
                except (OSError, JsonError):  # whatever it said
                    keys |= self._keys()
            else:
                remove(path)
                remove(path.with_suffix(".lock"))
        return keys


class _ObjectFile(BaseModel):
    """JSON of object.json."""

    url: str
    size: int = Field(ge=0)
    version: str


class _ListingFile(BaseModel):
    """JSON of a listing."""

    urls: list[str]


class _ClaimsFile(BaseModel):
    """JSON of the claims of a process."""

    keys: list[str]


class _ProcessClaims:
    """Keys that this process uses; the lock goes when the process does, even killed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(8)}.json"
        self.keys: set[str] = set()
        self.lock = ExitStack()
        self.lock.enter_context(hold(self.path.with_suffix(".lock"), wait=False))

    def add(self, keys: Iterator[str]) -> None:
        self.keys.update(keys)
        _write(self.path, {"keys": sorted(self.keys)})


@cache
def _claims(folder: Path, process: int) -> _ProcessClaims:
    return _ProcessClaims(folder)


def _lives(lock: Path) -> bool:
    """Return whether a process holds its lock, or that of another user may do so."""
    try:
        with hold(lock, wait=False) as free:
            return not free
    except OSError:
        return True


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a small file of the cache, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=False) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _and_more(entries: Collection[Entry]) -> str:
    return f" and {len(entries) - 1} more" if len(entries) > 1 else ""


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
