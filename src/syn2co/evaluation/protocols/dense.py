"""Dense: how well a linear head reads the class of each pixel from frozen patch tokens.

Axes: N training images, M test images, B images of a batch, T = h w patch tokens, D features of a token, C classes, S
side of a crop in pixels.
Source: the linear segmentation of DINOv2, arXiv:2304.07193 (a linear layer, its logits bilinear to the pixels); tokens
are standardized by fixed numbers instead of batch statistics, and the schedule is our own, shorter one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypedDict, Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from syn2co.core import keyed_rng
from syn2co.core.errors import EvaluationError
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.features import frozen
from syn2co.evaluation.protocols.linear import HELD_OUT, Scaling, scaling_of
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task
from syn2co.evaluation.segmentation import IGNORED, crop_masks
from syn2co.evaluation.settings import DenseSettings
from syn2co.images.image_set import ImageSet
from syn2co.models.tokens import Grid, encoder_tokens

_CELLS = 2**24  # logits of pixels held at once: 64 MiB, some four times that with the loss and its gradient
_GIB = 2**30


class Segments(NamedTuple):
    """Patch tokens of the images of one side, row after row of each, and the classes of the pixels of their crops."""

    tokens: Float[Tensor, "N T D"]
    masks: UInt8[Tensor, "N S S"]
    grid: Grid

    def take(self, rows: Int64[Tensor, " n"]) -> "Segments":
        """Return the images at `rows`."""
        return Segments(self.tokens[rows], self.masks[rows], self.grid)

    def parts(self, rows: Int64[Tensor, " n"], classes: int) -> Iterator["Segments"]:
        """Yield the images at `rows` in parts whose logits fit in memory."""
        pixels = self.masks.shape[1] * self.masks.shape[2]
        for part in rows.split(max(1, _CELLS // (classes * pixels))):
            yield self.take(part)


@dataclass(frozen=True)
class SegmentationHead:
    """A linear layer on standardized tokens."""

    scaling: Scaling
    weight: Float[Tensor, "D C"]
    bias: Float[Tensor, " C"]

    @property
    def classes(self) -> int:
        return len(self.bias)

    def logits(self, segments: Segments) -> Float[Tensor, "B C S S"]:
        """Return the logits of every pixel: those of the tokens, bilinear between their centers.

        By two products with matrices, because the gradient of torch's `interpolate` is not deterministic on CUDA.
        """
        height, width = segments.grid
        by_token = self.scaling.apply(segments.tokens.flatten(0, 1)) @ self.weight + self.bias
        maps = by_token.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)
        up, across = (upsampling(n, segments.masks.shape[1]).to(maps) for n in segments.grid)
        return up @ maps @ across.T


def upsampling(tokens: int, pixels: int) -> Float[Tensor, "S h"]:
    """Return the matrix of bilinear interpolation from `tokens` to `pixels` places of an axis, corners not aligned."""
    return F.interpolate(torch.eye(tokens)[None], size=pixels, mode="linear", align_corners=False)[0].T.contiguous()


class _Fixed(TypedDict):
    """What is equal in every fit of one task."""

    classes: int
    settings: DenseSettings
    seed: int
    device: torch.device


def fit_head(segments: Segments, *, learning_rate: float, **fixed: Unpack[_Fixed]) -> SegmentationHead:
    """Return the head after all epochs of AdamW on the mean cross-entropy of a batch's labeled pixels, from zero.

    lr_t = learning_rate (1 + cos(pi t / steps)) / 2; the images of each epoch are in a keyed order. The bias does not
    decay.
    """
    classes, settings, seed, device = fixed["classes"], fixed["settings"], fixed["seed"], fixed["device"]
    count, _, width = segments.tokens.shape
    weight = torch.zeros(width, classes, device=device, requires_grad=True)
    bias = torch.zeros(classes, device=device, requires_grad=True)
    head = SegmentationHead(scaling_of(segments.tokens.flatten(0, 1), device), weight, bias)
    groups = [{"params": [weight], "weight_decay": settings.weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    steps, step = settings.epochs * math.ceil(count / settings.batch_size), 0
    for epoch in range(settings.epochs):
        order = torch.from_numpy(keyed_rng.permutation(count, "dense order", seed, epoch))
        for rows in order.split(settings.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            _backward(head, segments, rows)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return SegmentationHead(head.scaling, weight.detach(), bias.detach())


def _backward(head: SegmentationHead, segments: Segments, rows: Int64[Tensor, " B"]) -> None:
    """Add the gradient of the mean cross-entropy over the labeled pixels of the images at `rows`."""
    labeled = int((segments.masks[rows] != IGNORED).sum())
    for part in segments.parts(rows, head.classes):
        (_cross_entropy(head, part) / max(1, labeled)).backward()


def _cross_entropy(head: SegmentationHead, segments: Segments) -> Float[Tensor, ""]:
    """Return the sum over labeled pixels in nats."""
    logs = head.logits(segments).log_softmax(dim=1)
    wanted = segments.masks.to(logs.device).long()
    picked = logs.gather(1, wanted.clamp(max=head.classes - 1)[:, None])[:, 0]
    return -picked.where(wanted != IGNORED, 0).sum()


class Confusion(NamedTuple):
    """Pixels of each image per class: right (I), right or wrong either way (U), and [true, predicted] of all images."""

    intersections: Int64[Tensor, "M C"]
    unions: Int64[Tensor, "M C"]
    total: Int64[Tensor, "C C"]


@torch.no_grad()
def confusion_of(head: SegmentationHead, segments: Segments) -> Confusion:
    """Return the counts of the head's most likely classes on the labeled pixels."""
    classes, images = head.classes, torch.arange(len(segments.masks))
    intersections, unions, total = [], [], torch.zeros(classes, classes, dtype=torch.int64)
    for part in segments.parts(images, classes):
        for wanted, named in zip(part.masks, head.logits(part).argmax(dim=1).cpu(), strict=True):
            labeled = wanted != IGNORED
            pairs = wanted[labeled].long() * classes + named[labeled]
            counts = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
            intersections.append(counts.diagonal())
            unions.append(counts.sum(dim=0) + counts.sum(dim=1) - counts.diagonal())
            total += counts
    return Confusion(torch.stack(intersections), torch.stack(unions), total)


