"""Baselines that every table shows beside the encoder: raw pixels, and the same architecture before any training.

Axes: B images, S side of an image in pixels, P = 3 S S pixel values.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from syn2co.models.encoder import Encoder, build_encoder, copy_crop

RAW_PIXELS = "raw pixels"
RANDOM_INIT = "random init"
MAX_SIDE = 32


class RawPixels(nn.Module):
    """An "encoder" whose features are the pixels of the same evaluation crop, shrunk to at most 32 x 32.

    Normalized by the encoder's own mean and std, so that they are what the encoder sees: around 0, where a cosine tells
    more (CIFAR-10, 10,000 and 2,000 images: k-NN 40.7 % instead of 33.9 %).
    """

    def __init__(self, image_size: int, crop_ratio: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.image_size = min(image_size, MAX_SIDE)
        self.crop_ratio = crop_ratio
        self.squash = False
        self.register_buffer("side", torch.tensor(self.image_size))
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def preprocess(self, images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B P"]:
        """Return the normalized pixel values, row after row, on the module's device."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return ((images.to(mean.device).float() / 255 - mean) / std).flatten(1)

    def forward(self, pixels: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        return pixels


def baselines_of(encoder: Encoder, *, seed: int) -> dict[str, nn.Module]:
    """Return the free baselines of an encoder by name; the random weights are a function of `seed`."""
    random = build_encoder(encoder.spec, seed=seed).eval()
    copy_crop(encoder, random)
    pixels = RawPixels(encoder.image_size, encoder.crop_ratio, encoder.spec.mean, encoder.spec.std)
    pixels.squash = encoder.squash
    return {RAW_PIXELS: pixels, RANDOM_INIT: random}
