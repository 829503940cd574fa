"""Settings of the method: queue, negatives, training, and the online k-NN score."""

from typing import Literal

from pydantic import Field

from syn2co.core.settings import BelowOne, Count, NonNegative, Positive, Settings


class QueueSettings(Settings):
    """The two queues of keys, one a view."""

    size: int = Field(default=4096, gt=0)
    """K, the number of keys in each."""


class NegativeSettings(Settings):
    """The synthetic negatives of each query; all counts zero is plain MoBY."""

    interpolated: Count = 0
    extrapolated: Count = 0
    mixup: Count = 0
    noise: Count = 0
    perturbed: Count = 0
    adversarial: Count = 0
    hardest: int = Field(default=256, gt=0)
    """H, the number of hardest keys that a query's synthetic negatives are built from."""
    sigma: NonNegative = 0.1
    """Standard deviation of the noise kind, per coordinate."""
    delta: NonNegative = 0.01
    """Step of the perturbed kind along the gradient."""
    eta: NonNegative = 0.01
    """Step of the adversarial kind along the sign of the gradient."""
    start: NonNegative = 0.0
    """First epoch (a real number) with synthetic negatives."""
    stop: Positive | None = None
    """Epoch at which they end; null is the end of the run."""
    mask_groups: bool = True
    """Never let an image of the query's own group be its negative."""

    @property
    def total(self) -> int:
        """S, the number of synthetic negatives a query."""
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        kinds = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
        return {kind: getattr(self, kind) for kind in kinds}


class TrainingSettings(Settings):
    """How long, in which batches, at which temperature."""

    epochs: Positive = 300.0
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps in all; if set, it overrides epochs."""
    batch: int = Field(default=512, gt=0)
    """B, images per optimizer step over all ranks."""
    micro_batches: int = Field(default=1, gt=0)
    """Gradient accumulation; queue and BN see the micro-batches."""
    temperature: Positive = 0.2
    momentum: BelowOne = 0.99
    """Target momentum at the start; it rises to 1 along a cosine."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"


class OnlineKnnSettings(Settings):
    """An optional k-NN score while training, on labelled images that are never trained on."""

    every_epochs: NonNegative = 0.0
    """0 switches it off."""
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    max_images: int = Field(default=5000, gt=0)
    """At most so many images of each, chosen by the seed."""
