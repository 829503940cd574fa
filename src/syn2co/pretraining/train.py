"""`pretrain`: from a config to a finished run, with the loop's stream of batches and the observers around it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from syn2co.core.cpus import cpus_of_rank
from syn2co.core.errors import ConfigError
from syn2co.core.locks import only_run_in
from syn2co.core.paths import weights_path
from syn2co.core.progress import Bar, note
from syn2co.core.settings import one_or_many
from syn2co.data.coverage import Coverage
from syn2co.data.loader import batches
from syn2co.data.mixing import image_index
from syn2co.pretraining.auto import Auto, chosen_config
from syn2co.pretraining.config import Config
from syn2co.pretraining.extension import Extend, extend, longer_config
from syn2co.pretraining.loop import train
from syn2co.pretraining.metrics import MetricsWriter, read_metrics
from syn2co.pretraining.observers import Clock, LogMetrics, SaveCheckpoints, ScoreOnline, ShowProgress, SoundnessCheck
from syn2co.pretraining.preparation import PreparedRun, prepare_run
from syn2co.pretraining.recipes import AUTO, as_config
from syn2co.pretraining.run import (
    BatchStream,
    Observer,
    Run,
    Schedules,
    StreamEnded,
    TrainingState,
)
from syn2co.pretraining.run_folder import (
    begun_config,
    broken_listed,
    save,
)
from syn2co.runtime import distributed
from syn2co.runtime.allocator import lack_named
from syn2co.runtime.determinism import deterministic
from syn2co.runtime.device import choose_device, choose_workers
from syn2co.runtime.signals import Interrupts, leave


@dataclass(frozen=True)
class FinishedRun:
    """A finished (or already finished) run: its folder, the steps taken and the last metrics record."""

    folder: Path
    steps: int
    """Optimizer steps in all, those before a resume included; fewer than planned if `online_knn.patience` ended it."""
    metrics: dict[str, Any]
    """Last record of metrics.jsonl that holds a loss."""


def pretrain(
    config: Config | Auto | Extend | str | Path = AUTO,
    *,
    out: str | Path,
    real: str | Path | Sequence[str | Path] = (),
    synthetic: str | Path | Sequence[str | Path] = (),
    settings: str | Sequence[str] = (),
    init_from: str | Path | None = None,
    trust: bool = False,
    progress: bool = True,
) -> FinishedRun:
    """Pretrain an encoder in the run folder `out`, or resume it from its newest checkpoint.

    No labels are used, unless `training.objective` is "supervised": the reference that a run is compared with.

    The result depends on the config and the images alone; a killed run that is started again ends bit for bit like one
    that was not. Under torchrun all ranks call this with equal arguments.

    Args:
        config: a `Config`, the name of a recipe (`recipes`), or the `Path` of a JSON file. "auto" chooses from the
            images and the machine and says what; `Auto(budget=7200)` fits the steps to 7,200 seconds. A run that has
            begun keeps what was chosen. `Extend()` makes the finished run in `out` longer, by a new training.epochs or
            training.steps in `settings`: the schedules of the longer run hold from there on.
        out: run folder, made if needed; it gets config.json, metrics.jsonl, checkpoints/ and quarantine.jsonl.
        real: one source of real images or several, as `open_images` takes them, in place of those of the config.
        synthetic: sources of synthetic images, likewise; `mix.*` says how they are mixed.
        settings: one assignment or several in order, such as "queue.size=1024"; values are JSON, or else plain text.
        init_from: weights that the encoder begins with: a run folder, checkpoint or export of ours, `timm:NAME`,
            `reference`, or a file of weights by timm's names or as MoBY, MoCo v3 and DINO save them. What fits is
            loaded, the rest is listed in a note and in init.json. In place of `init_from` of the config.
        trust: read such a file even if it is a pickle; of that, tensors and plain values alone.
        progress: show a bar and notes on standard error.

    Returns:
        The folder, the steps taken in all, and the last record of metrics.

    Source: Syn2Co, arXiv:2509.02029, on MoBY, arXiv:2105.04553.

    Raises:
        ConfigError: on a setting that is unknown or cannot be, a folder of another config or one in use.
        DataError: if the images are missing, too few, too broken, or no longer those the run began with.
        CheckpointError: if the folder's checkpoints are damaged, the disk is full, or nothing in `init_from` fits.
        TrainingError: if the loss or a gradient is not finite, or most negatives are masked, if memory runs out
            or another rank is gone.
        KeyboardInterrupt, SystemExit: after Ctrl-C, or SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 (exit status 143), once a
            checkpoint is saved.

    Example:
        >>> small = ["training.steps=3", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> run.steps, [(run.folder / name).exists() for name in ("config.json", "metrics.jsonl")]
        (3, [True, True])
    """
    extension, folder = isinstance(config, Extend), weights_path(out)
    if isinstance(config, Extend):
        config, settings = longer_config(folder, settings), ()
    elif isinstance(config, Auto) or config == AUTO:
        auto = config if isinstance(config, Auto) else Auto()
        with broken_listed(folder):
            config = _choose(auto, folder, real, synthetic, settings)
    config = resolved_config(config, real, synthetic, settings)
    if init_from is not None:
        config = config.model_copy(update={"init_from": str(init_from)})
    return _begin_or_resume(config, folder, extension=extension, progress=progress, trust=trust)


def _begin_or_resume(
    config: Config,
    folder: Path,
    *,
    extension: bool = False,
    progress: bool = False,
    trust: bool = False,
    warm: bool = False,
) -> FinishedRun:
    """Return the finished run of a config; `warm` keeps its images before the first step, for steps that are timed."""
    device = choose_device(config.machine.device)
    if device.type == "mps" and config.training.precision == "float64":
        raise ConfigError("training.precision = float64: Apple's GPUs have none; use float32 or machine.device=cpu")
    with (
        deterministic(config.machine),
        broken_listed(folder),
        lack_named(),
        distributed.session(device.type),
        only_run_in(folder) if distributed.is_main() else nullcontext(),
    ):
        if extension and distributed.is_main():
            extend(folder, config)
        distributed.barrier()
        setup, state = prepare_run(config, folder, device, progress and distributed.is_main(), trust)
        if warm and setup.data.images.cached:
            _read_ahead(setup, state)
        return _run(setup, state, device, progress and distributed.is_main())


def _choose(
    auto: Auto,
    folder: Path,
    real: str | Path | Sequence[str | Path],
    synthetic: str | Path | Sequence[str | Path],
    settings: str | Sequence[str],
) -> Config:
    """Return the config that the run in the folder began with, or else a new choice."""
    begun = begun_config(folder)
    if begun is not None and begun.recipe == AUTO:
        if auto.budget is not None and distributed.is_main():
            note(f"auto: the run in {folder.name} has begun and keeps its length; the budget is not used again")
        return begun
    assignments = one_or_many(settings)
    given = Config(recipe=AUTO).with_settings([line for line in assignments if line.lstrip().startswith("data.")])
    data = resolved_config(given, real, synthetic, ()).data
    return chosen_config(
        auto,
        data,
        assignments,
        trial=lambda config, out: _begin_or_resume(config, out, warm=True),
    )


def resolved_config(
    config: Config | str | Path,
    real: str | Path | Sequence[str | Path],
    synthetic: str | Path | Sequence[str | Path],
    settings: str | Sequence[str],
) -> Config:
    """Return the config with the given sources and settings; one without images is refused."""
    config = with_sources(config, real, synthetic, settings)
    if not (config.data.real or config.data.synthetic):
        raise ConfigError(
            "data.real: names no images; give folders, tar files or builtin:photos with --real, or synthetic ones with "
            "--synthetic"
        )
    return config


def with_sources(
    config: Config | str | Path,
    real: str | Path | Sequence[str | Path],
    synthetic: str | Path | Sequence[str | Path],
    settings: str | Sequence[str],
) -> Config:
    """Return the config with the given sources and settings; sources that a setting names too are refused."""
    config = as_config(config).with_settings(settings)
    given = {"real": one_or_many(real), "synthetic": one_or_many(synthetic)}
    assigned = {assignment.partition("=")[0].strip() for assignment in one_or_many(settings)}
    for name in (name for name, sources in given.items() if sources and f"data.{name}" in assigned):
        raise ConfigError(f"--set data.{name}: the sources are named by --{name} too; name them there alone")
    data = config.data.model_copy(update={name: sources for name, sources in given.items() if sources})
    return config.model_copy(update={"data": data})


def _read_ahead(setup: PreparedRun, state: TrainingState) -> None:
    """Read the images of this run's steps: each is decoded once in a run, and often in a few first steps."""
    keys = setup.schedule.keys(distributed.rank(), state.step, setup.total)
    read = np.unique(image_index(np.array([sample_id for part in keys for _, sample_id in part])))
    setup.data.images.subset(read).read_ahead(cpus_of_rank())


def _run(setup: PreparedRun, state: TrainingState, device: torch.device, progress: bool) -> FinishedRun:
    config, folder = setup.config, setup.folder
    metrics = nullcontext()
    if distributed.is_main():
        metrics = MetricsWriter(folder, state.step, tensorboard=config.machine.tensorboard)
    bars = Bar("pretrain", setup.total, done=state.step, show=progress)
    with metrics as writer, Interrupts() as interrupts, bars as bar, _stream(setup, state, device) as stream:
        log, *others, checkpoints = _observers(setup, state, stream, writer, bar)
        run = Run(
            total_steps=setup.total,
            micro_batches=config.training.micro_batches,
            clip=config.optimizer.clip,
            schedule=setup.schedule,
            schedules=Schedules(config, setup.schedule, setup.total),
            stream=stream,
            average_and_check=SoundnessCheck(folder, setup.data.images, setup.provenance["precision"]),
            observers=[log, *others, checkpoints],
        )
        try:
            for observer in others:
                if isinstance(observer, ScoreOnline) and _left_in_its_score(folder, state):
                    observer.score_if_due(state)
            train(run, state)
        except StreamEnded as ended:
            checkpoints.save_and_leave(state, ended)
        distributed.barrier()
    if interrupts.received:  # in the last step, which is saved
        leave(interrupts.received)
    return FinishedRun(folder, state.step, log.record or _last_record(folder))


def _stream(setup: PreparedRun, state: TrainingState, device: torch.device) -> BatchStream:
    stream = batches(
        setup.data.images,
        setup.config.views,
        setup.schedule,
        range(state.step, setup.total),
        rank=distributed.rank(),
        workers=choose_workers(setup.config.machine, device, cached=setup.data.images.cached),
        pin=device.type == "cuda",
        codec=setup.data.codec,
    )
    return BatchStream(stream, device)


def _observers(
    setup: PreparedRun,
    state: TrainingState,
    stream: BatchStream,
    writer: MetricsWriter | None,
    bar: Bar,
) -> tuple[LogMetrics, *tuple[Observer, ...], SaveCheckpoints]:
    """Return the observers in the order in which they see a step: log, online k-NN, bar and checkpoints."""
    machine, per_epoch, mixer = setup.config.machine, setup.schedule.steps_per_epoch, setup.data.mixer
    clock = Clock(stream, state.step)
    coverage = None
    if distributed.is_main() and mixer.mixes:
        coverage = Coverage(mixer, batch=setup.schedule.batch, steps_per_epoch=per_epoch)
    log = LogMetrics(
        writer,
        setup.schedule,
        clock,
        every=machine.log_steps,
        total_steps=setup.total,
        coverage=coverage,
        mixed=bool(setup.config.data.synthetic),
    )
    knn = [] if setup.knn is None else [ScoreOnline(setup.knn, writer, clock, setup.schedule, setup.total)]
    checkpoints = SaveCheckpoints(
        lambda now: save(setup.folder, now, setup.config, setup.provenance),
        bar,
        begun=state.step,
        every=machine.save_steps or per_epoch,
        minutes=machine.save_minutes,
        total_steps=setup.total,
    )
    return log, *knn, ShowProgress(bar, log), checkpoints


def _left_in_its_score(folder: Path, state: TrainingState) -> bool:
    """Return whether the step that the run goes on from has no k-NN score: rank 0 reads them, for every rank."""
    records = read_metrics(folder) if distributed.is_main() else []
    scored = any(line["step"] == state.step and "knn" in line for line in records)
    return distributed.broadcast_object(state.step > 0 and not scored)


def _last_record(folder: Path) -> dict[str, Any]:
    """Return the last record of a run that was finished before."""
    return next((old for old in reversed(read_metrics(folder)) if "loss" in old), {})
