"""Two random views of an image, each a function of (seed, epoch, image index, view) and of nothing else.

First what happens is drawn (`draw_view`), then it is applied (`apply_view`). Pixels are uint8 RGB; the mean and the
standard deviation of the encoder are taken out later, on the device.
Source: the asymmetric pair of BYOL, arXiv:2006.07733, appendix B, as MoBY, arXiv:2105.04553, uses it.
Letters: H height, W width, S side of a view in pixels.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, model_validator

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError

Image = UInt8[np.ndarray, "H W 3"]
Square = UInt8[np.ndarray, "S S 3"]
Box = tuple[int, int, int, int]

JITTERS = ("brightness", "contrast", "saturation", "hue")
_ORDERS = tuple(itertools.permutations(range(len(JITTERS))))
_TRIES = 10  # torchvision's number of crops tried before it takes the centre
_UNIFORMS = 2 * _TRIES + 13  # a fixed place for every draw: changing one setting leaves the other draws alone


class ViewsSettings(BaseModel):
    """How the two views are made; ranges are (low, high), `blur` and `solarize` are (in view 1, in view 2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    color_jitter_prob: float = 0.8
    grayscale: float = 0.2
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur: tuple[float, float] = (1.0, 0.1)
    solarize: tuple[float, float] = (0.0, 0.2)
    solarize_threshold: int = 128

    @classmethod
    def small(cls, size: int = 32, **changes: Any) -> Self:
        """Return the settings for images of at most 64 pixels: crops of 0.2 to 1 of the area, half of the blur.

        At 32 pixels a crop of 0.08 of the area is 9 pixels wide, and a blur of 2 pixels leaves colours only: the
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


@dataclass(frozen=True, slots=True)
class ViewDraw:
    """What happens to an image in one view: all of its randomness, drawn."""

    box: Box  # top, left, height, width, in pixels of the image
    flip: bool
    jitter: tuple[tuple[str, float], ...]  # names out of JITTERS with their factors, in the order of application
    grayscale: bool
    blur_sigma: float | None  # pixels of the view
    solarize: bool


def two_views(image: Image, settings: ViewsSettings, *, seed: int, epoch: int, index: int) -> tuple[Square, Square]:
    """Return views 1 and 2 of image number `index` in `epoch`: a function of these arguments only.

    Raises:
        DataError: if `image` is not a non-empty uint8 array of shape [H, W, 3].
    """
    first, second = (one_view(image, settings, seed=seed, epoch=epoch, index=index, view=view) for view in (0, 1))
    return first, second


def one_view(
    image: Image, settings: ViewsSettings, *, seed: int, epoch: int, index: int, view: int = 0, purpose: str = "views"
) -> Square:
    """Return view number `view` (0 or 1) of `image`; another `purpose` gives independent draws.

    Raises:
        DataError: if `image` is not a non-empty uint8 array of shape [H, W, 3].
    """
    _check_image(image)
    height, width = image.shape[:2]
    rng = keyed_rng.generator(purpose, int(seed), int(epoch), int(index), view)
    return apply_view(image, draw_view(height, width, settings, view, rng), settings)


def draw_view(height: int, width: int, settings: ViewsSettings, view: int, rng: np.random.Generator) -> ViewDraw:
    """Return the draw of view number `view` (0 or 1) for an image of `height` x `width`, from one block of uniforms."""
    uniforms = rng.random(_UNIFORMS).tolist()
    flip, jitter, order, *factors, grey, blur, sigma, solarize = uniforms[2 * _TRIES + 2 :]
    low, high = settings.blur_sigma
    return ViewDraw(
        box=_draw_box(height, width, settings, uniforms),
        flip=flip < settings.flip,
        jitter=_draw_jitter(settings.color_jitter, order, factors) if jitter < settings.color_jitter_prob else (),
        grayscale=grey < settings.grayscale,
        blur_sigma=low + (high - low) * sigma if blur < settings.blur[view] else None,
        solarize=solarize < settings.solarize[view],
    )


def apply_view(image: Image, draw: ViewDraw, settings: ViewsSettings) -> Square:
    """Return the view of `image` that `draw` describes, contiguous, sharing no memory with `image`."""
    from syn2co.data import augmentations  # OpenCV and torch: not for those who only read the settings

    pixels = augmentations.resized_crop(image, draw.box, settings.size)
    if draw.flip:
        pixels = augmentations.flip(pixels)
    for name, factor in draw.jitter:
        adjust: Callable[[Image, float], Image] = getattr(augmentations, f"adjust_{name}")
        pixels = adjust(pixels, factor)
    if draw.grayscale:
        pixels = augmentations.grayscale(pixels)
    if draw.blur_sigma is not None:
        pixels = augmentations.gaussian_blur(pixels, draw.blur_sigma)
    if draw.solarize:
        pixels = augmentations.solarize(pixels, settings.solarize_threshold)
    return pixels


def resize_and_crop(image: Image, size: int, crop_ratio: float) -> Square:
    """Return the evaluation transform: shorter side to round(size / crop_ratio), antialiased, then the centre square.

    Deterministic. An image longer than 4:1 is first cut to 4:1 around its centre, which bounds the work.

    Raises:
        ConfigError: if `size` is below 1 or `crop_ratio` is not in (0, 1].
        DataError: if `image` is not a non-empty uint8 array of shape [H, W, 3].
    """
    from syn2co.data import augmentations

    if size < 1 or not 0 < crop_ratio <= 1:
        raise ConfigError(
            f"size = {size}, crop_ratio = {crop_ratio}: size must be at least 1 and crop_ratio in (0, 1]; mend them"
        )
    _check_image(image)
    height, width = image.shape[:2]
    image = _centre(image, min(height, 4 * width), min(width, 4 * height))
    height, width = image.shape[:2]
    short = round(size / crop_ratio)
    rows = short if height <= width else short * height // width
    columns = short if width <= height else short * width // height
    return np.ascontiguousarray(_centre(augmentations.resize(image, rows, columns), size, size))


def _draw_box(height: int, width: int, settings: ViewsSettings, uniforms: Sequence[float]) -> Box:
    """Return RandomResizedCrop's box: area U(scale), log ratio U(log ratio), ten tries, else the largest at the centre.

    Source: torchvision.transforms.RandomResizedCrop.get_params, the same law.
    """
    (low, high), ratios = settings.crop_scale, settings.crop_ratio
    start, stop = math.log(ratios[0]), math.log(ratios[1])
    for number in range(_TRIES):
        area = height * width * (low + (high - low) * uniforms[2 * number])
        ratio = math.exp(start + (stop - start) * uniforms[2 * number + 1])
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(uniforms[2 * _TRIES] * (height - rows + 1))
            left = int(uniforms[2 * _TRIES + 1] * (width - columns + 1))
            return top, left, rows, columns
    rows = min(height, max(1, round(width / ratios[0])))
    columns = min(width, max(1, round(height * ratios[1])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _draw_jitter(
    strengths: tuple[float, float, float, float], order: float, factors: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    """Return ColorJitter's augmentations: factors U(1 - s, 1 + s) and U(-s, s) for the hue, in a uniform random order."""
    centres = (1.0, 1.0, 1.0, 0.0)
    chosen = (
        (JITTERS[which], centres[which] + strengths[which] * (2.0 * factors[which] - 1.0))
        for which in _ORDERS[int(order * len(_ORDERS))]
        if strengths[which] > 0
    )
    return tuple(chosen)


def _centre(image: Image, height: int, width: int) -> Image:
    """Return the window of `height` x `width` pixels around the centre of `image`, placed as torchvision places it."""
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def _check_image(image: Image) -> None:
    """Refuse anything but a non-empty uint8 RGB array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(
            f"image = {image.dtype} array of shape {list(image.shape)}: must be uint8 of shape [H, W, 3], H and W at "
            "least 1; convert it to 8-bit RGB"
        )


def _require(good: bool, name: str, value: object, allowed: str) -> None:
    """Raise the one-sentence error for the setting views.`name` unless `good`."""
    if not good:
        raise ConfigError(f"views.{name} = {value}: must be {allowed}; change it")
