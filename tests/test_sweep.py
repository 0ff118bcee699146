"""Sweeps of page 52: every kind of configuration, damage to every file, death of every process, real executors."""

import ast
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import notebooks
import numpy as np
import pytest

from adaptive_dropout import sweep as module
from adaptive_dropout.sweep import Processes, configuration_hash, grid, read_records, summary, sweep

HERE = ThreadPoolExecutor(1)  # an executor without processes


def square(x, seed=0):
    "A cell."
    return {"square": x * x, "seed": seed}


def path_of(folder, **configuration) -> Path:
    return Path(folder) / f"{configuration_hash(configuration)}.json"


def run(function, cells, folder, executor=HERE, **options):
    return sweep(function, cells, folder, executor, **{"progress": False, **options})


def test_the_script_for_slurm_is_one():
    page = json.loads((Path(__file__).parent.parent / "nbs/52_sweep.ipynb").read_text(encoding="utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in page["cells"])
    (script,) = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    assert script.startswith("#!/bin/bash\n#SBATCH --job-name=sweep\n")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def wait_for(condition, seconds=20.0):
    "Wait until a condition holds."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# ---- configurations ----


def test_hash_is_of_the_canonical_text():
    assert configuration_hash({}) == "44136fa355b3678a"  # printf '{}' | sha256sum
    assert len({configuration_hash({"a": value}) for value in (0, False, None, "", "0", [], [0], "[]")}) == 8
    assert configuration_hash({"a": [1.0, [-0.0, "é"]]}) == configuration_hash({"a": [1, [0, "é"]]})
    assert configuration_hash({"a": np.float64(0.1)}) == configuration_hash({"a": 0.1})
    assert configuration_hash({"a": 1e22}) == configuration_hash({"a": 10**22})
    assert configuration_hash({"a": 1e300}) != configuration_hash({"a": math.nextafter(1e300, 0)})
    assert configuration_hash({"a": 1, "b": 2}) != configuration_hash({"a": 2, "b": 1})
    assert re.fullmatch("[0-9a-f]{16}", configuration_hash({"a": 10**400}))


@pytest.mark.parametrize("value", [(1,), {"b": 1}, b"b", 1j, np.int64(1), np.float32(1), object()])
def test_values_of_other_kinds_are_refused(value):
    with pytest.raises(TypeError, match=r"configuration\['key'\] must be"):
        configuration_hash({"a": 0, "key": value})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, [0, [math.nan]]])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match=r"configuration\['key'\] must be finite"):
        configuration_hash({"key": value})


