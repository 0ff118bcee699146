"""Section 5.1 of Pal et al. (2020) as published: DropBlock on synthetic data against its closed form.

    python experiments/dropblock_synthetic/run.py               # every cell that has no result yet: about 6 minutes
    python experiments/dropblock_synthetic/run.py curves-block  # the cells named; --list lists, --again repeats
    python experiments/dropblock_synthetic/run.py --share 0.001 --results trial  # a thousandth of the steps, elsewhere

Each cell writes results/CELL.json, whole or not at all, with seeds, versions and seconds. A stochastic run saves its
state beside it while it runs, so that an interrupted one goes on where it was, with the same numbers.
Page 71 reads the results and draws them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # the matrices are small: more threads only wait for each other

import numpy as np  # noqa: E402

from adaptive_dropout.balanced_factors import alternating_minimization  # noqa: E402
from adaptive_dropout.block_masks import OverlappingMask, seed_rate  # noqa: E402
from adaptive_dropout.dropblock import BlockMask, base_retain_probability  # noqa: E402
from adaptive_dropout.dropconnect import WeightMask  # noqa: E402
from adaptive_dropout.files import write_text  # noqa: E402
from adaptive_dropout.global_minimum import dropblock_global_minimum  # noqa: E402
from adaptive_dropout.structured_sgd import SGDRun, masked_sgd  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLES, FEATURES, OUTPUTS, HIDDEN, BLOCK, THETA = 1000, 100, 80, 50, 5, 0.5
SEEDS = range(5)


def data(seed: int) -> dict:
    """The synthetic data of section 5.1 with standard normal start weights, columns as samples."""
    rng = np.random.default_rng(20200614 + seed)
    X = rng.standard_normal((FEATURES, SAMPLES))
    teacher = rng.standard_normal((OUTPUTS, HIDDEN)) @ rng.standard_normal((FEATURES, HIDDEN)).T
    init = rng.standard_normal((OUTPUTS, HIDDEN)), rng.standard_normal((FEATURES, HIDDEN))
    return {"X": X, "Y": teacher @ X, "init": init}


def minimum(problem: dict):
    """The global minimum of Theorem 7."""
    theta_bar = base_retain_probability(THETA, BLOCK, HIDDEN)
    return dropblock_global_minimum(problem["Y"], BLOCK, theta_bar, problem["X"])


# ---- cells: what each runs, and the numbers that it keeps ----


def train(mask, state: Path, seed: int, steps: int, step_size: float, **options) -> SGDRun:
    """Algorithm 1 from the common start; goes on where an interrupted run left its state."""
    problem, rng = data(seed), np.random.default_rng(seed)
    run = masked_sgd(
        problem["Y"], problem["X"], mask, steps, step_size, rng, init=problem["init"], checkpoint=state,
        resume=SGDRun.load(state) if state.exists() else None, progress=sys.stderr.isatty(), **options,
    )  # fmt: skip
    if run.step < steps:
        raise KeyboardInterrupt
    return run


def curves(mask, state: Path, share: float, step_size: float = 1e-5, block: int = 100) -> dict:
    """Stochastic and deterministic objective at every iterate; kept are the means over blocks of iterates."""
    steps = block * max(2, round(20_000 * share / block))
    run = train(mask, state, 0, steps, step_size, record=1)
    ratio = run.stochastic[:steps] / run.deterministic[:steps]
    means = lambda values: values[:steps].reshape(-1, block).mean(axis=1).tolist()
    return {
        "mask": repr(mask), "steps": steps, "step_size": step_size, "block": block, "iterates": len(ratio),
        "mean_ratio": float(ratio.mean()), "standard_error": float(ratio.std(ddof=1) / np.sqrt(len(ratio))),
        "stochastic": means(run.stochastic), "deterministic": means(run.deterministic),
        "first_stochastic": run.stochastic[:200].tolist(), "first_deterministic": run.deterministic[:200].tolist(),
        "global_minimum": minimum(data(0)).value,
    }  # fmt: skip


def descent(state: Path, seed: int, steps: int, step_size: float, **options) -> dict:
    """The relative gap to the global minimum along one run of Algorithm 1."""
    problem = data(seed)
    best = minimum(problem)
    points = sorted({0, steps} | {round(10**power) for power in np.arange(2, np.log10(steps), 0.1)})
    run = train(BlockMask(HIDDEN, BLOCK, THETA), state, seed, steps, step_size, record=points, **options)
    gap = lambda value: float((value - best.value) / best.value)
    found = {
        "seed": seed, "steps": steps, "step_size": step_size, **options, "iterates": run.iterates.tolist(),
        "gaps": [gap(value) for value in run.deterministic], "final_gap": gap(run.deterministic[-1]),
        "floor": gap(run.deterministic[run.iterates >= steps / 3].mean()),
        "global_minimum": best.value, "certificate": best.gap,
    }  # fmt: skip
    if run.averaged:
        found["averaged_gap"] = gap(objective(*run.average, problem))
    return found


def objective(U, V, problem: dict) -> float:
    """The deterministic objective of Lemma 1."""
    loss = ((problem["Y"] - U @ (V.T @ problem["X"])) ** 2).sum()
    return float(loss + BlockMask(HIDDEN, BLOCK, THETA).regularizer(U, V, problem["X"]))


def alternating(seed: int) -> dict:
    """Alternating exact minimisation of the deterministic objective from the same start, plain and accelerated."""
    problem = data(seed)
    best, found = minimum(problem), {"seed": seed}
    for name, momentum in (("plain", False), ("accelerated", True)):
        start = time.perf_counter()
        run = alternating_minimization(
            problem["Y"], problem["X"], BLOCK, THETA, HIDDEN, start=problem["init"][0], momentum=momentum
        )
        seconds, gaps = time.perf_counter() - start, run.gaps
        reached = {f"1e-{k}": int(np.argmax(gaps <= 10.0**-k)) + 1 for k in (2, 6, 10, 14) if (gaps <= 10.0**-k).any()}
        found[name] = {"reached": reached, "final_gap": run.gap, "solver_seconds": seconds, "gaps": gaps.tolist()}
    return found | {
        "global_minimum": best.value, "rho": best.rho, "lam": best.lam, "certificate": best.gap,
        "objective_of_the_factors": objective(run.U, run.V, problem),
    }  # fmt: skip


def cells(results: Path = RESULTS, share: float = 1.0) -> dict:
    """Name of each cell -> function that runs it, with a share of the steps; states of runs go to the results."""
    gamma, printed = seed_rate(THETA, BLOCK), 1 - (1 - THETA) ** (1 / BLOCK)
    masks = {
        "curves-block": BlockMask(HIDDEN, BLOCK, THETA),
        "curves-block-0.2": BlockMask(HIDDEN, BLOCK, 0.2),
        "curves-block-0.8": BlockMask(HIDDEN, BLOCK, 0.8),
        "curves-dropout": BlockMask(HIDDEN, 1, THETA),
        "curves-dropconnect": WeightMask(FEATURES, HIDDEN, THETA),
        "curves-overlapping": OverlappingMask(HIDDEN, BLOCK, gamma, "clip"),
        "curves-overlapping-0.8": OverlappingMask(HIDDEN, BLOCK, seed_rate(0.8, BLOCK), "clip"),
        "curves-overlapping-0.8-printed": OverlappingMask(HIDDEN, BLOCK, 1 - (1 - 0.8) ** (1 / BLOCK), "clip"),
    }
    assert abs(gamma - printed) < 1e-15  # at theta = 1/2 the printed rate and the right one are the same
    table = {name: partial(curves, mask, _state(results, name), share) for name, mask in masks.items()}

    def add(name, seed, steps, step_size, **options):
        steps = max(1, round(steps * share))
        if "average_from" in options:
            options["average_from"] = steps // 2
        table[name] = partial(descent, _state(results, name), seed, steps, step_size, **options)

    for step in (1e-6, 3e-6, 1e-5):
        add(f"constant-{step:g}", 0, 1_000_000 if step == 1e-6 else 300_000, step)
    for seed in SEEDS:
        add(f"decay-seed{seed}", seed, 1_000_000, 1e-5, decay_steps=2e4)
        add(f"average-seed{seed}", seed, 500_000, 1e-6, average_from=250_000)
        table[f"alternating-seed{seed}"] = partial(alternating, seed)
    return table


# ---- running and keeping ----


def versions() -> dict:
    """What the numbers depend on."""
    return {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine(), "threads": 1}


def _state(results: Path, cell: str) -> Path:
    """Where a stochastic run keeps its state while it runs."""
    return results / f"{cell}.safetensors"


def keep(results: Path, cell: str, share: float, found: dict, seconds: float) -> None:
    """Write the result of a cell, whole or not at all; the state of its run is not needed any more."""
    options = [] if share == 1 else ["--share", f"{share:g}"]
    command = " ".join(["python experiments/dropblock_synthetic/run.py", cell, *options])
    record = {"cell": cell, "command": command, "device": "cpu", "seconds": round(seconds, 2), **versions(), **found}
    text = json.dumps(record) + "\n"
    write_text(results / f"{cell}.json", text)
    _state(results, cell).unlink(missing_ok=True)


def parsed(arguments: list[str] | None):
    """The command line after its checks, and the cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="names of cells; default: all that have no result yet")
    parser.add_argument("--again", action="store_true", help="run cells that have a result already")
    parser.add_argument("--list", action="store_true", help="print the names of the cells")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, for a trial; needs --results")
    options = parser.parse_args(arguments)
    if not 0 < options.share <= 1:
        parser.error(f"--share must lie in (0, 1], got {options.share:g}")
    if options.share < 1 and options.results.resolve() == RESULTS:
        parser.error("--share needs --results: a trial must not take the place of a result")
    table = cells(options.results, options.share)
    unknown = [name for name in options.cells if name not in table]
    if unknown:
        parser.error(f"unknown cell {', '.join(unknown)}; there are: {', '.join(table)}")
    return options, table


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that were asked for."""
    options, table = parsed(arguments)
    results = options.results
    if options.list:
        print("\n".join(table))
        return 0
    wanted = [name for name in options.cells or table if options.again or not (results / f"{name}.json").exists()]
    results.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(wanted, start=1):
        print(f"[{number}/{len(wanted)}] {name}", flush=True)
        start = time.perf_counter()
        try:
            found = table[name]()
        except KeyboardInterrupt:
            print(f"interrupted in {name}; run the same command to go on")
            return 130
        keep(results, name, options.share, found, time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
