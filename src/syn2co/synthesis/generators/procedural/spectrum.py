"""Spectrum and color: random phases under an amplitude that falls with frequency, three fields in correlated colors.

|F| = 1 / (|fx|^(s+d) + |fy|^(s-d)), s ~ U(0.5, 3.5), d ~ N(0, 0.05), f in cycles per image.
Source: Baradad et al., arXiv:2106.05963. Axis letters: S side in pixels.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from syn2co.core import keyed_rng
from syn2co.synthesis.generators.procedural import textures
from syn2co.synthesis.generators.procedural.palettes import Palette, draw_palette

FLATTEST, STEEPEST = 0.5, 3.5


@dataclass(frozen=True)
class Spectrum:
    """Fall of the amplitude, colors, and phases of a program."""

    s: float
    d: float
    palette: Palette
    phases: int
    """Key of the phases; at another size they are others."""
    looseness: float = 0.0
    """Most half turns by which a phase moves from the program's own."""


def draw(rng: np.random.Generator) -> Spectrum:
    """Return a program."""
    return Spectrum(rng.uniform(FLATTEST, STEEPEST), rng.normal(0, 0.05), draw_palette(rng), int(rng.integers(2**62)))


def jitter(spectrum: Spectrum, rng: np.random.Generator, strength: float) -> Spectrum:
    """Return the program with another fall-off and palette, and phases that will be loosened."""
    return replace(
        spectrum,
        s=min(max(spectrum.s + strength * rng.uniform(-1, 1), FLATTEST), STEEPEST),
        d=spectrum.d + 0.05 * strength * rng.standard_normal(),
        palette=spectrum.palette.jittered(rng, strength),
        looseness=min(1.0, 2 * strength),
    )


def color_axes(palette: Palette) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"]]:
    """Return the mean color and, as columns, what one standard deviation of each field adds: light, hue, hue.

    The first field runs from the palette's dark end to its light one, the others between colors of like lightness.
    """
    dark, *middle, light = palette.by_lightness()
    axes = np.stack([0.3 * (light - dark), 0.5 * (middle[1] - middle[0]), 0.5 * (middle[3] - middle[2])], axis=1)
    return palette.anchors.mean(axis=0), axes


def render(spectrum: Spectrum, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return the picture: mean color + axes @ fields, clipped to 0..255."""
    shape = (3, size, size // 2 + 1)
    bits = textures.bits16(keyed_rng.generator("phases", spectrum.phases), *shape)
    if spectrum.looseness:
        loose = textures.bits16(rng, *shape).view(np.int16) * np.float32(spectrum.looseness)
        bits = bits + loose.astype(np.int16).view(np.uint16)
    planes = textures.fields(textures.amplitude(size, spectrum.s, spectrum.d), textures.random_phases(bits))
    mean, axes = color_axes(spectrum.palette)
    return colored(planes, mean, axes)


def colored(
    planes: Float[np.ndarray, "3 S S"], mean: Float[np.ndarray, " 3"], axes: Float[np.ndarray, "3 3"]
) -> UInt8[np.ndarray, "S S 3"]:
    """Return clip(mean + axes @ planes), rounded."""
    mixed = cv2.transform(cv2.merge(list(planes)), np.column_stack([axes, mean]).astype(np.float32))
    return np.clip(mixed + np.float32(0.5), 0, 255).astype(np.uint8)