@pytest.mark.parametrize("configuration", [[("a", 1)], {1: 1}, None, "a"])
def test_a_configuration_is_a_dictionary(configuration, tmp_path):
    with pytest.raises(TypeError, match="configuration must be a dictionary"):
        run(square, [configuration], tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_grid():
    assert grid() == [{}]
    assert grid(a=(1, 2), b=range(2)) == [{"a": 1, "b": 0}, {"a": 1, "b": 1}, {"a": 2, "b": 0}, {"a": 2, "b": 1}]
    assert type(grid(seed=np.arange(2))[1]["seed"]) is int
    for bad, kind in (
        ("text", TypeError),
        (3, TypeError),
        ({1, 2}, TypeError),
        ([], ValueError),
        (np.ones(()), TypeError),
    ):
        with pytest.raises(kind, match="seed"):
            grid(a=[1], seed=bad)


# ---- files ----


def test_results_are_the_same_fresh_and_read(tmp_path):
    result = {"float32": np.float32(0.5), "array": np.eye(2), "nan": math.nan, "text": "é", "tuple": (1, 2)}
    first = run(lambda x: result, grid(x=[0.1]), tmp_path / "new" / "folder")
    again = run(None, grid(x=[0.1]), tmp_path / "new" / "folder")
    assert repr(first.records) == repr(again.records) and (first.computed, again.computed) == (1, 0)
    assert first.records[0]["result"]["array"] == [[1, 0], [0, 1]] and first.records[0]["result"]["float32"] == 0.5
    record = json.loads(path_of(tmp_path / "new" / "folder", x=0.1).read_text())
    assert list(record) == ["configuration", "result", "submitted", "seconds", "versions", "machine", "device"]
    assert {"python", "numpy", "torch"} <= set(record["versions"]) and 0 <= record["seconds"] < 60
    assert os.uname().nodename not in record["machine"]


def test_order_and_repetition(tmp_path):
    cells = [{"x": 3}, {"x": 1}, {"x": 3.0}, {"x": 2}]
    assert [r["result"]["square"] for r in run(square, cells, tmp_path).records] == [9, 1, 4]
    assert len(list(tmp_path.iterdir())) == 3
    assert [r["configuration"]["x"] for r in run(square, cells[:2], tmp_path).records] == [3, 1]
    assert {r["configuration"]["x"] for r in read_records(tmp_path)} == {1, 2, 3}


@pytest.mark.parametrize("how", ["", "half", "[]", "{}", "null", b"\xff", '{"configuration": [], "result": {}}'])
def test_damaged_files_are_computed_again(how, tmp_path):
    run(square, grid(x=[1, 2]), tmp_path)
    path = path_of(tmp_path, x=1)
    content = path.read_bytes()[:60] if how == "half" else how if isinstance(how, bytes) else how.encode()
    path.write_bytes(content)
    assert len(read_records(tmp_path)) == 1
    done = run(square, grid(x=[1, 2]), tmp_path)
    assert done.computed == 1 and done.records[0]["result"]["square"] == 1 and len(read_records(tmp_path)) == 2


def test_a_file_under_a_wrong_name_is_refused_before_any_work(tmp_path):
    run(square, grid(x=[1]), tmp_path)
    wrong = path_of(tmp_path, x=1).rename(path_of(tmp_path, x=2))
    before = wrong.read_bytes()
    for look in (lambda: run(square, grid(x=[3, 2]), tmp_path), lambda: read_records(tmp_path)):
        with pytest.raises(ValueError, match=rf"{wrong.name} holds another configuration, .*'x': 1"):
            look()
    assert wrong.read_bytes() == before and not path_of(tmp_path, x=3).exists()


def test_a_failed_rename_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")
    synchronised = []

    def broken(source, target):
        assert synchronised, "the content must reach the disk before the name"
        assert Path(source).read_text() == "new" and Path(source).parent == tmp_path
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", broken)
    monkeypatch.setattr(os, "fsync", synchronised.append)
    with pytest.raises(OSError, match="no space"):
        module.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and path.read_text() == "old"


def killed_while_writing(x, once):
    "A cell whose process is killed between writing and renaming, the first time."
    if not once.exists():
        once.touch()
        os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
    return {"x": x}


def test_killed_between_writing_and_renaming(tmp_path):
    function = lambda x: killed_while_writing(x, tmp_path / "once")
    first = run(function, grid(x=[1]), tmp_path / "out", Processes(1))
    assert len(first.failures) == 1 and "status -9" in first.failures[0][1] and not first.records
    assert not read_records(tmp_path / "out") and len(list((tmp_path / "out").glob(".*.part"))) == 1
    again = run(function, grid(x=[1]), tmp_path / "out", Processes(1))
    assert again.computed == 1 and not again.failures
    assert not list((tmp_path / "out").glob("*.error.txt"))


# ---- failures ----


@pytest.mark.parametrize("result", [3, None, [1], {"a": {1, 2}}, {"a": object()}])
def test_what_is_no_result_fails_its_cell_alone(result, tmp_path):
    done = run(lambda x: result if x == 1 else {"x": x}, grid(x=[0, 1, 2]), tmp_path)
    assert [r["result"]["x"] for r in done.records] == [0, 2] and [cell for cell, _ in done.failures] == [{"x": 1}]
    assert path_of(tmp_path, x=1).with_suffix(".error.txt").read_text() == done.failures[0][1]
    assert "worker was lost" not in done.failures[0][1]
    assert "1 failed\n  {'x': 1}: " in str(done) and "Error" in str(done).splitlines()[-1]


def test_a_function_without_the_key_fails_with_its_name(tmp_path):
    assert "unexpected keyword argument 'y'" in run(square, [{"x": 1, "y": 2}], tmp_path).failures[0][1]


def test_the_worker_may_write_where_we_cannot_see(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Elsewhere:
        def submit(self, function, cell, configuration, path, *others):
            assert path.is_absolute(), "workers may be in another folder"
            other = tmp_path / "elsewhere"
            other.mkdir(exist_ok=True)
            return HERE.submit(function, cell, configuration, other / path.name, *others)

    done = run(square, grid(x=[2]), "here", Elsewhere())
    assert read_records(tmp_path / "here") == done.records == read_records(tmp_path / "elsewhere")


def test_the_bar_counts_what_is_there(tmp_path, capsys):
    run(square, grid(x=[1, 2]), tmp_path, progress=True)
    run(square, grid(x=[1, 2, 3, 4]), tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "2/4 " in shown and "4/4 " in shown and "cell" in shown
    run(square, grid(x=[1, 2, 5]), tmp_path, progress=False)
    assert not capsys.readouterr().err


# ---- processes ----


def chatty(x):
    "Write to every stream, with and without Python, then tell where torch is and how many threads there are."
    print("to the output", flush=True)
    os.write(1, b"past Python")
    return x, "torch" in sys.modules, os.environ["MKL_NUM_THREADS"], os.getpid()


def raises(x):
    raise KeyError(x)


def test_processes_answer_whatever_is_printed():
    executor = Processes(2, threads=3)
    futures = [executor.submit(chatty, x) for x in range(3)]
    failed = executor.submit(raises, "the key")
    unpackable = executor.submit(threading.Lock)
    answers = [future.result() for future in futures]
    assert [a[:3] for a in answers] == [(x, False, "3") for x in range(3)] and len({a[3] for a in answers}) == 3
    with pytest.raises(RuntimeError, match="in raises\n(.*\n)*KeyError: 'the key'"):
        failed.result()
    with pytest.raises(RuntimeError, match="cannot pickle"):
        unpackable.result()
    assert not executor._running
    executor.close()
    with pytest.raises(RuntimeError, match="closed"):
        executor._start()


@pytest.mark.parametrize("bad", [{"workers": 0}, {"workers": 1.5}, {"threads": 0}, {"threads": True}])
def test_processes_refuse_bad_numbers(bad):
    with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
        Processes(**bad)


def meet(x, folder):
    "A cell that ends when its neighbour has started."
    (folder / f"here-{x}").touch()
    wait_for((folder / f"here-{1 - x}").exists)
    return {"x": x}


def test_as_many_work_at_once_as_there_are_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    done = run(lambda x: meet(x, tmp_path), grid(x=[0, 1]), tmp_path / "out", None)
    assert len(done.records) == 2


def test_closing_kills_what_runs_and_forgets_what_waits(tmp_path):
    executor = Processes(1)
    running = executor.submit(lambda: (tmp_path / "started").touch() or time.sleep(100))
    waiting = executor.submit(square, 1)
    wait_for((tmp_path / "started").exists)
    start = time.monotonic()
    executor.close()
    assert time.monotonic() - start < 10 and waiting.cancelled()
    with pytest.raises(RuntimeError, match="status -9"):
        running.result()


DRIVER = """
import signal, sys, time
from pathlib import Path
from adaptive_dropout.sweep import Processes, grid, sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore Ctrl-C
folder = Path(sys.argv[1])

def cell(x):
    (folder / f"pid-{x}").write_text(str(__import__("os").getpid()))
    end = time.monotonic() + 60
    while x and not (folder / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return {"x": x}

sweep(cell, grid(x=[0, 1, 2]), folder / "out", progress=False)
"""


def start_driver(folder):
    "A program with a sweep of three cells, the first of which is finished while the others wait for permission."
    command = [sys.executable, "-c", DRIVER, str(folder)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: path_of(folder / "out", x=0).exists() and (folder / "pid-1").exists())
    wait_for(lambda: (folder / "pid-1").read_text())
    return driver, int((folder / "pid-1").read_text())


def alive(pid) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_keeps_what_is_finished_and_kills_the_rest(tmp_path):
    driver, worker = start_driver(tmp_path)
    assert os.getpgid(worker) != driver.pid, "a terminal sends Ctrl-C to the group of the driver"
    os.killpg(driver.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in driver.communicate(timeout=20)[1] and not alive(worker)
    assert [r["result"] for r in read_records(tmp_path / "out")] == [{"x": 0}]
    (tmp_path / "go").touch()
    assert run(lambda x: {"x": x}, grid(x=[0, 1, 2]), tmp_path / "out").computed == 2


def test_a_killed_worker_costs_one_cell(tmp_path):
    driver, worker = start_driver(tmp_path)
    os.kill(worker, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert driver.wait(timeout=20) == 0
    assert sorted(r["result"]["x"] for r in read_records(tmp_path / "out")) == [0, 2]
    assert "status -9" in path_of(tmp_path / "out", x=1).with_suffix(".error.txt").read_text()


def test_what_runs_outlives_a_killed_driver(tmp_path):
    driver, worker = start_driver(tmp_path)
    driver.kill()
    driver.wait()
    (tmp_path / "go").touch()
    wait_for(path_of(tmp_path / "out", x=1).exists)
    assert {0, 1} <= {r["result"]["x"] for r in read_records(tmp_path / "out")}


# ---- executors of others ----


def test_the_contract_is_submit_and_result(tmp_path):
    class Lost:
        def submit(self, function, *args):
            future = Future()
            future.set_exception(ConnectionError("node 7 is gone") if args[1] == {"x": 1} else None)
            if args[1] != {"x": 1}:
                future = HERE.submit(function, *args)
            return future

    done = run(square, grid(x=[0, 1, 2]), tmp_path, Lost())
    assert [r["result"]["square"] for r in done.records] == [0, 4]
    assert done.failures[0][0] == {"x": 1} and "ConnectionError: node 7 is gone" in done.failures[0][1]
    assert run(square, grid(x=[0, 1, 2]), tmp_path).computed == 1


def test_no_two_attempts_are_the_same_call(tmp_path):
    calls = []

    class Notes:
        def submit(self, *call):
            calls.append(call[1:])
            return HERE.submit(*call)

    for _ in range(2):
        assert run(raises, grid(x=[1]), tmp_path, Notes()).failures
    assert calls[0] != calls[1], "a memory of calls, such as that of dask, would answer the second with the first"


def test_the_pool_of_the_standard_library(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        assert run(square, grid(x=[1, 2]), tmp_path, executor).computed == 2
        assert executor.submit(square, 3).result()["square"] == 9  # not closed by the sweep


def check_executor(executor, folder):
    "One cell of three fails, is tried again, and is computed in another process."

    def function(x):  # inside, so that it is sent with all that it needs: the workers do not see this file
        if x == 1 and not (folder / "mended").exists():
            raise ValueError("not yet")
        return {"x": x, "pid": __import__("os").getpid()}

    first = run(function, grid(x=[0, 1, 2]), folder / "out", executor)
    assert first.computed == 2 and "not yet" in first.failures[0][1]
    (folder / "mended").touch()
    again = run(function, grid(x=[0, 1, 2]), folder / "out", executor)
    assert again.computed == 1 and [r["result"]["x"] for r in again.records] == [0, 1, 2]
    assert all(r["result"]["pid"] != os.getpid() for r in again.records)


def test_dask(tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(**options, local_directory=tmp_path / "dask") as client:
        check_executor(client, tmp_path)


def test_submitit(tmp_path):
    submitit = pytest.importorskip("submitit")
    check_executor(submitit.AutoExecutor(tmp_path / "logs", cluster="local"), tmp_path)


# ---- summaries ----


def records(*rows):
    return [{"configuration": cell, "result": {"loss": value}} for cell, value in rows]


def test_summary_groups_and_sorts():
    rows = records(
        ({"a": "z", "b": [2]}, 1), ({"a": 10, "b": [2.0]}, 2), ({"a": 9.5, "b": [2]}, 3), ({"a": None, "b": [3]}, 5)
    )
    assert [row["a"] for row in summary(rows, ["a"], "loss")] == [9.5, 10, None, "z"]
    assert [(row["b"], row["mean"], row["n"]) for row in summary(rows, ["b"], "loss")] == [([2], 2.0, 3), ([3], 5.0, 1)]
    assert summary(rows, [], "loss")[0]["n"] == 4 and summary([], ["a"], "loss") == []
    assert np.isclose(summary(rows[:2], [], "loss")[0]["standard_error"], 0.5)
    assert len(summary(records(({"a": True}, 1), ({"a": 1}, 1)), ["a"], "loss")) == 2


def test_summary_of_runs_that_diverged():
    for bad in (math.nan, math.inf):
        row = summary(records(({"a": 1}, 1.0), ({"a": 1}, bad)), ["a"], "loss")[0]
        assert not math.isfinite(row["mean"]) and math.isnan(row["standard_error"]) and row["n"] == 2


def test_summary_takes_folders_sweeps_and_lists(tmp_path):
    done = run(square, grid(x=[1, 2], seed=range(2)), tmp_path)
    first, *others = (summary(source, ["x"], "square") for source in (done, done.records, tmp_path, str(tmp_path)))
    assert all(other == first for other in others)
    assert str(first) == "x  mean  standard_error  n\n1     1               0  2\n2     4               0  2"


def test_summary_refuses():
    rows = records(({"a": 1}, 1.0))
    with pytest.raises(TypeError, match="by must be a list"):
        summary(rows, "a", "loss")
    with pytest.raises(ValueError, match="'b' is not in the configuration of {'a': 1}: a"):
        summary(rows, ["a", "b"], "loss")
    with pytest.raises(ValueError, match="'error' is not in the result of {'a': 1}: loss"):
        summary(rows, ["a"], "error")
    with pytest.raises(TypeError, match="'loss' of {'a': 1} must be a number, got \\[1\\]"):
        summary(records(({"a": 1}, [1])), ["a"], "loss")


# ---- the page ----


def test_the_programs_in_the_prose_are_programs():
    page = notebooks.read(notebooks.ROOT / "nbs" / "52_sweep.ipynb")
    prose = "\n".join(cell["source"] for cell in page["cells"] if cell["cell_type"] == "markdown")
    programs = re.findall(r"```(\w+)\n(.*?)```", prose, re.DOTALL)
    assert [language for language, _ in programs] == ["python", "python", "bash"]
    for language, text in programs:
        if language == "python":
            ast.parse(text)
        else:
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)
