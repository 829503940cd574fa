"""Files written whole or not at all: temporary file in the same folder, fsync, rename."""

import contextlib
import os
from pathlib import Path

from syn2co.errors import FileError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file whole or not at all; a text as UTF-8 with Unix line ends.

    Raises:
        FileError: if it cannot be written, the disk being full say.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        remove(temporary)
        raise FileError(f"{path.name}: cannot be written ({error.strerror}); nothing was changed") from None


def flush(path: Path) -> None:
    """Make the file's content, or the folder's entries, survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete the file if it can be deleted."""
    with contextlib.suppress(OSError):
        path.unlink()
