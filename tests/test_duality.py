"""Properties of the numeric duality over families and random inputs, beyond what the pages show."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_dropout.duality import (
    check_subquadratic,
    dual_from_penalty,
    penalty_from_dual,
    penalty_from_update,
)
from adaptive_dropout.effective import BiasedBernoulli, HardConcreteL0, Standout, VariationalDropout
from adaptive_dropout.envelope import Envelope, _EtaProblem, sample
from adaptive_dropout.penalties import (
    L0,
    L1,
    L2,
    MCP,
    SCAD,
    Atan,
    CappedL1,
    CappedL2,
    Cauchy,
    ElasticNet,
    Exponential,
    Fraction,
    GemanMcClure,
    Huber,
    LogSquareSum,
    LogSum,
    Lp,
    PseudoHuber,
    Welsch,
)

COUNT = 400
CLASSICAL = (L1(), L2(), Lp(0.5), Lp(1.5), ElasticNet(0.7), Huber(0.4), PseudoHuber(0.3), LogSum(2.0))
BOUNDED = (MCP(0.5, 1.4), SCAD(3.7, 0.5), CappedL1(0.6), CappedL2(0.6), L0(), Atan(0.5), GemanMcClure(0.5), Welsch(0.5))
OTHERS = (LogSquareSum(0.5), Cauchy(0.8), Exponential(0.5), Fraction(0.5))
EFFECTIVE = (Standout(0.7, 1.3), VariationalDropout(0.5), HardConcreteL0(0.5), BiasedBernoulli(0.5))


@pytest.mark.parametrize("penalty", CLASSICAL + BOUNDED + OTHERS + EFFECTIVE, ids=repr)
def test_closed_forms_are_found_from_their_duals_and_rules(penalty):
    """Three roads to one penalty: its closed form, its dual, its rule."""
    w = np.concatenate([np.logspace(-4, 3, 60), np.linspace(0.02, 2, 40)])
    omega = lambda x: penalty(x) - penalty(0.0)
    by_dual = penalty_from_dual(penalty.dual)
    assert np.abs(by_dual(w) / omega(w) - 1).max() < 1e-14
    assert np.abs(by_dual.grad(w) - penalty.grad(w)).max() < 2e-8 * (1 + np.abs(penalty.grad(w)).max())
    assert by_dual.sparse == penalty.sparse and by_dual.convex == penalty.convex
    v = np.random.default_rng(0).uniform(-3, 3, 200)
    cost = lambda x: 0.5 * (x - v) ** 2 + 0.5 * penalty(x)
    best = penalty.prox(v, 0.5)
    assert (cost(by_dual.prox(v, 0.5)) <= cost(best) + 1e-14 * np.maximum(1, v**2)).all()
    eta = np.logspace(-3, 4, 60)
    f, twin = dual_from_penalty(penalty)(eta), penalty.dual(eta)
    finite = np.isfinite(twin)
    assert np.array_equal(np.isfinite(f), finite)
    assert np.abs(f[finite] - twin[finite]).max() < 1e-12 * (1 + twin[finite].max())
    if isinstance(penalty, L0):
        return  # eta_hat is 0 or inf: no integral
    by_rule = penalty_from_update(eta_hat=penalty.eta_hat)
    assert np.abs(by_rule(w) / omega(w) - 1).max() < 1e-12
    assert (cost(by_rule.prox(v, 0.5)) <= cost(best) + 1e-14 * np.maximum(1, v**2)).all()


def test_a_known_slope_resolves_what_differences_cannot():
    """MCP near its end: f differs from 1 by less than rounding, but f' does not vanish."""
    penalty = penalty_from_dual(lambda e: e / (e + 1), lambda e: 1 / (e + 1) ** 2)
    w = 1 - np.array([1e-6, 1e-9, 1e-11])
    assert (np.abs(penalty.eta_hat(w) * (1 - w) / w - 1) < 1e-15 / (1 - w)).all()
    assert penalty.eta_hat(1.0 + 1e-9) == np.inf and penalty.weights_where_eta_jumps == []


