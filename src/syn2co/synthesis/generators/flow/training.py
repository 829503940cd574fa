"""Training of the flow: every draw is keyed by (seed, step), so a killed run ends bit for bit like another.

Axis letters: N images, B batch, S side in pixels.
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from syn2co.core import keyed_rng
from syn2co.core.errors import TrainingError
from syn2co.core.progress import Bar
from syn2co.models.state import load_exactly
from syn2co.objective.ema import ema_update
from syn2co.objective.schedules import cosine_lr
from syn2co.runtime.checkpoint import FOLDER, newest_checkpoint, save_checkpoint
from syn2co.runtime.determinism import deterministic
from syn2co.runtime.optimizer import build_optimizer, clip_gradient, optimizer_tensors, restore_optimizer, set_lr
from syn2co.runtime.settings import MachineSettings, OptimizerSettings
from syn2co.runtime.signals import Interrupts, leave
from syn2co.synthesis.generators.flow.network import Velocity
from syn2co.synthesis.generators.model_file import refuse_other

GRADIENT = 1.0
"""Largest global norm of the gradient."""
Pixels = UInt8[np.ndarray, "N S S 3"]


class FlowTrainingSettings(Protocol):
    """The settings of `flow.FlowOptions` that training reads."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def ema(self) -> float: ...
    @property
    def label_drop(self) -> float: ...
    @property
    def flip(self) -> bool: ...
    @property
    def precision(self) -> str: ...
    @property
    def save_steps(self) -> int: ...


