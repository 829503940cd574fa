"""Disk budget of a set: its expected size against the free space."""

import shutil
from pathlib import Path

from rich.filesize import decimal

from syn2co.core.errors import SynthesisError

ENOUGH = 16
"""Images after which their mean size is believed."""
MARGIN = 1.05
OVERHEAD = 2 * 512 + 2 * 256
"""Bytes an image beside its data and two copies of its line: two tar headers and padding to blocks of 512."""


def bytes_of(data: bytes, text: str) -> int:
    """Return what one stored image takes: in the tar with its line, and in the manifest."""
    return len(data) + 2 * len(text) + OVERHEAD


class DiskBudget:
    """Watches the mean size of the images and the space that is left."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.left = folder, images
        self.seen = self.bytes = 0
        self.checked = False

    def add(self, size: int) -> None:
        """Count one image; once enough are known, refuse a disk that is clearly too small for the rest.

        Raises:
            SynthesisError: if it is.
        """
        self.seen += 1
        self.bytes += size
        self.left -= 1
        if not self.checked and (self.seen >= ENOUGH or self.left == 0):
            self.checked = True
            self.check()

    def check(self) -> None:
        """Refuse a disk that is clearly too small for the images that are left."""
        if not self.seen:
            return
        needed, free = self.bytes / self.seen * self.left, shutil.disk_usage(self.folder).free
        if needed > free * MARGIN:
            raise SynthesisError(
                f"--out {self.folder.name}: the {self.left} images that are left will take about "
                f"{decimal(round(needed))} and {decimal(free)} are free; free some, lower --count, or store jpg "
                "(--set format=jpg)"
            )

    @property
    def expected(self) -> str:
        """The whole work's size in words, or "" if nothing is known yet."""
        return decimal(round(self.bytes / self.seen * (self.seen + self.left))) if self.seen else ""
