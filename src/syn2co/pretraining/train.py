"""The training loop, readable top to bottom: `pretrain` prepares, `_loop` trains."""

import math
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syn2co import objective
from syn2co.core.errors import ConfigError, DataError, TrainingError
from syn2co.core.progress import Bar, Stages, note, training_text
from syn2co.data.coverage import Coverage
from syn2co.data.loader import Schedule, batches
from syn2co.data.training_data import Material, open_material
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.method import Batch, Place, Syn2Co, effective_rank, enqueue, features_by_source, micro_step
from syn2co.pretraining.metrics import Averages, MetricsWriter, losses_by_source, read_metrics
from syn2co.pretraining.online_knn import OnlineKnn
from syn2co.pretraining.run_folder import restore, save, settle, write_mix, write_nonfinite
from syn2co.runtime import distributed
from syn2co.runtime.machine import Interrupts, choose_device, choose_workers, describe, deterministic, only_run_in
from syn2co.runtime.optimizer import build_optimizer, clip_gradient, set_lr


@dataclass(frozen=True)
class Run:
    """A finished (or already finished) run: its folder, the steps taken and the last metrics record."""

    folder: Path
    steps: int
    metrics: dict[str, Any]


def pretrain(
    config: Config | str | Path,
    *,
    out: str | Path,
    real: Sequence[str | Path] = (),
    synthetic: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Pretrain an encoder without labels in the run folder `out`, or go on with it from its newest checkpoint.

    `config` is a `Config`, the name of a recipe, or the `Path` of a JSON file. `real` and `synthetic` name sources of
    images (in place of the config's), `settings` are assignments such as "queue.size=1024". The result depends on the
    config and the images alone; a killed run that is started again ends bit for bit like one that was not.

    Raises:
        ConfigError: on a setting that is unknown or cannot be, a folder of another config or one in use.
        DataError: if the images are missing, too few, too broken, or no longer those the run began with.
        CheckpointError: if the folder's checkpoints are damaged or the disk is full.
        TrainingError: if the loss or a gradient is not finite, or most negatives are masked.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM (exit status 143), once a checkpoint is saved.
    """
    config = _resolve(config, real, synthetic, settings)
    device = choose_device(config.machine.device)
    if device.type == "mps" and config.training.precision == "float64":
        raise ConfigError("training.precision = float64: Apple's GPUs have none; use float32 or machine.device=cpu")
    with deterministic(config.machine), distributed.session(device.type):
        folder = Path(out)
        with only_run_in(folder) if distributed.is_main() else nullcontext():
            return _run(config, folder, device, progress and distributed.is_main())


def _resolve(
    config: Config | str | Path,
    real: Sequence[str | Path],
    synthetic: Sequence[str | Path],
    settings: Sequence[str],
) -> Config:
    if not isinstance(config, Config):
        from syn2co.pretraining.recipes import RECIPES, recipe

        is_file = isinstance(config, Path) or (config not in RECIPES and config.endswith(".json"))
        config = load_config(config) if is_file else recipe(str(config))
    config = config.with_settings(settings)
    given = {"real": tuple(map(str, real)), "synthetic": tuple(map(str, synthetic))}
    data = config.data.model_copy(update={name: sources for name, sources in given.items() if sources})
    config = config.model_copy(update={"data": data})
    if not (config.data.real or config.data.synthetic):
        raise ConfigError(
            "data.real: names no images; give folders, tar files or builtin:photos with --real, or synthetic ones with "
            "--synthetic"
        )
    return config


@dataclass(frozen=True)
class _Setup:
    """Everything that one run's loop works with."""

    config: Config
    folder: Path
    device: torch.device
    material: Material
    schedule: Schedule
    total: int
    model: Syn2Co
    optimizer: torch.optim.Optimizer
    facts: dict[str, Any]
    knn: OnlineKnn | None


def _run(config: Config, folder: Path, device: torch.device, progress: bool) -> Run:
    checkpoint = settle(folder, config)
    material = _open(config, folder, progress)
    images, mixer, training = material.images, material.mixer, config.training
    ranks = distributed.world_size()
    schedule = Schedule(mixer.length, training.batch, training.micro_batches, ranks, config.seed, mixer)
    total = training.steps or round(training.epochs * schedule.steps_per_epoch)
    _check_window(config, schedule, total)
    model = Syn2Co(config, device)
    optimizer = build_optimizer(model.online, config.optimizer)
    facts = {
        "total_steps": total,
        "steps_per_epoch": schedule.steps_per_epoch,
        "images": len(images),
        "data_fingerprint": images.fingerprint,
        "machine": describe(device),
        **({"mix": material.facts} if material.facts else {}),
    }
    knn = OnlineKnn(config) if config.online_knn.every_epochs else None
    setup = _Setup(config, folder, device, material, schedule, total, model, optimizer, facts, knn)
    step, averages = restore(checkpoint, model, optimizer, config, facts) if checkpoint else (0, Averages())
    return _loop(setup, step, averages, progress)


def _open(config: Config, folder: Path, progress: bool) -> Material:
    """Open the sources, on rank 0 first so that the others find its index and verdicts in the cache."""

    def opened() -> Material:
        with Stages(show=progress) as stages:
            workers = config.machine.workers or os.cpu_count() or 1
            return open_material(config, workers=workers, report=stages.report)

    material = distributed.main_first(opened)
    if distributed.is_main():
        images = material.images
        images.write_quarantine(folder / "quarantine.jsonl")
        write_mix(folder, material.facts)
        if images.ignored and progress:
            note(f"{images.ignored} files of the sources are no images by their names and are passed over")
        for line in material.notes:
            note(line)
    return material


def _check_window(config: Config, schedule: Schedule, total: int) -> None:
    """Refuse a run of no steps, or one whose synthetic negatives would never be used."""
    negatives, per_epoch = config.negatives, schedule.steps_per_epoch
    if total < 1:
        raise ConfigError(
            f"training.epochs = {config.training.epochs:g}: is less than one step of {per_epoch} an epoch; raise it"
        )
    stop = float("inf") if negatives.stop is None else negatives.stop
    if negatives.total and objective.first_open_step(total, per_epoch, negatives.start, stop) is None:
        raise ConfigError(
            f"negatives.start = {negatives.start:g}, negatives.stop = {stop:g}: the window of synthetic negatives "
            f"never opens in {total} steps of {per_epoch} an epoch ({total / per_epoch:g} epochs); move it or train "
            "longer"
        )


def _loop(setup: _Setup, step: int, averages: Averages, progress: bool) -> Run:
    config, schedule, model, optimizer = setup.config, setup.schedule, setup.model, setup.optimizer
    machine, negatives, total = config.machine, config.negatives, setup.total
    micro_batches, rank = config.training.micro_batches, distributed.rank()
    online = distributed.wrap(model.online, setup.device)
    workspace = objective.Workspace()
    stop = float("inf") if negatives.stop is None else negatives.stop
    lr = _learning_rates(config, schedule, total)
    save_steps = machine.save_steps or schedule.steps_per_epoch
    model.online.train()
    model.target.train()
    record: dict[str, Any] = {}

    main = distributed.is_main()
    mixer = setup.material.mixer
    coverage = Coverage(mixer, batch=schedule.batch, steps_per_epoch=schedule.steps_per_epoch)
    metrics = MetricsWriter(setup.folder, step, tensorboard=machine.tensorboard) if main else nullcontext()
    bars = Bar("pretrain", total, done=step, show=progress)
    with metrics as writer, Interrupts() as interrupts, bars as bar, closing(_stream(setup, step)) as stream:
        saved = clock = time.monotonic()
        waited, logged = 0.0, step
        while step < total:
            epoch = schedule.epoch(step)
            set_lr(optimizer, lr(step))
            model.move_target(objective.ema_momentum(step, total, config.training.momentum))
            synthetic = objective.window_open(step, schedule.steps_per_epoch, negatives.start, stop)
            indices = []
            for micro_batch in range(micro_batches):
                asked = time.monotonic()
                batch = _to_device(_next(stream), setup.device)
                waited += time.monotonic() - asked
                indices.append(batch.indices)
                last = micro_batch == micro_batches - 1
                place = Place(step, epoch, micro_batch, rank * schedule.rank_rows, schedule.micro_rows)
                with nullcontext() if last or not distributed.active() else online.no_sync():  # type: ignore[operator]
                    outcome = micro_step(model, online, batch, place, config, synthetic=synthetic, workspace=workspace)
                    (outcome.loss / micro_batches).backward()
                measured = dict(outcome.measured)
                if last:
                    measured["gradient_norm"] = clip_gradient(model.online, config.optimizer.clip)
                values, interrupted = _agree(measured, interrupts.received)
                _refuse_bad(setup, values, step, indices)  # before the enqueue and the optimizer step, on all ranks
                enqueue(model, outcome.keys, batch.groups)
                averages.add(values)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1

            if step % machine.log_steps == 0 or step == total:
                now = time.monotonic()
                record = {
                    "step": step,
                    "epoch": step / schedule.steps_per_epoch,
                    **losses_by_source(averages.take()),
                    **_health(outcome.features, batch if config.data.synthetic else None),
                    **(coverage.at(step) if main and mixer.mixes else {}),
                    "lr": lr(step - 1),
                    "synthetic": synthetic,
                    "images_per_second": (step - logged) * schedule.batch / (now - clock),
                    "data_wait": waited / (now - clock),
                }
                clock, waited, logged = now, 0.0, step
                if writer is not None:
                    writer.write(record)
            if setup.knn is not None and setup.knn.due(step, schedule.steps_per_epoch, total):
                score = setup.knn.score(model.online.encoder)
                if writer is not None:
                    writer.write({"step": step, "epoch": step / schedule.steps_per_epoch, "knn": score})
                clock, waited, logged = time.monotonic(), 0.0, step
            bar.advance(1, training_text(record) if record else "")

            overdue = time.monotonic() - saved > 60 * machine.save_minutes
            if writer is not None and (step % save_steps == 0 or step == total or overdue or interrupted):
                save(setup.folder, step, model, optimizer, averages, config, setup.facts)
                saved = time.monotonic()
            if interrupted and step < total:
                distributed.barrier()
                bar.say(f"interrupted: step {step} of {total} is saved; the same command goes on from there")
                _leave(interrupted)
        distributed.barrier()
    if not record:  # the run was finished before
        record = next((old for old in reversed(read_metrics(setup.folder)) if "loss" in old), {})
    return Run(setup.folder, step, record)


def _health(features: Tensor, mixed: Batch | None) -> dict[str, float]:
    """Return the effective rank of a micro-batch's features over all ranks, and of each source's where both come."""
    everyone = distributed.all_gather_rows(features)
    found = {"effective_rank": effective_rank(everyone)}
    if mixed is not None:
        found |= features_by_source(everyone, distributed.all_gather_rows(mixed.synthetic_rows.long()).bool())
    return found


def _stream(setup: _Setup, step: int) -> Generator[Batch, None, None]:
    workers = choose_workers(setup.config.machine, setup.device, cached=setup.material.images.cached)
    pin = setup.device.type == "cuda"
    return batches(
        setup.material.images,
        setup.config.views,
        setup.schedule,
        rank=distributed.rank(),
        start=step,
        stop=setup.total,
        workers=workers,
        pin=pin,
        codec=setup.material.codec,
    )


def _next(stream: Generator[Batch, None, None]) -> Batch:
    try:
        return next(stream)
    except DataError as error:
        error.one_rank = True
        raise


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(part.to(device, non_blocking=True) for part in batch))


def _learning_rates(config: Config, schedule: Schedule, total: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the optimizer step, scaled to the batch."""
    settings = config.optimizer
    rates = (settings.base_lr, settings.warmup_lr, settings.final_lr)
    peak, start, end = (objective.scaled_lr(rate, config.training.batch) for rate in rates)
    warmup = round(settings.warmup_epochs * schedule.steps_per_epoch)
    return partial(objective.cosine_lr, total=total, warmup=warmup, peak=peak, start=start, end=end)


def _agree(measured: dict[str, Tensor], received: int) -> tuple[dict[str, float], int]:
    """Return the measurements averaged over ranks, and the signal that any rank received (0 for none)."""
    values = distributed.all_reduce_mean(torch.stack([value.to(measured["loss"].dtype) for value in measured.values()]))
    signals = (
        distributed.all_reduce_max(torch.tensor([received], device=values.device)) if distributed.active() else received
    )
    return dict(zip(measured, values.tolist(), strict=True)), int(signals)


def _refuse_bad(setup: _Setup, values: dict[str, float], step: int, indices: list[Tensor]) -> None:
    """Stop on a loss or gradient that is not finite, or on a loss that has lost most of its negatives.

    The averages over ranks are equal on all of them, and not finite if one part is: the verdict is common.
    """
    bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(values.get(name, 0.0))]
    if bad:
        path = write_nonfinite(setup.folder, setup.material.images, step, values, torch.cat(indices))
        raise TrainingError(
            f"{' and '.join(bad)} at step {step}: not finite, so the optimizer step was not taken; the images of "
            f"the batch are listed in {path.name}; look at them, or start a new run with a lower optimizer.base_lr, a "
            "longer optimizer.warmup_epochs or training.precision=float32"
        )
    if values["masked_share"] > 0.5:
        raise TrainingError(
            f"masked share at step {step}: {100 * values['masked_share']:.0f} % of all negatives are of the query's "
            "own group, more than half; lower queue.size, add images of other groups, or set "
            "negatives.mask_groups=false"
        )


def _leave(received: int) -> None:
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + received)
