"""From (epoch, sample id) keys to batches of views: which image when, on which rank, and who decodes it.

Nothing here has state that a restart could lose: the images of a step are a function of (seed, step) and the number
of ranks only says which of them this rank loads. Axes: N images, B images of this rank's part of a micro-batch.
"""

import math
import mmap
import os
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.stuck_threads import map_in_threads
from syn2co.core.worker_pool import WorkerDied, WorkerPool
from syn2co.data.batch import Batch
from syn2co.data.codec import Codec
from syn2co.data.mixing import Mixer, image_index
from syn2co.data.reduced import reduced_views
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import one_view
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import Square
from syn2co.runtime import signals

Keys = list[tuple[int, int]]
Arrays = tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A batch on its way between processes; views that lie in a slot are its number."""
AS_IT_IS = Codec()
PATIENCE_SECONDS = 480.0
"""Longest wait for loading processes that live."""
_MAKING = threading.RLock()  # held while a thread makes views
_HELD = threading.local()  # by a fork


def _wait_for_views() -> None:
    _HELD.waited = False  # Python forks in spite of a Ctrl-C in the next line
    _HELD.waited = _MAKING.acquire()


def _go_on_with_views() -> None:
    if _HELD.waited:
        _MAKING.release()


if hasattr(os, "register_at_fork"):  # a fork waits for the thread, whose locks inside of OpenCV the child would inherit
    os.register_at_fork(before=_wait_for_views, after_in_parent=_go_on_with_views, after_in_child=_go_on_with_views)
_AHEAD = 2  # batches that a loading process has in hand or has made in advance


@dataclass(frozen=True)
class Schedule:
    """Schedule of epochs of N images: steps, micro-batches and ranks; no padding, the rest of an epoch is left out.

    Micro-batch m is a contiguous slice of the global batch and rank r a contiguous slice of that, so gathering in rank
    order gives the global order.

    Raises:
        ConfigError: if the batch does not divide by ranks x micro-batches.
        DataError: if there are fewer images than one batch.
    """

    images: int
    batch: int
    micro_batches: int
    ranks: int
    seed: int
    mixer: Mixer | None = None
    """Images of each epoch; None is a permutation of N real ones."""

    def __post_init__(self) -> None:
        if self.images < self.batch and self.mixer is not None and self.mixer.mode != "real":
            raise DataError(
                f"mix: an epoch of {self.images} images has fewer than training.batch = {self.batch}, so not one step "
                "could be taken; add images, raise mix.epoch_images or lower the batch"
            )
        if self.images < self.batch:
            raise DataError(
                f"data.real: {self.images} images are fewer than training.batch = {self.batch}, so not one step could "
                "be taken; add images or lower the batch"
            )
        if self.batch % (self.ranks * self.micro_batches):
            raise ConfigError(
                f"training.batch = {self.batch}: must divide by ranks x micro-batches = {self.ranks} x "
                f"{self.micro_batches}; choose a multiple of {self.ranks * self.micro_batches}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch

    @property
    def switch_step(self) -> int | None:
        """First step of real images in a run that begins with synthetic ones, else None."""
        epoch = None if self.mixer is None else self.mixer.switch_epoch
        return None if epoch is None else epoch * self.steps_per_epoch

    @property
    def micro_rows(self) -> int:
        """Images of a micro-batch over all ranks."""
        return self.batch // self.micro_batches

    @property
    def rank_rows(self) -> int:
        """Images of a micro-batch on one rank."""
        return self.micro_rows // self.ranks

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    @property
    def mix(self) -> Mixer:
        """The mixer, the plain one included."""
        return self.mixer or Mixer.plain(self.images, self.seed)

    def step_sample_ids(self, step: int, order: np.ndarray) -> np.ndarray:
        """Return the sample ids of a step's global batch, given the order of its epoch."""
        first = step % self.steps_per_epoch * self.batch
        return order[first : first + self.batch]

    def keys(self, rank: int, start: int, stop: int) -> Iterator[Keys]:
        """Yield this rank's (epoch, sample id) keys of every micro-batch of the steps start .. stop.

        A sample id is an image's index, unless the image comes again in the same epoch: see `data.mixing`.
        """
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(start, stop):
            if self.epoch(step) != epoch:
                epoch = self.epoch(step)
                order = self.mix.order(epoch)
            sample_ids = self.step_sample_ids(step, order).reshape(self.micro_batches, self.ranks, self.rank_rows)
            for part in sample_ids[:, rank]:
                yield [(epoch, int(sample_id)) for sample_id in part]


