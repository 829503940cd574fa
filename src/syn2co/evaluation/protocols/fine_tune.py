"""Fine-tuning: encoder and linear head trained together, with all labels or with few of them.

Source: BEiT, arXiv:2106.08254, and MAE, arXiv:2111.06377: AdamW with layer-wise decay, mixup, cutmix, drop path.
Axes: n labeled training images, B images of a batch, b of a micro-batch, M test images, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.progress import Bar
from syn2co.data.settings import ViewsSettings
from syn2co.evaluation.features import extract
from syn2co.evaluation.layer_decay import parameter_groups
from syn2co.evaluation.mixup import draw_mix, mix_images, mix_targets
from syn2co.evaluation.protocols.few_shot import details_of, draw_labels, labels_of, notes_on
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task, class_values
from syn2co.evaluation.settings import FineTuneSettings
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
from syn2co.runtime.optimizer import clip_gradient
from syn2co.runtime.settings import MachineSettings

NAME = "fine-tune"
BETAS = (0.9, 0.999)
SMALL = 64
"""Side in pixels up to which crops are those of small images."""


def crop_scale(settings: FineTuneSettings, size: int) -> tuple[float, float]:
    """Return the range of crop areas: the one that is set, or the usual one for images of `size` pixels."""
    usual = ViewsSettings.small(size) if size <= SMALL else ViewsSettings(size=size)
    return settings.crop_scale or usual.crop_scale


def plan_of(rows: Int64[Tensor, " n"], settings: FineTuneSettings, *, seed: int) -> TrainingPlan:
    """Return the plan of a training on `rows`: the epochs of the settings, or more of them for `min_steps` steps."""
    batch = min(settings.batch, len(rows))
    epochs = max(settings.epochs, -(-settings.min_steps // (len(rows) // batch)))
    return TrainingPlan(rows, batch, epochs, seed, NAME)


def micro_batches(count: int, most: int) -> tuple[Int64[Tensor, " b"], ...]:
    """Return the rows of a batch of `count` images in parts of at most `most`, about equally large."""
    return torch.arange(count).chunk(-(-count // most))


@dataclass
class _Training:
    """One training under way: networks, optimizer and plan."""

    task: Task
    encoder: Encoder
    head: nn.Linear
    plan: TrainingPlan
    optimizer: torch.optim.Optimizer
    layers: int
    has_drop_path: bool

    @classmethod
    def of(cls, task: Task, rows: Int64[Tensor, " n"], seed: int) -> "_Training":
        settings, original = task.settings.fine_tune, task.encoder
        if not isinstance(original, Encoder):
            raise NotApplicable("raw pixels have no weights, so there is nothing to fine-tune")
        encoder, has_drop_path = trainable_copy(original, drop_path=settings.drop_path)
        head = linear_head(encoder.width, len(task.splits.classes), purpose=NAME, seed=seed)
        encoder, head = encoder.to(task.device).train(), head.to(task.device)
        decay = {"layer_decay": settings.layer_decay, "weight_decay": settings.weight_decay}
        groups, layers = parameter_groups(encoder, head, **decay)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=task.device.type in ("cpu", "cuda"))
        plan = plan_of(rows, settings, seed=seed)
        parts = micro_batches(plan.batch, settings.micro_batch)
        require_pairs(encoder, parts, "fine_tune.micro_batch", settings.micro_batch)
        return cls(task, encoder, head, plan, optimizer, layers, has_drop_path)

    def batches(self) -> Iterator[TrainingBatch]:
        task, size = self.task, self.encoder.image_size
        views = crops_and_flips(size, crop_scale(task.settings.fine_tune, size))
        pin = task.device.type == "cuda"
        return training_batches(task.splits.train, self.plan, views, workers=task.settings.workers, pin=pin)

    def step(self, batch: TrainingBatch) -> float:
        """Take one step, `micro_batch` images at a time, and return the loss in nats."""
        settings = self.task.settings.fine_tune
        lr = self.plan.lr(batch.step, base_lr=settings.base_lr, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.zero_grad()
        images, targets = self._mixed(batch)
        total = torch.zeros((), device=images.device)
        for part in micro_batches(len(images), settings.micro_batch):
            draw_drop_path(self.encoder, batch.indices[part], seed=self.plan.seed, epoch=batch.epoch)
            rows = part.to(images.device)
            loss = self._loss(images[rows], targets[rows]) / len(images)
            loss.backward()
            total += loss.detach()
        value = require_finite(total, batch.step, "fine_tune.base_lr")
        clip_gradient(nn.ModuleList([self.encoder, self.head]), settings.clip)
        self.optimizer.step()
        return value

    def _mixed(self, batch: TrainingBatch) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B C"]]:
        settings, splits = self.task.settings.fine_tune, self.task.splits
        images = self.encoder.preprocess(batch.views)
        rng = keyed_rng.generator("fine-tune mix", self.plan.seed, batch.step)
        mix = draw_mix(self.encoder.image_size, mixup=settings.mixup, cutmix=settings.cutmix, rng=rng)
        labels = splits.train_labels[batch.indices].to(images.device)
        targets = mix_targets(labels, mix, classes=len(splits.classes), smoothing=settings.smoothing)
        return mix_images(images, mix), targets

    def _loss(self, images: Float[Tensor, "b 3 S S"], targets: Float[Tensor, "b C"]) -> Float[Tensor, ""]:
        """Return the sum over images of -sum_c target_c log softmax(z)_c, in float32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.task.settings.precision == "bfloat16"):
            logits = self.head(self.encoder(images))
        return -(targets * torch.log_softmax(logits.float(), dim=1)).sum()


