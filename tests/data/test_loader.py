"""Which image when, on which rank, by which worker: a function of (seed, step) and nothing else."""

import errno
import multiprocessing
import multiprocessing.shared_memory
import multiprocessing.synchronize
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from tiny_images import write_images

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.data import loader
from syn2co.data.loader import Schedule, batches
from syn2co.data.open import open_images
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import two_views
from syn2co.runtime import signals

VIEWS = ViewsSettings(size=16)


def _indices(schedule: Schedule, rank: int, start: int, stop: int) -> list[list[int]]:
    return [[index for _, index in keys] for keys in schedule.keys(rank, start, stop)]


def test_steps_epochs_and_rows():
    schedule = Schedule(images=26, batch=8, micro_batches=2, ranks=2, seed=0)
    assert (schedule.steps_per_epoch, schedule.micro_rows, schedule.rank_rows) == (3, 4, 2)
    assert [schedule.epoch(step) for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_an_epoch_is_a_keyed_permutation_without_padding():
    schedule = Schedule(26, 8, 1, 1, seed=5)
    for epoch in range(3):
        seen = sum(_indices(schedule, 0, 3 * epoch, 3 * epoch + 3), [])
        assert seen == keyed_rng.permutation(26, "epoch order", 5, epoch)[:24].tolist()
        assert len(set(seen)) == 24
    other = Schedule(26, 8, 1, 1, seed=6)
    assert _indices(schedule, 0, 0, 3) != _indices(schedule, 0, 3, 6) != _indices(other, 0, 3, 6)


@pytest.mark.parametrize("ranks, micro_batches", [(2, 1), (1, 2), (2, 2), (4, 2), (8, 1)])
def test_ranks_and_micro_batches_are_contiguous_slices_of_the_global_batch(ranks, micro_batches):
    whole = _indices(Schedule(26, 8, 1, 1, seed=0), 0, 0, 7)
    schedule = Schedule(26, 8, micro_batches, ranks, seed=0)
    parts = [_indices(schedule, rank, 0, 7) for rank in range(ranks)]
    for step, expected in enumerate(whole):
        rows = [
            parts[rank][step * micro_batches + micro_batch]
            for micro_batch in range(micro_batches)
            for rank in range(ranks)
        ]
        assert sum(rows, []) == expected


def test_a_start_in_the_middle_is_the_same_stream():
    schedule = Schedule(26, 8, 2, 1, seed=0)
    assert _indices(schedule, 0, 4, 9) == _indices(schedule, 0, 0, 9)[8:]
    assert [{epoch for epoch, _ in keys} for keys in schedule.keys(0, 4, 8)] == [{1}] * 4 + [{2}] * 4
    assert _indices(schedule, 0, 5, 5) == []


def test_defect_08_fewer_images_than_a_batch_is_an_error():
    """The released code trains zero steps without a word."""
    sentence = (
        "data.real: 7 images are fewer than training.batch = 8, so not one step could be taken; add images or lower"
    )
    with pytest.raises(DataError, match=sentence):
        Schedule(7, 8, 1, 1, seed=0)
    assert Schedule(8, 8, 1, 1, seed=0).steps_per_epoch == 1


def test_a_batch_that_does_not_divide_is_an_error():
    sentence = "training.batch = 8: must divide by ranks x micro-batches = 3 x 2; choose a multiple of 6"
    with pytest.raises(ConfigError, match=sentence):
        Schedule(26, 8, 2, 3, seed=0)


def test_batches_by_hand(image_folder):
    images = open_images([image_folder])
    schedule = Schedule(len(images), 8, 2, 2, seed=3)
    (batch,) = list(batches(images, VIEWS, schedule, range(4, 5), rank=1, workers=0))[1:]
    indices = keyed_rng.permutation(26, "epoch order", 3, 1)[8:16][6:]
    assert batch.indices.tolist() == indices.tolist() == batch.groups.tolist()
    assert batch.views.shape == (2, 2, 16, 16, 3) and batch.views.dtype == torch.uint8
    for row, index in enumerate(indices):
        expected = two_views(images.read(index), VIEWS, seed=3, epoch=1, index=int(index))
        for view in (0, 1):
            np.testing.assert_array_equal(batch.views[view, row].numpy(), expected[view])


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("cache", ["always", "never"])
def test_workers_change_nothing(workers, cache, image_folder):
    images = open_images([image_folder], cache=cache)
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    streams = [batches(images, VIEWS, schedule, range(1, 8), rank=0, workers=number) for number in (0, workers)]
    count = 0
    for one, two in zip(*streams, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))
        count += 1
    assert count == 7


