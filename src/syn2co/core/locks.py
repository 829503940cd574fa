"""Locks of files and folders; the system frees them when the process ends, even killed."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from syn2co.core.errors import ConfigError
from syn2co.core.files import UNSUPPORTED, best_effort, remove_temporaries
from syn2co.core.progress import note

LOCK = ".lock"
"""Name of the lock of a run folder."""
PATIENCE_SECONDS = 10.0
"""Wait for a lock that is not yet said."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock inside the block, and yield whether it is held.

    A file system without locks is no reason to stop: with one note, every lock on it counts as held.

    Args:
        path: the lock file, which is made if it lacks and never says anything; its folder must exist.
        wait: until whoever holds it lets go of it, then True is yielded; after ten seconds it is said. If False, a lock
            in other hands yields False at once, and the block runs without it.

    Raises:
        OSError: if the file cannot be opened.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with hold(Path(folder, "lock"), wait=True) as mine, hold(Path(folder, "lock"), wait=False) as other:
        ...         mine, other
        (True, False)
    """
    lock = FileLock(path)
    held = True
    with best_effort("files cannot be locked on this disk, so start no second command in the same folder", UNSUPPORTED):
        try:
            lock.acquire(timeout=PATIENCE_SECONDS if wait else 0)
        except Timeout:
            held = False
        except NotImplementedError as error:  # of filelock before version 4
            raise OSError(errno.ENOSYS, str(error)) from None
    if wait and not held:
        note(f"waiting for another process that holds {path}; {how_to_free(path)}")
        lock.acquire()
        held = True
    try:
        yield held
    finally:
        lock.release()


def how_to_free(path: Path) -> str:
    """Return in words how a lock is freed that nobody alive holds.

    Example:
        >>> how_to_free(Path("run", ".lock"))
        'if that was killed on another machine and its lock is left, delete run/.lock'
    """
    return f"if that was killed on another machine and its lock is left, delete {path.parent.name}/{path.name}"


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
            raise ConfigError(
                f"--out {folder.name}: another run is writing to this folder; choose another one, or "
                f"{how_to_free(folder / LOCK)}"
            )
        remove_temporaries(folder)
        yield
