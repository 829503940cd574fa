"""Preparation of a run: images opened, model and optimizer built or restored; what cannot be is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from syn2co import objective
from syn2co.core.cpus import available_cpus
from syn2co.core.errors import ConfigError, DataError
from syn2co.core.files import public_path
from syn2co.core.progress import Stages, note
from syn2co.data.loader import Schedule
from syn2co.data.training_data import TrainingData, open_training_data
from syn2co.models.depthwise import use_plain_depthwise
from syn2co.pretraining.config import Config
from syn2co.pretraining.initial_weights import begin_with, init_provenance, with_initial_weights
from syn2co.pretraining.labels import ClassLabels, training_labels
from syn2co.pretraining.method import Syn2Co, use_one_noise_stream
from syn2co.pretraining.metrics import Averages, knn_scores, read_metrics, stands_still
from syn2co.pretraining.online_knn import OnlineKnn
from syn2co.pretraining.precision import computing_in, run_precision
from syn2co.pretraining.run import Method, Schedules, TrainingState, long_warmup
from syn2co.pretraining.run_folder import (
    QUARANTINE,
    first_difference,
    prepare_run_folder,
    restore,
    write_mix,
    write_precision,
)
from syn2co.pretraining.supervised import Supervised, unused_settings
from syn2co.runtime import distributed
from syn2co.runtime.alike import SAME_COMMAND, refuse_unlike, refuse_unlike_software
from syn2co.runtime.checkpoint import Checkpoint
from syn2co.runtime.determinism import describe
from syn2co.runtime.optimizer import build_optimizer


@dataclass(frozen=True)
class PreparedRun:
    """One run, prepared: what its loop and its observers are made of."""

    config: Config
    folder: Path
    data: TrainingData
    schedule: Schedule
    total: int
    knn: OnlineKnn | None
    provenance: dict[str, Any]
    """Facts that a checkpoint holds beside the state."""


def prepare_run(
    config: Config, folder: Path, device: torch.device, progress: bool, trust: bool
) -> tuple[PreparedRun, TrainingState]:
    """Open folder and images, build or restore the model.

    Raises:
        ConfigError: on a folder of another config, ranks of other configs or versions, or a length or a window that
            cannot be.
        DataError: if the images are missing, too broken, or not those that the run began with.
        CheckpointError: if the folder's checkpoints are damaged.
    """
    _refuse_unlike_ranks(config, device)
    config, weights = with_initial_weights(config, folder, trust=trust)
    checkpoint = prepare_run_folder(folder, config)
    data = _open(config, folder, progress)
    training, ranks = config.training, distributed.world_size()
    schedule = Schedule(data.mixer.length, training.batch, training.micro_batches, ranks, config.seed, data.mixer)
    total = _total_steps(config, schedule.steps_per_epoch)
    _check_window(config, schedule, total)
    labels = training_labels(data) if training.objective == "supervised" else None
    precision = run_precision(config, checkpoint, device)
    write_precision(folder, config, precision)
    computed = computing_in(config, precision)
    model = _build(computed, labels, device)
    kernels = _kernels(model, checkpoint)
    if weights is not None and checkpoint is None:
        begin_with(model, weights, folder)
    optimizer = build_optimizer(model.online, config.optimizer)
    provenance = {
        "total_steps": total,
        "steps_per_epoch": schedule.steps_per_epoch,
        "images": len(data.images),
        "data_fingerprint": data.images.fingerprint,
        **({"dark": data.images.dark} if 2 * data.images.dark > len(data.images) else {}),
        "machine": describe(device),
        "precision": precision,
        **kernels,
        **(labels.provenance if labels else {}),
        **init_provenance(weights, checkpoint),
        **({"mix": data.metadata} if data.metadata else {}),
    }
    knn = OnlineKnn(computed) if config.online_knn.every_epochs else None
    step, averages = restore(checkpoint, model, optimizer, config, provenance) if checkpoint else (0, Averages())
    model.train()
    scores = _scores_so_far(folder, schedule, step)
    stopped = stands_still(scores, config.online_knn.patience)
    if checkpoint is None:
        _note_long_warmup(config, schedule, total)
    elif checkpoint.state["total_steps"] != total:
        _note_extension(config, schedule, total, step)
    online = distributed.wrap(model.online, device)
    state = TrainingState(model, online, optimizer, step, averages, scores, stopped)
    return PreparedRun(config, folder, data, schedule, total, knn, provenance), state


def _kernels(model: torch.nn.Module, checkpoint: Checkpoint | None) -> dict[str, bool]:
    """Return which kernels and draws with other bits than before the run has; one from before them keeps the former."""
    from syn2co.models.class_token import use_whole_block

    former = {
        "class_token_block": use_whole_block,
        "padded_depthwise": use_plain_depthwise,
        "noise_blocks": use_one_noise_stream,
    }
    kernels = {name: checkpoint is None or checkpoint.state.get(name, False) for name in former}
    for name, use_former in former.items():
        if not kernels[name]:
            use_former(model)
    return kernels


def _refuse_unlike_ranks(config: Config, device: torch.device) -> None:
    """Refuse ranks with another config or other software than rank 0, which would train something else in silence."""
    refuse_unlike_software(device)
    # No part of a config's hash, and yet it decides when ranks talk to each other.
    names = ("log_steps", "save_steps", "save_minutes", "keep")
    in_step = {f"machine.{name} =": getattr(config.machine, name) for name in names}
    refuse_unlike(lambda: {**in_step, "init_from =": config.init_from and public_path(config.init_from)})
    everyone = distributed.all_gather_objects(config)
    for rank, other in enumerate(everyone):
        if other.hash != everyone[0].hash:
            difference = first_difference(everyone[0], other, words=("on rank 0", f"on rank {rank}"))
            raise ConfigError(f"rank {rank}: has another config ({difference}); {SAME_COMMAND}")


def _total_steps(config: Config, steps_per_epoch: int) -> int:
    return config.training.steps or round(config.training.epochs * steps_per_epoch)


def _scores_so_far(folder: Path, schedule: Schedule, step: int) -> list[float]:
    """Return the k-NN scores up to a step that count for early stopping: rank 0 reads them, for every rank."""
    records = read_metrics(folder) if distributed.is_main() else []
    return distributed.broadcast_object(knn_scores(records, after=schedule.switch_step or 0, upto=step))


def _build(config: Config, labels: ClassLabels | None, device: torch.device) -> Method:
    if labels is None:
        return Syn2Co(config, device)
    unused = unused_settings(config)
    if unused and distributed.is_main():
        note(f"training.objective = supervised: {', '.join(unused)} are settings of contrastive training, and not used")
    return Supervised(config, labels, device)


def _open(config: Config, folder: Path, progress: bool) -> TrainingData:
    """Open the sources, on rank 0 first so that the others find its index and verdicts in the cache."""

    def opened() -> TrainingData:
        with Stages(show=progress) as stages:
            workers = config.machine.workers or available_cpus()
            data = open_training_data(
                config.data,
                config.mix,
                seed=config.seed,
                batch=config.training.batch,
                size=config.views.size,
                cache=config.machine.cache,
                workers=workers,
                report=stages.report,
            )
        return in_phases(data, config)

    data = distributed.main_first(opened)
    if distributed.broadcast_object(data.images.fingerprint) != data.images.fingerprint:
        error = DataError(
            f"data.real: rank {distributed.rank()} has other images than rank 0 ({len(data.images)}, or other names or "
            "sizes); give all machines the same"
        )
        error.one_rank = True
        raise error
    if distributed.is_main():
        images = data.images
        images.write_quarantine(folder / QUARANTINE)
        write_mix(folder, data.metadata)
        if images.ignored and progress:
            note(f"{images.ignored} files of the sources are no images by their names and are passed over")
        for line in data.notes:
            note(line)
    return data


def in_phases(data: TrainingData, config: Config) -> TrainingData:
    """Return the data with the order of a run that goes over to real images, if it does.

    Raises:
        ConfigError: if less than one epoch is left for either phase.
    """
    if config.mix.then is None:
        return data
    per_epoch = max(1, data.mixer.length // config.training.batch)  # `Schedule` refuses an epoch without a step
    return data.in_phases(config.mix.then, total_steps=_total_steps(config, per_epoch), steps_per_epoch=per_epoch)


def _note_extension(config: Config, schedule: Schedule, total: int, step: int) -> None:
    """Say from where on a run is longer, and how far the schedules of both lengths are apart there."""
    short, long = (Schedules(config, schedule, steps).at(step) for steps in (step, total))
    if distributed.is_main():
        note(
            f"made longer at step {step}, to {total} steps: the rate goes from {short.lr:.2g} to {long.lr:.2g} and "
            f"the target momentum from {short.momentum:.4g} to {long.momentum:.4g}"
        )


def _note_long_warmup(config: Config, schedule: Schedule, total: int) -> None:
    warmup = long_warmup(config, schedule.steps_per_epoch, total, schedule.switch_step or 0)
    if warmup is not None and distributed.is_main():
        note(f"{warmup.reason}; set optimizer.warmup_epochs={warmup.epochs:.2g} or train longer")


def _check_window(config: Config, schedule: Schedule, total: int) -> None:
    """Refuse a run of no steps, or one whose synthetic negatives would never be used."""
    negatives, per_epoch = config.negatives, schedule.steps_per_epoch
    if total < 1:
        raise ConfigError(
            f"training.epochs = {config.training.epochs:g}: is less than one step of {per_epoch} per epoch; raise it"
        )
    stop = float("inf") if negatives.stop is None else negatives.stop
    if negatives.total and objective.first_open_step(total, per_epoch, negatives.start, stop) is None:
        raise ConfigError(
            f"negatives.start = {negatives.start:g}, negatives.stop = {stop:g}: the window of synthetic negatives "
            f"never opens in {total} steps of {per_epoch} per epoch ({total / per_epoch:g} epochs); move it or train "
            "longer"
        )
