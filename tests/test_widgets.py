"""Explorers and live experiments without a browser: frames over their whole range, bad input, states under stress."""

import json
import shutil
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

from adaptive_dropout import explorers, live, serve, widgets
from adaptive_dropout.protocol import Penalty

# ---- frames ----

EVERYWHERE = {
    widgets.penalty_frame: [
        {"first": first, "second": second, "lam": lam, "upper": upper}
        for first in ("L1", "MCP(2, 1)", "LogSum(0)", "hard concrete", "omega = log(1+w**2)")
        for second in ("L0", "Huber(0.5)")
        for lam in (0.01, 3.0)
        for upper in (1.0, 20.0)
    ],
    widgets.eta_trick_frame: [
        {"rule": repr(rule), "w": w} for rule in widgets.SEPARABLE.values() for w in (1e-3, 0.9, 1.95)
    ],
    widgets.dropblock_frame: [
        {"spectrum": name, "r": r, "theta_bar": theta, "n": n}
        for name in widgets.SPECTRA
        for n in (1, 20)
        for r in (1, n)
        for theta in (0.02, 1.0)
    ],
    widgets.prior_frame: [
        {"noise": name, "s": s, "sigma0": sigma0}
        for name in widgets.NOISES
        for s in (0.1, 1.0, 3.2)
        for sigma0 in (0.1, 3.2)
    ],
    widgets.jensen_frame: [
        {"noise": name, "V": V, "n": n, "w": w}
        for name in widgets.MEAN_ONE
        for V in (0.01, 0.5)
        for n in (1, 50)
        for w in (-1.0, 0.0, 1.0)
    ],
}


@pytest.mark.parametrize("function", EVERYWHERE, ids=lambda function: function.__name__)
def test_every_position_gives_a_picture(function):
    sheet = widgets.Sheet()
    for settings in EVERYWHERE[function]:
        frame = function(**settings)
        for panel in frame.panels:
            assert panel.xlim[0] < panel.xlim[1] and panel.ylim[0] < panel.ylim[1], (settings, panel.title)
            for curve in panel.curves:
                assert np.shape(curve.x) == np.shape(curve.y) and not np.isinf(curve.y).any(), (settings, panel.title)
        assert "nan" not in frame.text
    assert sheet.png(frame).startswith(b"\x89PNG")


def test_numbers_of_the_gap_are_those_of_the_penalties():
    first, second = widgets.read_penalty("Cauchy(0.7)"), widgets.read_penalty("Welsch(1.1)")
    w, one, two, scale, gap, where = widgets.penalty_gap(first, second, 3.0)
    assert np.array_equal(one, first(w)) and np.array_equal(two, second(w)) and w[-1] == 3.0
    for factor in (0.999, 1.001):
        assert np.abs(one - factor * scale * two).max() > gap
    assert np.isclose(gap, abs(first(where) - scale * second(where)), rtol=1e-8)


@pytest.mark.parametrize(
    "function, settings, words",
    [
        (widgets.penalty_frame, {"first": "wombat"}, "a classical penalty such as LogSum(0.5): L1"),
        (widgets.penalty_frame, {"first": "eta = 1/w"}, "decreas"),
        (widgets.penalty_frame, {"first": "alpha = __import__('os')"}, "unknown function"),
        (widgets.penalty_frame, {"first": "LogSum(x)"}, "LogSum takes eps"),
        (widgets.penalty_frame, {"first": "LogSum(1, 2)"}, "LogSum takes eps"),
        (widgets.penalty_frame, {"first": "LogSum(eps=-1)"}, "eps must lie"),
        (widgets.penalty_frame, {"first": "magnitude pruning"}, "couples the weights"),
        (widgets.penalty_frame, {"lam": 0.0}, "lam must lie"),
        (widgets.penalty_frame, {"kappa": float("nan")}, "kappa must lie"),
        (widgets.penalty_frame, {"upper": 0.0}, "upper must lie"),
        (widgets.eta_trick_frame, {"w": float("nan")}, "w must lie"),
        (widgets.dropblock_frame, {"r": 0}, "r must lie in [1, 20]"),
        (widgets.dropblock_frame, {"theta_bar": 1.5}, "theta_bar"),
        (widgets.prior_frame, {"noise": "pink"}, "noise must be one of"),
        (widgets.prior_frame, {"sigma0": 0.0}, "sigma0 must lie"),
        (widgets.jensen_frame, {"V": 0.0}, "V must lie"),
        (widgets.jensen_frame, {"w": float("inf")}, "w must lie"),
    ],
)
def test_bad_input_is_named(function, settings, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**settings)
    assert words in str(caught.value)


