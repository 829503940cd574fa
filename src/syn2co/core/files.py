"""Files that are written whole or not at all, without torch."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from syn2co.core.errors import FileError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; for callers who have no better sentence for a failure.

    Args:
        path: the file; folders that lack are made.
        content: bytes, or a text that is written as UTF-8 with the line ends that it has.

    Raises:
        FileError: if it cannot be written, the disk being full say.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder, "scores", "one.txt"), "71.3\\n")
        ...     [path.name for path in Path(folder, "scores").iterdir()]
        ['one.txt']
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise FileError(f"{path.name}: cannot be written ({error.strerror}); nothing was changed") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; for callers who word the system's error themselves.

    Args:
        path: the file; folders that lack are made.
        content: bytes, or a text that is written as UTF-8 with the line ends that it has.

    Raises:
        OSError: if it cannot be written; what was there stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, temporary: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it takes the place of `path` when the block ends well, else it is deleted.

    Args:
        path: the file; its folder must exist.
        temporary: a path in the same folder; None is the hidden name of `temporary_of`. Where several processes may
            write the same file, each needs one of its own.
        durable: flush the file and then its folder to disk. False is for caches: after a power cut the file may be
            empty or torn, and its reader must notice.

    Raises:
        OSError: if it cannot be put in place; what was there stays as it is.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder, "rows.csv")) as temporary, open(temporary, "w") as file:
        ...         _ = file.write("a,b\\n")
        ...         before = Path(folder, "rows.csv").exists()
        ...     before, Path(folder, "rows.csv").exists()
        (False, True)
    """
    temporary = temporary_of(path) if temporary is None else temporary
    try:
        yield temporary
        if durable:
            put_in_place(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def temporary_of(path: Path) -> Path:
    """Return the hidden name under which a file is written before it is whole.

    Example:
        >>> temporary_of(Path("set", "000001.tar")).name
        '.000001.tar.tmp'
    """
    return path.with_name(f".{path.name}.tmp")


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a written and closed file, rename it, and flush its folder, so that the name survives a power cut too.

    Args:
        temporary: the file as it was written.
        path: its final path, in the same folder.

    Raises:
        OSError: if it cannot be flushed or renamed.
    """
    _flush(temporary)
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # network shares refuse it (EINVAL), Windows cannot open folders
        _flush(path.parent)


def _flush(path: Path) -> None:
    """Make the content of a file, or the entries of a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)  # Windows flushes what it may write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete the file if it can be deleted; an error is no reason to stop.

    Args:
        path: the file, which may be missing.
    """
    with contextlib.suppress(OSError):
        path.unlink()


def why_not_written(error: OSError) -> str:
    """Return the reason of a failed write in words, with what to do.

    Args:
        error: the system's error.

    Returns:
        A part of a sentence, without a period.

    Example:
        >>> why_not_written(PermissionError(errno.EACCES, "Permission denied"))
        'Permission denied; fix that and run the same command again'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on the device; free some and run the same command again"
    return f"{error.strerror or error}; fix that and run the same command again"


def public_path(text: str) -> str:
    """Return a path that may be published with a data set: nothing of where on the machine it lies.

    Args:
        text: a path, or the name of something that is no path, such as a model of a hub.

    Returns:
        The last part of an absolute path or of one that begins with ~ or a dot; anything else unchanged.

    Example:
        >>> public_path("/home/me/models/flow"), public_path("org/model")
        ('flow', 'org/model')
    """
    path = Path(text)
    if path.is_absolute() or text.startswith(("~", "./", "../", ".\\", "..\\")):
        return path.name or text
    return text
