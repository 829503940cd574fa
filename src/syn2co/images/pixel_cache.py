"""Decoded images kept in memory, shared with forked workers.

Axis letters: H W height and width in pixels.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import UInt8

AUTO_BYTES = 2 * 2**30


class PixelCache:
    """All images decoded, in a few large blocks, so that reading one costs about a microsecond.

    Rows are counted as in the concatenation of the sources; block b holds `starts[b] <= row < starts[b+1]`.
    """

    def __init__(self, blocks: Sequence["Block | Absent"]) -> None:
        self._blocks = tuple(blocks)
        self._starts = [0, *accumulate(len(block) for block in blocks)]
        self.nbytes = sum(block.pixels.nbytes for block in blocks)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the image of one row as a read-only view; None for one that is not kept."""
        number = bisect_right(self._starts, row) - 1
        return self._blocks[number][row - self._starts[number]]


class Absent:
    """Some images that are not kept."""

    pixels = np.zeros(0, np.uint8)

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> None:
        """Return None: the image must be read from its source."""


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