def slopes_dual(slopes, offsets):
    """min_k (offset_k + slope_k eta): its penalty is min_k (offset_k / 2 + sqrt(slope_k) w), exactly."""
    f = lambda eta: (offsets[:, None] + slopes[:, None] * np.ravel(eta)).min(axis=0).reshape(np.shape(eta))
    omega = lambda w: (offsets[:, None] / 2 + np.sqrt(slopes[:, None]) * np.ravel(w)).min(axis=0).reshape(np.shape(w))
    return f, omega


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_random_minima_of_lines(seed, pieces):
    rng = np.random.default_rng(seed)
    slopes = np.sort(10 ** rng.uniform(-4, 1, pieces))[::-1]
    offsets = np.append(0, np.cumsum(10 ** rng.uniform(-2, 1, pieces - 1)))
    f, omega = slopes_dual(slopes, offsets)
    penalty = penalty_from_dual(f)
    w = np.concatenate([[0], 10 ** rng.uniform(-6, 4, COUNT)])
    assert np.abs(penalty(w)[1:] / omega(w)[1:] - 1).max() < 1e-12
    ties = [x for x in penalty.weights_where_eta_jumps if x > 1e-10]
    kinks = [float(np.interp(0, *_crossing(slopes, offsets, j, k))) for j in range(pieces) for k in range(j)]
    assert all(min(abs(tie / kink - 1) for kink in kinks if kink > 0) < 1e-10 for tie in ties)
    _check_prox(penalty, omega, rng)


def _crossing(slopes, offsets, j, k):
    """Where penalties j and k cross, as two points for np.interp at 0."""
    gap = lambda w: (offsets[j] - offsets[k]) / 2 + (np.sqrt(slopes[j]) - np.sqrt(slopes[k])) * w
    root = (offsets[j] - offsets[k]) / 2 / (np.sqrt(slopes[k]) - np.sqrt(slopes[j]))
    assert abs(gap(root)) < 1e-9 * (1 + abs(root))
    return [-1, 1], [root, root]


def _check_prox(penalty, omega, rng):
    v = rng.uniform(-4, 4, 100)
    grid = v * np.linspace(0, 1, 501)[:, None]
    for step in (10 ** rng.uniform(-2, 1), 10 ** rng.uniform(-2, 1, 100)):
        objective = lambda w, step=step: 0.5 * (w - v) ** 2 + step * omega(np.abs(w))
        assert (objective(penalty.prox(v, step)) <= objective(grid).min(axis=0) + 1e-13 * np.maximum(1, v**2)).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 1.95), st.floats(-3, 3))
def test_powers_there_and_back(p, log_scale):
    scale = 10**log_scale
    omega = lambda w: scale * np.abs(w) ** p / p
    eta_hat = lambda w: w ** (2 - p) / scale
    w = np.logspace(-4, 4, 30)
    eta = eta_hat(w)
    f = 2 * omega(w) - w**2 / eta
    assert np.abs(dual_from_penalty(omega)(eta) / f - 1).max() < 1e-11
    by_update = penalty_from_update(eta_hat=eta_hat)
    assert np.abs(by_update(w) / omega(w) - 1).max() < 1e-12 / min(p, 1)
    back = penalty_from_dual(lambda e: (2 - p) / p * scale * (scale * e) ** (p / (2 - p)))
    assert np.abs(back(w) / omega(w) - 1).max() < 1e-12 and np.abs(back.eta_hat(w) / eta - 1).max() < 1e-8
    assert by_update.convex == back.convex == (p >= 1) or abs(p - 1) < 1e-3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=4), st.integers(0, 10**6))
def test_step_rules(log_places, seed):
    """eta_hat constant between jumps: a penalty of parabolas joined at the jumps."""
    rng = np.random.default_rng(seed)
    places = np.unique(np.round(10 ** np.array(log_places), 4))
    places = places[places > 0]
    levels = np.cumsum(10 ** rng.uniform(-1, 1, places.size + 1))
    penalty = penalty_from_update(eta_hat=lambda w: levels[np.searchsorted(places, w, side="right")])
    w = 10 ** rng.uniform(-5, 5, COUNT)
    ends = np.append(0, places)
    base = np.append(0, np.cumsum(np.diff(ends**2) / (2 * levels[:-1])))
    k = np.searchsorted(places, w, side="right")
    truth = base[k] + (w**2 - ends[k] ** 2) / (2 * levels[k])
    assert np.abs(penalty(w) / truth - 1).max() < 1e-12
    assert np.array_equal(penalty.grad(w), w / levels[k])
    assert all(min(np.abs(places / jump - 1)) < 1e-9 for jump in penalty.weights_where_eta_jumps)


