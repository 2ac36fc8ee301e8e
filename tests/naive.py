"""A second, independent account of what a run is: plain numpy in float64, written from design.md alone.

Nothing here imports the code under test except the streams of random numbers, which are part of the definition.
"""

import numpy as np

from dln.base.streams import stream


def initial_weights(widths, gamma, seed):
    """W_1, ..., W_L: standard normal draws, one stream a layer, times width**(-gamma/2); hidden layers of one width."""
    hidden = widths[1]
    return [
        stream(seed, "weights", layer).standard_normal((widths[layer], widths[layer - 1])) * hidden ** (-gamma / 2)
        for layer in range(1, len(widths))
    ]


def teacher_data(matrix, n, noise_std, seed):
    """Inputs and noisy targets of the training set."""
    x = stream(seed, "train inputs").standard_normal((n, matrix.shape[1]))
    noise = stream(seed, "train noise").standard_normal((n, matrix.shape[0]))
    return x, x @ matrix.T + noise_std * noise


def batch_indices(n, batch_size, seed, steps):
    """Sample numbers of every batch: permutations cut into pieces, the last of an epoch short."""
    rng = stream(seed, "batch order")
    batches = []
    while len(batches) < steps:
        order = rng.permutation(n)
        batches += [order[i : i + batch_size] for i in range(0, n, batch_size)]
    return batches[:steps]


def forward(weights, biases, x):
    """Activations h_0 = x, h_1, ..., h_L."""
    hs = [x]
    for w, b in zip(weights, biases, strict=True):
        hs.append(hs[-1] @ w.T + b)
    return hs


def loss(weights, biases, x, y):
    """Mean squared error over samples and outputs."""
    return np.mean((forward(weights, biases, x)[-1] - y) ** 2)


def gradients(weights, biases, x, y):
    """Gradients of the loss with respect to weights and biases, by the chain rule."""
    hs = forward(weights, biases, x)
    g = 2 * (hs[-1] - y) / y.size
    dws, dbs = [], []
    for w, h in zip(weights[::-1], hs[-2::-1], strict=True):
        dws.append(g.T @ h)
        dbs.append(g.sum(0))
        g = g @ w
    return dws[::-1], dbs[::-1]


def sgd(weights, batches, lr, steps, before=None):
    """Run plain SGD without biases; `batches(s)` gives the batch of step s. Returns weights and the batch losses.

    `lr` is a number, or has one for each step; `before(s, weights)` gives the weights that step s begins with.
    """
    rates = np.broadcast_to(lr, steps)
    weights = [w.copy() for w in weights]
    zeros = [np.zeros(len(w)) for w in weights]
    losses = []
    for step in range(steps + 1):
        if before is not None:
            weights = before(step, weights)
        x, y = batches(step)
        losses.append(loss(weights, zeros, x, y))
        if step < steps:
            grads, _ = gradients(weights, zeros, x, y)
            weights = [w - rates[step] * g for w, g in zip(weights, grads, strict=True)]
    return weights, np.array(losses)
