"""Fractals of iterated function systems (IFS): the attractor of N contracting affine maps, drawn by a chaos game.

Contraction is guaranteed by drawing the singular values 1 > s1 >= s2 >= 0 of the maps so that sum(s1 + 2 s2) lies in
[(5+N)/2, (6+N)/2], which also makes attractors that fill the canvas well.
Source: Anderson and Farrell, arXiv:2110.03091; Barnsley, 1988. Differs: our own way to draw under that sum.
Axis letters: N maps, P points, S side in pixels, E entries of a table.

The plane is complex: an affine map is z -> a z + b conj(z) + c, of singular values |a| + |b| and ||a| - |b||.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Complex, Complex64, Float, Float32, Int64, UInt8

from syn2co.synthesis.generators.procedural import textures
from syn2co.synthesis.generators.procedural.palettes import Palette, draw_palette

MOST_MAPS = 8
LARGEST = 0.98
"""s1 is at most this."""
CHAINS, SETTLING = 2048, 8
"""Chains that run side by side, and how many first steps are dropped; they start on the attractor anyway."""
POINTS_PER_PIXEL, FEWEST_POINTS = 4, 32 * 1024
_ENTRIES = 1024  # probabilities of the maps are multiples of 1 / 1024


@dataclass(frozen=True)
class Fractal:
    """The maps, by singular values, the two rotations, and the shift; and how the picture is colored."""

    s1: Float[np.ndarray, " N"]
    s2: Float[np.ndarray, " N"]
    """Negative where the map mirrors."""
    before: Float[np.ndarray, " N"]
    """Angle in radians by which the map turns the plane before it scales; `after`, after that."""
    after: Float[np.ndarray, " N"]
    shift: Complex[np.ndarray, " N"]
    palette: Palette
    background: Palette
    texture: int
    """Start of the background in the flat bank of textures."""
    margin: float
    """Empty border in sides of the image."""

    def maps(self) -> tuple[Complex[np.ndarray, " N"], Complex[np.ndarray, " N"], Complex[np.ndarray, " N"]]:
        """Return a, b and c of z -> a z + b conj(z) + c."""
        a = (self.s1 + self.s2) / 2 * np.exp(1j * (self.after + self.before))
        b = (self.s1 - self.s2) / 2 * np.exp(1j * (self.after - self.before))
        return a, b, self.shift

    def probabilities(self) -> Float[np.ndarray, " N"]:
        """Return the chance of each map: in proportion to its |determinant|, taken as at least 1/40 of the greatest."""
        area = self.s1 * np.abs(self.s2)
        area = np.maximum(area, area.max() / 40)
        return area / area.sum()


def draw(rng: np.random.Generator) -> Fractal:
    """Return a program."""
    maps = int(rng.integers(2, MOST_MAPS + 1))
    s1, s2 = singular_values(rng, maps)
    before, after = rng.uniform(0, 2 * np.pi, (2, maps))
    x, y = rng.uniform(-1, 1, (2, maps))
    return Fractal(
        s1,
        s2 * rng.choice([-1.0, 1.0], maps),
        before,
        after,
        x + 1j * y,
        draw_palette(rng),
        draw_palette(rng),
        texture=int(rng.integers(textures.TEXTURES // 4)) * 4 * textures.TILE**2 + int(rng.integers(textures.TILE**2)),
        margin=rng.uniform(0.0, 0.12),
    )


def singular_values(rng: np.random.Generator, maps: int) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return s1 and s2 of each map, 0.98 >= s1 >= s2 >= 0, with sum(s1 + 2 s2) ~ U((5+N)/2, (6+N)/2).

    The sum is shared out at random (a point of the simplex, drawn again until every share t is at most 3 * 0.98); then
    s1 is uniform where s1 <= 0.98 and 0 <= s2 = (t - s1) / 2 <= s1 allow it.
    """
    total = rng.uniform((5 + maps) / 2, (6 + maps) / 2)
    share = total * rng.dirichlet(np.full(maps, 2.0))
    while share.max() > 3 * LARGEST:
        share = total * rng.dirichlet(np.full(maps, 2.0))
    s1 = rng.uniform(share / 3, np.minimum(share, LARGEST))
    return s1, (share - s1) / 2


