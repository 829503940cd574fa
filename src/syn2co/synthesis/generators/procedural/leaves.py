"""Dead leaves: opaque shapes of all sizes fall on the canvas until it is covered.

Source: Lee, Mumford and Huang, IJCV 2001; as training images, Baradad et al., arXiv:2106.05963. Axis letters: M leaves,
V = 8 corners, Q shapes, S side in pixels. Lengths are in sides of the image unless said.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Complex, Float, Int16, Int32, Int64, UInt8

from syn2co.core import keyed_rng
from syn2co.synthesis.generators.procedural import textures
from syn2co.synthesis.generators.procedural.palettes import Palette, draw_palette

SMALLEST, LARGEST = 0.03, 1.0
KINDS = ("circle", "square", "rectangle", "triangle", "polygon")
CORNERS, VARIANTS = 8, 64
"""V, and how many shapes there are of each kind."""
LEAVES, MORE = 768, 256
"""Leaves of a program, which cover most canvases, and how many more are drawn at a time where they do not."""
FIRST = 128
"""Leaves that are painted before holes are looked for."""
_SHIFT = 4  # OpenCV's fixed point: sixteenths of a pixel


@dataclass(frozen=True)
class Style:
    """Style that all leaves of a program share."""

    palette: Palette
    kinds: Float[np.ndarray, " 5"]
    """Probability of each of `KINDS`."""
    textured: float
    """Share of leaves with a texture."""


@dataclass(frozen=True)
class Leaves:
    """Leaves from the top one down; those below the last visible one change nothing."""

    style: Style
    shape: Int64[np.ndarray, " M"]
    """Number in `shapes()`; under `VARIANTS`, a disc."""
    angle: Float[np.ndarray, " M"]
    """By which the shape is turned, in radians."""
    radius: Float[np.ndarray, " M"]
    """Radius of the disc with the leaf's area."""
    center: Float[np.ndarray, "M 2"]
    """x and y; leaves may lie across the border."""
    tone: Float[np.ndarray, " M"]
    """Place on the palette's scale, 0..1."""
    texture: Int64[np.ndarray, " M"]
    """Start of the leaf's texture in the flat bank of textures."""
    tint: Float[np.ndarray, "M 3"]
    """Share of the texture that is added to each channel, in units of itself."""


def draw(rng: np.random.Generator) -> Leaves:
    """Return a program."""
    textured = float(rng.choice([0.0, 0.3, 0.7, 1.0], p=[0.15, 0.25, 0.35, 0.25]))
    return draw_leaves(rng, Style(draw_palette(rng), rng.dirichlet(np.ones(len(KINDS))), textured), LEAVES)


def draw_leaves(rng: np.random.Generator, style: Style, count: int) -> Leaves:
    """Return `count` leaves: radius with density ~ r^-3, center uniform wherever the leaf can touch the canvas."""
    kind = rng.choice(len(KINDS), count, p=style.kinds)
    radius = radii(rng.random(count))
    return Leaves(
        style,
        shape=kind * VARIANTS + rng.integers(VARIANTS, size=count),
        angle=rng.uniform(0, 2 * np.pi, count),
        radius=radius,
        center=rng.random((count, 2)) * (1 + 2 * radius[:, None]) - radius[:, None],
        tone=rng.random(count),
        texture=rng.integers(textures.TEXTURES * textures.TILE**2, size=count),
        tint=_tints(rng, style.textured, count),
    )


