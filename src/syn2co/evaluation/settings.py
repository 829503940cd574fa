"""Settings of an evaluation, and of each protocol that has some."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from syn2co.core.hints import nearest
from syn2co.core.settings import BelowOne, NonNegative, Positive, Settings, Share
from syn2co.images.quarantine import MAX_BROKEN_SHARE


def _refuse_twice(group: str, **lists: tuple[Any, ...]) -> None:
    """Refuse lists that name something twice."""
    for name, given in lists.items():
        twice = next((one for one in given if given.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{group}.{name}: {twice} is named twice and would count double; name it once")


class FewShotSettings(Settings):
    """Settings of the few-shot protocols: how many labels, how often drawn."""

    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.01, 0.1)
    """Shares of the training labels."""
    per_class: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5)
    """Numbers of labels per class."""
    draws: int = Field(default=5, ge=2)
    """Draws of the labels, by the seeds 0, 1, 2, ...; the score is their mean."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _refuse_twice("few_shot", shares=self.shares, per_class=self.per_class)
        return self


class RetrievalSettings(Settings):
    """Settings of the retrieval protocol."""

    recall_at: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Numbers k of first images among which recall@k looks for one of the query's class."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        _refuse_twice("retrieval", recall_at=self.recall_at)
        return self


class DenseSettings(Settings):
    """Settings of the segmentation head on frozen patch tokens."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=16, ge=1)
    """Images per step of the head."""
    learning_rates: tuple[Positive, ...] = Field(default=(1e-3, 1e-2, 1e-1), min_length=1)
    """Learning rates to choose from on a held-out fifth of the training images; each falls to 0 along a cosine."""
    weight_decay: NonNegative = 1e-4
    """Decoupled weight decay of the head's weights."""
    max_gib: Positive = 8.0
    """Largest memory in GiB for the patch tokens and masks of one side; more is refused."""


class LinearAugmentedSettings(Settings):
    """Settings of the linear head on random views, the papers' protocol; their other numbers are fixed."""

    epochs: int = Field(default=100, ge=1)
    """Epochs; each one is a pass of the frozen encoder over new views of all training images."""
    batch: int = Field(default=512, ge=1)
    """Images per step; capped by the number of training images."""
    base_lr: Positive = 1.0
    """Peak learning rate for a batch of 512; the rate used is base_lr x batch / 512."""
    warmup: BelowOne = 0.05
    """Share of the steps with linear warm-up; the papers have 5 of 100 epochs."""


