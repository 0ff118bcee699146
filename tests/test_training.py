"""Training (page 51) and stacks (page 50a): kills, several processes, many settings, bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_dropout.data import ImageData
from adaptive_dropout.nn.gates import HardConcreteLinear
from adaptive_dropout.nn.sparsify import Sparsifier
from adaptive_dropout.penalties import L1, LogSum
from adaptive_dropout.stacked import Run, Stack, random_stream, signature, stack_runs
from adaptive_dropout.training import (
    SCHEDULES,
    TrainingData,
    _difference,
    from_images,
    load_checkpoint,
    save_checkpoint,
    train,
)

# What the processes of the tests below train: the two functions are written into their scripts.
STUDY = """
import torch
from torch import nn

from adaptive_dropout.nn.sparsify import Sparsifier
from adaptive_dropout.penalties import LogSum
from adaptive_dropout.stacked import Run
from adaptive_dropout.training import TrainingData, load_checkpoint, train


def data():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(240, 6, generator=generator)
    return TrainingData(x[:200], x[:200, :3].argmax(1), (x[200:], x[200:, :3].argmax(1)))


def study(methods=("penalty", "eta-trick", "adaprox", "vardrop", "magnitude")):
    runs = []
    for k, method in enumerate([*methods, methods[0]]):
        torch.manual_seed(k)
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        usual = {"penalty": LogSum(0.1), "lam": 1e-3}
        options = {"vardrop": {"n": 2000}, "magnitude": {"target": 0.5}}.get(method, usual)
        runs.append(Run(model, optimizer, Sparsifier(model, method, optimizer=optimizer, **options), seed=k))
    return runs
"""
space = {}
exec(STUDY, space)
data, study = space["data"], space["study"]


def tensors(runs):
    "Weights, eta and masks."
    found = [dict(run.model.state_dict()) for run in runs]
    return found + [run.sparsifier.state_dict()["tensors"] for run in runs] + [run.sparsifier.masks() for run in runs]


def same(some, others):
    return all(torch.equal(a[key], b[key]) for a, b in zip(some, others, strict=True) for key in (*a, *b))


def message(function, *arguments, **options):
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        function(*arguments, **options)
    return str(caught.value)


# ---- interruptions ----


def test_a_killed_training_goes_on_with_the_same_bits(tmp_path):
    plan = {"epochs": 20, "batch": 40, "progress": False, "save_every": 1}
    few = ("penalty", "eta-trick", "vardrop")
    script = tmp_path / "killed.py"
    script.write_text(STUDY + f"\ntrain(study({few}), data(), checkpoint={str(tmp_path / 'run')!r}, **{plan!r})\n")
    process = subprocess.Popen([sys.executable, script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "run").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))  # any moment, also while it writes
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was not killed in the middle"
    step = load_checkpoint(tmp_path / "run")["step"]
    assert 0 < step < 100, "the kill came too late"
    resumed, undisturbed = study(few), study(few)
    histories = train(resumed, data(), checkpoint=tmp_path / "run", **{**plan, "save_every": 0})
    assert repr(histories) == repr(train(undisturbed, data(), **plan)), step
    assert same(tensors(resumed), tensors(undisturbed)), step
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"run", "killed.py"}
    assert len(list(tmp_path.glob(".*"))) == len(list(tmp_path.glob(".run.*.part"))) <= 1  # if it was killed in writing


@pytest.mark.parametrize("step", [1, 4, 5, 6, 9])
@pytest.mark.parametrize("stacked", [True, False])
def test_every_moment_of_an_epoch_can_be_resumed(tmp_path, step, stacked, monkeypatch):
    plan = {"epochs": 2, "batch": 40, "progress": False, "stacked": stacked, "schedule": "cosine"}
    original, calls = Stack.set_rate, []

    def breaking(self, factor):
        calls.append(factor)
        if len(set(calls)) > step:
            raise KeyboardInterrupt
        original(self, factor)

    methods = ("penalty", "vardrop")
    monkeypatch.setattr(Stack, "set_rate", breaking)
    interrupted = study(methods)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, data(), checkpoint=tmp_path / "run", save_every=1, **plan)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "run")["step"] == step
    weight = interrupted[0].model[0].weight  # released in spite of the interruption
    assert weight.untyped_storage().nbytes() == weight.nbytes
    resumed, undisturbed = study(methods), study(methods)
    histories = train(resumed, data(), checkpoint=tmp_path / "run", **plan)
    assert repr(histories) == repr(train(undisturbed, data(), **plan))
    assert same(tensors(resumed), tensors(undisturbed))


# ---- several processes ----

RANK = """
import json
import sys

