"""Properties of the closed-form penalties of variational dropout and hard concrete gates over random inputs."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from adaptive_dropout.hard_concrete import HardConcreteL0, _family, hard_concrete_curve
from adaptive_dropout.noise import gauss_legendre
from adaptive_dropout.tables import PanelTable
from adaptive_dropout.variational_dropout import VariationalDropout, VariationalDropoutApprox

PENALTIES = [
    VariationalDropout(1.0),
    VariationalDropout(1 / 48000),
    VariationalDropoutApprox(0.3),
    HardConcreteL0(1.0),
    HardConcreteL0(0.01, factor=2),
    HardConcreteL0(2.0, beta=0.3),
    HardConcreteL0(1.0, beta=0.4605),
    HardConcreteL0(1.0, beta=2.0, gamma=-0.001, zeta=11.0),
]
positive = st.floats(1e-12, 1e12)


def scale(penalty):
    return np.sqrt(penalty.lam)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@settings(max_examples=60, deadline=None)
@given(x=positive, ratio=positive)
def test_eta_trick_is_an_upper_bound_that_eta_hat_attains(penalty, x, ratio):
    w, eta = x * scale(penalty), ratio * penalty.lam
    value, best = float(penalty(w)), float(penalty.eta_hat(w))
    assert value <= 0.5 * (w**2 / eta + float(penalty.dual(eta))) * (1 + 4e-15)
    if np.isfinite(best):
        assert abs(0.5 * (w**2 / best + float(penalty.dual(best))) / value - 1) < 2e-14


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@settings(max_examples=40, deadline=None)
@given(x=positive, factor=st.floats(1.0001, 10))
def test_omega_rises_and_its_slope_over_w_falls(penalty, x, factor):
    low, high = x * scale(penalty), x * factor * scale(penalty)
    assert penalty(low) <= penalty(high) * (1 + 1e-15)
    assert penalty.eta_hat(low) <= penalty.eta_hat(high) * (1 + 1e-15)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_numpy_and_torch_agree_and_vmap_works(penalty):
    w = np.concatenate([[0.0], np.logspace(-12, 6, 300)]).reshape(7, 43) * scale(penalty)
    tensor = torch.tensor(w)
    for method in ("__call__", "grad", "hess", "eta_hat"):
        ours, theirs = getattr(penalty, method)(w), getattr(penalty, method)(tensor).numpy()
        assert np.allclose(ours, theirs, rtol=1e-13, atol=1e-300), method
    mapped = torch.func.vmap(torch.func.vmap(torch.func.grad(lambda one: penalty(one))))(tensor)
    assert torch.allclose(mapped, penalty.grad(tensor), rtol=1e-14, atol=0)
    single = penalty(tensor.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), penalty(tensor), rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_value_and_grad_equals_both_calls(penalty):
    w = np.linspace(-3, 3, 20_001) * scale(penalty)
    value, grad = penalty.value_and_grad(w)
    assert np.array_equal(value, penalty(w)) and np.allclose(grad, penalty.grad(w), rtol=1e-15, atol=0)
    value, grad = penalty.value_and_grad(torch.tensor(w, requires_grad=True))
    assert not value.requires_grad and np.allclose(grad.numpy(), penalty.grad(w), rtol=1e-14, atol=0)


def test_variational_dropout_against_hypergeometric_functions():
    """Relative error of value and gradient at 150 random places over 24 decades."""
    rng, exact, worst = np.random.default_rng(1), VariationalDropout(1.0), np.zeros(2)
    for power in rng.uniform(-12, 24, 150):
        s = mpmath.mpf(10) ** mpmath.mpf(power)
        with mpmath.workdps(40 + 2 * max(0, int(power))):
            phi, half = mpmath.hyp1f1(1, 1.5, -s), s * mpmath.hyp2f2(1, 1, 1.5, 2, -s)
            rate, weight = (1 - (1 + 2 * s) * phi) / (2 * s), 2 * s * mpmath.sqrt(phi)
            shift = mpmath.mpf(float(weight)) - weight
            slope = mpmath.sqrt(phi) + rate / (4 * phi + 2 * s * rate) * shift
            value = s * phi + half + mpmath.sqrt(phi) * shift
            got = exact(float(weight)), exact.grad(float(weight))
            worst = np.maximum(worst, [float(abs(a / b - 1)) for a, b in zip(got, (value, slope), strict=True)])
    assert worst[0] < 5e-15 and worst[1] < 1e-14, worst


def brute_force(weights, beta, gamma, zeta):
    """Omega by a fine grid over log a, moments by 600 Gauss-Legendre nodes in t: exact to about 1e-6."""
    node, weight = np.polynomial.legendre.leggauss(600)
    t, weight = ((node + 1) / 2) ** 3, weight / 2 * 3 * ((node + 1) / 2) ** 2
    log_a = np.linspace(-30, 30, 6001)[:, None]
    above = expit(log_a - beta * np.log((t - gamma) / (zeta - t)))
    mean = above @ weight
    # 1 - s has the same variance and does not cancel where s is close to 1
    below_mean = (1 - above) @ weight
    small, large = above @ (2 * t * weight) - mean**2, (1 - above) @ (2 * (1 - t) * weight) - below_mean**2
    variance = np.where(mean < 0.5, small, large)
    opened = expit(log_a[:, 0] - beta * np.log(-gamma / zeta))
    keep = variance > 1e-14 * mean**2
    values = [np.min((w**2 * variance / mean**2 + opened)[keep]) / 2 for w in weights]
    return np.minimum(values, 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_random_gates_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    beta, gamma, zeta = rng.uniform(0.05, 2), -(10 ** rng.uniform(-2, 1)), 1 + 10 ** rng.uniform(-2, 1)
    penalty = HardConcreteL0(1.0, beta, gamma, zeta)
    weights = np.concatenate([np.linspace(0.02, 1.3, 12), [0.999, 1.001]]) * penalty.jump_weight
    assert np.abs(brute_force(weights, beta, gamma, zeta) - penalty(weights)).max() < 2e-6
    assert np.abs(penalty(weights)).max() <= 0.5


@pytest.mark.parametrize("seed", range(12))
def test_random_gates_follow_their_own_curve(seed):
    rng = np.random.default_rng(100 + seed)
    beta, gamma, zeta = rng.uniform(0.05, 2), -(10 ** rng.uniform(-3, 1)), 1 + 10 ** rng.uniform(-3, 1)
    penalty = HardConcreteL0(1.0, beta, gamma, zeta)
    ratio, opened, weight, value = hard_concrete_curve(np.linspace(-45, 45, 2001), beta, gamma, zeta)
    optimal = (value < 0.5) & (weight < penalty.jump_weight) & (ratio < penalty.jump_eta) & (weight > 0)
    ratio, opened, weight, value = (part[optimal] for part in (ratio, opened, weight, value))
    kappa = 1 + np.abs(weight * penalty.hess(weight) / penalty.grad(weight))
    assert np.abs(penalty(weight) / value - 1).max() < 2e-14
    assert (np.abs(penalty.grad(weight) * ratio / weight - 1) / kappa).max() < 4e-14
    assert np.abs(penalty.dual(ratio) / opened - 1).max() < 2e-14
    assert len(weight) > 500


def test_threshold_of_convexity_is_crossed_without_loss():
    below, above = (HardConcreteL0(1.0, beta=beta) for beta in (0.46125, 0.46135))
    w = np.linspace(0.001, 0.999, 500) * above.jump_weight
    assert below.double_well is None or above.double_well is not None
    assert np.abs(below(w) - above(w)).max() < 1e-4
    assert np.isinf(HardConcreteL0(1.0, beta=0.460).jump_eta) and np.isfinite(HardConcreteL0(1.0, beta=0.462).jump_eta)


def test_tables_are_built_once_and_have_no_steps():
    _family.cache_clear()
    for lam in (0.1, 1.0, 7.0):
        HardConcreteL0(lam)(0.3)
    assert _family.cache_info().misses == 1
    edges = np.arange(1, 256) / 256
    x = 2 * edges / (1 - edges)
    exact = VariationalDropout(1.0)
    assert np.abs(exact.grad(x * (1 - 1e-15)) / exact.grad(x * (1 + 1e-15)) - 1).max() < 2e-14


def test_table_and_rule_reject_or_survive_odd_sizes():
    for count in (1, 3, 7, 40):
        node, weight = gauss_legendre(count)
        assert len(node) == count and (np.diff(node) > 0).all() and abs(weight.sum() - 1) < 1e-14
    table = PanelTable.fit(lambda z: (z, z**2), panels=1, terms=3)
    assert np.allclose(table(np.array([0.0, 0.25, 1.0]), (0, 1)), [[0, 0.25, 1], [0, 0.0625, 1]], atol=1e-15)
