"""The two published tables of parameters: ImageNet-C, made for 224 px, and CIFAR-10-C, made for 32 px.

Lengths are pixels of the image that is corrupted, at any side: a blur of radius 3 has radius 3 on 96 px too. Three
things follow the side: the elastic transform, whose lengths are multiples of the shorter side; the crop of a zoom; the
map of the fog, whose side is the next power of two. An image far from 224 or 32 px is therefore corrupted more or less
than the published ones; the set that was used belongs to each score.
Source: Hendrycks and Dietterich, arXiv:1903.12261, and the code that made both published data sets.
"""

from typing import Literal, get_args

from syn2co.images.corruptions.pixels import Strength

ParameterSet = Literal["imagenet-c", "cifar-c"]
PARAMETER_SETS: tuple[ParameterSet, ...] = get_args(ParameterSet)
LARGEST_CIFAR_SIDE = 64
"""Longest shorter side, in pixels, that has CIFAR-C's parameters unless told otherwise."""

_ELASTIC_UNIT = 244 / 224  # the published code of ImageNet-C counts in multiples of 244 at images of 224 px

_IMAGENET_C: dict[str, tuple[Strength, ...]] = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    "elastic_transform": (
        (2, 0.7, 0.1, _ELASTIC_UNIT),
        (2, 0.08, 0.2, _ELASTIC_UNIT),
        (0.05, 0.01, 0.02, _ELASTIC_UNIT),
        (0.07, 0.01, 0.02, _ELASTIC_UNIT),
        (0.12, 0.01, 0.02, _ELASTIC_UNIT),
    ),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
}

_CIFAR_C: dict[str, tuple[Strength, ...]] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "elastic_transform": (
        (0, 0, 0.08, 1),
        (0.05, 0.2, 0.07, 1),
        (0.08, 0.06, 0.06, 1),
        (0.1, 0.04, 0.05, 1),
        (0.1, 0.03, 0.03, 1),
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
}

PARAMETERS: dict[ParameterSet, dict[str, tuple[Strength, ...]]] = {"imagenet-c": _IMAGENET_C, "cifar-c": _CIFAR_C}
"""Parameters by set, name of the corruption, and severity - 1."""


def default_parameters(height: int, width: int) -> ParameterSet:
    """Return the set for images of this size: CIFAR-C's up to a shorter side of 64 px, ImageNet-C's above.

    Args:
        height: rows of the image.
        width: columns of the image.

    Example:
        >>> default_parameters(32, 32), default_parameters(64, 200), default_parameters(96, 96)
        ('cifar-c', 'cifar-c', 'imagenet-c')
    """
    return "cifar-c" if min(height, width) <= LARGEST_CIFAR_SIDE else "imagenet-c"
