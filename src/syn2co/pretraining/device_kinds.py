"""Kinds of GPU, by the vendors' data sheets."""

import re
from typing import NamedTuple

import torch


class DeviceKind(NamedTuple):
    """Data sheet of a device: dense products in TFLOP/s, and memory in GB."""

    bfloat16: float | None
    """None where products of bfloat16 are only emulated, at the rate of float32."""
    float32: float
    float64: float
    memory: float


KINDS = {
    "t4": DeviceKind(None, 8.1, 0.25, 16),
    "v100": DeviceKind(None, 15.7, 7.8, 32),
    "rtx3090": DeviceKind(71, 35.6, 0.56, 24),
    "rtx4090": DeviceKind(165, 82.6, 1.3, 24),
    "l4": DeviceKind(121, 30.3, 0.47, 24),
    "l40s": DeviceKind(362, 91.6, 1.4, 48),
    "a10": DeviceKind(125, 31.2, 0.49, 24),
    "a100": DeviceKind(312, 19.5, 9.7, 80),
    "h100": DeviceKind(989, 67, 34, 80),
    "h200": DeviceKind(989, 67, 34, 141),
}
"""By the vendors' data sheets, without sparsity."""
_SAME_MEMORY = 0.15
"""Most that the memory of a GPU, counted in 2^30 by its name and less what its driver takes, differs from the sheet."""


def kind_of(device: torch.device) -> str | None:
    """Return the kind of a GPU by its name and memory; None for a CPU, and for GPUs that are none of `KINDS`."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    words = re.split(r"[^a-z0-9]+", properties.name.lower())
    names = {*words, *(one + two for one, two in zip(words, words[1:], strict=False))}  # RTX 4090 is two words
    kinds = (kind for kind, sheet in KINDS.items() if kind in names and _as_large(properties.total_memory, sheet))
    return next(kinds, None)


def _as_large(memory: int, sheet: DeviceKind) -> bool:
    return abs(memory / (1e9 * sheet.memory) - 1) < _SAME_MEMORY
