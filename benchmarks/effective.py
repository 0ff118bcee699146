"""Effective penalties: nanoseconds a point, and the workload of Figure 1 against scalar minimisation, one thread.

    python benchmarks/effective.py            # prints the tables
    python benchmarks/effective.py --json F   # also writes them to F

The peer evaluates Omega(w) = min over eta of (w^2/eta + f(eta))/2 the usual way: one call of
scipy.optimize.minimize_scalar for each weight, with f from a table of 1000 nodes and np.interp. Errors are measured
against an independent evaluation of the same minimum (30 digits, and 1e-13 for the hard concrete).
"""

import argparse
import json
import os
import platform
import statistics
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import mpmath  # noqa: E402  (after the thread settings)
import numpy as np  # noqa: E402
import scipy  # noqa: E402
import torch  # noqa: E402
from scipy.optimize import minimize_scalar  # noqa: E402
from scipy.special import dawsn, expit  # noqa: E402

from adaptive_dropout import noise  # noqa: E402
from adaptive_dropout.duality import penalty_from_dual  # noqa: E402
from adaptive_dropout.hard_concrete import HardConcreteL0  # noqa: E402
from adaptive_dropout.penalties import LogSum  # noqa: E402
from adaptive_dropout.variational_dropout import VariationalDropout  # noqa: E402

torch.set_num_threads(1)


def median_seconds(function, repeats=9):
    """Median wall time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def points_table(size=100_000):
    """Nanoseconds a point for value and gradient together, NumPy and torch, with the set-up of the first call."""
    rng, rows = np.random.default_rng(0), []
    w = 10 ** rng.uniform(-3, 2, size) * rng.choice([-1, 1], size)
    for name, make in (
        ("LogSum", LogSum),
        ("VariationalDropout", VariationalDropout),
        ("HardConcreteL0", HardConcreteL0),
    ):
        start = time.perf_counter()
        penalty = make(1.0)
        value_and_grad(penalty, w[:10])
        setup = time.perf_counter() - start
        tensor = torch.from_numpy(w)
        both = median_seconds(lambda p=penalty: value_and_grad(p, w))
        both_torch = median_seconds(lambda p=penalty, t=tensor: value_and_grad(p, t))
        rows.append(
            {
                "penalty": name,
                "set-up ms": setup * 1e3,
                "numpy ns": both / size * 1e9,
                "torch ns": both_torch / size * 1e9,
            }
        )
    rows.append(generic_row(w[:10_000]))
    return rows


def value_and_grad(penalty, w):
    """Value and gradient, in one pass where the penalty offers it."""
    one_pass = getattr(penalty, "value_and_grad", None)
    return one_pass(w) if one_pass else (penalty(w), penalty.grad(w))


def generic_row(w):
    """The generic transform on a user's f with its derivative (here that of LogSum(1))."""
    root = lambda eta: np.sqrt(1 + 4 * eta)
    f = lambda eta: 2 * np.log1p(2 * eta / (root(eta) + 1)) - 2 * eta / (1 + 2 * eta + root(eta))
    start = time.perf_counter()
    penalty = penalty_from_dual(f, derivative=lambda eta: 4 / (1 + root(eta)) ** 2)
    penalty(w[:10])
    setup = time.perf_counter() - start
    seconds = median_seconds(lambda: penalty(w))
    return {
        "penalty": "penalty_from_dual (any f)",
        "set-up ms": setup * 1e3,
        "numpy ns": seconds / len(w) * 1e9,
        "torch ns": float("nan"),
    }


# ---- Figure 1, ours against a scalar minimisation ----


def workload():
    """Figure 1: 100 weights for the left panel, 33 x 32 weights for the right one."""
    k = np.arange(33)
    unit = np.where(np.arange(32) < k[:, None], 1 / np.sqrt(np.maximum(k, 1))[:, None], 0.0)
    return np.concatenate([np.linspace(0.05, 5, 100), unit.ravel()])


def scalar_minimum(w, log_eta, f):
    """Omega at each weight by a bounded scalar minimisation over log eta with an interpolated f."""

    def one(x):
        bound = lambda s: 0.5 * (x * x * np.exp(-s) + np.interp(s, log_eta, f))
        return minimize_scalar(bound, bounds=(log_eta[0], log_eta[-1]), method="bounded").fun

    return np.array([one(x) for x in w])


