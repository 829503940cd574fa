"""Antialiased resize, and the evaluation crop.

Axis letters: H height, W width, S side in pixels.
"""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from syn2co.core.errors import ConfigError, DataError

Image = UInt8[np.ndarray, "H W 3"]
Square = UInt8[np.ndarray, "S S 3"]
Interpolation = Literal["bilinear", "bicubic"]


def resize(image: Image, height: int, width: int, interpolation: Interpolation = "bilinear") -> Image:
    """Return `image` at `height` x `width` pixels, antialiased along every axis that shrinks.

    The filter is a triangle as wide as two result pixels (torchvision's antialias=True), or "bicubic", a cubic as wide
    as four with a = -0.5 (Pillow's). OpenCV has none: its bilinear aliases, and the box of INTER_AREA leaves a
    checkerboard shrunk 5 times with a standard deviation of 5.5 levels.
    """
    if interpolation == "bilinear" and image.shape[0] <= height and image.shape[1] <= width:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # no shrinking: the same, 5x faster
    import torch

    if not (image.flags.c_contiguous and image.flags.writeable):
        image = image.copy()  # torch warns of read-only memory and refuses negative strides
    pixels = torch.from_numpy(image)
    # The layout that torch takes for channels-last costs a third; of one column it is wrong without AVX2 (torch 2.14).
    planes = pixels[None].permute(0, 3, 1, 2) if width > 1 else pixels.permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(planes, size=(height, width), mode=interpolation, antialias=True)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())


def resize_and_crop(
    image: Image, size: int, crop_ratio: float, interpolation: Interpolation = "bilinear", *, squash: bool = False
) -> Square:
    """Return the evaluation transform: shorter side to round(size / crop_ratio), antialiased, then the center square.

    Deterministic. An image longer than 4:1 is first cut to 4:1 around its center, which bounds the work. `squash` gives
    both sides the length of the shorter one, so that nothing but a margin is cut off.

    Raises:
        ConfigError: if `size` is below 1 or `crop_ratio` is not in (0, 1].
        DataError: if `image` is not a non-empty uint8 array of shape [H, W, 3].
    """
    check_image(image)
    cut_height, cut_width, rows, columns = _plan(image.shape[0], image.shape[1], size, crop_ratio, squash)
    image = _center(image, cut_height, cut_width)
    return np.ascontiguousarray(_center(resize(image, rows, columns, interpolation), size, size))


def resize_and_crop_mask(
    mask: UInt8[np.ndarray, "H W"], size: int, crop_ratio: float, *, squash: bool = False
) -> UInt8[np.ndarray, "S S"]:
    """Return the pixels of a mask of classes that lie under those of `resize_and_crop`: the nearest, nothing is mixed.

    Pixel i of n goes to pixel floor((i + 1/2) N / n) of N, its center's place.

    Args:
        mask: one class per pixel of the image.
        size: side of the crop in pixels.
        crop_ratio: share of the shorter side that the crop keeps, in (0, 1].
        squash: as in `resize_and_crop`.

    Returns:
        The square of `size` pixels, sharing no memory with `mask`.

    Raises:
        ConfigError: if `size` is below 1 or `crop_ratio` is not in (0, 1].

    Example:
        >>> resize_and_crop_mask(np.array([[0, 1], [2, 3]], np.uint8), 4, 1.0).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """
    height, width = mask.shape
    cut_height, cut_width, rows, columns = _plan(height, width, size, crop_ratio, squash)
    places = _nearest(height, cut_height, rows, size), _nearest(width, cut_width, columns, size)
    return mask[np.ix_(*places)]


def _plan(height: int, width: int, size: int, crop_ratio: float, squash: bool) -> tuple[int, int, int, int]:
    """Return height and width of the cut to 4:1, and what they are resized to before the center square is taken."""
    if size < 1 or not 0 < crop_ratio <= 1:
        raise ConfigError(
            f"size = {size}, crop_ratio = {crop_ratio}: size must be at least 1 and crop_ratio in (0, 1]; fix them"
        )
    short = round(size / crop_ratio)
    if squash:
        return height, width, short, short
    height, width = min(height, 4 * width), min(width, 4 * height)
    rows = short if height <= width else short * height // width
    columns = short if width <= height else short * width // height
    return height, width, rows, columns


def _nearest(length: int, cut: int, resized: int, size: int) -> Int64[np.ndarray, " S"]:
    """Return the pixel of an axis under each pixel of the crop: cut, resized, and cut again, around the center."""
    places = np.arange(size) + round((resized - size) / 2)
    return round((length - cut) / 2) + (2 * places + 1) * cut // (2 * resized)


def _center(image: Image, height: int, width: int) -> Image:
    """Return the window of `height` x `width` pixels around the center of `image`, placed as torchvision places it."""
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def check_image(image: Image) -> None:
    """Refuse anything but a non-empty uint8 RGB array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(
            f"image = {image.dtype} array of shape {list(image.shape)}: must be uint8 of shape [H, W, 3], H and W at "
            "least 1; convert it to 8-bit RGB"
        )