@pytest.mark.skipif(sys.platform != "linux", reason="loading processes are forked")
def test_images_that_are_kept_once_read_are_read_before_a_fork(image_folder):
    _, images = open_images([image_folder]), open_images([image_folder])
    assert images.cached and images.nbytes_cache == 0, "the second time with remembered verdicts"
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    assert len(list(batches(images, VIEWS, schedule, range(0, 1), rank=0, workers=1))) == 1
    assert images.nbytes_cache == 26 * 20 * 24 * 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_is_named(workers, tmp_path):
    images = open_images([write_images(tmp_path / "images", 8)], cache="never")
    gone = images.name(5)
    (tmp_path / "images" / gone.split(":")[1]).unlink()
    schedule = Schedule(8, 8, 1, 1, seed=0)
    with pytest.raises(DataError, match=gone):
        list(batches(images, VIEWS, schedule, range(0, 1), rank=0, workers=workers))


def test_the_next_batch_is_made_while_one_is_used(image_folder, monkeypatch):
    images = open_images([image_folder], cache="always")
    schedule, made = Schedule(26, 8, 1, 1, seed=3), [threading.Event() for _ in range(52)]
    real, calls = loader.one_view, iter(made)
    monkeypatch.setattr(loader, "one_view", lambda *a, **k: next(calls).set() or real(*a, **k))
    stream = batches(images, VIEWS, schedule, range(0, 3), rank=0, workers=0)
    next(stream)
    assert made[31].wait(5), "the last view of the second batch"
    assert not made[32].wait(0.05), "no more than one ahead"
    stream.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_a_fork_waits_until_no_thread_is_inside_of_opencv(image_folder, monkeypatch):
    images = open_images([image_folder], cache="always")
    inside, real = threading.Event(), loader.one_view

    def slow(*args, **named):
        inside.set()
        time.sleep(0.01)
        return real(*args, **named)

    monkeypatch.setattr(loader, "one_view", slow)
    stream = batches(images, VIEWS, Schedule(26, 8, 1, 1, seed=3), range(0, 2), rank=0, workers=0)
    next(stream)
    inside.clear()
    assert inside.wait(5)
    child = os.fork()
    if not child:
        free: list[bool] = []
        other = threading.Thread(target=lambda: free.append(loader._MAKING.acquire(timeout=5)))
        other.start()
        other.join()
        os._exit(int(free != [True]))
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(stream)) == 1


def test_a_fork_that_an_interrupt_let_through_releases_nothing(monkeypatch):
    """Python forks although the wait before it was interrupted: the lock is then the thread's, before and after."""

    class Interrupting:
        def acquire(self):
            raise KeyboardInterrupt

        def release(self):
            raise AssertionError("the thread that makes views holds it")

    with monkeypatch.context() as patch:
        patch.setattr(loader, "_MAKING", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            loader._wait_for_views()
        loader._go_on_with_views()
    loader._wait_for_views()
    loader._go_on_with_views()
    free: list[bool] = []
    other = threading.Thread(
        target=lambda: free.append(loader._MAKING.acquire(timeout=5) and not loader._MAKING.release())
    )
    other.start()
    other.join()
    assert free == [True]


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _told_and_stopped() -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    _stopped()


def _starved() -> None:
    raise MemoryError


def _crowded(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.skipif(sys.platform != "linux", reason="loading processes are forked")
@pytest.mark.parametrize("act, kind, sentence", [
    (_killed, DataError, r"^machine.workers = 2: a process .* died \(exit status -9; .*\); use fewer workers"),
    (_starved, DataError, r"^machine.workers = 2: a process .* died \(out of memory\); use fewer workers"),
    (_stopped, DataError, "^machine.workers = 2: no batch came for [0-9] s, although .* live; see whether the disk"),
    (_told_and_stopped, signals.Interrupted, "^15$"),
])  # fmt: skip
def test_no_end_of_a_loading_process_is_waited_for(act, kind, sentence, image_folder, monkeypatch):
    images = open_images([image_folder])
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    monkeypatch.setattr(loader, "one_view", lambda *_, **__: act())
    monkeypatch.setattr(loader, "PATIENCE_SECONDS", 0.5 if act is _stopped else 60)
    before = multiprocessing.active_children()
    with pytest.raises(kind, match=sentence), signals.Interrupts():
        list(batches(images, VIEWS, schedule, range(0, 3), rank=0, workers=2))
    assert multiprocessing.active_children() == before, "a loading process stays behind"


def test_loading_processes_that_cannot_be_started(image_folder, monkeypatch):
    images = open_images([image_folder])
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    monkeypatch.setattr(os, "pipe", _crowded)
    with pytest.raises(DataError, match=r"^machine.workers = 12: .* cannot be started \(Too many open files\)"):
        list(batches(images, VIEWS, schedule, range(0, 1), rank=0, workers=12))


def test_no_batch_goes_through_the_shared_memory_of_the_system(image_folder, monkeypatch):
    """A container has 64 MB of it, or none that can be written; semaphores lie there too."""
    images = open_images([image_folder])
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    for name in ("SemLock", "SharedMemory"):
        for module in (multiprocessing.synchronize, multiprocessing.shared_memory):
            monkeypatch.setattr(module, name, _crowded, raising=False)
    monkeypatch.setattr(torch.Tensor, "share_memory_", _crowded)
    assert len(list(batches(images, VIEWS, schedule, range(0, 3), rank=0, workers=2))) == 3
