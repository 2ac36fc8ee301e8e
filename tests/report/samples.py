"""Directories that reports are made of: a run, a comparison, sweeps, a study, and odd ones."""

import dln

SHORT = {"max_steps": 12, "evaluate_every": 2, "model": {"hidden_dim": 5}}
AXES = {"max_steps": 12, "evaluate_every": 2, "model.hidden_dim": 5, "training.batch_size": 5}
RATES = {"training.lr": [0.001, 0.01, 50.0]}
SEEDS = {"training.batch_seed": range(3), "training.batch_size": [1, 5]}
ODD = "<img src=x onerror=alert(1)>"
ODDER = "</script><script>alert(2)</script>"


def make_all(place):
    """Make them, each in a folder of its name."""
    theory = {"theory": ["gradient_flow"], "metrics": ["singular_values", "sharpness"], "events": ["plateaus"]}
    dln.run_experiment({**SHORT, "training": {"lr": 0.01}, **theory}, directory=place / "run")
    switch = [{"name": "switch_batch_size", "params": {"step": 3, "batch_size": 2}}]
    pair = {"max_steps": 6, "callbacks_b": switch, "comparative_metrics": ["param_distance"]}
    dln.run_experiment({**pair, "training_b": {"lr": 0.001}}, directory=place / "pair")
    dln.run_experiment({**SHORT, "training": {"lr": 50.0}}, directory=place / "lost")
    dln.run_sweep({**AXES, **RATES, **SEEDS}, directory=place / "seeds")
    dln.run_sweep({**AXES, **RATES, **SEEDS, "aggregate": {"over": "training.batch_seed"}}, directory=place / "sums")
    whole = {**AXES, "training.batch_size": None, "training.lr": [0.001, 0.002], "theory": ["gradient_flow"]}
    dln.run_sweep({**whole, "metrics": ["sharpness"]}, directory=place / "rates")
    metrics = [{"name": "weight_norm", "label": ODD}, {"name": "gradient_norm", "label": ODDER}]
    metrics += [{"name": "layer_norms", "label": "__proto__"}]
    dln.run_sweep({**AXES, "training.lr": [0.001, 0.002], "metrics": [metrics]}, directory=place / "odd")
    dln.run_study(
        "golden_path",
        ["seeds=3", "slow=6", "middle=5", "fast=4", "large=60", "model.hidden_dim=4"],
        directory=place / "study",
    )
    return place
