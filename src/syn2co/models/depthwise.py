"""Depthwise 3x3 convolutions of maps smaller than their kernel, whose weight gradient oneDNN is slow in."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input, conv2d_weight

KERNEL = 3


class _PaddedGradient(torch.autograd.Function):
    """The convolution; both maps are padded with zeros to the kernel's size for the weight gradient, nothing else."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return conv2d(maps, weight, bias, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        (maps, weight), (gradient,) = ctx.saved_tensors, outputs
        of_maps, _, of_bias = ctx.needs_input_grad
        missing = (0, max(0, KERNEL - maps.shape[3]), 0, max(0, KERNEL - maps.shape[2]))
        return (
            conv2d_input(maps.shape, weight, gradient, padding=1, groups=len(weight)) if of_maps else None,
            conv2d_weight(pad(maps, missing), weight.shape, pad(gradient, missing), padding=1, groups=len(weight)),
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


class _DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` that in training under autocast pads small maps for the weight gradient."""

    def forward(self, input: Tensor) -> Tensor:
        small = min(input.shape[-2:]) < KERNEL
        if not (small and self.training and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        bias = None if self.bias is None else self.bias.to(dtype)
        return _PaddedGradient.apply(input.to(dtype), self.weight.to(dtype), bias)


def use_padded_depthwise(module: nn.Module) -> None:
    """Let the depthwise 3x3 convolutions of stride 1 in `module` pad small maps for their weight gradient, in place.

    The gradients of 256 maps of 2 x 2 with 1,024 channels take oneDNN 89 ms in bfloat16 on one thread, and 4 with
    padding. The weight's is a sum in another order; the output and the other gradients keep their bits.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and 1 < layer.groups == layer.in_channels == layer.out_channels:
            shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode)
            if shape == ((KERNEL, KERNEL), (1, 1), (1, 1), (1, 1), "zeros"):
                layer.__class__ = _DepthwiseConv2d


def use_plain_depthwise(module: nn.Module) -> None:
    """Undo `use_padded_depthwise`, in place: a run from before it ends bit for bit as it began."""
    for layer in module.modules():
        if type(layer) is _DepthwiseConv2d:
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