def radii(uniform: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Return radii in [0.03, 1] with density ~ r^-3: the inverse of their distribution function."""
    largest, smallest = LARGEST**-2, SMALLEST**-2
    return (smallest - uniform * (smallest - largest)) ** -0.5


@dataclass(frozen=True)
class Shapes:
    """The shapes that leaves have, of size 1 around 0."""

    corners: Complex[np.ndarray, "Q V"]
    """x + iy; the rest of a row repeats its last corner."""
    count: Int64[np.ndarray, " Q"]
    """Corners of each shape."""
    reach: Float[np.ndarray, " Q"]
    """Distance of the farthest corner."""


@lru_cache(maxsize=1)
def shapes() -> Shapes:
    """Return `VARIANTS` shapes of each kind.

    Every shape is convex, as its corners lie on a circle (rectangles: on an ellipse), and a regular one has area pi, as
    a disc of radius 1. Triangles and polygons have uneven corners, rectangles different aspects; of discs, only the
    reach counts.
    """
    rng = keyed_rng.generator("procedural shapes")
    kind = np.repeat(np.arange(len(KINDS)), VARIANTS)
    count = np.array([CORNERS, 4, 4, 3, 0])[kind]
    count[kind == 4] = rng.integers(5, CORNERS + 1, VARIANTS)
    wobble = np.where(kind >= 3, 0.35, 0.0)[:, None] * rng.uniform(-1, 1, (len(kind), CORNERS))
    corner = np.minimum(np.arange(CORNERS), count[:, None] - 1)
    angle = 2 * np.pi / count[:, None] * (corner + np.take_along_axis(wobble, corner, axis=1) + 0.5)
    stretch = np.where(kind == 2, rng.uniform(1.15, 2.0, len(kind)), 1.0)[:, None]
    radius = np.sqrt(2 * np.pi / (count * np.sin(2 * np.pi / count)))[:, None]
    corners = radius * (stretch * np.cos(angle) + 1j / stretch * np.sin(angle))
    return Shapes(corners, count, np.abs(corners).max(axis=1))


def _tints(rng: np.random.Generator, textured: float, count: int) -> Float[np.ndarray, "M 3"]:
    gray = rng.uniform(0.2, 1.0, (count, 1))
    return (rng.random((count, 1)) < textured) * (gray + rng.normal(0, 0.3, (count, 3)))


def jitter(leaves: Leaves, rng: np.random.Generator, strength: float) -> Leaves:
    """Return the leaves moved, scaled and turned a little, each by itself, in a palette moved too."""
    count = len(leaves.radius)
    move, scale, turn = rng.standard_normal((3, count, 2))
    return replace(
        leaves,
        style=replace(leaves.style, palette=leaves.style.palette.jittered(rng, strength)),
        radius=leaves.radius * np.exp(strength * scale[:, 0]),
        center=leaves.center + strength * np.minimum(leaves.radius, 0.3)[:, None] * move,
        angle=leaves.angle + 2 * strength * turn[:, 0],
        tone=np.clip(leaves.tone + 0.3 * strength * turn[:, 1], 0, 1),
    )


def render(leaves: Leaves, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Return the picture: each pixel in the color of its topmost leaf, plus its tint times its texture."""
    top, leaves = cover(leaves, rng, size)
    base, tint = _colors(leaves)
    texture = _texture(leaves.texture, top, size)
    pixels = base.take(top, axis=0) + (texture[..., None] * tint.take(top, axis=0) >> 6)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def cover(leaves: Leaves, rng: np.random.Generator, size: int) -> tuple[Int32[np.ndarray, "S S"], Leaves]:
    """Return the number of the topmost leaf at each pixel, and the leaves, more of them if they left a hole.

    From the top down, each leaf goes *below* the earlier ones until no pixel is bare: the same law as covering the
    canvas from below (Kendall and Thoennes, 1999), and it can stop. They are painted in layers, each as large as all
    before, within a layer from the lowest up; leaves that lie nowhere near a bare pixel are left out.
    """
    top = np.full((size, size), -1, np.int32)
    first, last = 0, FIRST
    while True:
        _paint_below(top, leaves, first, last)
        if cv2.minMaxLoc(top)[0] >= 0:
            return top, leaves
        first, last = last, min(2 * last, len(leaves.radius))
        if first == last:
            last = first + MORE
            leaves = _joined(leaves, draw_leaves(rng, leaves.style, MORE))


def _paint_below(top: Int32[np.ndarray, "S S"], leaves: Leaves, first: int, last: int) -> None:
    """Write the numbers first..last - 1 of leaves where `top` is negative and they are on top."""
    part = slice(first, last)
    size, shape = len(top), leaves.shape[part]
    middle, radius, corners = _fixed_point(leaves, part, size)
    counts = np.where(shape < VARIANTS, 0, shapes().count[shape])
    layer = np.full_like(top, -1)
    for row in np.flatnonzero(_near(top < 0, middle, radius * shapes().reach[shape]))[::-1].tolist():
        if counts[row]:
            cv2.fillConvexPoly(layer, corners[row, : counts[row]], first + row, cv2.LINE_8, _SHIFT)
        else:
            cv2.circle(layer, middle[row].tolist(), int(radius[row]), first + row, -1, cv2.LINE_8, _SHIFT)
    np.copyto(top, layer, where=top < 0)


def _near(
    bare: Bool[np.ndarray, "S S"], middle: Int32[np.ndarray, "M 2"], reach: Float[np.ndarray, " M"]
) -> Bool[np.ndarray, " M"]:
    """Return whether the square of half side `reach` around each middle (both in sixteenths) holds a bare pixel."""
    until = cv2.integral(bare.view(np.uint8))
    low = np.clip((middle - reach[:, None]) / (1 << _SHIFT) - 1, 0, len(bare)).astype(np.intp).T
    high = np.clip((middle + reach[:, None]) / (1 << _SHIFT) + 3, 0, len(bare)).astype(np.intp).T
    bare_pixels = until[high[1], high[0]] - until[low[1], high[0]] - until[high[1], low[0]] + until[low[1], low[0]]
    return bare_pixels > 0


def _joined(above: Leaves, below: Leaves) -> Leaves:
    """Return the leaves of both, in this order."""
    arrays = {field.name: getattr(above, field.name) for field in fields(above) if field.name != "style"}
    return Leaves(
        above.style, **{name: np.concatenate([value, getattr(below, name)]) for name, value in arrays.items()}
    )


def _fixed_point(
    leaves: Leaves, part: slice, size: int
) -> tuple[Int32[np.ndarray, "M 2"], Int32[np.ndarray, " M"], Int32[np.ndarray, "M V 2"]]:
    """Return centers, radii and corners in sixteenths of a pixel; pixel (0, 0) has its middle at (0, 0)."""
    unit = size << _SHIFT
    middle, radius = unit * leaves.center[part] - (1 << _SHIFT) / 2, unit * leaves.radius[part]
    turned = shapes().corners[leaves.shape[part]] * (radius * np.exp(1j * leaves.angle[part]))[:, None]
    corners = turned.view(np.float64).reshape(-1, CORNERS, 2) + middle[:, None]
    middle, radius, corners = (np.rint(values).astype(np.int32) for values in (middle, radius, corners))
    return middle, radius, corners


def _colors(leaves: Leaves) -> tuple[Int16[np.ndarray, "M 3"], Int16[np.ndarray, "M 3"]]:
    """Return the color of each leaf and its tint in 1/64."""
    table = leaves.style.palette.table()[:, 0].astype(np.int16)
    tint = np.rint(64 * leaves.tint).clip(-128, 128).astype(np.int16)
    return table[np.rint(255 * leaves.tone).astype(np.intp)], tint


def _texture(start: Int64[np.ndarray, " M"], top: Int32[np.ndarray, "S S"], size: int) -> Int16[np.ndarray, "S S"]:
    """Return the texture at each pixel; its place wraps within one texture by 16-bit arithmetic."""
    tile = textures.TILE
    pixel = (np.arange(size)[:, None] * tile + np.arange(size)).astype(np.uint16)
    within = (start & 0xFFFF).astype(np.uint16).take(top) + pixel
    which = (start & ~0xFFFF).astype(np.int32).take(top)
    return textures.bank().reshape(-1).take(which + within).astype(np.int16)
