"""Tensors on their way to a device, for which the host does not wait."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PINNED = {"cuda"}
"""Types of devices that copy from page-locked memory while the host goes on."""


def to_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Return a tensor of the host on a device; on a GPU the host does not wait for the copy, nor for the work before.

    Args:
        tensor: on the CPU, in memory of any kind; it must not be written to afterwards.
        device: where it is wanted.

    Example:
        >>> import torch
        >>> to_device(torch.arange(3), torch.device("cpu"))
        tensor([0, 1, 2])
    """
    if device.type not in PINNED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