def test_a_bounded_dual_beyond_its_maxwell_weight():
    """A double well that is smooth: 1 - exp(-(log(1 + eta))**3) saturates, and no large finite eta is ever optimal."""
    f = lambda eta: -np.expm1(-(np.log1p(eta) ** 3))
    penalty = penalty_from_dual(f)
    (tie,) = penalty.weights_where_eta_jumps[-1:]
    eta = np.exp(np.linspace(-20, 40, 400_001))
    for w in (0.3 * tie, 0.9 * tie, tie * (1 - 1e-6), tie * (1 + 1e-6), 3 * tie):
        brute = min((0.5 * (w**2 / eta + f(eta))).min(), 0.5)
        assert penalty(w) <= brute * (1 + 1e-14) and penalty(w) >= brute * (1 - 1e-8)
    assert penalty(tie * (1 + 1e-9)) == 0.5 and penalty.eta_hat(tie * (1 - 1e-9)) < 100


def test_a_hull_with_gaps_in_the_domain():
    f = lambda eta: np.where((eta < 0.5) | (eta > 2), eta, np.inf)
    penalty = penalty_from_dual(f)
    w = np.linspace(0.01, 5, 300)
    brute = np.minimum(np.where(w < 0.5, w, 0.5 * (w**2 / 0.5 + 0.5)), np.where(w > 2, w, 0.5 * (w**2 / 2 + 2)))
    assert np.abs(penalty(w) / brute - 1).max() < 1e-12
    assert np.allclose(penalty.weights_where_eta_jumps, [1.0], rtol=1e-12), "w**2 / 2 = 1 / 2: both ends cost the same"
    assert abs(penalty.dual(1.0) - (0.5 + 1.0 * (2 - 1))) < 1e-12


def test_the_derivative_changes_nothing_but_digits():
    f, derivative = lambda e: np.log1p(e) + e / (1 + e), lambda e: 1 / (1 + e) + 1 / (1 + e) ** 2
    with_it, without = penalty_from_dual(f, derivative), penalty_from_dual(f)
    w = np.logspace(-6, 6, 200)
    assert np.abs(with_it(w) / without(w) - 1).max() < 1e-14
    assert np.abs(with_it.grad(w) / without.grad(w) - 1).max() < 1e-8
    v = np.linspace(-5, 5, 101)
    assert np.abs(with_it.prox(v, 0.7) - without.prox(v, 0.7)).max() < 1e-8
    assert np.array_equal(with_it.prox(v, 0.7), -with_it.prox(-v, 0.7))


def test_hessian_is_the_derivative_of_the_gradient():
    for penalty in (
        penalty_from_dual(np.sqrt),
        penalty_from_dual(lambda e: e / (1 + e), lambda e: 1 / (1 + e) ** 2),
        penalty_from_update(eta_hat=lambda w: w * (1 + w) ** 2),
    ):
        w, h = np.array([0.05, 0.3, 0.7]), 1e-5
        numeric = (penalty.grad(w + h) - penalty.grad(w - h)) / (2 * h)
        assert np.abs(penalty.hess(w) / numeric - 1).max() < 1e-7


def test_float32_and_scalars():
    penalty = penalty_from_update(np.tanh)
    assert penalty(np.float32(0.5)).dtype == np.float32 and isinstance(penalty(0.5), float)
    assert abs(penalty(np.float32(0.5)) / penalty(0.5) - 1) < 1e-6 and penalty(-0.5) == penalty(0.5)


