"""Locks of a data set folder, one per shard, and the errors of the system in words."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from syn2co.core.errors import SynthesisError
from syn2co.core.files import why_not_written
from syn2co.core.locks import hold, how_to_free
from syn2co.core.progress import note
from syn2co.synthesis.sets.shards import stem

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


def make_locks(folder: Path) -> Path:
    """Return the folder of the locks, made if needed.

    Raises:
        SynthesisError: if it cannot be made.
    """
    locks = folder / LOCKS
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locking(folder):
        locks.mkdir(exist_ok=True)
    return locks


@contextlib.contextmanager
def _locking(folder: Path) -> Iterator[None]:
    """Turn the system's errors of a lock into one sentence."""
    try:
        yield
    except OSError as error:
        raise SynthesisError(
            f"{folder.name}/{LOCKS}: must be a writable folder ({error.strerror or error}); fix or remove it"
        ) from error


@contextlib.contextmanager
def lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock of the folder inside the block, once nobody else does.

    Raises:
        SynthesisError: if it cannot be held because the folder cannot be written.
    """
    with _hold(folder, name, wait=True):
        yield


@contextlib.contextmanager
def shard_lock(folder: Path, number: int) -> Iterator[bool]:
    """Hold the lock of a shard inside the block if nobody else does, and say whether it is held.

    Raises:
        SynthesisError: if it cannot be held because the folder cannot be written.
    """
    with _hold(folder, stem(number), wait=False) as held:
        yield held


def say_waiting(folder: Path, numbers: Sequence[int]) -> None:
    """Say that other processes have had shards in hand for long, and how a lock is freed that nobody alive holds."""
    name = stem(numbers[0])
    note(f"waiting for {len(numbers)} shards that others make, such as {name}; {how_to_free(folder / LOCKS / name)}")


@contextlib.contextmanager
def _hold(folder: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock of the folder; only errors of the lock itself, not those of the block, become its sentence."""
    path = make_locks(folder) / name
    with contextlib.ExitStack() as stack:
        with _locking(folder):
            held = stack.enter_context(hold(path, wait=wait))
        yield held
