"""Paths and names from outside: `~` expanded, and one sentence where the system refuses to look."""

import errno
import os
import stat
from pathlib import Path

from syn2co.core.errors import Syn2CoError

_LONGEST = 200
_ADVICE = {
    errno.EACCES: "change the permissions of the folders above it, or give another path",
    errno.EPERM: "change the permissions of the folders above it, or give another path",
    errno.ENAMETOOLONG: "this file system takes no name as long; correct the path",
    errno.ELOOP: "a link on the way leads to itself; correct the link",
}


class PathError(Syn2CoError):
    """A path cannot be followed: a name that is too long, a folder that may not be entered, a home of nobody."""


def user_path(text: str | Path) -> Path:
    """Return the path that a user gave, with ~ or ~NAME as that home folder.

    Args:
        text: a path; where something of the very name "~..." lies there, it is that.

    Returns:
        The path; the current folder by its name.

    Raises:
        PathError: if the text is empty, or the machine knows no such home folder.

    Example:
        >>> user_path("photos").name, user_path("~/photos").is_absolute()
        ('photos', True)
    """
    if not str(text):  # Python takes it for the current folder
        raise PathError("a path is empty; name a file or folder (is a variable of the shell not set?)")
    path = Path(text) if Path(text).name else Path(text).resolve()
    if not str(text).startswith("~") or status_of(path) is not None:
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise PathError(f"{shown(path)}: this machine knows no home folder of this name; give the whole path") from None


def weights_path(text: str | Path) -> Path:
    """Return the path of a folder or file of weights or features, as `user_path` does.

    Args:
        text: a path whose bytes are UTF-8: safetensors, Parquet and TensorBoard take no others.

    Raises:
        PathError: if it has other bytes, or the machine knows no such home folder.
    """
    path = user_path(text)
    if printable(str(path)) != str(path):
        raise PathError(f"{shown(path)}: has a name that is not UTF-8, and weights or features need one; rename it")
    return path


def status_of(path: Path, *, links: bool = True) -> os.stat_result | None:
    """Return the system's record of a path, None if nothing lies there.

    Args:
        path: any path.
        links: follow a link to its end; False looks at the link itself.

    Raises:
        PathError: if the system does not say: a folder may not be entered, a name is too long, a link leads to itself.

    Example:
        >>> status_of(Path("nowhere", "at", "all")) is None
        True
    """
    try:
        return os.stat(path, follow_symlinks=links)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # a NUL
        raise PathError(f"{shown(path)}: no path holds this character; correct the path") from None
    except OSError as error:
        raise unreachable(path, error) from None


def lies_there(path: Path) -> bool:
    """Return whether something lies at a path; a text that may be something else, such as a pattern, raises nothing."""
    try:
        return status_of(path) is not None
    except PathError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether a folder lies at a path; raises PathError as `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def is_file(path: Path) -> bool:
    """Return whether a regular file lies at a path, no pipe and no device; raises PathError as `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder.

    Raises:
        PathError: if it cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreachable(folder, error) from None


def unreachable(path: Path, error: OSError) -> PathError:
    """Return the error for a path that the system refuses, with what to do.

    Args:
        path: the path.
        error: the system's error.
    """
    advice = _ADVICE.get(error.errno or 0, "fix that, or give another path")
    return PathError(f"{shown(path)}: cannot be reached ({error.strerror}); {advice}")


def shown(path: str | Path) -> str:
    """Return a path that a sentence can hold: printable, and cut if it is long."""
    text = printable(str(path))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def printable(name: str) -> str:
    """Return a file name that can be written as UTF-8: odd bytes as \\xNN, half characters as \\uNNNN.

    Args:
        name: as the system, or JSON, spells it.

    Example:
        >>> printable("caf\\udce9")
        'caf\\\\xe9'
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a half that no byte of a file name stands for
        return name.encode("utf-8", "backslashreplace").decode()
