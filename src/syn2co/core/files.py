"""Files that are written whole or not at all, without torch."""

import contextlib
import errno
import os
from pathlib import Path

from syn2co.core.errors import FileError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; a text as UTF-8 with Unix line ends.

    Raises:
        FileError: if it cannot be written, the disk being full say.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise FileError(f"{path.name}: cannot be written ({error.strerror}); nothing was changed") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk and rename it.

    Raises:
        OSError: if it cannot be written; what was there stays as it is.
    """
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        flush(temporary)
        put_in_place(temporary, path)
    except OSError:
        remove(temporary)
        raise


def temporary_of(path: Path) -> Path:
    """Return the hidden name under which a file is written before it is whole."""
    return path.with_name(f".{path.name}.tmp")


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a flushed file and flush its folder, so that the name survives a power cut too."""
    os.replace(temporary, path)
    flush(path.parent)


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


def why_not_written(error: OSError) -> str:
    """Return the reason of a failed write in words, with what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on the device; free some and run the same command again"
    return f"{error.strerror or error}; mend that and run the same command again"


def public_path(text: str) -> str:
    """Return a path that may be written into a data set: the last part of one that tells where on the machine it is."""
    path = Path(text)
    if path.is_absolute() or text.startswith(("~", "./", "../", ".\\", "..\\")):
        return path.name or text
    return text
