"""Images with the statistics of the user's own: spectrum, colors and palette per cluster or class, in closed form."""

from syn2co.synthesis.generators.fitted.generator import FittedOptions, code, open_generator

__all__ = ["FittedOptions", "code", "open_generator"]
