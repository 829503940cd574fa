"""The folder of an export: written whole or not at all, never over something that no export wrote."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from syn2co.core.errors import FileError
from syn2co.core.files import remove, why_not_written
from syn2co.core.locks import hold, how_to_free
from syn2co.core.paths import user_path
from syn2co.models.timm_files import CONFIG, OWN, WEIGHTS

README = "README.md"
ONNX = "model.onnx"
_WRITTEN = {OWN, CONFIG, WEIGHTS, README, ONNX, f"{ONNX}.data"}
"""Names of all files that exports write; torch puts the weights of a large ONNX model into a file of their own."""
_HARMLESS = {".DS_Store", "Thumbs.db", "desktop.ini"}


@contextlib.contextmanager
def export_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write to; it takes the place of `out` when the block ends well, else it is deleted.

    The marker `syn2co.json` must be among what is written: an older export is known by it and replaced, unless
    something was put beside its files.

    Raises:
        FileError: if `out` is a file or a folder that holds something else, another export is writing to it, or the
            disk refuses; what was there stays as it is.
    """
    out = user_path(out).resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _only_export_to(out):
            _refuse_others(out)
            with _replacing(out) as temporary:
                yield temporary
    except OSError as error:
        raise FileError(f"--out {out.name}: cannot be written ({why_not_written(error)})") from None


@contextlib.contextmanager
def _only_export_to(out: Path) -> Iterator[None]:
    """Hold the lock of the folder inside the block; whoever holds it deletes it, and nobody else."""
    lock = out.with_name(f".{out.name}.lock")
    with hold(lock, wait=False) as mine:
        if not mine:
            raise FileError(
                f"--out {out.name}: another export is writing to it; wait for it or choose another, or "
                f"{how_to_free(lock)}"
            )
        try:
            yield
        finally:
            remove(lock)


def _refuse_others(out: Path) -> None:
    """Refuse what no export wrote, after the return of an older export that a killed one had moved away."""
    old = _beside(out, "old")
    if old.exists() and not out.exists():
        old.rename(out)
    if out.exists() and not out.is_dir():
        raise FileError(f"--out {out.name}: is a file; choose a folder")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if names and not (out / OWN).is_file():
        raise FileError(f"--out {out.name}: is not empty and holds no export; choose another folder")
    others = sorted(names - _WRITTEN - _HARMLESS)
    if others:
        raise FileError(
            f"--out {out.name}: holds {', '.join(others[:3])}{' and more' if others[3:] else ''} beside an export, and "
            "it would be deleted; move that away or choose another folder"
        )


def _beside(out: Path, kind: str) -> Path:
    return out.with_name(f".{out.name}.{kind}")


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    temporary, old = _beside(out, "tmp"), _beside(out, "old")
    for leftover in (temporary, old):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        if out.exists():
            out.rename(old)  # a folder cannot be renamed over one that is not empty
        temporary.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
