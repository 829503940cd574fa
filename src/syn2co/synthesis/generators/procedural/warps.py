"""Sinusoid domain warps: the plane is bent by waves of waves and then colored, as a small fragment shader does.

p <- p + a_i sin(f_i R_i p + phase_i), i = 1..n, with f_i growing and a_i falling; then two waves of p give the place on
a palette and the shade. Source: the idea of shaders21k, Baradad et al., arXiv:2211.16412. Axis letters: S side in
pixels, n warps.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from syn2co.synthesis.generators.procedural.palettes import Palette, draw_palette

KINDS = ("stripes", "rings", "cells", "marble")


@dataclass(frozen=True)
class Warp:
    """A view of the plane, the waves that bend it, and what is painted on it."""

    kind: str
    """Of `KINDS`: what the color follows."""
    zoom: float
    """Half of the side of the image."""
    angle: float
    frequency: Float[np.ndarray, " n"]
    amplitude: Float[np.ndarray, " n"]
    turn: Float[np.ndarray, " n"]
    """Angle of R_i."""
    phase: Float[np.ndarray, "n 2"]
    waves: Float[np.ndarray, "2 3"]
    """Wave vector and phase of the color's wave and of the shade's."""
    bands: float
    """Number of times that the colors run through the palette and back."""
    shade: float
    """Depth of the shade, 0 to 1."""
    palette: Palette


def draw(rng: np.random.Generator) -> Warp:
    """Return a program."""
    count = int(rng.integers(2, 6))
    frequency = rng.uniform(1.0, 2.5) * rng.uniform(1.35, 1.9) ** np.arange(count)
    angles, lengths = rng.uniform(0, 2 * np.pi, 2), rng.uniform(1.5, 5.0, 2)
    return Warp(
        kind=str(rng.choice(KINDS)),
        zoom=rng.uniform(0.7, 2.2),
        angle=rng.uniform(0, 2 * np.pi),
        frequency=frequency,
        amplitude=rng.uniform(0.4, 1.3) * rng.uniform(0.5, 1.0, count) / frequency,
        turn=rng.uniform(0, 2 * np.pi, count),
        phase=rng.uniform(0, 2 * np.pi, (count, 2)),
        waves=np.stack([lengths * np.cos(angles), lengths * np.sin(angles), rng.uniform(0, 2 * np.pi, 2)], axis=1),
        bands=rng.uniform(1.0, 3.0),
        shade=rng.uniform(0.1, 0.7),
        palette=draw_palette(rng),
    )


def jitter(warp: Warp, rng: np.random.Generator, strength: float) -> Warp:
    """Return the program with every number moved a little."""
    return replace(
        warp,
        zoom=warp.zoom * np.exp(strength * rng.standard_normal()),
        angle=warp.angle + strength * rng.standard_normal(),
        amplitude=warp.amplitude * np.exp(strength * rng.standard_normal(warp.amplitude.shape)),
        turn=warp.turn + strength * rng.standard_normal(warp.turn.shape),
        phase=warp.phase + 2 * strength * rng.standard_normal(warp.phase.shape),
        waves=warp.waves + strength * rng.standard_normal(warp.waves.shape),
        palette=warp.palette.jittered(rng, strength),
    )


def render(warp: Warp, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return the picture; nothing is drawn here, the parameters say it all."""
    x, y = _bent(warp, size)
    (ax, ay, a0), (bx, by, b0) = warp.waves.tolist()
    second = np.sin(bx * x + by * y + b0)
    color = ax * x + ay * y + a0
    if warp.kind == "rings":
        color = np.sqrt(x * x + y * y) * np.float32(np.hypot(ax, ay))
    elif warp.kind == "cells":
        color = np.sin(color) * second * np.float32(np.pi)
    elif warp.kind == "marble":
        color += 2 * second
    level = 127.5 + 127.5 * np.sin(warp.bands * color)
    image = cv2.applyColorMap(level.astype(np.uint8), warp.palette.table())
    light = 255 - np.float32(127.5 * warp.shade) * (1 + second)
    gray = light.astype(np.uint8)
    return cv2.multiply(image, cv2.merge([gray, gray, gray]), scale=1 / 255)


def _bent(warp: Warp, size: int) -> tuple[Float32[np.ndarray, "S S"], Float32[np.ndarray, "S S"]]:
    """Return where each pixel lies after all warps."""
    line = np.linspace(-warp.zoom, warp.zoom, size, dtype=np.float32)
    cos, sin = np.float32(np.cos(warp.angle)), np.float32(np.sin(warp.angle))
    x, y = cos * line - sin * line[:, None], sin * line + cos * line[:, None]
    numbers = zip(
        warp.frequency.tolist(), warp.amplitude.tolist(), warp.turn.tolist(), warp.phase.tolist(), strict=True
    )
    for frequency, amplitude, turn, (first, second) in numbers:
        cos, sin = frequency * np.cos(turn), frequency * np.sin(turn)
        dx, dy = float(cos) * x - float(sin) * y + first, float(sin) * x + float(cos) * y + second
        x, y = x + amplitude * np.sin(dx), y + amplitude * np.sin(dy)
    return x, y