from torch import distributed

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://FOLDER/meet", rank=rank, world_size=2)
runs = study()
with torch.no_grad():
    runs[0].model[0].weight += rank
for unfit in ({"batch": 40}, {"batch": 199}):  # weights that differ, and an example too few for two processes
    try:
        train(runs, data(), epochs=1, progress=False, **unfit)
        raise SystemExit("not refused")
    except ValueError as error:
        assert "different weights" in str(error) or "batch" in str(error)
with torch.no_grad():
    runs[0].model[0].weight.copy_(study()[0].model[0].weight)
for run in runs:
    run.model[1].p = 0.0
plan = {"epochs": 2, "batch": 48, "progress": False, "checkpoint": "FOLDER/run"}
histories = train(runs, data(), **plan)
torch.save([[dict(r.model.state_dict()), r.sparsifier.state_dict()["tensors"], r.sparsifier.masks()] for r in runs],
           f"FOLDER/rank{rank}")
json.dump([history["loss"] for history in histories], open(f"FOLDER/loss{rank}", "w"))
distributed.destroy_process_group()
"""


def train_as_two(tmp_path):
    "Two processes that train as one."
    script = tmp_path / "rank.py"
    script.write_text(STUDY + RANK.replace("FOLDER", str(tmp_path)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, script, str(rank)], env=environment) for rank in range(2)]
    try:
        assert [process.wait(timeout=100) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


def test_two_processes_keep_equal_weights_masks_and_eta(tmp_path):
    train_as_two(tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in range(2))
    alone = study()
    for run in alone:
        run.model[1].p = 0.0
    histories = train(alone, data(), epochs=2, batch=48, progress=False)
    expected = [[dict(r.model.state_dict()), r.sparsifier.state_dict()["tensors"], r.sparsifier.masks()] for r in alone]
    for k, (run, a, b, one) in enumerate(zip(alone, first, second, expected, strict=True)):
        assert same(a, b)  # bit by bit, the noisy ones too
        if run.sparsifier.method == "vardrop":
            continue  # each rank draws for its own examples
        for mine, theirs in zip(a[:2], one[:2], strict=True):
            assert all(torch.allclose(mine[key].float(), theirs[key].float(), atol=2e-4) for key in mine)
        losses = json.loads((tmp_path / "loss1").read_text())[k]
        assert losses == pytest.approx(histories[k]["loss"], rel=1e-4)
    assert any(float(mask.float().mean()) < 1 for mask in first[4][2].values())  # magnitude pruning did prune
    assert load_checkpoint(tmp_path / "run")["settings"]["ranks"] == 2
    assert "ranks is 2 there and 1 here" in message(
        train, alone, data(), epochs=2, batch=48, progress=False, checkpoint=tmp_path / "run"
    )


# ---- stacks ----


def conv(seed, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(*layers).to(dtype)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}


@pytest.mark.parametrize("method", ["penalty", "adaprox", "hard-concrete"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stack_is_many_single_runs(optimizer, method):
    def made(k):
        model = conv(k)
        own = OPTIMIZERS[optimizer](model.parameters())
        options = {"lam": 1e-3 * (k + 1)} | ({} if method == "hard-concrete" else {"penalty": LogSum(0.1)})
        return Run(model, own, Sparsifier(model, method, optimizer=own, **options), seed=k)

    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(2, 12, 1, 7, 7, generator=generator).double() for _ in range(6)]
    labels = [x[..., 0, 3, 2:5].argmax(-1) for x in batches]
    runs, singles = [made(0), made(1)], [made(0), made(1)]
    (stack,) = stack_runs(runs)
    for step, (x, y) in enumerate(zip(batches, labels, strict=True)):
        if step == 3:  # apart and together again, with the state of the optimisers
            stack.release()
            (stack,) = stack_runs(runs)
        losses = stack.step(x, y, step)
        for k, single in enumerate(singles):
            loss = Stack([single]).step(x[k : k + 1], y[k : k + 1], step)
            assert torch.allclose(loss, losses[k], rtol=1e-10)
    for run, single in zip(runs, singles, strict=True):
        for a, b in zip(run.model.parameters(), single.model.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-7, atol=1e-9)
        assert run.sparsifier.sparsity() == single.sparsifier.sparsity()


def plain(seed=0, rate=0.1, **options):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    return Run(model, torch.optim.SGD(model.parameters(), lr=rate), **options)


def test_unequal_runs_are_kept_apart():
    hooked = plain()
    hooked.model[0].register_forward_hook(lambda *_: None)
    further = plain(2)
    Stack([further]).step(torch.ones(1, 4, 6), torch.zeros(1, 4, dtype=torch.long), 0)
    assert [len(stack) for stack in stack_runs([plain(), hooked, plain(1), plain(rate=0.2), further])] == [3, 1, 1]
    moved = [Run(run.model, torch.optim.Adam(run.model.parameters())) for run in (plain(), plain(1))]
    Stack([moved[0]]).step(torch.ones(1, 4, 6), torch.zeros(1, 4, dtype=torch.long), 0)
    assert signature(moved[0]) != signature(moved[1])  # the optimisers have made different numbers of steps
    with pytest.raises(ValueError, match="equal signature"):
        Stack(moved)


def test_tied_weights_and_frozen_parameters_stay_so():
    def made(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
        model[2].weight = model[0].weight
        model[3].weight.requires_grad_(False)
        free = [p for p in model.parameters() if p.requires_grad]
        return Run(model, torch.optim.SGD(free, lr=0.1))

    runs, before = [made(0), made(1)], made(1).model[3].weight
    (stack,) = stack_runs(runs)
    x = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        stack.step(x, x[..., :3].argmax(-1), step)
    stack.release()
    assert runs[1].model[2].weight is runs[1].model[0].weight and torch.equal(runs[1].model[3].weight, before)
    single = made(1)
    for step in range(3):
        Stack([single]).step(x[1:], x[1:, :, :3].argmax(-1), step)
    assert torch.allclose(single.model[0].weight, runs[1].model[0].weight, atol=1e-6)


# ---- the loop ----


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one_and_fall(name):
    values = [SCHEDULES[name](t / 100) for t in range(101)]
    assert values[0] == 1 and sorted(values, reverse=True) == values
    assert values[-1] == pytest.approx(float(name == "constant"))
    assert name == "constant" or values[50] == pytest.approx(0.5)


def test_the_rate_is_that_of_the_optimiser_times_the_schedule():
    first, second = plain(rate=0.1), plain(rate=0.3)
    histories = train([first, second], data(), epochs=2, batch=100, progress=False)
    assert histories[0]["rate"] == pytest.approx([0.075, 0.025])  # of the second step of two in each epoch
    assert histories[1]["rate"] == pytest.approx([0.225, 0.075])


def test_every_example_is_used_once_an_epoch():
    seen = []

    def loss(outputs, targets):
        seen.append(targets.clone())
        return F.mse_loss(outputs.squeeze(-1), targets)

    model = nn.Linear(1, 1)
    values = torch.arange(25.0)
    plan = {"epochs": 2, "batch": 10, "progress": False, "loss": loss}
    run = Run(model, torch.optim.SGD(model.parameters(), lr=1e-5))
    history = train(run, TrainingData(values[:, None], values), **plan)
    epochs = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert all(torch.equal(epoch.sort().values, values) for epoch in epochs) and not torch.equal(*epochs)
    assert [len(batch) for batch in seen] == [10, 10, 5] * 2
    assert str(history["error"]) == "[nan, nan]" and history["nonzero"] == [1, 1]  # no validation data were given


def test_a_regression_has_its_loss_as_error():
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    x = torch.randn(100, 6)
    both = TrainingData(x, x[:, :1], (x[:10], x[:10, :1]))
    history = train(Run(model, torch.optim.Adam(model.parameters(), lr=0.1)), both, epochs=20, batch=25, progress=False)
    with torch.no_grad():
        assert history["error"][-1] == pytest.approx(float(F.mse_loss(model(x[:10]), x[:10, :1])), rel=1e-5)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


class Foreign(nn.Module):
    "Noise that the stack does not know."

    def forward(self, x):
        return x + 0.01 * torch.empty_like(x).geometric_(0.5)


def test_noise_of_unknown_origin_is_warned_of():
    torch.manual_seed(0)
    model = nn.Sequential(Foreign(), nn.Linear(6, 3))
    run = Run(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.warns(UserWarning, match="global generator"):
        train(run, data(), epochs=1, progress=False)


@pytest.mark.parametrize("draw", ["normal_", "bernoulli_", "uniform_", "exponential_"])
def test_noise_that_cannot_be_repeated_is_refused(draw):
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x + getattr(torch.empty_like(x), draw)())

    model = Noisy(6, 3)
    with pytest.raises(NotImplementedError, match=draw):
        train(Run(model, torch.optim.SGD(model.parameters(), lr=0.1)), data(), epochs=1, progress=False)


def test_every_way_to_ask_for_numbers_is_the_same_stream():
    ways = {
        "sizes": lambda x: torch.randn(4, 6),
        "tuple": lambda x: torch.randn((4, 6)),
        "like": torch.randn_like,
        "dtype": lambda x: torch.randn(x.shape, dtype=torch.float32, device="cpu"),
    }

    class Adds(nn.Linear):
        way = None

        def forward(self, x):
            return super().forward(x + ways[self.way](x))

    losses = []
    for way in ways:
        torch.manual_seed(0)
        model = Adds(6, 3)
        model.way = way
        stack = Stack([Run(model, torch.optim.SGD(model.parameters(), lr=0.1), seed=5)])
        losses.append(stack.losses(torch.ones(1, 4, 6), torch.zeros(1, 4, dtype=torch.long), 9).item())
    assert len(set(losses)) == 1


def test_threads_are_given_back():
    before, used = torch.get_num_threads(), []

    def loss(outputs, targets):
        used.append(torch.get_num_threads())
        return F.cross_entropy(outputs, targets)

    try:
        torch.set_num_threads(3)
        train(plain(), data(), epochs=1, progress=False, loss=loss)
        assert set(used) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_stack_is_many_single_runs():
    def made(k):
        run = plain(k)
        model = run.model.cuda()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
        return Run(model, optimizer, Sparsifier(model, "penalty", LogSum(0.1), 1e-3, optimizer=optimizer), seed=k)

    there = data()
    moved = TrainingData(there.inputs.cuda(), there.targets.cuda(), tuple(t.cuda() for t in there.validation))
    runs, singles = [made(k) for k in range(3)], [made(k) for k in range(3)]
    train(runs, moved, epochs=2, batch=40, progress=False)
    train(singles, moved, epochs=2, batch=40, progress=False, stacked=False)
    for run, single in zip(runs, singles, strict=True):
        pairs = zip(run.model.parameters(), single.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


# ---- bad input ----


def test_bad_settings_are_named():
    run, ordinary = plain(), {"epochs": 1, "progress": False}
    assert "epochs must lie in" in message(train, run, data(), epochs=0)
    assert "batch must lie in [1, 200], got 201" in message(train, run, data(), batch=201, **ordinary)
    assert "save_every" in message(train, run, data(), save_every=-1, **ordinary)
    assert "runs must be Run objects" in message(train, [run.model], data(), **ordinary)
    assert "runs is empty" in message(train, [], data(), **ordinary)
    assert "folder" in message(train, run, data(), checkpoint="/no/such/folder/file", **ordinary)
    assert "threads" in message(train, run, data(), threads=0, **ordinary)
    assert "share a parameter" in message(train, [run, run], data(), **ordinary)


def test_bad_data_are_named():
    x = torch.ones(3, 2)
    assert "tensors" in message(TrainingData, x.numpy(), x)
    assert "3 inputs and 2 targets" in message(TrainingData, x, x[:2])
    assert "validation data: 0 inputs" in message(TrainingData, x, x, (x[:0], x[:0]))
    assert "meta" in message(TrainingData, x, x, (x.to("meta"), x.to("meta")))


def test_bad_runs_are_named():
    model = plain().model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert "model must be" in message(Run, 3, optimizer)
    assert "optimizer must be" in message(Run, model, None)
    assert "sparsifier must be" in message(Run, model, optimizer, L1())
    assert "seed" in message(Run, model, optimizer, seed=-1) and "seed" in message(Run, model, optimizer, seed=1.5)
    held = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(2))], lr=0.1)
    assert "not the model's" in message(Run, model, held)
    noisy = Sparsifier(plain().model, "vardrop", lam=0.1)
    alone = torch.optim.SGD([layer for layer in noisy.model.parameters() if layer.ndim < 2], lr=0.1)
    assert "does not hold parameter" in message(Run, noisy.model, alone, noisy)
    gated = nn.Sequential(HardConcreteLinear(2, 2, generator=torch.Generator()))
    assert "generator" in message(Run, gated, torch.optim.SGD(gated.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="name"):
        random_stream("cpu", 1, -1)


def test_checkpoints_of_something_else_are_refused(tmp_path):
    plan = {"epochs": 1, "progress": False, "checkpoint": tmp_path / "run"}
    train(plain(), data(), **plan)
    saved = (tmp_path / "run").read_bytes()
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    wider = Run(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = [p.clone() for p in model.parameters()]
    assert "runs.0.tensors.0.weight.1" in message(train, wider, data(), **plan)
    assert "initial_lr is '0.1' there and '0.2' here" in message(train, plain(rate=0.2), data(), **plan)
    assert "data is" in message(train, plain(), TrainingData(data().inputs, data().targets.flip(0)), **plan)
    assert "runs is" in message(train, [plain(), plain(1)], data(), **plan)
    (tmp_path / "run").write_bytes(saved[:-1])
    assert "truncated" in message(train, plain(), data(), **plan)
    assert (tmp_path / "run").read_bytes() == saved[:-1]  # not overwritten
    save_checkpoint(tmp_path / "run", {"step": 1})
    assert "no checkpoint of a training" in message(train, plain(), data(), **plan)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "run", {"a": torch.ones(3)})

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path / "run", {"a": torch.zeros(3)})
    assert torch.equal(load_checkpoint(tmp_path / "run")["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_colour_images_become_channels_first_and_are_normalised():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    labels = np.arange(10)
    made = from_images(ImageData(pixels, labels, pixels, labels, "memory"), mean=0.5, deviation=0.25)
    assert made.inputs.shape == (8, 3, 4, 6) and made.validation[0].shape == (2, 3, 4, 6)
    twin = (pixels.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
    assert np.allclose(made.test[0], twin, atol=1e-6) and (made.test[1] == torch.arange(10)).all()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_in_a_stack_is_dropout(p):
    measured = []
    for score in (lambda out, y: out.amax(), lambda out, y: (out != 0).float().mean()):
        nets = [nn.Sequential(nn.Linear(3, 50), nn.Dropout(p)) for _ in range(2)]
        for net in nets:
            nn.init.zeros_(net[0].weight)
            nn.init.ones_(net[0].bias)
        runs = [Run(net, torch.optim.SGD(net.parameters(), 0.1), None, seed) for seed, net in enumerate(nets)]
        stack = Stack(runs, loss=score)
        stack.mode(True)
        measured.append(stack.losses(torch.ones(2, 400, 3), torch.zeros(2, 400)))
    highest, alive = measured
    assert torch.allclose(highest, torch.tensor(1 / (1 - p) if p < 1 else 0.0))
    assert ((alive - (1 - p)).abs() <= 5 * (p * (1 - p) / 20_000) ** 0.5).all()  # five standard errors of 20,000 draws


def test_a_checkpoint_with_a_setting_more_is_named():
    assert _difference({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2}}) == "b.d is 3 there and 'absent' here"
    assert _difference({"a": 1}, {"a": 1, "b": 2}) == "b is 'absent' there and 2 here"
    assert _difference({"a": [1, 2]}, {"a": [1, 3]}) == "a.1 is 2 there and 3 here"
    assert _difference({"a": [1, 2]}, {"a": [1, 2]}) is None
