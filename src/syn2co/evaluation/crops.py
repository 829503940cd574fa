"""Evaluation crops of an image set, batch after batch, decoded while the encoder works on earlier ones.

Axes: B images of a batch, S side of a crop in pixels.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from syn2co.core.errors import DataError
from syn2co.core.stuck_threads import close_pool, result_of
from syn2co.images.image_set import ImageSet, reading_threads
from syn2co.images.resize import Interpolation, resize_and_crop
from syn2co.runtime import signals

Crop = UInt8[np.ndarray, "S S 3"]
CropTransform = Callable[[Crop, int], Crop]
"""(crop, index of the image) -> crop of the same shape; a function of its arguments alone, called by many threads."""
THREADS = "syn2co-decode"
_AHEAD = 2  # batches that are decoded before they are asked for
PATIENCE_SECONDS = 480.0
"""Time that the images of a task may take before their disk counts as stalled."""
_PART = 16  # images of one task of a thread: small, so that a first batch or an interrupt waits briefly


class Reader(Protocol):
    """Anything that turns numbers of images into crops of one side; threads call `fill`."""

    @property
    def size(self) -> int: ...

    def fill(self, crops: UInt8[Tensor, "B S S 3"], indices: Sequence[int]) -> None: ...


class CropReader(NamedTuple):
    """Images of a set as crops of one side, corrupted or otherwise changed by `transform`."""

    images: ImageSet
    size: int
    crop_ratio: float
    interpolation: Interpolation = "bilinear"
    transform: CropTransform | None = None
    squash: bool = False

    def read(self, index: int) -> Crop:
        """Return one crop; raises BrokenImage."""
        image = self.images.read(index)
        crop = resize_and_crop(image, self.size, self.crop_ratio, self.interpolation, squash=self.squash)
        return crop if self.transform is None else self.transform(crop, index)

    def fill(self, crops: UInt8[Tensor, "B S S 3"], indices: Sequence[int]) -> None:
        """Write the crops of `indices` into `crops`."""
        pixels = crops.numpy()
        for row, index in enumerate(indices):
            pixels[row] = self.read(index)


def decoding_threads(workers: int | None) -> int:
    """Return `workers`, or for None one thread per core that this rank may use, at most 16."""
    return reading_threads() if workers is None else workers


def crop_batches(
    reader: Reader, batches: Iterable[Sequence[int]], *, workers: int | None = None, pin: bool = False
) -> Generator[UInt8[Tensor, "B S S 3"], None, None]:
    """Yield the crops of each batch of image indices, in order; equal for any number of `workers`.

    Workers are threads, not processes: decoding and resizing let go of Python's lock, threads start at once on every
    platform, and none can be killed alone. 0 decodes a batch when it is asked for, in one thread. `pin` is for copies
    to a GPU. Close the generator to end the threads: tasks under way are finished, the others dropped.

    Raises:
        DataError: if an image that was readable when the set was opened no longer is, or none comes for eight minutes.
        Interrupted: after a signal that `Interrupts` remembers.
    """
    try:
        yield from _crop_batches(reader, batches, decoding_threads(workers), pin)
    except DataError as error:
        error.one_rank = True  # the other ranks have other batches, and this one must speak
        raise


def _crop_batches(
    reader: Reader, batches: Iterable[Sequence[int]], threads: int, pin: bool
) -> Generator[UInt8[Tensor, "B S S 3"], None, None]:
    pool, promises = ThreadPoolExecutor(threads or 1, THREADS), deque[_Promise]()
    try:
        yield from _in_turn(
            (_submit(pool, reader, batch, pin) for batch in batches), promises, _AHEAD if threads else 0
        )
    finally:
        close_pool(pool, [part for promise in promises for part in promise.parts])


class _Promise(NamedTuple):
    """A batch that threads are filling."""

    crops: Tensor
    parts: list[Future[None]]

    def wait(self) -> Tensor:
        for part in self.parts:
            result_of(part, _go_on_waiting)
        return self.crops


def _go_on_waiting(seconds: float) -> None:
    """Raise what ends a wait of so many seconds for images."""
    signals.leave_a_wait()
    if seconds > PATIENCE_SECONDS:
        raise DataError(
            f"workers: no images were read for {PATIENCE_SECONDS:.0f} s; see whether their disk answers, and run the "
            "same command again"
        )


def _submit(pool: ThreadPoolExecutor, reader: Reader, batch: Sequence[int], pin: bool) -> _Promise:
    crops = torch.empty(len(batch), reader.size, reader.size, 3, dtype=torch.uint8, pin_memory=pin)
    starts = range(0, len(batch), _PART)
    parts = [pool.submit(reader.fill, crops[s : s + _PART], batch[s : s + _PART]) for s in starts]
    return _Promise(crops, parts)


def _in_turn(promises: Iterator[_Promise], waiting: deque[_Promise], ahead: int) -> Iterator[Tensor]:
    """Yield the crops of each promise; `ahead` more are made before one is waited for, and stand in `waiting`."""
    for promise in promises:
        waiting.append(promise)
        if len(waiting) > ahead:
            yield _next(waiting)
    while waiting:
        yield _next(waiting)


def _next(waiting: deque[_Promise]) -> Tensor:
    """Return the crops of the first promise, which waits no longer then."""
    crops = waiting[0].wait()
    waiting.popleft()
    return crops
