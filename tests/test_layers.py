"""Layers under noise: many shapes, precisions and settings, the same results by other roads, bad input."""

import copy
import io
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_dropout import noise
from adaptive_dropout.concave import MCP, LogSum
from adaptive_dropout.convex import L1, L2
from adaptive_dropout.nn import gates, layers
from adaptive_dropout.nn.gates import (
    AdaptiveDropoutConv2d,
    AdaptiveDropoutLinear,
    HardConcreteConv1d,
    HardConcreteConv2d,
    HardConcreteLinear,
    StandoutReLU,
    from_dense,
    named_relevance,
    total_cost,
)
from adaptive_dropout.nn.layers import (
    NoisyLayer,
    VariationalDropoutConv1d,
    VariationalDropoutConv2d,
    VariationalDropoutLinear,
    divergence,
)
from adaptive_dropout.variational_dropout import VariationalDropout, VariationalDropoutApprox

FORMS = ("plain", "local", "additive")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_noise(layer, level):
    "The layer with log(sigma^2 / w^2) = level at every weight, whatever its form."
    with torch.no_grad():
        if layer.form == "additive":
            layer.log_sigma2.copy_(level + layer.weight.square().log())
        else:
            layer.log_ratio.fill_(level)
    return layer


# ---- divergence ----


@pytest.mark.parametrize("formula, penalty", [("exact", VariationalDropout()), ("sigmoid", VariationalDropoutApprox())])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 2e-13), (torch.float32, 3e-7)])
def test_divergence_is_half_the_dual(formula, penalty, dtype, tolerance):
    log_ratio = torch.linspace(-60, 60, 1201, dtype=dtype)
    values = np.array([divergence(one, formula=formula).item() for one in log_ratio])
    truth = penalty.dual(np.exp(-log_ratio.double().numpy())) / 2
    assert np.abs(values / truth - 1).max() < tolerance


