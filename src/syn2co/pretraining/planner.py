"""What a run will take before it starts: hours, memory of each device, disk; `estimate`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.filesize import decimal

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.core.progress import clock
from syn2co.data.mixing import choose_mode, epoch_sides
from syn2co.data.open import open_images
from syn2co.pretraining.config import Config
from syn2co.pretraining.device_kinds import KINDS, kind_of
from syn2co.pretraining.operations import StepCount, count_step
from syn2co.pretraining.precision import as_computed, computing_in
from syn2co.pretraining.speed import STEPS, measure_speed
from syn2co.pretraining.train import pretrain, with_sources
from syn2co.runtime.device import choose_device

THIS = "this machine"
SHARE = {"bfloat16": 0.2, "float32": 0.5, "float64": 0.5}
"""Share of a data sheet's rate that a step is assumed to reach; measured on no GPU."""
HOST_SECONDS = 1e-5
"""Time in which the host starts a kernel, an assumption too: a small network cannot be faster."""
FILES = "from a JPEG of 500 x 375 on one core of an AMD EPYC, more from larger files"
VIEW_SECONDS, VIEW_PIXEL_SECONDS = 1e-4, 3.6e-8
"""What a core takes for an image's two views, and more for each pixel of a view's square: 1.9 ms at 224 from a JPEG of
500 x 375, 0.14 at 32 from memory (benchmarks/views.py, one core of an AMD EPYC)."""
EMULATED = "no data sheet has the speed of bfloat16 that is emulated"
TRIAL_IMAGES, MOST_TRIAL_IMAGES = "builtin:photos:labeled", 2048
"""Images of the steps that are timed on this machine, and most of them in a step."""
TRIAL_FLOPS = 5e10
"""Least operations of a step that is timed on a CPU, in up to 128 images: with less, a small encoder is timed too slow
(32 images on two threads: by half)."""
LEAST_TRIAL = 4
"""Least images of a step that is timed on a CPU."""
MOST_TRIAL_FLOPS, WORTH = 5e12, 100
"""Operations of the timed steps that a CPU does in about a minute, and how much longer than they a run must be to be
worth an estimate."""
_CONTEXT = 1e9
"""Bytes that a device's own libraries take."""


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take, and what that rests on."""

    images: int
    """Distinct images, or slots of an epoch."""
    epochs: float
    steps: int
    batch: int
    kind: str
    devices: int
    gflops: float
    """Operations of one image in training, 10^9."""
    images_per_second: float | None
    """Of all devices together; None if no step was timed."""
    seconds: float | None
    memory: float
    """Bytes of each device."""
    available: float | None
    """Bytes that each device has; None is not known."""
    disk: float
    """Bytes of the checkpoints that are kept."""
    micro_batches: int | None
    """Least training.micro_batches that fits into the memory; None if the run fits as it is, or nothing does."""
    recomputing: bool
    """Whether machine.activation_checkpointing makes a run fit that does not as it is."""
    assumptions: tuple[str, ...]
    untimed: str = ""
    """Why there are no hours; empty if there are."""

    def to_json(self) -> str:
        """Return all values as a JSON object."""
        return json.dumps(asdict(self), indent=1)

    def text(self) -> str:
        """Return lines for the terminal."""
        begin, speed = "", ""
        if self.seconds is not None and self.images_per_second is not None:
            begin = f"{clock(self.seconds)} on {self.kind if self.kind == THIS else f'{self.devices} x {self.kind}'}: "
            speed = f"{_speed_text(self.images_per_second)} a second, "
        lines = [
            f"{begin}{self.steps:,} steps of {self.batch} images, {self.epochs:g} epochs of {self.images:,} "
            f"({self.steps * self.batch:,} images, {speed}{self.gflops:.3g} GFLOP each)",
            f"memory {decimal(round(self.memory))} per device"
            + ("" if self.available is None else f" of {decimal(round(self.available))}")
            + f", disk {decimal(round(self.disk))} for checkpoints",
        ]
        if self.available is not None and self.memory > self.available:
            settings = [f"training.micro_batches={self.micro_batches}"] if self.micro_batches else []
            settings += ["machine.activation_checkpointing=true"] if self.recomputing else []
            cure = f"set {' or '.join(settings)}, or take" if settings else "a smaller training.batch or"
            lines.append(f"does not fit: {cure} more devices")
        lines += [f"no hours: {self.untimed}"] if self.untimed else []
        return "\n".join([*lines, *(f"assumed: {line}" for line in self.assumptions)])


def _speed_text(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


def estimate(
    config: Config | str | Path,
    *,
    real: str | Path | Sequence[str | Path] = (),
    images: int | None = None,
    kind: str | None = None,
    gpus: int = 1,
    settings: str | Sequence[str] = (),
) -> RunEstimate:
    """Return what a run will take: time, memory of each device, disk.

    Operations and memory are counted from the encoder's own layers. For a kind of GPU the time is what they take at an
    assumed share of its data sheet's rate; without one, the time of a few steps on this machine.

    Args:
        config: a `Config`, the name of a recipe, or the `Path` of a JSON file.
        real: sources of real images, which are counted.
        images: number of images in an epoch, in place of sources.
        kind: kind of GPU, such as "h100"; None is this machine.
        gpus: GPUs of that kind.
        settings: one assignment or several, such as "training.batch=1024".

    Returns:
        The estimate with its assumptions; `text()` is for the terminal.

    Raises:
        ConfigError: on an unknown kind or setting, if the number of images is not known, or if `settings` name sources
            beside `real`.
        DataError: if the images are missing.

    Example:
        >>> plan = estimate("synco-deit-s", images=1_281_167, kind="h100", gpus=8)
        >>> plan.steps, round(plan.gflops, 1)
        (750600, 68.6)
    """
    config = with_sources(config, real, (), settings)
    _check_kind(kind, gpus)
    parts = gpus * config.training.micro_batches
    if config.training.batch % parts:
        raise ConfigError(
            f"training.batch = {config.training.batch}: must divide by GPUs x micro-batches = {gpus} x "
            f"{config.training.micro_batches}; choose a multiple of {parts}"
        )
    (length, steps), asked = _length(config, images), config.training.precision
    config = _computed_here(config) if kind is None else _computed_on(config, kind)
    count = count_step(config)
    speed = _speed(config, count, kind, gpus)
    plan = _plan(config, count, length, steps, speed, gpus, kind, untimed="" if speed else EMULATED)
    return _with_precision(plan, config, asked)


def forecast(config: Config, out: Path, ranks: int = 1) -> RunEstimate | None:
    """Return the estimate of a run that is about to begin in the folder `out` on this machine.

    None if the run has begun, or if timing a few steps would take more than a hundredth of it. Several ranks have the
    speed of the data sheet of this process's GPU, for steps are timed in one process alone. Speed is left out where no
    sheet is known, or timing would take minutes.

    Args:
        config: the run.
        out: its folder.
        ranks: processes that share each batch.

    Raises:
        ConfigError, DataError: as `estimate` does.
    """
    if _taken(out):
        return None
    images = config.mix.epoch_images or _epoch_images(config)
    if images < config.training.batch:  # the run will refuse that in its own words
        return None
    (length, steps), batch = _length(config, images), config.training.batch
    if steps * batch < WORTH * STEPS * min(LEAST_TRIAL, batch // config.training.micro_batches):
        return None  # whatever a step takes, and without the second that counting its operations does
    asked, config = config.training.precision, _computed_here(config)
    count = count_step(config)
    trial = STEPS * _trial_batch(config, count)
    if steps * batch < WORTH * trial:
        return None
    if ranks > 1:
        kind, reason = kind_of(choose_device(config.machine.device)), "steps are timed in one process alone"
        speed = _speed(config, count, kind, ranks) if kind else None
        untimed = "" if speed else EMULATED if kind else reason
        plan = _plan(config, count, length, steps, speed, ranks, kind, untimed=untimed)
    elif _on_cpu(config) and trial * count.flops > MOST_TRIAL_FLOPS:
        reason = "timing a few steps would take minutes here; `syn2co estimate` does"
        plan = _plan(config, count, length, steps, None, untimed=reason)
    else:
        plan = _plan(config, count, length, steps, _speed(config, count, None, 1))
    return _with_precision(plan, config, asked)


def _computed_here(config: Config) -> Config:
    return as_computed(config, choose_device(config.machine.device))


def _computed_on(config: Config, kind: str) -> Config:
    """Return the config in the precision in which GPUs of a kind compute it."""
    asked = config.training.precision == "bfloat16" and not config.machine.emulate_bfloat16
    emulated = asked and KINDS[kind].bfloat16 is None
    return computing_in(config, "float32") if emulated else config


def _taken(folder: Path) -> bool:
    """Return whether a run has begun in the folder, or will be refused there."""
    try:
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError:
        return True


def _on_cpu(config: Config) -> bool:
    return choose_device(config.machine.device).type == "cpu"


def _length(config: Config, images: int | None) -> tuple[int, int]:
    """Return images of an epoch and optimizer steps of a run.

    Raises:
        ConfigError: if a batch is more than an epoch, or no images are named.
    """
    training, length = config.training, config.mix.epoch_images or images or _epoch_images(config)
    per_epoch = length // training.batch
    if per_epoch < 1:
        raise ConfigError(f"training.batch = {training.batch}: is more than {length} images; set a smaller one")
    return length, training.steps or max(1, round(training.epochs * per_epoch))


def _plan(
    config: Config,
    count: StepCount,
    length: int,
    steps: int,
    speed: tuple[float, str, str] | None,
    gpus: int = 1,
    kind: str | None = None,
    *,
    untimed: str = "",
) -> RunEstimate:
    """Return the estimate of a run whose speed is known, or is not, with what that rests on."""
    batch, per_epoch = config.training.batch, length // config.training.batch
    per_second, *assumptions = speed or (None,)
    available = None if kind is None else KINDS[kind].memory * 1e9
    memory = _memory(count, batch // (gpus * config.training.micro_batches))
    return RunEstimate(
        images=length,
        epochs=round(steps / per_epoch, 2),
        steps=steps,
        batch=batch,
        kind=kind or THIS,
        devices=gpus,
        gflops=count.flops / 1e9,
        images_per_second=per_second,
        seconds=None if per_second is None else steps * batch / per_second,
        memory=memory,
        available=available,
        disk=config.machine.keep * count.checkpoint,
        micro_batches=_fitting(config, count, gpus, available) if available and memory > available else None,
        recomputing=bool(available) and memory > available and _fits_recomputing(config, gpus, available),
        assumptions=(
            *assumptions,
            "memory: weights, gradients, moments, what autograd saves of a micro-batch, 1 GB of libraries; a CPU keeps "
            "freed memory and takes more",
            "disk: the checkpoints that are kept, and one more while it is saved",
        ),
        untimed=untimed,
    )


def _with_precision(plan: RunEstimate, config: Config, asked: str) -> RunEstimate:
    """Return the estimate, which says so if the config has another precision than was asked for."""
    computed = config.training.precision
    line = f"it computes in {computed}: {plan.kind} only emulates {asked}"
    return plan if computed == asked else replace(plan, assumptions=(line, *plan.assumptions))


def _check_kind(kind: str | None, gpus: int) -> None:
    if kind is not None and kind not in KINDS:
        raise ConfigError(
            f"kind = {kind}: is no known kind of GPU{nearest(kind, KINDS) or ''}; known are {', '.join(KINDS)}"
        )
    if gpus < 1 or (kind is None and gpus > 1):
        raise ConfigError(f"gpus = {gpus}: must be at least 1, and more need their kind, such as h100")


def _epoch_images(config: Config) -> int:
    """Return the slots of an epoch: all real images, with synthetic ones beside them (union) or alone."""
    real, synthetic = config.data.real, config.data.synthetic
    if not (real or synthetic):
        raise ConfigError("images: are not known; name their sources with --real, or give --images N")
    mode = choose_mode(config.mix, real=bool(real), synthetic=bool(synthetic))
    limits = {"real": config.mix.max_real, "synthetic": config.mix.max_synthetic}
    sources = {"real": real, "synthetic": synthetic}
    return sum(_number(sources[side], limits[side]) for side in epoch_sides(mode))


def _number(sources: Sequence[str], most: int | None) -> int:
    images = len(open_images(sources, check=False, cache="never"))
    return images if most is None else min(images, most)


def _speed(config: Config, count: StepCount, kind: str | None, gpus: int) -> tuple[float, str, str] | None:
    """Return images per second, what that rests on, and what it asks of the cores that make views; None: unknown."""
    reading = "images are read and made into views as fast as the devices train"
    if kind is None:
        return _measured(config, count), f"the speed of {STEPS} steps on patches of photographs here", reading
    training = config.training
    rate, share = getattr(KINDS[kind], training.precision), SHARE[training.precision]
    if rate is None:
        return None
    kernels = training.micro_batches * count.kernels
    computing = training.batch * count.flops / (gpus * share * rate * 1e12)
    speed = training.batch / max(computing, kernels * HOST_SECONDS)
    basis = (
        f"{share:.0%} of {rate:g} TFLOP/s ({kind}, {training.precision}; the rate by its data sheet, the share assumed)"
    )
    if kernels * HOST_SECONDS > computing:
        host = f"{kernels:,} kernels per forward and backward pass, {1e6 * HOST_SECONDS:g} us each"
        basis = f"the host starts {host}, longer than {basis}"
    view = VIEW_SECONDS + VIEW_PIXEL_SECONDS * config.views.size**2  # type: ignore[operator]
    cores = f"{speed / gpus * view:.1f} cores per GPU, {1e3 * view:.1f} ms per image"
    return speed, f"{basis}, and no loss between GPUs; no GPU was timed", f"{reading}: {cores} {FILES}"


def _measured(config: Config, count: StepCount) -> float:
    """Return images per second of a few steps on this machine."""
    batch = _trial_batch(config, count)
    plain = [f"mix.{name}=null" for name in ("ratio", "replace", "then", "max_real", "max_synthetic", "epoch_images")]
    small = config.with_settings([f"training.batch={batch}", "training.micro_batches=1", "mix.mode=real", *plain])
    data = small.data.model_copy(update={"real": (TRIAL_IMAGES,), "synthetic": ()})

    def trial(short: Config, out: Path) -> None:
        pretrain(short, out=out, progress=False)

    return batch / measure_speed(small.model_copy(update={"data": data}), trial).seconds


def _trial_batch(config: Config, count: StepCount) -> int:
    """Return the images of a timed step: on a GPU those of a micro-batch, which fit; on a CPU enough for a small
    encoder's speed, few enough of a large one, 4 at least."""
    if not _on_cpu(config):
        return min(MOST_TRIAL_IMAGES, config.training.batch // config.training.micro_batches)
    enough = max(16, min(128, int(TRIAL_FLOPS / count.flops)))
    return min(config.training.batch, enough, max(LEAST_TRIAL, int(MOST_TRIAL_FLOPS / (STEPS * count.flops))))


def _memory(count: StepCount, rows: int) -> float:
    """Return the bytes of a device that has this many rows of a micro-batch."""
    return _CONTEXT + count.state + rows * count.activations


def _fits_recomputing(config: Config, gpus: int, available: float) -> bool:
    """Return whether a run fits whose activations are computed again; not if they are already, or cannot be."""
    if config.machine.activation_checkpointing:
        return False
    try:
        count = count_step(config.with_settings(["machine.activation_checkpointing=true"]))
    except ConfigError:
        return False
    return _memory(count, config.training.batch // (gpus * config.training.micro_batches)) <= available


def _fitting(config: Config, count: StepCount, gpus: int, available: float) -> int | None:
    """Return the least number of micro-batches that fits where one more is needed."""
    training = config.training
    several = (
        parts
        for parts in range(training.micro_batches + 1, training.batch // 2 + 1)  # of one image there are none
        if training.batch % (parts * gpus) == 0
    )
    return next((parts for parts in several if _memory(count, training.batch // parts // gpus) <= available), None)
