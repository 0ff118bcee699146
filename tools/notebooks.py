"""Stored outputs of the pages: `run` refreshes them in place, `check` compares them with a fresh run.

    python tools/notebooks.py run   [PAGE ...]   # PAGE is a name such as 02_noise, or a file; without: all quick pages
    python tools/notebooks.py check [PAGE ...]

A cell marked `#| slow`, `#| gpu` or `#| eval: false` is not run and keeps its stored output. A page is left out
as a whole when its first code cell carries `#| slow` or `#| gpu`, or when its header says `- skip_exec: true`
(unless the page is named on the command line).
"""

from __future__ import annotations

import argparse
import base64
import difflib
import gc
import importlib
import io
import json
import math
import os
import re
import sys
import time
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "nbs"
FRESH = ROOT / "_fresh"  # where `check` leaves the pictures that differ (ignored by git)
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_METADATA = ("kernelspec", "widgets")
SKIP_TAG = "skip-execution"  # nbclient's name for "leave this cell alone"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


# ---- one form for every notebook ----


def normalise(nb):
    """Bring an executed notebook (a dict or an nbformat node) into the one form that git keeps; changes it in place."""
    _split_header(nb["cells"])
    for cell in nb["cells"]:
        cell["metadata"] = _same_type(cell["metadata"], {})
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["outputs"] = [_normalised_output(output) for output in _joined_streams(cell["outputs"])]
    metadata = {key: value for key, value in nb["metadata"].items() if key in KEPT_METADATA}
    if "kernelspec" in metadata:
        metadata["kernelspec"]["display_name"] = metadata["kernelspec"]["name"]
    nb["metadata"] = _same_type(nb["metadata"], metadata)
    _number_widgets(nb)
    return nb


_header = re.compile(r"(# [^\n]+\n\n> [^\n]+(?:\n+- \w+: [^\n]+)*)(?:\n+(.+))?", flags=re.DOTALL)


def _split_header(cells: list) -> None:
    """Give what follows title and description a cell of its own.

    nbdev reads the first cell as the page's front matter, and what else stands in it would be missing from the site.
    """
    if not cells or cells[0]["cell_type"] != "markdown":
        return
    match = _header.fullmatch(_text(cells[0]["source"]).strip())
    if match and match[2]:
        rest = deepcopy(cells[0])
        rest["id"], rest["source"], cells[0]["source"] = "introduction", match[2], match[1]
        cells.insert(1, rest)


def _same_type(old, new: dict):
    "`new` as the kind of mapping that `old` is (nbformat's nodes allow attribute access)."
    return type(old)(new)


def _text(value) -> str:
    return value if isinstance(value, str) else "".join(value)


def _joined_streams(outputs: list) -> list:
    "Consecutive pieces of one stream as one output: how a stream is cut depends on timing."
    joined: list = []
    for output in outputs:
        same = joined and output["output_type"] == "stream" == joined[-1]["output_type"]
        if same and output["name"] == joined[-1]["name"]:
            joined[-1]["text"] = _text(joined[-1]["text"]) + _text(output["text"])
        else:
            joined.append(output)
    return joined


_address = re.compile(r"(<[^<>]*?) at 0x[0-9a-fA-F]+(>)")


def _normalised_output(output):
    "Without execution count and memory addresses."
    if "execution_count" in output:
        output["execution_count"] = None
    if "text" in output:
        output["text"] = _address.sub(r"\1\2", _text(output["text"]))
    data = output.get("data", {})
    for kind in data:
        if kind.startswith("text/"):
            data[kind] = _address.sub(r"\1\2", _text(data[kind]))
        elif kind.startswith("image/") and "svg" not in kind:
            data[kind] = _text(data[kind]).rstrip()
    return output


def _number_widgets(nb) -> None:
    "Replace the random ids of the saved widgets by numbers in order of appearance; drop widgets that no cell shows."
    state = nb["metadata"].get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    order = _widgets_in_order(nb, state)
    if not order:
        nb["metadata"].pop("widgets", None)
        return
    number = {old: f"{position:032x}" for position, old in enumerate(order, start=1)}
    for output in _outputs(nb):
        view = output.get("data", {}).get(WIDGET_VIEW)
        if view is not None:
            view["model_id"] = number.get(view["model_id"], view["model_id"])
    renumbered = {number[old]: _replaced(state[old], number) for old in order}
    for model in renumbered.values():
        if "msg_id" in model.get("state", {}):
            model["state"]["msg_id"] = ""
        if isinstance(model.get("state", {}).get("outputs"), list):
            model["state"]["outputs"] = [_normalised_output(o) for o in _joined_streams(model["state"]["outputs"])]
    holder = nb["metadata"]["widgets"][WIDGET_STATE]
    holder["state"] = _same_type(state, renumbered)


