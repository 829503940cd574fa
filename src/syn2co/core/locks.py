"""Locks of files and folders; the system frees them when the process ends, even killed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from syn2co.core.errors import ConfigError


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block; the system lets go of it whenever the process ends, even killed.

    Raises:
        ConfigError: if another run holds it.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"--out {folder.name}: another run is writing to this folder; choose another one") from None
    except OSError as error:
        raise ConfigError(f"--out {folder.name}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield
    finally:
        lock.release()
