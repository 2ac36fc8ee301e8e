"""Curvature and gradient noise in closed form against the same by autograd, member by member: ratios of one machine.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/curvature.py [--rounds N]

Autograd is what a user would write: torch.func.hessian and eigvalsh, torch.func.jacrev for the kernel, torch.func.vmap
of gradients for the noise; it is timed on a few members and scaled up. Both are taken in turn, and the ratio is that of
the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from dln.derivatives.gradient_noise import hessian_noise_trace, sample_noise
from dln.derivatives.hessian import hessian_spectrum, hessian_trace, top_eigenvalues
from dln.derivatives.products import moments
from dln.derivatives.tangent_kernel import gauss_newton_spectrum, ntk_spectrum

NETS = {  # widths, members, members that autograd is timed on
    "100 nets, 300 parameters": ([5, 10, 10, 10, 5], 100, 5),
    "10 nets, 1,575 parameters": ([5, 35, 35, 5], 10, 1),
}
LARGE = {"5,500 parameters": [5, 50, 50, 50, 5], "21,000 parameters": [5, 100, 100, 100, 5]}
SAMPLES = 100


class Nets:
    """Random networks on one training set, as arrays [R, out, in] and as tensors."""

    def __init__(self, widths: list[int], members: int) -> None:
        """Draw them."""
        rng = np.random.default_rng(0)
        shapes = zip(widths[1:], widths[:-1], strict=True)
        self.weights = [rng.standard_normal((members, *shape)) / np.sqrt(shape[1]) for shape in shapes]
        self.inputs = rng.standard_normal((SAMPLES, widths[0]))
        self.targets = self.inputs @ np.diag(np.arange(widths[0], 0.0, -1))
        self.moments = moments(self.inputs, self.targets)
        self._data = torch.from_numpy(self.inputs), torch.from_numpy(self.targets)
        self._shapes = [w.shape[1:] for w in self.weights]

    def flat(self, r: int) -> torch.Tensor:
        """Return one member's parameters."""
        return torch.cat([torch.from_numpy(w[r]).flatten() for w in self.weights])

    def outputs(self, flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return what a member says of inputs."""
        for w, shape in zip(flat.split([p * q for p, q in self._shapes]), self._shapes, strict=True):
            x = x @ w.view(shape).T
        return x

    def loss(self, flat: torch.Tensor, x: torch.Tensor | None = None, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss of a member, on all samples or on one."""
        x, y = (self._data[0] if x is None else x), (self._data[1] if y is None else y)
        return torch.nn.functional.mse_loss(self.outputs(flat, x), y)

    def hessian(self, r: int) -> torch.Tensor:
        """Return the Hessian of a member by autograd."""
        return torch.func.hessian(self.loss)(self.flat(r))

    def kernel(self, r: int) -> torch.Tensor:
        """Return the eigenvalues of a member's kernel by autograd."""
        j = torch.func.jacrev(lambda flat: self.outputs(flat, self._data[0]).flatten())(self.flat(r))
        return torch.linalg.eigvalsh(j @ j.T)

    def gradients(self, r: int) -> torch.Tensor:
        """Return a member's gradients sample by sample."""
        return torch.func.vmap(torch.func.grad(self.loss), (None, 0, 0))(self.flat(r), *self._data)

    def noise_curvature(self, r: int) -> torch.Tensor:
        """Return tr(H C) of a member by autograd."""
        g = self.gradients(r)
        g = g - g.mean(0)
        return ((g @ self.hessian(r)) * g).sum() / len(g)


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Return the medians of measurements taken in turn; the first round does not count."""
    results = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*results, strict=True)]


def small(rounds: int) -> None:
    """Print every quantity of ensembles against autograd."""
    for label, (widths, members, few) in NETS.items():
        nets = Nets(widths, members)
        for name, (ours, theirs) in quantities(nets).items():
            autograd = partial(seconds, lambda f=theirs, few=few: [f(r) for r in range(few)])
            fast, slow = in_turn(rounds, partial(seconds, ours), autograd)
            slow *= members / few
            print(f"| {label} | {name} | {fast:.3g} s | {slow:.3g} s | **{slow / fast:.0f}x** |", flush=True)


def quantities(nets: Nets) -> dict[str, tuple[Callable[[], object], Callable[[int], object]]]:
    """Return every quantity, of all members in closed form and of one by autograd."""
    layers, (sigma, sigma_yx), data = nets.weights, nets.moments, (nets.inputs, nets.targets)
    return {
        "Hessian spectrum": (
            lambda: hessian_spectrum(layers, sigma, sigma_yx),
            lambda r: torch.linalg.eigvalsh(nets.hessian(r)),
        ),
        "its largest eigenvalue": (
            lambda: top_eigenvalues(layers, sigma, sigma_yx),
            lambda r: torch.linalg.eigvalsh(nets.hessian(r))[-1],
        ),
        "its trace": (lambda: hessian_trace(layers, sigma), lambda r: nets.hessian(r).trace()),
        "Gauss-Newton spectrum": (lambda: gauss_newton_spectrum(layers, sigma), nets.kernel),
        "NTK spectrum": (lambda: ntk_spectrum(layers, sigma, SAMPLES), nets.kernel),
        "tr C": (
            lambda: sample_noise(layers, *data).trace(),
            lambda r: nets.gradients(r).var(0, correction=0).sum(),
        ),
        "tr(H C)": (lambda: hessian_noise_trace(layers, *data), nets.noise_curvature),
    }


def large(rounds: int) -> None:
    """Print how long a large network takes: at a random start, and when it has been trained for a while."""
    for label, widths in LARGE.items():
        nets = Nets(widths, 1)
        trained = [w[0] for w in nets.weights]
        for _ in range(300):
            parts = [torch.from_numpy(w).requires_grad_() for w in trained]
            nets.loss(torch.cat([p.flatten() for p in parts])).backward()
            trained = [w - 0.01 * p.grad.numpy() for w, p in zip(trained, parts, strict=True) if p.grad is not None]
        for state, layers in (("random", [w[0] for w in nets.weights]), ("trained", trained)):
            for count in (1, 10):
                (t,) = in_turn(rounds, partial(seconds, partial(top_eigenvalues, layers, *nets.moments, count)))
                print(f"| {label}, {state} | top {count} | {t:.3g} s |", flush=True)
        if len(nets.flat(0)) < 10_000:
            (t,) = in_turn(rounds, partial(seconds, partial(hessian_spectrum, trained, *nets.moments)))
            print(f"| {label}, trained | all | {t:.3g} s |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements whose medians count")
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.func.hessian uses what torch deprecates
    small(rounds)
    large(rounds)


if __name__ == "__main__":
    main()
