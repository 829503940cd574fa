"""Who writes what in a data set folder, and what the system says to it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from syn2co.errors import SynthesisError
from syn2co.files import why_not_written
from syn2co.synthesis.shards import stem

LOCKS = ".locks"


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the system's errors inside the block into one sentence.

    Raises:
        SynthesisError: if something cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise SynthesisError(f"--out {folder.name}: cannot be written: {why_not_written(error)}") from error


@contextlib.contextmanager
def lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock of the folder inside the block; the system lets go of it when the process ends, even killed."""
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCKS / name):
        yield


@contextlib.contextmanager
def shard_lock(folder: Path, number: int) -> Iterator[bool]:
    """Hold the lock of a shard inside the block if nobody else does, and say whether it is held."""
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / LOCKS / stem(number), timeout=0)
    try:
        held.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()
