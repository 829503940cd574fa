"""The one contract of every protocol: an encoder on one data set in, one value per test image out.

Axes: N training images, M test images, R draws of the training labels, D features. A new protocol is one file with a
function of this shape and one line in `PROTOCOLS` (evaluation/protocols/registry.py); hashes, intervals, baselines and
pairing follow by themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from syn2co.core import keyed_rng
from syn2co.core.errors import EvaluationError
from syn2co.evaluation.feature_cache import FeatureCache
from syn2co.evaluation.features import check_finite, encoder_hash, extract
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Splits
from syn2co.images.image_set import ImageSet
from syn2co.runtime.determinism import describe

T = TypeVar("T")


@dataclass(frozen=True)
class Features:
    """Frozen features and labels 0..classes-1, every class present in the training images."""

    train: Float[Tensor, "N D"]
    train_labels: Int64[Tensor, " N"]
    test: Float[Tensor, "M D"]
    test_labels: Int64[Tensor, " M"]
    classes: int


class NotApplicable(EvaluationError):
    """An encoder or data set that a protocol has no meaning for: noted beside the table, not an end of the work."""


@dataclass(frozen=True)
class Task:
    """Input of a protocol: one encoder on one data set; clean features are extracted once and shared by all protocols.

    Attributes: `name` of the encoder in tables; `metric` of the data set, "top-1" or "mean per class"; `progress`,
    whether bars are shown; `encoders`, all encoders of the table by name, and `memo`, what `once` made for any of them
    on this data set. All ranks hold equal tasks.
    """

    name: str
    encoder: nn.Module
    splits: Splits
    settings: EvaluationSettings
    device: torch.device
    cache: FeatureCache
    metric: str = "top-1"
    progress: bool = False
    encoders: Mapping[str, nn.Module] = field(default_factory=dict, repr=False)
    memo: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> int:
        return self.settings.seed

    @cached_property
    def features(self) -> Features:
        """The clean features of both sides, float32 on the CPU, equal on all ranks."""
        splits = self.splits
        train = self.extract(splits.train, "train")
        return Features(train, splits.train_labels, self.test_features, splits.test_labels, len(splits.classes))

    @cached_property
    def test_features(self) -> Float[Tensor, "M D"]:
        """The clean features of the test images alone."""
        return self.extract(self.splits.test, "test")

    @cached_property
    def encoder_hash(self) -> str:
        return encoder_hash(self.encoder)

    def extract(self, images: ImageSet, title: str, *, tokens: bool = False) -> Tensor:
        """Return the clean features [N, D] of `images`, or their patch tokens [N, T, D]; from the cache if it has them.

        The ranks share the work; all of them must call this.

        Raises:
            EvaluationError: if features are not finite, or if tokens are asked of an encoder without patches.
            DataError: if an image that was readable when the set was opened no longer is.
        """
        settings = self.settings

        def make() -> Tensor:
            features = extract(
                self.encoder,
                images,
                device=self.device,
                precision=settings.precision,
                batch_size=settings.batch_size,
                workers=settings.workers,
                progress=f"{self.name}: {title} {'tokens' if tokens else 'features'}" if self.progress else None,
                tokens=tokens,
            )
            check_finite(features.flatten(1), images, self.name)
            return features

        machine = describe(self.device)  # the last bits depend on it
        key = (
            self.encoder_hash, _function_of(self.encoder), images.fingerprint, settings.precision, settings.batch_size,
            tokens, machine,
        )  # fmt: skip
        return self.cache.fetch(key, make)

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return `make()`, called once for each `what`: things that several protocols share, such as a fitted head."""
        key = (self.name, what)
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def peer(self, name: str) -> "Task":
        """Return the task of another encoder of the table; what `once` makes for it now, it finds at its own turn."""
        return self if name == self.name else replace(self, name=name, encoder=self.encoders[name])


def _function_of(encoder: Any) -> tuple[Any, ...]:
    """Return what else than its weights an encoder's features depend on: architecture, crop, normalization."""
    normalization = [(name, tensor.flatten().tolist()) for name, tensor in encoder.named_buffers() if "." not in name]
    squash = ("squash",) if getattr(encoder, "squash", False) else ()
    crop = (encoder.image_size, encoder.crop_ratio, getattr(encoder, "interpolation", None), *squash)
    spec, options = getattr(encoder, "spec", None), getattr(encoder, "model_args", None)
    return (type(encoder).__name__, spec and spec.model_dump_json(), options, crop, normalization)


@dataclass(frozen=True)
class ProtocolResult:
    """One score of a protocol.

    Attributes: `values`, one number per test image whose mean is the score (for top-1, 1 if right, else 0), or one row
    of them per draw of the training labels; `definition`, what fixes the protocol whatever the data (it is hashed);
    `setting`, the few words that a table shows; `name`, the row's name if it is not the protocol's; `metric` and
    `percent`, its unit; `is_share`, whether it lies between 0 and 1; `n_train`, the number of training
    labels where they are not all; `predicted`, the class of each test image; `details`, what was measured or chosen
    beside, as JSON values; `notes`, whole sentences for the reader; `fingerprint`, of the test images where they are
    not those of the task.
    """

    values: Float[Tensor, " M"] | Float[Tensor, "R M"]
    definition: dict[str, Any]
    setting: str
    name: str = ""
    metric: str = "top-1"
    percent: bool = True
    higher_is_better: bool = True
    is_share: bool = True
    n_train: int | None = None
    predicted: Int64[Tensor, " M"] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


class Protocol(NamedTuple):
    """A protocol and what it asks of the data."""

    run: Callable[[Task], Sequence[ProtocolResult]]
    """Called on every rank with equal arguments; it may share extraction over ranks (`Task.extract`), nothing else."""
    needs: Literal["classes", "images", "masks"] = "classes"
    """Labeled images, any images, or images with segmentation masks."""


def class_values(
    right: Float[Tensor, " M"], labels: Int64[Tensor, " M"], classes: int, metric: str
) -> Float[Tensor, " M"]:
    """Return one value per test image whose mean is top-1 or the mean over classes of the share that is right.

    Mean per class: v_i = s + (right_i - s_c) M / (C n_c), with s_c the score of the image's class c of n_c images, s
    the mean of all s_c, and C the number of classes that have images: the score plus the image's influence on it, so
    that the bootstrap of the mean of v_i gives the score's interval.
    Source: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982 (infinitesimal jackknife).
    """
    if metric == "top-1":
        return right.float()
    assert metric == "mean per class", metric
    counts = torch.bincount(labels, minlength=classes).double()
    scores = torch.bincount(labels, right.double(), minlength=classes) / counts.clamp(min=1)
    present = int((counts > 0).sum())
    mean = scores.sum() / present
    return (mean + (right.double() - scores[labels]) * len(labels) / (present * counts[labels])).float()


def chosen_images(count: int, most: int | None, what: str, seed: int) -> Int64[np.ndarray, " m"]:
    """Return the places of at most `most` of `count` images (None: all), in order; a function of `what` and `seed`."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(keyed_rng.permutation(count, what, seed)[:most])
