"""Strict, frozen settings: everything that determines a run, in one value that can be saved, hashed and repeated."""

import json
import math
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from syn2co.core.settings import BelowOne, Count, NonNegative, Positive, Settings, Share, read_settings
from syn2co.data.views import ViewsSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


NOT_HASHED: Any = {"machine": True, "data": {"real", "synthetic"}}


class DataSettings(Settings):
    """Which images are trained on."""

    real: tuple[str, ...] = ()
    """Sources of real images: folders, tar files, torchvision:NAME, hf:NAME, builtin:photos, builtin:digits."""
    synthetic: tuple[str, ...] = ()
    """Sources of synthetic images: data set folders of `syn2co generate`, procedural:PROGRAM[:COUNT[:SIZE]], or any
    source of images."""
    max_pixels: int = Field(default=178_956_970, gt=0)
    """Images with more pixels are quarantined (decompression bombs)."""
    max_broken_share: Share = 0.01
    """The run is refused if a larger share of the images cannot be read."""
    check: bool = True
    """Decode every image once before training, so that broken ones leave the set; the verdict is cached."""


class MixSchedule(Settings):
    """A share that changes from epoch to epoch: `start`, then `epochs` epochs on the way, then `stop`."""

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    """"step" stays at `start` until the way is over; "constant" stays there for ever."""
    start: Share
    stop: Share | None = None
    from_epoch: Count = 0
    """First epoch of the way."""
    epochs: int | None = Field(default=None, gt=0)
    """Length of the way."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        moving = self.kind != "constant"
        if moving and (self.stop is None or self.epochs is None):
            raise ValueError(f'kind = {self.kind}: needs "stop" and "epochs" beside "start"; add them')
        if not moving and (self.stop is not None or self.epochs is not None or self.from_epoch):
            raise ValueError('kind = constant: has "start" alone; leave the rest out or choose another kind')
        return self

    def at(self, epoch: int) -> float:
        """Return the share in `epoch`, counted from 0.

        With x = (epoch - from_epoch) / epochs in [0, 1] it is start + w (stop - start), w = x for linear,
        (1 - cos(pi x)) / 2 for cosine, floor(x) for step.
        """
        if self.stop is None or self.epochs is None:
            return self.start
        x = min(1.0, max(0.0, (epoch - self.from_epoch) / self.epochs))
        weight = {"linear": x, "cosine": (1 - math.cos(math.pi * x)) / 2, "step": math.floor(x)}[self.kind]
        return self.start + weight * (self.stop - self.start)


def _as_schedule(value: Any) -> Any:
    return {"start": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


ShareOrSchedule = Annotated[MixSchedule, BeforeValidator(_as_schedule)]


class MixSettings(Settings):
    """Which images, real or synthetic, an epoch is made of."""

    mode: Literal["auto", "real", "synthetic", "union", "ratio", "replace"] = "auto"
    """auto: ratio or replace if one of them is set, else all images that are given."""
    ratio: ShareOrSchedule | None = None
    """Share of synthetic images in each epoch: a number or a schedule."""
    replace: ShareOrSchedule | None = None
    """Probability, a number or a schedule, that a view of a real image is taken from a synthetic variation of it."""
    view: Literal["first", "second", "random", "both"] = "second"
    """Which view is replaced."""
    epoch_images: int | None = Field(default=None, gt=0)
    """Images an epoch; null is the number of real images (union: of all, synthetic only: of synthetic images)."""
    max_real: int | None = Field(default=None, gt=0)
    """Train on so many distinct real images, chosen by the seed."""
    max_synthetic: int | None = Field(default=None, gt=0)
    """Train on so many distinct synthetic images, chosen by the seed."""
    canvas: int | None = Field(default=None, gt=0)
    """Bring every image, real or synthetic, to a square of this side before its views: shorter side, then centre."""
    jpeg_quality: int | None = Field(default=None, ge=1, le=100)
    """Pass every image, real or synthetic, through a JPEG of this quality before its views."""


class EncoderSettings(Settings):
    """Which vision transformer, by its timm name."""

    name: str = "deit_small_patch16_224"
    options: dict[str, Any] = {}
    """Passed to timm.create_model, such as {"patch_size": 4, "depth": 6}."""
    drop_path: BelowOne = 0.2
    """Stochastic depth of the online encoder, a linear ramp over depth; the target has none."""
    init: Literal["timm", "moco_v3"] = "timm"
    """"moco_v3": xavier weights and fixed sine-cosine positions."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    size: int | None = None
    """Side of the images in pixels; follows views.size in a run."""

    @property
    def image_size(self) -> int:
        return self.size or 224


class HeadSettings(Settings):
    """Projector and predictor: Linear - BN - ReLU - Linear."""

    hidden: int = Field(default=4096, gt=0)
    width: int = Field(default=256, gt=1)
    """D, the width of the embedding."""


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


class OptimizerSettings(Settings):
    """AdamW and its schedules; the three learning rates are for a batch of 512 and scale with the batch."""

    base_lr: Positive = 1e-3
    warmup_lr: NonNegative = 5e-7
    final_lr: NonNegative = 5e-6
    warmup_epochs: NonNegative = 5.0
    weight_decay: NonNegative = 0.05
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    eps: Positive = 1e-8
    clip: Positive | None = 5.0
    """Largest global norm of the gradient."""
    decay_positions: bool = False
    """Decay position embeddings, relative-position tables and class tokens too, as the released code does."""


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


