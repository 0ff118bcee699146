"""Heavier runs of what the pages on penalties show: random parameters, groups and precisions, 10,000 cases each."""

import subprocess
import sys
from dataclasses import fields, replace
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_dropout.effective import Standout
from adaptive_dropout.penalties import (
    CLASSICAL,
    L1,
    GroupL2,
    HardThreshold,
    LogSum,
    SquaredL1,
    describe,
    law_violations,
)
from adaptive_dropout.protocol import Penalty
from adaptive_dropout.variational_dropout import VariationalDropout

ROWS = {row.name: row for row in CLASSICAL if row.penalty.separable}
EVERY = pytest.mark.parametrize("name", ROWS)
RANGES = {"p": (0.05, 1.95), "a": (2.05, 8.0)}  # other parameters: powers of ten from 0.1 to 10
quick = settings(max_examples=60, deadline=None, derandomize=True)


def random_member(name, rng):
    """The example of a class with random parameters."""
    penalty, values = ROWS[name].penalty, {}
    for parameter in fields(penalty):
        low, high = RANGES.get(parameter.name, (None, None))
        values[parameter.name] = 10 ** rng.uniform(-1, 1) if low is None else rng.uniform(low, high)
    return replace(penalty, **values)


# ---- the laws ----


@EVERY
def test_laws_hold_for_random_parameters(name):
    rng = np.random.default_rng(1)
    for seed in range(100):
        penalty = random_member(name, rng)
        violations = law_violations(penalty, cases=100, searches=int(seed < 8), seed=seed)
        broken = {law: size for law, size in violations.items() if not size <= 1}
        assert not broken, (penalty, broken)


SMOOTH = ("Atan", "GemanMcClure", "Welsch", "Cauchy", "LogSquareSum")


@pytest.mark.parametrize("scale", (1e-6, 0.3, 1e5))
@pytest.mark.parametrize("name", SMOOTH)
def test_inflection_that_nobody_gave(name, scale):
    penalty = type(ROWS[name].penalty)(scale)
    given = penalty._inflection
    searched = Penalty.__dict__["_inflection"].func(penalty)  # of the base class: overridden by the closed form
    assert given > 0 and abs(searched / given - 1) < 1e-6


def test_prox_is_global_without_an_inflection_given():
    class Bare(VariationalDropout):
        _inflection = Penalty.__dict__["_inflection"]

    Bare._inflection.__set_name__(Bare, "_inflection")
    v, step = np.repeat(np.linspace(0.01, 6, 200), 50), np.tile(np.logspace(-2, 2, 50), 200)
    assert np.allclose(Bare(0.5).prox(v, step), VariationalDropout(0.5).prox(v, step), rtol=1e-9, atol=1e-12)
    assert Penalty.__dict__["_inflection"].func(L1()) == 0 == Penalty.__dict__["_inflection"].func(LogSum(0.1))
    assert abs(Penalty.__dict__["_inflection"].func(Standout()) - 2) < 1e-6


@EVERY
def test_prox_in_single_precision(name):
    rng = np.random.default_rng(2)
    for _ in range(20):
        penalty = random_member(name, rng)
        v, step = 10 ** rng.uniform(-2, 2, 500), 10 ** rng.uniform(-3, 2, 500)
        v, step = v.astype(np.float32), step.astype(np.float32)
        found = penalty.prox(v, step)
        assert found.dtype == np.float32
        v, step, found = v.astype(float), step.astype(float), found.astype(float)
        objective = lambda w: 0.5 * (w - v) ** 2 + step * penalty(w)  # noqa: B023
        assert (objective(found) <= objective(penalty.prox(v, step)) + 1e-5 * np.maximum(1, v**2)).all(), penalty
        pull = step * penalty.grad(found)
        residual = np.where(found > 0, np.abs(found - v + pull), 0)
        assert (residual <= 1e-5 * np.maximum(v, pull)).all(), penalty


# ---- accuracy, against the text of the table at 40 digits ----


