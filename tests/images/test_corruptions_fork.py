"""Corruptions against the live fork of the published code, imagecorruptions-imaug, given the same random draws.

The fork draws from `numpy.random`; here its functions are lent a keyed generator, so that random corruptions are
compared pixel by pixel. It needs opencv-python, which would shadow the headless one, and is no dependency of the tests.
Where it leaves the published code, a test says so.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from syn2co.core.keyed_rng import generator
from syn2co.images.corruptions import SEVERITIES, corrupt
from syn2co.images.corruptions.blur import draw_out

package = pytest.importorskip(
    "imagecorruptions",
    reason="imagecorruptions-imaug (pip install --no-deps, with numba) is an oracle, not a dependency",
)
fork: ModuleType = package.corruptions

EQUAL = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "fog", "brightness", "contrast")
EQUAL += ("pixelate", "jpeg_compression")
KEY = (5, 3)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A portrait of 72 rows and 96 columns."""
    return cv2.resize(data.astronaut()[:384], (96, 72), interpolation=cv2.INTER_AREA)


def ours(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    return corrupt(image, name, severity, key=KEY, parameters="imagenet-c")


def draws(name: str, severity: int) -> np.random.Generator:
    """Return the generator that `ours` draws from."""
    return generator("corruption", name, severity, *KEY)


@pytest.fixture
def lend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`lend(rng)` makes the functions of numpy.random that the fork calls draw from a generator."""

    def lend_(rng: np.random.Generator) -> None:
        for name in ("normal", "poisson", "uniform"):
            monkeypatch.setattr(np.random, name, getattr(rng, name))

    yield lend_
    monkeypatch.undo()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", EQUAL)
def test_equal_to_the_last_gray_level(photo: np.ndarray, lend: Any, name: str, severity: int) -> None:
    rng = draws(name, severity)
    lend(rng)
    seed = {"seed": rng} if name == "impulse_noise" else {}
    theirs = package.corrupt(photo, severity=severity, corruption_name=name, **seed)
    np.testing.assert_array_equal(ours(photo, name, severity), theirs)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_is_equal_to_the_last_gray_level(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, severity: int
) -> None:
    """The fork's loop, uncompiled, given our offsets: in it too a swap of views copies one pixel over the other."""
    rng = draws("glass_blur", severity)
    left: list[np.ndarray] = []

    def offset(low: int, high: int, size: tuple[int]) -> np.ndarray:
        if not left:
            left.extend(rng.integers(low, high, size=((72 - 2 * high) * (96 - 2 * high), 2))[::-1])
        return left.pop()

    monkeypatch.setattr(np.random, "randint", offset)
    monkeypatch.setattr(np.random, "seed", lambda seed: None)
    monkeypatch.setattr(fork, "_shuffle_pixels_njit_glass_blur", fork._shuffle_pixels_njit_glass_blur.py_func)
    theirs = package.corrupt(photo, severity=severity, corruption_name="glass_blur", seed=0)
    np.testing.assert_array_equal(ours(photo, "glass_blur", severity), theirs)
    assert not left


@pytest.mark.parametrize("angle", [-45.0, -20.3, 0.0, 7.9, 44.2, -90.0, -134.0])
def test_motion_is_equal_before_rounding(photo: np.ndarray, angle: float) -> None:
    """The fork cuts to gray levels, ImageMagick and we round: hence compared before."""
    mine = draw_out(photo.astype(np.float32), 15, 8, angle)
    np.testing.assert_allclose(mine, fork._motion_blur(photo, 15, 8, angle), atol=2e-4)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_snow_is_equal_within_two_levels(photo: np.ndarray, lend: Any, severity: int) -> None:
    """The fork stores flakes in 8 bits after their fall only, the published code and we before it too."""
    lend(draws("snow", severity))
    theirs = package.corrupt(photo, severity=severity, corruption_name="snow").astype(int)
    assert np.abs(ours(photo, "snow", severity) - theirs).max() <= 2


@pytest.mark.parametrize("severity", [4, 5])
def test_heavy_snow_has_the_same_distribution(photo: np.ndarray, severity: int) -> None:
    """At these zooms the fork keeps the corner of the enlarged flakes, the published code and we their center."""
    np.random.seed(0)
    theirs = [package.corrupt(photo, severity=severity, corruption_name="snow") for _ in range(20)]
    mine = [corrupt(photo, "snow", severity, key=(0, i), parameters="imagenet-c") for i in range(20)]
    assert np.mean(mine) == pytest.approx(np.mean(theirs), abs=6)
    assert np.std(mine) == pytest.approx(np.std(theirs), abs=6)


@pytest.mark.parametrize("severity", [1, 5])
def test_drawn_frost_is_as_strong_as_photographs(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, severity: int
) -> None:
    """Same mean and contrast over many cuts. The fork draws from six photographs, the published code from five."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(np.random, "randint", lambda low, high=None: rng.integers(5 if high is None else high))
    theirs = [package.corrupt(photo, severity=severity, corruption_name="frost") for _ in range(40)]
    mine = [corrupt(photo, "frost", severity, key=(0, i), parameters="imagenet-c") for i in range(80)]
    assert np.mean(mine) == pytest.approx(np.mean(theirs), abs=8)
    assert np.mean([image.std() for image in mine]) == pytest.approx(np.mean([image.std() for image in theirs]), abs=4)


def test_the_fork_darkens_small_images_in_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops the weights of offsets beyond the image: white at 32 px becomes 247 at severity 5. Ours stays white."""
    monkeypatch.setattr(np.random, "uniform", lambda low, high: 0.0)
    white = np.full((32, 32, 3), 255, np.uint8)
    assert package.corrupt(white, severity=5, corruption_name="motion_blur").max() < 250
    assert ours(white, "motion_blur", 5).min() == 255
