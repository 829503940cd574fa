"""Decoded images kept in memory, shared with forked workers.

Axis letters: H W height and width in pixels.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int64, UInt8

AUTO_BYTES = 2 * 2**30


class PixelCache:
    """All images decoded, in a few large blocks, so that reading one costs about a microsecond.

    Rows are counted as in the concatenation of the sources; block b holds `starts[b] <= row < starts[b+1]`.
    """

    def __init__(self, blocks: Sequence["Block | LazyBlock | Absent"]) -> None:
        self._blocks = tuple(blocks)
        self._starts = [0, *accumulate(len(block) for block in blocks)]

    @property
    def nbytes(self) -> int:
        """Return the bytes of the images that are kept by now."""
        return sum(block.nbytes for block in self._blocks)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the image of one row as a read-only view; None for one that is not kept."""
        number = bisect_right(self._starts, row) - 1
        return self._blocks[number][row - self._starts[number]]

    def keeps(self, row: int) -> bool:
        """Return whether the image of a row is kept when it is read."""
        return isinstance(self._blocks[bisect_right(self._starts, row) - 1], LazyBlock)

    def keep(self, row: int, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image of one row, read-only and kept if its block keeps what is read."""
        number = bisect_right(self._starts, row) - 1
        block = self._blocks[number]
        return block.keep(row - self._starts[number], image) if isinstance(block, LazyBlock) else image

    def unread(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Return the positions in `rows` of images that will be kept when they are read, and are not yet."""
        lazy = [isinstance(block, LazyBlock) for block in self._blocks]
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        chosen = np.flatnonzero(np.array(lazy)[numbers])
        return chosen[[self[row] is None for row in rows[chosen].tolist()]]


class Absent:
    """Some images that are not kept."""

    nbytes = 0

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> None:
        """Return None: the image must be read from its source."""


class LazyBlock:
    """Some images that are kept once they have been read, each process its own: they were checked in an earlier call.

    100,000 images of 64 px that are all decoded before the first step take 12 s of one core and 1.2 GB more.
    """

    def __init__(self, count: int) -> None:
        self._images: list[UInt8[np.ndarray, "H W 3"] | None] = [None] * count

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return one image; None before it has been read."""
        return self._images[row]

    def keep(self, row: int, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image as a read-only view that is kept."""
        kept = image.view()
        kept.flags.writeable = False
        self._images[row] = kept
        return kept

    @property
    def nbytes(self) -> int:
        return sum(image.nbytes for image in self._images if image is not None)


class Block:
    """Some images one after the other in one flat array; broken ones have no pixels."""

    def __init__(self, images: Sequence[UInt8[np.ndarray, "H W 3"] | None]) -> None:
        shapes = [(0, 0, 3) if image is None else image.shape for image in images]
        self.shapes = np.array([shape[:2] for shape in shapes], np.int32).reshape(-1, 2)
        self.starts = np.cumsum([0, *(height * width * 3 for height, width, _ in shapes)])
        kept = [image.ravel() for image in images if image is not None]
        self.pixels = np.concatenate(kept) if kept else np.zeros(0, np.uint8)
        self.pixels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return one image as a read-only view."""
        height, width = self.shapes[row]
        return self.pixels[self.starts[row] : self.starts[row + 1]].reshape(height, width, 3)


def auto_budget() -> int:
    """Return how many bytes of decoded images "auto" keeps: 2 GiB, or a quarter of the memory where that is less."""
    try:
        return min(AUTO_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    except (AttributeError, ValueError, OSError):
        return AUTO_BYTES