@cache
def formulas(name):
    """Omega, eta_hat and f (or None) of a class as mpmath functions of the argument and the parameters."""
    row, names = ROWS[name], [field.name for field in fields(ROWS[name].penalty)]
    letters = {key: sympy.Symbol(key, positive=True) for key in ("w", "eta", *names)}
    omega = sympy.sympify(row.omega, locals=letters)
    pieces = omega.args if isinstance(omega, sympy.Piecewise) else [(omega, True)]
    slope = [(sympy.diff(branch, letters["w"]), condition) for branch, condition in pieces]
    eta_hat = sympy.Piecewise(*[(letters["w"] / s if s != 0 else sympy.oo, c) for s, c in slope])
    arguments = [letters[key] for key in names]
    made = [sympy.lambdify([letters["w"], *arguments], e, "mpmath") for e in (omega, eta_hat)]
    dual = row.dual and sympy.lambdify([letters["eta"], *arguments], sympy.sympify(row.dual, locals=letters), "mpmath")
    return (*made, dual)


def error_in_units(got, function, arguments):
    """Relative error over 8 u (1 + kappa), kappa summed over the argument and all parameters."""
    with mpmath.workdps(40):
        arguments = [mpmath.mpf(float(a)) for a in arguments]
        want = mpmath.mpf(function(*arguments))
        if want > np.finfo(float).max:
            return 0.0 if np.isinf(got) else np.inf
        if abs(want) < 1e-300:  # a dual that leaves 0 quadratically may return the square of a rounding there
            return abs(got) / (8 * 2.0**-53) ** 2
        kappa = 0
        for i in range(len(arguments)):
            moved = [b * (1 + (i == j) * mpmath.mpf(10) ** -15) for j, b in enumerate(arguments)]
            kappa += abs((function(*moved) - want) / want) * mpmath.mpf(10) ** 15
        return float(abs(mpmath.mpf(float(got)) - want) / want / (8 * mpmath.mpf(2) ** -53 * (1 + kappa)))


@EVERY
def test_accuracy_for_random_parameters(name):
    omega, eta_hat, dual = formulas(name)
    rng = np.random.default_rng(3)
    for _ in range(60):
        penalty = random_member(name, rng)
        parameters = [getattr(penalty, field.name) for field in fields(penalty)]
        w = 10 ** rng.uniform(-12, 6 if rng.uniform() < 0.5 else 1)
        eta = penalty.eta_hat(w)
        assert error_in_units(penalty(w), omega, [w, *parameters]) <= 1, (penalty, w)
        assert error_in_units(eta, eta_hat, [w, *parameters]) <= 1, (penalty, w)
        if dual is not None and 0 < eta < 1e100:
            assert error_in_units(penalty.dual(eta), dual, [eta, *parameters]) <= 1, (penalty, eta)


# ---- arrays ----


@EVERY
@quick
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(0, 100))
def test_entries_are_independent(name, values, step):
    penalty, w = ROWS[name].penalty, np.array(values)
    dual, prox = lambda x: penalty.dual(abs(x)), lambda x: penalty.prox(x, step)
    for call in (penalty, penalty.grad, penalty.hess, penalty.eta_hat, dual, prox):
        together = call(w)
        assert np.allclose(together, [call(one) for one in values], rtol=1e-14, atol=1e-300)
        assert np.allclose(call(torch.tensor(w)).numpy(), together, rtol=1e-13, atol=1e-300, equal_nan=False)


@EVERY
def test_penalties_are_values(name):
    penalty = ROWS[name].penalty
    assert penalty == replace(penalty) and hash(penalty) == hash(replace(penalty))
    assert eval(repr(penalty), vars(sys.modules[type(penalty).__module__])) == penalty
    with pytest.raises(AttributeError):
        penalty.anything = 1
    assert describe(penalty)["name"] == name


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0, "1", None, 1j, True])
def test_bad_parameters_are_named(name, bad):
    for field in fields(ROWS[name].penalty):
        if name == "LogSum" and bad == 0.0 and not isinstance(bad, bool):
            continue  # LogSum(0) is log|w|
        with pytest.raises((ValueError, TypeError), match=field.name):
            replace(ROWS[name].penalty, **{field.name: bad})


