"""A small rectified flow trained on the user's images: new images, and variations of real ones (SDEdit)."""

from syn2co.synthesis.generators.flow.generator import open_generator
from syn2co.synthesis.generators.flow.options import FlowOptions

__all__ = ["FlowOptions", "open_generator"]
