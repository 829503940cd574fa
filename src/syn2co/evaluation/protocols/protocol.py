"""The one contract of every protocol: features and labels in, one value per test image out.

Axes: N training images, M test images, D features. A new protocol is one file with a function of this shape and one
line in `PROTOCOLS` (evaluation/evaluate.py); hashes, intervals, baselines and pairing follow by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Input of a protocol: frozen features and labels 0..classes-1, every class present in the training images."""

    train: Float[Tensor, "N D"]
    train_labels: Int64[Tensor, " N"]
    test: Float[Tensor, "M D"]
    test_labels: Int64[Tensor, " M"]
    classes: int


@dataclass(frozen=True)
class ProtocolResult:
    """Output of a protocol.

    Attributes: `values`, one number per test image whose mean is the score (for top-1, 1 if right, else 0);
    `definition`, what fixes the protocol whatever the data (it is hashed); `setting`, the few words that a table shows;
    `details`, what was measured or chosen beside; `notes`, whole sentences for the reader.
    """

    values: Float[Tensor, " M"]
    definition: dict[str, Any]
    setting: str
    metric: str = "top-1"
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Protocol = Callable[[Features, int, torch.device], ProtocolResult]
"""(features, seed, device) -> outcome. Called on every rank with equal arguments; it must not talk to other ranks."""
