"""The recipe `auto`: a config chosen from the number and size of the images and the machine, with its reasons.

The rules are ours. Batch, queue and length follow the number of images; encoder, size and precision the machine.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from syn2co.core.cpus import available_cpus
from syn2co.core.errors import ConfigError
from syn2co.core.keyed_rng import permutation
from syn2co.core.launcher import launcher
from syn2co.core.progress import clock, note
from syn2co.data.open import open_images
from syn2co.data.settings import DataSettings
from syn2co.images.pixel_cache import AUTO_BYTES
from syn2co.pretraining.config import Config
from syn2co.pretraining.recipes import AUTO, recipe
from syn2co.pretraining.speed import STEPS, Trial, measure_speed
from syn2co.runtime.device import choose_device, emulates_bfloat16
from syn2co.runtime.settings import MachineSettings

SAMPLE = 64
"""Images whose size is looked at."""
MARGIN = 0.9
"""Share of a budget that goes to steps; start, checkpoints and a busy machine take the rest."""
LARGE = 1000
"""Shorter side in pixels from which JPEGs are decoded at the scale that their crops need."""
SEEN = 200_000
"""Images that a run on a CPU sees in all, within 15 to 200 epochs."""


@dataclass(frozen=True)
class Auto:
    """The recipe `auto` as `pretrain` takes it.

    Example:
        >>> Auto(budget=7200.0)
        Auto(budget=7200.0)
    """

    budget: float | None = None
    """Seconds that the run shall take, by the time of a few real steps; None takes the epochs of the rules."""


class Surroundings(NamedTuple):
    """The images and the machine that a config is chosen for."""

    images: int
    side: int
    """Median of the shorter side in pixels."""
    device: str
    """cpu, cuda or mps."""
    bfloat16: bool
    """Whether the device computes in bfloat16."""


class Choice(NamedTuple):
    """A config, and one sentence for each thing that was chosen."""

    config: Config
    reasons: tuple[str, ...]


def choose(around: Surroundings) -> Choice:
    """Return the config for some images on some machine.

    Args:
        around: number and size of the images, device.

    Returns:
        An ordinary config whose recipe is "auto", and why its values are what they are.

    Example:
        >>> config = choose(Surroundings(3000, 512, "cpu", True)).config
        >>> config.views.size, config.training.batch, config.queue.size, config.training.epochs
        (64, 128, 2048, 67.0)
    """
    images, gpu = around.images, around.device != "cpu"
    large = gpu and images >= 100_000 and around.side >= 160
    base = recipe("synco-deit-s" if large else "synco-cifar10")
    size = _size(around)
    batch = _power_of_two(images // 16, least=max(2, min(8, images)), most=512 if large else 256 if gpu else 128)
    queue = _power_of_two(images, least=2 * batch, most=4096)
    epochs = float(300 if gpu else min(200, max(15, round(SEEN / max(1, images)))))
    views = base.views if large else base.views.small(size)
    changes = {
        "recipe": AUTO,
        "data": base.data.model_copy(update={"decode": "reduced" if _reduced(around) else "full"}),
        "views": views.model_copy(update={"size": size}),
        "queue": base.queue.model_copy(update={"size": queue}),
        "negatives": base.negatives.model_copy(update={"hardest": min(base.negatives.hardest, queue // 4)}),
        "optimizer": base.optimizer.model_copy(update={"warmup_epochs": min(5.0, epochs / 20)}),
        "training": base.training.model_copy(
            update={"batch": batch, "epochs": epochs, "precision": "bfloat16" if around.bfloat16 else "float32"}
        ),
    }
    config = base.model_copy(update=changes)
    return Choice(config, tuple(_reasons(config, around, large)))


def _size(around: Surroundings) -> int:
    """Return the side of the views: what the images have, up to what the device trains in hours."""
    sides = (32, 64) if around.device == "cpu" else (32, 64, 128, 224)
    return max(side for side in sides if side == 32 or side <= 1.25 * around.side)


def _reduced(around: Surroundings) -> bool:
    """Return whether JPEGs are decoded at the scale that crops need: large ones, too many to keep in memory."""
    return around.side >= LARGE and 3 * around.images * around.side**2 > AUTO_BYTES


def _power_of_two(wanted: int, *, least: int, most: int) -> int:
    """Return the largest power of two that is at most `wanted`, within bounds."""
    return max(least, min(most, 1 << max(0, wanted.bit_length() - 1)))


def _reasons(config: Config, around: Surroundings, large: bool) -> list[str]:
    training, negatives = config.training, config.negatives
    window = "whole run" if negatives.stop is None else f"epochs {negatives.start:g} to {negatives.stop:g}"
    why = "100,000 images or more of 160 px on a GPU" if large else "a small one for few or small images, or a CPU"
    reduced = [f"data.decode = reduced: JPEGs of {LARGE} px and more are decoded at the scale that their crops need"]
    return [
        f"{around.images} images, shorter side {around.side} px, device {around.device}",
        *(reduced if config.data.decode == "reduced" else []),
        f"encoder.name = {config.encoder.name}: {why}",
        f"views.size = {config.views.size}: at most 1.25 times the images, and at most 64 on a CPU",
        f"training.batch = {training.batch}: at least 16 steps per epoch where the images allow it",
        f"queue.size = {config.queue.size}: not more keys than images, but two batches at least",
        f"negatives in the {window}: the window of {'300 epochs' if large else 'a short run'}",
        f"training.epochs = {training.epochs:g}: "
        + ("as in the papers" if around.device != "cpu" else f"about {SEEN} images in all, within 15 to 200 epochs"),
        f"training.precision = {training.precision}: {_why(training.precision)}",
    ]


def _why(precision: str) -> str:
    return "the device multiplies it itself" if precision == "bfloat16" else "the device has no bfloat16 of its own"


def look(data: DataSettings, machine: MachineSettings) -> Surroundings:
    """Return the number and size of the images of some sources, and the device.

    Raises:
        DataError: if the images are missing or too broken.
    """
    images = open_images(
        [*data.real, *data.synthetic],
        max_pixels=data.max_pixels,
        max_broken_share=data.max_broken_share,
        check=data.check,
        cache="never",
        workers=machine.workers or available_cpus(),
    )
    sample = permutation(len(images), "auto", "sizes")[:SAMPLE]
    with closing(images.read_many(sample.tolist())) as read:
        side = round(median(min(image.shape[:2]) for image in read))
    device = choose_device(machine.device).type
    return Surroundings(len(images), side, device, device != "mps" and not emulates_bfloat16(device))


def chosen_config(auto: Auto, data: DataSettings, settings: Sequence[str], *, trial: Trial) -> Config:
    """Return the config of a new run of the recipe `auto`; say what was chosen, why, and how long it will take.

    Args:
        auto: the budget.
        data: sources of the images.
        settings: assignments that have the last word.
        trial: trains a config in a folder, to be timed.

    Raises:
        ConfigError: on a budget under torchrun, beside training.steps, or of less than a step.
        DataError: if the images are missing or too broken.
    """
    machine = Config().with_settings([line for line in settings if line.lstrip().startswith("machine.")]).machine
    choice = choose(look(data, machine))
    config = choice.config.with_settings(settings)
    whole = config.mix.canvas is not None or config.mix.jpeg_quality is not None  # these need the whole image
    asked = any(line.lstrip().startswith("data.decode") for line in settings)
    decode = "full" if whole and not asked else config.data.decode
    config = config.model_copy(update={"data": data.model_copy(update={"decode": decode})})
    alone = launcher().size == 1
    if auto.budget is not None and not alone:
        raise ConfigError("budget: is timed in one process, not under torchrun; set training.steps instead")
    if launcher().rank == 0:
        moot = [f"{line.partition('=')[0].strip()} = " for line in settings]  # said with the value that was set
        moot += ["training.epochs"] * (auto.budget is not None) + ["data.decode"] * (decode != "reduced")
        reasons = [line for line in choice.reasons if not line.startswith(tuple(moot))]
        for reason in (*reasons, *(f"{line}: as you set it" for line in settings)):
            note(f"auto: {reason}")
    return _timed(config, auto.budget, trial) if alone else config


def _timed(config: Config, budget: float | None, trial: Trial) -> Config:
    """Return the config, with the steps that fit into a budget, and say how long the run will take."""
    if budget is not None and config.training.steps is not None:
        raise ConfigError(f"training.steps = {config.training.steps}: is the length beside a budget; give one of them")
    speed = measure_speed(config, trial)
    if budget is not None:
        config = _fitted(config, int(MARGIN * budget / speed.seconds), speed.steps_per_epoch, budget)
    steps = config.training.steps or round(config.training.epochs * speed.steps_per_epoch)
    note(
        f"auto: about {clock(steps * speed.seconds)} for {steps} steps, by {STEPS} steps that were timed "
        f"({config.training.batch / speed.seconds:.0f} images/s); config.json holds every setting"
    )
    return config


def _fitted(config: Config, steps: int, steps_per_epoch: int, budget: float) -> Config:
    """Return the config with a number of steps; warm-up and window keep their share of the run."""
    if steps < 1:
        raise ConfigError(f"budget = {budget:g} seconds: is less than one step takes; give more")
    epochs = steps / steps_per_epoch
    scale = epochs / config.training.epochs
    negatives, optimizer = config.negatives, config.optimizer
    stop = None if negatives.stop is None else scale * negatives.stop
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"steps": steps, "epochs": epochs}),
            "optimizer": optimizer.model_copy(update={"warmup_epochs": min(1.0, scale) * optimizer.warmup_epochs}),
            "negatives": negatives.model_copy(update={"start": scale * negatives.start, "stop": stop}),
        }
    )
