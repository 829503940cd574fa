"""Files that are written whole or not at all, without torch."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path

from syn2co.core.errors import FileError

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors by which a file system says that it cannot do something at all."""
_NOTED: set[str] = set()


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


def write_whole(path: Path, content: str | bytes, *, alone: bool = False) -> None:
    """Write a file whole or not at all; for callers who word the system's error themselves.

    Args:
        path: the file; folders that lack are made.
        content: bytes, or a text that is written as UTF-8 with the line ends that it has.
        alone: as of `atomic_file`.

    Raises:
        OSError: if it cannot be written; what was there stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, alone=alone) as temporary:
        temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary file to write to; it takes the place of `path` when the block ends well, else it is deleted.

    It is made here, empty, under a name that nobody can foresee: several processes may write the same file, and a link
    that somebody has left there is never followed.

    Args:
        path: the file; its folder must exist.
        durable: flush the file and then its folder to disk. False is for caches: after a power cut the file may be
            empty or torn, and its reader must notice.
        alone: the caller holds a lock, so that nobody else writes the file: what killed processes have left of it is
            deleted.

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
    if alone:
        remove_temporaries(path.parent, path.name)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    _refuse_special(path)
    temporary = path.with_name(f".{_stem(path.name)}.{secrets.token_hex(4)}.tmp")
    os.close(exclusively(temporary, os.O_WRONLY | os.O_CREAT))
    try:
        yield temporary
        if durable:
            put_in_place(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def exclusively(path: str | Path, flags: int) -> int:
    """Open a new file, for `open(..., opener=exclusively)`: never one that is there, nor what a link there points to.

    Args:
        path: the file.
        flags: of `os.open`.

    Raises:
        FileExistsError: if there is anything under that name.
    """
    return no_link(path, flags | os.O_EXCL)


def no_link(path: str | Path, flags: int) -> int:
    """Open a file that may be there, for `open(..., "a", opener=no_link)`: never what a link there points to.

    Args:
        path: the file.
        flags: of `os.open`.

    Raises:
        OSError: if it is a link ("Too many levels of symbolic links").
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def is_temporary(name: str) -> bool:
    """Return whether a file is what a killed process has left of `atomic_file`.

    Example:
        >>> is_temporary(".config.json.0a1b2c3d.tmp"), is_temporary("config.json")
        (True, False)
    """
    return name.startswith(".") and name.endswith(".tmp")


def remove_temporaries(folder: Path, name: str = "") -> None:
    """Delete what killed processes have left of `atomic_file`; for whoever holds the lock.

    Args:
        folder: the folder.
        name: of the file that was to be written; empty is any.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path.name) and path.name.startswith(f".{_stem(name)}." if name else "."):
            remove(path)


def _stem(name: str) -> str:
    """Return a file name, or a hash of one that leaves no room for more: most file systems take 255 bytes."""
    data = os.fsencode(name)
    return name if len(data) <= 240 else blake2b(data, digest_size=8).hexdigest()


def _refuse_special(path: Path) -> None:
    """Raise the system's error for a device, a pipe or a socket, or a link to one: a rename would put a file there."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing, or a link to nothing
        return
    system = os.path.realpath(path.parent) == "/dev"  # its link stdout may lead to a file
    if system or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket", str(path))


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a written and closed file, rename it, and flush its folder, so that the name survives a power cut too.

    Args:
        temporary: the file as it was written.
        path: its final path, in the same folder.

    Raises:
        OSError: if it cannot be flushed or renamed.
    """
    _refuse_special(path)
    with best_effort("files cannot be flushed to this disk, so a power cut may lose the last ones", UNSUPPORTED):
        _flush(temporary)
    os.replace(temporary, path)
    with best_effort("folders cannot be flushed to this disk, so a power cut may lose the newest files"):
        _flush(path.parent)


@contextlib.contextmanager
def best_effort(sentence: str, only: Collection[int] = ()) -> Iterator[None]:
    """Pass over an error of the system in the block, with one note a process: nothing is lost without what it does.

    Network shares and containers refuse what a program can do without: to flush folders, to set permissions and times.

    Args:
        sentence: what cannot be done, and what follows from it.
        only: numbers of the errors that are passed over; none are all of them.
    """
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        if sentence not in _NOTED:
            _NOTED.add(sentence)
            from syn2co.core.progress import note  # rich, which `--help` does not wait for

            note(f"{sentence} ({error.strerror or error})")


def _flush(path: Path) -> None:
    """Make the content of a file, or the entries of a folder, survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
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
