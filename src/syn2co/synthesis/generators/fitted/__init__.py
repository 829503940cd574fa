"""Images with the statistics of the user's own: spectrum, colours and palette per cluster or class, in closed form."""

from syn2co.synthesis.generators.fitted.generator import Options, code, open_generator

__all__ = ["Options", "code", "open_generator"]
