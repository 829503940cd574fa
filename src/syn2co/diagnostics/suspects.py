"""Suspects: settings of a config that stand out against its recipe, and the values to go back to."""

import json
from collections.abc import Callable
from typing import Any

from syn2co.pretraining.config import Config
from syn2co.pretraining.recipes import RECIPES, recipe

Rule = tuple[str, Callable[[Any], float], float, float]


def _itself(value: Any) -> float:
    return value


# How far below and above the recipe's value a setting may be before it is suspected.
RULES: tuple[Rule, ...] = (
    ("optimizer.base_lr", _itself, 0.1, 10),
    ("training.temperature", _itself, 0.25, 4),
    ("training.momentum", lambda momentum: 1 - momentum, 0, 10),
    ("optimizer.weight_decay", _itself, 0, 10),
    ("views.crop_scale", lambda scale: scale[0], 0.2, float("inf")),
)


def usual(config: Config) -> Config:
    """Return the recipe of a config as it was before anything was changed; the defaults if it has none."""
    return recipe(config.recipe) if config.recipe in RECIPES else Config()


def assignment(path: str, value: Any) -> str:
    """Return "a.b=value" as --set takes it."""
    plain = float(f"{value:.3g}") if isinstance(value, float) else value
    return f"{path}={json.dumps(plain, separators=(',', ':'))}"


def suspects(config: Config) -> list[str]:
    """Return one sentence for every setting that is far from the recipe's, with the recipe's value."""
    sentences = []
    for path, size, low, high in RULES:
        value, normal = _get(config, path), _get(usual(config), path)
        if not low * size(normal) <= size(value) <= high * size(normal):
            sentences.append(f"set {assignment(path, normal)} in a new run: it is {json.dumps(value)} here")
    return sentences


def _get(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
