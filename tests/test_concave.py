"""Nonconvex penalties over random parameters: 40-digit references, global prox, single precision, torch."""

import math

import mpmath
import numpy as np
import pytest
import torch

from adaptive_dropout import concave, redescending
from adaptive_dropout.checks import condition_bound, relative_error

mp = mpmath
ROUNDOFF = 2.0**-53


def capped(inner, top):
    return lambda w: inner(w) if w < top else inner(top)


def scad(a, lam):
    middle = lambda w: (2 * a * lam * w - w * w - lam * lam) / (2 * (a - 1) * lam)
    return lambda w: w if w < lam else middle(w) if w < a * lam else (a + 1) * lam / 2


# Textbook definitions, in mpmath numbers: penalty class, parameters drawn from log-uniform ranges, Omega.
TEXTBOOK = {
    "LogSum": ([(-4, 4)], lambda s: lambda w: mp.log(w + s) - mp.log(s)),
    "MCP": ([(-1, 2), (-3, 3)], lambda a, lam: capped(lambda w: w - w * w / (2 * a * lam), a * lam)),
    "SCAD": ([(0.31, 2), (-3, 3)], scad),
    "CappedL1": ([(-4, 4)], lambda s: lambda w: min(w, s)),
    "CappedL2": ([(-4, 4)], lambda s: lambda w: min(w, s) ** 2 / 2),
    "Exponential": ([(-4, 4)], lambda s: lambda w: 1 - mp.exp(-w / s)),
    "Fraction": ([(-4, 4)], lambda s: lambda w: w / (w + s)),
    "Atan": ([(-4, 4)], lambda s: lambda w: mp.atan(w / s)),
    "LogSquareSum": ([(-4, 4)], lambda s: lambda w: mp.log(w * w + s) - mp.log(s)),
    "Cauchy": ([(-4, 4)], lambda s: lambda w: mp.log(1 + w * w / s**2) / 2),
    "GemanMcClure": ([(-4, 4)], lambda s: lambda w: w * w / (2 * (s * s + w * w))),
    "Welsch": ([(-4, 4)], lambda s: lambda w: 1 - mp.exp(-w * w / (2 * s * s))),
}
BOUNDED = {"Exponential", "Welsch"}  # their slope leaves the range of float64


def make(name, rng):
    "A penalty with random parameters, its scale, and its textbook definition with the very same (exact) parameters."
    ranges, definition = TEXTBOOK[name]
    parameters = [float(10 ** rng.uniform(*r)) for r in ranges]
    penalty = getattr(concave, name, None) or getattr(redescending, name)
    penalty = penalty(*parameters)
    return penalty, penalty._scale, definition(*map(mp.mpf, parameters))


def slope_of(omega):
    return lambda w: mp.diff(omega, w, h=w * mp.mpf(10) ** -25, direction=-1)


def dual_of(omega):
    "f(eta) = sup over w of 2 * Omega(w) - w**2 / eta, by ternary search in w: concave in w**2."

    def dual(eta):
        gain = lambda y: 2 * omega(mp.exp(y)) - mp.exp(2 * y) / eta
        low, high = mp.mpf(-40), mp.mpf(40)
        for _ in range(110):
            left, right = low + (high - low) / 3, high - (high - low) / 3
            low, high = (left, high) if gain(left) < gain(right) else (low, right)
        return max(gain((low + high) / 2), mp.mpf(0))

    return dual


@pytest.mark.parametrize("name", TEXTBOOK)
def test_values_against_forty_digits(name):
    rng = np.random.default_rng(1)
    for _ in range(4):
        penalty, scale, omega = make(name, rng)
        spread = 1.3 if name in BOUNDED else 6
        points = scale * 10 ** np.r_[rng.uniform(-6, spread, 8), rng.uniform(-0.7, 0.6, 8)]
        with mp.workdps(90):
            slope = slope_of(omega)
            ratio = lambda w, slope=slope: w / slope(w) if slope(w) > 0 else mp.inf
            for got, twin in ((penalty, omega), (penalty.grad, slope), (penalty.eta_hat, ratio)):
                close(got(points), twin, points)


def close(got, twin, points):
    truth = [twin(mp.mpf(float(x))) for x in points]
    bound = [condition_bound(twin, x) for x in points]
    error = relative_error(got, truth)
    assert all(e == 0 or e <= b for e, b in zip(error, bound, strict=True)), (error / bound).max()


