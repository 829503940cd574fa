"""Files of weights that others wrote: read without running code, their layout recognized by its keys.

Known layouts, as the authors' code saves them; the names behind the prefix are timm's:

    MoBY     "model":      encoder.*, encoder_k.*, projector.*, ...             arXiv:2105.04553
    MoCo v3  "state_dict": module.base_encoder.*, module.momentum_encoder.*     arXiv:2104.02057
    DINO     "teacher":    backbone.*, head.*; "student": module.backbone.*     arXiv:2104.14294
    timm     the names alone, or below "model", "state_dict"
"""

import argparse
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syn2co.core.errors import CheckpointError
from syn2co.core.hints import first_names
from syn2co.core.paths import is_file
from syn2co.images.resize import Interpolation

CONTAINERS = ("teacher", "student", "model", "state_dict")
KNOWN = "timm's own names, MoBY (encoder.*), MoCo v3 (base_encoder.*) and DINO (teacher, student)"


@dataclass(frozen=True)
class Layout:
    """Layout of a file: the parts that tell it, and the evaluation transform of its authors (None: timm's)."""

    name: str
    prefix: str = ""
    """Part of the encoder that its authors evaluate."""
    also: str = ""
    """Part that must be there too."""
    interpolation: Interpolation | None = None


LAYOUTS = (
    Layout("MoCo v3", "base_encoder.", interpolation="bilinear"),
    Layout("MoBY", "encoder.", also="encoder_k.", interpolation="bicubic"),
    Layout("DINO", "backbone.", interpolation="bicubic"),
    Layout("timm"),
)


@dataclass(frozen=True)
class WeightFile:
    """Tensors of the encoder in a file, by timm's names, and the parts of the file that are left out."""

    layout: Layout
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]


def read_weight_file(path: Path, *, trust: bool = False) -> WeightFile:
    """Return the tensors of the encoder in a file.

    Of DINO the teacher is read, of MoBY and MoCo v3 the online encoder.

    Args:
        path: a safetensors file, or one of torch.save.
        trust: also read files of torch.save, which are pickles; of these, tensors and plain values alone are read.

    Raises:
        CheckpointError: if the file is missing, damaged or a pickle without `trust`, or its layout is unknown.
    """
    if not is_file(path):
        raise CheckpointError(f"{path}: is no file; give a run folder, an export, a file of weights or timm:NAME")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, trust)
    container, tensors = _tensors(content)
    if not tensors:
        raise CheckpointError(
            f"{path.name}: is of no known layout, it holds {first_names(content) or 'nothing'}; known are {KNOWN}, so "
            "save its weights alone, by timm's names"
        )
    layout = _layout(tensors)
    weights = {name.removeprefix(layout.prefix): t for name, t in tensors.items() if name.startswith(layout.prefix)}
    _check_finite(weights, path.name)
    others = {name.partition(".")[0] for name in tensors if not name.startswith(layout.prefix)}
    others |= {str(key) for key in content if key != container} if container else set()
    return WeightFile(layout, weights, tuple(sorted(others)))


def is_plain_safetensors(path: Path) -> bool:
    """Return whether a file is a readable safetensors file without a state of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "state" not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error}); fetch it again") from None


def _read_pickle(path: Path, trust: bool) -> Mapping[str, Any]:
    if not trust:
        raise CheckpointError(
            f"{path.name}: is not a safetensors file, and a pickle may run code when it is read; export it once with "
            f"`syn2co export timm:NAME:{path.name} --trust`, which reads its tensors and plain values alone, or give "
            "`syn2co pretrain` --trust (in Python trust=True)"
        )
    # DINO's files hold the arguments of its command beside the weights.
    allowed = getattr(torch.serialization, "safe_globals", None)
    try:
        with allowed([argparse.Namespace]) if allowed else contextlib.nullcontext():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each have errors of their own
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path.name}: cannot be read as weights alone ({first}); save only its weights, as a .safetensors file"
        ) from None
    return content if isinstance(content, Mapping) else {type(content).__name__: content}


def _tensors(content: Mapping[str, Any]) -> tuple[str | None, dict[str, Tensor]]:
    """Return the part of a file that holds tensors by name, and its key; None for the file itself."""
    for key in CONTAINERS:
        tensors = _named_tensors(content.get(key))
        if tensors:
            return key, tensors
    return None, _named_tensors(content)


def _named_tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    tensors = {str(name): tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}  # of DistributedDataParallel


def _layout(tensors: Mapping[str, Tensor]) -> Layout:
    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in tensors)

    return next(layout for layout in LAYOUTS if has(layout.prefix) and has(layout.also))


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{what}: tensor '{name}' holds NaN or infinity; give an earlier checkpoint")