def _outputs(nb):
    return (output for cell in nb["cells"] for output in cell.get("outputs", []))


def _widgets_in_order(nb, state: dict) -> list[str]:
    "Ids of the widgets shown in the cells, each followed by those that it refers to."
    order: list[str] = []

    def visit(model_id: str) -> None:
        if model_id in state and model_id not in order:
            order.append(model_id)
            text = json.dumps(state[model_id], sort_keys=True)
            for reference in re.findall(r"IPY_MODEL_([0-9a-f]+)", text):
                visit(reference)

    for output in _outputs(nb):
        visit(output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id", ""))
    return order


def _replaced(value, number: dict[str, str]):
    "`value` with every widget reference renumbered."
    text = json.dumps(value)
    text = re.sub(r"IPY_MODEL_([0-9a-f]+)", lambda m: "IPY_MODEL_" + number.get(m[1], m[1]), text)
    new = json.loads(text)
    try:
        from nbformat import from_dict
    except ImportError:  # plain dicts are as good when nbformat is not there
        return new
    return from_dict(new)


# ---- which pages, which cells ----


def page_key(path: Path | str) -> tuple:
    "The place of a page in the story: 12_x < 12a_y < 12b_z < 13_u; the index comes first."
    match = re.match(r"(\d+)([a-z]*)_", Path(path).name)
    return (int(match[1]), match[2]) if match else (-1, "")


def all_pages(folder: Path = NOTEBOOKS) -> list[Path]:
    "All notebooks of the project in reading order."
    found = (p for p in folder.rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.parts[-2:]))
    return sorted(found, key=lambda p: (page_key(p), p.name))


def read(path: Path) -> dict:
    "A notebook as nested dictionaries, each text as one string."
    nb = json.loads(Path(path).read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        cell["source"] = _text(cell["source"])
    for output in _outputs(nb):
        for holder in (output, output.get("data", {})):
            holder.update({key: _text(value) for key, value in holder.items() if _is_lines(value)})
    return nb


def _is_lines(value) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(line, str) for line in value)


def directives(source: str) -> set[str]:
    "The flags of a cell, e.g. {'export', 'slow'}; `#| eval: false` gives 'eval: false'."
    lines = re.findall(r"^\s*#\s*\|\s*(.+?)\s*$", source, flags=re.MULTILINE)
    return {re.sub(r"\s*:\s*", ": ", line) if ":" in line else line.split()[0] for line in lines}


def is_left_out(source: str) -> bool:
    return bool(directives(source) & {"slow", "gpu", "eval: false"})


def is_slow_page(nb: dict) -> bool:
    "Does the page opt out of being run by the checks?"
    code = [cell["source"] for cell in nb["cells"] if cell["cell_type"] == "code"]
    header = nb["cells"][0]["source"] if nb["cells"] else ""
    opted_out = re.search(r"^\s*-?\s*skip_exec\s*:\s*true", header, flags=re.MULTILINE | re.IGNORECASE)
    return bool(opted_out) or bool(code and directives(code[0]) & {"slow", "gpu"})


def quick_pages(folder: Path = NOTEBOOKS) -> list[Path]:
    return [path for path in all_pages(folder) if not is_slow_page(read(path))]


def chosen_pages(names: list[str]) -> list[Path]:
    "The pages named on the command line; all quick ones when none is named."
    if not names:
        return quick_pages()
    by_name = {path.stem: path for path in all_pages()}
    unknown = [name for name in names if Path(name).stem not in by_name]
    if unknown:
        raise SystemExit(f"no page named {', '.join(unknown)}; there are: {', '.join(by_name)}")
    return [by_name[Path(name).stem] for name in names]


# ---- running ----


COMMON_IMPORTS = (
    "scipy.stats",
    "sympy",
    "sklearn.datasets",
    "torch",
    "torch._dynamo",
    "matplotlib.figure",
    "ipykernel.kernelapp",
    "nbformat",
    "nbclient",
)  # torch._dynamo: what every torch optimiser imports when it is made
KERNEL = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # what a kernel sets before it imports anything