def to_unit(pixels: UInt8[np.ndarray, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """Return images in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def train(
    velocity: Velocity,
    pixels: Pixels,
    conditions: Int64[np.ndarray, " N"],
    recipe: FlowTrainingSettings,
    *,
    seed: int,
    folder: Path | None,
    state: dict[str, Any],
    progress: bool,
) -> Velocity:
    """Train `velocity` in place and return its exponential mean, which is the model.

    loss = mean |v(x_t, t, c) - (x1 - x0)|^2 with x_t = (1 - t) x0 + t x1, x0 ~ N(0, 1), t = sigmoid(N(0, 1)).
    With a `folder`, checkpoints with `state` are saved there and training resumes from the newest.
    Source: rectified flow, arXiv:2209.03003, Eq. 1; logit-normal t: arXiv:2403.03206, Sec. 3.1.

    Raises:
        TrainingError: if the loss is not finite.
        ConfigError, DataError: if the folder's checkpoints are of other settings or images.
        CheckpointError: if they are damaged or the disk is full.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM and its like (exit status 143), once one is saved.
    """
    with deterministic(MachineSettings()):
        velocity.measure(to_unit(pixels[start : start + 256]) for start in range(0, len(pixels), 256))
        velocity.train()
        return _loop(velocity, pixels, conditions, recipe, seed, folder, state, progress)


def _loop(
    velocity: Velocity,
    pixels: Pixels,
    conditions: Int64[np.ndarray, " N"],
    recipe: FlowTrainingSettings,
    seed: int,
    folder: Path | None,
    state: dict[str, Any],
    progress: bool,
) -> Velocity:
    mean = _copy(velocity)
    optimizer = build_optimizer(velocity, OptimizerSettings(weight_decay=0.0, betas=(0.9, 0.99)))
    step = 0 if folder is None else _restore(folder, velocity, mean, optimizer, state)
    device = velocity.mean.device
    autocast = torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()
    bar = Bar("train the flow", recipe.steps, done=step, show=progress)
    shown, started, first = math.nan, time.monotonic(), step
    with Interrupts() as interrupts, bar:
        while step < recipe.steps:
            x0, x1, t, condition = (
                part.to(device) for part in draw_batch(pixels, conditions, recipe, velocity.null, seed, step)
            )
            spread = t[:, None, None, None]
            set_lr(optimizer, cosine_lr(step, total=recipe.steps, warmup=recipe.warmup, peak=recipe.lr, start=0, end=0))
            with autocast:
                guess = velocity((1 - spread) * x0 + spread * x1, t, condition)
            loss = (guess - (x1 - x0)).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = clip_gradient(velocity, GRADIENT)
            loss_now = _finite_loss(loss, norm, step)
            optimizer.step()
            step += 1
            # A short memory at first, or the first weights would stay in the mean of a run of few steps.
            ema_update(mean.parameters(), velocity.parameters(), min(recipe.ema, step / (step + 9)))
            shown = loss_now if math.isnan(shown) else 0.98 * shown + 0.02 * loss_now
            speed = (step - first) * recipe.batch / (time.monotonic() - started)
            bar.advance(1, f"loss {shown:.3f}  {speed:.0f} images/s")
            leaving = interrupts.received and step < recipe.steps
            if folder is not None and (step % recipe.save_steps == 0 or step == recipe.steps or leaving):
                _save(folder, step, velocity, mean, optimizer, state)
            if leaving:
                bar.say(f"interrupted: {_kept(folder, step, recipe.steps)}")
                leave(interrupts.received)
    return mean.eval()


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " N"]:
    return keyed_rng.permutation(count, "flow", "order", seed, epoch)


def draw_batch(
    pixels: Pixels, conditions: Int64[np.ndarray, " N"], recipe: FlowTrainingSettings, null: int, seed: int, step: int
) -> Iterator[Tensor]:
    """Return noise, images, times and conditions of one step, a function of (seed, step) alone.

    Images come in a new order every epoch; `label_drop` of the conditions are the null condition.
    """
    places = range(step * recipe.batch, (step + 1) * recipe.batch)
    rows = np.array([_order(len(pixels), seed, position // len(pixels))[position % len(pixels)] for position in places])
    rng = keyed_rng.generator("flow", "step", seed, step)
    noise = rng.standard_normal((recipe.batch, 3, *pixels.shape[1:3]), dtype=np.float32)
    time_ = 1 / (1 + np.exp(-rng.standard_normal(recipe.batch)))
    dropped = rng.random(recipe.batch) < recipe.label_drop
    flipped = rng.random(recipe.batch) < (0.5 if recipe.flip else 0.0)
    images = pixels[rows]
    images[flipped] = images[flipped, :, ::-1]
    condition = np.where(dropped, null, conditions[rows])
    yield from (
        torch.from_numpy(noise),
        to_unit(images),
        torch.from_numpy(time_.astype(np.float32)),
        torch.from_numpy(condition),
    )


def _copy(velocity: Velocity) -> Velocity:
    import copy

    return copy.deepcopy(velocity).requires_grad_(False)


def _finite_loss(loss: Tensor, norm: Tensor, step: int) -> float:
    """Return the loss, if that and the norm of the gradient are finite; a GPU is waited for once."""
    values = torch.stack([loss.detach(), norm]).tolist()
    bad = [name for name, value in zip(("loss", "gradient"), values, strict=True) if not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f"{' and '.join(bad)} of the flow at step {step}: not finite, so the step was not taken; lower lr, raise "
            "warmup, or set precision to float32, in a new folder"
        )
    return values[0]


def _save(
    folder: Path, step: int, velocity: Velocity, mean: Velocity, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    tensors = {f"online.{name}": tensor for name, tensor in velocity.state_dict().items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in mean.state_dict().items()}
    save_checkpoint(folder, step, tensors | optimizer_tensors(velocity, optimizer), state, keep=2)


def _restore(
    folder: Path, velocity: Velocity, mean: Velocity, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> int:
    """Put the newest checkpoint of the folder back and return its step, 0 if there is none."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        return 0
    refuse_other(f"{folder.name}/{FOLDER}", checkpoint.state, state["settings"], state["fingerprint"])
    for prefix, module in (("online.", velocity), ("mean.", mean)):
        tensors = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
        load_exactly(module, tensors, checkpoint.path.name)
    restore_optimizer(velocity, optimizer, checkpoint.tensors)
    return checkpoint.state["step"]


def _kept(folder: Path | None, step: int, total: int) -> str:
    if folder is None:
        return "no model folder was given, so nothing is kept"
    return f"step {step} of {total} is saved; the same command resumes from there"
