"""LeNet-300-100 on MNIST: the seven methods of LeJeune et al. (2021), section 5, matched objectives, and a front.

    python experiments/lenet/run.py                         # every cell that has no result yet: see README.md for times
    python experiments/lenet/run.py published --seeds 0     # one study of four; --list lists cells
    python experiments/lenet/run.py --data digits --epochs 5 --results trial   # a try in minutes, without a download

A process of its own for every cell, finished cells are skipped, a cell that was stopped goes on from its checkpoint.
Each writes a JSON file with its configuration, path, errors, seconds and versions. Page 53 defines the cells, page 70
reads and draws them.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from adaptive_dropout.lenet_study import STUDIES, cells, run_cell
from adaptive_dropout.sweep import Processes, configuration_hash, sweep

RESULTS = Path(__file__).resolve().parent / "results"


def parsed(arguments: list[str] | None):
    """The command line after its checks, and the cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help=f"{', '.join(STUDIES)}; default: all")
    parser.add_argument("--list", action="store_true", help="print the cells")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2; the front has one")
    parser.add_argument("--methods", nargs="+", help="only these methods")
    parser.add_argument("--epochs", type=int, help="default 200, for the front 60; others need --results")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist", help="digits needs --results")
    parser.add_argument("--data-dir", help="folder of MNIST (default: $ADAPTIVE_DROPOUT_DATA, cache, download)")
    parser.add_argument("--workers", type=int, help="processes at a time; default: the cores")
    options = parser.parse_args(arguments)
    if (options.epochs or options.data != "mnist") and options.results.resolve() == RESULTS:
        parser.error("--epochs and --data digits need --results: a trial must not take the place of a result")
    try:
        wanted = cells(options.studies or tuple(STUDIES), options.seeds, options.epochs, options.data)
    except ValueError as error:
        parser.error(str(error))
    known = list(dict.fromkeys(one["method"] for one in wanted))
    if unknown := [name for name in options.methods or () if name not in known]:
        parser.error(f"unknown method {', '.join(unknown)}; there are: {', '.join(known)}")
    return options, [one for one in wanted if one["method"] in (options.methods or known)]


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that were asked for."""
    options, wanted = parsed(arguments)
    if options.list:
        print("\n".join(f"{configuration_hash(one)}  {one}" for one in wanted))
        return 0
    states = options.results.resolve() / "unfinished"
    states.mkdir(parents=True, exist_ok=True)
    executor = Processes(options.workers)
    try:
        function = partial(run_cell, states=str(states), data_dir=options.data_dir)
        found = sweep(function, wanted, options.results, executor)
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on")
        return 130
    finally:
        executor.close()
    print(found)
    return len(found.failures) > 0


if __name__ == "__main__":
    sys.exit(main())
