"""From the name of a source to the source: folders, tar files and patterns of them, URLs, schemes such as builtin:."""

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from syn2co.core.errors import DataError
from syn2co.core.hints import nearest
from syn2co.core.paths import is_file, is_folder, lies_there, names_in, shown, status_of, user_path
from syn2co.core.urls import is_url, without_secrets
from syn2co.data.patterns import expand_braces
from syn2co.data.remote_source import check_url, open_remote
from syn2co.images.source import Source

Progress = Callable[[str, int, int], None]
SCHEMES = ("builtin", "hf", "procedural", "torchvision")


def split_bits(spec: str | Path) -> tuple[str | Path, int]:
    """Return a source without its range, and the bits of the values in its 16-bit files.

    Raises:
        DataError: if they are not 9 to 16, or the source has no files.

    Example:
        >>> split_bits("12bit:scans/"), split_bits("photos/")
        (('scans/', 12), ('photos/', 16))
    """
    match = re.fullmatch(r"(\d+)bit:(.+)", str(spec), re.DOTALL)
    if match is None:
        return spec, 16
    if not 9 <= int(match[1]) <= 16:
        raise DataError(f"{spec}: 16-bit files hold values of 9 to 16 bits; name one of these, as in 12bit:{match[2]}.")
    if match[2].startswith(("builtin:", "procedural:", "torchvision:")):
        raise DataError(f"{spec}: {match[1]}bit: is of files, and this source hands over pixels; leave it out.")
    return match[2], int(match[1])


def open_source(spec: str | Path, *, cache_dir: Path, report: Progress | None = None) -> Source:
    """Return the source that `spec` names.

    Raises:
        DataError: if it is missing, unreadable, empty or of an unknown scheme.
    """
    spec = without_secrets(str(spec))
    if is_url(spec):
        return open_remote(spec, cache_dir=cache_dir, report=report)
    scheme, colon, rest = str(spec).partition(":")
    if colon and scheme in SCHEMES:
        return _open_scheme(scheme, rest, cache_dir)
    paths = look_up(spec)
    if is_folder(paths[0]):
        return _open_folder(paths[0], cache_dir, report)
    from syn2co.images.sources.tar import open_tars

    return open_tars(paths, cache_dir=cache_dir, report=report)


def look_up(spec: str | Path) -> list[Path]:
    """Return the folder or the tar files that a source names, none of a scheme or a URL; nothing is opened.

    Raises:
        DataError: if nothing lies there, or something that is no source.
    """
    text = without_secrets(str(spec))
    if not text.strip():
        raise DataError(
            f"source = {text!r}: is empty, as an unset variable of the shell is; name a folder or a tar file."
        )
    if is_url(text):
        check_url(text)
        return []
    scheme, colon, _ = text.partition(":")
    if colon and scheme in SCHEMES:
        return []
    path = user_path(text)
    tars = [path]
    if any(mark in text for mark in "*?[{") and not lies_there(path):
        tars = _expand(str(path))
    elif is_folder(path):
        return [path]
    elif status_of(path) is None:
        raise DataError(
            _unknown_scheme(text, scheme) if colon and re.fullmatch(r"[A-Za-z]\w+", scheme) else _missing(path)
        )
    _refuse_other_files(tars)
    return tars


def _open_folder(path: Path, cache_dir: Path, report: Progress | None) -> Source:
    """Return a folder, which may be a synthetic data set, as a source."""
    from syn2co.data.stored_set import is_stored_set, open_stored_set

    if is_stored_set(path):
        return open_stored_set(path, cache_dir=cache_dir, report=report)
    from syn2co.images.sources.folder import open_folder

    return open_folder(path, cache_dir=cache_dir, report=report)


def _open_scheme(scheme: str, rest: str, cache_dir: Path) -> Source:
    """Return a source that is not a path."""
    folder, slash, last = rest.rpartition("/")
    name, _, split = last.partition(":")
    name = folder + slash + name
    if scheme == "builtin":
        from syn2co.images.sources.builtin import open_builtin

        return open_builtin(name, split or "train")
    if scheme == "procedural":
        from syn2co.data.on_the_fly import open_procedural

        return open_procedural(rest)
    if scheme == "torchvision":
        from syn2co.images.sources.torchvision import open_torchvision

        return open_torchvision(name, split or "train", cache_dir=cache_dir)
    from syn2co.images.sources.huggingface import open_hf

    return open_hf(name, split or "train")


def _unknown_scheme(text: str, scheme: str) -> str:
    """Return the message for `scheme:...` that we do not know."""
    known = [f"{name}:" for name in SCHEMES]
    hint = nearest(f"{scheme}:", known) or "; correct it or give a path."
    return f"{text}: {scheme}: is not a kind of image source; known are {', '.join(known)}{hint}"


def _missing(path: Path) -> str:
    """Return the message for a path that does not exist, with its nearest neighbor."""
    parent = path.parent
    if status_of(path, links=False) is not None:
        return f"{path}: this is a link to nothing; correct the link."
    if not is_folder(parent):
        return f"{path}: there is no such folder or tar file, and no {parent} either; correct the path."
    hint = nearest(path.name, names_in(parent), separator="/") or "; correct the path."
    return f"{path}: there is no such folder or tar file{hint}"


def _expand(pattern: str) -> list[Path]:
    """Return the files that a pattern with braces and wildcards names, in the order of braces, then of names.

    Marks in the name of a folder that exists under it ("set [v2]") are no pattern.
    """
    folder = next((parent for parent in Path(pattern).parents if is_folder(parent)), Path())
    names_in(folder)  # glob takes a folder that cannot be listed for an empty one
    paths: list[Path] = []
    for part in expand_braces(str(Path(pattern).relative_to(folder))):
        matches = sorted(folder / match for match in glob.glob(part, root_dir=folder, recursive=True))
        if not matches:
            raise DataError(f"{shown(folder / part)}: no file matches; correct the pattern {shown(pattern)!r}.")
        paths.extend(matches)
    return paths


def _refuse_other_files(paths: Sequence[Path]) -> None:
    """Refuse files that are no tar by name, and what is no file."""
    for path in paths:
        if is_folder(path):
            raise DataError(
                f"{path}: this is a folder, and a pattern names tar files; name the folders one by one, or leave out "
                "the quotes of the pattern."
            )
        if not is_file(path):
            raise DataError(
                f"{path}: an image source must be a folder or a .tar file, and this is a pipe, a socket or a device; "
                "correct it."
            )
        if not re.search(r"\.(tar|tgz|tbz2?|txz)(\.\w+)?$", path.name.lower()):
            advice = {".zip": "unpack it and give the folder", ".parquet": f"name it hf:{path}"}
            raise DataError(
                f"{path}: an image source must be a folder or a .tar file, and this is another file; "
                f"{advice.get(path.suffix.lower(), 'give the folder it lies in, or make a tar')}."
            )
