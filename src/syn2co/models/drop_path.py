"""Stochastic depth whose draws are keyed by (seed, epoch, image index, view, layer) instead of ambient state.

Axes: L drop-path layers, B images in the call.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError


class KeyedDropPath(nn.Module):
    """Drop a residual branch for whole images with probability `rate` and scale the rest by 1 / (1 - rate).

    Source: Huang et al., arXiv:1603.09382. Differs from timm's `DropPath` in the draws alone: the caller sets
    `uniforms` (shape [B]) before each forward pass, and the rows of one image share its draw. Identity in eval mode and
    at rate 0.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniforms: Tensor | None = None

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        assert self.uniforms is not None, "set_drop_path must run before a forward pass in train mode"
        rows, rest = divmod(branch.shape[0], self.uniforms.shape[0])  # MobileViT and TNT: one per patch of an image
        assert rows > 0 and rest == 0, "the branch does not keep the rows of an image together"
        keep = (self.uniforms.repeat_interleave(rows) >= self.rate).to(branch.dtype) / (1 - self.rate)
        return branch * keep.view(-1, *[1] * (branch.dim() - 1))


def use_keyed_drop_path(module: nn.Module) -> list[KeyedDropPath]:
    """Replace timm's `DropPath` layers in `module` by keyed ones, in place, and return those that can drop."""
    from timm.layers.drop import DropPath

    layers: list[KeyedDropPath] = []
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, DropPath):
                setattr(parent, name, KeyedDropPath(float(child.drop_prob or 0.0)))
    for layer in module.modules():
        if isinstance(layer, KeyedDropPath) and layer.rate > 0:
            layers.append(layer)
    return layers


def refuse_dropout(module: nn.Module) -> None:
    """Refuse every other kind of dropout in `module`: it would draw from ambient state, which no restart brings back.

    Raises:
        ConfigError: naming the layer.
    """
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        rate = max(getattr(layer, key, None) or 0.0 for key in ("p", "prob", "drop_prob")) if "Drop" in kind else 0.0
        if rate > 0:
            raise ConfigError(
                f"encoder.options: layer '{name}' is a {kind} of rate {rate:g}, whose draws no restart could repeat; "
                "set timm's *drop_rate options to 0 and use encoder.drop_path, or choose another encoder"
            )


def drop_path_uniforms(
    layers: int, indices: Int64[Tensor, " B"], *, seed: int, epoch: int, view: int
) -> Float[Tensor, "L B"]:
    """Return numbers in [0, 1), each a function of (seed, epoch, image index, view, layer) alone."""
    start = np.uint64(keyed_rng.key64("drop path", seed, epoch, view))
    images = keyed_rng.fold(np.full(len(indices), start), indices.cpu().numpy().astype(np.uint64))
    hashed = keyed_rng.fold(images[None], np.arange(layers, dtype=np.uint64)[:, None])
    return torch.from_numpy(keyed_rng.uniforms(hashed).astype(np.float32))


def set_drop_path(layers: list[KeyedDropPath], uniforms: Float[Tensor, "L B"]) -> None:
    """Give each layer its row of draws for the next forward pass."""
    for layer, row in zip(layers, uniforms, strict=True):
        layer.uniforms = row
