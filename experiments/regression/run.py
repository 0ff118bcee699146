"""Scale priors and dropout on the yacht data: MAP, the dropout bound, Monte-Carlo dropout, and NUTS in two forms.

    python experiments/regression/run.py                   # every cell that has no result yet: see README.md for times
    python experiments/regression/run.py map-rayleigh      # the cells named; --list lists, --again repeats
    python experiments/regression/run.py --data-dir FOLDER # where the yacht data lie; default as load_yacht
    python experiments/regression/run.py --data digits --share 0.1 --results trial  # no download, a tenth of the work

Each cell writes results/CELL.json, whole or not at all, with settings, seeds, versions and seconds. A cell takes less
than two minutes; an interrupted one starts again, finished ones are kept. Cells nuts-* need the extra
`bayes`: pip install ".[bayes]" in the folder of the repository. Page 73 reads the results and draws them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # the matrices are small: more threads only wait for each other
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.interpolate import CubicHermiteSpline  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from scipy.special import logsumexp  # noqa: E402

from adaptive_dropout import noise as noises  # noqa: E402
from adaptive_dropout.data import RegressionData, load_digits, load_yacht  # noqa: E402
from adaptive_dropout.files import write_text  # noqa: E402
from adaptive_dropout.scale_mixtures import named_prior  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
HIDDEN, SPLITS, NUTS_SPLITS, CHAINS = 10, 20, 5, 2
ITERATIONS, STEPS, MASKS, SWEEPS = 3000, 2000, 500, 10_000  # of L-BFGS, of Adam, of a prediction, of Gibbs sampling
DRAWS = {"linear": 200, "network": 150}  # kept of a chain, after as many to adapt
TREE_DEPTH = {"linear": 7, "network": 6}
LEVEL = 0.05  # standard deviation s of the noise of y, in units of the training targets, where it is not learned
FLOOR = 1e-3  # added to the length of a row as sqrt(r^2 + FLOOR^2), so that infinite densities at 0 become finite
NOISES = {  # the median of xi is 1 for all
    "bernoulli": noises.Bernoulli(0.9, unbiased=False),
    "gaussian": noises.Gaussian(1.0, 1 / 3),
    "rayleigh": noises.Rayleigh(1 / np.sqrt(2 * np.log(2))),
    "inverse-nakagami": noises.InverseNakagami(2.0, 1.19151),
    "half-cauchy": noises.HalfCauchy(1.0),
}
PRIORS, BOUNDS = ["none", "learned-s", *list(NOISES)[1:]], list(NOISES)[:4]
SAMPLED, FORMS = ("rayleigh", "half-cauchy"), ("expanded", "hierarchical")


# ---- data ----


def digits_table() -> RegressionData:
    """A stand-in that needs no download: the digit as a number, from the ink in the rows and columns of its image."""
    digits = load_digits()
    images = digits.train_images[:308].astype(float)
    names = tuple(f"{kind} {i}" for kind in ("row", "column") for i in range(8))
    inputs = np.concatenate([images.sum(axis=2), images.sum(axis=1)], axis=1)
    return RegressionData(inputs, digits.train_labels[:308].astype(float), names, digits.source)


class Split(NamedTuple):
    """A standardised random split; `unit` is the standard deviation of the training targets."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    unit: float


