"""Options of the flow: network, training, sampling."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from syn2co.core.settings import NonNegative, Positive, Settings, Share
from syn2co.synthesis.generators.conditions import Kind


class FlowOptions(Settings):
    """The network, its training and the sampling; the defaults are for about ten minutes of one CPU core at 32 px."""

    condition: Kind = "cluster"
    """Train conditional on a cluster of the images, on their class (then labels were used), or on nothing."""
    clusters: int = Field(default=16, gt=0)
    """Clusters of the images by their thumbnails."""
    max_images: int = Field(default=50_000, gt=1)
    """Most images that are trained on, chosen by the seed; they are kept in memory."""
    train_size: int | None = Field(default=None, gt=7)
    """Side in pixels that is trained and sampled at, then enlarged; null is the stored size, at most 64."""
    channels: tuple[Annotated[int, Field(gt=0, multiple_of=32)], ...] = Field(default=(32, 32, 96), min_length=1)
    """Channels of the U-Net at each resolution; every further one has half the side."""
    blocks: int = Field(default=1, gt=0)
    """Residual blocks per resolution."""
    attention: bool = True
    """Self-attention at the lowest resolution."""
    steps: int = Field(default=1000, gt=0)
    """Optimizer steps."""
    batch: int = Field(default=32, gt=0)
    """Images per step."""
    lr: Positive = 2e-3
    """Peak learning rate of AdamW, a cosine to 0."""
    warmup: int = Field(default=50, ge=0)
    """Steps of linear warm-up."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of the exponential mean of the weights, which is the model; smaller in the first steps."""
    label_drop: Share = 0.1
    """Share of the training images shown without their condition, for guidance."""
    flip: bool = True
    """Mirror half of the training images."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of training; bfloat16 is twice as fast on CPUs that have it and slow on others."""
    save_steps: int = Field(default=100, gt=0)
    """Steps between two checkpoints."""
    sampling_steps: int = Field(default=20, gt=0)
    """Euler steps per image."""
    guidance: NonNegative = 1.0
    """Guidance scale: 1 is none and half the work; it needs conditions and long training to show."""
    noise_level: tuple[Share, Share] = (0.3, 0.6)
    """A variation starts from its source with a share of noise drawn from this range."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.noise_level[0] > self.noise_level[1]:
            raise ValueError(f"noise_level = {self.noise_level}: must be (low, high) with low <= high; swap them")
        if self.train_size is not None and self.train_size % self.stride:
            raise ValueError(
                f"train_size = {self.train_size}: must be a multiple of {self.stride} with {len(self.channels)} "
                f"resolutions; take {self.multiple(self.train_size)}"
            )
        return self

    @property
    def stride(self) -> int:
        return 2 ** (len(self.channels) - 1)

    def multiple(self, size: int) -> int:
        """Return the least side of at least `size` that fits every resolution."""
        return -(-size // self.stride) * self.stride
