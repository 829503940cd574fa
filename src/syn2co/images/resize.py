"""Antialiased resize, and the evaluation crop.

Axis letters: H height, W width, S side in pixels.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from syn2co.core.errors import ConfigError, DataError

Image = UInt8[np.ndarray, "H W 3"]
Square = UInt8[np.ndarray, "S S 3"]


def resize(image: Image, height: int, width: int) -> Image:
    """Return `image` at `height` x `width` pixels, bilinear, antialiased along every axis that shrinks.

    The filter is a triangle as wide as two result pixels (torchvision's antialias=True). OpenCV has none: its bilinear
    aliases, and the box of INTER_AREA leaves a checkerboard shrunk 5 times with a standard deviation of 5.5 levels.
    """
    if image.shape[0] <= height and image.shape[1] <= width:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # no shrinking: the same, 5x faster
    import torch

    if not (image.flags.c_contiguous and image.flags.writeable):
        image = image.copy()  # torch warns of read-only memory and refuses negative strides
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())


def resize_and_crop(image: Image, size: int, crop_ratio: float) -> Square:
    """Return the evaluation transform: shorter side to round(size / crop_ratio), antialiased, then the center square.

    Deterministic. An image longer than 4:1 is first cut to 4:1 around its center, which bounds the work.

    Raises:
        ConfigError: if `size` is below 1 or `crop_ratio` is not in (0, 1].
        DataError: if `image` is not a non-empty uint8 array of shape [H, W, 3].
    """
    if size < 1 or not 0 < crop_ratio <= 1:
        raise ConfigError(
            f"size = {size}, crop_ratio = {crop_ratio}: size must be at least 1 and crop_ratio in (0, 1]; fix them"
        )
    check_image(image)
    height, width = image.shape[:2]
    image = _center(image, min(height, 4 * width), min(width, 4 * height))
    height, width = image.shape[:2]
    short = round(size / crop_ratio)
    rows = short if height <= width else short * height // width
    columns = short if width <= height else short * width // height
    return np.ascontiguousarray(_center(resize(image, rows, columns), size, size))


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
