"""Syn2Co: train vision transformers without labels, with synthetic hard negatives and synthetic images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from syn2co.core.versions import __version__

if TYPE_CHECKING:
    from syn2co.data.open import open_images as open_images
    from syn2co.diagnostics.diagnose import diagnose as diagnose
    from syn2co.evaluation.evaluate import evaluate as evaluate
    from syn2co.models.load import load_encoder as load_encoder
    from syn2co.pretraining.config import Config as Config
    from syn2co.pretraining.recipes import recipe as recipe
    from syn2co.pretraining.train import pretrain as pretrain

_HOME = {
    "Config": "syn2co.pretraining.config",
    "diagnose": "syn2co.diagnostics.diagnose",
    "evaluate": "syn2co.evaluation.evaluate",
    "load_encoder": "syn2co.models.encoder",
    "open_images": "syn2co.data.open",
    "pretrain": "syn2co.pretraining.train",
    "recipe": "syn2co.pretraining.recipes",
}
__all__ = ["Config", "__version__", "diagnose", "evaluate", "load_encoder", "open_images", "pretrain", "recipe"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `import syn2co` costs milliseconds, torch seconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'syn2co' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
