"""Pretraining without labels: config, recipes, method, loop, and the run folder."""