class FineTuneSettings(Settings):
    """Settings of fine-tuning, with all labels and with few."""

    epochs: int = Field(default=30, ge=1)
    """Epochs; each one costs about three passes of the encoder over the training images."""
    min_steps: int = Field(default=500, ge=1)
    """Epochs are added until there are this many steps, for few labels."""
    batch: int = Field(default=128, ge=1)
    """Images per step; capped by the number of training images."""
    micro_batch: int = Field(default=128, ge=1)
    """Images per forward and backward pass, at most; fewer need less memory. Part of the score: batch norm sees it."""
    base_lr: Positive = 4e-3
    """Peak learning rate of the head for a batch of 512; the rate used is base_lr x batch / 512."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Factor of the learning rate from each layer to the one below it; 1 is none."""
    weight_decay: NonNegative = 0.05
    """AdamW's decoupled decay of matrices and kernels; biases, norms, positions and tokens have none."""
    warmup: BelowOne = 0.1
    """Share of the steps with linear warm-up."""
    clip: Positive | None = 5.0
    """Largest global norm of the gradient."""
    drop_path: BelowOne = 0.1
    """Stochastic depth, a linear ramp over depth."""
    mixup: NonNegative = 0.8
    """Both parameters of the Beta distribution of mixup's weight; 0 is no mixup."""
    cutmix: NonNegative = 1.0
    """Both parameters of the Beta distribution of cutmix's area; 0 is no cutmix. Both: half of the steps each."""
    smoothing: BelowOne = 0.1
    """Label smoothing."""
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] | None = None
    """Area of the random crop, (low, high); null is (0.08, 1), for images of at most 64 pixels (0.2, 1)."""
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.01, 0.1)
    """Shares of the training labels of "fine-tune-few"."""
    per_class: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of labels per class of "fine-tune-few"."""
    draws: int = Field(default=3, ge=2)
    """Draws of the labels of "fine-tune-few", the first ones of the few-shot protocol; the score is their mean."""

    @model_validator(mode="after")
    def _ordered_and_once(self) -> Self:
        if self.crop_scale is not None and self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"fine_tune.crop_scale = {self.crop_scale}: must be low <= high; exchange them")
        _refuse_twice("fine_tune", shares=self.shares, per_class=self.per_class)
        return self


class RobustnessSettings(Settings):
    """Settings of the score on corrupted test images."""

    corruptions: tuple[str, ...] = ()
    """Corruptions by name; an empty list is all 15."""
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=1)
    """Severities, from 1 (mild) to 5 (heavy)."""
    parameters: Literal["auto", "imagenet-c", "cifar-c"] = "auto"
    """Table of strengths; auto is CIFAR-C's if all encoders of the table see at most 64 px, else ImageNet-C's."""
    reference: str | None = None
    """Errors that mCE is relative to: alexnet (published, on ImageNet-C) or an encoder of the table; null is no mCE."""
    max_images: int | None = Field(default=None, ge=1)
    """Test images that are corrupted, drawn by the seed; null is all of them."""

    @model_validator(mode="after")
    def _known_and_once(self) -> Self:
        """Refuse an unknown corruption, and whatever would count twice."""
        if self.corruptions:
            from syn2co.images.corruptions import CORRUPTIONS

            for name in self.corruptions:
                if name not in CORRUPTIONS:
                    hint = nearest(name, CORRUPTIONS) or f"; choose from {', '.join(CORRUPTIONS)}"
                    raise ValueError(f"robustness.corruptions: {name!r} is unknown{hint}")
        _refuse_twice("robustness", corruptions=self.corruptions, severities=self.severities)
        return self


class CalibrationSettings(Settings):
    """Settings of the calibration error of the linear head."""

    bins: int = Field(default=15, ge=1)
    """Bins of equal width of the confidence."""


class AdversarialSettings(Settings):
    """Settings of the attacks through encoder and linear head."""

    epsilons: tuple[Annotated[float, Field(gt=0, le=255)], ...] = Field(default=(1.0, 4.0), min_length=1)
    """Largest changes of a pixel value, in steps of 1/255."""
    steps: int = Field(default=20, ge=2)
    """Steps of PGD, each of 2.5 epsilon / steps."""
    max_images: int | None = Field(default=1000, ge=1)
    """Test images that are attacked, drawn by the seed; null is all of them."""


class EvaluationSettings(Settings):
    """Settings of `evaluate`; the seed, the precision and the groups of the protocols are part of a score, the rest
    changes its speed alone.

    Example:
        >>> EvaluationSettings(baselines=False).with_settings(["precision=bfloat16"]).precision
        'bfloat16'
    """

    seed: int = 0
    """Seed of the bootstrap, of the part that is held out to choose a penalty, and of the random encoder."""
    baselines: bool = True
    """Score raw pixels and a random encoder too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder; bfloat16 is autocast."""
    batch_size: int = Field(default=256, ge=1)
    """Images per forward pass."""
    workers: int | None = Field(default=None, ge=0)
    """Threads that decode images while the encoder works; 0 decodes in turn with it, null is one a core, at most 16."""
    max_broken_share: Share = MAX_BROKEN_SHARE
    """Largest share of broken images in a source; more are refused, but up to 3 only if it is 0."""
    max_overlap: Share = 0.01
    """Largest share of test images that may be training images too, byte for byte or stored again; more are refused,
    fewer are noted."""
    cache_gib: float = Field(default=4.0, ge=0)
    """Largest size of the cache of clean features in GiB; 0 remembers nothing."""
    data_root: str | None = None
    """Folder with the data sets that are asked for by name, as torchvision lays them out; null is $SYN2CO_DATA."""
    download: bool = False
    """Let torchvision fetch data sets that are asked for by name and are not there."""
    few_shot: FewShotSettings = FewShotSettings()
    """Few-shot and semi-supervised scores."""
    linear_augmented: LinearAugmentedSettings = LinearAugmentedSettings()
    """The papers' linear protocol, and MoBY's as released."""
    fine_tune: FineTuneSettings = FineTuneSettings()
    """Fine-tuning, with all labels and with few."""
    retrieval: RetrievalSettings = RetrievalSettings()
    """Retrieval scores."""
    dense: DenseSettings = DenseSettings()
    """Segmentation scores."""
    robustness: RobustnessSettings = RobustnessSettings()
    """Common corruptions."""
    calibration: CalibrationSettings = CalibrationSettings()
    """Calibration error."""
    adversarial: AdversarialSettings = AdversarialSettings()
    """Adversarial attacks."""
    variants: dict[str, str] = {}
    """Folders of imagenet-a, imagenet-r, imagenet-sketch and the like, beside those found below the data root."""
