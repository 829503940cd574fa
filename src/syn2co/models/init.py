"""Initial weights: MoCo v3's for vision transformers."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from syn2co.core.errors import ConfigError


def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "N d"]:
    """Return fixed 2-D sine-cosine position embeddings, one row per patch, row-major over the grid.

    omega_i = 10000^-(i / (d/4)); the columns are sin(x w), cos(x w), sin(y w), cos(y w). Source: MoCo v3,
    arXiv:2104.02057. Raises ConfigError if `width` is not a multiple of 4.
    """
    if width % 4:
        raise ConfigError(f"encoder: sine-cosine positions need a width that is a multiple of 4, not {width}")
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    x = columns.flatten()[:, None] * omega
    y = rows.flatten()[:, None] * omega
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1).float()


@torch.no_grad()
def _init_like_moco_v3(vit: Any) -> None:
    """Give a timm ViT the weights and frozen positions of MoCo v3's (arXiv:2104.02057), in place.

    The patch projection is trained, as in the SynCo-v2 code; MoCo v3 itself also offers to freeze it.
    """
    if not (hasattr(vit, "patch_embed") and hasattr(vit, "cls_token") and hasattr(vit, "pos_embed")):
        raise ConfigError("encoder.init = moco_v3: only a timm vision transformer with a class token can be so started")
    for name, layer in vit.named_modules():
        if isinstance(layer, nn.Linear):
            # timm keeps q, k and v in one matrix; Xavier's bound is that of each of the three.
            fan = layer.out_features // 3 if name.endswith("qkv") else layer.out_features
            bound = math.sqrt(6 / (fan + layer.in_features))
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    patch = vit.patch_embed.proj
    bound = math.sqrt(6 / (patch.weight[0].numel() + patch.out_channels))
    nn.init.uniform_(patch.weight, -bound, bound)
    nn.init.zeros_(patch.bias)
    nn.init.normal_(vit.cls_token, std=1e-6)
    # The class token has no place on the grid: its position is zero.
    positions = sincos_positions(vit.patch_embed.grid_size, vit.embed_dim)
    vit.pos_embed.copy_(torch.cat([torch.zeros(1, vit.embed_dim), positions])[None])
    vit.pos_embed.requires_grad_(False)