@pytest.mark.parametrize(
    "call, kind, word",
    [
        (lambda: penalty_from_dual(lambda e: np.log(e) - 0.1 / e), ValueError, "f is not bounded below"),
        (lambda: penalty_from_dual(lambda e: -np.sqrt(e)), ValueError, "f is not bounded below"),
        (lambda: penalty_from_dual(lambda e: -1 / e**2), ValueError, "f is not bounded below"),
        (lambda: penalty_from_update(np.ones_like), ValueError, "eta_hat is infinite (alpha_hat is 1) for all"),
        (lambda: penalty_from_update(lambda w: 1), ValueError, "eta_hat is infinite (alpha_hat is 1) for all"),
        (lambda: penalty_from_update(lambda w: np.where(w < 1, 1.5, 0.4)), ValueError, "alpha_hat must lie in"),
        (lambda: penalty_from_update(lambda w: np.exp(-w)), ValueError, "alpha_hat decreases for |w| from 1e-18"),
        (lambda: penalty_from_update(lambda w: np.sqrt(1 - w)), ValueError, "alpha_hat is NaN for |w| from 1.0"),
        (lambda: penalty_from_dual(lambda e: -1 / e), ValueError, "f is not bounded below"),
        (lambda: penalty_from_dual(lambda e: np.full_like(e, np.inf)), ValueError, "f is infinite"),
        (lambda: penalty_from_dual(lambda e: e * 1j), TypeError, "f must return"),
        (lambda: penalty_from_dual(np.sqrt, eta_max=np.nan), ValueError, "eta_max"),
        (lambda: penalty_from_dual(np.sqrt, eta_min=2.0, eta_max=1.0), ValueError, "eta_max"),
        (lambda: penalty_from_dual(np.sqrt, points=3), ValueError, "points"),
        (lambda: penalty_from_dual(np.sqrt, derivative=3), TypeError, "derivative"),
        (lambda: penalty_from_dual(np.sqrt)([np.nan]), ValueError, "w contains NaN"),
        (lambda: penalty_from_dual(np.sqrt)(1j), TypeError, "w"),
        (lambda: penalty_from_update(lambda w: w - 1), ValueError, "alpha_hat must lie in (0, 1], got"),
        (lambda: penalty_from_update(np.tanh, lam=0), ValueError, "lam"),
        (lambda: penalty_from_update(lambda w: 0.5 if w < 1 else 1.0), ValueError, "alpha_hat gets an array"),
        (lambda: penalty_from_update(lambda w: math.tanh(w)), TypeError, "alpha_hat gets an array"),
        (lambda: penalty_from_update(lambda w: w**2 / (1 + w**2)), ValueError, "eta_hat vanishes so fast"),
        (lambda: penalty_from_update("eta"), TypeError, "alpha_hat must be a function, got 'eta'"),
        (lambda: penalty_from_update(), TypeError, "give exactly one function: omega, alpha_hat, eta_hat; got none"),
        (lambda: penalty_from_update(eta_hat=lambda w: w[:1]), ValueError, "eta_hat must return"),
        (lambda: dual_from_penalty(np.square, w_min=-1.0), ValueError, "w_min"),
        (lambda: dual_from_penalty(lambda w: w**2)(-1.0), ValueError, "eta must be non-negative"),
        (lambda: dual_from_penalty(lambda w: w**4), ValueError, "omega has no dual"),
        (lambda: dual_from_penalty(3), TypeError, "omega must be a function, got 3"),
        (lambda: check_subquadratic(np.abs, w_min=0), ValueError, "w_min"),
        (lambda: check_subquadratic(np.abs, w_max=np.nan), ValueError, "w_max"),
    ],
)
def test_mistakes_are_named(call, kind, word):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(word)


def test_an_overflow_is_named_and_no_hull_offered_where_there_is_none():
    for omega, offered in ((lambda w: np.log(np.cosh(2 * w)) / 2, False), (lambda w: w**4, True)):
        with pytest.raises(ValueError) as caught:
            dual_from_penalty(omega)
        assert ("an overflow? it is evaluated up to |w| = 1e+08" in str(caught.value)) is not offered
        assert ("allow_hull=True" in str(caught.value)) is offered


