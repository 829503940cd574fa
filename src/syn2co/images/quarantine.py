"""Quarantine: an image that cannot be used leaves the set, with its name and a reason in words."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from syn2co.core.errors import DataError, FileError
from syn2co.core.files import write_atomically

MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is read unless told otherwise: Pillow's own limit against decompression bombs."""
MAX_BROKEN_SHARE = 0.01
"""Largest share of the images that may be left out before a set is refused, unless told otherwise."""
FEW_BROKEN = 3
"""Broken images that stop no set, however small it is, unless the allowed share is 0."""


LARGEST_FILE = 2**31
"""Bytes of the largest image file that is read; a sparse file of any size takes no disk."""


class Quarantined(NamedTuple):
    """An image that was left out, and why."""

    name: str
    reason: str


def write_list(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Write one JSON object per line, {"name", "reason"}, for every image that was left out."""
    write_atomically(path, "".join(json.dumps(entry._asdict()) + "\n" for entry in quarantined))


class BrokenSet(DataError):
    """Too many images of a set are broken; the message names the first of them and the file that lists all."""

    def __init__(self, what: str, advice: str, quarantined: Sequence[Quarantined], path: Path) -> None:
        first = "; ".join(f"{name}: {reason}" for name, reason in quarantined[:3])
        super().__init__(f"{what} ({first}; {_listed(quarantined, path)}); {advice}")
        self.what, self.advice, self.quarantined, self.path = what, advice, tuple(quarantined), path

    def listed_in(self, path: Path) -> Self:
        """Return the error with the list in a file of another name, written now."""
        return type(self)(self.what, self.advice, self.quarantined, path)

    def __reduce__(self) -> tuple:
        return type(self), (self.what, self.advice, self.quarantined, self.path), self.__dict__


def _listed(quarantined: Sequence[Quarantined], path: Path) -> str:
    """Return where all broken images are listed, or else their names."""
    try:
        write_list(path, quarantined)
    except FileError:
        return f"the others are {', '.join(entry.name for entry in quarantined[3:]) or 'none'}"
    return f"all are listed in {path}"


class BrokenImage(DataError):
    """One image cannot be read; `reason` says why in words."""

    def __init__(self, reason: str, *, name: str = "image") -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        return _rebuild, (self.reason, self.name)


def check_file_size(size: int) -> None:
    """Refuse a file that is too large to be read into memory.

    Raises:
        BrokenImage: if it has more than `LARGEST_FILE` bytes.
    """
    if size > LARGEST_FILE:
        raise BrokenImage(f"it has {size:,} bytes, and no image file of more than {LARGEST_FILE:,} is read")


def read_image_file(path: str | Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        BrokenImage: if it cannot be read, is no regular file, or has more than `LARGEST_FILE` bytes.
    """
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrokenImage("it is not a regular file")
            check_file_size(status.st_size)
            return file.readall()
    except OSError as error:
        raise BrokenImage(f"it cannot be read ({error.strerror})") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _rebuild(reason: str, name: str) -> BrokenImage:
    """Make the error again in another process (exceptions with keyword arguments do not pickle by themselves)."""
    return BrokenImage(reason, name=name)