@pytest.mark.parametrize("penalty", [row.penalty for row in CLASSICAL], ids=lambda penalty: type(penalty).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_and_grad_equals_both_calls(penalty, dtype):
    w = np.random.default_rng(5).normal(size=getattr(penalty, "size", 8)).astype(dtype)
    w[0] = 0
    tensor = torch.tensor(w, requires_grad=True)
    for one in (w, -w, tensor):
        value, grad = penalty.value_and_grad(one)
        assert np.array_equal(value, penalty(one).detach() if one is tensor else penalty(one))
        assert np.array_equal(grad, penalty.grad(one).detach() if one is tensor else penalty.grad(one))
        assert value.dtype == grad.dtype == one.dtype and grad.shape == one.shape
        assert one is not tensor or not (value.requires_grad or grad.requires_grad)
    with pytest.raises(ValueError, match="w contains NaN"):
        penalty.value_and_grad(np.where(w == 0, np.nan, w))
    if penalty.separable:
        for lost in penalty.value_and_grad(torch.tensor([np.nan, 1.0])):
            assert torch.isnan(lost).tolist() == [True, False]


@EVERY
def test_python_integers_of_any_size(name):
    penalty = ROWS[name].penalty
    for large in (3, 2**63, -(10**30), [1, 10**30]):
        floats = np.array(large, dtype=float)
        prox = lambda w: penalty.prox(w, 1)  # noqa: B023
        for call in (penalty, penalty.grad, penalty.hess, penalty.eta_hat, prox):
            assert np.array_equal(call(large), call(floats)) and isinstance(call(10**30), float)
    with pytest.raises(ValueError, match="largest float"):
        penalty(10**400)
    with pytest.raises(TypeError, match="w must hold real numbers"):
        penalty([10**30, None])


@EVERY
def test_second_derivative_beside_zero_is_its_limit(name):
    """hess(0) is the limit from the right, infinite where that is, and never NaN on the way."""
    penalty = ROWS[name].penalty
    w = np.array([0, 1e-300, 1e-200, 1e-100, 1e-12, 1e-9])
    bend = penalty.hess(w)
    assert not np.isnan(bend).any() and np.array_equal(bend, penalty.hess(-w))
    if np.isfinite(bend[0]):
        assert np.allclose(bend, bend[0], rtol=1e-6, atol=1e-6 * max(1, abs(bend[0])))
    else:
        assert (np.abs(bend[1:]) > 1e3).all()
    difference = (penalty.grad(1.1e-9) - penalty.grad(1e-9)) / 1e-10
    assert np.isclose(penalty.hess(1.05e-9), difference, rtol=1e-2, atol=1e-5)


# ---- penalties of vectors ----


vectors = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=7).map(np.array)


@quick
@given(vectors, st.floats(0.01, 50), st.data())
def test_group_lasso(v, step, data):
    labels = np.array(data.draw(st.lists(st.integers(-2, 3), min_size=len(v), max_size=len(v))))
    penalty = GroupL2(labels)
    blocks = [labels == label for label in np.unique(labels)]
    lengths = np.array([np.linalg.norm(v[block]) for block in blocks])
    assert np.isclose(penalty(v), lengths.sum(), rtol=1e-14)
    assert np.allclose(penalty.group_norms(v), lengths, rtol=1e-14)
    found = penalty.prox(v, step)
    for block, length in zip(blocks, lengths, strict=True):
        assert np.allclose(found[block], v[block] * max(0, 1 - step / length) if length else 0, rtol=1e-9, atol=1e-13)
        assert np.allclose(penalty.eta_hat(v)[block], length, rtol=1e-14)
    assert penalty == GroupL2([np.flatnonzero(block).tolist() for block in blocks])
    gained = torch.autograd.functional.jacobian(penalty, torch.tensor(v)).numpy()
    assert np.allclose(gained, penalty.grad(v), rtol=1e-13, atol=1e-300)


