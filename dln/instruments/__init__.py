"""Metrics by what they look at: the end-to-end map's modes, layers, gradients, curvature, pairs of models."""

from dln.instruments import gradient, layers, modes, pairs

__all__ = ["gradient", "layers", "modes", "pairs"]
