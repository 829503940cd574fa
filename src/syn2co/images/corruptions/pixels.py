"""What all corruptions share: the type of an image, and the step back to gray levels."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

Image = UInt8[np.ndarray, "H W 3"]
Strength = tuple[float, ...]
"""Parameters of one corruption at one severity, in the order that its function states."""


def to_unit(image: Image) -> NDArray[np.float64]:
    """Return the gray levels as numbers in [0, 1], float64."""
    return image / 255.0


def to_levels(unit: Float[np.ndarray, "H W 3"]) -> Image:
    """Return numbers in [0, 1], clipped, as gray levels: cut and not rounded, as in the published images."""
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)
