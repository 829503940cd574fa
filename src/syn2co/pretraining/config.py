"""Strict, frozen settings: everything that determines a run, in one value that can be saved, hashed and repeated."""

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from syn2co.core.errors import ConfigError
from syn2co.core.settings import Settings, read_settings
from syn2co.core.versions import __version__
from syn2co.data.settings import SHARES, DataSettings, MixSettings, ViewsSettings
from syn2co.models.settings import EncoderSettings, HeadSettings
from syn2co.pretraining.settings import (
    NegativeSettings,
    OnlineKnnSettings,
    QueueSettings,
    SupervisedSettings,
    TrainingSettings,
)
from syn2co.runtime.settings import MachineSettings, OptimizerSettings

CONFIG = "config.json"
"""Name of the file in a run folder that holds the run's config."""
NOT_HASHED: Any = {"machine": True, "init_from": True, "data": {"real", "synthetic"}}
HASHED_WHEN_SET = (
    "training.objective", "supervised.label_smoothing", "init_hash", "mix.then", "online_knn.patience",
    "data.decode",
)  # fmt: skip
"""Settings that are newer than the first run folders: one at its default is left out of the hash, so that a config from
before it keeps the hash that it had."""


class Config(Settings):
    """Settings of one complete run; `Config.hash` names everything that determines its result.

    Example:
        >>> config = Config().with_settings(["queue.size=1024", "training.temperature=0.1"])
        >>> config.queue.size, config.training.temperature
        (1024, 0.1)
        >>> config.hash == Config.parse({"queue": {"size": 1024}, "training": {"temperature": 0.1}}).hash
        True
    """

    recipe: str = "custom"
    """Name of the recipe that the settings began as; part of the hash."""
    seed: int = 0
    """Seed of everything that is drawn: weights, order, views, negatives, subsets."""
    data: DataSettings = DataSettings()
    """Sources of real and synthetic images."""
    mix: MixSettings = MixSettings()
    """Mix of real and synthetic images in an epoch."""
    views: ViewsSettings = ViewsSettings()
    """Size and augmentation of the two views."""
    encoder: EncoderSettings = EncoderSettings()
    """Network of timm and its options."""
    init_from: str | None = None
    """Weights that the encoder begins with: a run, an export, timm:NAME, or a file of weights; where they lie is no
    part of the hash."""
    init_hash: str | None = None
    """Hash of the content of those weights; the run fills it in, and refuses others if it is set."""
    heads: HeadSettings = HeadSettings()
    """Projector and predictor."""
    queue: QueueSettings = QueueSettings()
    """Queues of keys."""
    negatives: NegativeSettings = NegativeSettings()
    """Synthetic negatives and group masks."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its learning rates."""
    training: TrainingSettings = TrainingSettings()
    """Objective, length, batch, temperature and precision."""
    supervised: SupervisedSettings = SupervisedSettings()
    """Training with labels."""
    online_knn: OnlineKnnSettings = OnlineKnnSettings()
    """k-NN score while training."""
    machine: MachineSettings = MachineSettings()
    """Device, workers, threads and checkpoints; not part of the hash."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for complaint in _contradictions(self):
            raise ValueError(complaint)
        return self

    @property
    def hash(self) -> str:
        """Return 16 hex digits of every setting but `machine` and where the images lie (their content is checked)."""
        values = self.model_dump(mode="json", exclude=NOT_HASHED)
        defaults = Config().model_dump(mode="json")
        for path in HASHED_WHEN_SET:
            _leave_out_default(values, defaults, path)
        values["data"]["sources"] = len(self.data.real), len(self.data.synthetic)
        body = json.dumps(values, sort_keys=True)
        return blake2b(body.encode(), digest_size=8).hexdigest()

    @property
    def encoder_spec(self) -> EncoderSettings:
        """The encoder's settings with the image size of the views."""
        return self.encoder.model_copy(update={"size": self.views.size})

    def to_json(self) -> str:
        """Return the resolved settings and their hash, indented; `load_config` reads it back."""
        head = {"written_by": f"syn2co {__version__}", "hash": self.hash}
        return json.dumps({**head, **self.model_dump(mode="json")}, indent=2) + "\n"


