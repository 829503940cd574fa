"""Fractals: the rule for contraction, the chaos game against known attractors and a loop point by point."""

from dataclasses import replace

import numpy as np
import pytest

from syn2co.synthesis.generators.procedural import fractals


def drawn(seed: int) -> fractals.Fractal:
    return fractals.draw(np.random.default_rng(seed))


def sierpinski() -> fractals.Fractal:
    """Three maps z -> z / 2 + corner / 2."""
    half = np.full(3, 0.5)
    corners = np.array([0, 1, 1j])
    return replace(drawn(0), s1=half, s2=half, before=np.zeros(3), after=np.zeros(3), shift=corners / 2, margin=0.0)


def matrices(fractal: fractals.Fractal) -> np.ndarray:
    """Return the maps' 2 x 2 matrices, by applying them to 1 and i."""
    a, b, _ = fractal.maps()
    columns = [a + b, 1j * (a - b)]
    return np.stack([np.stack([column.real, column.imag], axis=1) for column in columns], axis=2)


def test_singular_values_keep_the_rule_for_every_number_of_maps() -> None:
    for seed in range(300):
        fractal = drawn(seed)
        count = len(fractal.s1)
        found = np.linalg.svd(matrices(fractal), compute_uv=False)
        assert 2 <= count <= 8
        assert found.max() <= fractals.LARGEST + 1e-9
        assert (5 + count) / 2 <= (found[:, 0] + 2 * found[:, 1]).sum() <= (6 + count) / 2 + 1e-9


def test_jitter_keeps_contraction() -> None:
    rng = np.random.default_rng(0)
    for seed in range(50):
        moved = fractals.jitter(drawn(seed), rng, 0.5)
        assert np.linalg.svd(matrices(moved), compute_uv=False).max() < 1


def test_probabilities_follow_the_determinants() -> None:
    fractal = drawn(1)
    area = np.abs(np.linalg.det(matrices(fractal)))
    np.testing.assert_allclose(fractal.probabilities(), np.maximum(area, area.max() / 40) / area.sum(), rtol=0.2)
    assert fractal.probabilities().sum() == pytest.approx(1)


def test_the_fixed_point_is_fixed() -> None:
    for seed in range(20):
        a, b, c = (values[0] for values in drawn(seed).maps())
        z = fractals.fixed_point(a, b, c)
        assert abs(a * z + b * np.conj(z) + c - z) < 1e-9


def test_sierpinskis_triangle_by_hand() -> None:
    """Corners 0, 1, i: a third of the points in each half-sized triangle, none in the hole between them."""
    points = fractals.chaos_game(sierpinski(), np.random.default_rng(2), 60_000)
    x, y = np.real(points), np.imag(points)
    assert points.shape == (60_000,) and points.dtype == np.complex64
    assert x.min() >= 0 and y.min() >= 0 and (x + y).max() <= 1 + 1e-6
    assert not np.any((x < 0.499) & (y < 0.499) & (x + y > 0.501))
    assert np.mean(x > 0.5) == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(y > 0.5) == pytest.approx(1 / 3, abs=0.02)


def test_the_chains_visit_what_a_loop_point_by_point_visits() -> None:
    """Oracle: one chain in Python; the shares of an 8 x 8 grid agree."""
    fractal, count = drawn(3), 60_000
    ours = fractals.chaos_game(fractal, np.random.default_rng(4), count)
    maps = list(zip(*fractal.maps(), strict=True))
    choice = np.random.default_rng(5).choice(len(maps), count, p=fractal.probabilities())
    z, visited = fractals.fixed_point(*maps[0]), []
    for number in choice:
        a, b, c = maps[number]
        z = a * z + b * z.conjugate() + c
        visited.append(z)
    edges = [np.linspace(part.min(), part.max(), 9) for part in (np.real(visited), np.imag(visited))]
    grids = [np.histogram2d(np.real(points), np.imag(points), edges)[0] / count for points in (ours, visited)]
    assert np.abs(grids[0] - grids[1]).max() < 0.01 and np.abs(grids[0] - grids[1]).sum() < 0.06


def test_at_least_2000_chains_run_side_by_side() -> None:
    assert fractals.CHAINS >= 2000


def test_density_counts_every_point_at_its_pixel() -> None:
    """Bounding box [0, 4] x [0, 2] stretched over 4 x 4 pixels; row 0 is the smallest imaginary part."""
    points = np.array([0 + 0j, 1.5 + 0j, 4 + 2j, 4 + 2j, 2.5 + 1.2j], np.complex64)
    hits = fractals.density(points, 0.0, 4)
    expected = np.zeros((4, 4), int)
    expected[0, 0], expected[0, 1], expected[3, 3], expected[2, 2] = 1, 1, 2, 1
    assert np.array_equal(hits, expected)


def test_a_margin_leaves_the_border_empty() -> None:
    hits = fractals.density(fractals.chaos_game(drawn(6), np.random.default_rng(7), 20_000), 0.25, 32)
    assert hits.sum() == 20_000
    assert hits[8:24, 8:24].sum() == 20_000


def test_the_attractor_is_colored_by_log_density_and_the_rest_is_background() -> None:
    fractal = drawn(8)
    hits = np.zeros((16, 16), np.int64)
    hits[4:8], hits[8:12] = 1, 9
    image = fractals.colored(fractal, hits)
    level = np.log(hits[4:12, 0] + 1.0)
    level = 128 * level / level.mean()
    expected = fractal.palette.table()[np.minimum(level, 255).astype(int), 0].astype(int)
    assert np.abs(image[4:12, 0].astype(int) - expected).max() <= 3
    assert np.array_equal(image[:4], fractals._background(fractal, 16)[:4])
    assert len(np.unique(image[12:].reshape(-1, 3), axis=0)) > 5


def test_most_programs_fill_a_good_part_of_the_canvas() -> None:
    shares = []
    for seed in range(40):
        hits = fractals.density(fractals.chaos_game(drawn(seed), np.random.default_rng(seed), 32 * 1024), 0.0, 32)
        shares.append((hits > 0).mean())
    assert np.median(shares) > 0.25 and min(shares) > 0.03
