"""Batch normalization over the global batch of all ranks, on every device.

`nn.SyncBatchNorm` raises on CPU once a process group exists; this one needs only a differentiable sum over ranks.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from syn2co.core.errors import ConfigError
from syn2co.runtime.distributed import active, all_reduce_sum


class SyncBatchNorm(_BatchNorm):
    """`BatchNorm1d`/`BatchNorm2d` of the global batch: the same output, gradient and running statistics on any ranks.

    mean = sum_r sum_i x / N, var = sum_r sum_i (x - mean)^2 / N in two passes; the running variance is unbiased over
    the global count. Input [n, C] or [n, C, ...], at least float32 inside whatever the autocast dtype.

    Raises:
        ConfigError: in training, if the global batch has a single value per channel.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2, f"expected [n, C, ...], got {tuple(input.shape)}"

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            values = input if input.dtype == torch.float64 else input.float()
            if not (self.training and active()):
                return super().forward(values)
            return self._global(values)

    def _global(self, values: Tensor) -> Tensor:
        axes = [0, *range(2, values.dim())]
        shape = [1, -1] + [1] * (values.dim() - 2)
        rows = values.new_full((1,), values.numel() / values.shape[1])  # rides along: ranks may hold unequal rows
        sums = all_reduce_sum(torch.cat([values.sum(axes), rows]))
        count = sums[-1].detach()
        if values.numel() < 2 * values.shape[1] and count < 2:  # the host's numbers first: a GPU's would be waited for
            raise ConfigError("training.batch = 1: batch normalization needs at least 2 images; enlarge the batch")
        mean = sums[:-1] / count
        centered = values - mean.view(shape)  # a second pass: E[x^2] - E[x]^2 would cancel where the mean is large
        variance = all_reduce_sum(centered.square().sum(axes)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        out = centered * torch.rsqrt(variance + self.eps).view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape) if self.affine else out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


class _SyncBatchNormAct(SyncBatchNorm):
    """timm's batch norm with an activation, over the global batch."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether any part of `module` normalizes over the batch."""
    return any(isinstance(part, _BatchNorm) for part in module.modules())


def synchronize(module: nn.Module) -> None:
    """Replace batch norms in `module` by `SyncBatchNorm` holding the same parameters and buffers, in place.

    Raises:
        ConfigError: on a batch norm that is neither torch's nor timm's usual one.
    """
    from timm.layers.norm_act import BatchNormAct2d

    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d):
            assert isinstance(child, _BatchNorm)
            kind = _SyncBatchNormAct if isinstance(child, BatchNormAct2d) else SyncBatchNorm
            ours = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            for part, layer in child.named_children():  # drop and act of timm's
                ours.add_module(part, layer)
            ours.load_state_dict(child.state_dict())
            setattr(module, name, ours)
        elif isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            raise ConfigError(
                f"encoder: its layer '{name}' is a {type(child).__name__}, which cannot be synchronized over ranks; "
                "choose an encoder without batch normalization, such as a vision transformer"
            )
        else:
            synchronize(child)
