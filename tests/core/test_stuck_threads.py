"""A disk that does not answer: no read of it is waited for in a way that a signal cannot end."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny_images import write_images

from syn2co.core import stuck_threads
from syn2co.core.stuck_threads import map_in_threads
from syn2co.data.codec import differences
from syn2co.data.loader import AS_IT_IS, Schedule, batches
from syn2co.data.open import open_images
from syn2co.data.settings import ViewsSettings
from syn2co.evaluation.crops import CropReader, crop_batches
from syn2co.evaluation.near_overlap import hashed_sample
from syn2co.images.image_set import ImageSet
from syn2co.images.sources import folder
from syn2co.runtime.signals import Interrupted, Interrupts


def test_results_come_in_the_order_of_the_jobs_and_no_more_are_begun_than_asked() -> None:
    begun: list[int] = []
    results = map_in_threads(lambda job: begun.append(job) or -job, range(9), 2, ahead=3)
    assert next(results) == 0 and len(begun) <= 4
    assert list(results) == [-job for job in range(1, 9)]


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), closing(map_in_threads(lambda job: 1 // job, [1, 0, 1], 2)) as results:
        assert next(results) == 1
        next(results)
    assert threading.active_count() == before


class StalledDisk:
    """Reads wait as for a share that is gone: in the system, where no signal wakes them, until `answer`."""

    def __init__(self) -> None:
        self.libc, self.mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        self.libc.pthread_mutex_lock(self.mutex)
        self.timers = list[threading.Timer]()
        self.answers = False

    def read(self, path: str) -> bytes:
        if not self.timers:  # the second one, or a wait that hears nothing would have no end
            self.timers += (
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)),
                threading.Timer(5, self.answer),
            )
            for timer in self.timers:
                timer.start()
        self.libc.pthread_mutex_lock(self.mutex)
        self.libc.pthread_mutex_unlock(self.mutex)
        return Path(path).read_bytes()

    def answer(self) -> None:
        if not self.answers:
            self.answers = True
            self.libc.pthread_mutex_unlock(self.mutex)


class Left(BaseException):
    """What a signal raises."""


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    disk = StalledDisk()
    monkeypatch.setattr(folder, "read_image_file", disk.read)
    monkeypatch.setattr(stuck_threads, "_SECONDS", 0.05)

    def leave(*_: object) -> None:
        raise Left

    before = signal.signal(signal.SIGTERM, leave)
    yield
    signal.signal(signal.SIGTERM, before)
    heard = not disk.answers
    disk.answer()
    for timer in disk.timers:
        timer.cancel()
    for task in stuck_threads._stuck:
        task.exception(5)
    stuck_threads._stuck.clear()
    assert heard, "the signal was not heard before the disk answered"


def _views(images: ImageSet) -> None:
    list(batches(images, ViewsSettings(size=16), Schedule(8, 4, 1, 1, seed=0), range(2), rank=0, workers=0))


def _crops(images: ImageSet, workers: int) -> None:
    list(crop_batches(CropReader(images, 8, 1.0), [[0, 1], [2, 3]], workers=workers))


READERS: dict[str, Callable[[ImageSet], object]] = {
    "views of a run": _views,
    "crops asked for": lambda images: _crops(images, 0),
    "crops ahead": lambda images: _crops(images, 2),
    "images of a generator or an audit": lambda images: list(images.read_many(range(8))),
    "hashes of a split": lambda images: hashed_sample(images, 1),
    "check": lambda images: open_images(images.sources[0].identity, workers=1, cache="never"),
    "check that keeps the pixels": lambda images: open_images(images.sources[0].identity, workers=1),
    "headers of a mix": lambda images: differences(images, 4, AS_IT_IS),
}


@pytest.mark.skipif(sys.platform != "linux", reason="a lock of Linux stands for the disk")
@pytest.mark.parametrize("reader", READERS)
def test_a_signal_ends_every_wait_for_a_stalled_disk(
    reader: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    images = open_images(write_images(tmp_path / "images", 8), cache="never", check=False)
    request.getfixturevalue("stalled")
    with pytest.raises(Left):
        READERS[reader](images)


@pytest.mark.skipif(sys.platform != "linux", reason="a lock of Linux stands for the disk")
@pytest.mark.parametrize("reader", ["views of a run", "crops asked for", "crops ahead"])
def test_a_signal_that_is_remembered_ends_the_waits_of_a_run(
    reader: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    images = open_images(write_images(tmp_path / "images", 8), cache="never")
    request.getfixturevalue("stalled")
    with pytest.raises(Interrupted), Interrupts():
        READERS[reader](images)
