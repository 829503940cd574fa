"""Settings of an evaluation."""

from typing import Literal

from pydantic import Field

from syn2co.core.settings import Settings, Share
from syn2co.images.quarantine import MAX_BROKEN_SHARE


class EvaluationSettings(Settings):
    """Settings of `evaluate`; the seed and the precision are part of a score, the rest changes its speed alone.

    Example:
        >>> EvaluationSettings(baselines=False).with_settings(["precision=bfloat16"]).precision
        'bfloat16'
    """

    seed: int = 0
    """Seed of the bootstrap, of the part that is held out to choose a penalty, and of the random encoder."""
    baselines: bool = True
    """Score raw pixels and a random encoder too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder; bfloat16 is autocast."""
    batch_size: int = Field(default=256, ge=1)
    """Images per forward pass."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode images; 0 is this one."""
    max_broken_share: Share = MAX_BROKEN_SHARE
    """Largest share of broken images in a source; more are refused."""