def test_nothing_is_hidden_by_the_grid_above_its_spacing():
    """Wells 0.2 wide in log eta, far apart, are all found."""
    centres = np.array([-20.0, -3.0, 5.0, 30.0])

    def bumpy(eta):
        return np.log1p(eta) - sum(0.05 * np.exp(-(((np.log(eta) - c) / 0.2) ** 2)) for c in centres) + 1

    envelope = Envelope(_EtaProblem(bumpy), sample(bumpy, 1e-32, 1e32, 4801))
    y = 10 ** np.linspace(-30, 30, 200)
    eta = np.exp(np.linspace(-70, 70, 140_001))
    brute = np.array([(bumpy(eta) + one / eta).min() for one in y])
    best = envelope(y)
    assert ((bumpy(best) + y / best) <= brute * (1 + 1e-14)).all()


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.1, 3.3])
def test_a_parabola_has_an_indicator_dual(scale):
    """At eta = scale all weights tie, and rounding must not turn the tie into a value."""
    dual = dual_from_penalty(lambda w: w**2 / (2 * scale))
    inside = scale * np.array([1e-6, 0.5, 0.999999, 1.0])
    assert np.abs(dual(inside)).max() < 1e-12 and np.isinf(dual(scale * np.array([1.00001, 2.0, 1e9]))).all()


SATURATING = (lambda e: e / (1 + e), lambda e: 1 / (1 + e) ** 2)
CONSTANTS = {  # f with a constant, without it, f'
    "1 + eta": (lambda e: 1 + e, lambda e: e, np.ones_like),
    "exp": (np.exp, np.expm1, np.exp),
    "1 - 1 / (1 + eta)": (lambda e: 1 - 1 / (1 + e), *SATURATING),
    "5 - 1 / (1 + eta)": (lambda e: 5 - 1 / (1 + e), *SATURATING),
    "1e3 + sqrt": (lambda e: 1e3 + np.sqrt(e), np.sqrt, lambda e: 0.5 / np.sqrt(e)),
    "log(2 + eta)": (lambda e: np.log(2 + e), lambda e: np.log1p(e / 2), lambda e: 1 / (2 + e)),
    "1e6 + eta": (lambda e: 1e6 + e, lambda e: e, np.ones_like),
    "cosh": (np.cosh, lambda e: 2 * np.sinh(e / 2) ** 2, np.sinh),
    "1 + eta**1.7": (lambda e: 1 + e**1.7, lambda e: e**1.7, lambda e: 1.7 * e**0.7),
    "3 + eta**0.1": (lambda e: 3 + e**0.1, lambda e: e**0.1, lambda e: 0.1 * e**-0.9),
    "two slopes": (lambda e: 7 + np.minimum(e, 0.5 + e / 4), lambda e: np.minimum(e, 0.5 + e / 4), None),
}


@pytest.mark.parametrize("with_slope", [False, True])
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_leaves_seven_digits(name, with_slope):
    """The same dual with and without its constant: values 2e-7, gradients 2e-7, no jump and no zero more or less."""
    f, free, derivative = CONSTANTS[name]
    given = derivative if with_slope else None
    penalty, exact = penalty_from_dual(f, given), penalty_from_dual(free, derivative)
    w = np.concatenate([np.logspace(-25, -1, 200), np.linspace(0.01, 0.95, 30)])
    assert np.abs(penalty(w) / exact(w) - 1).max() < 2e-7
    error = np.abs(penalty.grad(w) - exact.grad(w)) / np.maximum(exact.grad(w), exact(w) / w)
    assert error.max() < (1e-12 if given else 2e-7)
    assert np.abs((penalty.hess(w) - exact.hess(w)) * w**2 / exact(w)).max() < 2e-5
    eta = np.logspace(-20, 1, 60)
    assert np.abs(penalty.dual(eta) / exact.dual(eta) - 1).max() < 3e-7
    assert penalty.sparse == exact.sparse and penalty.convex == exact.convex
    assert np.allclose(penalty.weights_where_eta_jumps, exact.weights_where_eta_jumps, rtol=1e-9, atol=0)
    v = np.linspace(-2, 2, 101)
    for step in (0.3, np.linspace(0.2, 0.4, 101)):
        assert np.abs(penalty.prox(v, step) - exact.prox(v, step)).max() < 1e-7
        assert np.array_equal(penalty.prox(v, step) == 0, exact.prox(v, step) == 0)


