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

import numpy as np

from syn2co.core import keyed_rng
from syn2co.data.settings import ViewsSettings
from syn2co.images.resize import Image, Square, check_image

Box = tuple[int, int, int, int]

JITTERS = ("brightness", "contrast", "saturation", "hue")
_ORDERS = tuple(itertools.permutations(range(len(JITTERS))))
_TRIES = 10  # torchvision's number of crops tried before it takes the center
_UNIFORMS = 2 * _TRIES + 13  # a fixed place for every draw: changing one setting leaves the other draws alone


@dataclass(frozen=True, slots=True)
class ViewDraw:
    """Draw of one view: all of its randomness, before any pixel is touched."""

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
    check_image(image)
    height, width = image.shape[:2]
    draw = keyed_draw(height, width, settings, seed=seed, epoch=epoch, index=index, view=view, purpose=purpose)
    return apply_view(image, draw, settings)


def keyed_draw(
    height: int,
    width: int,
    settings: ViewsSettings,
    *,
    seed: int,
    epoch: int,
    index: int,
    view: int,
    purpose: str = "views",
) -> ViewDraw:
    """Return the draw of view number `view` (0 or 1) of image `index` of `height` x `width`."""
    rng = keyed_rng.generator(purpose, int(seed), int(epoch), int(index), view)
    return draw_view(height, width, settings, view, rng)


def draw_view(height: int, width: int, settings: ViewsSettings, view: int, rng: np.random.Generator) -> ViewDraw:
    """Return the draw of view number `view` (0 or 1) for an image of `height` x `width`, from one block of uniforms."""
    uniforms = rng.random(_UNIFORMS).tolist()
    flip, jitter, order, *factors, gray, blur, sigma, solarize = uniforms[2 * _TRIES + 2 :]
    low, high = settings.blur_sigma
    return ViewDraw(
        box=_draw_box(height, width, settings, uniforms),
        flip=flip < settings.flip,
        jitter=_draw_jitter(settings.color_jitter, order, factors) if jitter < settings.color_jitter_prob else (),
        grayscale=gray < settings.grayscale,
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


def _draw_box(height: int, width: int, settings: ViewsSettings, uniforms: Sequence[float]) -> Box:
    """Return RandomResizedCrop's box: area U(scale), log ratio U(log ratio), ten tries, else the largest at the center.

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
    """Return ColorJitter's operations: factors U(1 - s, 1 + s) and U(-s, s) for the hue, in a uniform random order."""
    centers = (1.0, 1.0, 1.0, 0.0)
    chosen = (
        (JITTERS[which], centers[which] + strengths[which] * (2.0 * factors[which] - 1.0))
        for which in _ORDERS[int(order * len(_ORDERS))]
        if strengths[which] > 0
    )
    return tuple(chosen)
