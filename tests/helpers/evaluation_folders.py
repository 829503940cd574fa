"""What the evaluation tests share: an encoder that costs nothing, and images whose class a pixel can tell."""

from pathlib import Path

import cv2
import numpy as np

from syn2co.models.settings import EncoderSettings

TINY = EncoderSettings(
    name="vit_tiny_patch16_224", options={"patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2}, size=16
)
COLORS = {"blue": (220, 30, 30), "green": (30, 220, 30), "red": (30, 30, 220), "white": (230, 230, 230)}


def paint(folder: Path, counts: dict[str, int], *, seed: int = 0, noise: int = 20) -> Path:
    """Write `counts[color]` noisy squares of each color: the class is the color, so raw pixels are all right."""
    draws = np.random.default_rng(seed)
    for color, count in counts.items():
        for number in range(count):
            path = folder / color / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(COLORS[color]) + draws.integers(-noise, noise + 1, (16, 16, 3))
            assert cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))
    return folder
