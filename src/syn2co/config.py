"""Strict, frozen settings: everything that determines a run, in one value that can be saved, hashed and repeated."""

import difflib
import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from syn2co.errors import ConfigError
from syn2co.images.views import ViewsSettings

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


NOT_HASHED: Any = {"machine": True, "data": {"real"}}


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataSettings(Settings):
    """Which images are trained on."""

    real: tuple[str, ...] = ()
    """Sources of real images: folders, tar files, torchvision:NAME, hf:NAME, builtin:photos, builtin:digits."""
    max_pixels: int = Field(default=178_956_970, gt=0)
    """Images with more pixels are quarantined (decompression bombs)."""
    max_broken_share: Share = 0.01
    """The run is refused if a larger share of the images cannot be read."""
    check: bool = True
    """Decode every image once before training, so that broken ones leave the set; the verdict is cached."""


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
        body = json.dumps(self.model_dump(mode="json", exclude=NOT_HASHED), sort_keys=True)
        return blake2b(body.encode(), digest_size=8).hexdigest()

    @property
    def encoder_spec(self) -> EncoderSettings:
        """The encoder's settings with the image size of the views."""
        return self.encoder.model_copy(update={"size": self.views.size})

    def to_json(self) -> str:
        """Return the resolved settings and their hash, indented; `load_config` reads it back."""
        return json.dumps({"hash": self.hash, **self.model_dump(mode="json")}, indent=2) + "\n"

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "Config":
        """Return the config of nested plain values; what is not named keeps its default.

        Raises:
            ConfigError: naming the setting, the value seen and what is allowed; for an unknown name, the nearest one.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_sentence(error)) from None

    def with_settings(self, assignments: Iterable[str]) -> "Config":
        """Return the config with each "a.b=value" applied in order; values are JSON, or else plain text.

        Raises:
            ConfigError: on an assignment without "=", an unknown setting or a value out of range.
        """
        values = self.model_dump(mode="json")
        for assignment in assignments:
            _assign(values, assignment)
        return Config.parse(values)


def load_config(path: str | Path) -> Config:
    """Return the config in a JSON file, such as a run's config.json.

    Raises:
        ConfigError: if the file cannot be read, is not JSON, or names an unknown setting.
    """
    name = Path(path).name
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {name}: cannot be read ({error.strerror}); give the path of a JSON file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"--config {name}: is not JSON ({error}); write one with `syn2co recipes NAME --json`"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"--config {name}: must hold one JSON object with the settings, not a {type(values).__name__}"
        )
    values.pop("hash", None)
    return Config.parse(values)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as "; did you mean queue.size?", by the whole path or else by its last part, or "" if none."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not close:
        by_leaf = {path.rpartition(".")[2]: path for path in reversed(known)}
        close = [by_leaf[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], by_leaf, n=1, cutoff=0.6)]
    if not close:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


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
    if config.encoder.size not in (None, config.views.size):
        yield f"encoder.size = {config.encoder.size}: must be views.size = {config.views.size}; set views.size alone"
    if config.online_knn.every_epochs and not (config.online_knn.train and config.online_knn.test):
        yield "online_knn.every_epochs: needs labelled images; set online_knn.train and online_knn.test to sources"


def _assign(values: dict[str, Any], assignment: str) -> None:
    path, separator, text = assignment.partition("=")
    path = path.strip()
    if not separator:
        raise ConfigError(f"--set {assignment}: must look like queue.size=1024")
    *groups, leaf = path.split(".")
    here: Any = values
    for name in groups:
        here = here.get(name) if isinstance(here, dict) else None
    free = groups == ["encoder", "options"]
    if not isinstance(here, dict) or (leaf not in here and not free):
        raise ConfigError(f"--set {path}: there is no such setting{nearest(path, _leaves(values))}")
    here[leaf] = _value(text)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return names


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        lowered = text.strip().lower()
        return {"true": True, "false": False, "none": None}.get(lowered, text.strip())


def _sentence(error: ValidationError) -> str:
    """Return one sentence for the first complaint of pydantic."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{path}: there is no such setting{nearest(path, _leaves(Config().model_dump(mode='json')))}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{path}: {message}" if path and not message.startswith(path.split(".")[0]) else message
    given = first.get("input")
    seen = given if isinstance(given, str | int | float | bool) else type(given).__name__
    return f"{path} = {seen}: {message[0].lower()}{message[1:]}"