def test_what_is_typed_is_never_run():
    for text in ("alpha = open('x','w')", "omega = (lambda: w)()", "eta = w.__class__", "__import__('os')"):
        with pytest.raises(ValueError):
            widgets.read_penalty(text)
    assert isinstance(widgets.read_penalty("omega = |w|"), Penalty)


# ---- the sheet ----


def panel(height, title="t"):
    curves = (widgets.Curve([0, 1], [0, height], "first", "a"),)
    return widgets.Frame((widgets.Panel(title, "x", curves, (0, 1), (0, 1)),), "words", columns=1)


def test_a_sheet_forgets_the_longest_unused():
    sheet = widgets.Sheet(kept=2)
    for title in ("a", "b", "a", "c", "a"):
        sheet.pixels(panel(0.5, title))
    assert sheet.drawn == 3
    sheet.pixels(panel(0.5, "b"))
    assert sheet.drawn == 4


def test_equal_panels_of_one_frame_do_not_share_pixels():
    one = panel(0.2)
    two = widgets.Frame((*one.panels, *panel(0.9).panels), "", columns=2)
    pixels = widgets.Sheet().pixels(two)
    assert not np.array_equal(pixels[:, :297], pixels[:, 297:])


def test_an_explorer_says_what_nobody_foresaw():
    explorer = widgets.eta_trick_explorer()

    def broken(**settings):
        raise RecursionError("too deep")

    explorer.function = broken
    explorer.controls["w"].value = 0.5
    assert explorer.error == "RecursionError: too deep" and 'role="alert"' in explorer.words.value
    assert "<script>" not in widgets.words_html("<script>", "<script>")


# ---- JavaScript, where node is at hand; the browser's test is the one that counts ----


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("explorer", explorers.PARTS)
def test_the_module_loads(explorer, tmp_path):
    file = tmp_path / "module.mjs"
    file.write_text(explorers.esm(explorer), encoding="utf-8")
    program = f"import({json.dumps(file.as_uri())}).then((m) => console.log(typeof m.default.render))"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True)
    assert done.stdout.strip() == "function", done.stderr


def test_the_javascript_is_part_of_the_package():
    from notebooks import ROOT

    assert "recursive-include adaptive_dropout/javascript *.js" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    there = {path.stem for path in (ROOT / "adaptive_dropout" / "javascript").glob("*.js")}
    assert there == {part for parts in explorers.PARTS.values() for part in parts}


def test_settings_of_the_widgets_are_checked():
    import traitlets

    for make, bad in ((explorers.PenaltyExplorer, {"lam": 0.0}), (explorers.DropBlockExplorer, {"r": 0})):
        with pytest.raises(traitlets.TraitError):
            make(**bad)


# ---- live ----


def quick(**options):
    return live.Settings(epochs=3, batch=500, **options)


def test_pausing_a_hundred_times_changes_nothing():
    results = []
    for times in (0, 100):
        training = live.LiveTraining(live.Settings(method="variational dropout", lam=1e-4, epochs=10, batch=100))
        training.start()
        for _ in range(times):
            try:
                training.pause()
                training.resume()
            except RuntimeError as error:
                assert "finished" in str(error)
                break
        assert training.wait(60) and training.state == "finished"
        results.append([p.detach().clone() for p in training.result().model.parameters()])
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def test_stop_from_pause_and_at_once():
    for pause in (True, False):
        told = []
        training = live.LiveTraining(
            live.Settings(epochs=10_000), lambda snapshot, told=told: told.append(snapshot.state)
        )
        training.start()
        if pause:
            training.pause()
        training.stop()
        assert told[-2:] == ["paused" if pause else "running", "stopped"]
        assert training.state == "stopped" and training.result().model is not None
        with pytest.raises(RuntimeError, match="make a new one"):
            training.resume()


def test_a_thread_that_has_ended_is_gone():
    training = live.LiveTraining(quick())
    training.start()
    training.wait()
    training._thread.join(5)
    assert not [thread for thread in threading.enumerate() if thread.name == "live training"]


