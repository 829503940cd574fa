"""Random bits in bulk, random-phase fields, and a small bank of tileable textures that leaves and backgrounds share.

Axis letters: S side in pixels, F = S // 2 + 1 frequencies, C channels, K textures, T side of a texture.
"""

from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float, Float32, Int8, UInt16

from syn2co.core import keyed_rng

TEXTURES, TILE = 24, 256
"""K and T; T is 256 so that 16 bits address one texture and wrap by themselves."""
_PHASORS = np.exp(2j * np.pi * np.arange(4096) / 4096).astype(np.complex64)


def bits16(rng: np.random.Generator, *shape: int) -> UInt16[np.ndarray, "..."]:
    """Return random 16-bit numbers straight from the bit generator, several times faster than `rng.integers`."""
    count = int(np.prod(shape))
    raw = rng.bit_generator.random_raw(-(-count // 4))
    return np.asarray(raw, dtype="<u8").view("<u2")[:count].reshape(shape)


def amplitude(size: int, s: float, d: float) -> Float32[np.ndarray, "S F"]:
    """Return 1 / (|fx|^(s+d) + |fy|^(s-d)), f in cycles per image, 0 at f = 0, as the half plane of `rfft2`."""
    across = np.arange(size // 2 + 1, dtype=np.float64) ** (s + d)
    down = np.abs(np.fft.fftfreq(size, 1 / size)) ** (s - d)
    total = down[:, None] + across
    total[0, 0] = np.inf
    return (1 / total).astype(np.float32)


def random_phases(bits: UInt16[np.ndarray, "C S F"]) -> Complex64[np.ndarray, "C S F"]:
    """Return unit phasors at angle 2 pi bits / 2^16 (12 bits count) that are the spectrum of a real image.

    Columns 0 and S / 2 hold both halves of their frequencies, so their lower half is the conjugate of the upper one.
    """
    phasors = _PHASORS.take(bits >> 4)
    size = bits.shape[1]
    mirrored = [0, size // 2] if size % 2 == 0 else [0]  # lines of frequencies that are their own mirror images
    for column in mirrored:
        upper = phasors[:, 1 : (size + 1) // 2, column]
        phasors[:, size - upper.shape[1] :, column] = upper[:, ::-1].conj()
        phasors[:, mirrored, column] = np.where(bits[:, mirrored, column] >> 15, -1, 1)
    return phasors


def fields(
    amplitudes: Float32[np.ndarray, "S F"], phasors: Complex64[np.ndarray, "C S F"]
) -> Float32[np.ndarray, "C S S"]:
    """Return real images with these amplitudes and phases, scaled to mean 0 and standard deviation 1."""
    size = len(amplitudes)
    inner = amplitudes[:, 1 : (size + 1) // 2].astype(np.float64)
    outer = amplitudes[:, [0, size // 2] if size % 2 == 0 else [0]].astype(np.float64)
    norm = size * size / np.sqrt(2 * np.square(inner).sum() + np.square(outer).sum())
    scaled = amplitudes * np.float32(norm) * phasors
    return np.asarray(scipy.fft.irfft2(scaled, s=(size, size), workers=1, overwrite_x=True))


@lru_cache(maxsize=1)
def bank() -> Int8[np.ndarray, "K T T"]:
    """Return the textures, mean about 0 and standard deviation about 40: noise, spots, gratings and weaves."""
    rng = keyed_rng.generator("procedural textures")
    makers = (_noise, _spots, _grating, _weave)
    rounds = TEXTURES // len(makers)
    textures = np.stack([make(rng, number / (rounds - 1)) for number in range(rounds) for make in makers])
    textures.flags.writeable = False
    return textures


def _noise(rng: np.random.Generator, smoothness: float) -> Int8[np.ndarray, "T T"]:
    """Return noise, from rough to smooth as `smoothness` goes from 0 to 1."""
    return _as_int8(_field(rng, 0.8 + 1.6 * smoothness))


def _spots(rng: np.random.Generator, smoothness: float) -> Int8[np.ndarray, "T T"]:
    """Return a smooth field with its rolling hills cut to plateaus: blots and veins."""
    field = _field(rng, 1.2 + 1.2 * smoothness)
    ripples = np.sin(rng.uniform(3, 9) * field)
    return _as_int8(np.tanh(rng.uniform(1, 6) * ripples))


def _grating(rng: np.random.Generator, bend: float) -> Int8[np.ndarray, "T T"]:
    """Return stripes that a smooth field bends, the more the larger `bend` is."""
    directions = np.array([(1, 0), (0, 1), (1, 1), (1, -1)])
    across, down = (2 * np.pi / TILE) * rng.integers(5, 36, 2) * directions[rng.integers(len(directions))]
    rows, columns = np.mgrid[:TILE, :TILE]
    waves = np.sin(across * columns + down * rows + 2 * bend * _field(rng, 2.0))
    return _as_int8(np.tanh(rng.uniform(0.5, 4) * waves))


def _weave(rng: np.random.Generator, hardness: float) -> Int8[np.ndarray, "T T"]:
    """Return the product of two gratings at right angles with a little noise, from soft to hard."""
    waves = (2 * np.pi / TILE) * rng.integers(8, 40, 2)
    rows, columns = np.mgrid[:TILE, :TILE]
    pattern = np.tanh((1 + 4 * hardness) * np.sin(waves[0] * columns) * np.sin(waves[1] * rows))
    return _as_int8(pattern + 0.2 * _field(rng, 0.8))


def _field(rng: np.random.Generator, s: float) -> Float[np.ndarray, "T T"]:
    return fields(amplitude(TILE, s, rng.normal(0, 0.05)), random_phases(bits16(rng, 1, TILE, TILE // 2 + 1)))[0]


def _as_int8(field: Float[np.ndarray, "T T"]) -> Int8[np.ndarray, "T T"]:
    centered = field - field.mean()
    return np.clip(np.rint(40 / centered.std() * centered), -127, 127).astype(np.int8)