def iou_values(confusion: Confusion) -> tuple[Float[Tensor, " M"], Float[Tensor, " C"]]:
    """Return one value per image whose mean is mIoU, and the IoU of each class, NaN where no pixel has it.

    IoU_c = sum_i I_ic / sum_i U_ic, of all pixels at once; mIoU is the mean over the classes that test pixels have.
    u_i = mean_c (IoU_c + M (I_ic - IoU_c U_ic) / U_c), U_c the sum over images: the score plus the image's influence.
    """
    present = confusion.total.sum(dim=1) > 0
    right, either = (part.double() for part in confusion[:2])
    unions = either.sum(dim=0)
    iou = torch.where(present, right.sum(dim=0) / unions, torch.nan)
    influences = len(right) * (right - iou * either) / unions
    return (iou + influences)[:, present].mean(dim=1), iou


class _Choice(NamedTuple):
    learning_rate: float
    held_out_images: int
    held_out_miou: dict[float, float]


def choose_learning_rate(segments: Segments, **fixed: Unpack[_Fixed]) -> _Choice:
    """Return the rate whose head, trained without a keyed fifth of the images, has the highest mIoU on that fifth.

    The lower rate wins a tie. With one rate, one image, or a side without labeled pixels it is the middle one.
    """
    rates = sorted(fixed["settings"].learning_rates)
    order = torch.from_numpy(keyed_rng.permutation(len(segments.masks), "dense held out", fixed["seed"]))
    count = max(1, int(HELD_OUT * len(order)))
    held, rest = segments.take(order[:count]), segments.take(order[count:])
    if len(rates) == 1 or not all((side.masks != IGNORED).any() for side in (held, rest)):
        return _Choice(rates[len(rates) // 2], 0, {})
    scores: dict[float, float] = {}
    for rate in rates:
        head = fit_head(rest, learning_rate=rate, **fixed)
        scores[rate] = float(iou_values(confusion_of(head, held))[0].mean())
    return _Choice(max(rates, key=lambda rate: (scores[rate], -rate)), count, scores)


def dense(task: Task) -> list[ProtocolResult]:
    """Return the mIoU of a linear head on frozen patch tokens, at the pixels of the encoder's evaluation crops.

    The head's learning rate is chosen inside the training images; the test images are seen once, by the final head.
    """
    settings, splits = task.settings.dense, task.splits
    assert splits.masks is not None, "a protocol that needs masks was called without"
    grid, width = _token_shape(task)
    _require_memory(task, grid[0] * grid[1] * width)
    classes = len(splits.masks.classes)
    train = _segments(task, splits.train, "train", grid)
    fixed: _Fixed = {"classes": classes, "settings": settings, "seed": task.seed, "device": task.device}
    choice = choose_learning_rate(train, **fixed)
    head = fit_head(train, learning_rate=choice.learning_rate, **fixed)
    del train  # the tokens of one side at a time
    confusion = confusion_of(head, _segments(task, splits.test, "test", grid))
    return [_result(task, confusion, choice, splits.masks.classes)]


def _result(task: Task, confusion: Confusion, choice: _Choice, classes: tuple[str, ...]) -> ProtocolResult:
    settings, encoder = task.settings.dense, task.encoder
    values, iou = iou_values(confusion)
    by_class = {name: 100 * one for name, one in zip(classes, iou.tolist(), strict=True) if not math.isnan(one)}
    absent, total = len(classes) - len(by_class), confusion.total
    note = f"dense: {absent} of {len(classes)} classes have no pixel in the test crops and are not in the mean"
    undecided = f"dense: no images could choose the learning rate, so it is {choice.learning_rate:g}"
    notes = [note] if absent else []
    if not choice.held_out_miou and len(settings.learning_rates) > 1:
        notes.append(undecided)
    return ProtocolResult(
        values=values,
        metric="mIoU",
        definition={
            "protocol": "dense", "head": "linear, standardized tokens, bilinear logits", "optimizer": "AdamW, cosine",
            "ignored": IGNORED, "held_out": HELD_OUT, "crop": [encoder.image_size, encoder.crop_ratio],
            **({"squash": True} if getattr(encoder, "squash", False) else {}),
            **settings.model_dump(mode="json", exclude={"max_gib"}),
        },
        setting=f"lr {choice.learning_rate:g}",
        details={
            "iou_by_class": by_class,
            "pixel_accuracy": 100 * float(total.diagonal().sum() / total.sum()),
            "confusion": total.tolist(),
            "learning_rate": choice.learning_rate,
            "held_out_images": choice.held_out_images,
            "held_out_miou": {f"{rate:g}": 100 * score for rate, score in choice.held_out_miou.items()},
        },
        notes=tuple(notes),
    )  # fmt: skip


@torch.no_grad()
def _token_shape(task: Task) -> tuple[Grid, int]:
    """Return the grid of the encoder's patch tokens and their width, from a black image."""
    encoder = task.encoder
    if isinstance(encoder, RawPixels):
        raise NotApplicable("raw pixels have no patch tokens")
    size: int = encoder.image_size  # type: ignore[assignment]
    with frozen(encoder, task.device):
        inputs = encoder.preprocess(torch.zeros(1, size, size, 3, dtype=torch.uint8))  # type: ignore[operator]
        try:
            tokens, grid = encoder_tokens(encoder, inputs)
        except EvaluationError as error:
            raise NotApplicable(str(error)) from None
    return grid, tokens.shape[2]


def _require_memory(task: Task, numbers: int) -> None:
    """Refuse tokens (`numbers` of 4 bytes per image) and masks that take more memory than allowed, for this encoder."""
    size: int = task.encoder.image_size  # type: ignore[assignment]
    most = task.settings.dense.max_gib
    for name, images in (("train", task.splits.train), ("test", task.splits.test)):
        gib = len(images) * (4 * numbers + size**2) / _GIB
        if gib > most:
            raise NotApplicable(
                f"dense.max_gib = {most:g}: the patch tokens and masks of the {len(images)} images of --{name} take "
                f"{gib:.3g} GiB; give fewer images, or allow more with --set dense.max_gib={math.ceil(gib)}"
            )


def _segments(task: Task, images: ImageSet, side: str, grid: Grid) -> Segments:
    """Return the tokens of one side and the masks under their crops."""
    assert task.splits.masks is not None
    encoder = task.encoder
    paths = task.splits.masks.train if side == "train" else task.splits.masks.test
    squash = bool(getattr(encoder, "squash", False))
    masks = crop_masks(paths, encoder.image_size, encoder.crop_ratio, squash=squash)  # type: ignore[arg-type]
    if not (masks != IGNORED).any():
        raise NotApplicable(f"no labeled pixel of --{side} lies under the encoder's center crops; label other images")
    return Segments(task.extract(images, side, tokens=True), masks, grid)
