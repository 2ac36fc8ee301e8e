"""Every feature by example, as notebook cells; also runs from the shell."""

# %% [markdown]
# # Experiments with deep linear networks, by example
#
# Run the cells in a notebook or an editor that knows `# %%`, or all of them with `python experiment_examples.py`
# (half a minute; figures go to `figures/`). The network is `W_L ... W_1 x`; the task is a linear teacher on Gaussian
# inputs.

# %%
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

import dln
from notebook_utils import compare, plot, run, sweep

torch.set_num_threads(1)  # matrices this small gain nothing from more, and threads that wait cost other processes dear

# %% [markdown]
# ## One run
# `run` takes overrides as `run.py` does; keywords set keys of the config's top level. What comes back is a `History`:
# the records as they were taken, and as columns. A record at step s describes the weights theta_s, whatever the
# column.

# %%
history = run("training.lr=0.005", "data.params.scale=8.0", max_steps=300, metrics=["weight_norm", "gradient_norm"])
print(history)
print("final:", history.final)
print("lowest test loss:", history["test_loss"].min(), "at step", history["step"][history["test_loss"].argmin()])
print(history.to_polars().tail(3))
plot(history, title="Full-batch gradient descent", save="figures/single_run.png")

# %% [markdown]
# ## A config by name: saddle to saddle
# From a small initial scale (large `gamma`) the modes of the teacher are learned one after the other, the largest
# first. `singular_values` is a vector at each step, so its column is a matrix: one row a record.

# %%
history = run(config_name="diagonal_teacher", max_steps=1500, evaluate_every=5)
print("singular values, [records, modes]:", history["singular_values"].shape)
plot(history, title="Each mode in its own time", save="figures/saddle_to_saddle.png")

# %% [markdown]
# ## Callbacks: change something in the middle
# Gradient noise keeps minibatch SGD at a floor; switching to the full batch (`None`) at step 300 lets the test loss
# drop to what the noise on the training targets allows.

# %%
switch = {"name": "switch_batch_size", "params": {"step": 300, "batch_size": None}}
history = run(
    "training.batch_size=5",
    "training.lr=0.004",
    "data.noise_std=1.0",
    max_steps=500,
    metrics=["gradient_norm"],
    callbacks=[switch],
)
plot(history, title="Full batch from step 300", save="figures/batch_size_switch.png")

# %% [markdown]
# ## Two models in lockstep
# Lanes a and b see the same data; `shared` changes both, `training_b` one. Columns of a lane end in `_a` or `_b`,
# those of the pair have no suffix. Here only the batch size differs: the distance is the effect of SGD noise.

# %%
history = compare(
    "shared.training.lr=0.002",
    "training_b.batch_size=10",
    max_steps=300,
    model_metrics=["end_to_end_norm"],
    comparative_metrics=["param_distance", "param_cosine_sim"],
)
print(history.names)
plot(history, title="Full batch (a) and minibatches of 10 (b)", save="figures/comparison_batch_size.png")

# %% [markdown]
# Different seeds: the parameters stay apart, yet both models come to compute the same map.

# %%
history = compare(
    "training_a.model_seed=42",
    "training_b.model_seed=999",
    "shared.training.lr=0.005",
    max_steps=300,
    comparative_metrics=["param_distance", "end_to_end_distance"],
)
plot(history, title="Two initialisations", save="figures/comparison_seeds.png")

# %% [markdown]
# ## Sweeps, and divergence
# A sweep returns a history for each value. A learning rate above the stability threshold is a result, not an error:
# the run ends, `diverged_at` says when, and the records before it are there.

# %%
runs = sweep("training.lr", [0.0005, 0.002, 0.01, 0.1], max_steps=300)
for lr, history in runs.items():
    print(f"lr {lr}: final train loss {history.final['train_loss']:.2e}, diverged at {history.diverged_at}")
plot(runs, title="Learning rate", save="figures/sweep_lr.png")

# %%
runs = sweep("model.gamma", [0.75, 1.0, 1.25, 1.5], "training.lr=0.005", max_steps=400, metrics=["weight_norm"])
plot(runs, metric="weight_norm", title="From lazy to rich", save="figures/sweep_gamma.png")

# %% [markdown]
# ## Other initial weights
# `model.init` names them. These start with the teacher's singular vectors, so that every mode follows its own sigmoid
# from the strength it is given.

# %%
runs = sweep("model.init_params.strength", [0.001, 0.01, 0.1], "model.init=aligned", "training.lr=0.002", max_steps=400)
plot(runs, metric="train_loss", title="Strength of aligned modes", save="figures/sweep_aligned.png")

# %%
runs = sweep("shared.training.lr", [0.001, 0.002, 0.004], "training_b.batch_size=10", max_steps=200)
plot(runs, metric="param_distance", save="figures/sweep_comparison.png")

# %% [markdown]
# ## Online data
# With `data.online=true` every batch is fresh: there is no training set to overfit, and `train_loss` is an estimate
# of the population loss.

# %%
history = run("data.online=true", "training.batch_size=20", "training.lr=0.003", max_steps=400)
plot(history, title="Online", save="figures/online.png")

