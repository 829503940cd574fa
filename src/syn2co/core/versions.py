"""The version of syn2co, which checkpoints, manifests and reports carry."""

__version__ = "0.1.0"
