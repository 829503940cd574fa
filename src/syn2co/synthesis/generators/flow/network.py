"""The network of the flow, its exponential mean, and the linear part that it starts from.

Axis letters: B batch, S side in pixels, F = S // 2 + 1, C conditions.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError

GROUPS = 8


class Velocity(nn.Module):
    """v(x, t, c), the velocity of the flow at x: the best linear guess plus what a U-Net adds to it.

    For data with the power spectrum P the linear least-squares guess of v = x1 - x0 from x = (1 - t) x0 + t x1 is
    c x at each frequency, c = (t P - (1 - t)) / (t^2 P + (1 - t)^2), the mean m of the data taken out. So an untrained
    flow already gives images of the right colors and smoothness, and the few steps of a CPU go into the rest.
    Each image of a batch is treated by itself: group normalization, no dropout.
    """

    power: Float[Tensor, "3 S F"]
    mean: Float[Tensor, "3 1 1"]
    colours: Float[Tensor, "3 3"]  # the name under which model files hold it: their hash stays

    def __init__(self, network: nn.Module, size: int, *, null: int) -> None:
        super().__init__()
        self.null = null
        self.network = network
        self.register_buffer("power", torch.ones(3, size, size // 2 + 1))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("colours", torch.eye(3))

    def forward(
        self, x: Float[Tensor, "B 3 S S"], t: Float[Tensor, " B"], condition: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B 3 S S"]:
        # diffusers embeds time steps from 0 to 1000.
        learned = self.network(x, timestep=1000 * t, class_labels=condition).sample
        return self.linear(x, t) + learned.float()

    def linear(self, x: Float[Tensor, "B 3 S S"], t: Float[Tensor, " B"]) -> Float[Tensor, "B 3 S S"]:
        """Return the linear least-squares guess of the velocity."""
        t = t[:, None, None, None]
        gain = (t * self.power - (1 - t)) / (t**2 * self.power + (1 - t) ** 2)
        with torch.autocast(x.device.type, enabled=False):  # FFTs know no bfloat16
            planes = torch.einsum("bchw,cp->bphw", x - t * self.mean, self.colours)
            guess = torch.fft.irfft2(gain * torch.fft.rfft2(planes), s=x.shape[-2:])
            return self.mean + torch.einsum("bphw,cp->bchw", guess, self.colours)

    @torch.no_grad()
    def measure(self, images: Iterator[Float[Tensor, "B 3 S S"]]) -> None:
        """Take mean, principal colors and power spectrum from images in -1..1, given in batches."""
        sums, outer, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64), 0
        spectra = torch.zeros(3, 3, *self.power.shape[1:], dtype=torch.complex128)
        for batch in images:
            spectrum = torch.fft.rfft2(batch.double(), norm="ortho")
            spectra += torch.einsum("bchf,bdhf->cdhf", spectrum, spectrum.conj())
            sums += batch.double().mean((2, 3)).sum(0)
            outer += torch.einsum("bchw,bdhw->cd", batch.double(), batch.double()) / batch[0, 0].numel()
            count += len(batch)
        mean = sums / count
        colors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))[1]
        power = torch.einsum("cp,cdhf,dp->phf", colors, (spectra / count).real, colors)
        # The mean is taken out of x: at frequency 0 of an orthonormal transform it has the power S^2 |m|^2.
        power[:, 0, 0] -= (mean @ colors).square() * self.power.shape[1] ** 2
        self.mean.copy_(mean[:, None, None])
        self.colours.copy_(colors)
        self.power.copy_(power.clamp(min=1e-6))


def build_velocity(
    *, size: int, channels: tuple[int, ...], blocks: int, attention: bool, conditions: int, seed: int
) -> Velocity:
    """Return a fresh network for `conditions` conditions and the null condition, number `conditions`.

    Raises:
        ConfigError: if diffusers is not installed.
    """
    try:
        from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]
    except ImportError:
        raise ConfigError(
            "generator = flow: needs the package diffusers, which is not installed; pip install 'syn2co[diffusion]'"
        ) from None
    last = "Attn" if attention else ""
    plain = len(channels) - 1
    options: dict[str, Any] = {
        "sample_size": size,
        "block_out_channels": channels,
        "layers_per_block": blocks,
        "down_block_types": (*["DownBlock2D"] * plain, f"{last}DownBlock2D"),
        "up_block_types": (f"{last}UpBlock2D", *["UpBlock2D"] * plain),
        "add_attention": attention,
        "attention_head_dim": 32,
        "norm_num_groups": GROUPS,
        "num_class_embeds": conditions + 1,
    }
    with keyed_rng.torch_seed("flow", "network", seed):
        network = UNet2DModel(**options)
    for parameter in network.conv_out.parameters():  # an untrained U-Net adds nothing to the linear guess
        nn.init.zeros_(parameter)
    return Velocity(network, size, null=conditions)