class ForkedKernel:
    """A kernel that is a fork of this process, so that what is imported here need not be imported for each page again.

    It is forked at once, while this process has no threads and no event loop, and waits to be told its arguments.
    To jupyter_client it looks like the `subprocess.Popen` that it would have made.
    """

    stdin = stdout = stderr = returncode = None

    def __init__(self):
        listen, self._tell = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._tell)
            _become_kernel(listen)
        os.close(listen)
        os.setpgid(self.pid, self.pid)

    def launch(self, command: list[str], cwd: str | None = None, env: dict | None = None, **ignored) -> ForkedKernel:
        "Stands in for jupyter_client's `launch_kernel`."
        with open(self._tell, "w") as pipe:
            json.dump([command[command.index("-f") :], cwd, env], pipe)
        return self

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become_kernel(listen: int) -> None:
    "Turn this process into an IPython kernel; does not return."
    status = 1
    try:
        os.setpgid(0, 0)
        with open(listen) as pipe:
            told = pipe.read()
        if told:
            arguments, folder, variables = json.loads(told)
            os.chdir(folder or ".")
            os.environ.update(variables or {})
            from ipykernel.kernelapp import launch_new_instance

            launch_new_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
        status = 0
    finally:
        os._exit(status)


def fresh(path: Path, timeout: float = 90, tries: int = 3):
    "The notebook at `path` run in a new kernel, normalised; a kernel that dies at once is replaced, twice at most."
    for left in reversed(range(tries)):
        try:
            return _fresh_once(path, timeout)
        except (RuntimeError, AssertionError):  # nbclient's DeadKernelError, and what its clean-up may make of it
            if not left:
                raise


def _fresh_once(path: Path, timeout: float):
    import nbformat
    from jupyter_client.provisioning import local_provisioner
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        cell.metadata["tags"] = [SKIP_TAG] if cell.cell_type == "code" and is_left_out(cell.source) else []
    folder = {"metadata": {"path": str(path.parent)}}
    quiet = ["--log-level=40"]  # only errors of the kernel itself
    client = NotebookClient(nb, timeout=timeout, kernel_name="python3", resources=folder, extra_arguments=quiet)
    client.on_notebook_start = lambda notebook: look_often(client.kc.shell_channel)
    with mock.patch.object(local_provisioner, "launch_kernel", ForkedKernel().launch):
        client.execute()
    return normalise(nb)


def look_often(channel, every: float = 0.1) -> None:
    """Make a channel of a kernel look for its messages every so many seconds, where it would wait to be woken.

    Messages to widgets are sent past asyncio's socket (jupyter_client's `Session.send` uses its shadow). An answer that
    comes in just then wakes nobody, and the cell would seem to run until its timeout.
    """
    wait = channel.get_msg

    async def get_msg(timeout: float | None = None):
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while True:
            try:
                return await wait(min(every, max(0.0, end - time.monotonic())))
            except Empty:
                if time.monotonic() >= end:
                    raise

    channel.get_msg = get_msg


def run_page(path: Path) -> tuple[str, list[str], float]:
    "Refresh the stored outputs of one page; returns what happened."
    import nbformat

    start = time.perf_counter()
    try:
        nb = fresh(path)
    except Exception as error:
        return path.stem, _short(error), time.perf_counter() - start
    nbformat.write(nb, path)
    return path.stem, [], time.perf_counter() - start


def check_page(path: Path) -> tuple[str, list[str], float]:
    "Compare the stored outputs of one page with a fresh run; returns the differences as lines to read."
    import nbformat

    start = time.perf_counter()
    try:
        stored = nbformat.read(path, as_version=4)
        _split_header(stored["cells"])  # that the stored page lacks this is for the house rules to say
        differences = compare(stored, fresh(path), path.stem)
    except Exception as error:
        differences = _short(error)
    return path.stem, differences, time.perf_counter() - start


def _short(error: Exception) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return [f"{type(error).__name__}:", *plain.splitlines()[-40:]]


# ---- comparing ----


