"""Properties of the solvers of pages 13e and 14 over all classical penalties, beyond what the pages show."""

import warnings

import numpy as np
import pytest

from adaptive_dropout.penalties import CLASSICAL, L1, L2, HardThreshold, LogSum
from adaptive_dropout.reweighted import (
    adaptive_prox,
    adaptive_tikhonov,
    dropout_sgd,
    irls,
    iterative_hard_thresholding,
    noise_floor,
    proximal_gradient,
    stationarity_residual,
)

PENALTIES = [row.penalty for row in CLASSICAL]
SEPARABLE = [penalty for penalty in PENALTIES if penalty.separable]
DESCENT = [irls, adaptive_tikhonov, proximal_gradient]
name_of = lambda item: getattr(item, "__name__", type(item).__name__)


def problem(n, p, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) * rng.uniform(0.3, 3, p), rng.normal(size=n), rng.normal(size=p)


@pytest.fixture(autouse=True)
def no_convergence_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*stopped after", category=RuntimeWarning)
        yield


@pytest.mark.parametrize("method", DESCENT, ids=name_of)
@pytest.mark.parametrize("penalty", PENALTIES, ids=name_of)
@pytest.mark.parametrize("rows", [3, 20])
def test_every_step_decreases_the_objective(penalty, method, rows):
    for seed, lam in ((0, 0.05), (1, 1.0)):
        X, y, w0 = problem(rows, getattr(penalty, "size", 6), seed)  # groups fix the number of weights
        path = method(X, y, penalty, lam, w0, iterations=40).objective
        path = path[np.isfinite(path)]
        assert (np.diff(path) <= 1e-13 * np.maximum(1, np.abs(path[1:]))).all()


@pytest.mark.parametrize("penalty", SEPARABLE, ids=name_of)
def test_orthonormal_columns_give_the_prox(penalty):
    X = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 5)))[0] * 12**0.5
    b = np.array([3.0, -1.2, 0.7, 0.2, -0.05])
    assert np.allclose(proximal_gradient(X, X @ b, penalty, 0.3).weights, penalty.prox(b, 0.3), atol=1e-9)


@pytest.mark.parametrize("penalty", SEPARABLE, ids=name_of)
def test_reweighted_ends_are_stationary(penalty):
    X, y, _ = problem(30, 5, 3)
    for method in (irls, adaptive_tikhonov):
        fit = method(X, y, penalty, 0.2, iterations=20_000, tolerance=1e-8)
        assert fit.converged and fit.stationarity <= 1e-8
        assert fit.stationarity == stationarity_residual(X, y, penalty, 0.2, fit.weights)


@pytest.mark.parametrize("method", [*DESCENT, adaptive_prox], ids=name_of)
def test_order_and_signs_of_columns_do_not_matter(method):
    X, y, w0 = problem(20, 6, 4)
    order, sign = np.array([3, 0, 5, 1, 4, 2]), np.array([1, -1, -1, 1, 1, -1])
    one = method(X, y, LogSum(0.3), 0.1, w0, iterations=30).weights
    other = method(X[:, order] * sign, y, LogSum(0.3), 0.1, w0[order] * sign, iterations=30).weights
    assert np.allclose(one[order] * sign, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("method", [*DESCENT, adaptive_prox], ids=name_of)
def test_scaling_of_the_lasso(method):
    X, y, w0 = problem(20, 6, 5)
    one = method(X, y, L1(), 0.1, w0, iterations=50, tolerance=0).weights
    other = method(X, 7 * y, L1(), 0.7, 7 * w0, iterations=50, tolerance=0).weights
    assert np.allclose(other, 7 * one, rtol=1e-9, atol=1e-13)


def test_ridge_in_one_step_whatever_the_shape():
    for n, p in ((20, 6), (6, 20)):
        X, y, w0 = problem(n, p, 6)
        exact = np.linalg.solve(X.T @ X / n + 0.4 * np.eye(p), X.T @ y / n)
        fit = irls(X, y, L2(), 0.4, w0, iterations=3)
        assert fit.iterations == 1 and np.allclose(fit.weights, exact, atol=1e-13)


def test_the_same_generator_gives_the_same_run_and_progress_changes_nothing(capsys):
    X, y, _ = problem(30, 5, 7)
    runs = [
        dropout_sgd(X, y, LogSum(0.3), 0.1, steps=50, rng=np.random.default_rng(1), batch_size=7, progress=show)
        for show in (False, True)
    ]
    assert np.array_equal(runs[0].weights, runs[1].weights) and capsys.readouterr().err
    assert runs[0].gradient_evaluations == pytest.approx(50 * 7 / 30) and runs[0].recorded[-1] == 50


@pytest.mark.parametrize("form", ["plain", "additive", "local"])
def test_theorem_one_for_columns_that_are_not_standardised(form):
    "The noise is scaled column by column, so the penalty is lam * Omega whatever the columns' lengths are."
    X, y, _ = problem(40, 4, 8)
    target = proximal_gradient(X, y, L2(), 0.3).weights
    options = dict(form=form, steps=3000)
    floor = noise_floor(X, y, L2(), 0.3, target, rng=np.random.default_rng(0), **options).average
    runs = [dropout_sgd(X, y, L2(), 0.3, rng=np.random.default_rng(s), **options).weights for s in range(6)]
    spread = np.sqrt(np.mean([((w - target) ** 2).sum() for w in runs]))
    assert floor / 3 < spread < 2 * floor  # six squared errors: relative error of the root at most 0.3


def test_hard_thresholding_never_uses_lam():
    X, y, w0 = problem(20, 6, 9)
    fits = [adaptive_prox(X, y, HardThreshold(2), lam, w0, iterations=20).weights for lam in (1e-3, 1e3)]
    assert np.array_equal(*fits) and np.array_equal(
        fits[0], iterative_hard_thresholding(X, y, 2, w0, iterations=20).weights
    )