class MachineSettings(Settings):
    """What may differ between two machines without changing what the run is; not part of the config's hash."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that load images; null chooses."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; null leaves torch's choice."""
    cache: Literal["auto", "always", "never"] = "auto"
    """Keep decoded images in memory (auto: if they are small)."""
    save_steps: int | None = Field(default=None, gt=0)
    """Checkpoint every so many optimizer steps; null is once an epoch."""
    save_minutes: Positive = 10.0
    """Checkpoint at least this often."""
    keep: int = Field(default=2, gt=1)
    """Checkpoints kept."""
    log_steps: int = Field(default=10, gt=0)
    """Write metrics every so many optimizer steps."""
    tensorboard: bool = True


class Config(Settings):
    """One complete run. `Config.hash` names everything that determines its result."""

    recipe: str = "custom"
    seed: int = 0
    data: DataSettings = DataSettings()
    mix: MixSettings = MixSettings()
    views: ViewsSettings = ViewsSettings()
    encoder: EncoderSettings = EncoderSettings()
    heads: HeadSettings = HeadSettings()
    queue: QueueSettings = QueueSettings()
    negatives: NegativeSettings = NegativeSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    online_knn: OnlineKnnSettings = OnlineKnnSettings()
    machine: MachineSettings = MachineSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for complaint in _contradictions(self):
            raise ValueError(complaint)
        return self

    @property
    def hash(self) -> str:
        """Return 16 hex digits of every setting but `machine` and where the images lie (their content is checked)."""
        values = self.model_dump(mode="json", exclude=NOT_HASHED)
        values["data"]["sources"] = len(self.data.real), len(self.data.synthetic)
        body = json.dumps(values, sort_keys=True)
        return blake2b(body.encode(), digest_size=8).hexdigest()

    @property
    def encoder_spec(self) -> EncoderSettings:
        """The encoder's settings with the image size of the views."""
        return self.encoder.model_copy(update={"size": self.views.size})

    def to_json(self) -> str:
        """Return the resolved settings and their hash, indented; `load_config` reads it back."""
        return json.dumps({"hash": self.hash, **self.model_dump(mode="json")}, indent=2) + "\n"


def load_config(path: str | Path) -> Config:
    """Return the config in a JSON file, such as a run's config.json.

    Raises:
        ConfigError: if the file cannot be read, is not JSON, or names an unknown setting.
    """
    return Config.parse(read_settings(path, "write one with `syn2co recipes NAME --json`", leave_out={"hash"}))


def _contradictions(config: Config) -> Iterable[str]:
    negatives, training = config.negatives, config.training
    if negatives.total and negatives.hardest > config.queue.size:
        yield (
            f"negatives.hardest = {negatives.hardest}: must be at most queue.size = {config.queue.size}; "
            "lower it or enlarge the queue"
        )
    if training.batch % training.micro_batches:
        yield (
            f"training.micro_batches = {training.micro_batches}: must divide training.batch = {training.batch}; "
            "choose another number"
        )
    elif training.batch // training.micro_batches < 2:
        yield (
            f"training.batch = {training.batch}: gives micro-batches of one image, and batch normalisation needs 2; "
            "enlarge it or lower training.micro_batches"
        )
    fixed = {"num_classes", "drop_path_rate", "img_size", "pretrained"}.intersection(config.encoder.options)
    if fixed:
        yield (
            f"encoder.options: must not hold {', '.join(sorted(fixed))}; use encoder.drop_path and views.size, and "
            "leave the rest"
        )
    if negatives.total and negatives.stop is not None and negatives.stop <= negatives.start:
        yield (
            f"negatives.stop = {negatives.stop:g}: must be later than negatives.start = {negatives.start:g}, "
            "or the window of synthetic negatives never opens"
        )
    if negatives.total and training.steps is None and negatives.start >= training.epochs:
        yield (
            f"negatives.start = {negatives.start:g}: must be before training.epochs = {training.epochs:g}, "
            "or the window of synthetic negatives never opens"
        )
    yield from _mix_contradictions(config.mix)
    if config.encoder.size not in (None, config.views.size):
        yield f"encoder.size = {config.encoder.size}: must be views.size = {config.views.size}; set views.size alone"
    if config.online_knn.every_epochs and not (config.online_knn.train and config.online_knn.test):
        yield "online_knn.every_epochs: needs labelled images; set online_knn.train and online_knn.test to sources"


def _mix_contradictions(mix: MixSettings) -> Iterable[str]:
    for name, share in (("ratio", mix.ratio), ("replace", mix.replace)):
        if share is None and mix.mode == name:
            yield f"mix.mode = {name}: needs mix.{name}; set it to a number from 0 to 1 or a schedule"
        if share is not None and mix.mode not in ("auto", name):
            yield f"mix.{name}: means nothing with mix.mode = {mix.mode}; set mix.mode to {name} or mix.{name} to null"
    if mix.ratio is not None and mix.replace is not None:
        yield "mix.ratio and mix.replace: are two ways of mixing that exclude each other; set one of them to null"
    if mix.replace is not None and mix.max_synthetic is not None:
        yield (
            f"mix.max_synthetic = {mix.max_synthetic}: would leave real images without a variation to be replaced by; "
            "limit mix.max_real instead"
        )