def test_a_staircase_above_its_constant():
    """Points beside grid samples, dips by a rounding error, hess(0), NaN at infinity."""
    penalty = penalty_from_dual(lambda e: 1 + e)
    w = 10 ** np.linspace(-32, 32, 4801)[1830:2000] * (1 + 1e-5)
    assert np.abs(penalty.grad(w) - 1).max() < 2e-7, "a neighbouring sample would be off by 1e-5"
    dips = penalty_from_dual(lambda e: 1 + e - 4 * np.finfo(float).eps * ((e > 1e-16) & (e < 4e-16)))
    assert dips.sparse and dips.eta_hat(0.0) == 0 and dips.offset == 0.5 and dips.prox(0.9, 1.0) == 0
    assert np.abs(dips(w) / w - 1).max() < 1e-7 and (dips.dual(np.logspace(-16, -12, 50)) >= 0).all()
    assert abs(penalty.hess(0.0)) < 1e-3 and abs(penalty_from_dual(lambda e: 1 + np.log1p(e)).hess(0.0) + 0.5) < 1e-3
    with pytest.raises(ValueError, match="f is not bounded below"):
        penalty_from_dual(lambda e: -np.sqrt(e) + 0 * e)


def test_digits_that_the_next_term_costs():
    """1 + eta**2 + eta**3 is no power near 1e-4, where its digits begin: four digits below."""
    penalty, exact = penalty_from_dual(lambda e: 1 + e**2 + e**3), penalty_from_dual(lambda e: e**2 + e**3)
    w = np.logspace(-25, 0, 200)
    assert 1e-5 < np.abs(penalty(w) / exact(w) - 1).max() < 2e-4 and not penalty.sparse and penalty.convex


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e5])
def test_a_plateau_is_not_a_lost_digit(scale):
    """Zero up to a kink and rounding below a constant look alike from afar."""
    for f in (lambda e: np.maximum(e - 0.5, 0), lambda e: np.where(e > 0.5, np.sqrt(np.maximum(e, 0.5) - 0.5), 0)):
        penalty = penalty_from_dual(lambda e, f=f: scale * f(e))
        assert abs(penalty.eta_hat(0.0) - 0.5) < 1e-6 and abs(penalty.hess(0.0) - 2) < 1e-5 and not penalty.sparse


@pytest.mark.parametrize("slope", [0.1, 1 / 3, 1.0, 7.0])
@pytest.mark.parametrize("make", [
    lambda s: penalty_from_dual(lambda e: s * s * e),
    lambda s: penalty_from_dual(lambda e: 3 + s * s * e),
    lambda s: penalty_from_update(eta_hat=lambda w: w / s),
])  # fmt: skip
def test_a_weight_at_the_threshold_is_an_exact_zero(make, slope):
    """The penalty slope * |w| at v = slope * step."""
    penalty, step = make(slope), np.array([1e-3, 0.1, 0.3, 1 / 3, 0.7, 1.0, 3.3, 1e3])
    assert (penalty.prox(slope * step, step) == 0).all()
    assert all(penalty.prox(slope * one, one) == 0 for one in step)
    above = penalty.prox(slope * step * (1 + 1e-6), step)
    assert np.abs(above / (slope * step * 1e-6) - 1).max() < 0.1


EDGES = 10 ** np.linspace(-18, 18, 1334)


@pytest.mark.parametrize("place", [1.0, 2.0, 1e-3, 10.0, 0.5, *EDGES[[40, 600, 666, 667, 700, 1332]]])
@pytest.mark.parametrize("rule", [
    lambda w, place: np.where(w < place, w, 2 * w),
    lambda w, place: np.where(w <= place, w, 2 * w),
    lambda w, place: np.where(w < place, w, np.inf),
])  # fmt: skip
def test_jumps_at_edges_of_panels(rule, place):
    """A jump is listed once, to the last bit, wherever it falls on the table's panels."""
    (jump,) = penalty_from_update(eta_hat=lambda w: rule(w, place)).weights_where_eta_jumps
    assert abs(jump / place - 1) < 1e-15


def test_no_jump_where_the_penalty_is_zero():
    assert penalty_from_update(eta_hat=lambda w: 1 + w**2, origin=EDGES[667]).weights_where_eta_jumps == []


