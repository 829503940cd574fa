"""Spectrum and color: the amplitude of the definition, phases that make real images, colors that correlate."""

from dataclasses import replace

import numpy as np
import pytest

from syn2co.synthesis.generators.procedural import spectrum, textures


def test_the_amplitude_by_hand() -> None:
    """s = 2, d = 0: 1 / (fx^2 + fy^2); s = 1, d = 0.5: 1 / (|fx|^1.5 + |fy|^0.5)."""
    found = textures.amplitude(8, 2.0, 0.0)
    assert found.shape == (8, 5) and found[0, 0] == 0
    assert found[0, 2] == pytest.approx(1 / 4) and found[3, 1] == pytest.approx(1 / 10)
    assert found[5, 1] == found[3, 1]  # -3 cycles
    assert textures.amplitude(8, 1.0, 0.5)[4, 2] == pytest.approx(1 / (2**1.5 + 4**0.5))


@pytest.mark.parametrize("size", [16, 17])
def test_fields_have_exactly_this_amplitude_and_unit_variance(size: int) -> None:
    """Oracle: NumPy's full FFT in float64, frequency by frequency."""
    amplitude = textures.amplitude(size, 1.3, 0.1)
    bits = textures.bits16(np.random.default_rng(0), 3, size, size // 2 + 1)
    fields = textures.fields(amplitude, textures.random_phases(bits))
    assert fields.shape == (3, size, size)
    np.testing.assert_allclose(fields.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(fields.std(axis=(1, 2)), 1, rtol=1e-5)
    frequency = np.abs(np.fft.fftfreq(size, 1 / size))
    for field in fields.astype(np.float64):
        found = np.abs(np.fft.fft2(field))
        expected = np.zeros((size, size))
        for row, fy in enumerate(frequency):
            for column, fx in enumerate(frequency):
                if fx or fy:
                    expected[row, column] = 1 / (fx**1.4 + fy**1.2)
        np.testing.assert_allclose(found / found[0, 1], expected / expected[0, 1], rtol=1e-3, atol=1e-6)


def test_fields_are_independent() -> None:
    amplitude = textures.amplitude(64, 0.5, 0.0)
    fields = textures.fields(amplitude, textures.random_phases(textures.bits16(np.random.default_rng(1), 3, 64, 33)))
    assert np.abs(np.corrcoef(fields.reshape(3, -1)) - np.eye(3)).max() < 0.2


def test_the_law_of_the_parameters() -> None:
    drawn = [spectrum.draw(np.random.default_rng(number)) for number in range(500)]
    s, d = np.array([one.s for one in drawn]), np.array([one.d for one in drawn])
    assert s.min() >= 0.5 and s.max() <= 3.5 and abs(s.mean() - 2) < 0.15
    assert abs(d.mean()) < 0.01 and abs(d.std() - 0.05) < 0.006


def test_colors_are_the_mean_plus_the_axes_times_the_fields() -> None:
    planes = np.random.default_rng(2).normal(0, 1, (3, 8, 8)).astype(np.float32)
    mean, axes = spectrum.color_axes(spectrum.draw(np.random.default_rng(3)).palette)
    expected = np.clip(np.einsum("cf,fyx->yxc", axes, planes) + mean, 0, 255)
    assert np.abs(spectrum.colored(planes, mean, axes) - expected).max() <= 0.51


def test_looser_phases_correlate_less_with_the_programs_own() -> None:
    program = replace(spectrum.draw(np.random.default_rng(4)), s=1.0)
    own = spectrum.render(program, np.random.default_rng(5), 64).astype(float).ravel()

    def correlation(looseness: float) -> float:
        other = spectrum.render(replace(program, looseness=looseness), np.random.default_rng(6), 64)
        return float(np.corrcoef(own, other.astype(float).ravel())[0, 1])

    assert correlation(0.0) == pytest.approx(1)
    assert 1 > correlation(0.2) > correlation(0.5) > correlation(1.0)
    assert correlation(0.2) > 0.7


def test_random_bits_are_uniform() -> None:
    bits = textures.bits16(np.random.default_rng(7), 4, 10_000)
    assert bits.dtype == np.uint16 and bits.shape == (4, 10_000)
    counts = np.bincount(bits.ravel() >> 12, minlength=16)
    assert ((counts - 2500) ** 2 / 2500).sum() < 37.7  # chi-square, 15 degrees of freedom, p = 0.001
