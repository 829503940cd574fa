"""Statistics of images, per cluster or class, and images drawn from them.

Axis letters: N images, C conditions, S side in pixels, F = S // 2 + 1, Q quantile levels, P = 3 Q, M pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Complex, Float, UInt8

from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generators.conditions import Conditions, Kind, assign
from syn2co.synthesis.generators.real_images import squares, thumbnail

LEVELS = np.array([0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
GRAY = np.full((1, 3), 3**-0.5)
ACROSS = np.array([[1, 0, -1], [1, -2, 1]]) / np.sqrt([[2], [6]])
ROUNDS = 3
"""Quantiles spoil the spectrum and the spectrum the quantiles: each is imposed so often, the quantiles last."""
Planes = Float[np.ndarray, "3 S S"]


_STORED = {"center": "centre"}
"""Names under which model files hold arrays, where they differ: the hash of a model stays."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of the images of each condition."""

    basis: Float[np.ndarray, "C 3 3"]
    """Columns are gray and two hues, decorrelated; planes = (rgb / 255 - center) @ basis."""
    center: Float[np.ndarray, "C 3"]
    amplitude: Float[np.ndarray, "C 3 S F"]
    """Mean |rfft2| of the planes' periodic part."""
    palette_mean: Float[np.ndarray, "C P"]
    """Mean over images of the quantiles of the three planes."""
    palette_factor: Float[np.ndarray, "C P P"]
    """L with L L^T the covariance of those quantiles over images."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays under the names that model files have for them."""
        return {_STORED.get(name, name): array for name, array in vars(self).items()}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return what `arrays` were taken from."""
        return cls(**{name: arrays[_STORED.get(name, name)] for name in cls.__annotations__})


def fit(
    images: ImageSet, kind: Kind, *, clusters: int, size: int, seed: int, advance: Callable[[], None] = lambda: None
) -> tuple[Conditions, Statistics]:
    """Return conditions and statistics of the images; each is read twice, none is kept."""
    thumbnails = np.stack([(thumbnail(square), advance())[0] for square in squares(images, size)])
    conditions, labels = assign(kind, images, thumbnails.reshape(len(images), -1), clusters=clusters, seed=seed)
    count = len(conditions.sizes)
    pixels = thumbnails.reshape(len(images), -1, 3).astype(np.float64)
    colors = [_principal_colors(pixels[labels == number].reshape(-1, 3)) for number in range(count)]
    center, basis = (np.stack(parts) for parts in zip(*colors, strict=True))
    amplitude = np.zeros((count, 3, size, size // 2 + 1))
    quantiles = np.empty((len(images), 3 * len(LEVELS)))
    for index, square in enumerate(squares(images, size)):
        number = labels[index]
        planes = to_planes(square, center[number], basis[number])
        amplitude[number] += np.abs(np.fft.rfft2(periodic_part(planes))) / conditions.sizes[number]
        quantiles[index] = np.quantile(planes.reshape(3, -1), LEVELS, axis=1).T.ravel()
        advance()
    mean, factor = zip(*(_gaussian(quantiles[labels == number]) for number in range(count)), strict=True)
    return conditions, Statistics(basis, center, amplitude, np.stack(mean), np.stack(factor))


def to_planes(
    image: UInt8[np.ndarray, "S S 3"], center: Float[np.ndarray, " 3"], basis: Float[np.ndarray, "3 3"]
) -> Planes:
    """Return the image in decorrelated colors, first axis the plane."""
    return np.einsum("hwc,cp->phw", image / 255.0 - center, basis)


def periodic_part(planes: Planes) -> Planes:
    """Return the planes less the smooth part that makes up for the jump between opposite borders.

    Without this the jump puts a cross into the spectrum, which random phases would spread into streaks.
    The smooth part solves a Poisson equation whose right side v is the jump, on the border pixels alone:
    s = F^-1( F(v) / (2 cos(2 pi fy) + 2 cos(2 pi fx) - 4) ). Source: Moisan, "Periodic plus smooth image
    decomposition", J. Math. Imaging Vis. 39, 2011, Eq. 4-8.
    """
    size = planes.shape[-1]
    jump = np.zeros_like(planes)
    rows, columns = planes[:, -1] - planes[:, 0], planes[:, :, -1] - planes[:, :, 0]
    jump[:, 0] += rows
    jump[:, -1] -= rows
    jump[:, :, 0] += columns
    jump[:, :, -1] -= columns
    cosines = 2 * np.cos(2 * np.pi * np.arange(size) / size)
    scale = cosines[:, None] + cosines[None, : size // 2 + 1] - 4
    scale[0, 0] = 1.0  # the mean of the jump is 0: any number will do
    smooth = np.fft.irfft2(np.fft.rfft2(jump) / scale, s=(size, size))
    return planes - smooth


def _principal_colors(
    pixels: Float[np.ndarray, "M 3"],
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"]]:
    """Return the mean color and, as columns, gray and the two principal directions of the colors across it.

    Gray is kept apart because fine detail is gray: three plain principal colors mix some of it into the hues.
    """
    center = pixels.mean(0)
    across = np.einsum("mi,ji->mj", pixels - center, ACROSS)
    vectors = np.linalg.eigh(np.einsum("mi,mj->ij", across, across))[1][:, ::-1]
    return center, np.concatenate([GRAY, np.einsum("ji,jk->ki", ACROSS, vectors)]).T


def _gaussian(rows: Float[np.ndarray, "N P"]) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"]]:
    """Return the mean and a factor L of the covariance L L^T of the rows; one row has no covariance."""
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.einsum("ni,nj->ij", rows - mean, rows - mean) / len(rows))
    return mean, vectors * np.sqrt(values.clip(0))


def draw(
    statistics: Statistics,
    number: int,
    rng: np.random.Generator,
    edges: UInt8[np.ndarray, "S S 3"] | None = None,
) -> UInt8[np.ndarray, "S S 3"]:
    """Return one image of condition `number`: the mean amplitude with random phases or those of `edges`.

    Afterwards the ranks of each plane's pixels are mapped to quantiles drawn from the Gaussian of the palettes.
    """
    size = statistics.amplitude.shape[2]
    center, basis = statistics.center[number], statistics.basis[number]
    field = rng.standard_normal((3, size, size))
    if edges is not None:  # what is left of the noise breaks the ties of flat areas and gives gray images a color
        field = to_planes(edges, center, basis) + field / 255
    normal = rng.standard_normal(3 * len(LEVELS))
    palette = statistics.palette_mean[number] + np.einsum("pq,q->p", statistics.palette_factor[number], normal)
    palette = np.sort(palette.reshape(3, -1), axis=1)
    for _ in range(ROUNDS):
        shaped = np.fft.irfft2(statistics.amplitude[number] * _phases(field), s=(size, size))
        field = _with_quantiles(shaped, palette)
    rgb = center + np.einsum("phw,cp->hwc", field, basis)
    return np.rint(255 * rgb.clip(0, 1)).astype(np.uint8)


def _phases(planes: Planes) -> Complex[np.ndarray, "3 S F"]:
    """Return the spectrum of the planes with every amplitude 1 (0 where it was 0)."""
    spectrum = np.fft.rfft2(planes)
    size = np.abs(spectrum)
    return spectrum / np.where(size > 0, size, 1.0)


def _with_quantiles(planes: Planes, quantiles: Float[np.ndarray, "3 Q"]) -> Planes:
    """Return the planes with the order of their pixels kept and their values made to have these quantiles."""
    flat = planes.reshape(3, -1)
    count = flat.shape[1]
    places = (np.arange(count) + 0.5) / count
    result = np.empty_like(flat)
    for plane, values, target in zip(result, flat, quantiles, strict=True):
        plane[np.argsort(values, kind="stable")] = np.interp(places, LEVELS, target)
    return result.reshape(planes.shape)
