"""Linear head on random views of the training images: the papers' protocol, and MoBY's variant as its code runs it.

Source: MoBY, arXiv:2105.04553, and its `moby_linear.py`. The head is linear and nothing else (no batch norm before it).
Axes: N training images, B images of a batch, C classes, D features.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from syn2co.core.progress import Bar
from syn2co.evaluation.features import extract
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task, class_values
from syn2co.evaluation.training import (
    FINAL_LR,
    WARMUP_LR,
    TrainingBatch,
    TrainingPlan,
    crops_and_flips,
    draw_drop_path,
    linear_head,
    predict,
    require_finite,
    require_pairs,
    trainable_copy,
    training_batches,
)
from syn2co.models.encoder import Encoder
from syn2co.runtime import distributed
from syn2co.runtime.determinism import deterministic
from syn2co.runtime.optimizer import clip_gradient, set_lr
from syn2co.runtime.settings import MachineSettings

CROP_SCALE = (0.08, 1.0)
MOMENTUM = 0.9
CLIP = 5.0


@dataclass(frozen=True)
class Variant:
    """What distinguishes the two protocols: the mode of the frozen encoder, its drop path, and label smoothing."""

    name: str
    train_mode: bool = False
    drop_path: float = 0.0
    smoothing: float = 0.0


PAPERS = Variant("linear-augmented")
AS_RELEASED = Variant("linear-moby-as-released", train_mode=True, drop_path=0.2, smoothing=0.1)


def linear_augmented(task: Task) -> list[ProtocolResult]:
    """Return the score of the papers' linear protocol after its last epoch; the test images are seen once, then.

    The encoder is frozen, in eval mode; random crops of 0.08 to 1 of the area and flips; SGD with Nesterov momentum
    0.9, no weight decay, gradient clipped at 5, lr base_lr x batch / 512, linear warm-up, then a cosine.

    Raises:
        NotApplicable: if the loss is no longer finite.
    """
    return [_score(task, copy.deepcopy(task.encoder), PAPERS, ())]


def linear_moby_as_released(task: Task) -> list[ProtocolResult]:
    """Return the score of the same protocol as the released code of MoBY runs it: to compare with published rows alone.

    There the frozen encoder stays in train mode, with drop path 0.2, and labels are smoothed by 0.1: noise in features
    that the head cannot change.

    Raises:
        NotApplicable: for raw pixels, if the loss is no longer finite, or if batch norm would see a single image.
    """
    if not isinstance(task.encoder, Encoder):
        raise NotApplicable("raw pixels have neither a train mode nor drop path")
    encoder, has_drop_path = trainable_copy(task.encoder, drop_path=AS_RELEASED.drop_path)
    notes = [f"{AS_RELEASED.name}: only to compare with published rows; the encoder is in train mode with drop path"]
    if not has_drop_path:
        notes.append(f"{AS_RELEASED.name}: {encoder.spec.name} has no drop path, so it runs without")
    return [_score(task, encoder, AS_RELEASED, tuple(notes))]


def _score(task: Task, encoder: nn.Module, variant: Variant, notes: tuple[str, ...]) -> ProtocolResult:
    settings, splits = task.settings.linear_augmented, task.splits
    batch = min(settings.batch, len(splits.train))
    rows = torch.arange(len(splits.train))
    plan = TrainingPlan(rows, batch, settings.epochs, task.seed, variant.name)
    encoder.to(task.device).requires_grad_(False).train(variant.train_mode)
    test = task.test_features
    head = linear_head(test.shape[1], len(splits.classes), purpose=variant.name, seed=task.seed).to(task.device)
    if variant.train_mode:
        require_pairs(encoder, rows[:batch].split(task.settings.batch_size), "batch_size", task.settings.batch_size)
    with deterministic(MachineSettings()):
        loss = _train(task, encoder, head, plan, variant)
    distributed.broadcast_state(head)
    if _moves(task, variant):
        distributed.broadcast_state(encoder)
        test = _features_of(task, encoder)
    predicted = predict(head, test, "linear_augmented.base_lr")
    right = (predicted == splits.test_labels).float()
    return ProtocolResult(
        values=class_values(right, splits.test_labels, len(splits.classes), task.metric),
        metric=task.metric,
        definition=_definition(task, variant),
        setting=f"{settings.epochs} epochs",
        predicted=predicted,
        details={"steps": plan.steps, "batch": batch, "last_loss": loss},
        notes=notes,
    )


def _moves(task: Task, variant: Variant) -> bool:
    """Return whether running statistics of batch norm move; then features depend on `batch_size` too."""
    return variant.train_mode and bool(getattr(task.encoder, "batch_norm", False))


def _definition(task: Task, variant: Variant) -> dict[str, Any]:
    fixed: dict[str, Any] = {
        "protocol": variant.name, "momentum": MOMENTUM, "nesterov": True, "clip": CLIP, "crop_scale": CROP_SCALE,
        "warmup_lr": WARMUP_LR, "final_lr": FINAL_LR,
    }  # fmt: skip
    if _moves(task, variant):
        fixed["batch_size"] = task.settings.batch_size
    parts = {"drop_path": variant.drop_path, "smoothing": variant.smoothing, "train_mode": variant.train_mode}
    return {**fixed, **parts, **task.settings.linear_augmented.model_dump(mode="json")}


def _features_of(task: Task, encoder: nn.Module) -> Float[Tensor, "M D"]:
    how = task.settings
    return extract(
        encoder, task.splits.test, device=task.device, precision=how.precision, batch_size=how.batch_size,
        workers=how.workers,
    )  # fmt: skip


def _train(task: Task, encoder: nn.Module, head: nn.Linear, plan: TrainingPlan, variant: Variant) -> float:
    """Train the head in place and return the loss of the last step in nats."""
    settings, images = task.settings.linear_augmented, task.splits.train
    size: Any = encoder.image_size
    optimizer = optimizer_of(head)
    batches = training_batches(
        images, plan, crops_and_flips(size, CROP_SCALE), workers=task.settings.workers, pin=task.device.type == "cuda"
    )
    loss, show = 0.0, task.progress and distributed.is_main()
    with Bar(f"{task.name}: {variant.name}", plan.steps, show=show) as bar:
        for batch in batches:
            features = frozen_features(task, encoder, batch)
            labels = task.splits.train_labels[batch.indices].to(features.device)
            set_lr(optimizer, plan.lr(batch.step, base_lr=settings.base_lr, warmup=settings.warmup))
            step_loss = step(head, optimizer, features, labels, smoothing=variant.smoothing)
            loss = require_finite(step_loss, batch.step, "linear_augmented.base_lr")
            bar.advance(text=f"loss {loss:.3f}")
    return loss


@torch.no_grad()
def frozen_features(task: Task, encoder: nn.Module, batch: TrainingBatch) -> Float[Tensor, "B D"]:
    """Return the features of the views of a batch in float32, `batch_size` images at a time."""
    parts, size = [], task.settings.batch_size
    call: Any = encoder
    for views, indices in zip(batch.views.split(size), batch.indices.split(size), strict=True):
        if isinstance(encoder, Encoder) and encoder.training:
            draw_drop_path(encoder, indices, seed=task.seed, epoch=batch.epoch)
        with torch.autocast(task.device.type, torch.bfloat16, enabled=task.settings.precision == "bfloat16"):
            parts.append(call(call.preprocess(views)).float())
    return torch.cat(parts)


def optimizer_of(head: nn.Linear) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum and without weight decay; its learning rate comes from `set_lr`."""
    return torch.optim.SGD(head.parameters(), lr=0.0, momentum=MOMENTUM, nesterov=True)


def step(
    head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    features: Float[Tensor, "B D"],
    labels: Int64[Tensor, " B"],
    *,
    smoothing: float,
) -> Float[Tensor, ""]:
    """Take one step of the optimizer on the mean cross-entropy of a batch, and return that loss in nats."""
    loss = cross_entropy(head(features), labels, label_smoothing=smoothing)
    optimizer.zero_grad()
    loss.backward()
    clip_gradient(head, CLIP)
    optimizer.step()
    return loss
