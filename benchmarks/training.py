"""Cost of one training step as a multiple of a plain dense step, LeNet-300-100, batch 128, fused Adam, one thread.

    python benchmarks/training.py                  # prints the table
    python benchmarks/training.py --only plain     # cases whose name contains the word
    python benchmarks/training.py --json F         # also writes it to F

The cases take turns, so that a busy machine slows all of them alike, two steps each, of which the second counts: as in
a training, it finds its own data in the caches, and not what another case left there. Time is the thread's own (what
other programs do in between does not count), the ratio is that of the medians, and that of the lower quartiles beside.
"bar" is what the package promises for a case. "bytes" counts parameters, gradients and what optimiser and sparsifier
keep, over the number of weights of the dense network. cplxmodule's LinearVD takes part if it is installed. A case is
a function that returns a step. To add one, write it and put its name into CASES.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch  # noqa: E402  (after the thread settings)
from torch import nn  # noqa: E402

from adaptive_dropout.effective import Standout  # noqa: E402
from adaptive_dropout.hard_concrete import HardConcreteL0  # noqa: E402
from adaptive_dropout.nn.gates import AdaptiveDropoutLinear, HardConcreteLinear, total_cost  # noqa: E402
from adaptive_dropout.nn.layers import VariationalDropoutLinear  # noqa: E402
from adaptive_dropout.nn.sparsify import Sparsifier  # noqa: E402
from adaptive_dropout.penalties import L1, MCP, SCAD, Cauchy, LogSum  # noqa: E402
from adaptive_dropout.variational_dropout import VariationalDropout  # noqa: E402

try:
    from cplxmodule.nn.relevance import LinearVD
except ImportError:
    LinearVD = None

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


def nbytes(tensors):
    """Bytes of some tensors."""
    return sum(tensor.nbytes for tensor in tensors if torch.is_tensor(tensor) and tensor.numel() > 1)


def step_of(model, charge=None, sparsifier=None):
    """A training step; `charge` gives what is added to the loss; `sparsifier` makes a sparsifier of (model, Adam)."""
    optimiser, (x, y) = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True), batch()
    made = sparsifier and sparsifier(model, optimiser)

    def step():
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        (loss if charge is None else loss + charge(model)).backward()
        if made:
            made.add_gradient()
        optimiser.step()
        if made:
            made.step()

    def memory():
        held = [p for group in optimiser.param_groups for p in group["params"]]
        held += [p.grad for p in held] + [value for state in optimiser.state.values() for value in state.values()]
        own = {} if made is None else {id(p) for p in made.parameters()}
        kept = [] if made is None else [t for t in made._method.state.values() if id(t) not in own]
        return nbytes(held + kept)

    step.memory = memory
    return step


def sparse(method, penalty, value="", **options):
    """A step with a sparsifier: the gradient only, the value "beside" it, or penalty() "in" the loss."""

    def make():
        model, made = lenet(), []

        def sparsifier(model, optimiser):
            made.append(Sparsifier(model, method, penalty, 1e-4, optimizer=optimiser, record_every=0, **options))
            add = made[0].add_gradient
            made[0].add_gradient = {"": add, "beside": lambda: add(value=True), "in": lambda: None}[value]
            return made[0]

        return step_of(model, (lambda model: made[0].penalty()) if value == "in" else None, sparsifier)

    return make


def noisy(make, **options):
    """A step with noisy layers, charged for their noise."""
    return lambda: step_of(lenet(make, **options), lambda model: total_cost(model) / TRAIN)


def vardrop(form, formula="exact"):
    """Variational dropout in one of its forms."""
    return noisy(VariationalDropoutLinear, form=form, formula=formula)


def peer():
    """Variational dropout by cplxmodule, local form with log sigma^2, which uses an approximation of the divergence."""
    from cplxmodule.nn.relevance import penalties

    return step_of(lenet(LinearVD), lambda model: sum(penalties(model)) / TRAIN)


def subnormal(flush):
    """The passes of a dense network with 2 % of subnormal weights, which the processor treats as zero or not."""

    def make():
        model, (x, y) = lenet(), batch()
        with torch.no_grad():
            for layer in model[::2]:
                layer.weight.view(-1)[::50] = 1e-40

        def step():
            torch.set_flush_denormal(flush)
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            torch.set_flush_denormal(False)

        step.memory = lambda: nbytes([*model.parameters(), *(p.grad for p in model.parameters())])
        return step

    return make


LOG_SUM = LogSum(0.1)
CASES = {  # name -> function that makes the step, and the promised ratio if there is one
    "dense": (lambda: step_of(lenet()), None),
    "penalty, log-sum, gradient": (sparse("penalty", LOG_SUM), 1.15),
    "penalty, log-sum, value": (sparse("penalty", LOG_SUM, "beside"), 1.3),
    "penalty, log-sum, in the loss": (sparse("penalty", LOG_SUM, "in"), None),
    "penalty, l1, gradient": (sparse("penalty", L1()), 1.15),
    "penalty, l1, value": (sparse("penalty", L1(), "beside"), 1.3),
    "penalty, Cauchy, gradient": (sparse("penalty", Cauchy(0.1)), 1.15),
    "penalty, Cauchy, value": (sparse("penalty", Cauchy(0.1), "beside"), 1.3),
    "penalty, MCP, gradient": (sparse("penalty", MCP(2.0, 0.1)), 1.15),
    "penalty, MCP, value": (sparse("penalty", MCP(2.0, 0.1), "beside"), 1.3),
    "penalty, SCAD, gradient": (sparse("penalty", SCAD(3.7, 0.1)), 1.15),
    "penalty, SCAD, value": (sparse("penalty", SCAD(3.7, 0.1), "beside"), 1.3),
    "AdaTikhonov, log-sum, gradient": (sparse("adatikhonov", LOG_SUM), 1.35),
    "AdaProx, log-sum": (sparse("adaprox", LOG_SUM), 1.35),
    "eta-trick, log-sum, gradient": (sparse("eta-trick", LOG_SUM), 1.8),
    "eta-trick, log-sum, value": (sparse("eta-trick", LOG_SUM, "beside"), None),
    "penalty, variational dropout": (sparse("penalty", VariationalDropout(1e-2)), 2.0),
    "penalty, hard concrete": (sparse("penalty", HardConcreteL0(1e-2)), 2.0),
    "penalty, standout": (sparse("penalty", Standout(1e-2)), 2.0),
    "VarDrop plain": (vardrop("plain"), 2.8),
    "VarDrop local": (vardrop("local"), 3.3),
    "VarDrop additive": (vardrop("additive"), 3.3),
    "VarDrop plain, gradient in place": (sparse("vardrop", None, form="plain"), 2.8),
    "VarDrop local, gradient in place": (sparse("vardrop", None, form="local"), 3.3),
    "VarDrop additive, gradient in place": (sparse("vardrop", None, form="additive"), 3.3),
    "VarDrop additive, sigmoid KL": (vardrop("additive", "sigmoid"), None),
    "VarDrop additive, no KL": (lambda: step_of(lenet(VariationalDropoutLinear, form="additive")), None),
    "hard concrete, a gate a weight": (noisy(HardConcreteLinear), None),
    "hard concrete, a gate a row": (noisy(HardConcreteLinear, gates="row"), None),
    "adaptive Bernoulli, log-sum": (noisy(AdaptiveDropoutLinear, penalty=LOG_SUM, lam=1e-4, noise="bernoulli"), None),
    "adaptive Gaussian, local": (noisy(AdaptiveDropoutLinear, penalty=LOG_SUM, lam=1e-4, form="local"), None),
    "passes, 2 % subnormal weights": (subnormal(False), None),
    "passes, the same counted as zero": (subnormal(True), None),
}
if LinearVD:
    CASES["cplxmodule LinearVD"] = peer, None


def thread_seconds(steps, rounds):
    """Times of each step over the rounds, in turns; a step that is not timed puts its own data into the caches."""
    times = {name: [] for name in steps}
    for round_number in range(rounds + 5):
        for name, step in steps.items():
            step()
            start = time.thread_time()
            step()
            if round_number >= 5:
                times[name].append(time.thread_time() - start)
    return times


def table(only="", rounds=100):
    """One row a case: milliseconds, ratio to dense by medians and by lower quartiles, promised ratio, memory."""
    steps = {name: make() for name, (make, _) in CASES.items() if name == "dense" or only in name}
    weights = sum(parameter.numel() for parameter in lenet().parameters())
    times, rows = thread_seconds(steps, rounds), []
    for name, step in steps.items():
        low, median = (statistics.quantiles(times[name])[i] for i in (0, 1))
        base_low, base = (statistics.quantiles(times["dense"])[i] for i in (0, 1))
        rows.append({
            "case": name, "ms": median * 1e3, "ratio": median / base, "ratio of quartiles": low / base_low,
            "bar": CASES[name][1], "bytes": step.memory() / weights,
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
    machine["cplxmodule"] = version("cplxmodule") if LinearVD else "not installed"
    machine["load"] = round(os.getloadavg()[0], 1)  # programs that compete for cores, caches and memory
    rows = table(options.only, options.rounds)
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    width = max(len(row["case"]) for row in rows)
    print(f"{'':{width}}  {'ms':>6}  {'ratio':>6}  {'(quartiles)':>11}  {'bar':>5}  bytes a weight")
    for row in rows:
        numbers = f"{row['ms']:6.2f}  {row['ratio']:6.2f}  {row['ratio of quartiles']:11.2f}"
        print(f"{row['case']:{width}}  {numbers}  {row['bar'] or '':>5}  {row['bytes']:14.1f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