def vardrop_table():
    """f of variational dropout at 1000 nodes, by the trapezoid rule."""
    eta = np.logspace(-6, 6, 1000)
    root = np.sqrt(eta / 2)
    slope = dawsn(root) / root
    return np.log(eta), np.concatenate([[0], np.cumsum(np.diff(eta) * (slope[1:] + slope[:-1]) / 2)])


def hard_concrete_table():
    """f of the hard concrete at 1000 nodes, from exact moments."""
    log_a = np.linspace(-9, 9, 1000)
    mask = noise.HardConcrete(log_a)
    return 2 * np.log(mask.mean) - np.log(mask.variance), expit(log_a - 2 / 3 * np.log(0.1 / 1.1))


def vardrop_reference(w):
    """Omega to 30 digits from the stationary point of its definition, found by root search."""
    if w == 0:
        return mpmath.mpf(0)
    w = mpmath.mpf(float(w))
    dawson = lambda y: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-y * y) * mpmath.erfi(y)
    y = mpmath.findroot(lambda y: 2 * y**1.5 * mpmath.sqrt(dawson(y)) - w, (w / 2 + 0.01, w / 2 + 0.5), solver="secant")
    return w * w / (4 * y * y) + 2 * mpmath.quad(dawson, [0, y / 2, y])


def hard_concrete_reference(w):
    """Omega from a two-stage search over log a with moments by quadrature of the density (good to 1e-13)."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    low, high = 2 / 3 * np.log(0.1 / 1.1), 2 / 3 * np.log(1.1 / 0.1)
    x, weights = (high + low) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights
    s = 1.2 / (1 + np.exp(-1.5 * x)) - 0.1

    def bound(a):
        density = weights * expit(x - a[:, None]) * expit(a[:, None] - x)
        mean, second = density @ s + expit(a - high), density @ s**2 + expit(a - high)
        return 0.5 * (w * w * (second - mean**2) / mean**2 + expit(a - low))

    lower, upper = -25.0, 8.0
    for _ in range(9):
        grid = np.linspace(lower, upper, 401)
        values = bound(grid)
        best = int(values.argmin())
        lower, upper = grid[max(best - 2, 0)], grid[min(best + 2, 400)]
    return min(values.min(), 0.5) if w else 0.0


def figure_one_rows():
    """Time and largest error of both ways, and the ratio of times."""
    w, rows = workload(), []
    sample = np.unique(np.concatenate([w[:100:5], 1 / np.sqrt(np.arange(1, 33))]))
    cases = (
        ("VariationalDropout", VariationalDropout(1.0), vardrop_table(), lambda x: float(vardrop_reference(x))),
        ("HardConcreteL0", HardConcreteL0(1.0), hard_concrete_table(), hard_concrete_reference),
    )
    for name, penalty, nodes, reference in cases:
        with mpmath.workdps(30):
            truth = np.array([reference(x) for x in sample])
        ours, start = median_seconds(lambda p=penalty: p(w), 201), time.perf_counter()
        scalar_minimum(w, *nodes)
        theirs = time.perf_counter() - start
        rows.append({
            "penalty": name, "points": len(w), "ours ms": ours * 1e3, "scalar ms": theirs * 1e3, "ratio": theirs / ours,
            "error ours": float(np.abs(penalty(sample) - truth).max()),
            "error scalar": float(np.abs(scalar_minimum(sample, *nodes) - truth).max()),
        })  # fmt: skip
    return rows


def show(title, rows):
    """Print rows as an aligned table."""
    print(f"\n{title}")
    text = [list(rows[0]), *[[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]]
    widths = [max(len(line[i]) for line in text) for i in range(len(text[0]))]
    for line in text:
        print(
            "  "
            + "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    options = arguments.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1, **versions}
    results = {"machine": machine, "points": points_table(), "figure 1": figure_one_rows()}
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    show("value and gradient, 100,000 points (10,000 for the generic transform: value only)", results["points"])
    show("Figure 1: all points, ours in one call, the peer one scalar minimisation a point", results["figure 1"])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
