"""Run and training state of the loop: a step changes the state and leaves the run as it is."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

import torch
from torch import Tensor, nn

from syn2co import objective
from syn2co.core.transfer import to_device
from syn2co.data.batch import Batch
from syn2co.data.loader import Schedule
from syn2co.pretraining.config import Config
from syn2co.pretraining.method import Syn2Co
from syn2co.pretraining.metrics import Averages
from syn2co.pretraining.step import StepOutput, StepPosition, enqueue
from syn2co.pretraining.supervised import Supervised
from syn2co.runtime import distributed, signals
from syn2co.runtime.optimizer import set_lr

Method = Syn2Co | Supervised
"""A model and how it is trained: `online` (with its `encoder`), `queues`, `update_target` and `training_step`."""


def training_step(
    model: Method, online: nn.Module, batch: Batch, position: StepPosition, *, negatives: bool
) -> StepOutput:
    """Return loss, measurements and keys of this rank's part of a micro-batch, by the model's own method.

    `online` is `model.online`, perhaps wrapped to average gradients; `negatives` opens the window of synthetic ones.
    """
    return model.training_step(online, batch, position, negatives=negatives)


class ScheduledValues(NamedTuple):
    """Scheduled values of one optimizer step."""

    lr: float
    momentum: float
    """Of the target branch."""
    negatives: bool
    """Whether the window of synthetic negatives is open."""


class Schedules:
    """Learning rate, momentum of the target, and window of synthetic negatives, as functions of the step.

    A run that goes over from synthetic to real images has two phases, each with a warm-up and cosines of its own; the
    window counts the epochs of the whole run.
    """

    def __init__(self, config: Config, schedule: Schedule, total_steps: int) -> None:
        optimizer, negatives, batch = config.optimizer, config.negatives, config.training.batch
        rates = (optimizer.base_lr, optimizer.warmup_lr, optimizer.final_lr)
        peak, start, end = (objective.scaled_lr(rate, batch) for rate in rates)
        per_epoch = schedule.steps_per_epoch
        warmup = round(optimizer.warmup_epochs * per_epoch)
        self._lr = partial(objective.cosine_lr, warmup=warmup, peak=peak, start=start, end=end)
        self._momentum = partial(objective.ema_momentum, base=config.training.momentum)
        stop = float("inf") if negatives.stop is None else negatives.stop
        self._window = partial(objective.window_open, steps_per_epoch=per_epoch, start=negatives.start, stop=stop)
        self._switch, self._total = schedule.switch_step or 0, total_steps

    def at(self, step: int) -> ScheduledValues:
        """Return the values of optimizer step `step`, counted from 0."""
        second = step >= self._switch
        in_phase = step - self._switch if second else step
        total = self._total - self._switch if second else self._switch
        lr, momentum = self._lr(in_phase, total=total), self._momentum(in_phase, total=total)
        return ScheduledValues(lr, momentum, self._window(step))


class LongWarmup(NamedTuple):
    """A warm-up that takes more than half of a phase."""

    reason: str
    """The setting, the steps, and the effect on the learning rate, in one clause."""
    epochs: float
    """Warm-up of a tenth of that phase."""


def long_warmup(config: Config, steps_per_epoch: int, total_steps: int, switch_step: int = 0) -> LongWarmup | None:
    """Return what is wrong with a warm-up of more than half of the run's shortest phase, None for any other.

    `cosine_lr` counts from the first step of a phase, as MoBY's does, so behind a warm-up of the share x the rate goes
    on at (1 + cos(pi x)) / 2 of its peak: at 0.5, half of it at once.
    """
    steps = min(phase for phase in (switch_step, total_steps - switch_step) if phase > 0)
    warmup = round(config.optimizer.warmup_epochs * steps_per_epoch)
    if 2 * warmup <= steps:
        return None
    fall = 2 / (1 + math.cos(math.pi * warmup / steps)) if warmup < steps else 0.0
    effect = f"then the learning rate falls {fall:.2g}-fold in one step" if fall else "its peak is never reached"
    reason = f"optimizer.warmup_epochs = {config.optimizer.warmup_epochs:g} is {warmup} of {steps} steps, and {effect}"
    return LongWarmup(reason, 0.1 * steps / steps_per_epoch)


class StreamEnded(Exception):
    """On all ranks: no batches of the next step, because of a signal or of an error. The state is that of a save."""

    def __init__(self, received: int, error: Exception | None) -> None:
        self.received, self.error = received, error

    def leave(self) -> NoReturn:
        """Raise what ends the run: the error of this rank, that of another one in words, or that of the signal."""
        if self.error is not None:
            self.error.one_rank = True  # type: ignore[attr-defined] - no other rank has met it
            raise self.error
        if self.received == distributed.FAILED:
            raise distributed.another_failed()
        signals.leave(self.received)


class BatchStream:
    """Batches of this rank on its device, and the seconds that were spent on waiting for them."""

    def __init__(self, batches: Generator[Batch, None, None], device: torch.device) -> None:
        self.batches, self.device = batches, device
        self.waited = 0.0

    def next_step(self, micro_batches: int) -> Iterator[Batch]:
        """Return the micro-batches of a step, all of them loaded: from then on nothing that can be foreseen stops it.

        Raises:
            StreamEnded: on all ranks, if one of them received a signal or could not load its part.
        """
        asked = time.monotonic()
        loaded, error = list[Batch](), None
        try:
            loaded.extend(islice(self.batches, micro_batches))
        except signals.Interrupted:
            pass
        except Exception as raised:
            error = raised
        self.waited += time.monotonic() - asked
        status = distributed.largest(distributed.FAILED if error else signals.received())
        if status:
            raise StreamEnded(status, error)
        return (self._moved(batch) for batch in loaded)

    def _moved(self, batch: Batch) -> Batch:
        """Return the batch on the device, but for the sample ids, which are keys of draws and so the host's."""
        moved = Batch(*(to_device(part, self.device) for part in batch))
        return moved._replace(sample_ids=batch.sample_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing(self.batches).__exit__(kind, error, trace)


@dataclass
class TrainingState:
    """State that a step changes: weights, queues, optimizer, count of steps, and averages since the last log line."""

    model: Method
    online: nn.Module
    """`model.online`, perhaps wrapped to average gradients over ranks."""
    optimizer: torch.optim.Optimizer
    step: int
    averages: Averages
    knn_scores: list[float]
    """Online k-NN scores so far that count for early stopping, in percent."""
    stopped_early: bool = False
    """Whether that score has stood still for so long that no step is to follow."""

    def enqueue(self, keys: tuple[Tensor, ...], groups: Tensor) -> None:
        """Put the keys of all ranks into the queues of their views."""
        enqueue(self.model.queues, keys, groups)

    def optimizer_step(self, lr: float) -> None:
        """Change the weights, forget the gradients, count the step."""
        set_lr(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1


class StepReport(NamedTuple):
    """Report of a step to the observers, beside the state after it."""

    scheduled: ScheduledValues
    batch: Batch
    """The last micro-batch."""
    output: StepOutput
    """Of the last micro-batch."""


Observer = Callable[[TrainingState, StepReport], None]
"""Called on every rank after every optimizer step, with the state after it; it may talk to other ranks."""


@dataclass(frozen=True)
class Run:
    """What is fixed before the loop, the stream of batches, and the observers."""

    total_steps: int
    micro_batches: int
    """Per optimizer step."""
    clip: float | None
    """Largest global norm of the gradient; None never clips."""
    schedule: Schedule
    """Which images make up which step."""
    schedules: Schedules
    """Learning rate, momentum and window at which step."""
    stream: BatchStream
    average_and_check: Callable[[dict[str, Tensor], Batch, StepPosition], dict[str, float]]
    """Returns the measurements averaged over ranks, or raises on all of them if the step must not be taken."""
    observers: Sequence[Observer] = ()

    def position(self, step: int, micro_batch: int) -> StepPosition:
        """Return where this rank's part of a micro-batch stands in the run."""
        schedule = self.schedule
        first = distributed.rank() * schedule.rank_rows
        return StepPosition(step, schedule.epoch(step), micro_batch, first, schedule.micro_rows)
