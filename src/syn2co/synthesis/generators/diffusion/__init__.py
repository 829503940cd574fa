"""Images from diffusion models (extra `diffusion`): text-to-image, variations, image-to-image, classes."""

from syn2co.synthesis.generators.diffusion.opening import check_subjects, code, open_generator
from syn2co.synthesis.generators.diffusion.options import DiffusionOptions

__all__ = ["DiffusionOptions", "check_subjects", "code", "open_generator"]
