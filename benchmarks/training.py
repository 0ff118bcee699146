"""Cost of one training step as a multiple of a plain dense step, LeNet-300-100, batch 128, fused Adam, one thread.

    python benchmarks/training.py                  # prints the table
    python benchmarks/training.py --only plain     # cases whose name contains the word
    python benchmarks/training.py --json F         # also writes it to F

The cases take turns, step by step, so that a busy machine slows all of them alike. Time is the thread's own (what other
programs do in between does not count), and the ratio is that of the medians; that of the lower quartiles is beside it.
A case is a function that returns a step. To add one, write it and put its name into CASES.
"""

import argparse
import json
import os
import platform
import statistics
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch  # noqa: E402  (after the thread settings)
from torch import nn  # noqa: E402

from adaptive_dropout.concave import LogSum  # noqa: E402
from adaptive_dropout.nn.gates import AdaptiveDropoutLinear, HardConcreteLinear, total_cost  # noqa: E402
from adaptive_dropout.nn.layers import VariationalDropoutLinear  # noqa: E402

torch.set_num_threads(1)
BATCH, TRAIN, WIDTHS = 128, 48_000, (784, 300, 100, 10)


def lenet(make=nn.Linear, **options):
    """LeNet-300-100 from layers of one kind."""
    torch.manual_seed(0)
    layers = [make(a, b, **options) for a, b in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def batch():
    """Random inputs and labels of the size of MNIST's."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, 784, generator=generator), torch.randint(10, (BATCH,), generator=generator)


def step_of(model, charge=None):
    """A training step; `charge` gives what is added to the loss."""
    optimiser, (x, y) = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True), batch()

    def step():
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        (loss if charge is None else loss + charge(model)).backward()
        optimiser.step()

    step.parameters = sum(parameter.numel() for parameter in model.parameters())
    return step


def noisy(make, **options):
    """A step with noisy layers, charged for their noise."""
    return lambda: step_of(lenet(make, **options), lambda model: total_cost(model) / TRAIN)


def vardrop(form, formula="exact"):
    """Variational dropout in one of its forms."""
    return noisy(VariationalDropoutLinear, form=form, formula=formula)


CASES = {
    "dense": lambda: step_of(lenet()),
    "VarDrop plain": vardrop("plain"),
    "VarDrop local": vardrop("local"),
    "VarDrop additive": vardrop("additive"),
    "VarDrop additive, sigmoid KL": vardrop("additive", "sigmoid"),
    "VarDrop additive, no KL": lambda: step_of(lenet(VariationalDropoutLinear, form="additive")),
    "hard concrete, a gate a weight": noisy(HardConcreteLinear),
    "hard concrete, a gate a row": noisy(HardConcreteLinear, gates="row"),
    "adaptive Bernoulli, log-sum": noisy(AdaptiveDropoutLinear, penalty=LogSum(0.1), lam=1e-4, noise="bernoulli"),
    "adaptive Gaussian, local, log-sum": noisy(AdaptiveDropoutLinear, penalty=LogSum(0.1), lam=1e-4, form="local"),
}


def thread_seconds(steps, rounds):
    """Times of each step over the rounds, in turns."""
    times = {name: [] for name in steps}
    for round_number in range(rounds + 5):
        for name, step in steps.items():
            start = time.thread_time()
            step()
            if round_number >= 5:
                times[name].append(time.thread_time() - start)
    return times


def table(only="", rounds=100):
    """One row a case: milliseconds, ratio to dense by medians and by lower quartiles, parameters."""
    steps = {name: make() for name, make in CASES.items() if name == "dense" or only in name}
    times, rows = thread_seconds(steps, rounds), []
    for name, step in steps.items():
        low, median = (statistics.quantiles(times[name])[i] for i in (0, 1))
        base_low, base = (statistics.quantiles(times["dense"])[i] for i in (0, 1))
        rows.append({
            "case": name, "ms": median * 1e3, "ratio": median / base, "ratio of quartiles": low / base_low,
            "parameters": step.parameters,
        })  # fmt: skip
    return rows


def main():
    """Print the table, write it if asked to."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    arguments.add_argument("--only", metavar="WORD", default="", help="cases whose name contains this (and dense)")
    arguments.add_argument("--rounds", metavar="N", type=int, default=100, help="steps of each case (default 100)")
    options = arguments.parse_args()
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1, "torch": torch.__version__}
    rows = table(options.only, options.rounds)
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    width = max(len(row["case"]) for row in rows)
    print(f"{'':{width}}  {'ms':>6}  {'ratio':>6}  {'(quartiles)':>11}  parameters")
    for row in rows:
        numbers = f"{row['ms']:6.2f}  {row['ratio']:6.2f}  {row['ratio of quartiles']:11.2f}"
        print(f"{row['case']:{width}}  {numbers}  {row['parameters']:10}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
