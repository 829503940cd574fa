"""Settings of encoder and heads."""

from typing import Any, Literal

from pydantic import Field

from syn2co.core.settings import BelowOne, Positive, Settings

IMAGENET_MEAN = (0.485, 0.456, 0.406)


IMAGENET_STD = (0.229, 0.224, 0.225)


class EncoderSettings(Settings):
    """Encoder: a network of timm by its name, its options, and the normalization of its input."""

    name: str = "deit_small_patch16_224"
    """Name of the network in timm; `timm.list_models()` lists them."""
    options: dict[str, Any] = {}
    """Passed to timm.create_model, such as {"patch_size": 4, "depth": 6}."""
    drop_path: BelowOne = 0.2
    """Stochastic depth of the online encoder, a linear ramp over depth; the target has none."""
    init: Literal["timm", "moco_v3"] = "timm"
    """"moco_v3": xavier weights and fixed sine-cosine positions."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of red, green and blue, in [0, 1], that is subtracted from every image."""
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    """Standard deviation of red, green and blue that every image is divided by."""
    size: int | None = None
    """Side of the images in pixels; follows views.size in a run."""

    @property
    def image_size(self) -> int:
        return self.size or 224


class HeadSettings(Settings):
    """Projector and predictor: Linear - BN - ReLU - Linear."""

    hidden: int = Field(default=4096, gt=0)
    """Width of the hidden layer of both heads."""
    width: int = Field(default=256, gt=1)
    """D, the width of the embedding."""
