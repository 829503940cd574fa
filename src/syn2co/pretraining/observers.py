"""Observers, called after every step: log, online k-NN score, progress bar, and checkpoints."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from syn2co.core.errors import DataError, TrainingError
from syn2co.core.progress import Bar
from syn2co.data.batch import Batch
from syn2co.data.coverage import Coverage
from syn2co.data.loader import Schedule
from syn2co.images.image_set import ImageSet
from syn2co.pretraining.health import effective_rank, features_by_source
from syn2co.pretraining.metrics import MetricsWriter, losses_by_source, stands_still, training_text
from syn2co.pretraining.online_knn import OnlineKnn
from syn2co.pretraining.run import BatchStream, StepReport, StreamEnded, TrainingState
from syn2co.pretraining.run_folder import write_nonfinite
from syn2co.pretraining.step import StepPosition
from syn2co.runtime import distributed, signals


class SoundnessCheck:
    """Refuses a step whose loss or gradient is not finite, or whose loss has lost most of its negatives.

    The averages over ranks are equal on all of them, and not finite if one part is: the verdict is common.
    """

    def __init__(self, folder: Path, images: ImageSet, precision: str) -> None:
        self.folder, self.images = folder, images
        self.advice = ", a longer optimizer.warmup_epochs or training.precision=float32"
        if precision != "bfloat16":
            self.advice = " or a longer optimizer.warmup_epochs"
        self.step, self.indices = -1, list[Tensor]()

    def __call__(self, measured: dict[str, Tensor], batch: Batch, position: StepPosition) -> dict[str, float]:
        """Return the measurements averaged over ranks.

        Raises:
            TrainingError: on all ranks, naming what is wrong and what to change.
        """
        if position.step != self.step:
            self.step, self.indices = position.step, []
        self.indices.append(batch.indices)
        stacked = torch.stack([value.to(measured["loss"].dtype) for value in measured.values()])
        values = dict(zip(measured, distributed.all_reduce_mean(stacked).tolist(), strict=True))
        bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(values.get(name, 0.0))]
        if bad:
            path = write_nonfinite(self.folder, self.images, self.step, values, torch.cat(self.indices))
            raise TrainingError(
                f"{' and '.join(bad)} at step {self.step}: not finite, so the optimizer step was not taken; the images "
                f"of the batch are listed in {path.name}; look at them, or start a new run with a lower "
                f"optimizer.base_lr{self.advice}"
            )
        if values.get("masked_share", 0.0) > 0.5:
            raise TrainingError(
                f"masked share at step {self.step}: {100 * values['masked_share']:.0f} % of all negatives are of the "
                "query's own group, more than half; lower queue.size, add images of other groups, or set "
                "negatives.mask_groups=false"
            )
        return values


class Clock:
    """Seconds and steps since the last log line; what is not training (a k-NN score) is left out."""

    def __init__(self, stream: BatchStream, step: int) -> None:
        self.stream = stream
        self.restart(step)

    def restart(self, step: int) -> None:
        """Count from now, and from this step."""
        self.started, self.waited, self.step = time.monotonic(), self.stream.waited, step

    def lap(self, step: int, batch: int) -> dict[str, float]:
        """Return speed and share of waiting since the last restart, and restart."""
        seconds, waited = time.monotonic() - self.started, self.stream.waited - self.waited
        lap = {"images_per_second": (step - self.step) * batch / seconds, "data_wait": waited / seconds}
        self.restart(step)
        return lap


class LogMetrics:
    """Writes a record of the averages every `every` steps; `record` is the last one."""

    def __init__(
        self,
        writer: MetricsWriter | None,
        schedule: Schedule,
        clock: Clock,
        *,
        every: int,
        total_steps: int,
        coverage: Coverage | None,
        mixed: bool,
    ) -> None:
        self.writer, self.schedule, self.clock = writer, schedule, clock
        self.every, self.total_steps = every, total_steps
        self.coverage, self.mixed = coverage, mixed
        self.record: dict[str, Any] = {}

    def __call__(self, state: TrainingState, report: StepReport) -> None:
        step = state.step
        if step % self.every and step != self.total_steps:
            return
        lap = self.clock.lap(step, self.schedule.batch)  # before the measurements below, which take time too
        self.record = {
            "step": step,
            "epoch": step / self.schedule.steps_per_epoch,
            **losses_by_source(state.averages.take()),
            **self._health(report),
            **(self.coverage.at(step) if self.coverage is not None else {}),
            "lr": report.scheduled.lr,
            **({"synthetic": report.scheduled.negatives} if report.output.keys else {}),
            **lap,
        }
        if self.writer is not None:
            self.writer.write(self.record)

    def _health(self, report: StepReport) -> dict[str, float]:
        """Return the effective rank of a micro-batch's features over all ranks, and of each source's."""
        everyone = distributed.all_gather_rows(report.output.features)
        health = {"effective_rank": effective_rank(everyone)}
        if self.mixed:
            rows = distributed.all_gather_rows(report.batch.synthetic_rows.long()).bool()
            health |= features_by_source(everyone, rows)
        return health


class ScoreOnline:
    """Writes the k-NN score of the online encoder every few epochs, and stops a run whose score stands still."""

    def __init__(
        self, knn: OnlineKnn, writer: MetricsWriter | None, clock: Clock, schedule: Schedule, total_steps: int
    ) -> None:
        self.knn, self.writer, self.clock = knn, writer, clock
        self.schedule, self.total_steps = schedule, total_steps

    def __call__(self, state: TrainingState, report: StepReport) -> None:
        self.score_if_due(state)

    def score_if_due(self, state: TrainingState) -> None:
        """Score the encoder if the step asks for it.

        Raises:
            StreamEnded: on all ranks, without the score, if one of them received a signal or could not load its images.
        """
        step, per_epoch = state.step, self.schedule.steps_per_epoch
        if not self.knn.due(step, per_epoch, self.total_steps):
            return
        try:
            score = self.knn.score(state.model.online.encoder)
        except signals.Interrupted as ended:
            raise StreamEnded(ended.args[0], None) from None
        except DataError as error:
            ours = error.one_rank or not distributed.active()
            raise StreamEnded(distributed.FAILED, error if ours else None) from None
        if self.writer is not None:
            self.writer.write({"step": step, "epoch": step / per_epoch, "knn": score})
        if step > (self.schedule.switch_step or 0):
            state.knn_scores.append(distributed.broadcast_object(score))
        state.stopped_early = step < self.total_steps and stands_still(state.knn_scores, self.knn.patience)
        self.clock.restart(step)


class ShowProgress:
    """Moves the bar and shows the last record beside it."""

    def __init__(self, bar: Bar, log: LogMetrics) -> None:
        self.bar, self.log = bar, log

    def __call__(self, state: TrainingState, report: StepReport) -> None:
        self.bar.advance(1, training_text(self.log.record) if self.log.record else "")


class SaveCheckpoints:
    """Saves a checkpoint when one is due, and the state that a run ends with before its time."""

    def __init__(
        self,
        save: Callable[[TrainingState], object],
        bar: Bar,
        *,
        begun: int,
        every: int,
        minutes: float,
        total_steps: int,
    ) -> None:
        self.save, self.bar = save, bar
        self.every, self.seconds, self.total_steps = every, 60 * minutes, total_steps
        self.step, self.saved = begun, time.monotonic()

    def __call__(self, state: TrainingState, report: StepReport) -> None:
        """Save if one is due."""
        step = state.step
        ends = step == self.total_steps or state.stopped_early
        overdue = time.monotonic() - self.saved > self.seconds
        if step % self.every == 0 or ends or overdue:
            self.save_now(state)
        if state.stopped_early:
            self.bar.say(f"stopped early at step {step} of {self.total_steps}: the online k-NN score stands still")

    def save_now(self, state: TrainingState) -> None:
        """Save, on rank 0, unless this step is saved or none has been taken."""
        if distributed.is_main() and state.step != self.step:
            self.save(state)
            self.step, self.saved = state.step, time.monotonic()

    def save_and_leave(self, state: TrainingState, ended: StreamEnded) -> NoReturn:
        """Save what is in memory; raise what ended the stream once that is done."""
        self.save_now(state)
        distributed.barrier()
        saved = f"step {state.step} of {self.total_steps} is saved" if state.step else "no step was taken"
        self.bar.say(f"interrupted: {saved}; the same command resumes from there")
        ended.leave()
