"""What the evaluation tests share: an encoder that costs nothing, and images whose class a pixel can tell."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from syn2co.data.open import open_images
from syn2co.evaluation.feature_cache import FeatureCache
from syn2co.evaluation.protocols.protocol import Features, Task
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import Splits, make_splits
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


def task_of(features: Features, *, metric: str = "top-1", **settings: object) -> Task:
    """A task whose features are given, with neither images nor an encoder behind them."""
    names = tuple(map(str, range(features.classes)))
    splits = Splits(None, None, features.train_labels, features.test_labels, names, ())  # type: ignore[arg-type]
    chosen = EvaluationSettings.parse({"device": "cpu", **settings})
    task = Task("given", nn.Identity(), splits, chosen, torch.device("cpu"), FeatureCache(0), metric)
    task.__dict__.update(features=features, test_features=features.test)
    return task


def task_on(encoder: nn.Module, train: Path, test: Path, *, metric: str = "top-1", **settings: object) -> Task:
    """A task of an encoder on two painted folders, without a cache; the encoder is the table's only one."""
    splits = make_splits(open_images([train]), open_images([test]))
    chosen = EvaluationSettings.parse({"device": "cpu", "workers": 0, **settings})
    table = {"given": encoder}
    return Task("given", encoder, splits, chosen, torch.device("cpu"), FeatureCache(0), metric, encoders=table)