# %% [markdown]
# ## A metric of your own
# Five lines. `model.weights` are W_1, ..., W_L; `p.grad` holds the gradient on the step's batch. A list or a tensor
# gives one column of vectors, a dict gives a column `name.key` for each entry. In a config, name the module under
# `extensions`.


# %%
@dln.model_metric("alignment")
def alignment(model: dln.DeepLinearNetwork) -> torch.Tensor:
    """|cosine| between the top left singular vector of W_l and the top right one of W_{l+1}: 1 when aligned."""
    svds = [torch.linalg.svd(w) for w in model.weights]
    return torch.stack([(below.U[:, 0] @ above.Vh[0]).abs() for below, above in pairwise(svds)])


@dln.comparative_metric("top_mode_gap")
def top_mode_gap(model_a: dln.DeepLinearNetwork, model_b: dln.DeepLinearNetwork) -> torch.Tensor:
    """Difference between the largest singular values of the two maps."""
    top_a, top_b = (torch.linalg.matrix_norm(model.end_to_end(), 2) for model in (model_a, model_b))
    return abs(top_a - top_b)


history = compare(
    "model_b.gamma=1.5",
    "shared.training.lr=0.005",
    max_steps=400,
    evaluate_every=5,
    model_metrics=["alignment"],
    comparative_metrics=["top_mode_gap"],
)
plot(history, title="gamma = 1 (a) and 1.5 (b)", save="figures/own_metrics.png")

# %% [markdown]
# ## A teacher and a callback of your own
# A teacher maps `(in_dim, out_dim, params)` to a matrix `[out_dim, in_dim]`. A callback is a factory that returns
# `callback(step, trainer)`; it may set `trainer.lr` and `trainer.batch_size`, change weights, and call
# `trainer.stop()`.


# %%
@dln.register_matrix("hierarchy")
def hierarchy(in_dim: int, out_dim: int, params: dict) -> torch.Tensor:
    """Modes that halve: scale * (1, 1/2, 1/4, ...)."""
    return params["scale"] * torch.eye(out_dim, in_dim) * 0.5 ** torch.arange(in_dim)


@dln.register_callback("warmup")
def warmup(steps: int):
    """Raise the learning rate linearly to its value over the first `steps` steps."""

    def callback(step: int, trainer: dln.Trainer) -> None:
        if step < steps:
            trainer.lr *= (step + 1) / max(step, 1) if step else 1 / steps

    return callback


history = run(
    "data.params={matrix: hierarchy, scale: 10.0}",
    "training.lr=0.01",
    max_steps=400,
    metrics=["singular_values"],
    callbacks=[{"name": "warmup", "params": {"steps": 50}}],
)
plot(history, title="A hierarchical teacher, with warm-up", save="figures/own_teacher.png")

# %% [markdown]
# ## Checkpoints
# With a directory the run is stored: `history.jsonl`, how it ended, and weights every `checkpoint_every` steps. A
# checkpoint is an `.npz` of W1, ..., WL; `model.weights` starts a run from one. `dln.load_run` reads a stored run
# back.

# %%
directory = Path(tempfile.mkdtemp(prefix="dln-")) / "first_half"
first = dln.run_experiment(["max_steps=200", "checkpoint_every=100", "training.lr=0.002"], directory=directory)
print(sorted(path.name for path in (directory / "checkpoints").iterdir()))
second = run(f"model.weights={directory}/checkpoints/step_00000200.npz", "training.lr=0.002", max_steps=200)
print("continues where the first ended:", second["train_loss"][0] == first["train_loss"][-1])
assert dln.load_run(directory).records == first.records

# %% [markdown]
# ## The classes themselves
# Everything above is a config; below it are plain objects. Your own data, your own initial weights (here scaled
# identities), any optimizer of `torch.optim`:

# %%
rng = np.random.default_rng(0)
inputs = rng.standard_normal((200, 8))
targets = inputs @ rng.standard_normal((8, 2)) + 0.1 * rng.standard_normal((200, 2))
dataset = dln.Dataset.from_arrays(inputs[:150], targets[:150], inputs[150:], targets[150:])

model = dln.DeepLinearNetwork.from_weights([0.3 * torch.eye(8), 0.3 * torch.eye(8), 0.3 * torch.eye(2, 8)])
trainer = dln.Trainer(model, dataset, lr=0.01, max_steps=300, optimizer="Adam", metrics=["balancedness"])
plot(trainer.run(), title="Own data, own weights, Adam", save="figures/own_data.png")

# %% [markdown]
# The same data under a config (`dataset=` works for `run`, `compare` and `sweep`; dimensions are taken from it):

# %%
history = run("training.lr=0.01", "model.num_hidden=1", dataset=dataset, max_steps=200)
print(history)

# %% [markdown]
# `ComparativeTrainer` pairs two trainers: here gradient descent with and without momentum, from the same weights.

# %%
plain, heavy = (
    dln.Trainer(
        dln.DeepLinearNetwork(8, 30, 2, 2, model_seed=1),
        dataset,
        lr=0.01,
        max_steps=300,
        optimizer_params={"momentum": momentum},
    )
    for momentum in (0.0, 0.9)
)
history = dln.ComparativeTrainer(plain, heavy, comparative_metrics=["param_distance"]).run()
plot(history, title="Without (a) and with momentum (b)", save="figures/momentum.png")
