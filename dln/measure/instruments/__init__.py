"""Metrics by what they look at: the end-to-end map's modes, layers, gradients, curvature, steps, pairs of models."""

from dln.measure.instruments import curvature, gradient, layers, modes, noise, pairs, steps

__all__ = ["curvature", "gradient", "layers", "modes", "noise", "pairs", "steps"]
