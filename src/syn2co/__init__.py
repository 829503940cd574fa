"""Syn2Co: train vision transformers without labels, with synthetic hard negatives and synthetic images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from syn2co.config import Config as Config
    from syn2co.doctor import diagnose as diagnose
    from syn2co.evaluation import evaluate as evaluate
    from syn2co.images import open_images as open_images
    from syn2co.models import load_encoder as load_encoder
    from syn2co.recipes import recipe as recipe
    from syn2co.train import pretrain as pretrain

_HOME = {
    "Config": "syn2co.config",
    "diagnose": "syn2co.doctor",
    "evaluate": "syn2co.evaluation",
    "load_encoder": "syn2co.models",
    "open_images": "syn2co.images",
    "pretrain": "syn2co.train",
    "recipe": "syn2co.recipes",
}
__all__ = ["Config", "__version__", "diagnose", "evaluate", "load_encoder", "open_images", "pretrain", "recipe"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `import syn2co` costs milliseconds, torch seconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'syn2co' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
