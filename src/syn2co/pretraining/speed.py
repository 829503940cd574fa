"""Speed of training on this machine, by a few real steps in a folder that is deleted again."""

from collections.abc import Callable
from pathlib import Path
from statistics import harmonic_mean
from tempfile import TemporaryDirectory
from typing import NamedTuple

from syn2co.pretraining.config import Config
from syn2co.pretraining.metrics import read_metrics

STEPS, EVERY = 12, 4
"""Optimizer steps that are taken, and those of a record, of which the first one warms up."""
SHORT = (
    "machine.tensorboard=false", "machine.save_steps=null", "machine.save_minutes=60",
    "negatives.start=0", "negatives.stop=null", "online_knn.every_epochs=0",
    "online_knn.patience=null", "mix.then=null", "optimizer.warmup_epochs=0",
    "init_from=null", "init_hash=null",
)  # fmt: skip
Trial = Callable[[Config, Path], object]
"""Trains a config in a folder, as `pretrain` does."""


class StepSpeed(NamedTuple):
    """Speed of a config on this machine."""

    seconds: float
    """Per optimizer step."""
    steps_per_epoch: int


def measure_speed(config: Config, trial: Trial) -> StepSpeed:
    """Return the speed of a config, with the window of synthetic negatives open.

    Args:
        config: the run.
        trial: trains it; the images that it keeps should be read before its first step.

    Raises:
        Syn2CoError: as `pretrain`.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        trial(config.with_settings([f"training.steps={STEPS}", f"machine.log_steps={EVERY}", *SHORT]), out)
        records = read_metrics(out)
    speed = harmonic_mean([record["images_per_second"] for record in records[1:] or records])
    return StepSpeed(config.training.batch / speed, round(records[-1]["step"] / records[-1]["epoch"]))