@pytest.mark.parametrize("formula", ("exact", "sigmoid"))
def test_slope_is_the_derivative_of_the_value(formula):
    point = torch.linspace(-40, 40, 997, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(divergence(point, formula=formula), point)
    step = 1e-4
    ends = [[divergence(p, formula=formula).item() for p in point.detach() + sign * step] for sign in (1, -1)]
    assert np.abs(slope.numpy() - np.subtract(*ends) / (2 * step)).max() < 1e-8


@pytest.mark.parametrize("shape", [(), (0,), (7,), (30_000,), (30_001,), (3, 4, 5, 6), (70_001,)])
@pytest.mark.parametrize("with_weight", (False, True))
def test_pieces_do_not_show(monkeypatch, shape, with_weight):
    spread, weight = torch.randn(shape, generator=seeded(), dtype=torch.float64), None
    spread.requires_grad_()
    if with_weight:
        weight = torch.randn(shape, generator=seeded(1), dtype=torch.float64).requires_grad_()
    results = []
    for piece in (30_000, 10_000_000, 997):
        monkeypatch.setattr(layers, "_piece", piece)
        value = divergence(spread, weight)
        gradients = torch.autograd.grad(3 * value, [spread, *([weight] if with_weight else [])])
        results.append([value, *gradients])
    for other in results[1:]:
        assert all(torch.allclose(a, b, rtol=1e-13, atol=0) for a, b in zip(results[0], other, strict=True))


def test_divergence_reads_any_layout_and_refuses_second_derivatives():
    a, b = torch.randn(6, 5, generator=seeded()), torch.randn(6, 5, generator=seeded(1))
    wide = torch.stack([a, b], dim=2)[..., 0]
    assert torch.equal(divergence(wide.t(), b.t()), divergence(a.t().contiguous(), b.t().contiguous()))
    point = torch.ones(3, requires_grad=True)
    (slope,) = torch.autograd.grad(divergence(point), point, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(slope.sum(), point)


def test_divergence_at_zero_and_beyond_every_range():
    weight = torch.tensor([0.0, -0.0, 1e-30, 1e-19, 1e15, -1e15], requires_grad=True)
    for level in (-200.0, -10.0, 0.0, 80.0):
        spread = torch.full((6,), level, requires_grad=True)
        value = divergence(spread, weight)
        slopes = torch.autograd.grad(value, (spread, weight))
        assert torch.isfinite(value) and all(torch.isfinite(slope).all() for slope in slopes)
        assert slopes[1][0] == 0 and slopes[1][4] > 0 > slopes[1][5] and (slopes[0] <= 0).all()
    small = torch.tensor([1e-6], requires_grad=True)  # D = w^2 / (2 sigma^2) for small w
    (slope,) = torch.autograd.grad(divergence(torch.zeros(1), small), small)
    assert abs(slope.item() / 1e-6 - 1) < 1e-5
    half = divergence(torch.zeros(4, dtype=torch.bfloat16))
    assert half.dtype == torch.float32 and torch.allclose(half, divergence(torch.zeros(4)))


def test_stacked_networks():
    spread, weight = torch.randn(3, 4, 5, generator=seeded()), torch.randn(3, 4, 5, generator=seeded(1))
    slopes = torch.func.vmap(torch.func.grad(divergence, argnums=(0, 1)))(spread, weight)
    for i in range(3):
        one = [a[i].clone().requires_grad_() for a in (spread, weight)]
        alone = torch.autograd.grad(divergence(*one), one)
        assert all(torch.allclose(stacked[i], a) for stacked, a in zip(slopes, alone, strict=True))
    columns = torch.stack([divergence(column) for column in spread[0].T])
    assert torch.allclose(torch.vmap(divergence, in_dims=1)(spread[0]), columns)
    one = torch.vmap(divergence, in_dims=(0, None))(spread, weight[0])
    assert torch.allclose(one[1], divergence(spread[1], weight[0]))


# ---- variational dropout ----

SETTINGS = [
    (VariationalDropoutLinear, nn.Linear, (6, 4), {}, (5, 6)),
    (VariationalDropoutLinear, nn.Linear, (6, 4), {"bias": False}, (2, 3, 6)),
    (VariationalDropoutConv1d, nn.Conv1d, (4, 6, 3), {"padding": 1, "groups": 2}, (2, 4, 9)),
    (VariationalDropoutConv1d, nn.Conv1d, (2, 3, 3), {"dilation": 2, "padding": 2, "padding_mode": "zeros"}, (2, 2, 9)),
    (VariationalDropoutConv2d, nn.Conv2d, (3, 4, (3, 2)), {"stride": (2, 1), "padding": "valid"}, (2, 3, 7, 6)),
    (VariationalDropoutConv2d, nn.Conv2d, (3, 4, 3), {"padding": "same", "padding_mode": "circular"}, (2, 3, 5, 6)),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make, plain, sizes, options, shape", SETTINGS)
def test_mean_and_variance_of_the_output(form, make, plain, sizes, options, shape):
    "20,000 draws: every output within 5.5 standard errors, for the variance with the kurtosis of a Gaussian."
    layer = with_noise(make(*sizes, **options, form=form, generator=seeded(3), dtype=torch.float64), -0.5)
    x, draws = torch.randn(shape, generator=seeded(4), dtype=torch.float64), 20_000 if form != "plain" else 4_000
    twin = plain(*sizes, **options, dtype=torch.float64)
    twin.load_state_dict({name: layer.state_dict()[name] for name in twin.state_dict()})
    squares = copy.deepcopy(twin)
    with torch.no_grad():
        squares.weight.copy_(np.exp(-0.5) * layer.weight.square())
        if squares.bias is not None:
            squares.bias.zero_()
        mean, variance = twin(x), squares(x.square())
        outputs = torch.stack([layer(x) for _ in range(draws // 10)])
        assert torch.equal(layer.eval()(x), mean)
        layer.train()
        outputs = torch.cat([outputs, *(layer(x)[None] for _ in range(draws // 10))])
    count = len(outputs)
    assert ((outputs.mean(0) - mean).abs() < 5.5 * (variance / count).sqrt()).all()
    assert ((outputs.var(0) / variance - 1).abs() < 5.5 * (2 / (count - 1)) ** 0.5).all()


@pytest.mark.parametrize("form", FORMS)
def test_relevance_sparse_weights_and_cost_follow_the_definitions(form):
    layer = VariationalDropoutLinear(5, 3, form=form, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 5, generator=seeded()))
        getattr(layer, layer._name).copy_(3 * torch.randn(3, 5, generator=seeded(1)))
        layer.weight[0, 0] = 0
    sigma2 = layer.log_sigma2.exp() if form == "additive" else layer.weight**2 * layer.log_ratio.exp()
    assert torch.allclose(layer.variance(), sigma2) and torch.allclose(layer.std() ** 2, sigma2)
    alpha = layer.relevance()
    live = layer.weight != 0
    assert torch.allclose(alpha[live], (layer.weight**2 / (layer.weight**2 + sigma2))[live])
    assert not alpha.requires_grad and not layer.sparse_weights().requires_grad
    for threshold in (0.0, 0.05, 0.5, 1.0):
        wanted = torch.where(alpha < threshold, 0.0, layer.weight)
        assert torch.equal(layer.sparse_weights(threshold), wanted.detach())
    assert torch.equal(layer.cost(), layer.kl()) and layer.kl().shape == ()
    x = (1 / alpha - 1).log()[live]
    expected = sum(VariationalDropout().dual(float(v)) / 2 for v in torch.exp(-x).detach())
    zero = divergence(layer.log_ratio[0, 0]).item() if form != "additive" else 0.0
    assert abs(layer.kl().item() - expected - zero) < 1e-10
    sigmoid = VariationalDropoutLinear(5, 3, form=form, formula="sigmoid", dtype=torch.float64)
    sigmoid.load_state_dict(layer.state_dict())
    assert 0 < abs(sigmoid.kl().item() - layer.kl().item()) < 15 * 9.4e-3


@pytest.mark.parametrize("form, generator", product(FORMS, (None, "own")))
def test_the_same_numbers_again(form, generator):
    x, outputs = torch.ones(3, 4), []
    layer = VariationalDropoutLinear(4, 2, form=form, generator=generator and seeded(5))
    for _ in range(2):
        torch.manual_seed(5)
        if generator:
            layer.generator.manual_seed(5)
        outputs.append(layer(x))
    assert torch.equal(*outputs) and not torch.equal(layer(x), outputs[0])
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), state) == (generator is not None)


def test_nan_reaches_the_loss():
    layer = VariationalDropoutLinear(3, 2)
    with torch.no_grad():
        layer.log_sigma2[0, 0] = float("nan")
    assert torch.isnan(layer.kl()) and torch.isnan(layer(torch.ones(1, 3))).any()
    with torch.no_grad():
        layer.log_sigma2[0, 0], layer.weight[0, 0] = 0.0, float("nan")
    assert torch.isnan(layer.kl())


@pytest.mark.parametrize("backend", ("eager", "aot_eager"))
@pytest.mark.parametrize("form", FORMS)
def test_compiled_layers_give_the_same_gradients(backend, form):
    layer, x, gradients = VariationalDropoutLinear(6, 4, form=form), torch.randn(5, 6, generator=seeded()), []
    step = lambda x: layer(x).square().mean() + layer.kl() / 10
    for run in (step, torch.compile(step, backend=backend, fullgraph=True)):
        torch.manual_seed(0)
        gradients.append(torch.autograd.grad(run(x), list(layer.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(*gradients, strict=True))


# ---- gates and adaptive masks ----


@pytest.mark.parametrize("beta, gamma, zeta", [(2 / 3, -0.1, 1.1), (0.2, -0.3, 1.2), (1.0, -0.02, 1.05)])
def test_mean_gate_and_open_probability(beta, gamma, zeta):
    layer = HardConcreteLinear(41, 1, beta=beta, gamma=gamma, zeta=zeta, dtype=torch.float64)
    place = torch.linspace(-8, 8, 41, dtype=torch.float64)
    with torch.no_grad():
        layer.log_a.copy_(place)
    mask = noise.HardConcrete(place.numpy(), beta, gamma, zeta)
    assert np.abs(layer.mean_gate().detach().numpy() / mask.mean - 1).max() < 1e-9
    assert np.abs(layer.relevance()[0].numpy() - (1 - np.exp(mask.log_prob(0.0)))).max() < 1e-12
    assert torch.allclose(layer.mean_weights(), layer.weight * layer.mean_gate())


@pytest.mark.parametrize("gates_of", ("weight", "row", "column"))
def test_gates_close_whole_rows_and_columns(gates_of):
    layer = HardConcreteConv2d(3, 4, 2, gates=gates_of, test_gate="hard", bias=False, generator=seeded())
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        layer.log_a.fill_(20.0)
        layer.log_a.view(-1)[0] = -20.0
    closed = layer.mean_weights() == 0
    first = {"weight": closed.view(-1)[:1], "row": closed[0], "column": closed[:, 0]}[gates_of]
    assert first.all() and closed.sum() == first.numel() and torch.equal(layer.sparse_weights() == 0, closed)
    assert torch.equal(layer.relevance() < 0.05, closed)
    x = torch.randn(2, 3, 5, 5, generator=seeded(1))
    assert torch.allclose(layer(x), layer.eval()(x)), "gates at the ends do not vary"
    assert abs(layer.expected_l0().item() - (48 - first.numel())) < 1e-4


@pytest.mark.parametrize("penalty", [L1(), L2(), LogSum(0.2), MCP(2.0, 0.5), VariationalDropout(0.1)])
@pytest.mark.parametrize("mask", ("bernoulli", "gaussian"))
def test_adaptive_masks_have_the_moments_of_the_penalty(penalty, mask):
    "100,000 copies of a weight: mean and second moment of the mask within 5 standard errors."
    layer = AdaptiveDropoutLinear(1, 100_000, penalty=penalty, lam=0.1, noise=mask, bias=False, generator=seeded())
    nn.init.constant_(layer.weight, 0.4)
    eta = float(penalty.eta_hat(0.4))
    r = 0.1 / eta
    assert torch.allclose(layer.mask_variance(), torch.tensor(r))
    assert abs(float(layer.relevance()[0]) - 1 / (1 + r)) < 1e-6
    with torch.no_grad():
        s = layer(torch.ones(1, 1))[0].double() / 0.4
    assert abs(s.mean() - 1) <= 5 * (r / 1e5) ** 0.5 + 1e-6
    spread = (s - 1).square()
    assert abs(spread.mean() - r) <= 5 * spread.std() / 1e5**0.5 + 1e-6


def test_extreme_masks_are_never_kept_by_accident():
    options = {"penalty": L1(), "lam": 1.0, "noise": "bernoulli", "bias": False, "generator": seeded()}
    layer = AdaptiveDropoutLinear(1, 1_000_000, **options)
    nn.init.constant_(layer.weight, 1e-20)
    uniform = layer._uniform(layer.weight)
    layer._uniform = lambda like: torch.where(uniform == uniform.min(), 0.0, uniform)  # force an exact zero
    with torch.no_grad():
        assert not layer(torch.ones(1, 1)).any()


def test_standout_moments():
    z = torch.linspace(-3, 3, 13, dtype=torch.float64)
    for unbiased in (True, False):
        unit = StandoutReLU(0.8, -0.3, unbiased, seeded())
        outputs = unit(z.expand(100_000, 13))
        keep, target = torch.sigmoid(0.8 * z - 0.3), unit.eval()(z)
        spread = z.relu() ** 2 * ((1 - keep) / keep if unbiased else keep * (1 - keep))
        assert ((outputs.mean(0) - target).abs() <= 5 * (spread / 1e5).sqrt()).all()
        assert torch.allclose(target, z.relu() * (1 if unbiased else keep))
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(StandoutReLU(unbiased=False).eval()(leaf).sum(), leaf)
    assert torch.allclose(slope, torch.sigmoid(z) * (z > 0)), "no gradient through the probability"


# ---- whole networks ----


@pytest.mark.parametrize("kind, options", [
    ("variational", {"form": "plain"}), ("variational", {"form": "additive", "formula": "sigmoid"}),
    ("hard_concrete", {"gates": "row", "test_gate": "hard"}), ("adaptive", {"penalty": LogSum(0.1), "lam": 0.2}),
])  # fmt: skip
def test_networks_convert_train_copy_and_load(kind, options):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    noisy = nn.Sequential(from_dense(dense[0], kind, **options), *dense[1:3], from_dense(dense[3], kind, **options))
    assert all(torch.equal(noisy[i].weight, dense[i].weight) and noisy[i].bias is not dense[i].bias for i in (0, 3))
    assert [name for name, _ in named_relevance(noisy)] == ["0", "3"]
    x, optimiser = torch.randn(8, 1, 8, 8, generator=seeded()), torch.optim.Adam(noisy.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        (noisy(x).square().mean() + 0.01 * total_cost(noisy)).backward()
        optimiser.step()
    assert all(p.grad is not None and torch.isfinite(p).all() for p in noisy.parameters())
    buffer, other = io.BytesIO(), copy.deepcopy(noisy)
    torch.save(noisy.state_dict(), buffer)
    buffer.seek(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(noisy.eval()(x), other.eval()(x))
    assert set(noisy.state_dict()) >= {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert torch.allclose(total_cost(noisy), noisy[0].cost() + noisy[3].cost())


@pytest.mark.parametrize("layer", [
    nn.Linear(3, 2), nn.Linear(3, 2, bias=False), nn.Conv1d(2, 4, 3, groups=2, dilation=2),
    nn.Conv2d(2, 3, (1, 2), stride=2, padding=(1, 0), padding_mode="reflect"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ("variational", "hard_concrete", "adaptive"))
def test_from_dense_keeps_every_setting(layer, kind):
    layer = layer.double().eval()
    options = {"penalty": L1(), "lam": 0.5} if kind == "adaptive" else {}
    state = torch.get_rng_state()
    noisy = from_dense(layer, kind, **options)
    assert torch.equal(state, torch.get_rng_state()), "no global random numbers are used up"
    assert isinstance(noisy, type(layer)) and isinstance(noisy, NoisyLayer)
    assert noisy.weight.dtype == torch.float64 and not noisy.training
    x = torch.randn({2: (4, 3), 3: (4, 2, 9), 4: (4, 2, 6, 6)}[layer.weight.ndim], dtype=torch.float64)
    if kind == "hard_concrete":
        with torch.no_grad():
            noisy.log_a.fill_(40.0)
    assert torch.allclose(noisy(x), layer(x), rtol=1e-12)
    assert noisy.extra_repr().startswith(layer.extra_repr())


@pytest.mark.parametrize("act, kind, word", [
    (lambda: VariationalDropoutLinear(2, 2, form="molchanov"), ValueError, "form"),
    (lambda: VariationalDropoutConv2d(2, 2, 3, formula=None), ValueError, "formula"),
    (lambda: VariationalDropoutLinear(2, 2).sparse_weights(1.5), ValueError, "threshold"),
    (lambda: VariationalDropoutLinear(2, 2).sparse_weights("half"), TypeError, "threshold"),
    (lambda: divergence(torch.zeros(2), torch.zeros(2, 1)), ValueError, "weight"),
    (lambda: divergence(torch.zeros(2), formula="approx"), ValueError, "formula"),
    (lambda: HardConcreteConv1d(2, 2, 3, gates="channel"), ValueError, "gates"),
    (lambda: HardConcreteLinear(2, 2, test_gate="soft"), ValueError, "test_gate"),
    (lambda: HardConcreteLinear(2, 2, zeta=1.0), ValueError, "zeta"),
    (lambda: HardConcreteLinear(2, 2, beta="low"), TypeError, "beta"),
    (lambda: AdaptiveDropoutConv2d(2, 2, 3, penalty="l1", lam=1.0), TypeError, "penalty"),
    (lambda: AdaptiveDropoutLinear(2, 2, penalty=L1(), lam=float("nan")), ValueError, "lam"),
    (lambda: AdaptiveDropoutLinear(2, 2, penalty=L1(), lam=1.0, form="additive"), ValueError, "form"),
    (lambda: StandoutReLU(shift=float("inf")), ValueError, "shift"),
    (lambda: from_dense(nn.Conv3d(1, 1, 1)), TypeError, "layer"),
    (lambda: from_dense(HardConcreteLinear(1, 1)), TypeError, "layer"),
    (lambda: from_dense(nn.Linear(1, 1), "vardrop"), ValueError, "kind"),
    (lambda: total_cost(nn.Linear(1, 1)), ValueError, "model"),
])  # fmt: skip
def test_mistakes_are_named(act, kind, word):
    with pytest.raises(kind, match=f"^{word}"):
        act()


def test_a_base_without_a_relevance_says_so():
    class Bare(NoisyLayer, nn.Linear):
        pass

    with pytest.raises(NotImplementedError, match="Bare"):
        Bare(2, 2).relevance()
    assert Bare(2, 2).cost().item() == 0 and gates.StandoutReLU is StandoutReLU


def test_the_subpackage_loads_torch_only_when_it_is_used():
    code = (
        "import sys, adaptive_dropout.nn as n; assert 'torch' not in sys.modules; n.StandoutReLU; sys.modules['torch']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("form", ("plain", "local", "additive"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16))
@pytest.mark.parametrize("columns", (False, True))
def test_the_gradient_in_place_is_that_of_the_cost(form, dtype, columns):
    torch.manual_seed(0)
    layer = VariationalDropoutLinear(40, 30, form=form, dtype=dtype)
    names = ["weight", "log_sigma2" if form == "additive" else "log_ratio"]
    parameters = [getattr(layer, name) for name in names]
    wanted = torch.autograd.grad(0.3 * layer.cost(), parameters, allow_unused=True)
    outs = {name: torch.full((40, 30) if columns else (30, 40), 2.0, dtype=dtype) for name in names}
    outs = {name: out.t() if columns else out for name, out in outs.items()}
    layer.add_cost_gradient(0.3, outs)
    for out, gradient in zip(outs.values(), wanted, strict=True):
        step = torch.zeros_like(out) if gradient is None else gradient
        assert ((out - (2 + step)).abs() <= 4 * torch.finfo(dtype).eps * (2 + step.abs())).all()
