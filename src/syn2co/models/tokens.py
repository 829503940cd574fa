"""Patch tokens of an encoder: what it knows of each place of an image, before anything is pooled.

Axes: B images, S side of an image in pixels, h w grid of places, T = h w tokens, P class and other prefix tokens, D
width of a token.
"""

from math import isqrt, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from syn2co.core.errors import EvaluationError

Grid = tuple[int, int]


def encoder_tokens(encoder: nn.Module, inputs: Float[Tensor, "B 3 S S"]) -> tuple[Float[Tensor, "B T D"], Grid]:
    """Return the patch tokens of preprocessed images, row after row, and the grid (h, w) that they lie on.

    They are timm's `forward_features`: after the last block and, where the network has one before pooling, its last
    norm. Class, register and distillation tokens are left out. Networks with a spatial map (Swin, PVT, ConvNeXt) give
    its places. Differentiable in `inputs` and weights.

    Args:
        encoder: an `Encoder`; the mode that it is in (train or eval) counts.
        inputs: images as `encoder.preprocess` returns them.

    Returns:
        Tokens and grid. D need not be the width of the pooled features (MobileNetV3).

    Raises:
        EvaluationError: if the encoder has no patch tokens, or they lie on no grid.

    Example:
        >>> import torch
        >>> from syn2co.models.encoder import build_encoder
        >>> from syn2co.models.settings import EncoderSettings
        >>> vit = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
        >>> encoder = build_encoder(EncoderSettings(name="vit_tiny_patch16_224", options=vit, size=32), seed=0)
        >>> tokens, grid = encoder_tokens(encoder, encoder.preprocess(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)))
        >>> tokens.shape, grid
        (torch.Size([2, 16, 24]), (4, 4))
    """
    backbone: Any = getattr(encoder, "backbone", None)
    if not hasattr(backbone, "forward_features"):
        raise EvaluationError(_none(encoder, "it has no feature map"))
    output = backbone.forward_features(inputs)
    if isinstance(output, Tensor) and output.ndim == 4:
        return _flatten(output, channels_last=_channels_last(backbone, output))
    if isinstance(output, Tensor) and output.ndim == 3:
        return _without_prefix(encoder, output)
    raise EvaluationError(_none(encoder, "its features before pooling are neither tokens nor a map"))


def _none(encoder: nn.Module, why: str) -> str:
    spec = getattr(encoder, "spec", None)
    name = type(encoder).__name__ if spec is None else spec.name
    return f"{name}: an encoder without patch tokens ({why}); ask for pooled features, or take a ViT or a Swin"


def _channels_last(backbone: Any, features: Float[Tensor, "B _ _ _"]) -> bool:
    """Return whether the map is [B, h, w, D]: by its shape, and where that leaves both open by the network's word."""
    first, last = (features.shape[axis] == backbone.num_features for axis in (1, 3))
    return last if first != last else getattr(backbone, "output_fmt", "NCHW") == "NHWC"


def _flatten(features: Float[Tensor, "B _ _ _"], *, channels_last: bool) -> tuple[Float[Tensor, "B T D"], Grid]:
    """Return the places of a map row after row."""
    maps = features if channels_last else features.permute(0, 2, 3, 1)
    return maps.flatten(1, 2), (maps.shape[1], maps.shape[2])


def _without_prefix(encoder: nn.Module, tokens: Float[Tensor, "B P+T D"]) -> tuple[Float[Tensor, "B T D"], Grid]:
    backbone: Any = encoder.backbone
    prefix = getattr(backbone, "num_prefix_tokens", None)
    if prefix is None:  # CaiT, XCiT and others: their one class token comes first
        prefix = 1 if isinstance(getattr(backbone, "cls_token", None), Tensor) else 0
    count = tokens.shape[1] - prefix
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if grid is None or prod(grid) != count:
        grid = (isqrt(max(0, count)),) * 2
    if count < 1 or prod(grid) != count:
        raise EvaluationError(_none(encoder, f"{tokens.shape[1]} tokens, {prefix} of them prefix, are no square grid"))
    return tokens[:, prefix:], (int(grid[0]), int(grid[1]))


@torch.no_grad()
def token_grid(encoder: nn.Module) -> tuple[int, Grid]:
    """Return the width D of the patch tokens of an `Encoder` and the grid (h, w) of its own image size.

    A blank image goes through it once, in eval mode, on the device where it is; then it is put back as it was.

    Raises:
        EvaluationError: if the encoder has no patch tokens, or they lie on no grid.
    """
    call: Any = encoder
    modes = [(module, module.training) for module in encoder.modules()]
    try:
        blank = torch.zeros(1, call.image_size, call.image_size, 3, dtype=torch.uint8)
        tokens, grid = encoder_tokens(encoder.eval(), call.preprocess(blank))
    finally:
        for module, mode in modes:
            module.training = mode
    return tokens.shape[2], grid
