"""The 15 corruptions by name, and `corrupt`, which applies one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.hints import nearest
from syn2co.core.keyed_rng import Key, generator
from syn2co.images.corruptions import blur, digital, noise, weather
from syn2co.images.corruptions.parameters import PARAMETER_SETS, PARAMETERS, ParameterSet, default_parameters
from syn2co.images.corruptions.pixels import Image, Strength
from syn2co.images.resize import check_image

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 8
"""Fewest pixels of a side; on less, the squares and disks of the corruptions have no room."""
REPLACED = {
    "frost": "five drawn plates of ice crystals with the mean color and contrast of the paper's photographs of frost, "
    "which are not redistributed here",
}
"""Corruptions whose published recipe needs what is not here, and what stands in; reports name them."""


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption: a function of image, strength and random draws."""

    name: str
    group: Literal["noise", "blur", "weather", "digital"]
    function: Callable[[Image, Strength, np.random.Generator], Image]
    random: bool
    """Whether the result depends on the key."""


CORRUPTIONS: dict[str, Corruption] = {
    kind.name: kind
    for kind in (
        Corruption("gaussian_noise", "noise", noise.gaussian_noise, random=True),
        Corruption("shot_noise", "noise", noise.shot_noise, random=True),
        Corruption("impulse_noise", "noise", noise.impulse_noise, random=True),
        Corruption("defocus_blur", "blur", blur.defocus_blur, random=False),
        Corruption("glass_blur", "blur", blur.glass_blur, random=True),
        Corruption("motion_blur", "blur", blur.motion_blur, random=True),
        Corruption("zoom_blur", "blur", blur.zoom_blur, random=False),
        Corruption("snow", "weather", weather.snow, random=True),
        Corruption("frost", "weather", weather.frost, random=True),
        Corruption("fog", "weather", weather.fog, random=True),
        Corruption("brightness", "weather", weather.brightness, random=False),
        Corruption("contrast", "digital", digital.contrast, random=False),
        Corruption("elastic_transform", "digital", digital.elastic_transform, random=True),
        Corruption("pixelate", "digital", digital.pixelate, random=False),
        Corruption("jpeg_compression", "digital", digital.jpeg_compression, random=False),
    )
}
"""The corruptions of ImageNet-C by name, in the order of the paper's tables."""


def corrupt(
    image: Image, name: str, severity: int, *, key: tuple[Key, ...], parameters: ParameterSet | None = None
) -> Image:
    """Return the corrupted image, uint8, of the same shape; a function of image, name, severity, parameters and key.

    Severities of one image have draws of their own, as published. The result does not depend on the number of threads
    or workers; its last bits belong to the versions of NumPy, SciPy, scikit-image, OpenCV, Pillow and torch.

    Args:
        image: RGB, at least 8 px on each side; not modified.
        name: one of `CORRUPTIONS`.
        severity: 1 (mild) to 5 (heavy).
        key: what the random draws depend on besides name and severity, such as (seed, number of the image).
        parameters: table of strengths; by default by the size of the image, see `default_parameters`.

    Raises:
        ConfigError: if name, severity or parameters are unknown.
        DataError: if the image is not uint8 of shape [H, W, 3], or a side is below 8 px.

    Source: Hendrycks and Dietterich, arXiv:1903.12261. Differs: random generator; frost, see `REPLACED`.

    Example:
        >>> gray = np.full((32, 32, 3), 100, np.uint8)
        >>> corrupt(gray, "brightness", 5, key=(0, 7))[0, 0].tolist()
        [176, 176, 176]
    """
    _check(image, name, severity, parameters)
    table = PARAMETERS[parameters or default_parameters(*image.shape[:2])]
    return CORRUPTIONS[name].function(image, table[name][severity - 1], generator("corruption", name, severity, *key))


def _check(image: Image, name: str, severity: int, parameters: str | None) -> None:
    """Refuse what `corrupt` cannot do."""
    if name not in CORRUPTIONS:
        raise ConfigError(
            f"corruption = {name!r}: unknown{nearest(name, CORRUPTIONS)}; choose from {', '.join(CORRUPTIONS)}"
        )
    if not isinstance(severity, int | np.integer) or severity not in SEVERITIES:
        raise ConfigError(f"severity = {severity}: must be a whole number from 1 (mild) to 5 (heavy); choose one")
    if parameters is not None and parameters not in PARAMETER_SETS:
        raise ConfigError(
            f"parameters = {parameters!r}: must be {' or '.join(PARAMETER_SETS)}; choose one or leave it out"
        )
    check_image(image)
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise DataError(
            f"image = {image.shape[1]} x {image.shape[0]} px: corruptions need at least {SMALLEST_SIDE} px on each "
            "side; enlarge it first"
        )
