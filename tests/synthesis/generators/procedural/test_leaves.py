"""Dead leaves: the law of the radii, the shapes, and which leaf is on top against a loop over masks."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from syn2co.synthesis.generators.procedural import leaves, textures
from syn2co.synthesis.generators.procedural.palettes import draw_palette

STYLE = leaves.Style(draw_palette(np.random.default_rng(0)), np.full(5, 0.2), 0.5)


def test_the_ends_and_the_median_of_the_radii_by_hand() -> None:
    """The median m of a density ~ r^-3 on [a, b] has m^-2 = (a^-2 + b^-2) / 2."""
    radii = leaves.radii(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(radii, [0.03, ((0.03**-2 + 1) / 2) ** -0.5, 1.0])


def test_radii_follow_the_inverse_cube() -> None:
    """Between r and 2 r lie (r^-2 - (2 r)^-2) / (a^-2 - b^-2) of the radii."""
    radii = leaves.draw_leaves(np.random.default_rng(1), STYLE, 50_000).radius
    for low in (0.03, 0.06, 0.12):
        expected = 0.75 * low**-2 / (0.03**-2 - 1)
        assert abs(np.mean((radii >= low) & (radii < 2 * low)) - expected) < 0.01


def test_all_kinds_occur_and_only_those_of_the_style() -> None:
    mixed = leaves.draw_leaves(np.random.default_rng(2), STYLE, 500).shape // leaves.VARIANTS
    assert set(mixed.tolist()) == {0, 1, 2, 3, 4}
    only = replace(STYLE, kinds=np.array([0, 0, 0, 1.0, 0]))
    assert set((leaves.draw_leaves(np.random.default_rng(2), only, 500).shape // leaves.VARIANTS).tolist()) == {3}


def test_squares_and_rectangles_have_the_area_of_the_disc_and_all_are_convex() -> None:
    shapes = leaves.shapes()
    for number in range(leaves.VARIANTS, len(shapes.count)):
        corners = shapes.corners[number][: shapes.count[number]]
        edges = np.roll(corners, -1) - corners
        turns = (np.conj(edges) * np.roll(edges, -1)).imag
        assert np.all(turns > 0)
        area = 0.5 * (np.conj(corners) * np.roll(corners, -1)).imag.sum()
        assert area == pytest.approx(np.pi) if number < 3 * leaves.VARIANTS else 0.4 * np.pi < area <= 1.3 * np.pi


@pytest.mark.parametrize("size", [32, 57])
def test_the_topmost_leaf_is_that_of_a_loop_over_whole_masks(size: int) -> None:
    """Oracle: every leaf by itself on its own canvas; the smallest number at a pixel is on top."""
    program = leaves.draw(np.random.default_rng(3))
    top, used = leaves.cover(program, np.random.default_rng(4), size)
    expected = np.full((size, size), -1)
    middle, radius, corners = leaves._fixed_point(used, slice(None), size)
    for number in range(len(used.radius)):
        mask = np.zeros((size, size), np.uint8)
        if used.shape[number] < leaves.VARIANTS:
            cv2.circle(mask, middle[number].tolist(), int(radius[number]), 1, -1, cv2.LINE_8, 4)
        else:
            cv2.fillConvexPoly(mask, corners[number], 1, cv2.LINE_8, 4)
        expected[(mask == 1) & (expected < 0)] = number
    assert np.array_equal(top, expected)


def test_leaves_lie_where_their_numbers_say() -> None:
    """A leaf covers the pixels whose middle is inside it, but for a rim of a pixel."""
    size = 64
    fallen = leaves.draw_leaves(np.random.default_rng(5), STYLE, 200)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    disc = (fallen.shape < leaves.VARIANTS) & (fallen.radius > 0.1)
    for number in np.flatnonzero(disc).tolist():
        alone = np.full((size, size), -1, np.int32)
        leaves._paint_below(alone, fallen, number, number + 1)
        distance = np.hypot(x - fallen.center[number, 0], y - fallen.center[number, 1])
        assert np.all(alone[distance < fallen.radius[number] - 1 / size] == number)
        assert np.all(alone[distance > fallen.radius[number] + 1.5 / size] == -1)
    assert disc.sum() > 1


def test_holes_are_filled_by_more_leaves_below() -> None:
    program = leaves.draw(np.random.default_rng(6))
    sparse = leaves.draw_leaves(np.random.default_rng(6), program.style, 40)
    top, used = leaves.cover(sparse, np.random.default_rng(7), 64)
    assert top.min() >= 0 and len(used.radius) > 40 and top.max() < len(used.radius)
    assert np.array_equal(used.radius[:40], sparse.radius)
    assert set(range(10)).intersection(np.unique(top).tolist())


def test_a_flat_leaf_has_one_color_and_a_textured_one_many() -> None:
    style = replace(STYLE, textured=0.0)
    flat = leaves.draw_leaves(np.random.default_rng(8), style, 400)
    image = leaves.render(flat, np.random.default_rng(9), 48)
    top, _ = leaves.cover(flat, np.random.default_rng(9), 48)
    largest = np.bincount(top.ravel()).argmax()
    assert len(np.unique(image[top == largest], axis=0)) == 1
    textured = leaves.render(replace(flat, tint=np.ones_like(flat.tint)), np.random.default_rng(9), 48)
    assert len(np.unique(textured[top == largest], axis=0)) > 5


def test_textures_are_signed_tiles_without_a_mean() -> None:
    bank = textures.bank()
    assert bank.shape == (textures.TEXTURES, 256, 256) and bank.dtype == np.int8
    assert np.abs(bank.mean(axis=(1, 2))).max() < 6 and bank.std(axis=(1, 2)).min() > 20
    steps = np.abs(np.diff(bank.astype(int), axis=2, append=bank[:, :, :1].astype(int))).mean(axis=1)
    assert np.all(steps[:, -1] < 1.2 * steps[:, :-1].max(axis=1) + 1)  # the seam is no edge