def _leave_out_default(values: dict[str, Any], defaults: dict[str, Any], path: str) -> None:
    """Delete the setting "group.name" or "name" if it has its default, and a group of which nothing is left."""
    group, _, name = path.rpartition(".")
    here, there = (values[group], defaults[group]) if group else (values, defaults)
    if here[name] == there[name]:
        del here[name]
    if not here:
        del values[group]


def load_config(path: str | Path) -> Config:
    """Return the config in a JSON file, such as a run's config.json.

    Raises:
        ConfigError: if the file cannot be read, is not JSON, or names an unknown setting; of a file that another
            version wrote, with that version.
    """
    values = read_settings(path, "write one with `syn2co recipes NAME --json`")
    writer = values.pop("written_by", "an earlier version of syn2co" if "hash" in values else None)
    values.pop("hash", None)
    try:
        return Config.parse(values)
    except ConfigError as error:
        if writer in (None, f"syn2co {__version__}"):
            raise
        raise ConfigError(
            f"{error} ({Path(path).name} was written by {writer}, this is {__version__}: use that version, or change "
            "the setting in a copy of the file)"
        ) from None


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
            f"training.batch = {training.batch}: gives micro-batches of one image, and batch normalization needs 2; "
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
    yield from _objective_contradictions(config)
    if config.init_hash is not None and config.init_from is None:
        yield f"init_hash = {config.init_hash}: is of weights that init_from does not name; set both or none"
    if config.encoder.size not in (None, config.views.size):
        yield f"encoder.size = {config.encoder.size}: must be views.size = {config.views.size}; set views.size alone"
    yield from _knn_contradictions(config.online_knn)


def _knn_contradictions(knn: OnlineKnnSettings) -> Iterable[str]:
    if knn.every_epochs and not (knn.train and knn.test):
        yield "online_knn.every_epochs: needs labeled images; set online_knn.train and online_knn.test to sources"
    if knn.patience is not None and not knn.every_epochs:
        yield (
            f"online_knn.patience = {knn.patience}: means nothing without a score; set "
            "online_knn.every_epochs, or patience to null"
        )


def _objective_contradictions(config: Config) -> Iterable[str]:
    supervised, smoothing = config.training.objective == "supervised", config.supervised.label_smoothing
    for kind, count in config.negatives.counts.items() if supervised else ():
        if count:
            yield (
                f"negatives.{kind} = {count}: means nothing with training.objective = supervised, which has no "
                "negatives; set all their counts to 0, or set contrastive"
            )
    if smoothing and not supervised:
        yield (
            f"supervised.label_smoothing = {smoothing:g}: means nothing with training.objective = contrastive; set it "
            "to 0, or set supervised"
        )


def _mix_contradictions(mix: MixSettings) -> Iterable[str]:
    shares = {name: getattr(mix, name) for name in SHARES}
    for name, share in shares.items():
        if share is None and mix.mode == name:
            schedule = "" if name == "then" else " or a schedule"
            yield f"mix.mode = {name}: needs mix.{name}; set it to a number from 0 to 1{schedule}"
        if share is not None and mix.mode not in ("auto", name):
            yield f"mix.{name}: means nothing with mix.mode = {mix.mode}; set mix.mode to {name} or mix.{name} to null"
    given = [f"mix.{name}" for name, share in shares.items() if share is not None]
    if len(given) > 1:
        yield f"{' and '.join(given[:2])}: are two ways of mixing that exclude each other; set one of them to null"
    if mix.replace is not None and mix.max_synthetic is not None:
        yield (
            f"mix.max_synthetic = {mix.max_synthetic}: would leave real images without a variation to be replaced by; "
            "limit mix.max_real instead"
        )
