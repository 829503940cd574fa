"""Quarantine: an image that cannot be used leaves the set, with its name and a reason in words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from syn2co.core.errors import DataError
from syn2co.core.files import write_atomically

MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is read unless told otherwise: Pillow's own limit against decompression bombs."""
MAX_BROKEN_SHARE = 0.01
"""Largest share of the images that may be left out before a set is refused, unless told otherwise."""
FEW_BROKEN = 3
"""Broken images that stop no set, however small it is, unless the allowed share is 0."""


class Quarantined(NamedTuple):
    """An image that was left out, and why."""

    name: str
    reason: str


def write_list(path: Path, quarantined: Sequence[Quarantined]) -> None:
    """Write one JSON object per line, {"name", "reason"}, for every image that was left out."""
    write_atomically(path, "".join(json.dumps(entry._asdict()) + "\n" for entry in quarantined))


class BrokenImage(DataError):
    """One image cannot be read; `reason` says why in words."""

    def __init__(self, reason: str, *, name: str = "image") -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple:
        return _rebuild, (self.reason, self.name)


def _rebuild(reason: str, name: str) -> BrokenImage:
    """Make the error again in another process (exceptions with keyword arguments do not pickle by themselves)."""
    return BrokenImage(reason, name=name)