def test_at_most_four_pictures_a_second_within_a_state():
    told = []
    training = live.LiveTraining(
        live.Settings(epochs=10_000), lambda snapshot: told.append((time.monotonic(), snapshot))
    )
    training.start()
    time.sleep(1.2)
    training.stop()
    running = [moment for moment, snapshot in told if snapshot.state == "running"]
    assert 2 <= len(running) <= 8 and told[-1][1].state == "stopped"
    assert min(np.diff(running)[1:], default=1) > 0.2


def test_absent_mnist_says_the_three_ways_out(tmp_path, monkeypatch):
    from adaptive_dropout import data

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    training = live.LiveTraining(live.Settings(data="mnist"), load=lambda: data.load_mnist(tmp_path, mirrors=()))
    training.start()
    assert training.wait(60) and training.state == "failed"
    assert "Three ways out" in training.snapshot.error and "digits" in training.snapshot.error


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"data": "cifar"}, "data must be one of"),
        ({"device": "cuda:99"}, "Found: "),
        ({"device": "tpu"}, "device must be one of cpu"),
        ({"method": "luck"}, "method must be one of"),
        ({"lam": 0.0}, "lam must lie"),
        ({"lam": float("nan")}, "lam must lie"),
        ({"epochs": 0}, "epochs must lie"),
        ({"epochs": 1.5}, "epochs must be an integer"),
        ({"batch": 0}, "batch must lie"),
        ({"seed": -1}, "seed must lie"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        live.Settings(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize("count", [0, 2])
def test_what_devices_are_found(count, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda k: f"Card {k}")
    assert list(live.devices()) == ["cpu", "cuda:0", "cuda:1"][: 1 + count]
    report = live.device_report()
    assert ("GPU 1: Card 1" in report) == (count == 2) and ("No GPU" in report) == (count == 0)
    experiment = live.LiveExperiment()
    assert [value for _, value in experiment.controls["device"].options] == list(live.devices())
    if count:
        assert live.Settings(device="cuda:1").device == "cuda:1"


def test_a_gpu_trains():
    import torch

    if not torch.cuda.is_available():
        pytest.skip(live.device_report())
    training = live.LiveTraining(live.Settings(device="cuda:0", epochs=5))
    training.start()
    assert training.wait(120) and training.state == "finished", training.snapshot.error
    assert training.result().device.type == "cuda" and training.history["error"][-1] < 0.3


def test_a_batch_larger_than_the_data_fails_in_words():
    training = live.LiveTraining(live.Settings(batch=10**6))
    training.start()
    training.wait(60)
    assert training.state == "failed" and "batch" in training.snapshot.error
    with pytest.raises(RuntimeError, match="batch"):
        training.result()


@pytest.mark.parametrize("method", live.METHODS)
def test_every_method_trains(method):
    lam = 1e-4 if method in ("variational dropout", "hard concrete") else 5e-4
    training = live.LiveTraining(live.Settings(method=method, lam=lam, epochs=6))
    training.start()
    assert training.wait(120) and training.state == "finished", training.snapshot.error
    assert training.history["error"][-1] < 0.3 and len(training.history) == 6


def test_nan_weights_still_have_a_histogram():
    import torch

    run = live.make_run(live.Settings(method="no penalty"), 64)
    with torch.no_grad():
        run.model[1].weight[0, 0], run.model[1].weight[0, 1] = float("nan"), float("inf")
    middles, counts = live.weight_counts(run)
    assert len(middles) == len(counts) == 61 and sum(counts) == 64 * 64 + 64 * 32 + 320 - 2


# ---- serving ----


def test_a_taken_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is taken"), serve.serving(port):
            pass


@pytest.mark.parametrize("port", [0, -1, 70_000])
def test_a_port_that_is_none(port):
    with pytest.raises(ValueError, match="port must lie in"):
        serve.free_port(port)


def test_a_server_that_ends_leaves_its_last_words(monkeypatch):
    monkeypatch.setattr(serve.sys, "executable", shutil.which("false") or "false")
    with pytest.raises(ChildProcessError, match="ended at once"), serve.serving():
        pass


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(serve.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(serve, "_await_port", lambda *arguments: None)
    with serve.serving() as served:
        assert served.address.startswith("http://127.0.0.1:") and len(served.address.partition("token=")[2]) > 20
        assert served.log.parent.parent == tmp_path
        settings = json.loads((served.log.parent / "config" / "voila.json").read_text())
        assert settings["Voila"]["token"] in served.address
    assert served.process.poll() is not None and not list(tmp_path.iterdir())
