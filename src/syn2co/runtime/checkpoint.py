"""Checkpoints that cannot be lost: one file each, tensors and JSON, nothing pickled, written whole or not at all.

A checkpoint is a safetensors file whose metadata holds the state as JSON and a checksum of state and tensors. It is
written to a temporary file in the same folder, flushed to disk and renamed; the last ones are kept; the newest that
verifies is the one that counts.
"""

import errno
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syn2co.core.errors import CheckpointError
from syn2co.core.files import atomic_file, remove
from syn2co.core.versions import __version__

FOLDER = "checkpoints"
FORMAT = 1
_OWN = re.compile(r"step-\d{9}\.(safetensors|tmp)|\.tmp.*")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors and the JSON state of one checkpoint file."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    run: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write the checkpoint of `step` and delete all but it and the `keep` - 1 before it; return its path.

    A file of a later step is damaged, else the run would have resumed from it; it is deleted too, as are the
    temporary files of saves that were killed.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; earlier checkpoints stay as they are.
    """
    from safetensors.torch import save_file

    folder = run / FOLDER
    path = folder / f"step-{step:09d}.safetensors"
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, "step": step, **state})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, temporary=path.with_suffix(".tmp")) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(on_cpu, temporary, metadata={"state": text, "crc32": str(_checksum(on_cpu, text))})
            temporary.chmod(mode)  # safetensors leaves a file that nobody else may read, whatever the umask
    except Exception as error:  # safetensors wraps the system's error in its own class
        raise CheckpointError(_save_failure(path, error)) from None
    kept = [old for old in _newest_first(run) if old <= path][:keep]
    for old in {file for file in folder.iterdir() if _OWN.fullmatch(file.name)}.difference(kept):
        remove(old)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file, or the newest valid one of a run folder.

    Raises:
        CheckpointError: if there is none, or the file is damaged.
    """
    if path.is_dir():
        newest = newest_checkpoint(path)
        if newest is None:
            raise CheckpointError(f"{path.name}: has no checkpoint yet; give a run folder of `syn2co pretrain`")
        return newest
    if not path.exists():
        raise CheckpointError(f"{path}: does not exist; give a run folder or a checkpoint file (.safetensors)")
    checkpoint = _read(path)
    if checkpoint is None:
        raise CheckpointError(f"{path.name}: is damaged or not a checkpoint of syn2co; give an earlier one")
    return checkpoint


def is_checkpoint(path: Path) -> bool:
    """Return whether a file says that it is a checkpoint of ours, damaged or not."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "state" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def newest_checkpoint(run: Path, *, damaged: list[Path] | None = None) -> Checkpoint | None:
    """Return the newest checkpoint of a run folder that verifies, or None; name the ones that do not in `damaged`.

    Raises:
        CheckpointError: if there are checkpoints and none of them verifies.
    """
    paths = list(_newest_first(run))
    for path in paths:
        checkpoint = _read(path)
        if checkpoint is not None:
            return checkpoint
        if damaged is not None:
            damaged.append(path)
    if paths:
        raise CheckpointError(
            f"{run.name}: none of its checkpoints ({len(paths)}) is intact; start again in a new folder"
        )
    return None


def _newest_first(run: Path) -> Iterator[Path]:
    paths = (run / FOLDER).glob("step-*.safetensors")
    yield from sorted((path for path in paths if _OWN.fullmatch(path.name)), reverse=True)


def _read(path: Path) -> Checkpoint | None:
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as raw:  # what cannot be read now is not damaged, and must not be passed over
            raw.read(1)
    except OSError as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error.strerror}); fix that and try again") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        state = json.loads(metadata["state"])
        intact = int(metadata["crc32"]) == _checksum(tensors, metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    if intact and state.get("format") != FORMAT:
        writer = state.get("machine", {}).get("syn2co", "of another layout")
        raise CheckpointError(
            f"{path.name}: was written by syn2co {writer} in checkpoint format {state.get('format')}, and this version "
            f"({__version__}) reads format {FORMAT}; use that version, or start a new run"
        )
    return Checkpoint(path, tensors, state) if intact else None


def _checksum(tensors: Mapping[str, Tensor], text: str) -> int:
    value = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        data = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
        value = zlib.crc32(data, zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value))
    return value


def _save_failure(path: Path, error: Exception) -> str:
    text = str(error)
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "os error 28" in text
    reason = "no space is left on the device; free some and run the same command again" if full else text
    return f"{path.name}: the checkpoint could not be saved ({reason}); the earlier checkpoints are intact"
