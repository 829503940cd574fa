"""Settings of what training sees: sources, mixing, views."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from syn2co.core.settings import Count, Settings, Share
from syn2co.images.quarantine import MAX_BROKEN_SHARE, MAX_PIXELS


class DataSettings(Settings):
    """Sources of the images that are trained on, and their check."""

    real: tuple[str, ...] = ()
    """Sources of real images: folders, tar files, also at a URL (a signature in it is not kept), torchvision:NAME,
    hf:NAME, builtin:photos, builtin:digits; and 12bit:SOURCE, whose 16-bit files hold values of 12 bits (9 to 16)."""
    synthetic: tuple[str, ...] = ()
    """Sources of synthetic images: data set folders of `syn2co generate`, procedural:PROGRAM[:COUNT[:SIZE]], or any
    source of images."""
    max_pixels: int = Field(default=MAX_PIXELS, gt=0)
    """Images with more pixels are quarantined (decompression bombs)."""
    max_broken_share: Share = MAX_BROKEN_SHARE
    """The run is refused if a larger share of the images cannot be read; up to 3 stop no run, unless it is 0."""
    check: bool = True
    """Decode every image once before training, so that broken ones leave the set; the verdict is cached."""
    decode: Literal["full", "reduced"] = "full"
    """reduced: decode a JPEG at 1/2, 1/4 or 1/8 of its sides where both crops keep the size of a view; quicker from
    about 1,000 pixels on, other pixel values, and no decoded images in memory. `auto` chooses it for large images."""


class MixSchedule(Settings):
    """A share that changes from epoch to epoch: `start`, then `epochs` epochs on the way, then `stop`."""

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    """"step" stays at `start` until the way is over; "constant" stays there for ever."""
    start: Share
    """Share until the way begins."""
    stop: Share | None = None
    """Share once the way is over."""
    from_epoch: Count = 0
    """First epoch of the way."""
    epochs: int | None = Field(default=None, gt=0)
    """Length of the way."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        moving = self.kind != "constant"
        if moving and (self.stop is None or self.epochs is None):
            raise ValueError(f'kind = {self.kind}: needs "stop" and "epochs" beside "start"; add them')
        if not moving and (self.stop is not None or self.epochs is not None or self.from_epoch):
            raise ValueError('kind = constant: has "start" alone; leave the rest out or choose another kind')
        return self

    def at(self, epoch: int) -> float:
        """Return the share in `epoch`, counted from 0.

        With x = (epoch - from_epoch) / epochs in [0, 1] it is start + w (stop - start), w = x for linear,
        (1 - cos(pi x)) / 2 for cosine, floor(x) for step.
        """
        if self.stop is None or self.epochs is None:
            return self.start
        x = min(1.0, max(0.0, (epoch - self.from_epoch) / self.epochs))
        weight = {"linear": x, "cosine": (1 - math.cos(math.pi * x)) / 2, "step": math.floor(x)}[self.kind]
        return self.start + weight * (self.stop - self.start)


