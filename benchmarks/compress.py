"""Sparse LeNet-300-100, saved and loaded: dense, shrunk, CSR and the measured mixture; one thread.

    python benchmarks/compress.py            # prints the tables
    python benchmarks/compress.py --json F   # also writes them to F

Every pattern has 98 % zeros (or what its line says); weights are random, since speed does not depend on their values:

* alike: each layer loses 98 %, at random;
* layered: 98.25, 97.2 and 62 %, as trained networks lose them (the last layer stays dense, so few units die);
* dead units: 98 % in all, most of it in rows and columns that are empty;
* lower sparsities of the layered kind, to see where the gain ends.

All variants are saved with save_pruned and read back with load_pruned before they are timed. Calls take turns, each
after an untimed one of its own, so caches are as in a service that runs one network.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402  (after the thread settings)
import torch  # noqa: E402
from torch import nn  # noqa: E402

import adaptive_dropout.nn.compress as page  # noqa: E402
from adaptive_dropout.nn.compress import compress, latency_report, load_pruned, save_pruned, to_csr  # noqa: E402

torch.set_num_threads(1)
SIZES, BATCHES = (784, 300, 100, 10), (1, 8, 64, 512)
LAYERED = (0.0175, 0.028, 0.38)


def random_network(shares, seed=0):
    """LeNet-300-100 in which each weight of layer l is kept with probability shares[l]."""
    torch.manual_seed(seed)
    layers = []
    for share, size_in, size_out in zip(shares, SIZES[:-1], SIZES[1:], strict=True):
        linear = nn.Linear(size_in, size_out)
        linear.weight.data *= torch.rand(size_out, size_in) < share
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def network_with_dead_units(seed=0):
    """40 and 30 units stay in the hidden layers, 400 inputs are read; 98 % of all weights are zero."""
    network = random_network((0.26, 0.6, 0.9), seed)
    network[0].weight.data[40:], network[0].weight.data[:, 400:] = 0, 0
    network[2].weight.data[30:], network[2].weight.data[:, 40:] = 0, 0
    network[4].weight.data[:, 30:] = 0
    return network


def sparsity(network):
    """The share of zero weights."""
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def measure(name, network, rounds):
    """The variants of one network, from their files."""
    x = torch.randn(max(BATCHES), SIZES[0])
    shrunk = compress(network, x)
    csr = to_csr(shrunk)
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in BATCHES:
            variants = {"dense": network, "shrunk": shrunk, "CSR": csr, "mixed": to_csr(shrunk, x[:batch])}
            loaded = {}
            for kind, variant in variants.items():
                path = save_pruned(variant, Path(folder) / kind)
                loaded[kind], files[kind] = load_pruned(path), path.stat().st_size
            loaded["dense"] = network
            loaded["unshrunk CSR"] = to_csr(network)
            report = latency_report(loaded, x, (batch,), rounds)
            rows.append(
                {"pattern": name, "sparsity": sparsity(network), "batch": batch, "threads": report.threads}
                | {f"{kind} us": t * 1e6 for kind, t in zip(report.names, report.seconds[batch], strict=True)}
                | {"best": report.best(batch), "speed-up": report.speedup(batch)}
            )
    widths = [layer.out_features for layer in shrunk if isinstance(layer, nn.Linear)]
    dense_bytes = sum(p.nbytes for p in network.parameters())
    deviation = max(float((network(x) - v(x)).abs().max() / network(x).abs().max()) for v in (shrunk, csr))
    return rows, {
        "pattern": name,
        "widths": widths,
        "dense bytes": dense_bytes,
        "file bytes": files["CSR"],
        "deviation": deviation,
    }


def transposition(rounds):
    """Microseconds of a transposed copy of (batch, 784), by torch and by NumPy."""
    rows = []
    for batch in BATCHES:
        x = torch.randn(batch, SIZES[0])
        ways = (lambda x=x: x.t().contiguous(), lambda x=x: torch.from_numpy(np.ascontiguousarray(x.numpy().T)))
        by_torch, by_numpy = page._median_seconds(ways, rounds)
        rows.append({"batch": batch, "torch us": by_torch * 1e6, "numpy us": by_numpy * 1e6})
    return rows


def table(rows):
    """Rows of one kind as aligned text."""
    show = lambda value: f"{value:.3g}" if isinstance(value, float) and value < 1 else f"{value:.1f}"
    text = [[show(v) if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    columns = list(zip(list(rows[0]), *text, strict=True))
    sizes = [max(map(len, column)) for column in columns]
    pad = lambda line: "  ".join(cell.rjust(size) for cell, size in zip(line, sizes, strict=True))
    return "\n".join(pad(line) for line in zip(*columns, strict=True))


def main():
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--rounds", type=int, default=301, help="timed calls of each variant (default 301)")
    options = parser.parse_args()
    networks = {"alike": random_network((0.02,) * 3), "layered": random_network(LAYERED)}
    networks["dead units"] = network_with_dead_units()
    for share in (0.05, 0.1, 0.2):
        networks[f"layered {1 - share:.0%}"] = random_network((share, 1.5 * share, 0.5))
    with torch.inference_mode():
        measured = [measure(name, network, options.rounds) for name, network in networks.items()]
        turned = transposition(options.rounds)
    latency, sizes = [row for rows, _ in measured for row in rows], [size for _, size in measured]
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    machine |= {"torch": torch.__version__, "numpy": np.__version__, "threads": torch.get_num_threads()}
    for rows in (latency, sizes, turned):
        print(table(rows), end="\n\n")
    if options.json:
        result = {"machine": machine, "latency": latency, "sizes": sizes, "transposition": turned}
        Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