def standardised(table, train):
    """The table in units of its training rows; constant columns become 0."""
    spread = table[train].std(axis=0)
    return (table - table[train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def split(data: RegressionData, seed: int, squares: bool = False) -> Split:
    """Nine tenths of the rows to train on; with `squares`, those of the inputs become inputs too."""
    order = np.random.default_rng(20190425 + seed).permutation(len(data.targets))
    test, train = np.split(order, [round(len(order) / 10)])
    X, y = standardised(data.inputs, train), standardised(data.targets, train)
    if squares:
        X = standardised(np.concatenate([X, X**2], axis=1), train)
    return Split(X[train], y[train], X[test], y[test], float(data.targets[train].std()))


def scores(part: Split, mean, log_s, draws=None) -> dict:
    """Root mean square error and mean log-likelihood of the test rows in the units of the data.

    The prediction is N(mean, s^2), or the mixture of N(f, s^2) over `draws` of f (rows) and of s.
    """
    f = np.atleast_2d(mean if draws is None else draws)
    log_s = np.broadcast_to(log_s, len(f))[:, None]
    each = -((part.y_test - f) ** 2) / (2 * np.exp(2 * log_s)) - log_s - np.log(2 * np.pi) / 2 - np.log(part.unit)
    rmse = part.unit * np.sqrt(np.mean((part.y_test - mean) ** 2))
    return {"rmse": float(rmse), "ll": float(np.mean(logsumexp(each, axis=0) - np.log(len(f))))}


# ---- MAP under the induced prior (hierarchical) ----


def unpack(z, p: int) -> tuple:
    """W (p, k), b (k,), v (k,), c and log s from one vector."""
    k = HIDDEN
    return z[: p * k].reshape(p, k), z[p * k : p * k + k], z[p * k + k : p * k + 2 * k], z[-2], z[-1]


def predict(z, X) -> np.ndarray:
    """Output of the network with one hidden layer."""
    W, b, v, c, _ = unpack(z, X.shape[1])
    return np.tanh(X @ W + b) @ v + c


def negative_log_posterior(z, part: Split, rows, entries, learn: bool) -> tuple:
    """Value and gradient, with priors of the rows of W and of the entries of v; None for N(0, 1).

    Without `learn` the last entry, log s, has derivative 0 and stays as it is.
    """
    p = part.X.shape[1]
    W, b, v, c, log_s = unpack(z, p)
    hidden = np.tanh(part.X @ W + b)
    residual = part.y - hidden @ v - c
    weight, slope = np.exp(-2 * log_s), residual @ residual * np.exp(-2 * log_s)
    back = -weight * residual[:, None] * v * (1 - hidden**2)
    value = len(residual) * log_s + slope / 2 + (b @ b + c * c) / 2 + (log_s - np.log(0.1)) ** 2 / 2
    shrink_W, shrink_v = shrinkage(W, rows), shrinkage(v[:, None], entries)
    parts = (
        part.X.T @ back + shrink_W[1],
        back.sum(axis=0) + b,
        -weight * (hidden.T @ residual) + shrink_v[1][:, 0],
        [-weight * residual.sum() + c, learn * (len(residual) - slope + log_s - np.log(0.1))],
    )
    return value + shrink_W[0] + shrink_v[0], np.concatenate([np.ravel(part) for part in parts])


def shrinkage(rows, prior) -> tuple:
    """-log p of rows that share a scale, at the length sqrt(r^2 + FLOOR^2), and its gradient."""
    if prior is None:
        return (rows**2).sum() / 2, rows
    square = (rows**2).sum(axis=1) + FLOOR**2
    value, slope = prior
    return -value(np.log(square) / 2).sum(), -(slope(np.log(square) / 2) / square)[:, None] * rows


def tabulated(prior) -> tuple:
    """log p(r) and its slope as functions of log r, from FLOOR to 1000: a spline through values and slopes.

    The priors of some noises are integrals, and a search asks for them a hundred thousand times.
    """
    grid = np.linspace(np.log(FLOOR) - 1e-9, np.log(1e3), 3001)
    length = np.exp(grid)
    spline = CubicHermiteSpline(grid, prior.log_prob(length), length * prior.grad_log_prob(length))
    return spline, spline.derivative()


def climb(start, part: Split, rows, entries, iterations: int, learn: bool = False):
    """L-BFGS from a start."""
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-6}
    arguments = part, rows, entries, learn
    return minimize(negative_log_posterior, start, arguments, method="L-BFGS-B", jac=True, options=options)


def ridge(part: Split, seed: int, iterations: int = ITERATIONS, learn: bool = False):
    """The posterior mode under independent N(0, 1) weights, from a seeded start."""
    p, rng = part.X.shape[1], np.random.default_rng(seed)
    scale = np.concatenate([np.full(p * HIDDEN, p**-0.5), np.ones(HIDDEN), np.full(HIDDEN, HIDDEN**-0.5), [0]])
    start = np.append(scale * rng.standard_normal(len(scale)), np.log(LEVEL))
    return climb(start, part, None, None, iterations, learn)


def map_cell(data: RegressionData, name: str, share: float) -> dict:
    """MAP under the prior that a noise induces on rows of W and entries of v, from the ridge solution."""
    iterations, found = amount(ITERATIONS, share, 20), []
    if name in NOISES:
        priors = [tabulated(named_prior(NOISES[name], 1.0, dimension)) for dimension in (HIDDEN, 1)]
    for seed in range(amount(SPLITS, share, 2)):
        part = split(data, seed)
        run = ridge(part, seed, iterations, learn=name == "learned-s")
        if name in NOISES:
            run = climb(run.x, part, *priors, iterations)
        W, _, v, _, log_s = unpack(run.x, part.X.shape[1])
        lengths = np.linalg.norm(W, axis=1)
        alive = {"inputs_alive": (lengths > 10 * FLOOR).tolist(), "units_alive": int((np.abs(v) > 10 * FLOOR).sum())}
        residual = part.y - predict(run.x, part.X)
        fit = {"s": part.unit * float(np.exp(log_s)), "train_rmse": part.unit * float(np.sqrt(np.mean(residual**2)))}
        slope = float(np.abs(run.jac).max())
        search = {"objective": float(run.fun), "iterations": int(run.nit), "largest_slope": slope}
        found.append(scores(part, predict(run.x, part.X_test), log_s) | alive | fit | search)
        if seed == 0:
            first = run.x.tolist()
    return {"noise": repr(NOISES.get(name)), "floor": FLOOR, "weights_of_split_0": first, **columns(found)}


def digits_cell(share: float) -> dict:
    """MAP with inverse Nakagami noise on the digits: what page 73 can repeat wherever it runs."""
    data = digits_table()
    return map_cell(data, "inverse-nakagami", share) | {"data": data.source}


def columns(records: list[dict]) -> dict:
    """A list of records as a record of lists."""
    return {key: [record[key] for record in records] for key in records[0]}


# ---- noise in the likelihood (expanded): the bound, and Monte-Carlo dropout ----


def noisy_output(weights, X, noise, where: str, generator, draws: int = 1):
    """Output for each network (first axis), draw and row of X, with fresh scales for every one of them."""
    W, b, v, c = weights
    X, b, v = X[:, None], b[:, None, None], v[:, None, None]
    if where == "both":
        X = X * noise.sample((len(W), draws, *X.shape[2:]), generator, X.dtype)
    hidden = torch.tanh(X @ W[:, None] + b)
    hidden = hidden * noise.sample((len(W), draws, *hidden.shape[2:]), generator, X.dtype)
    return (hidden * v).sum(dim=-1) + c[:, None, None]


def bound_cell(data: RegressionData, name: str, where: str, share: float) -> dict:
    """Eq. (11) with weight decay by Adam, all splits at once; prediction by mean scales and by Monte-Carlo dropout."""
    noise, steps, generator = NOISES[name], amount(STEPS, share, 20), torch.Generator().manual_seed(11)
    parts = [split(data, seed) for seed in range(amount(SPLITS, share, 2))]
    single = lambda key: torch.tensor(np.stack([getattr(part, key) for part in parts]), dtype=torch.float32)
    X, y, X_test = (single(key) for key in ("X", "y", "X_test"))
    count, p, k = len(parts), X.shape[2], HIDDEN
    draw = lambda *shape: torch.randn(count, *shape, generator=generator, dtype=X.dtype)
    weights = [draw(p, k) * p**-0.5, draw(k), draw(k) * k**-0.5, 0 * draw()]
    log_s = torch.full((count,), float(np.log(0.1)), dtype=X.dtype)
    learned = [*weights, log_s]
    for array in learned:
        array.requires_grad_()
    optimiser = torch.optim.Adam(learned, lr=0.01)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        residual = y - noisy_output(weights, X, noise, where, generator)[:, 0]
        prior = sum((array**2).sum() for array in weights) / 2 + ((log_s - np.log(0.1)) ** 2).sum() / 2
        loss = (y.shape[1] * log_s + (residual**2).sum(dim=1) * torch.exp(-2 * log_s) / 2).sum() + prior
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    with torch.no_grad():
        masks = noisy_output(weights, X_test, noise, where, generator, amount(MASKS, share, 20)).double().numpy()
        mean = noises.Gaussian(float(noise.mean), 0.0)
        scaled = noisy_output(weights, X_test, mean, where, generator)[:, 0].double().numpy()
    log_s = log_s.detach().double().numpy()
    point = [scores(part, f, level) for part, f, level in zip(parts, scaled, log_s, strict=True)]
    mixed = [scores(part, f.mean(axis=0), level, f) for part, f, level in zip(parts, masks, log_s, strict=True)]
    units = [part.unit * float(np.exp(level)) for part, level in zip(parts, log_s, strict=True)]
    return {
        "noise": repr(noise), "where": where, "steps": steps, "masks": masks.shape[1], "s": units,
        "mean_scales": columns(point), "monte_carlo": columns(mixed),
    }  # fmt: skip


# ---- the posterior, by NUTS ----


def bayes():
    """numpyro and arviz, or a message that says how to get them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import arviz
            import numpyro
    except ImportError as error:
        raise ImportError(
            f"cells nuts-* need numpyro and arviz: pip install '.[bayes]' in the folder of the repository ({error})"
        ) from error
    numpyro.enable_x64()
    return numpyro, arviz


def law(noise):
    """A noise as a numpyro distribution."""
    from numpyro import distributions as dist

    if isinstance(noise, noises.Rayleigh):
        return dist.Weibull(np.sqrt(2) * noise.scale, 2.0)
    if isinstance(noise, noises.HalfCauchy):
        return dist.HalfCauchy(noise.scale)
    precision = dist.Gamma(noise.m, noise.m / noise.omega)
    return dist.TransformedDistribution(precision, dist.transforms.PowerTransform(-0.5))


def scaled_weights(name: str, shape: tuple, noise, form: str):
    """Weights whose rows have a scale each, with the scale in the prior or in the product."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    xi = numpyro.sample(f"xi_{name}", law(noise).expand(shape[:1]).to_event(1))
    xi = xi.reshape(-1, *(1 for _ in shape[1:]))
    spread = (xi if form == "hierarchical" else 1.0) * jnp.ones(shape)
    raw = numpyro.sample(name, dist.Normal(0.0, spread).to_event(len(shape)))
    return raw if form == "hierarchical" else xi * raw


def model(X, y, X_test, noise, form: str, linear: bool) -> None:
    """The network of the other cells, or a linear model, with Gaussian noise of unknown size."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    normal = lambda name, shape: numpyro.sample(name, dist.Normal(0.0, jnp.ones(shape)).to_event(len(shape)))
    if linear:
        w = scaled_weights("w", (X.shape[1],), noise, form)
        output = lambda X: X @ w
    else:
        W, v = scaled_weights("W", (X.shape[1], HIDDEN), noise, form), scaled_weights("v", (HIDDEN,), noise, form)
        b, c = normal("b", (HIDDEN,)), normal("c", ())
        output = lambda X: jnp.tanh(X @ W + b) @ v + c
    log_s = numpyro.sample("log_s", dist.Normal(np.log(0.1), 1.0)) if linear else np.log(LEVEL)
    numpyro.deterministic("f", output(X_test))
    numpyro.sample("y", dist.Normal(output(X), jnp.exp(log_s)), obs=y)


def chain_starts(part: Split, linear: bool, iterations: int) -> dict:
    """Each chain starts at a ridge solution of its own (linear: at random) with all scales 1, given as logs."""
    p = part.X.shape[1]
    if linear:
        rng = np.random.default_rng(0)
        return {"w": 0.1 * rng.standard_normal((CHAINS, p)), "xi_w": np.zeros((CHAINS, p)), "log_s": np.zeros(CHAINS)}
    runs = [unpack(ridge(part, 100 + chain, iterations).x, p) for chain in range(CHAINS)]
    starts = {name: np.stack([run[i] for run in runs]) for i, name in enumerate(("W", "b", "v", "c"))}
    return starts | {"xi_W": np.zeros((CHAINS, p)), "xi_v": np.zeros((CHAINS, HIDDEN))}


@cache
def sampler_of(name: str, form: str, linear: bool, draws: int):
    """A sampler that is compiled once for all splits: they are its arguments."""
    numpyro, kind = bayes()[0], "linear" if linear else "network"
    target = partial(model, noise=NOISES[name], form=form, linear=linear)
    kernel = numpyro.infer.NUTS(target, max_tree_depth=TREE_DEPTH[kind])
    how = {"chain_method": "sequential", "progress_bar": False, "jit_model_args": True}
    return numpyro.infer.MCMC(kernel, num_warmup=draws, num_samples=draws, num_chains=CHAINS, **how)


def nuts_cell(data: RegressionData, name: str, form: str, seed: int, linear: bool, share: float) -> dict:
    """NUTS on one split, with diagnostics of what does not depend on the form: the predictions, and s."""
    _, arviz = bayes()
    import jax

    kind = "linear" if linear else "network"
    noise, part, draws = NOISES[name], split(data, seed, squares=linear), amount(DRAWS[kind], share, 20)
    sampler, arguments = sampler_of(name, form, linear, draws), (part.X, part.y, part.X_test)
    starts = chain_starts(part, linear, amount(ITERATIONS, share, 20))
    start = time.process_time()
    sampler.run(jax.random.PRNGKey(seed), *arguments, init_params=starts, extra_fields=("num_steps", "diverging"))
    samples = {key: np.asarray(value) for key, value in sampler.get_samples(group_by_chain=True).items()}
    sampling = time.process_time() - start
    steps, diverging = (np.asarray(sampler.get_extra_fields()[key]) for key in ("num_steps", "diverging"))
    f, log_s = samples["f"], samples.get("log_s", np.full((CHAINS, draws), np.log(LEVEL)))
    xi, flat = samples["xi_w" if linear else "xi_W"], f.reshape(-1, f.shape[-1])
    asked = {"f": f, "xi": np.log(xi)}
    ess, rhat = ({key: table[key].values for key in asked} for table in (arviz.ess(asked), arviz.rhat(asked)))
    return {
        "noise": repr(noise), "form": form, "split": seed, "chains": CHAINS, "warmup": draws, "draws": draws,
        "tree_depth": TREE_DEPTH[kind], **scores(part, flat.mean(axis=0), log_s.ravel(), flat),
        "mean_prediction": flat.mean(axis=0).tolist(),
        "deviation_of_mean": (flat.std(axis=0) / np.sqrt(ess["f"])).tolist(),
        "s": part.unit * float(np.exp(log_s).mean()), "ess": ess["f"].tolist(), "rhat": rhat["f"].tolist(),
        "ess_log_xi": ess["xi"].tolist(), "rhat_log_xi": rhat["xi"].tolist(), "divergences": int(diverging.sum()),
        "gradients": int(steps.sum()), "sampling_seconds": sampling,
        "full_trees": float((steps >= 2 ** TREE_DEPTH[kind] - 1).mean()),
        "median_xi": np.median(xi, axis=(0, 1)).tolist(),
    }  # fmt: skip


def gibbs_cell(data: RegressionData, seed: int, share: float) -> dict:
    """The linear model with Rayleigh noise by Gibbs sampling, which shares nothing with NUTS but the model.

    The prior is Laplace, and the conditional laws are known: 1/xi^2 is inverse Gaussian (Park & Casella, 2008).
    """
    part, rng, sweeps = split(data, seed, squares=True), np.random.default_rng(seed), amount(SWEEPS, share, 40)
    scale, grid = NOISES["rayleigh"].scale, np.linspace(-4, 1, 2001)
    gram, product, n = part.X.T @ part.X, part.X.T @ part.y, len(part.y)
    precision, log_s, kept = np.ones(len(product)), 0.0, []
    for _ in range(sweeps):
        factor = np.linalg.cholesky(gram * np.exp(-2 * log_s) + np.diag(precision))
        white = np.linalg.solve(factor, product * np.exp(-2 * log_s)) + rng.standard_normal(len(product))
        w = np.linalg.solve(factor.T, white)
        precision = rng.wald(1 / (scale * np.abs(w)), 1 / scale**2)
        energy = ((part.y - part.X @ w) ** 2).sum() / 2
        height = -n * grid - energy * np.exp(-2 * grid) - (grid - np.log(0.1)) ** 2 / 2
        mass = np.exp(height - height.max()).cumsum()
        log_s = grid[np.searchsorted(mass, mass[-1] * rng.random())]
        kept.append([*(part.X_test @ w), log_s])
    kept = np.array(kept[sweeps // 10 :])
    f, log_s, blocks = kept[:, :-1], kept[:, -1], np.array_split(kept, 20)
    spread = np.std([block.mean(axis=0) for block in blocks], axis=0, ddof=1) / np.sqrt(len(blocks))
    return {
        "split": seed, "sweeps": sweeps, **scores(part, f.mean(axis=0), log_s, f),
        "mean_prediction": f.mean(axis=0).tolist(),
        "deviation_of_mean": spread[:-1].tolist(), "s": part.unit * float(np.exp(log_s).mean()),
    }  # fmt: skip


# ---- running and keeping ----


def amount(full: int, share: float, least: int) -> int:
    """A share of a number, but not less than what a trial needs."""
    return max(least, round(full * share))


def cells(data=None, share: float = 1.0, splits: int = NUTS_SPLITS, sampled=SAMPLED) -> dict:
    """Name of each cell -> function that runs it."""
    table = {f"map-{name}": partial(map_cell, data, name, share) for name in PRIORS}
    table["map-digits"] = partial(digits_cell, share)
    for where in ("both", "hidden"):
        table |= {f"bound-{where}-{name}": partial(bound_cell, data, name, where, share) for name in BOUNDS}
    table["gibbs-linear-rayleigh-0"] = partial(gibbs_cell, data, 0, share)
    for kind in ("linear", "network"):
        for name in sampled:
            for form in FORMS:
                for seed in range(splits):
                    run = partial(nuts_cell, data, name, form, seed, kind == "linear", share)
                    table[f"nuts-{kind}-{name}-{form}-{seed}"] = run
    return table


def versions() -> dict:
    """What the numbers depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": 1}
    for name in ("numpy", "scipy", "torch", "jax", "numpyro", "arviz"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def keep(results: Path, cell: str, arguments: str, found: dict, seconds: dict) -> None:
    """Write the result of a cell, whole or not at all."""
    record = {"cell": cell, "command": f"python experiments/regression/run.py {cell}{arguments}", "device": "cpu"}
    text = json.dumps(record | seconds | versions() | found) + "\n"
    write_text(results / f"{cell}.json", text)


def parsed(arguments: list[str] | None):
    """The command line after its checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="names of cells; default: all that have no result yet")
    parser.add_argument("--again", action="store_true", help="run cells that have a result already")
    parser.add_argument("--list", action="store_true", help="print the names of the cells")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--data", choices=("yacht", "digits"), default="yacht", help="digits needs --results")
    parser.add_argument(
        "--data-dir", help="folder of the yacht data (default: $ADAPTIVE_DROPOUT_DATA, cache, download)"
    )
    parser.add_argument("--nuts-splits", type=int, default=NUTS_SPLITS, help=f"up to {SPLITS}; default {NUTS_SPLITS}")
    parser.add_argument(
        "--nuts-noises", nargs="+", default=SAMPLED, choices=("rayleigh", "inverse-nakagami", "half-cauchy")
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the work, for a trial; needs --results")
    options = parser.parse_args(arguments)
    if not 0 < options.share <= 1:
        parser.error(f"--share must lie in (0, 1], got {options.share:g}")
    if not 1 <= options.nuts_splits <= SPLITS:
        parser.error(f"--nuts-splits must lie between 1 and {SPLITS}, got {options.nuts_splits}")
    if (options.share < 1 or options.data != "yacht") and options.results.resolve() == RESULTS:
        parser.error("--share and --data digits need --results: a trial must not take the place of a result")
    names = list(cells(None, options.share, options.nuts_splits, options.nuts_noises))
    unknown = [name for name in options.cells if name not in names]
    if unknown:
        parser.error(f"unknown cell {', '.join(unknown)}; there are: {', '.join(names)}")
    return options, names


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that were asked for."""
    options, names = parsed(arguments)
    if options.list:
        print("\n".join(names))
        return 0
    results, wanted = options.results, options.cells or names
    wanted = [name for name in wanted if options.again or not (results / f"{name}.json").exists()]
    data = digits_table() if options.data == "digits" else load_yacht(options.data_dir)
    table = cells(data, options.share, options.nuts_splits, options.nuts_noises)
    trial = f" --data {options.data}" * (options.data != "yacht") + f" --share {options.share:g}" * (options.share < 1)
    results.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(wanted, start=1):
        print(f"[{number}/{len(wanted)}] {name}", flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            found = {"data": data.source} | table[name]()
        except KeyboardInterrupt:
            print(f"interrupted in {name}; run the same command to go on with it")
            return 130
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        keep(results, name, trial, found, {key: round(value, 2) for key, value in seconds.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