def jitter(fractal: Fractal, rng: np.random.Generator, strength: float) -> Fractal:
    """Return the program with its maps turned and shifted a little and its colors moved; singular values stay."""
    before, after, x, y = rng.standard_normal((4, len(fractal.s1)))
    return replace(
        fractal,
        before=fractal.before + strength * before,
        after=fractal.after + strength * after,
        shift=fractal.shift + strength * (x + 1j * y),
        palette=fractal.palette.jittered(rng, strength),
        background=fractal.background.jittered(rng, strength),
    )


def render(fractal: Fractal, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return the picture: log density through the palette, on noise."""
    hits = density(chaos_game(fractal, rng, points_of(size)), fractal.margin, size)
    return colored(fractal, hits)


def colored(fractal: Fractal, hits: Int64[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S 3"]:
    """Return log(1 + hits) through the palette where there are hits, their mean in the middle; else the background."""
    level = np.log(hits.astype(np.float32) + np.float32(1))
    level *= np.float32(128 * np.count_nonzero(hits) / float(level.sum(dtype=np.float64)))
    image = cv2.applyColorMap(np.minimum(level, 255).astype(np.uint8), fractal.palette.table())
    return cv2.copyTo(_background(fractal, len(hits)), (hits == 0).view(np.uint8), image)


def points_of(size: int) -> int:
    """Return how many points are drawn at `size` pixels."""
    return max(FEWEST_POINTS, POINTS_PER_PIXEL * size * size)


def chaos_game(fractal: Fractal, rng: np.random.Generator, points: int) -> Complex64[np.ndarray, " P"]:
    """Return points of the attractor: each step of each chain applies one map, drawn by its probability.

    All chains start in the fixed point of the first map, which lies on the attractor.
    """
    steps = -(-points // CHAINS)
    table = _map_table(fractal)
    choice = textures.bits16(rng, steps + SETTLING, CHAINS) & (_ENTRIES - 1)
    visited = np.empty((steps, CHAINS), np.complex64)
    z = np.full(CHAINS, fixed_point(*(values[0] for values in fractal.maps())), np.complex64)
    for step, entries in enumerate(choice):
        a, b, c = (values.take(entries) for values in table)
        b *= z.conj()
        c += b
        a *= z
        z = np.add(a, c, out=visited[step - SETTLING]) if step >= SETTLING else a + c
    return visited.reshape(-1)[:points]


def fixed_point(a: complex, b: complex, c: complex) -> complex:
    """Return the z with z = a z + b conj(z) + c."""
    free = 1 - a
    return (c * free.conjugate() + b * c.conjugate()) / (abs(free) ** 2 - abs(b) ** 2)


def _map_table(fractal: Fractal) -> tuple[Complex64[np.ndarray, " E"], ...]:
    """Return a, b and c by a random number below `_ENTRIES`."""
    ends = np.rint(_ENTRIES * np.cumsum(fractal.probabilities())).astype(int)
    which = np.searchsorted(ends, np.arange(_ENTRIES), side="right")
    return tuple(values[which].astype(np.complex64) for values in fractal.maps())


def density(points: Complex64[np.ndarray, " P"], margin: float, size: int) -> Int64[np.ndarray, "S S"]:
    """Return how many points fall on each pixel when their bounding box is stretched over the canvas."""
    index = np.floor(_on_canvas(np.imag(points), margin, size))
    index *= size
    index += _on_canvas(np.real(points), margin, size)
    return np.bincount(index.astype(np.intp), minlength=size * size).reshape(size, size)


def _on_canvas(values: Float[np.ndarray, " P"], margin: float, size: int) -> Float32[np.ndarray, " P"]:
    """Return one coordinate in pixels, 0 to size - 1."""
    values = np.ascontiguousarray(values)
    low, high = float(values.min()), float(values.max())
    scale = (size * (1 - 2 * margin) - 0.01) / max(high - low, 1e-6)
    values = values * np.float32(scale)
    values += np.float32(size * margin - low * scale)
    return np.clip(values, 0, size - 1, out=values)


def _background(fractal: Fractal, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return noise through the middle half of its palette, which keeps it fainter than the attractor."""
    pixel = (np.arange(size)[:, None] * textures.TILE + np.arange(size)).astype(np.uint16)
    within = np.uint16(fractal.texture & 0xFFFF) + pixel
    noise = textures.bank().reshape(-1)[fractal.texture & ~0xFFFF :].take(within)
    return cv2.applyColorMap((noise >> 1).view(np.uint8) ^ 128, fractal.background.table())
