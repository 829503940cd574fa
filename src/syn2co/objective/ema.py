"""The target branch follows the online branch."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def ema_update(target: Iterable[Tensor], online: Iterable[Tensor], momentum: float | int) -> None:
    """Move every target parameter in place: target <- momentum * target + (1 - momentum) * online.

    Parameters in the same order; buffers are not averaged (the target's BN statistics follow its own forward passes).
    Source: MoCo, arXiv:1911.05722, Eq. 2.
    """
    targets, onlines = list(target), list(online)
    assert [t.shape for t in targets] == [o.shape for o in onlines], "target and online parameters must correspond"
    if targets:
        torch._foreach_lerp_(targets, onlines, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