class _Views:
    """A slot and keys to a batch; called in loading processes, or where there are none in this one.

    The views, which are nearly all of a batch, go into a slot of memory that forked processes share with this one.
    """

    def __init__(self, images: ImageSet, settings: ViewsSettings, mixer: Mixer, codec: Codec) -> None:
        self.images, self.settings = images, settings
        self.mixer, self.codec = mixer, codec
        self.slots: UInt8[np.ndarray, "slots 2 B S S 3"] | None = None

    def share(self, slots: int, rows: int) -> None:
        """Make the slots: anonymous memory, which the size of /dev/shm does not bound."""
        shape = (slots, 2, rows, self.settings.size, self.settings.size, 3)
        self.slots = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)

    def open(self) -> "_Views":
        """Return what loads in another process: this, as forked or unpickled there."""
        return self

    def __call__(self, job: tuple[int, Keys]) -> Arrays:
        slot, keys = job
        size = self.settings.size
        views = np.empty((2, len(keys), size, size, 3), np.uint8) if self.slots is None else self.slots[slot]
        sample_ids = np.array([sample_id for _, sample_id in keys])
        epoch = keys[0][0]  # of all keys: no batch spans two epochs
        of_view = self.mixer.view_images(epoch, sample_ids)
        for row, sample_id in enumerate(sample_ids):
            views[:, row] = self._pair(*of_view[:, row].tolist(), epoch=epoch, index=int(sample_id))
        indices = image_index(sample_ids)
        groups, synthetic = self.images.groups[indices], of_view >= self.mixer.boundary
        return (views if self.slots is None else slot), indices, groups, sample_ids, synthetic

    def _pair(self, first: int, second: int, *, epoch: int, index: int) -> list[Square]:
        """Return view 1 of the first image and view 2 of the second one."""
        settings, seed = self.settings, self.mixer.seed
        if self.codec.reduced:
            parts = [(first, (0, 1))] if first == second else [(first, (0,)), (second, (1,))]
            pairs = [
                reduced_views(self.images, number, views, settings, seed=seed, epoch=epoch, index=index)
                for number, views in parts
            ]
            return [view for pair in pairs for view in pair]
        image = self.codec(self.images.read(first))
        other = image if second == first else self.codec(self.images.read(second))
        return [
            one_view(pixels, settings, seed=seed, epoch=epoch, index=index, view=view)
            for view, pixels in enumerate((image, other))
        ]

    def batch(self, arrays: Arrays, pin: bool) -> Batch:
        """Return the batch, in memory of its own where its views lie in a slot."""
        first, *others = arrays
        views = torch.from_numpy(first if self.slots is None else self.slots[first])
        if pin:
            views = views.pin_memory()
        elif self.slots is not None:
            views = views.clone()
        return Batch(views, *map(torch.from_numpy, others))


def views_of(
    images: ImageSet, settings: ViewsSettings, mixer: Mixer, codec: Codec, keys: Keys
) -> UInt8[np.ndarray, "2 B S S 3"]:
    """Return views 1 and 2 of some keys of one epoch, as `batches` gives them.

    Raises:
        DataError: if an image cannot be read.
    """
    return _Views(images, settings, mixer, codec)((0, keys))[0]


def batches(
    images: ImageSet,
    settings: ViewsSettings,
    schedule: Schedule,
    steps: range,
    *,
    rank: int,
    workers: int,
    pin: bool = False,
    codec: Codec = AS_IT_IS,
) -> Generator[Batch, None, None]:
    """Yield this rank's micro-batches of the steps, in order; equal for any number of workers.

    Every image passes through `codec` before its views. Without workers a thread makes the views. A signal that
    `Interrupts` remembers ends a wait for it, or for loading processes.

    Raises:
        DataError: if an image that was readable before training no longer is, or the loading processes cannot be
            started, die, or give nothing for eight minutes.
        Interrupted: after a signal.
    """
    forks = sys.platform == "linux"
    if images.cached and not forks:
        workers = 0  # each would get a copy of all decoded images
    keys = schedule.keys(rank, steps.start, steps.stop)
    views = _Views(images, settings, schedule.mix, codec)
    if not workers:
        with closing(_made_ahead(views, keys)) as made:
            yield from (views.batch(arrays, pin) for arrays in made)
        return
    if forks:
        images.read_ahead(workers, lambda _: signals.leave_a_wait())
    slots = _AHEAD * workers
    try:
        if forks:
            views.share(slots, schedule.rank_rows)
        method = "fork" if forks else "spawn"  # a fork shares images kept in memory
        pool = WorkerPool(views.open, workers, method=method, jobs_each=_AHEAD, ahead=_AHEAD)
    except OSError as error:
        raise DataError(
            f"machine.workers = {workers}: the processes that load images cannot be started ({error.strerror}); use "
            "fewer workers, or raise the limits of open files and memory (ulimit -n, ulimit -v)"
        ) from None
    jobs = ((number % slots, part) for number, part in enumerate(keys))
    with pool:
        try:
            for arrays in pool.results(jobs, partial(_go_on_waiting, workers)):
                yield views.batch(arrays, pin)
        except WorkerDied as died:
            raise DataError(
                f"machine.workers = {workers}: a process that loads images died ({died}); use fewer workers and run "
                "the same command again"
            ) from None


def _made_ahead(views: _Views, keys: Iterator[Keys]) -> Generator[Arrays, None, None]:
    """Yield what `views` makes of the keys, one batch ahead in a thread: OpenCV works without Python's lock."""

    def make(part: Keys) -> Arrays:
        with _MAKING:
            return views((0, part))

    return map_in_threads(make, keys, 1, ahead=1, waiting=partial(_go_on_waiting, 0))


def _go_on_waiting(workers: int, seconds: float) -> None:
    """Raise what ends a wait of so many seconds for a batch."""
    signals.leave_a_wait()
    if seconds > PATIENCE_SECONDS:
        raise DataError(
            f"machine.workers = {workers}: no batch came for {seconds:.0f} s, although "
            f"{'the processes that load images live' if workers else 'a thread loads it'}; see whether the disk of the "
            "images answers, and run the same command again"
        )
