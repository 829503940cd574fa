"""Drawn plates of frost, in place of the photographs that ImageNet-C cuts its frost from.

A plate is the same for everyone: its key is its number alone. Ferns of ice (a stem with side branches at 60 degrees,
as snow crystals branch) in three sizes, on a cloudy ground; each channel then has the mean and deviation of one of the
five photographs that the published code draws from, in that order (its second and third are one photograph).
Axis letters: S side in pixels, F ferns of a plate, P points of a polyline.
"""

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from syn2co.core.keyed_rng import generator
from syn2co.images.corruptions.pixels import Image

SIDE = 512
_BRANCH_ANGLE = math.pi / 3
_MOST_FERNS = 1000  # of one size; a plate then takes about 0.2 s
_SUBPIXEL = 4  # OpenCV's lines take coordinates in sixteenths of a pixel


class _Look(NamedTuple):
    """Color and texture of one plate."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    lengths: tuple[float, float, float]
    """Length of the ferns in pixels, the largest first."""
    clouds: float
    """Weight of the cloudy ground against the ferns."""


_LOOKS = (
    _Look((78, 149, 166), (27, 16, 15), (90, 40, 12), 1.3),
    _Look((201, 205, 214), (21, 22, 23), (110, 60, 20), 0.5),
    _Look((201, 205, 214), (21, 22, 23), (110, 60, 20), 0.5),
    _Look((138, 153, 165), (28, 28, 30), (60, 25, 9), 0.5),
    _Look((112, 123, 135), (44, 43, 42), (80, 50, 25), 0.7),
)
PLATES = len(_LOOKS)


@cache
def plate(number: int) -> Image:
    """Return one of the plates, of 512 x 512 px; drawn once per process, and not to be written to."""
    look, rng = _LOOKS[number], generator("frost plate", number)
    ice = np.sum([_ferns(length, rng) for length in look.lengths], axis=0)
    ground = _clouds(rng)
    field = _unit(ice) + look.clouds * _unit(ground)
    tint = 0.15 * _unit(_clouds(rng))  # the color of the ground changes a little from place to place
    channels = [_unit(field + sign * tint) for sign in (-1, 0, 1)]
    levels = np.stack(channels, axis=-1) * look.deviation + look.mean
    levels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels


def _unit(field: Float32[np.ndarray, "S S"]) -> Float32[np.ndarray, "S S"]:
    """Return the field with mean 0 and deviation 1."""
    return (field - field.mean()) / field.std()


def _clouds(rng: np.random.Generator) -> Float32[np.ndarray, "S S"]:
    """Return smooth noise in four octaves."""
    octaves = [rng.standard_normal((cells, cells), np.float32) / cells**0.5 for cells in (4, 8, 16, 32)]
    return np.sum([cv2.resize(octave, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for octave in octaves], axis=0)


def _ferns(length: float, rng: np.random.Generator) -> Float32[np.ndarray, "S S"]:
    """Return ferns of about one length that cover the plate, each with a light and a dark flank."""
    canvas = np.full((SIDE, SIDE), 128, np.uint8)
    for _ in range(min(round(1.5 * (SIDE / length) ** 2), _MOST_FERNS)):
        _draw_fern(canvas, rng.uniform(0, SIDE, 2), length * rng.uniform(0.5, 1.5), rng)
    return canvas.astype(np.float32)


def _draw_fern(canvas: np.ndarray, root: np.ndarray, length: float, rng: np.random.Generator) -> None:
    """Draw one fern: the branches of a flank have one shade and shorten toward the tip."""
    angle, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-0.6, 0.6)
    share = np.sort(rng.random(max(int(length / 2), 4)))
    turn = angle + bend * share
    stem = root + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0) * length / len(share)
    reach = 0.3 * length * (1 - share) ** 0.8 * rng.uniform(0.4, 1.0, len(share))
    light = rng.integers(150, 256)
    for side, shade in ((1, light), (-1, light - rng.integers(40, 140))):
        lean = turn + side * _BRANCH_ANGLE
        tips = stem + np.stack([np.cos(lean), np.sin(lean)], axis=1) * reach[:, None]
        _lines(canvas, np.stack([stem, tips], axis=1), int(shade))
    _lines(canvas, stem[None], 255)


def _lines(canvas: np.ndarray, lines: np.ndarray, shade: int) -> None:
    """Draw polylines [F, P, 2] of points (x, y), smoothed."""
    points = np.rint(lines * 2**_SUBPIXEL).astype(np.int32)
    cv2.polylines(canvas, list(points), False, shade, 1, cv2.LINE_AA, _SUBPIXEL)
