"""Locks of files and folders; the system frees them when the process ends, even killed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from syn2co.core.errors import ConfigError

LOCK = ".lock"
"""Name of the lock of a run folder."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock inside the block, and yield whether it is held.

    Args:
        path: the lock file, which is made if it lacks and never says anything; its folder must exist.
        wait: until whoever holds it lets go of it, then True is yielded. If False, a lock in other hands yields False
            at once, and the block runs without it.

    Raises:
        OSError: if the file cannot be opened or locked.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with hold(Path(folder, "lock"), wait=True) as mine, hold(Path(folder, "lock"), wait=False) as other:
        ...         mine, other
        (True, False)
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
        held = True
    except Timeout:
        held = False
    try:
        yield held
    finally:
        if held:
            lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock; False where there is no such file or it may not be opened.

    Args:
        path: the lock file; it is not made.

    Example:
        >>> is_held(Path("nowhere", ".lock"))
        False
    """
    if not path.exists():
        return False
    try:
        with hold(path, wait=False) as free:
            return not free
    except OSError:  # a folder that only others may write to
        return False


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder inside the block.

    Args:
        folder: the folder, which is made if it lacks.

    Raises:
        ConfigError: if another run holds it, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(hold(folder / LOCK, wait=False))
        except OSError as error:
            raise ConfigError(
                f"--out {folder.name}: cannot be written ({error.strerror}); choose another folder"
            ) from None
        if not held:
            raise ConfigError(f"--out {folder.name}: another run is writing to this folder; choose another one")
        yield
