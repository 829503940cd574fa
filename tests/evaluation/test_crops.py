"""Crops in the background: equal for any number of threads, in order, bounded, and over when they shall be."""

import os
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch

from syn2co.core import stuck_threads
from syn2co.core.errors import DataError
from syn2co.data.open import open_images
from syn2co.evaluation import crops as module
from syn2co.evaluation.crops import THREADS, CropReader, crop_batches, decoding_threads
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop

BATCHES = [list(range(start, min(start + 7, 60))) for start in range(0, 60, 7)]


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("builtin:digits:test").subset(range(60))


def running() -> int:
    return sum(thread.name.startswith(THREADS) for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
@pytest.mark.parametrize("part", [2, 16])
def test_every_crop_in_its_place(images, workers, part, monkeypatch):
    monkeypatch.setattr(module, "_PART", part)
    found = list(crop_batches(CropReader(images, 16, 0.875), BATCHES, workers=workers))
    assert [len(batch) for batch in found] == list(map(len, BATCHES))
    wanted = np.stack([resize_and_crop(images.read(index), 16, 0.875) for index in range(60)])
    assert np.array_equal(torch.cat(found).numpy(), wanted)
    assert running() == 0


@pytest.mark.parametrize("workers", [0, 3])
def test_a_transform_sees_the_crop_and_the_index(images, workers):
    def mark(crop, index):
        assert crop.shape == (8, 8, 3) and crop.dtype == np.uint8
        return np.full_like(crop, index)

    reader = CropReader(images, 8, 1.0, transform=mark)
    found = torch.cat(list(crop_batches(reader, BATCHES, workers=workers)))
    assert torch.equal(found[:, 0, 0, 0].long(), torch.arange(60))


def test_order_does_not_depend_on_who_is_slow(images):
    def slow(crop, index):
        time.sleep(0.02 if index < 7 else 0)
        return np.full_like(crop, index)

    found = torch.cat(list(crop_batches(CropReader(images, 8, 1.0, transform=slow), BATCHES, workers=4)))
    assert torch.equal(found[:, 0, 0, 0].long(), torch.arange(60))


def test_it_works_ahead_of_the_encoder_but_not_far(images):
    """Memory holds three batches, however many there are: the one in use, and two that are ready."""
    seen: set[int] = set()

    def note(crop, index):
        seen.add(index)
        return crop

    with closing(crop_batches(CropReader(images, 8, 1.0, transform=note), BATCHES, workers=1)) as batches:
        next(batches)
        deadline = time.monotonic() + 10
        while len(seen) < 21 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert seen == set(range(21))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [DataError("gone"), KeyError("a bug")])
def test_an_error_of_a_thread_is_raised_where_the_batch_is_asked_for(images, workers, error):
    def fail(crop, index):
        if index == 9:
            raise error
        return crop

    batches = crop_batches(CropReader(images, 8, 1.0, transform=fail), BATCHES, workers=workers)
    assert len(next(batches)) == 7
    with pytest.raises(type(error), match=r"gone|a bug"):
        next(batches)
    assert running() == 0


def test_an_interrupt_ends_the_threads_soon(images):
    """Ctrl-C while thousands of images wait: what is under way ends, the rest is dropped."""

    def slow(crop, index):
        time.sleep(0.01 * index)
        return crop

    batches = [[0], [1] * 2000, [1] * 2000]
    started = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        closing(crop_batches(CropReader(images, 8, 1.0, transform=slow), batches, workers=2)) as found,
    ):
        next(found)
        raise KeyboardInterrupt
    assert running() == 0
    assert time.monotonic() - started < 10  # all of it would take 20 s


def test_a_disk_that_does_not_answer_ends_the_wait_and_the_process(images, monkeypatch):
    """A thread that hangs in a read cannot be killed; Python would wait for it before the process ends."""
    answer, left = threading.Event(), []
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(stuck_threads, "_SECONDS", 0.2)
    monkeypatch.setattr(os, "_exit", left.append)

    def stalled(crop, index):
        answer.wait()
        return crop

    with pytest.raises(DataError, match="workers: no images were read for 0 s; see whether their disk answers"):
        next(crop_batches(CropReader(images, 8, 1.0, transform=stalled), BATCHES, workers=1))
    stuck_threads.leave_if_stuck(2)
    assert left == [2]
    answer.set()
    while running():
        time.sleep(0.01)
    stuck_threads.leave_if_stuck(2)
    assert left == [2]


def test_threads_by_default_are_the_cores_of_this_rank(launched, monkeypatch):
    monkeypatch.setattr("syn2co.core.cpus.available_cpus", lambda: 12)
    assert decoding_threads(None) == 12
    launched(LOCAL_WORLD_SIZE=5)
    assert decoding_threads(None) == 2
    launched(LOCAL_WORLD_SIZE=64)
    assert decoding_threads(None) == 1
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr("syn2co.core.cpus.available_cpus", lambda: 96)
    assert decoding_threads(None) == 16
    assert [decoding_threads(given) for given in (0, 1, 40)] == [0, 1, 40]
