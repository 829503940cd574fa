"""Exponential moving average: the target branch follows the online branch."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def ema_update(target: Iterable[Tensor], online: Iterable[Tensor], momentum: float | int) -> None:
    """Move every target parameter in place: target <- momentum * target + (1 - momentum) * online.

    Buffers are not averaged (the target's BN statistics follow its own forward passes).

    Args:
        target: parameters that are changed.
        online: parameters of the same shapes, in the same order.
        momentum: share of the target that stays, from 0 to 1: `ema_momentum` of the step.

    Source: MoCo, arXiv:1911.05722, Eq. 2.

    Example:
        >>> target, online = torch.zeros(2), torch.ones(2)
        >>> ema_update([target], [online], 0.75)
        >>> target
        tensor([0.2500, 0.2500])
    """
    targets, onlines = list(target), list(online)
    assert [t.shape for t in targets] == [o.shape for o in onlines], "target and online parameters must correspond"
    if targets:  # one kernel for all parameters; the weight of a lerp is that of its end, the online branch
        torch._foreach_lerp_(targets, onlines, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