def compare(stored, new, name: str) -> list[str]:
    "Differences between the stored notebook and a fresh run of it, cell by cell."
    _adopt_equal_pictures(stored, new)
    lines: list[str] = []
    for position, (old_cell, new_cell) in enumerate(zip(stored["cells"], new["cells"], strict=True)):
        old_outputs, new_outputs = old_cell.get("outputs", []), new_cell.get("outputs", [])
        if _plain(old_outputs) != _plain(new_outputs):
            lines += [f"cell {position}: {_first_line(new_cell)}"]
            lines += _output_differences(old_outputs, new_outputs, f"{name}-cell{position:02d}")
        if any(output.get("name") == "stderr" for output in new_outputs):
            lines += [f"cell {position}: writes to stderr (a warning?): {_first_line(new_cell)}"]
    if not lines and _plain(stored["metadata"]) != _plain(new["metadata"]):
        lines.append("the saved state of the widgets (or other metadata) differs")
    return lines


def _plain(value) -> str:
    return json.dumps(value, sort_keys=True)


def _adopt_equal_pictures(old, new) -> None:
    """Put the stored picture where the fresh one looks the same: another processor rounds the last bit differently."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            if key == "image/png" and old[key] != new[key] and _look_the_same(_text(old[key]), _text(new[key])):
                new[key] = old[key]
            else:
                _adopt_equal_pictures(old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list):
        for one, two in zip(old, new, strict=False):
            _adopt_equal_pictures(one, two)


def _look_the_same(before: str, after: str, share: float = 0.01) -> bool:
    """Whether two PNGs have the same size and at most this share of their pixels differs visibly."""
    from matplotlib.image import imread

    one, two = (imread(io.BytesIO(base64.b64decode(content))) for content in (before, after))
    return one.shape == two.shape and bool((abs(one - two).max(axis=-1) > 0.1).mean() <= share)


def _first_line(cell) -> str:
    lines = [line for line in _text(cell["source"]).splitlines() if line.strip()]
    return lines[0].strip() if lines else "(empty)"


def _output_differences(old: list, new: list, name: str) -> list[str]:
    lines = []
    if len(old) != len(new):
        lines.append(f"  {len(old)} stored outputs, {len(new)} fresh ones")
    for number, (one, two) in enumerate(zip(old, new, strict=False)):
        for kind in sorted(_contents(one).keys() | _contents(two).keys()):
            before, after = _contents(one).get(kind, ""), _contents(two).get(kind, "")
            if before != after and kind.startswith("image/png"):
                lines += _picture_difference(before, after, f"{name}-{number}")
            elif before != after:
                lines += [f"  {kind}:"] + _text_difference(before, after)
    return lines or ["  the kind or metadata of an output differs"]


def _contents(output) -> dict[str, str]:
    "Kind -> text of one output."
    if "text" in output:
        return {output["name"]: _text(output["text"])}
    if "ename" in output:
        return {"error": f"{output['ename']}: {output['evalue']}"}
    data = output.get("data", {})
    return {kind: _text(v) if isinstance(v, str | list) else _plain(v) for kind, v in data.items()}


def _text_difference(before: str, after: str) -> list[str]:
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), "stored", "fresh", lineterm="", n=1)
    return ["    " + line[:200] for line in list(diff)[:30]]


def _picture_difference(before: str, after: str, name: str) -> list[str]:
    FRESH.mkdir(exist_ok=True)
    for label, content in (("stored", before), ("fresh", after)):
        (FRESH / f"{name}-{label}.png").write_bytes(base64.b64decode(content))
    return [f"  picture differs: see {FRESH.name}/{name}-stored.png and {FRESH.name}/{name}-fresh.png"]


# ---- command line ----


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "check"), help="refresh the stored outputs, or compare them")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="names such as 02_noise (default: all quick pages)")
    parser.add_argument("--workers", type=int, default=2, help="pages run at the same time (default 2)")
    options = parser.parse_args(arguments)
    pages = chosen_pages(options.pages)
    work = run_page if options.action == "run" else check_page
    os.environ.update(ONE_THREAD | KERNEL)
    for name in COMMON_IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # no collection in a fork touches, and so copies, what is here
    bad = 0
    with get_context("fork").Pool(options.workers, maxtasksperchild=1) as pool:
        for name, lines, seconds in pool.imap(work, pages):
            bad += bool(lines)
            print(f"{'FAILED' if lines else 'ok':>6}  {name}  ({seconds:.1f} s)", flush=True)
            for line in lines:
                print("        " + line)
    left_out = len(all_pages()) - len(quick_pages()) if not options.pages else 0
    print(f"pages: {len(pages) - bad} ok, {bad} failed, {left_out} left out as slow")
    return 1 if bad or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
