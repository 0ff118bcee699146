"""The prox of the squared k-support norm: ours, the pair search of Theorem 7, cvxpy if it is installed; one thread.

    python benchmarks/ksupport.py            # prints the tables
    python benchmarks/ksupport.py --json F   # also writes them to F

The pair search of Pal et al. (2020) tries rho and lam in turn. Here it gets the range of rho that is right, prefix
sums, all lam of one rho in one NumPy expression, and optimality conditions instead of objectives. "all pairs" visits
every pair, as the theorem reads; "first pair" stops as soon as the conditions hold. The error of each method is its
largest deviation from a 30-digit solution, relative to the largest entry.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import mpmath  # noqa: E402  (after the thread settings)
import numpy as np  # noqa: E402
import scipy  # noqa: E402
import torch  # noqa: E402

from adaptive_dropout.ksupport import ksupport_norm_squared, prox_ksupport  # noqa: E402

try:
    import cvxpy
except ImportError:
    cvxpy = None

torch.set_num_threads(1)
BETA = 0.5
SIZES = ((100, 10), (1_000, 100), (10_000, 1_000), (100_000, 10_000), (100_000, 5), (1_000_000, 100_000))
PAIR_LIMIT, CVXPY_LIMIT = 1e9, 10_000  # largest r * d, and largest d, that the peers are asked to do


def median_seconds(function, repeats=15):
    """Median wall time of a call, after one call to warm up; slow calls (over 2 s) are made once."""
    start = time.perf_counter()
    function()
    first = time.perf_counter() - start
    if first > 2:
        return first
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# ---- the peers ----


def pair_search(y, r, beta, stop=True):
    """Theorem 7 for a descending vector: a pair (rho, lam) that is consistent with its own t."""
    d, sums = len(y), np.concatenate([[0.0], np.cumsum(y)])
    following, found = np.append(y[1:], 0.0), None
    for rho in range(1, r + 1):
        lam = np.arange(rho, d + 1)
        t = (sums[rho:] - sums[rho - 1]) / (r + beta * lam + (beta + 1) * (1 - rho))
        good = (
            (y[rho - 1 :] > beta * t)
            & (following[rho - 1 :] <= beta * t)
            & (y[rho - 1] <= (1 + beta) * t * (1 + 1e-14))
        )
        good &= rho == 1 or y[rho - 2] >= (1 + beta) * t
        if found is None and good.any():
            first = int(good.argmax())
            found = rho, int(lam[first]), beta * t[first]
            if stop:
                break
    rho, last, cut = found
    return np.concatenate([y[: rho - 1] / (1 + beta), y[rho - 1 : last] - cut, np.zeros(d - last)])


def conic(y, r, beta):
    """The same problem in the dual form that cvxpy solves fastest."""
    w = cvxpy.Variable(len(y))
    smooth = 2 * (y @ w) - beta * cvxpy.sum_squares(w)
    cvxpy.Problem(cvxpy.Maximize(smooth - cvxpy.sum_largest(cvxpy.square(w), r))).solve()
    return y - beta * w.value


def exact(y, r, beta):
    """The prox of a descending vector to 30 digits: bisection for t in sum clip(y/t - beta, 0, 1) = r."""
    with mpmath.workdps(30):
        numbers = [mpmath.mpf(float(x)) for x in y]
        excess = lambda t: sum(min(max(x / t - beta, 0), 1) for x in numbers) - r
        t = mpmath.findroot(excess, (numbers[-1] / (1 + beta) / 2, sum(numbers) / r), solver="illinois", verify=False)
        return np.array([float(min(x / (1 + beta), max(x - beta * t, 0))) for x in numbers])


# ---- the tables ----


def vector_row(d, r, seed=0):
    """One size: milliseconds of each method, errors where the 30-digit solution is affordable."""
    y = np.random.default_rng(seed).standard_normal(d)
    ordered = np.sort(np.abs(y))[::-1].copy()
    tensor = torch.from_numpy(y)
    sort = lambda: prox_ksupport(ordered, r, BETA, assume_sorted=True)
    row = {
        "d": d,
        "r": r,
        "sorted ms": median_seconds(sort) * 1e3,
        "unsorted ms": median_seconds(lambda: prox_ksupport(y, r, BETA)) * 1e3,
        "torch ms": median_seconds(lambda: prox_ksupport(tensor, r, BETA)) * 1e3,
        "value ms": median_seconds(lambda: ksupport_norm_squared(y, r)) * 1e3,
        "np.sort ms": median_seconds(lambda: np.sort(y)) * 1e3,
    }
    affordable = r * d <= PAIR_LIMIT
    first = median_seconds(lambda: pair_search(ordered, r, BETA), 5) if affordable else float("nan")
    pairs = median_seconds(lambda: pair_search(ordered, r, BETA, False), 5) if affordable else float("nan")
    cone = median_seconds(lambda: conic(ordered, r, BETA), 3) if cvxpy and d <= CVXPY_LIMIT else float("nan")
    row |= {"first pair ms": first * 1e3, "all pairs ms": pairs * 1e3, "all / sorted": pairs * 1e3 / row["sorted ms"]}
    row |= {"cvxpy ms": cone * 1e3, "cvxpy / sorted": cone * 1e3 / row["sorted ms"]}
    return row | errors(ordered, r, y)


def errors(ordered, r, y):
    """Largest relative deviations from the 30-digit solution."""
    if len(y) > 10_000:
        return {}
    truth, order = exact(ordered, r, BETA), np.argsort(-np.abs(y))
    error = lambda a: float(np.abs(a - truth).max() / ordered[0])
    unsorted = np.abs(prox_ksupport(y, r, BETA))[order]
    found = {
        "error sorted": error(prox_ksupport(ordered, r, BETA, assume_sorted=True)),
        "error unsorted": error(unsorted),
    }
    found |= {"error pairs": error(pair_search(ordered, r, BETA))}
    return found | ({"error cvxpy": error(conic(ordered, r, BETA))} if cvxpy else {})


def batch_rows(count=10_000, d=512, r=50):
    """Many vectors in one call, and a sort of the same array."""
    y = np.random.default_rng(1).standard_normal((count, d))
    tensor, leaf = torch.from_numpy(y), torch.from_numpy(y).requires_grad_()
    single = tensor.float()
    rows = {
        "torch": lambda: prox_ksupport(tensor, r, BETA),
        "torch with backward": lambda: prox_ksupport(leaf, r, BETA).sum().backward(),
        "torch float32": lambda: prox_ksupport(single, r, BETA),
        "numpy": lambda: prox_ksupport(y, r, BETA),
        "torch.sort": lambda: torch.sort(tensor),
        "numpy.sort": lambda: np.sort(y),
    }
    times = {name: median_seconds(function, 5) for name, function in rows.items()}
    return [{"call": name, "ms": s * 1e3, "x torch.sort": s / times["torch.sort"]} for name, s in times.items()]


def show(title, rows):
    """Print rows as an aligned table."""
    print(f"\n{title}")
    names = list(dict.fromkeys(key for row in rows for key in row))
    cell = lambda v: f"{v:.3g}" if isinstance(v, float) else str(v)
    text = [names, *[[cell(row.get(name, "")) for name in names] for row in rows]]
    widths = [max(len(line[i]) for line in text) for i in range(len(names))]
    for line in text:
        print("  " + "  ".join(part.rjust(width) for part, width in zip(line, widths, strict=True)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore", module="cvxpy")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1, "load at start": round(load, 2)}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    versions |= {"torch": torch.__version__, "cvxpy": cvxpy.__version__ if cvxpy else "not installed"}
    results = {"machine": machine | versions, "beta": BETA}
    print(" ".join(f"{key} {value}" for key, value in results["machine"].items()))
    results["vectors"] = [vector_row(d, r) for d, r in SIZES]
    show(f"one vector of |N(0, 1)| entries, beta = {BETA}", results["vectors"])
    results["batch"] = batch_rows()
    show("10,000 vectors of length 512, r = 50", results["batch"])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
