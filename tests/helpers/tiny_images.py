"""Tiny images: a picture, a folder."""

from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 26  # with batches of 8: three steps an epoch, and two images left out of each


def picture(value: int, mode: str = "RGB") -> Image.Image:
    """Return a picture of one gray value."""
    return Image.new("RGB", (6, 4), (value, value, value)).convert(mode)


def write_images(folder: Path, count: int = IMAGES, *, seed: int = 0) -> Path:
    """Fill `folder` with `count` PNG files of keyed noise in three subfolders, 20 x 24 pixels."""
    import cv2

    for number in range(count):
        path = folder / f"class-{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), pixels)
    return folder
