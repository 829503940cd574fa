"""A small rectified flow trained on the user's images: new images, and variations of real ones (SDEdit)."""

from syn2co.synthesis.generators.flow.generator import Options, open_generator

__all__ = ["Options", "open_generator"]
