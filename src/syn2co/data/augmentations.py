"""Pixel operations of the views on uint8 RGB arrays: crop-resize, flip, color, gray, blur, solarize.

Each one agrees with torchvision's functional operation of the same name to within a few gray levels; all are
deterministic, leave their input alone, and do not depend on the number of threads.
Letters: H height, W width, S side of the square result.
"""

import math

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike, NDArray

from syn2co.images.resize import resize

Image = UInt8[np.ndarray, "H W 3"]
Square = UInt8[np.ndarray, "S S 3"]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as PIL and torchvision
_IDENTITY = np.eye(3, dtype=np.float32)
_WEIGHT_UNIT = 256  # OpenCV filters 8-bit images with weights of 8 fractional bits


def resized_crop(image: Image, box: tuple[int, int, int, int], size: int) -> Square:
    """Return the box (top, left, height, width) of `image` as a square of `size` pixels, antialiased."""
    top, left, height, width = box
    return resize(image[top : top + height, left : left + width], size, size)


def flip(image: Image) -> Image:
    """Return the mirror image, left and right exchanged."""
    return cv2.flip(image, 1)


def adjust_brightness(image: Image, factor: float) -> Image:
    """Return clip(factor * image)."""
    return _affine(image, factor * _IDENTITY, 0.0)


def adjust_contrast(image: Image, factor: float) -> Image:
    """Return clip(factor * image + (1 - factor) * m), m the mean luminance of the image."""
    mean = float(np.dot(_LUMA, cv2.mean(image)[:3]))
    return _affine(image, factor * _IDENTITY, (1.0 - factor) * mean)


def adjust_saturation(image: Image, factor: float) -> Image:
    """Return clip(factor * image + (1 - factor) * luminance), luminance taken pixel by pixel."""
    return _affine(image, factor * _IDENTITY + (1.0 - factor) * _LUMA, 0.0)


def adjust_hue(image: Image, factor: float) -> Image:
    """Return `image` with its hue turned by `factor` of a full circle, in [-0.5, 0.5], via 8-bit HSV as PIL does."""
    shift = round(factor * 256) & 255
    if shift == 0:
        return image.copy()  # spares the rounding of the round trip
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(shift)  # a full circle is 256: the wrap-around is meant
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def grayscale(image: Image) -> Image:
    """Return the luminance 0.299 R + 0.587 G + 0.114 B in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def gaussian_blur(image: Image, sigma: float) -> Image:
    """Return `image` blurred by a Gaussian of `sigma` pixels, cut at 3 sigma, mirrored at the border."""
    weights = _gaussian_weights(sigma)
    if weights.size == 1:
        return image.copy()
    return cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REFLECT_101)


def solarize(image: Image, threshold: int) -> Image:
    """Return `image` with every value v >= threshold replaced by 255 - v."""
    table = np.arange(256, dtype=np.uint8)
    table[threshold:] = 255 - table[threshold:]
    return cv2.LUT(image, table)


def _affine(image: Image, matrix: ArrayLike, offset: float) -> Image:
    """Return clip(matrix @ pixel + offset), rounded."""
    table = np.empty((3, 4), np.float32)
    table[:, :3], table[:, 3] = matrix, offset
    return cv2.transform(image, table)


def _gaussian_weights(sigma: float) -> NDArray[np.float32]:
    """Return the 1-D kernel in multiples of 1/256 that sum to 1, of odd length; length 1 where it does nothing.

    OpenCV would round each weight by itself, which darkens or lightens the whole image by up to a few levels.
    """
    radius = math.ceil(3.0 * sigma)
    # Beyond 40 sigma the weight is 0 in any case, and the square of a larger quotient may overflow.
    half = [math.exp(-0.5 * min(offset / sigma, 40.0) ** 2) for offset in range(1, radius + 1)]
    total = 1.0 + 2.0 * sum(half)
    side = [round(_WEIGHT_UNIT * value / total) for value in half]
    side = [weight for weight in side if weight > 0]
    center = _WEIGHT_UNIT - 2 * sum(side)
    return np.array([*reversed(side), center, *side], np.float32) / np.float32(_WEIGHT_UNIT)
