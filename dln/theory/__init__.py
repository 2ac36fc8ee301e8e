"""Theories of training: what they predict of a run, from its start, at the steps that it is recorded at.

As functions of numpy arrays, and by name in a config: `theory=[gradient_flow]`.
"""

import dln.theory.aligned
import dln.theory.sde
import dln.theory.sgd_mean  # noqa: F401  registers what is there
from dln.measure.learning_coefficient import learning_coefficient
from dln.theory.conditions import balance_gap, whitening_gap
from dln.theory.gradient_flow import balanced_field, balanced_layers, flow_maps
from dln.theory.label_noise import label_noise_drift, label_noise_floor, label_noise_path, trace_gradient
from dln.theory.langevin import estimate_learning_coefficient
from dln.theory.lazy import lazy_maps, moved_layers
from dln.theory.mixed_regime import kappa, mixed_maps, mixed_mode
from dln.theory.modes import aligned_modes, aligned_modes_gd, escape_time, half_time
from dln.theory.modified_flow import modified_field
from dln.theory.narrow import narrowed
from dln.theory.noisy_modes import diffusion_peak, mode_diffusion, mode_noise_recursion
from dln.theory.one_layer import critical_lr, one_layer_maps, online_moments
from dln.theory.plateaus import plateau_levels
from dln.theory.sgd_moments import Moments, moments_around_gd
from dln.theory.theory import THEORIES, Prediction, Problem, Sampling, register_theory
from dln.theory.two_cycle import beyond_edge, cycle_multiplier, two_cycle
from dln.theory.two_layers import lambda_balance, riccati_layers, two_layer_recursion

__all__ = [
    "THEORIES",
    "Moments",
    "Prediction",
    "Problem",
    "Sampling",
    "aligned_modes",
    "aligned_modes_gd",
    "balance_gap",
    "balanced_field",
    "balanced_layers",
    "beyond_edge",
    "critical_lr",
    "cycle_multiplier",
    "diffusion_peak",
    "escape_time",
    "estimate_learning_coefficient",
    "flow_maps",
    "half_time",
    "kappa",
    "label_noise_drift",
    "label_noise_floor",
    "label_noise_path",
    "lambda_balance",
    "lazy_maps",
    "learning_coefficient",
    "mixed_maps",
    "mixed_mode",
    "mode_diffusion",
    "mode_noise_recursion",
    "modified_field",
    "moments_around_gd",
    "moved_layers",
    "narrowed",
    "one_layer_maps",
    "online_moments",
    "plateau_levels",
    "register_theory",
    "riccati_layers",
    "trace_gradient",
    "two_cycle",
    "two_layer_recursion",
    "whitening_gap",
]
