"""Warps against their formula in float64, and the blend against its."""

import numpy as np
import pytest

from syn2co.synthesis.generators.procedural import blend, warps


def plainly(program: warps.Warp, size: int) -> np.ndarray:
    """Return the picture from the definition, pixel after pixel."""
    image = np.zeros((size, size, 3))
    line = np.linspace(-program.zoom, program.zoom, size)
    table = program.palette.table()[:, 0]
    for row in range(size):
        for column in range(size):
            p = line[column] + 1j * line[row]
            p *= np.exp(1j * program.angle)
            for f, a, turn, phase in zip(
                program.frequency, program.amplitude, program.turn, program.phase, strict=True
            ):
                q = f * p * np.exp(1j * turn)
                p += a * (np.sin(q.real + phase[0]) + 1j * np.sin(q.imag + phase[1]))
            first, second = (wave[0] * p.real + wave[1] * p.imag + wave[2] for wave in program.waves)
            shade = np.sin(second)
            color = {
                "stripes": first,
                "rings": abs(p) * np.hypot(*program.waves[0, :2]),
                "cells": np.pi * np.sin(first) * shade,
                "marble": first + 2 * shade,
            }[program.kind]
            level = 127.5 + 127.5 * np.sin(program.bands * color)
            image[row, column] = table[int(level)] * (1 - program.shade * (1 + shade) / 2)
    return image


def of_kind(kind: str) -> warps.Warp:
    programs = (warps.draw(np.random.default_rng(seed)) for seed in range(100))
    return next(program for program in programs if program.kind == kind)


@pytest.mark.parametrize("kind", warps.KINDS)
def test_a_warp_is_its_formula(kind: str) -> None:
    program = of_kind(kind)
    image = warps.render(program, np.random.default_rng(0), 24)
    assert np.mean(np.abs(image - plainly(program, 24)).max(axis=2) <= 3) > 0.99


def test_a_warp_draws_nothing_while_rendering() -> None:
    program, rng = warps.draw(np.random.default_rng(1)), np.random.default_rng(2)
    warps.render(program, rng, 16)
    assert rng.random() == np.random.default_rng(2).random()


def test_a_blend_is_the_weighted_mean_with_its_contrast_given_back() -> None:
    program = blend.draw(np.random.default_rng(3), 4)
    assert program.weights.sum() == pytest.approx(1)
    rng = np.random.default_rng(4)
    pictures = [
        blend.PARTS[name].render(part, rng, 32) for name, part in zip(program.names, program.parts, strict=True)
    ]
    mixed = sum(weight * picture.astype(float) for weight, picture in zip(program.weights, pictures, strict=True))
    mean = np.mean(mixed, axis=(0, 1))
    expected = np.clip(mean + (mixed - mean) / np.sqrt((program.weights**2).sum()), 0, 255)
    assert np.abs(blend.render(program, np.random.default_rng(4), 32) - expected).max() <= 0.52


def test_jitter_keeps_the_parts_and_the_sum_of_the_weights() -> None:
    program = blend.draw(np.random.default_rng(5), 3)
    moved = blend.jitter(program, np.random.default_rng(6), 0.2)
    assert moved.names == program.names and moved.weights.sum() == pytest.approx(1)
    assert not np.allclose(moved.weights, program.weights)