def _as_schedule(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f'{value} is no share; give a number from 0 to 1, or an object such as {{"start": 0.5}}')
    return {"start": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


ShareOrSchedule = Annotated[MixSchedule, BeforeValidator(_as_schedule)]

SHARES: tuple[Literal["ratio", "replace", "then"], ...] = ("ratio", "replace", "then")
"""Modes of `MixSettings` that are set by a number under their own name."""


class MixSettings(Settings):
    """Mix of real and synthetic images in an epoch."""

    mode: Literal["auto", "real", "synthetic", "union", "ratio", "replace", "then"] = "auto"
    """auto: ratio, replace or then if one of them is set, else all images that are given."""
    ratio: ShareOrSchedule | None = None
    """Share of synthetic images in each epoch: a number or a schedule."""
    replace: ShareOrSchedule | None = None
    """Probability, a number or a schedule, that a view of a real image is taken from a synthetic variation of it."""
    then: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the run's steps that take synthetic images alone; all later ones take real images. The run goes over at
    the nearest end of an epoch, and learning rate and target momentum start again there."""
    view: Literal["first", "second", "random", "both"] = "second"
    """View that is replaced."""
    epoch_images: int | None = Field(default=None, gt=0)
    """Images per epoch; null is the number of real images (union: of all, synthetic only: of synthetic images)."""
    max_real: int | None = Field(default=None, gt=0)
    """Most distinct real images that are trained on, chosen by the seed; null takes all."""
    max_synthetic: int | None = Field(default=None, gt=0)
    """Most distinct synthetic images that are trained on, chosen by the seed; null takes all."""
    canvas: int | None = Field(default=None, gt=0)
    """Bring every image, real or synthetic, to a square of this side before its views: shorter side, then center."""
    jpeg_quality: int | None = Field(default=None, ge=1, le=100)
    """Pass every image, real or synthetic, through a JPEG of this quality before its views."""


class ViewsSettings(Settings):
    """Size and augmentation of the two views; ranges are (low, high), `blur` and `solarize` (in view 1, in view 2).

    "views=weak" is the augmentation that "Do Generated Data Always Help Contrastive Learning?" (ICLR 2024) mixes with
    synthetic images: larger crops, half of the color jitter, no blur.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "weak": {"crop_scale": (0.2, 1.0), "color_jitter_prob": 0.4, "blur": (0.0, 0.0)}
    }

    size: int = 224
    """Side of a view in pixels; the encoder takes images of this side."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Area of the random crop as a share of the image's, (low, high)."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the random crop, (low, high)."""
    flip: float = 0.5
    """Probability that a view is mirrored left to right."""
    color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    """Strengths of brightness, contrast, saturation (factors in 1 +- strength) and hue (share of the color circle)."""
    color_jitter_prob: float = 0.8
    """Probability of color jitter."""
    grayscale: float = 0.2
    """Probability that a view loses its color."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the Gaussian blur in pixels of the view, (low, high)."""
    blur: tuple[float, float] = (1.0, 0.1)
    """Probability of blur (in view 1, in view 2)."""
    solarize: tuple[float, float] = (0.0, 0.2)
    """Probability of solarization (in view 1, in view 2)."""
    solarize_threshold: int = 128
    """Values from here on, of 0 to 255, are inverted by solarization."""

    @classmethod
    def small(cls, size: int = 32, **changes: Any) -> Self:
        """Return the settings for images of at most 64 pixels: crops of 0.2 to 1 of the area, half of the blur.

        At 32 pixels a crop of 0.08 of the area is 9 pixels wide, and a blur of 2 pixels leaves colors only: the
        blur's largest sigma is size/64 pixels and view 1 is blurred half of the time. The rest is as at 224 pixels.
        """
        defaults = {"crop_scale": (0.2, 1.0), "blur_sigma": (0.1, max(0.1, size / 64)), "blur": (0.5, 0.1)}
        return cls(size=size, **{**defaults, **changes})

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.size >= 1, "size", self.size, "at least 1 pixel")
        _require(
            0 < self.crop_scale[0] <= self.crop_scale[1] <= 1, "crop_scale", self.crop_scale, "0 < low <= high <= 1"
        )
        _require(0 < self.crop_ratio[0] <= self.crop_ratio[1], "crop_ratio", self.crop_ratio, "0 < low <= high")
        jitter = self.color_jitter
        _require(
            min(jitter) >= 0 and max(jitter[:3]) <= 1 and jitter[3] <= 0.5,
            "color_jitter",
            jitter,
            "brightness, contrast and saturation in [0, 1] and hue in [0, 0.5]",
        )
        for name in ("flip", "color_jitter_prob", "grayscale"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability in [0, 1]")
        for name in ("blur", "solarize"):
            pair = getattr(self, name)
            _require(min(pair) >= 0 and max(pair) <= 1, name, pair, "two probabilities in [0, 1], view 1 and view 2")
        _require(
            0 < self.blur_sigma[0] <= self.blur_sigma[1] <= 5,
            "blur_sigma",
            self.blur_sigma,
            "0 < low <= high <= 5 pixels",
        )
        _require(0 <= self.solarize_threshold <= 256, "solarize_threshold", self.solarize_threshold, "in [0, 256]")
        return self


def _require(good: bool, name: str, value: object, allowed: str) -> None:
    """Raise the one-sentence error for the setting views.`name` unless `good`."""
    if not good:
        raise ValueError(f"views.{name} = {value}: must be {allowed}; change it")