def test_jumps_at_the_ends_of_the_table():
    last = penalty_from_update(eta_hat=lambda w: np.where(w < 1e18, w, 2 * w))
    assert last.weights_where_eta_jumps == [1e18]
    for place in (1e-18, 1e18):
        for rule in (lambda w, p=place: np.where(w < p, w, 2 * w), lambda w, p=place: np.where(w <= p, w, 2 * w)):
            penalty = penalty_from_update(eta_hat=rule)
            assert len(penalty.weights_where_eta_jumps) <= 1 and abs(penalty(1.0) / (1 - (place < 1) / 2) - 1) < 1e-12


RULES = {  # alpha_hat as a careless user writes it, eta_hat for lam = 1 without cancellation, digits
    "1 - 1 / (1 + w)": (lambda w: 1 - 1 / (1 + w), lambda w: w, 1e-7),
    "1 - exp(-w)": (lambda w: 1 - np.exp(-w), np.expm1, 1e-7),
    "w / (w + 0.01)": (lambda w: w / (w + 0.01), lambda w: 100 * w, 1e-7),
    "(1 + w^2) / (2 + w^2)": (lambda w: (1 + w**2) / (2 + w**2), lambda w: 1 + w**2, 1e-7),
    "sqrt(w) / (1 + sqrt(w))": (lambda w: np.sqrt(w) / (1 + np.sqrt(w)), np.sqrt, 1e-7),
    "overflow": (lambda w: np.exp(w) / (1 + np.exp(w)), np.exp, 1e-7),
    "overflow of a power": (lambda w: (1 + w**50) / (2 + w**50), lambda w: 1 + w**50, 1e-7),
}


@pytest.mark.parametrize("name", RULES)
def test_careless_rules(name):
    """Overflow and cancellation of alpha or 1 - alpha do not change the verdict, and leave seven digits of Omega."""
    alpha_hat, eta_hat, bound = RULES[name]
    penalty, exact = penalty_from_update(alpha_hat), penalty_from_update(eta_hat=eta_hat)
    w = np.logspace(-20, 25, 200)
    assert np.abs(penalty(w) / exact(w) - 1).max() < bound
    assert np.isfinite(penalty.grad(w)).all() and penalty.sparse == exact.sparse
    error = np.abs(penalty.grad(w) - exact.grad(w)) / np.maximum(exact.grad(w), exact(w) / w)
    assert error.max() < bound and penalty.weights_where_eta_jumps == []
    assert check_subquadratic(alpha_hat=alpha_hat, w_min=1e-18, w_max=1e18)


def test_a_dual_that_falls_to_minus_infinity():
    """log eta is the dual of log|w| + 1/2, and -1/sqrt(eta) of -1/(8 w**2): a pole at 0, finite elsewhere."""
    w = np.logspace(-25, 25, 101)
    penalty, twin = penalty_from_dual(np.log), LogSum(0.0)
    assert np.abs(penalty(w) - twin(w) - 0.5).max() < 3e-14 and penalty(0.0) == -np.inf and penalty.offset == 0
    assert np.abs(penalty.grad(w) * w - 1).max() < 1e-11 and np.abs(penalty.hess(w) * w**2 + 1).max() < 1e-8
    assert penalty.sparse and not penalty.convex and penalty.hess(0.0) == -np.inf and penalty.grad(0.0) == 0
    v, step = np.array([-3.0, 0.0, 1e-9, 7.0]), np.array([0.1, 1.0, 2.0, 0.0])
    assert penalty.prox(v, step).tolist() == twin.prox(v, step).tolist() == [0, 0, 0, 7]
    assert np.abs(penalty.dual(w) - np.log(w)).max() < 1e-12 and penalty.dual([0, np.inf]).tolist() == [-np.inf, np.inf]
    known = penalty_from_dual(np.log, lambda e: 1 / e)
    assert np.abs(known.eta_hat(w) / w**2 - 1).max() < 1e-14
    root = penalty_from_dual(lambda e: -1 / np.sqrt(e))
    w = np.logspace(-12, 7, 80)
    assert np.abs(root(w) * 8 * w**2 + 1).max() < 1e-12
