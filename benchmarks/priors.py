"""Marginal priors of noises: nanoseconds a point for log_prob and gradient, side by side with peers, one thread,
10,000 points, shortest of 200 runs.

    python benchmarks/priors.py            # prints the table
    python benchmarks/priors.py --json F   # also writes it to F

Peers: the logpdf of scipy.stats where the law is there, otherwise a direct quadrature of the mixture at 400 fixed nodes
of log v (logsumexp), which is what one writes without tables. Errors are measured against the quadrature of the package
with its own bracket for each point (1e-15 against mpmath on the pages).
"""

import argparse
import json
import os
import platform
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402  (after the thread settings)
import scipy  # noqa: E402
import torch  # noqa: E402
from scipy import stats  # noqa: E402
from scipy.special import k0e, logsumexp  # noqa: E402

from adaptive_dropout import noise as noises  # noqa: E402
from adaptive_dropout.scale_mixtures import MEMBERS, MarginalPrior, PriorPenalty  # noqa: E402

torch.set_num_threads(1)
EXTRA = (MarginalPrior(noises.LogNormal(0.0, 0.7)), MarginalPrior(noises.Beta(2.0, 3.0)))
PEERS = {
    "Laplace": ("scipy.stats.laplace", lambda p, w: stats.laplace.logpdf(w, scale=p.scale)),
    "StudentT": ("scipy.stats.t", lambda p, w: stats.t.logpdf(w, p.nu, scale=p.scale)),
    "GeneralizedHyperbolic": (
        "scipy.stats.genhyperbolic",
        lambda p, w: stats.genhyperbolic.logpdf(w, p.lam, p.gamma * p.delta, 0.0, scale=p.delta),
    ),
    "SpikeAndSlab": ("sum of its terms", lambda p, w: p.by_quadrature(w)),
    "TwoGaussians": ("sum of its terms", lambda p, w: p.by_quadrature(w)),
    "Gaussian 0": ("scipy.special.k0e", lambda p, w: np.log(k0e(np.abs(w)) / np.pi) - np.abs(w)),
}


def best_seconds(function, repeats=200):
    """Shortest wall time of a call, after one call to warm up: what others on the machine do only adds to it."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def direct_quadrature(prior, w):
    """log p by the trapezoidal rule at 400 fixed nodes of log xi, 2000 points at a time."""
    y = np.linspace(-30, 30, 400)
    xi = np.exp(y)
    with np.errstate(all="ignore"):
        log_weight = np.nan_to_num(prior.noise.log_prob(xi), nan=-np.inf) - np.log(prior.sigma0)
    pieces = [
        logsumexp(log_weight - (block[:, None] / (prior.sigma0 * xi)) ** 2 / 2, axis=1)
        for block in np.array_split(w, len(w) // 2000)
    ]
    return np.concatenate(pieces) + np.log((y[1] - y[0]) / np.sqrt(2 * np.pi))


def row(prior, size):
    """One line of the table."""
    rng = np.random.default_rng(0)
    w = 10 ** rng.uniform(-3, 2, size) * rng.choice([-1, 1], size)
    start = time.perf_counter()
    prior.log_prob(w[:10])
    setup = time.perf_counter() - start
    penalty, tensor, few = PriorPenalty(prior), torch.from_numpy(w), np.abs(w)
    seconds = {
        "log_prob": best_seconds(lambda: prior.log_prob(w)),
        "both": best_seconds(lambda: penalty.value_and_grad(w)),
        "torch both": best_seconds(lambda: penalty.value_and_grad(tensor)),
    }
    special = prior.noise == noises.Gaussian(0.0, 1.0)
    name, peer = PEERS.get("Gaussian 0" if special else type(prior).__name__, ("400 nodes", direct_quadrature))
    theirs = best_seconds(lambda: peer(prior, few), 5) / len(few)
    truth = prior.by_quadrature(few[:2000])
    error = np.abs(prior.log_prob(few[:2000]) - truth) / np.maximum(1, np.abs(truth))
    return {
        "prior": type(prior).__name__ + (f" {type(prior.noise).__name__}" if isinstance(prior, MarginalPrior) else ""),
        "set-up ms": setup * 1e3,
        **{f"{key} ns": value / size * 1e9 for key, value in seconds.items()},
        "peer": name,
        "peer ns": theirs * 1e9,
        "ratio": theirs / (seconds["log_prob"] / size),
        "error": float(error.max()),
    }


def show(rows):
    """Print rows as an aligned table."""
    text = [list(rows[0]), *[[f"{v:.3g}" if isinstance(v, float) else str(v) for v in line.values()] for line in rows]]
    widths = [max(len(line[i]) for line in text) for i in range(len(text[0]))]
    for line in text:
        print(
            "  ".join(
                c.rjust(width) if i else c.ljust(width) for i, (c, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def main():
    """Run, print, and write the results if asked."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    arguments.add_argument("--size", type=int, default=10_000, help="number of points")
    options = arguments.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1, **versions}
    rows = [row(prior, options.size) for prior in (*MEMBERS, *EXTRA)]
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    show(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "priors": rows}, file, indent=1)


if __name__ == "__main__":
    main()
