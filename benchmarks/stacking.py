"""Cost of training K networks as one program, as a multiple of training them one after the other. One thread.

    python benchmarks/stacking.py                  # prints the table
    python benchmarks/stacking.py --only "64"      # cases whose name contains the text
    python benchmarks/stacking.py --json F         # also writes it to F

Both ways take turns, step by step, with the same batches, optimisers (fused Adam) and sparsifiers, so that a busy
machine slows them alike; time is the thread's own, and the ratio that of the medians. Below 1 the stack is faster. On a
GPU (--device cuda) time is that of the clock, with the device waited for.
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

from adaptive_dropout.nn.sparsify import Sparsifier  # noqa: E402
from adaptive_dropout.penalties import LogSum  # noqa: E402
from adaptive_dropout.stacked import Run, Stack  # noqa: E402

torch.set_num_threads(1)
NETWORKS = {"64-32-16-10": ((64, 32, 16, 10), 64), "784-300-100-10": ((784, 300, 100, 10), 128)}  # widths, batch
METHODS = {
    "no sparsifier": None,
    "LogSum": ("penalty", {"penalty": LogSum(0.1), "lam": 1e-4}),
    "AdaProx": ("adaprox", {"penalty": LogSum(0.1), "lam": 1e-4}),
    "VarDrop": ("vardrop", {"n": 48_000}),
}
COUNTS = (2, 4, 8, 16)


def run(widths, method, seed, device):
    """One network with its optimiser and sparsifier."""
    torch.manual_seed(seed)
    layers = [layer for a, b in zip(widths[:-1], widths[1:], strict=True) for layer in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    if method is None:
        return Run(model, optimizer, seed=seed)
    return Run(model, optimizer, Sparsifier(model, method[0], optimizer=optimizer, record_every=0, **method[1]), seed)


def clock(device):
    """Seconds of this thread, or of the clock when the device has finished."""
    if device == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def case(widths, batch, method, count, device, rounds):
    """Median milliseconds of a step of all networks, together and one after the other."""
    together = [Stack([run(widths, method, seed, device) for seed in range(count)])]
    apart = [Stack([run(widths, method, seed, device)]) for seed in range(count)]
    x = torch.randn(count, batch, widths[0], device=device)
    y = torch.randint(widths[-1], (count, batch), device=device)
    times = {"together": [], "apart": []}
    for number in range(rounds + 3):
        for name, stacks in (("together", together), ("apart", apart)):
            start, done = clock(device), 0
            for stack in stacks:
                part = slice(done, done + len(stack))
                stack.step(x[part], y[part], number)
                done += len(stack)
            if number >= 3:
                times[name].append(clock(device) - start)
    return {name: statistics.median(found) * 1e3 for name, found in times.items()}


def main():
    """Print the table, write it if asked to."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    arguments.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains this")
    arguments.add_argument("--rounds", metavar="N", type=int, default=30, help="steps of each case (default 30)")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = arguments.parse_args()
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1, "torch": torch.__version__}
    machine["device"] = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{'':42}  {'together':>9}  {'apart':>9}  ratio   (milliseconds for a step of all networks)")
    rows = []
    for shape, (widths, batch) in NETWORKS.items():
        for label, method in METHODS.items():
            for count in COUNTS:
                name = f"{shape}, {label}, {count} networks"
                if options.only in name:
                    found = case(widths, batch, method, count, options.device, options.rounds)
                    rows.append({"case": name, **found, "ratio": found["together"] / found["apart"]})
                    print(f"{name:42}  {found['together']:9.2f}  {found['apart']:9.2f}  {rows[-1]['ratio']:5.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
