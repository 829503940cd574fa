"""Encoders and heads: any timm network, with keyed stochastic depth and batch norm over all ranks."""
