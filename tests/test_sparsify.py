"""The sparsifier of page 41 over many methods, penalties, optimisers, layers and bad inputs."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from adaptive_dropout.effective import Standout, VariationalDropout
from adaptive_dropout.hard_concrete import HardConcreteL0
from adaptive_dropout.majorise import stationarity_residual
from adaptive_dropout.nn.sparsify import CubicRamp, GroupedPenalty, Sparsifier, find_weights, step_size
from adaptive_dropout.penalties import CLASSICAL, L0, L1, MCP, SCAD, Cauchy, GroupL2, HardThreshold, LogSum, SquaredL1

SEPARABLE = [row.penalty for row in CLASSICAL if row.penalty.separable]
SEPARABLE += [VariationalDropout(0.1), HardConcreteL0(0.1), Standout(0.1), Cauchy(0.3), MCP(3.0, 0.2), SCAD(3.0, 0.2)]
name_of = lambda item: getattr(item, "__name__", type(item).__name__)


def net(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def batch(dtype=torch.float32, n=40):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 6, generator=generator, dtype=dtype)
    return inputs, torch.randint(0, 3, (n,), generator=generator)


def run(model, sparsifier, optimizer, steps, gradient=False, inputs=None):
    inputs, labels = batch(next(model.parameters()).dtype) if inputs is None else inputs
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        (loss if gradient else loss + sparsifier.penalty()).backward()
        if gradient:
            sparsifier.add_gradient()
        optimizer.step()
        sparsifier.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def needed(method):
    """Arguments with which a method runs."""
    if method in ("magnitude", "iht"):
        return {"target": 0.5}
    if method == "fixed":
        return {}
    return {"lam": 1e-3} | ({} if method in ("vardrop", "hard-concrete") else {"penalty": LogSum(0.1)})


# ---- values and gradients ----


@pytest.mark.parametrize("penalty", SEPARABLE, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_the_penalty_s_own(penalty, dtype):
    model = net(dtype=dtype)
    model[0].weight.data[0, 0] = 0
    sparsifier = Sparsifier(model, "penalty", penalty, 0.3)
    tensors = [model[0].weight, model[2].weight]
    value = sparsifier.penalty()
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    twin = 0.3 * sum(float(penalty(w.detach().double()).sum()) for w in tensors)
    assert value.dtype == dtype and math.isclose(value.item(), twin, rel_tol=tolerance)
    for w, got in zip(tensors, torch.autograd.grad(2 * value, tensors), strict=True):
        assert torch.allclose(got, 0.6 * penalty.grad(w.detach()), rtol=tolerance, atol=tolerance)
    assert math.isclose(sparsifier.value(), twin, rel_tol=tolerance)


@pytest.mark.parametrize(
    "method", ["penalty", "adatikhonov", "eta-trick", "adaprox", "vardrop", "hard-concrete", "iht"]
)
def test_value_beside_the_gradient_is_the_value(method):
    model = net()
    sparsifier = Sparsifier(model, method, optimizer=torch.optim.Adam(model.parameters(), 0.1), **needed(method))
    tensors = [*model.parameters()]
    results = []
    for value in (False, True):
        for tensor in tensors:
            tensor.grad = None
        results.append(sparsifier.add_gradient(value=value))
        results.append([torch.zeros(1) if t.grad is None else t.grad.clone() for t in tensors])
    assert results[0] is None and all(torch.equal(a, b) for a, b in zip(results[1], results[3], strict=True))
    twin = sparsifier.value()
    assert math.isclose(results[2], twin, rel_tol=1e-6) or (
        method == "iht" and math.isnan(twin) and math.isnan(results[2])
    )


@pytest.mark.parametrize("penalty", [L1(), LogSum(0.1), Cauchy(0.1), MCP(2.0, 0.1), SCAD(3.7, 0.1)], ids=name_of)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-9, 1e-4, 0.05, 0.2, 0.37, 1.0, 1e6])
def test_written_out_penalties_at_every_scale(penalty, size):
    torch.manual_seed(0)
    model = nn.Linear(300, 200, bias=False)  # more than a block
    with torch.no_grad():
        model.weight.uniform_(-size, size)
    sparsifier = Sparsifier(model, "penalty", penalty, 1.0)
    value, w = sparsifier.add_gradient(value=True), model.weight.detach().double()
    assert math.isclose(value, float(penalty(w).sum()), rel_tol=2e-6, abs_tol=1e-37)
    assert torch.allclose(model.weight.grad.double(), penalty.grad(w), rtol=1e-5, atol=2e-6)
    assert (model.weight.grad[penalty.grad(w) == 0] == 0).all()


@pytest.mark.parametrize(
    "penalty", [LogSum(1e-25), LogSum(1e25), Cauchy(1e-25), MCP(2.0, 1e-25), SCAD(3.7, 1e25)], ids=name_of
)
def test_scales_beyond_single_precision_take_the_penalty_s_own_formulas(penalty):
    model = net()
    sparsifier = Sparsifier(model, "penalty", penalty, 1.0, layers="0")
    value, w = sparsifier.add_gradient(value=True), model[0].weight.detach()
    assert math.isclose(value, float(penalty(w.double()).sum()), rel_tol=1e-5)
    assert torch.allclose(model[0].weight.grad, penalty.grad(w), rtol=1e-5)


@pytest.mark.parametrize("penalty", [L1(), LogSum(0.1), Cauchy(0.1), MCP(2.0, 0.1), SCAD(3.7, 0.1)], ids=name_of)
def test_nan_shows_in_value_and_gradient(penalty):
    model = net()
    with torch.no_grad():
        model[0].weight[1, 1] = math.nan
    assert math.isnan(Sparsifier(model, "penalty", penalty, 1.0, layers="0").add_gradient(value=True))
    bad = torch.isnan(model[0].weight.grad)
    assert bad.sum() <= 1 and (bad[1, 1] or isinstance(penalty, L1))


@pytest.mark.parametrize("penalty", [p for p in SEPARABLE if not isinstance(p, L0)], ids=name_of)
def test_the_eta_trick_s_gradients_are_those_of_its_value(penalty):
    model = net(dtype=torch.float64)
    sparsifier = Sparsifier(model, "eta-trick", penalty, 0.3, layers=["0"], log_ratio=-1.5)
    (log_eta,) = sparsifier.parameters()
    gradients = torch.autograd.grad(sparsifier.penalty(), [model[0].weight, log_eta])
    value = lambda: float(sparsifier.penalty().detach())
    if not math.isfinite(value()):
        pytest.skip("the dual is infinite here")
    for tensor, gradient in zip((model[0].weight, log_eta), gradients, strict=True):
        for place in ((0, 0), (3, 2)):
            with torch.no_grad():
                tensor[place] += 1e-5
                high = value()
                tensor[place] -= 2e-5
                low = value()
                tensor[place] += 1e-5
            assert math.isclose((high - low) / 2e-5, float(gradient[place]), rel_tol=1e-4, abs_tol=1e-7)


def test_blocks_do_not_show(monkeypatch):
    model = net(dtype=torch.float64)
    results = []
    for size in (65536, 7):
        monkeypatch.setattr("adaptive_dropout.nn.sparsify._BLOCK", size)
        for method in ("penalty", "adatikhonov", "eta-trick", "adaprox", "prox"):
            for make in (lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.optim.Adam(p, 0.01)):
                twin = copy.deepcopy(model)
                optimizer = make(twin.parameters())
                sparsifier = Sparsifier(twin, method, LogSum(0.1), 0.01, optimizer=optimizer)
                results.append(run(twin, sparsifier, optimizer, 5))
    half = len(results) // 2
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(results[:half], results[half:], strict=True))


@pytest.mark.parametrize(
    "penalty", [LogSum(0.1), MCP(2.0, 0.1), VariationalDropout(0.02), HardConcreteL0(0.03)], ids=name_of
)
def test_a_loss_with_a_penalty_can_be_compiled(penalty):
    torch._dynamo.reset()
    model, (x, labels) = net(), batch()
    sparsifier = Sparsifier(model, "penalty", penalty, 0.3)
    loss = lambda x: 2 * (F.cross_entropy(model(x), labels) + sparsifier.penalty())
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    results = [(made.item(), torch.autograd.grad(made, list(model.parameters()))) for made in (loss(x), compiled(x))]
    assert math.isclose(results[0][0], results[1][0], rel_tol=1e-6)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(results[0][1], results[1][1], strict=True))


@pytest.mark.parametrize("penalty", [GroupL2([[0, 1], [2, 3, 4, 5]]), SquaredL1()], ids=name_of)
def test_penalties_of_vectors_work_directly(penalty):
    model = net()
    sparsifier = Sparsifier(model, "penalty", penalty, 0.1, layers="0")
    (gradient,) = torch.autograd.grad(sparsifier.penalty(), [model[0].weight])
    assert torch.allclose(gradient, 0.1 * penalty.grad(model[0].weight.detach()), rtol=1e-6)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run(model, Sparsifier(model, "prox", penalty, 0.1, layers="0", optimizer=optimizer), optimizer, 3)


def test_hard_threshold_by_prox_keeps_k():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run(model, Sparsifier(model, "prox", HardThreshold(4), 1.0, layers="0", optimizer=optimizer), optimizer, 3)
    assert ((model[0].weight != 0).sum(dim=1) <= 4).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["penalty", "adatikhonov", "eta-trick", "adaprox", "prox"])
def test_half_precision_weights_stay_half_and_finite(method, dtype):
    model = nn.Sequential(nn.Linear(4, 3, dtype=dtype))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = Sparsifier(model, method, LogSum(0.5), 0.01, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4, dtype=dtype)).float().square().mean() + sparsifier.penalty()
        loss.backward()
        optimizer.step()
        sparsifier.step()
    assert model[0].weight.dtype == dtype and torch.isfinite(model[0].weight).all()


# ---- the optimum ----


def regression(seed, columns=6):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, columns)) * rng.uniform(0.5, 2, columns)
    return X, X @ np.where(np.arange(columns) < 3, [2.0, -1.0, 1.5, 0, 0, 0][:columns], 0) + 0.2 * rng.normal(size=40)


OPTIMISERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
CASES = [(LogSum(0.5), "prox", {}, name) for name in ("momentum", "adam")]
CASES += [(LogSum(0.5), "adaprox", {"eta_at": "w"}, name) for name in OPTIMISERS]
CASES += [(VariationalDropout(0.1), "adaprox", {"eta_at": "w"}, name) for name in ("sgd", "adam")]


@pytest.mark.parametrize("penalty, method, options, name", CASES)
def test_every_optimiser_s_steps_lead_to_a_stationary_point(penalty, method, options, name):
    X, y = regression(3)
    inputs, targets, rate = torch.from_numpy(X), torch.from_numpy(y), 40 / np.linalg.norm(X, 2) ** 2
    model = nn.Linear(6, 1, bias=False, dtype=torch.float64)
    model.weight.data.copy_(torch.linalg.lstsq(inputs, targets[:, None]).solution.T)
    makers = {
        "sgd": lambda p: torch.optim.SGD(p, rate),
        "momentum": lambda p: torch.optim.SGD(p, rate / 5, momentum=0.8, dampening=0.1),
        "nesterov": lambda p: torch.optim.SGD(p, rate / 5, momentum=0.8, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, eps=0.1),
        "adam": lambda p: torch.optim.Adam(p, 0.02, eps=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 0.02, eps=0.1, weight_decay=0.0, amsgrad=True),
    }
    optimizer = makers[name](model.parameters())
    sparsifier = Sparsifier(model, method, penalty, 0.05, optimizer=optimizer, **options)
    for _ in range(400):
        optimizer.zero_grad()
        ((model(inputs)[:, 0] - targets).square().mean() / 2 + sparsifier.penalty()).backward()
        optimizer.step()
        sparsifier.step()
    w = model.weight.detach().numpy()[0]
    assert stationarity_residual(X, y, penalty, 0.05, w) < 1e-6


@pytest.mark.parametrize("method", ["penalty", "adaprox"])
def test_weights_of_a_group_die_together(method):
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    sparsifier = Sparsifier(model, method, L1(), 0.1, groups="outputs", optimizer=optimizer, layers="0")
    run(model, sparsifier, optimizer, 200)
    sparsifier.finalize()
    alive = model[0].weight != 0
    assert not alive.all() and (alive.all(dim=1) | ~alive.any(dim=1)).all()
    assert math.isclose(sparsifier.sparsity(), 1 - float(alive.double().mean()), rel_tol=1e-12)


@pytest.mark.parametrize("method", ["magnitude", "iht"])
@pytest.mark.parametrize("groups, axis", [("outputs", 1), ("inputs", 0)])
def test_hard_methods_remove_whole_groups_and_hit_the_share(method, groups, axis):
    model = nn.Sequential(nn.Linear(8, 8))
    sparsifier = Sparsifier(model, method, target=0.75, groups=groups)
    sparsifier.step()
    alive = (model[0].weight != 0).any(dim=axis)
    assert int(alive.sum()) == 2 and sparsifier.sparsity() == 0.75
    norms = model[0].weight.detach().norm(dim=axis)
    assert norms[alive].min() > 0


@pytest.mark.parametrize("scope", ["model", "layer"])
def test_scope_of_magnitude_pruning(scope):
    model = net()
    model[0].weight.data.mul_(100)
    sparsifier = Sparsifier(model, "magnitude", target=0.5, scope=scope)
    sparsifier.step()
    shares = sparsifier.layer_sparsity()
    assert (shares["2.weight"] == 1 - 0 / 15) if scope == "model" else abs(shares["2.weight"] - 0.5) < 0.04
    assert abs(sparsifier.sparsity() - 0.5) < 0.04


def test_convolutions_rows_are_output_channels():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    penalty = GroupedPenalty(LogSum(0.1))
    w = model[0].weight.detach()
    assert penalty(w).shape == (4, 1, 1, 1)
    assert torch.allclose(penalty.norms(w).flatten(), w.flatten(1).norm(dim=1))
    twin = w.clone().double().requires_grad_()
    LogSum(0.1)(twin.flatten(1).norm(dim=1)).sum().backward()
    assert torch.allclose(penalty.grad(w.double()), twin.grad, rtol=1e-12)
    (gradient,) = torch.autograd.grad(
        Sparsifier(model, "penalty", LogSum(0.1), 1.0, groups="outputs").penalty(), [model[0].weight]
    )
    assert torch.allclose(gradient, penalty.grad(w))


# ---- lambda over time ----


def test_warm_up_rises_linearly_and_stays():
    model = net()
    sparsifier, seen = Sparsifier(model, "penalty", L1(), 0.4, warmup=4), []
    for _ in range(6):
        seen.append(sparsifier.lam)
        sparsifier.step()
    assert np.allclose(seen, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_ramp_by_formula():
    ramp = CubicRamp(0.8, begin=10, end=30, every=5, initial=0.2)
    for t in range(40):
        late = min(max(t - 10, 0) // 5 * 5, 20) / 20
        assert math.isclose(ramp(t), 0.8 - 0.6 * (1 - late) ** 3)


def test_the_controller_moves_lam_towards_the_target():
    model = net()
    low = Sparsifier(model, "penalty", LogSum(0.1), 1e-3, target=0.9)
    high = Sparsifier(model, "penalty", LogSum(0.1), 1e3, target=0.01)
    for _ in range(30):
        low.step()
        high.step()
    assert low.lam > 1e-3 and high.lam < 1e3


@pytest.mark.parametrize("method", ["eta-trick", "hard-concrete", "vardrop"])
def test_methods_with_parameters_of_their_own_reach_the_target(method):
    "Digits, 64-60-10, 500 steps: 80 % zeros, and at least 80 % of the answers right (10 % by guessing)."
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    arguments = needed(method) | {"lam": 1e-4, "target": CubicRamp(0.8, end=350), "optimizer": optimizer}
    sparsifier = Sparsifier(model, method, **arguments)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 500)
    assert optimizer.param_groups[1]["lr"] == 3e-3 * (1 if method == "vardrop" else 30)
    for _ in range(500):
        rows = torch.randint(0, 1400, (128,))
        run(model, sparsifier, optimizer, 1, inputs=(images[rows], labels[rows]))
        schedule.step()
    lam = sparsifier.lam
    sparsifier.finalize()
    sparsifier.step()
    right = (model.eval()(images[1400:]).argmax(1) == labels[1400:]).float().mean()
    assert abs(sparsifier.sparsity() - 0.8) < 0.08 and right > 0.8 and sparsifier.lam == lam


def test_a_target_out_of_reach_warns():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].weight.data.fill_(5.0)  # where MCP is flat
    sparsifier = Sparsifier(model, "penalty", MCP(2.0, 0.1), 1e-3, target=0.5, gain=5.0)
    with pytest.warns(UserWarning, match="sparsity is 0.000: the penalty does not reach"):
        for _ in range(60):
            sparsifier.step()
    assert sparsifier.lam == 1e-3 * 1e6


def test_n_is_the_weight_of_the_divergence():
    sparsifier = Sparsifier(net(), "vardrop", n=200)
    kl = sum(float(layer.kl().detach()) for layer in sparsifier.model if hasattr(layer, "kl"))
    assert sparsifier.lam == 1 / 200 and math.isclose(float(sparsifier.penalty().detach()), kl / 200, rel_tol=1e-6)


# ---- state ----


@pytest.mark.parametrize("method", Sparsifier.methods)
@pytest.mark.parametrize("gradient", [False, True])
def test_resume_is_bit_identical(method, gradient):
    def make():
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        extra = {"generator": None} if method in ("vardrop", "hard-concrete") else {}
        return model, optimizer, Sparsifier(model, method, optimizer=optimizer, **needed(method), **extra)

    parties = make()
    torch.manual_seed(5)
    once = run(parties[0], parties[2], parties[1], 8, gradient)
    parties = make()
    torch.manual_seed(5)
    run(parties[0], parties[2], parties[1], 3, gradient)
    noise, saved = torch.get_rng_state(), [copy.deepcopy(party.state_dict()) for party in parties]
    again = make()
    for party, state in zip(again, saved, strict=True):
        party.load_state_dict(state)
    torch.set_rng_state(noise)
    assert torch.equal(run(again[0], again[2], again[1], 5, gradient), once)


def test_state_after_finalize_holds_the_zeros():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    sparsifier = Sparsifier(model, "magnitude", target=0.5)
    run(model, sparsifier, optimizer, 3)
    sparsifier.finalize()
    zeros = model[0].weight == 0
    run(model, sparsifier, optimizer, 5)
    assert torch.equal(model[0].weight == 0, zeros) and zeros.any()
    other = Sparsifier(copy.deepcopy(model), "magnitude", target=0.5)
    other.load_state_dict(sparsifier.state_dict())
    assert other.method == "fixed" and torch.equal(other.masks()["0.weight"], ~zeros)


def test_state_of_another_method_or_model_is_refused():
    sparsifier = Sparsifier(net(), "penalty", L1(), 0.1)
    with pytest.raises(ValueError, match="state belongs to method 'eta-trick'"):
        sparsifier.load_state_dict(Sparsifier(net(), "eta-trick", L1(), 0.1).state_dict())
    other = Sparsifier(nn.Sequential(nn.Linear(2, 2)), "magnitude", target=0.5)
    with pytest.raises(ValueError, match="state belongs"):
        other.load_state_dict(Sparsifier(net(), "magnitude", target=0.5).state_dict())


def test_path_is_recorded():
    sparsifier = Sparsifier(net(), "magnitude", target=0.5, record_every=2)
    for _ in range(4):
        sparsifier.step()
    assert [entry["step"] for entry in sparsifier.path] == [2, 4]
    assert abs(sparsifier.path[-1]["sparsity"] - 0.5) < 0.03 and "Sparsifier('magnitude'" in repr(sparsifier)


# ---- layers ----


def test_patterns_parameters_and_ties():
    model = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), "lstm": nn.LSTM(3, 3)})
    names = lambda layers: [weight.name for weight in find_weights(model, layers)]
    assert names(["encoder.*"]) == names(None) == ["encoder.0.weight", "encoder.1.weight"]
    assert names(["lstm.weight_hh_l0", "encoder.1"]) == ["encoder.1.weight", "lstm.weight_hh_l0"]
    model["encoder"][1].weight = model["encoder"][0].weight
    assert names(None) == ["encoder.0.weight"]
    assert find_weights(model)[0].aliases == ("encoder.1.weight",)
    sparsifier = Sparsifier(model, "penalty", L1(), 1.0)
    assert math.isclose(
        float(sparsifier.penalty().detach()), float(model["encoder"][0].weight.detach().abs().sum()), rel_tol=1e-6
    )
    with pytest.raises(ValueError, match="tied weights.*encoder.0.weight.*encoder.1.weight"):
        Sparsifier(model, "vardrop", n=10)


def test_frozen_layers_are_left_out_and_refused_by_name():
    model = net()
    model[0].weight.requires_grad_(False)
    assert [weight.name for weight in find_weights(model)] == ["2.weight"]
    with pytest.raises(ValueError, match="'0.weight' is frozen"):
        find_weights(model, ["0"])


def test_what_cannot_be_treated_is_refused_by_name():
    with pytest.raises(ValueError, match="no eligible layer.*'bias'|no eligible layer.*'weight'"):
        find_weights(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="no eligible layer.*none"):
        find_weights(nn.ReLU())
    with pytest.raises(ValueError, match="has no shape yet"):
        find_weights(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match="'0' computes its weight"):
        find_weights(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))))
    integer = nn.Linear(2, 2)
    integer.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match="'weight' must be real floating point, got torch.int8"):
        find_weights(integer)
    with pytest.raises(TypeError, match="complex64"):
        find_weights(nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="'attention.out_proj.weight' of NonDynamically"):
        Sparsifier(nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2)}), "vardrop", n=10)
    with pytest.raises(ValueError, match="inside a model"):
        Sparsifier(nn.Linear(2, 2), "vardrop", n=10)


@pytest.mark.parametrize("method", ["vardrop", "hard-concrete"])
def test_convolutions_change_and_change_back(method):
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )
    weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    sparsifier = Sparsifier(model, method, lam=1e-3, optimizer=optimizer)
    assert model[0].weight is weight and len(optimizer.param_groups) == 2
    (model(torch.ones(2, 2, 4, 4)).square().mean() + sparsifier.penalty()).backward()
    optimizer.step()
    sparsifier.step()
    assert all(p.grad is not None for p in sparsifier.parameters())
    sparsifier.finalize()
    assert type(model[0]) is nn.Conv2d and model[0].stride == (2, 2) and model[0].weight is weight


# ---- bad input ----


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ValueError, "lam must lie", {"lam": math.nan}),
        (ValueError, "lam must lie", {"lam": -1e-9}),
        (TypeError, "lam must be a real number", {"lam": "0.1"}),
        (ValueError, "needs lam or n", {"lam": None}),
        (ValueError, "n must lie", {"lam": None, "n": 0}),
        (ValueError, "must be positive", {"lam": 0.0, "method": "eta-trick"}),
        (ValueError, "threshold", {"threshold": 1.5}),
        (ValueError, "record_every", {"record_every": -1}),
        (ValueError, "warmup and target", {"warmup": 3, "target": 0.5}),
        (ValueError, "target final", {"target": 1.5}),
        (TypeError, "target must be", {"target": "all"}),
        (TypeError, "not 'scope'", {"scope": "layer"}),
        (TypeError, "needs a penalty object", {"penalty": LogSum}),
        (TypeError, "takes no penalty", {"method": "iht", "lam": None, "target": 0.5}),
        (ValueError, "takes no lam", {"method": "iht", "penalty": None, "target": 0.5}),
        (ValueError, "needs a target", {"method": "magnitude", "penalty": None, "lam": None}),
        (ValueError, "'penalty', 'adatikhonov'", {"method": "lasso"}),
        (TypeError, "separable", {"method": "eta-trick", "penalty": SquaredL1()}),
        (TypeError, "separable to act on groups", {"groups": "outputs", "penalty": SquaredL1()}),
        (ValueError, "another method than 'vardrop'", {"method": "vardrop", "penalty": None, "groups": "outputs"}),
        (ValueError, "two axes", {"layers": ["0.bias"], "groups": "outputs"}),
        (ValueError, "'0.weight', '2.weight'", {"layers": ["fc"]}),
    ],
)  # fmt: skip
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        Sparsifier(net(), **({"method": "penalty", "penalty": LogSum(0.1), "lam": 0.1} | arguments))


def test_other_optimisers_and_strangers_are_refused():
    model = net()
    with pytest.raises(TypeError, match="'SGD', 'Adam'.*got LBFGS"):
        Sparsifier(model, "adaprox", L1(), 0.1, optimizer=torch.optim.LBFGS(model.parameters()))
    with pytest.raises(ValueError, match="does not hold"):
        step_size(torch.optim.SGD(net().parameters(), 0.1), model[0].weight)
    with pytest.raises(TypeError, match="minimise"):
        step_size(torch.optim.SGD(model.parameters(), 0.1, maximize=True), model[0].weight)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    sparsifier = Sparsifier(model, "prox", L1(), 0.1, groups="outputs", optimizer=optimizer)
    with pytest.raises(TypeError, match="one step size"):
        run(model, sparsifier, optimizer, 1)


def test_forgotten_parameters_are_noticed():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match="do not move"):
        run(model, Sparsifier(model, "eta-trick", L1(), 0.1), optimizer, 25)
    sparsifier = Sparsifier(net(), "eta-trick", L1(), 0.1)
    optimizer = torch.optim.SGD([*sparsifier.model.parameters(), *sparsifier.parameters()], 0.1)
    run(sparsifier.model, sparsifier, optimizer, 25)


def test_finalize_says_what_went_wrong():
    import warnings

    def trained(target, steps, lam=1e-3):
        model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(32, 6)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        options = {"lam": lam} if target is None else {"lam": lam, "target": CubicRamp(target, end=1)}
        made = Sparsifier(model, "penalty", LogSum(0.1), optimizer=optimizer, **options)
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x).square().mean() + made.penalty()).backward()
            optimizer.step()
            made.step()
        return made

    with pytest.warns(UserWarning, match="asked for were 90%.*prox"):
        trained(0.9, 2).finalize()
    for method, target in (("prox", None), ("adaprox", 0.9), ("penalty", CubicRamp(0.9, end=10))):
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        idle = Sparsifier(model, method, LogSum(0.1), lam=1e-3, target=target, optimizer=optimizer)
        with pytest.warns(UserWarning, match=r"^step\(\) was never called; it belongs after every optimizer.step\(\)$"):
            idle.finalize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(None, 0).finalize()  # the penalty alone, with a fixed lam: step() does nothing but write records
    gone = trained(None, 1)
    with torch.no_grad():
        gone.weights[1].tensor.zero_()
    with pytest.warns(UserWarning, match="'2.weight' are zero"):
        gone.finalize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (done := trained(None, 3)).finalize()
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        resumed = Sparsifier(model, "prox", LogSum(0.1), lam=1e-3, target=0.9, optimizer=optimizer)
        resumed.load_state_dict(done.state_dict())  # finalizes it before any step of its own
        assert resumed.method == "fixed" and resumed.steps == 3
