"""What the protocols that train have in common: random views of labeled images by step, a copy of the encoder, a head.

Every draw is keyed by (purpose, seed, epoch, image), so that a training is the same on every run; each rank does all of
it. Axes: N training images, B images of a batch, S side of a view in pixels, M test images, D features.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import one_view
from syn2co.evaluation.crops import crop_batches
from syn2co.evaluation.protocols.protocol import NotApplicable
from syn2co.images.image_set import ImageSet
from syn2co.models.drop_path import drop_path_uniforms, set_drop_path
from syn2co.models.encoder import Encoder, build_encoder, copy_crop
from syn2co.models.state import load_exactly
from syn2co.models.trial import try_training_pass
from syn2co.objective.schedules import cosine_lr, scaled_lr

WARMUP_LR, FINAL_LR = 5e-7, 5e-6
"""Learning rates at both ends of the schedule, for a batch of 512 (MoBY's code, for its linear protocol too)."""


@dataclass(frozen=True)
class TrainingPlan:
    """Which images are seen when: in every epoch a keyed permutation, cut into whole batches; its rest is left out.

    Attributes: `rows`, the images by their index; `batch`, at most their number; `purpose`, a text that keys all draws.
    """

    rows: Int64[Tensor, " N"]
    batch: int
    epochs: int
    seed: int
    purpose: str

    @property
    def steps_per_epoch(self) -> int:
        return len(self.rows) // self.batch

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def batches(self) -> Iterator[tuple[int, Int64[Tensor, " B"]]]:
        """Yield the epoch and the images of every step."""
        for epoch in range(self.epochs):
            order = keyed_rng.permutation(len(self.rows), f"{self.purpose} order", self.seed, epoch)
            rows = self.rows[torch.from_numpy(order)]
            for start in range(0, self.steps_per_epoch * self.batch, self.batch):
                yield epoch, rows[start : start + self.batch]

    def lr(self, step: int, *, base_lr: float, warmup: float) -> float:
        """Return the learning rate of a step: linear over the share `warmup` of all steps, then a cosine.

        base_lr is for a batch of 512 and scales with the batch; see `objective.schedules.cosine_lr`.
        """
        peak, start, end = (scaled_lr(lr, self.batch) for lr in (base_lr, WARMUP_LR, FINAL_LR))
        return cosine_lr(step, total=self.steps, warmup=round(warmup * self.steps), peak=peak, start=start, end=end)


class TrainingBatch(NamedTuple):
    """Views of one step, the images that they are of, and the epoch."""

    step: int
    epoch: int
    indices: Int64[Tensor, " B"]
    views: UInt8[Tensor, "B S S 3"]


def crops_and_flips(size: int, scale: tuple[float, float]) -> ViewsSettings:
    """Return the settings of views: a random crop whose share of the area is in `scale`, and a flip in half of them.

    Source: torchvision's RandomResizedCrop and RandomHorizontalFlip, the papers' augmentation of linear protocols.
    """
    return ViewsSettings(size=size, crop_scale=scale, color_jitter_prob=0, grayscale=0, blur=(0, 0), solarize=(0, 0))


class _ViewReader(NamedTuple):
    """Keys epoch * N + index to views."""

    images: ImageSet
    settings: ViewsSettings
    seed: int
    purpose: str

    @property
    def size(self) -> int:
        return self.settings.size

    def fill(self, crops: UInt8[Tensor, "B S S 3"], indices: Sequence[int]) -> None:
        """Write the views of the keys into `crops`."""
        pixels = crops.numpy()
        for row, key in enumerate(indices):
            epoch, index = divmod(key, len(self.images))
            image = self.images.read(index)
            pixels[row] = one_view(
                image, self.settings, seed=self.seed, epoch=epoch, index=index, purpose=f"{self.purpose} views"
            )


def training_batches(
    images: ImageSet, plan: TrainingPlan, views: ViewsSettings, *, workers: int | None, pin: bool
) -> Iterator[TrainingBatch]:
    """Yield every batch of a plan, decoded in the background; equal for any number of `workers`.

    Raises:
        DataError: if an image that was readable when the set was opened no longer is.
    """
    reader = _ViewReader(images, views, plan.seed, plan.purpose)
    keys = ((epoch * len(images) + rows).tolist() for epoch, rows in plan.batches())
    with closing(crop_batches(reader, keys, workers=workers, pin=pin)) as crops:
        for step, ((epoch, rows), batch) in enumerate(zip(plan.batches(), crops, strict=True)):
            yield TrainingBatch(step, epoch, rows, batch)


def trainable_copy(encoder: Encoder, *, drop_path: float) -> tuple[Encoder, bool]:
    """Return a copy of the encoder whose weights are trained and that has drop path, and whether it could get that.

    What a fresh network does not train, such as fixed positions, is not trained in the copy either.

    Raises:
        NotApplicable: if the network cannot be trained so that another run repeats it.
    """
    try:
        copy, has_drop_path = build_encoder(encoder.spec, seed=0, drop_path=drop_path), True
        try_training_pass(copy)
    except ConfigError:  # the network was built before with these options, so that drop path alone can be refused
        copy, has_drop_path = build_encoder(encoder.spec, seed=0), False
        try:
            try_training_pass(copy)
        except ConfigError as error:
            raise NotApplicable(str(error)) from None
    load_exactly(copy, encoder.state_dict(), f"a copy of {encoder.spec.name}")
    copy_crop(encoder, copy)
    return copy, has_drop_path


def draw_drop_path(encoder: Encoder, indices: Int64[Tensor, " B"], *, seed: int, epoch: int) -> None:
    """Give an encoder in train mode the draws of its next forward pass, keyed by (seed, epoch, image, layer)."""
    layers = encoder.drop_layers
    if layers:
        uniforms = drop_path_uniforms(len(layers), indices, seed=seed, epoch=epoch, view=0)
        set_drop_path(layers, uniforms.to(next(encoder.parameters()).device))


def linear_head(width: int, classes: int, *, purpose: str, seed: int) -> nn.Linear:
    """Return a linear classifier with weights of a normal distribution, cut off at two, of std 0.02; zero biases.

    Source: DeiT, arXiv:2012.12877, whose classifier Swin and MoBY have too.
    """
    with keyed_rng.torch_seed("weights", seed, purpose):
        head = nn.Linear(width, classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def predict(head: nn.Linear, features: Float[Tensor, "M D"], setting: str) -> Int64[Tensor, " M"]:
    """Return the class of the largest logit of each row, the lowest on a tie, on the CPU.

    Raises:
        NotApplicable: if a logit is NaN or infinite, as it is where a feature is; a score of such would be chance.
    """
    with torch.no_grad():
        logits = head(features.to(head.weight))
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    if bad:
        raise NotApplicable(
            f"{bad} of {len(logits)} test images have logits that are NaN or infinite after training, so there is no "
            f"score; lower {setting} or use float32"
        )
    return logits.argmax(dim=1).cpu()


def require_pairs(encoder: nn.Module, parts: Sequence[Tensor], setting: str, value: int) -> None:
    """Let batch norm be in train mode only if every one of the `parts` that a batch is cut into has two images.

    Raises:
        NotApplicable: if one has a single image, over which batch norm has no statistics.
    """
    if getattr(encoder, "batch_norm", False) and min(map(len, parts)) < 2:
        raise NotApplicable(
            f"{setting} = {value}: a batch of {sum(map(len, parts))} images leaves a part of a single image, over "
            f"which batch norm has no statistics; choose another {setting}"
        )


def require_finite(loss: Tensor, step: int, setting: str) -> float:
    """Return the loss as a number.

    Raises:
        NotApplicable: if it is NaN or infinite, so that this encoder gets no score and the others keep theirs.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NotApplicable(f"the loss is {value} at step {step}, so there is no score; lower {setting} or use float32")
    return value
