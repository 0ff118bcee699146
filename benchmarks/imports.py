"""What importing the package costs, beside NumPy, SciPy and PyTorch: `python -X importtime`, a new process each time.

    python benchmarks/imports.py                  # prints the table
    python benchmarks/imports.py --only torch     # cases whose name contains the text
    python benchmarks/imports.py --json F         # also writes it to F

The cases take turns, so that a busy machine slows them alike. Modules are loaded when a name is first used: the line
`import adaptive_dropout` loads next to nothing, and what a user waits for is the line with the names.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

import adaptive_dropout

CASES = {  # name -> what is imported, and the promised seconds if there are some
    "import numpy": ("import numpy", None),
    "import scipy.optimize": ("import scipy.optimize", None),
    "import torch": ("import torch", None),
    "import adaptive_dropout": ("import adaptive_dropout", 0.5),
    "from adaptive_dropout import LogSum": ("from adaptive_dropout import LogSum", 0.5),
    "from adaptive_dropout import compare": ("from adaptive_dropout import compare", 0.5),
    "from adaptive_dropout import irls": ("from adaptive_dropout import irls", 0.5),
    "from adaptive_dropout import Sparsifier": ("from adaptive_dropout import Sparsifier", None),
}


def seconds(statement):
    """Seconds that Python reports for all modules the statement loads, less what an empty program loads."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", f"'start'\nimport __hello__\n{statement}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    lines = done.stderr.splitlines()
    start = next(number for number, line in enumerate(lines) if line.endswith("__hello__"))
    return sum(int(line.split(":")[1].split("|")[0]) for line in lines[start + 1 :]) / 1e6


def main():
    """Print the table, write it if asked to."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", metavar="FILE", help="write the results to this file")
    arguments.add_argument("--only", metavar="TEXT", default="", help="cases whose name contains this")
    arguments.add_argument("--rounds", metavar="N", type=int, default=9, help="processes of each case (default 9)")
    options = arguments.parse_args()
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    machine["adaptive_dropout"] = adaptive_dropout.__version__
    print(" ".join(f"{key} {value}" for key, value in machine.items()))
    cases = {name: case for name, case in CASES.items() if options.only in name}
    for statement, _ in cases.values():
        seconds(statement)  # compiled files and the disk's cache are there
    times = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, (statement, _) in cases.items():
            times[name].append(seconds(statement))
    rows = []
    for name, found in times.items():
        promised = cases[name][1]
        rows.append({"case": name, "seconds": statistics.median(found), "promised": promised})
        print(f"{name:42}  {rows[-1]['seconds']:6.3f} s" + (f"  (at most {promised} s)" if promised else ""))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
