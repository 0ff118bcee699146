"""All checks, in order: `make test`. The last line is "N passed, M failed".

    python tools/check.py                 # everything
    python tools/check.py ruff pytest     # only the stages named
    python tools/check.py --list

A stage is a function that returns (passed, failed), counted in pages, tests or files. Every stage runs, also after one
has failed. To add one: write such a function and put `@stage("name", "what it checks")` above it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import notebooks
from notebooks import ROOT
from readme import settings

BIN = Path(sys.executable).parent
STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")
STAGES: dict[str, tuple[str, Callable[[], tuple[int, int]]]] = {}


def stage(name: str, purpose: str):
    "Put the decorated function at the end of the list of stages."

    def add(function):
        STAGES[name] = (purpose, function)
        return function

    return add


def environment() -> dict[str, str]:
    "One thread per process: two processes on two cores are faster than four threads fighting."
    return {**os.environ, **notebooks.ONE_THREAD, "PYTHONUNBUFFERED": "1"}


def run(*command: str | Path, show: bool = True, cwd: Path = ROOT) -> tuple[int, str]:
    "Run a command; returns its status and all it printed, which is shown as it comes when `show`."
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if show:
            print("    " + line, end="", flush=True)
    return process.wait(), "".join(lines)


def tool(name: str) -> Path:
    return BIN / name


def succeeds(*command: str | Path, **options) -> tuple[int, int]:
    "One check that passes when the command exits with 0; what it printed is shown when it does not."
    status, text = run(*command, show=False, **options)
    if status:
        print("    " + text.rstrip().replace("\n", "\n    "))
    return (0, 1) if status else (1, 0)


# ---- the tree ----


def tree() -> dict[str, str]:
    "Path -> digest of every file that git tracks or would track."
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = sorted({name for name in listed.split("\0") if name})
    return {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in paths if (ROOT / name).is_file()}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    "Names of the files that differ, each with what happened to it."
    names = sorted(before.keys() | after.keys())
    what = {(True, True): "changed", (True, False): "vanished", (False, True): "appeared"}
    return [f"{name} {what[name in before, name in after]}" for name in names if before.get(name) != after.get(name)]


def uncommitted() -> list[str]:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def report_changes(lines: list[str], advice: str) -> tuple[int, int]:
    for line in lines:
        print("    " + line)
    if lines:
        print("    " + advice)
    return (0, 1) if lines else (1, 0)


# ---- the stages ----


@stage("export", "nbdev_clean and nbdev_export leave no diff and no untracked file")
def export_leaves_no_diff() -> tuple[int, int]:
    before = tree()
    failed = [name for name in ("nbdev_clean", "nbdev_export") if succeeds(tool(name))[1]]
    lines = [f"{name} failed" for name in failed] + changed(before, tree())
    if STRICT:
        lines += [f"git status: {line}" for line in uncommitted()]
    return report_changes(lines, "Pages and package were out of step and have been brought in step: commit that.")


@stage("ruff", "style and mistakes in package, pages, tests and tools")
def ruff() -> tuple[int, int]:
    return succeeds(tool("ruff"), "check", "--no-cache", "--output-format=concise", ".")


@stage("readme", "README.md and CITATION.cff equal what nbs/index.ipynb and settings.ini give")
def readme_is_generated() -> tuple[int, int]:
    return succeeds(sys.executable, "tools/readme.py", "--check")


@stage("nbdev_test", "every page runs from top to bottom")
def nbdev_test() -> tuple[int, int]:
    wanted = [path.name for path in notebooks.all_pages()]
    status, text = run(tool("nbdev_test"), "--n_workers", "2", "--do_print", show=False)
    done = {Path(name).name for name in re.findall(r"^- Completed (.+)$", text, flags=re.MULTILINE)}
    listed = text.partition("Tests Failed On The Following Notebooks:")[2]
    bad = {name for name in wanted if re.search(rf"^\s*{re.escape(name)}$", listed, flags=re.MULTILINE)}
    bad |= set(wanted) - done
    if status or bad or not wanted:
        print("    " + text.rstrip()[-6000:].replace("\n", "\n    "))
    if not wanted or (status and not bad):
        return len(wanted), 1
    return len(wanted) - len(bad), len(bad)


@stage("outputs", "stored outputs of the quick pages equal a fresh run")
def stored_outputs() -> tuple[int, int]:
    status, text = run(sys.executable, "tools/notebooks.py", "check")
    counts = re.search(r"^pages: (\d+) ok, (\d+) failed", text, flags=re.MULTILINE)
    if not counts:
        return 0, 1
    good, bad = map(int, counts.groups())
    if bad:
        print("    `make outputs` stores them anew; look at the difference before you commit it.")
    return good, max(bad, int(bool(status)))


@stage("pytest", "properties, references, house rules, packaging")
def pytest() -> tuple[int, int]:
    return run_pytest("-n", "2", "-m", "not browser")


def run_pytest(*options: str) -> tuple[int, int]:
    status, text = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)\b", text)}
    bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    if counts.get("skipped"):
        print(f"    {counts['skipped']} skipped: counted as neither passed nor failed")
    return counts.get("passed", 0), max(bad, int(bool(status)))


@stage("build", "sdist -> wheel builds; in an environment of its own it imports and the program starts")
def build() -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        dist = Path(folder) / "dist"
        if succeeds(sys.executable, "-m", "build", "--outdir", dist)[1]:
            return 0, 1
        (wheel,) = dist.glob("*.whl")
        python = _install(wheel, Path(folder) / "env")
        if python is None:
            return 1, 1
        good, bad = succeeds(python, "-c", _import_check(), cwd=Path(folder))
        program = python.parent / "adaptive-dropout"
        if (ROOT / "adaptive_dropout" / "cli.py").exists():
            more = succeeds(program, "--version", cwd=Path(folder))
            good, bad = good + more[0], bad + more[1]
        else:
            print("    adaptive_dropout/cli.py is not there: `adaptive-dropout --version` not tried")
        return 1 + good, bad


def _install(wheel: Path, folder: Path) -> Path | None:
    "Python of a new environment with the wheel; in CI with its own requirements, else with those of this environment."
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    quiet = ("-qq", "--no-input", "--disable-pip-version-check")
    if STRICT:
        print("    installing the wheel and its requirements into an empty environment ...", flush=True)
        steps = [("torch==2.13.0", "-c", ROOT / "constraints.txt"), (wheel, "-c", ROOT / "constraints.txt")]
    else:
        (site,) = (folder / "lib").glob("python*/site-packages")
        ours = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
        (site / "borrowed.pth").write_text(f"{ours}\n")
        steps = [("--no-deps", "--force-reinstall", wheel)]
    ok = all(succeeds(python, "-m", "pip", "install", *quiet, *step)[0] for step in steps)
    return python if ok else None


def _import_check() -> str:
    return (
        "import pathlib, sys, adaptive_dropout as package\n"
        f"assert package.__version__ == {settings()['version']!r}, package.__version__\n"
        "assert sys.prefix in package.__file__, package.__file__\n"
        "assert 'torch' not in sys.modules\n"
        "[getattr(package, name) for name in package.__all__]\n"
    )


@stage("reproduce", "the main job, in its short form, ends without a failed claim")
def reproduce() -> tuple[int, int]:
    if not (ROOT / "adaptive_dropout" / "cli.py").exists():
        print("    adaptive_dropout/cli.py is not there: `adaptive-dropout reproduce --quick` not tried")
        return 0, 0
    with tempfile.TemporaryDirectory() as folder:
        return succeeds(tool("adaptive-dropout"), "reproduce", "--quick", "--out", folder)


@stage("site", "every page builds without a warning, and its links lead somewhere")
def site() -> tuple[int, int]:
    return succeeds(sys.executable, "tools/site_builder.py")


@stage("browser", "every page and every explorer in Chromium; fails without it where CI is set, else is left out")
def browser() -> tuple[int, int]:
    return run_pytest("-m", "browser", "-n", "2", "--dist", "loadfile", "-rs")


# ---- command line ----


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"any of: {', '.join(STAGES)} (default: all)")
    parser.add_argument("--list", action="store_true", help="list the stages")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.stages if name not in STAGES]
    if unknown:
        parser.error(f"no stage named {', '.join(unknown)}; there are: {', '.join(STAGES)}")
    if options.list:
        for name, (purpose, _) in STAGES.items():
            print(f"{name:12} {purpose}")
        return 0
    return run_stages(options.stages or list(STAGES))


def run_stages(names: list[str]) -> int:
    "Run the stages, print their summary, and return the exit status."
    rows, start, before = [], time.perf_counter(), tree()
    for name in names:
        purpose, function = STAGES[name]
        print(f"== {name}: {purpose}", flush=True)
        begin = time.perf_counter()
        try:
            passed, failed = function()
        except Exception as error:
            print(f"    {type(error).__name__}: {error}")
            passed, failed = 0, 1
        rows.append((name, passed, failed, time.perf_counter() - begin))
        print(f"   {passed} passed, {failed} failed ({rows[-1][-1]:.1f} s)", flush=True)
    left = [] if "export" in names and rows[0][2] else changed(before, tree())
    print("== tree: the checks left no file behind and changed none")
    rows.append(("tree", *report_changes(left, "A check must write outside the tree or into an ignored folder."), 0.0))
    print()
    for name, passed, failed, seconds in rows:
        print(f"{'FAILED' if failed else 'ok':>6}  {name:12} {passed:5d} passed {failed:3d} failed {seconds:7.1f} s")
    print(f"        {'together':12} {'':29}{time.perf_counter() - start:7.1f} s")
    passed, failed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
