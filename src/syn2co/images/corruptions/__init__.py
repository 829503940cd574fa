"""Common corruptions of ImageNet-C and CIFAR-C: 15 kinds at 5 severities, as pure functions of an image and a key.

    corrupted = corrupt(image, "fog", 3, key=(seed, index))     # uint8 RGB in and out
    [kind.name for kind in CORRUPTIONS.values() if kind.group == "weather"]

Source: Hendrycks and Dietterich, arXiv:1903.12261. `REPLACED` names what could not be made as published.
"""

from syn2co.images.corruptions.alexnet import ALEXNET_ERRORS as ALEXNET_ERRORS
from syn2co.images.corruptions.catalog import CORRUPTIONS as CORRUPTIONS
from syn2co.images.corruptions.catalog import REPLACED as REPLACED
from syn2co.images.corruptions.catalog import SEVERITIES as SEVERITIES
from syn2co.images.corruptions.catalog import Corruption as Corruption
from syn2co.images.corruptions.catalog import corrupt as corrupt
from syn2co.images.corruptions.parameters import ParameterSet as ParameterSet
from syn2co.images.corruptions.parameters import default_parameters as default_parameters

__all__ = [
    "ALEXNET_ERRORS",
    "CORRUPTIONS",
    "REPLACED",
    "SEVERITIES",
    "Corruption",
    "ParameterSet",
    "corrupt",
    "default_parameters",
]
