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
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from syn2co.core.errors import CheckpointError
from syn2co.core.files import atomic_file, best_effort, remove
from syn2co.core.json_files import check_shape, parse_json, refuse_special
from syn2co.core.paths import is_folder, status_of
from syn2co.core.settings import Count
from syn2co.core.versions import __version__

FOLDER = "checkpoints"
FORMAT = 1
Step = Annotated[int, Field(ge=0, lt=10**9)]
"""Number of an optimizer step; the name of a checkpoint has nine digits."""
_OWN = re.compile(r"step-\d{9}\.(safetensors|tmp)|\.tmp.*|\.step-\d{9}\..+\.tmp")


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
    on_cpu = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    text = json.dumps({"format": FORMAT, "step": step, **state})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            mode = temporary.stat().st_mode
            metadata = {"state": text, "crc32": str(_checksum(on_cpu, text))}
            save_file(on_cpu, temporary, metadata=metadata)
            _order_metadata(temporary, metadata)
            with best_effort("permissions of checkpoints cannot be set on this disk"):
                temporary.chmod(mode)  # safetensors leaves a file that nobody else may read, whatever the umask
    except Exception as error:  # safetensors wraps the system's error in its own class
        raise CheckpointError(_save_failure(path, error)) from None
    kept = [old for old in _newest_first(run) if old <= path][:keep]
    for old in {file for file in folder.iterdir() if _OWN.fullmatch(file.name)}.difference(kept):
        remove(old)
    return path


def _order_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Give the header's metadata their order: safetensors writes them in that of a hash map, each time another."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = metadata
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(text) == size:  # always, as long as safetensors writes its JSON compactly
            file.seek(8)
            file.write(text)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without shared memory, as weights with two names have it: safetensors refuses that."""
    taken: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    return apart


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file, or the newest valid one of a run folder.

    Raises:
        CheckpointError: if there is none, or the file is damaged.
    """
    if is_folder(path):
        newest = newest_checkpoint(path)
        if newest is None:
            raise CheckpointError(f"{path.name}: has no checkpoint yet; give a run folder of `syn2co pretrain`")
        return newest
    if status_of(path) is None:
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
        refuse_special(path)
        with open(path, "rb") as raw:  # what cannot be read now is not damaged, and must not be passed over
            raw.read(1)
    except OSError as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error.strerror}); fix that and try again") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        state = parse_json(metadata["state"], _Versioned)
        if int(metadata["crc32"]) != _checksum(tensors, metadata["state"]):
            return None
        if state["format"] == FORMAT:
            return Checkpoint(path, tensors, check_shape(state, _State))
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    writer = state.get("machine", {}).get("syn2co", "of another layout")
    raise CheckpointError(
        f"{path.name}: was written by syn2co {writer} in checkpoint format {state['format']}, and this version "
        f"({__version__}) reads format {FORMAT}; use that version, or start a new run"
    )


class _Versioned(BaseModel):
    """State of any format."""

    format: int
    machine: dict[str, Any] = {}


class _Sources(BaseModel):
    real: list[str] = []
    synthetic: list[str] = []


class _Config(BaseModel):
    data: _Sources = _Sources()


class _Init(BaseModel):
    source: str = ""
    layout: str = ""
    hash: str = ""
    labels: str = "none"


class _Mix(BaseModel):
    labels: str = "none"
    generators: list[str] = []
    licenses: dict[str, list[str]] = {}
    switch_step: Count = 0


class _State(BaseModel):
    """State as far as anything reads it: of a run, or of a flow's training ("settings", "fingerprint").

    The checksum tells damage, not forgery: a file from somebody else may hold anything under a right one.
    """

    step: Step
    total_steps: Step = 1
    steps_per_epoch: Step = 1
    seed: int = 0
    images: Count = 0
    recipe: str = ""
    config_hash: str = ""
    data_fingerprint: str = ""
    label_fingerprint: str = ""
    objective: str = ""
    config: _Config = _Config()
    encoder: dict[str, Any] = {}
    averages: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}
    machine: dict[str, str | int] = {}
    init: _Init = _Init()
    mix: _Mix = _Mix()
    settings: dict[str, Any] = {}
    fingerprint: str | None = None


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
    earlier = "the earlier checkpoints are intact" if any(_newest_first(path.parent.parent)) else "there is none yet"
    return f"{path.name}: the checkpoint could not be saved ({reason}); {earlier}"
