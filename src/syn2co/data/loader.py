"""From (epoch, sample id) keys to batches of views: which image when, on which rank, and who decodes it.

Nothing here has state that a restart could lose: the images of a step are a function of (seed, step) and the number
of ranks only says which of them this rank loads. Axes: N images, B images of this rank's part of a micro-batch.
"""

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.processes import start_worker
from syn2co.data.batch import Batch
from syn2co.data.codec import Codec
from syn2co.data.mixing import Mixer, image_index
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import one_view
from syn2co.images.image_set import ImageSet

Keys = list[tuple[int, int]]
AS_IT_IS = Codec()


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


class _Stream(Sampler[Keys]):
    def __init__(self, schedule: Schedule, rank: int, start: int, stop: int) -> None:
        self.arguments = (rank, start, stop)
        self.schedule = schedule

    def __iter__(self) -> Iterator[Keys]:
        return self.schedule.keys(*self.arguments)


class _Views(Dataset[Batch]):
    """Keys to a batch; an unreadable image comes back as the error itself, so that it crosses process borders whole."""

    def __init__(self, images: ImageSet, settings: ViewsSettings, mixer: Mixer, codec: Codec) -> None:
        self.images = images
        self.settings = settings
        self.mixer = mixer
        self.codec = codec

    def __getitems__(self, keys: Keys) -> Batch | DataError:
        size = self.settings.size
        views = np.empty((2, len(keys), size, size, 3), np.uint8)
        sample_ids = np.array([sample_id for _, sample_id in keys])
        epoch = keys[0][0]  # of all keys: no batch spans two epochs
        of_view = self.mixer.view_images(epoch, sample_ids)
        try:
            for row, sample_id in enumerate(sample_ids):
                first, second = of_view[:, row].tolist()
                image = self.codec(self.images.read(first))
                other = image if second == first else self.codec(self.images.read(second))
                for view, pixels in enumerate((image, other)):
                    views[view, row] = one_view(
                        pixels, self.settings, seed=self.mixer.seed, epoch=epoch, index=int(sample_id), view=view
                    )
        except DataError as error:
            return error
        indices = image_index(sample_ids)
        groups, synthetic = self.images.groups[indices], of_view >= self.mixer.boundary
        return Batch(*map(torch.from_numpy, (views, indices, groups, sample_ids, synthetic)))


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

    Every image passes through `codec` before its views.

    Raises:
        DataError: if an image that was readable before training no longer is.
    """
    forks = sys.platform == "linux"
    if images.cached and not forks:
        workers = 0  # each would get a copy of all decoded images
    loader = DataLoader(
        _Views(images, settings, schedule.mix, codec),
        batch_sampler=_Stream(schedule, rank, steps.start, steps.stop),
        num_workers=workers,
        multiprocessing_context="fork" if workers and forks else None,  # shares images kept in memory
        collate_fn=_same,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # torch would draw a seed for its workers from ambient state
    )
    iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    finally:
        del iterator  # sends the loading processes home: they ignore SIGTERM, so leaving would wait for them forever


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    start_worker()