@quick
@given(vectors, st.floats(0.01, 50))
def test_squared_l1(v, step):
    penalty = SquaredL1()
    found = penalty.prox(v, step)
    total = np.abs(found).sum()
    assert np.allclose(found, np.sign(v) * np.maximum(np.abs(v) - step * total, 0), rtol=1e-9, atol=1e-12)
    assert np.isclose(penalty(v), np.abs(v).sum() ** 2 / 2, rtol=1e-14)
    eta = penalty.eta_hat(v)
    assert penalty.dual(eta) == 0 and penalty.dual(eta * (1 + 1e-9)) == np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isclose(0.5 * np.where(v == 0, 0, v**2 / eta).sum(), penalty(v), rtol=1e-13)


@quick
@given(vectors, st.integers(0, 8))
def test_hard_threshold(v, k):
    penalty = HardThreshold(k)
    found = penalty.prox(v, 1.0)
    assert (found != 0).sum() <= k and penalty(found) == 0 and np.isin(found, [0, *v]).all()
    assert np.isclose(((found - v) ** 2).sum(), np.sort(v**2)[: max(len(v) - k, 0)].sum(), rtol=1e-12)
    assert np.isinf(penalty.eta_hat(v)).sum() == min(k, len(v)) and penalty.dual(penalty.eta_hat(v)) == 0


@pytest.mark.parametrize("penalty", [GroupL2([0, 1, 0, 2, 1]), SquaredL1(axis=-1), HardThreshold(2, axis=-1)], ids=repr)
def test_vectors_in_batches_and_single_precision(penalty):
    rows = np.random.default_rng(4).normal(size=(2000, 5))
    dual, prox = lambda x: penalty.dual(abs(x)), lambda x: penalty.prox(x, 0.4)
    for call in (penalty, penalty.grad, penalty.hess, penalty.eta_hat, dual, prox):
        batch = call(rows)
        assert np.allclose(batch, [call(row) for row in rows], rtol=1e-14)
        assert np.allclose(call(torch.tensor(rows)).numpy(), batch, rtol=1e-13)
        single = call(rows.astype(np.float32))
        assert single.dtype == np.float32 and np.allclose(single, batch, rtol=1e-4, atol=1e-5)
    along_first = replace(penalty, axis=0) if hasattr(penalty, "axis") and not isinstance(penalty, GroupL2) else None
    if along_first is not None:
        assert np.array_equal(along_first.prox(rows.T, 0.4), penalty.prox(rows, 0.4).T)
        assert np.array_equal(along_first(rows.T), penalty(rows))
        steps = np.random.default_rng(5).uniform(0.1, 1, (2000, 1))
        assert np.array_equal(along_first.prox(rows.T, steps.T), penalty.prox(rows, steps).T)


@pytest.mark.parametrize("penalty", [GroupL2([0, 1, 0, 2, 1]), SquaredL1(axis=-1), L1()], ids=repr)
def test_convex_prox_never_spreads(penalty):
    a, b = np.random.default_rng(6).normal(size=(2, 10_000, 5)) * 3
    step = 0.7
    closer = np.linalg.norm(penalty.prox(a, step) - penalty.prox(b, step), axis=1)
    assert (closer <= np.linalg.norm(a - b, axis=1) * (1 + 1e-14)).all()


def test_three_dimensions_and_middle_axis():
    w = np.random.default_rng(7).normal(size=(3, 4, 5))
    penalty = SquaredL1(axis=1)
    assert penalty(w).shape == (3, 5) and penalty.prox(w, 0.2).shape == w.shape
    assert np.array_equal(penalty.prox(w, 0.2)[1, :, 2], SquaredL1().prox(w[1, :, 2], 0.2))
    assert SquaredL1()(w).shape == () and np.isclose(SquaredL1()(w), np.abs(w).sum() ** 2 / 2)
    assert (HardThreshold(7).prox(w, 1) != 0).sum() == 7


# ---- the module ----


def test_torch_and_sympy_stay_unloaded():
    code = "import sys, adaptive_dropout.penalties; print(sorted({'torch', 'sympy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
