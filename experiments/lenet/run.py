"""LeNet-300-100 on MNIST: the seven methods of LeJeune et al. (2021), section 5, matched objectives, and a front.

    python experiments/lenet/run.py                         # every cell that has no result yet: see README.md for times
    python experiments/lenet/run.py published --seeds 0     # one study: published, matched or front; --list lists cells
    python experiments/lenet/run.py --data digits --epochs 5 --results trial   # a try in a minute, without a download

A process of its own for every cell, finished cells are skipped, a cell that was stopped goes on from its checkpoint.
Each writes a JSON file with its configuration, path, errors, seconds and versions. Page 70 reads and draws them.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from functools import partial
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # the matrices are small: more threads only wait for each other

import torch  # noqa: E402
from torch import nn  # noqa: E402

from adaptive_dropout.data import load_digits, load_mnist  # noqa: E402
from adaptive_dropout.nn.compress import compress  # noqa: E402
from adaptive_dropout.nn.sparsify import CubicRamp, Sparsifier  # noqa: E402
from adaptive_dropout.penalties import MCP, LogSum  # noqa: E402
from adaptive_dropout.stacked import Run  # noqa: E402
from adaptive_dropout.sweep import Processes, configuration_hash, sweep  # noqa: E402
from adaptive_dropout.training import from_images, train  # noqa: E402
from adaptive_dropout.variational_dropout import VariationalDropout  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
MEAN, DEVIATION, BATCH = 0.1307, 0.3081, 128
PUBLISHED = {  # method of the sparsifier, learning rate, further arguments; section 5 and its footnotes
    "VarDrop+LR+AR": ("vardrop", 1e-4, {"form": "additive", "rate": 2.0}),  # log sigma moves, not log sigma^2: rate 2
    "VarDrop+LR": ("vardrop", 1e-3, {"form": "local"}),
    "VarDrop": ("vardrop", 1e-3, {"form": "plain"}),
    "eta-trick": ("eta-trick", 1e-3, {"penalty": LogSum(2.0), "rate": 1.0}),
    "AdaProx": ("adaprox", 1e-4, {"penalty": LogSum(2.0)}),
    "AdaTikhonov": ("adatikhonov", 1e-4, {"penalty": LogSum(2.0)}),
    "LogSum": ("penalty", 1e-4, {"penalty": LogSum(2.0)}),
}
FRONT = {  # values of lam, in units of 1/n; for pruning shares of zeros
    "VarDrop+LR+AR": (0.03, 0.1, 0.3, 1, 3),
    "effective": (0.03, 0.1, 0.3, 1, 3),
    "matched LogSum": (0.03, 0.1, 0.3, 1, 3),
    "MCP": (0.03, 0.1, 0.3, 1, 3),
    "hard concrete": (0.01, 0.03, 0.1, 0.3, 1),
    "magnitude": (0.9, 0.95, 0.98, 0.99, 0.995),
}


def effective(lam: float, n: int) -> dict:
    """The penalty of variational dropout whose divergence weighs lam."""
    return {"penalty": VariationalDropout(lam), "lam": lam}


def matched_log_sum(lam: float, n: int) -> dict:
    """2 lam log(1 + |w| / (2 sqrt(lam))): slope at 0 and knee of the effective penalty."""
    return {"penalty": LogSum(2 * math.sqrt(lam)), "lam": 2 * lam}


def matched_mcp(lam: float, n: int) -> dict:
    """Slope sqrt(lam) at 0 like the effective penalty, and flat from 4 sqrt(lam) on."""
    return {"penalty": MCP(4.0, math.sqrt(lam)), "lam": math.sqrt(lam)}


COMPARED = {  # method of the sparsifier, its arguments from lam and the number n of training examples
    "VarDrop+LR+AR": ("vardrop", lambda lam, n: {"lam": lam, "form": "additive", "rate": 2.0}),
    "effective": ("penalty", effective),
    "matched LogSum": ("penalty", matched_log_sum),
    "MCP": ("penalty", matched_mcp),
    "hard concrete": ("hard-concrete", lambda lam, n: {"lam": lam}),
}


def lenet(inputs: int, seed: int) -> nn.Sequential:
    """LeNet-300-100 with weights N(0, 0.02^2)."""
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, 300), nn.Linear(300, 100), nn.Linear(100, 10)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def sparse_run(study: str, method: str, strength: float, seed: int, steps: int, data) -> Run:
    """The network of a cell with its optimiser and sparsifier."""
    n, model = len(data), lenet(data.inputs[0].numel(), seed)
    rate, options = 1e-4 if study == "matched" else 1e-3, {}
    if study == "published":
        kind, rate, options = PUBLISHED[method]
        options = options | ({"n": n} if kind == "vardrop" else {"lam": strength})
    elif method == "magnitude":
        kind, options = "magnitude", {"target": CubicRamp(strength, begin=steps // 10, end=steps * 6 // 10)}
    else:
        kind, arguments = COMPARED[method]
        options = arguments(strength / n, n)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    return Run(model, optimizer, Sparsifier(model, kind, optimizer=optimizer, record_every=0, **options), seed)


@torch.no_grad()
def share_wrong(model: nn.Module, pair) -> float:
    """Share of examples whose class the model gets wrong."""
    return float((model(pair[0]).argmax(1) != pair[1]).double().mean())


def cell(states: str, folder: str | None, study, method, strength, seed, epochs, data) -> dict:
    """Train one network, and measure it before and after its zeros are written."""
    images = load_digits() if data == "digits" else load_mnist(folder)
    data = from_images(images, mean=MEAN, deviation=DEVIATION) if data == "mnist" else from_images(images)
    run = sparse_run(study, method, strength, seed, epochs * math.ceil(len(data) / BATCH), data)
    name = configuration_hash(dict(study=study, method=method, strength=strength, seed=seed, epochs=epochs))
    state = Path(states) / f"{name}.safetensors"
    history = train(run, data, epochs=epochs, batch=BATCH, checkpoint=state, progress=False)
    found = {"source": images.source, "training examples": len(data)}
    found |= {"test error, all weights": share_wrong(run.model.eval(), data.test)}
    model = run.sparsifier.finalize().eval()
    layers = [layer.weight != 0 for layer in model if isinstance(layer, nn.Linear)]
    found |= {"test error": share_wrong(model, data.test), "validation error": share_wrong(model, data.validation)}
    found |= {"nonzero": sum(int(m.sum()) for m in layers) / sum(m.numel() for m in layers)}
    found |= {"nonzero by layer": [float(mask.double().mean()) for mask in layers]}
    found |= {"units": [layer.in_features for layer in compress(model) if isinstance(layer, nn.Linear)]}
    shortened = lambda name: [float(f"{value:.4g}") for value in history[name]]
    state.unlink()
    return found | {"path": {name: shortened(name) for name in ("loss", "penalty", "error", "nonzero")}}


def configurations(studies, seeds, epochs: int | None, data: str) -> list[dict]:
    """The cells of some studies."""
    found = []
    for study in studies:
        common = {"epochs": epochs or (60 if study == "front" else 200), "data": data}
        if study == "published":
            pairs = [(method, 1e-3 if "penalty" in PUBLISHED[method][2] else 1.0) for method in PUBLISHED]
        else:
            pairs = [(method, strength) for method, values in FRONT.items() for strength in values]
            pairs = pairs if study == "front" else [("effective", 1.0), ("matched LogSum", 1.0)]
        names = [(seed, *pair) for seed in ([0] if study == "front" else seeds) for pair in pairs]
        found += [{"study": study, "method": m, "strength": s, "seed": seed, **common} for seed, m, s in names]
    return found


def parsed(arguments: list[str] | None):
    """The command line after its checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = ("published", "matched", "front")
    parser.add_argument("studies", nargs="*", help=f"{', '.join(studies)}; default: all")
    parser.add_argument("--list", action="store_true", help="print the cells")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2; the front has one")
    parser.add_argument("--epochs", type=int, help="default 200, for the front 60; others need --results")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist", help="digits needs --results")
    parser.add_argument("--data-dir", help="folder of MNIST (default: $ADAPTIVE_DROPOUT_DATA, cache, download)")
    parser.add_argument("--methods", nargs="+", help="only these methods")
    parser.add_argument("--workers", type=int, help="processes at a time; default: the cores")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.studies if name not in studies]:
        parser.error(f"unknown study {', '.join(unknown)}; there are: {', '.join(studies)}")
    if (options.epochs or options.data != "mnist") and options.results.resolve() == RESULTS:
        parser.error("--epochs and --data digits need --results: a trial must not take the place of a result")
    cells = configurations(options.studies or studies, options.seeds, options.epochs, options.data)
    known = list(dict.fromkeys(one["method"] for one in cells))
    if unknown := [name for name in options.methods or () if name not in known]:
        parser.error(f"unknown method {', '.join(unknown)}; there are: {', '.join(known)}")
    return options, [one for one in cells if one["method"] in (options.methods or known)]


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that were asked for."""
    options, cells = parsed(arguments)
    if options.list:
        print("\n".join(f"{configuration_hash(one)}  {one}" for one in cells))
        return 0
    states = options.results / "unfinished"
    states.mkdir(parents=True, exist_ok=True)
    executor = Processes(options.workers)
    try:
        found = sweep(partial(cell, str(states.resolve()), options.data_dir), cells, options.results, executor)
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on")
        return 130
    finally:
        executor.close()
    print(found)
    return len(found.failures) > 0


if __name__ == "__main__":
    sys.exit(main())