@pytest.mark.parametrize("name", TEXTBOOK)
def test_dual_against_the_supremum(name):
    rng = np.random.default_rng(2)
    penalty, scale, omega = make(name, rng)
    start = float(penalty.eta_hat(0.0))
    points = penalty.eta_hat(scale * np.array([1e-3, 0.1, 0.5, 0.95, 3, 20]))
    points = np.r_[points[np.isfinite(points)], scale ** (2 - penalty._power) * np.array([1.5, 7.0, 1e5])]
    points = points if start == 0 else start * (1 + 10.0 ** np.array([-7, -4, -2, -0.6, -0.31, 0, 2, 4]))
    with mp.workdps(50):
        close(penalty.dual(points), dual_of(omega), points)
    if start > 0:
        assert penalty.dual(start * (1 - 1e-12)) == 0 == penalty.dual(0.0)
        steps = penalty.dual(start * (1 + np.logspace(-15, 3, 400)))
        assert (np.diff(steps) >= 0).all() and (steps >= 0).all(), "non-decreasing, close to where it starts too"


@pytest.mark.parametrize("name", TEXTBOOK)
def test_ends(name):
    penalty, scale, omega = make(name, np.random.default_rng(7))
    with mp.workdps(50):
        grows = name in ("LogSum", "Cauchy", "LogSquareSum")
        top = math.inf if grows else float(omega(mp.mpf(10) ** 40 * mp.mpf(scale)))
    for kind in (np.float32, np.float64):
        zero, infinite = kind(0), kind(np.inf)
        assert penalty(zero) == penalty.grad(zero) == penalty.dual(zero) == penalty.prox(zero, 1) == 0
        assert penalty.grad(infinite) == 0
        assert np.isclose(penalty(infinite), top, rtol=1e-6) and np.isclose(penalty.dual(infinite), 2 * top, rtol=1e-6)
        assert penalty.eta_hat(infinite) == penalty.prox(infinite, 1) == np.inf


@pytest.mark.parametrize("name", ["Cauchy", "LogSquareSum", "GemanMcClure", "Welsch"])
def test_duals_near_their_start_have_no_cancellation(name):
    "At scale 1 the dual's argument is exact, so the error may stay below rounding, whatever the condition number."
    penalty, omega = getattr(redescending, name)(1.0), TEXTBOOK[name][1](mp.mpf(1))
    points = float(penalty.eta_hat(0.0)) * (1 + 2.0 ** np.arange(-40, 0, 3))
    with mp.workdps(60):
        truth = [dual_of(omega)(mp.mpf(float(x))) for x in points]
    assert (relative_error(penalty.dual(points), truth) < 16 * ROUNDOFF).all()


def test_logarithm_and_count():
    w = np.array([1e-12, 0.3, 7.0, 1e6])
    assert np.allclose(concave.LogSum(0)(w), np.log(w), rtol=1e-15) and concave.LogSum(0).sparse
    assert np.allclose(concave.LogSum(0).dual(w**2) + 1, 2 * np.log(w), rtol=1e-14) and concave.LogSum(0).offset == 0
    assert concave.LogSum(0.2).offset == math.log(0.2) and redescending.LogSquareSum(0.2).offset == math.log(0.2)
    assert concave.L0().dual([0, 1e-9, 3]).tolist() == [0, 2, 2] and concave.L0()([0, 1e-9, -3]).tolist() == [0, 1, 1]


def problems(penalty, scale, rng, size):
    "Points and steps around the tie between w = 0 and w = v, with some far from it."
    v = np.where(rng.random(size) < 0.5, 10 ** rng.uniform(-6, 6, size), scale * 10 ** rng.uniform(-2, 2, size))
    tie = v**2 / np.maximum(penalty(v), 1e-300) / 2
    step = tie * np.where(rng.random(size) < 0.4, rng.uniform(0.3, 2.5, size), 10 ** rng.uniform(-3, 3, size))
    return v, np.where(rng.random(size) < 0.2, 10 ** rng.uniform(-6, 6, size), step)


def gain_over_zero(penalty, v, step):
    return lambda w: w * (v - w / 2) - step * penalty(w)


SHARES = np.unique(np.r_[np.linspace(0, 1, 301), np.logspace(-13, 0, 80), 1 - np.logspace(-13, -1, 30)])


@pytest.mark.parametrize("name", [*TEXTBOOK, "L0"])
def test_prox_is_global_and_stationary(name):
    rng = np.random.default_rng(3)
    for _ in range(20):
        penalty, scale = (concave.L0(), 1.0) if name == "L0" else make(name, rng)[:2]
        v, step = problems(penalty, scale, rng, 500)
        w, gain = penalty.prox(v, step), gain_over_zero(penalty, v, step)
        pull = step * penalty.grad(w)
        assert ((0 <= w) & (w <= v)).all()
        best = np.max([gain(share * v) for share in SHARES], axis=0)
        assert (best - gain(w) <= 1e-14 * np.maximum(1, v**2)).all()
        assert (best - gain(w) <= 1e-14 * v**2).all(), "relative to the problem's own size as well"
        inside = (w > 0) if penalty.sparse else np.full(w.shape, True)
        assert (np.abs(w - v + pull) <= 1e-14 * np.maximum(v, pull))[inside].all()
        signed = penalty.prox(torch.tensor(-v), torch.tensor(step)).numpy()
        assert (np.abs(gain(-signed) - gain(w)) <= 1e-14 * v**2).all(), "odd, and the same for tensors"


