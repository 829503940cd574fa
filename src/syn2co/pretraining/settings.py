"""Settings of the method: queue, negatives, training, and the online k-NN score."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from syn2co.core.settings import BelowOne, Count, NonNegative, Positive, Settings
from syn2co.objective.counts import PRESETS, NegativeCounts


class QueueSettings(Settings):
    """The two queues of keys, one for each view."""

    size: int = Field(default=4096, gt=0)
    """K, the number of keys in each."""


class NegativeSettings(Settings):
    """The synthetic negatives of each query; all counts zero is plain MoBY ("negatives=none").

    "negatives=as-intended", "negatives=as-released" and "negatives=mochi" set the counts of the papers.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "none": NegativeCounts()._asdict(),
        **{name: counts._asdict() for name, counts in PRESETS.items()},
    }

    interpolated: Count = 0
    """Kind 1: a q + (1 - a) n, a ~ U(0, 0.5); negatives per query."""
    extrapolated: Count = 0
    """Kind 2: q + b (n - q), b ~ U(1, 1.5); negatives per query."""
    mixup: Count = 0
    """Kind 3: g n + (1 - g) n', g ~ U(0, 1); negatives per query."""
    noise: Count = 0
    """Kind 4: n + N(0, sigma^2 I); negatives per query."""
    perturbed: Count = 0
    """Kind 5: n + delta q, a step along the gradient of q.n; negatives per query."""
    adversarial: Count = 0
    """Kind 6: n + eta sign(q), a step along the sign of the gradient; negatives per query."""
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
        """S, the number of synthetic negatives per query."""
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        kinds = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
        return {kind: getattr(self, kind) for kind in kinds}


class TrainingSettings(Settings):
    """Objective, length of the run, batch, temperature, target momentum and precision."""

    epochs: Positive = 300.0
    """Passes over the images; may be a fraction."""
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps in all; if set, it overrides epochs."""
    batch: int = Field(default=512, gt=0)
    """B, images per optimizer step over all ranks."""
    micro_batches: int = Field(default=1, gt=0)
    """Gradient accumulation; queue and BN see the micro-batches."""
    temperature: Positive = 0.2
    """Temperature of the loss, t."""
    momentum: BelowOne = 0.99
    """Target momentum at the start; it rises to 1 along a cosine."""
    objective: Literal["contrastive", "supervised"] = "contrastive"
    """contrastive: Syn2Co, without labels; supervised: cross-entropy of both views with the labels of the images, to
    compare with (queue, negatives, heads, temperature and momentum are not used)."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Precision of the forward passes; bfloat16 is autocast (weights and loss stay float32), and float32 where the
    device would only emulate it (machine.emulate_bfloat16); float64 is for tests."""


class SupervisedSettings(Settings):
    """Training with labels, if training.objective is "supervised"."""

    label_smoothing: BelowOne = 0.0
    """Share of each target that is spread evenly over all classes."""


class OnlineKnnSettings(Settings):
    """An optional k-NN score while training, on labeled images that are never trained on."""

    every_epochs: NonNegative = 0.0
    """0 switches it off."""
    train: tuple[str, ...] = ()
    """Sources of labeled images: the bank of neighbors."""
    test: tuple[str, ...] = ()
    """Sources of labeled images that are scored."""
    max_images: int = Field(default=5000, gt=0)
    """Most images of each, chosen by the seed."""
    patience: int | None = Field(default=None, gt=0)
    """Scores without a new best after which the run stops early; null never stops it. After a change to real images
    (mix.then) only later scores count."""
