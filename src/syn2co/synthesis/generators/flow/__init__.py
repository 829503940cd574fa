"""A small rectified flow trained on the user's images: new images, and variations of real ones (SDEdit)."""

from syn2co.synthesis.generators.flow.generator import FlowOptions, open_generator

__all__ = ["FlowOptions", "open_generator"]
