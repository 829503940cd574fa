"""State of networks: loaded exactly or not at all, and hashed."""

from collections.abc import Mapping
from hashlib import blake2b

import torch
from torch import Tensor, nn

from syn2co.core.errors import CheckpointError


def load_exactly(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load `tensors` into `module`; every name and shape must match.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{what}: the checkpoint has no tensor '{name}'; it is of another model")
        if name not in expected:
            raise CheckpointError(f"{what}: the checkpoint's tensor '{name}' is unknown to this model")
        if expected[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{what}: tensor '{name}' has shape {list(tensors[name].shape)} in the checkpoint, "
                f"but {list(expected[name].shape)} in this model"
            )
        if expected[name].is_floating_point() != tensors[name].is_floating_point():
            raise CheckpointError(
                f"{what}: tensor '{name}' is of {_kind(tensors[name])} in the checkpoint, but of "
                f"{_kind(expected[name])} in this model"
            )
    module.load_state_dict(tensors)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return 32 hex digits of the names, types, shapes and bytes of tensors, whatever their order."""
    hasher = blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