class _Outcome(NamedTuple):
    """Classes of the test images after the last epoch, and what the training was."""

    predicted: Int64[Tensor, " M"]
    steps: int
    epochs: int
    batch: int
    layers: int
    last_loss: float
    notes: tuple[str, ...]


def _fine_tuned(task: Task, rows: Int64[Tensor, " n"], *, seed: int, title: str) -> _Outcome:
    """Train a copy of the encoder on `rows` of the training images; predict the test images once, at the end."""
    training = _Training.of(task, rows, seed)
    loss, name = 0.0, training.encoder.spec.name
    with (
        deterministic(MachineSettings()),
        Bar(f"{task.name}: {title}", training.plan.steps, show=task.progress and distributed.is_main()) as bar,
    ):
        for batch in training.batches():
            loss = training.step(batch)
            bar.advance(text=f"loss {loss:.3f}")
    for network in (training.encoder, training.head):
        distributed.broadcast_state(network)
    how = task.settings
    features = extract(
        training.encoder, task.splits.test, device=task.device, precision=how.precision, batch_size=how.batch_size,
        workers=how.workers,
    )  # fmt: skip
    notes = [] if training.has_drop_path else [f"{NAME}: {name} has no drop path, so it is trained without"]
    if training.layers == 1:
        notes.append(f"{NAME}: timm knows no layers of {name}, so all of them have the same learning rate")
    plan = training.plan
    predicted = predict(training.head, features, "fine_tune.base_lr")
    return _Outcome(predicted, plan.steps, plan.epochs, plan.batch, training.layers, loss, tuple(notes))


def _values(task: Task, predicted: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    labels = task.splits.test_labels
    return class_values((predicted == labels).float(), labels, len(task.splits.classes), task.metric)


def _definition(task: Task, **more: Any) -> dict[str, Any]:
    settings = task.settings.fine_tune
    values = settings.model_dump(mode="json", exclude={"shares", "per_class", "draws", "crop_scale"})
    size: Any = task.encoder.image_size
    rates = {"warmup_lr": WARMUP_LR, "final_lr": FINAL_LR, "betas": BETAS}
    return {"protocol": NAME, **rates, **values, "crop_scale": crop_scale(settings, size), **more}


def fine_tune(task: Task) -> list[ProtocolResult]:
    """Return the score of a copy of the encoder, trained with a linear head on all labels, after its last epoch.

    AdamW with layer-wise decay of the learning rate, random crops and flips, mixup or cutmix, label smoothing and drop
    path. The settings are fixed: nothing is chosen by the test images, which are seen once. Each rank does all of it.

    Raises:
        NotApplicable: for raw pixels, if loss or logits are not finite, or if batch norm would see a single image.
    """
    outcome = _fine_tuned(task, torch.arange(len(task.splits.train)), seed=task.seed, title=NAME)
    details = {name: getattr(outcome, name) for name in ("steps", "epochs", "batch", "layers", "last_loss")}
    result = ProtocolResult(
        values=_values(task, outcome.predicted),
        metric=task.metric,
        definition=_definition(task),
        setting=f"{outcome.epochs} epochs",
        predicted=outcome.predicted,
        details=details,
        notes=outcome.notes,
    )
    return [result]


def fine_tune_few(task: Task) -> list[ProtocolResult]:
    """Return the score of fine-tuning with few labels, for every number in the settings: the mean over draws of them.

    The draws are the first ones of the few-shot protocol; their number is the seed of all that is random in a training.

    Raises:
        NotApplicable: for raw pixels, if the settings name no number of labels, or if a loss is no longer finite.
    """
    settings = task.settings.fine_tune
    rows = labels_of(settings.shares, settings.per_class)
    if not rows:
        raise NotApplicable("fine_tune.shares and fine_tune.per_class are empty, so there is nothing to draw")
    results: list[ProtocolResult] = []
    for wanted in rows:
        row, labels = f"{NAME} {wanted}", task.splits.train_labels
        chosen = [draw_labels(labels, wanted, draw=draw) for draw in range(settings.draws)]
        outcomes = [
            _fine_tuned(task, images, seed=draw, title=f"{row}, draw {draw}") for draw, images in enumerate(chosen)
        ]
        values = torch.stack([_values(task, outcome.predicted) for outcome in outcomes])
        count, notes = len(chosen[0]), [note for outcome in outcomes for note in outcome.notes]
        results.append(
            ProtocolResult(
                values=values,
                metric=task.metric,
                n_train=count,
                name=row,
                definition=_definition(task, labels=str(wanted), draws=settings.draws),
                setting=f"{count} labels, {settings.draws} draws",
                details={**details_of(values, count, seed=task.seed), "steps": outcomes[0].steps},
                notes=tuple(dict.fromkeys([*notes_on(labels, wanted, row), *notes])),
            )
        )
    return results
