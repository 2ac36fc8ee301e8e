"""Theories of training: what they predict of a run, from its start, at the steps that it is recorded at.

As functions of numpy arrays, and by name in a config: `theory=[gradient_flow]`.
"""

from dln.theory.conditions import balance_gap, whitening_gap
from dln.theory.gradient_flow import balanced_field, balanced_layers, flow_maps
from dln.theory.modified_flow import modified_field
from dln.theory.theory import THEORIES, Prediction, Problem, Sampling, register_theory

__all__ = [
    "THEORIES",
    "Prediction",
    "Problem",
    "Sampling",
    "balance_gap",
    "balanced_field",
    "balanced_layers",
    "flow_maps",
    "modified_field",
    "register_theory",
    "whitening_gap",
]