@pytest.mark.parametrize("name", [*TEXTBOOK, "L0"])
def test_single_precision(name):
    rng = np.random.default_rng(4)
    penalty = concave.L0() if name == "L0" else make(name, rng)[0]
    scale = getattr(penalty, "_scale", 1.0)
    x = (scale * 10 ** rng.uniform(-3, 1, 2000)).astype(np.float32)
    for method in (penalty, penalty.grad, penalty.eta_hat, penalty.dual):
        exact, shifted = method(x.astype(float)), method(x.astype(float) * (1 + 1e-6))
        with np.errstate(all="ignore"):
            kappa = np.nan_to_num(np.abs(shifted - exact) / (1e-6 * np.abs(exact)), posinf=0)
            slack = 8 * 2.0**-24 * (1.01 + kappa) * np.abs(exact)
        got = method(x)
        assert got.dtype == np.float32
        fine = (np.abs(exact) > 1e-36) & (np.abs(exact) < 1e36) & (np.abs(x / scale - 1) > 1e-5)
        assert (np.abs(got[fine] - exact[fine]) <= slack[fine]).all()


@pytest.mark.parametrize("name", TEXTBOOK)
def test_torch_derivatives(name):
    rng = np.random.default_rng(5)
    penalty, scale, _ = make(name, rng)
    points = scale * np.array([-7.3, -1.7, -0.3, 0.05, 0.6, 1.6]) / max(1.0, scale / 100)
    x = torch.tensor(points, requires_grad=True)
    tolerance = {"eps": 1e-7 * scale, "atol": 1e-5 * max(1.0, scale**-2), "rtol": 1e-3}
    assert torch.autograd.gradcheck(penalty, x, **tolerance)
    (first,) = torch.autograd.grad(penalty(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(second, torch.as_tensor(penalty.hess(points)), rtol=1e-14, atol=0)
    width = 1e-5 * scale
    numeric = (penalty.grad(points + width) - penalty.grad(points - width)) / (2 * width)
    assert np.allclose(penalty.hess(points), numeric, rtol=1e-6, atol=1e-7 * np.abs(numeric).max() + 1e-300)


def test_small_steps_keep_the_stationary_point():
    "The ends of the search are not stationary; rounding of the objective must not let them win."
    for name in ("Atan", "Cauchy", "GemanMcClure", "Welsch", "LogSquareSum"):
        penalty = make(name, np.random.default_rng(6))[0]
        v = penalty._scale * np.linspace(0.01, 1.2, 500)
        for step in penalty._scale**2 * np.logspace(-10, -5, 11):
            w = penalty.prox(v, step)
            pull = step * penalty.grad(w)
            assert (np.abs(w - v + pull) <= 1e-15 * v).all()


def test_cusp_where_three_stationary_points_meet():
    "Cauchy(1): at step 8 and v = 3 * sqrt(3) the objective's first three derivatives vanish at sqrt(3)."
    penalty, v = redescending.Cauchy(1), 3 * math.sqrt(3)
    w = penalty.prox(v, 8.0)
    assert abs(w - math.sqrt(3)) < 1e-4 and abs(w - v + 8 * penalty.grad(w)) < 1e-14 * v


def test_extreme_parameters_do_not_overflow():
    for scale in (1e-150, 1e150):
        for name in ("LogSum", "CappedL1", "Exponential", "Fraction", "Atan", "Cauchy", "GemanMcClure", "Welsch"):
            penalty = (getattr(concave, name, None) or getattr(redescending, name))(scale)
            unit = type(penalty)(1.0)
            power = penalty._power
            assert np.isclose(penalty(0.7 * scale), scale**power * unit(0.7), rtol=1e-14)
            shrunk = penalty.prox(2.5 * scale, 0.4 * scale ** (2 - power))
            assert np.isclose(shrunk, unit.prox(2.5, 0.4) * scale, rtol=1e-13)


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "1", 1j, None, True])
def test_bad_parameters_are_named(name, bad):
    cls = getattr(concave, name, None) or getattr(redescending, name)
    fields = list(cls.__dataclass_fields__)
    if name == "LogSum" and bad == 0 and bad is not False:
        assert cls(0).eps == 0
        return
    for field in fields:
        arguments = {**dict.fromkeys(fields, 3.0), field: bad}
        with pytest.raises((ValueError, TypeError), match=f"^{field} must .*{str(bad)[:2]}"):
            cls(**arguments)
