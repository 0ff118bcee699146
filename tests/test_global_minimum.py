"""The global minimum of DropBlock and the factors that reach it, over many and degenerate problems."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from adaptive_dropout.balanced_factors import (
    alternating_minimization,
    balance_defect,
    is_balanced,
    optimal_factors,
)
from adaptive_dropout.checks import enumerate_masks
from adaptive_dropout.dropblock import block_energies, dropblock_objective, retain_probability
from adaptive_dropout.global_minimum import certificate, dropblock_global_minimum, plot_spectrum, row_space

RATES = (1.0, 1 - 1e-9, 0.9, 0.5, 0.1, 1e-3, 1e-8)


def problems(count, seed):
    """Targets with ties, zeros, low rank and all scales, with and without inputs, and block sizes."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        a, b, N = (int(size) for size in rng.integers(1, 10, 3))
        kind, Y = rng.integers(5), rng.normal(size=(a, N))
        Y = (Y, np.round(Y), np.outer(Y[:, 0], Y[0]), 0 * Y, np.eye(a, N))[kind] * 10.0 ** rng.choice([-8, 0, 8])
        X = rng.normal(size=(b, N))
        X = (X, np.round(X), np.repeat(X, 2, axis=0), np.vstack([X, 0 * X]), None)[rng.integers(5)]
        yield Y, X, int(rng.integers(1, min(a, N) + 1)), float(rng.choice(RATES))


def inputs_or_identity(X, Y):
    return np.eye(Y.shape[1]) if X is None else X


@pytest.mark.parametrize("seed", range(4))
def test_the_gap_certifies_the_minimum(seed):
    for Y, X, r, theta_bar in problems(250, seed):
        minimum = dropblock_global_minimum(Y, r, theta_bar, X)
        outside = certificate(minimum.matrix, Y, r, theta_bar, X)
        assert abs(minimum.gap) <= 1e-13, (Y, X, r, theta_bar)
        assert abs(outside.value - minimum.value) <= 1e-13 * minimum.value + outside.rounding
        assert 1 <= minimum.rho <= r and 0 <= minimum.lam <= min(Y.shape)
        assert minimum.residual <= minimum.value * (1 + 1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_explicit_factors_reach_it(seed):
    for Y, X, r, theta_bar in problems(120, 10 + seed):
        minimum, inside = dropblock_global_minimum(Y, r, theta_bar, X), inputs_or_identity(X, Y)
        U, V, d = optimal_factors(minimum)
        condition = np.linalg.norm(inside, 2) * np.linalg.norm(np.linalg.pinv(inside), 2)
        slack = 1e-13 * max(1.0, condition / 30)
        assert np.abs(U @ (V.T @ inside) - minimum.matrix).max() <= slack * np.abs(minimum.matrix).max()
        assert is_balanced(U, V, inside, r, max(1e-12, 10 * slack))
        theta = retain_probability(theta_bar, r, d)
        value = dropblock_objective(U, V, inside, Y, r, theta)
        rounded = 2.3e-16 / (1 - theta) if theta < 1 else 0.0  # 1 - theta, from theta as a float
        assert abs(value - minimum.value) <= (slack + rounded) * minimum.value + 1e-27 * (Y**2).sum()
        answer, lower, upper = minimum.attained_at(d)
        assert (answer, lower, upper) == ("yes", minimum.value, minimum.value)


@pytest.mark.parametrize("seed", range(3))
def test_no_network_is_below_the_bounds(seed):
    rng = np.random.default_rng(20 + seed)
    for Y, X, r, theta_bar in problems(80, 30 + seed):
        inside, k = inputs_or_identity(X, Y), int(rng.integers(1, 4))
        minimum, theta = dropblock_global_minimum(Y, r, theta_bar, X), retain_probability(theta_bar, r, r * k)
        U, V = rng.normal(size=(len(Y), r * k)), rng.normal(size=(len(inside), r * k)) * np.abs(Y).max()
        value = dropblock_objective(U, V, inside, Y, r, theta)
        _, lower, upper = minimum.attained_at(r * k)
        assert minimum.value * (1 - 1e-13) <= lower <= value * (1 + 1e-12) and lower <= upper * (1 + 1e-13)
        proof = certificate(U @ (V.T @ inside), Y, r, theta_bar, X)
        assert proof.bound <= minimum.value * (1 + 1e-12) + proof.rounding
        assert minimum.value <= proof.value * (1 + 1e-12) + proof.rounding and proof.value <= value * (1 + 1e-12)
        distance = ((U @ (V.T @ inside) - minimum.matrix) ** 2).sum()
        assert distance <= (proof.value - minimum.value) * (1 + 1e-9) + 1e-12 * proof.value


def test_independent_dual_ascent():
    """Maximise the dual over W by a search that knows no norm of A, no order and no pieces."""
    rng = np.random.default_rng(3)
    Y = rng.normal(size=(4, 5))
    for r, theta_bar in product((1, 2, 4), (0.8, 0.4)):
        beta = 1 / theta_bar - 1

        def negative_dual(x, r=r, beta=beta):
            left, s, right = np.linalg.svd(x.reshape(Y.shape), full_matrices=False)
            top = (left[:, :r] * s[:r]) @ right[:r]
            value = 2 * beta * (x * Y.ravel()).sum() - beta**2 * (x**2).sum() - beta * (s[:r] ** 2).sum()
            return -value, -2 * (beta * Y - beta**2 * x.reshape(Y.shape) - beta * top).ravel()

        found = max(
            -minimize(negative_dual, rng.normal(size=Y.size) * 0.3, jac=True, method="BFGS").fun for _ in range(6)
        )
        exact = dropblock_global_minimum(Y, r, theta_bar).value
        assert -1e-14 * exact <= exact - found <= 2e-3 * exact + 1e-12, (
            "the dual has edges, where BFGS stalls; never above"
        )


def test_a_search_over_weights_ends_there():
    rng = np.random.default_rng(4)
    Y, X, r, k, theta_bar = rng.normal(size=(3, 8)), np.linalg.qr(rng.normal(size=(8, 4)))[0].T, 2, 4, 0.7
    minimum, d = dropblock_global_minimum(Y, r, theta_bar, X), r * k
    factors = lambda x: (torch.as_tensor(x[: 3 * d]).reshape(3, d), torch.as_tensor(x[3 * d :]).reshape(4, d))

    def objective(x):
        weights = torch.tensor(x, requires_grad=True)
        value = dropblock_objective(
            *factors(weights), torch.tensor(X), torch.tensor(Y), r, retain_probability(theta_bar, r, d)
        )
        value.backward()
        return value.item(), weights.grad.numpy()

    settings = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(objective, rng.normal(size=7 * d), jac=True, method="L-BFGS-B", options=settings)
    assert abs(found.fun / minimum.value - 1) < 1e-9
    U, V = factors(found.x)
    assert balance_defect(U, V, torch.tensor(X), r) < 1e-2, "Theorem 4"


def test_nearly_optimal_networks_are_nearly_balanced():
    """beta k sum (n_i - mean)^2 <= f - F(A), the number behind Theorem 4."""
    rng = np.random.default_rng(5)
    for r, k in product((1, 2, 3), (2, 5)):
        U, V, X, Y = (rng.normal(size=shape) for shape in ((4, r * k), (5, r * k), (5, 9), (4, 9)))
        norms = np.sqrt(block_energies(U, V, X, r))
        value = dropblock_objective(U, V, X, Y, r, retain_probability(0.6, r, r * k))
        excess = value - certificate(U @ V.T @ X, Y, r, 0.6, X).value
        assert 0 < (1 / 0.6 - 1) * k * ((norms - norms.mean()) ** 2).sum() <= excess


def test_the_masks_agree():
    rng = np.random.default_rng(6)
    Y, X = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
    for r, theta_bar in product((1, 2, 3), (0.9, 0.5)):
        minimum = dropblock_global_minimum(Y, r, theta_bar, X)
        U, V, d = optimal_factors(minimum)
        coins, weights = enumerate_masks([retain_probability(theta_bar, r, d)] * (d // r))
        losses = [((Y - (U * np.repeat(coin, r)) @ (V.T @ X)) ** 2).sum() for coin in coins]
        assert abs(weights @ losses / minimum.value - 1) < 1e-13


def test_dropout_at_every_width_and_one_block():
    """r = 1 is solved at each width by the leading singular values; k = 1 by the leading r of them."""
    rng = np.random.default_rng(7)
    Y = rng.normal(size=(6, 6))
    m = np.linalg.svd(Y, compute_uv=False)
    for k, theta_bar in product(range(1, 8), (1.0, 0.9, 0.5, 0.1)):
        beta, costs = 1 / theta_bar - 1, []
        for kept in range(min(k, 6) + 1):
            total = m[:kept].sum()
            if kept == 0 or m[kept - 1] * (1 + beta * kept) >= beta * total:  # no singular value below zero
                costs.append((m[kept:] ** 2).sum() + beta * total**2 / (1 + beta * kept))
        answer, lower, upper = dropblock_global_minimum(Y, 1, theta_bar).attained_at(k)
        assert abs(lower - min(costs)) < 1e-13 * m[0] ** 2 and abs(upper - lower) < 1e-13 * m[0] ** 2
        assert answer in ("yes", "no")
        r = min(k, 6)
        _, lower, upper = dropblock_global_minimum(Y, r, theta_bar).attained_at(r)
        exact = (1 - theta_bar) * (m[:r] ** 2).sum() + (m[r:] ** 2).sum()
        assert abs(lower - exact) < 1e-13 * m[0] ** 2 and abs(upper - exact) < 1e-13 * m[0] ** 2


def test_attained_at_follows_the_shares():
    """Y = I_n: shares r/n. Means of k projections with all eigenvalues r/n exist iff k r is large enough for n."""
    for n, r, k, answer in (
        (3, 2, 1, "no"),
        (3, 2, 2, "no"),
        (3, 2, 3, "yes"),
        (4, 2, 2, "yes"),  # two groups of two
        (6, 2, 3, "yes"),  # two groups of three
        (6, 3, 2, "yes"),
        (4, 2, 3, "yes"),  # two groups of two, though three would be allowed
        (5, 2, 2, "no"),  # rank
        (5, 4, 3, "no"),
        (5, 5, 1, "yes"),
        (7, 5, 4, "no"),
        (7, 5, 5, "unknown"),
    ):
        assert dropblock_global_minimum(np.eye(n), r, 0.8).attained_at(r * k).answer == answer, (n, r, k)


@pytest.mark.parametrize(
    "shares, k",
    [
        ((0.85, 0.55, 0.53, 0.07), 2),  # one eigenvalue too high
        ((0.86, 0.76, 0.73, 0.71, 0.7, 0.24), 3),
        ((0.94, 0.76, 0.3), 2),  # one too low
        ((0.66, 0.65, 0.63, 0.58, 0.48), 3),
    ],
)
def test_weyl_rejects_only_what_is_out_of_reach(shares, k):
    r, beta = round(sum(shares)), 0.3
    Y = np.diag(np.array(shares) * r / sum(shares) + beta)  # level 1, all singular values in the middle piece
    minimum = dropblock_global_minimum(Y, r, 1 / (1 + beta))
    assert np.allclose(minimum.shares, np.diag(Y) - beta) and minimum.attained_at(r * k).answer == "no"
    theta = retain_probability(minimum.theta_bar, r, r * k)
    runs = [alternating_minimization(Y, None, r, theta, r * k, seed=s, max_iterations=20_000) for s in range(3)]
    assert min(run.gap for run in runs) > 1e-7 and all(run.converged for run in runs)


@pytest.mark.parametrize("momentum", [True, False])
def test_alternating_minimization_respects_the_bounds(momentum):
    rng = np.random.default_rng(8)
    for r, k in product((1, 2, 3), (1, 2, 4)):
        Y, X, d = rng.normal(size=(4, 12)), rng.normal(size=(6, 12)), r * k
        theta = retain_probability(0.6, r, d)
        run = alternating_minimization(Y, X, r, theta, d, momentum=momentum, tolerance=1e-12, max_iterations=20_000)
        answer, lower, upper = dropblock_global_minimum(Y, r, 0.6, X).attained_at(d)
        assert run.converged and lower * (1 - 1e-13) <= run.value <= upper * (1 + 1e-10)
        assert answer != "yes" or abs(run.gap) < 1e-10
        assert abs(dropblock_objective(run.U, run.V, X, Y, r, theta) / run.value - 1) < 1e-12
        assert (np.diff(run.values) <= 1e-14 * run.values[0]).all()


def test_start_progress_and_kinds():
    rng = np.random.default_rng(9)
    Y, X = rng.normal(size=(4, 9)), rng.normal(size=(5, 9))
    run = alternating_minimization(Y, X, 2, 0.5, 8, start=rng.normal(size=(4, 8)))
    scaled = alternating_minimization(Y, X, 2, 0.5, 8, start=1e6 * rng.normal(size=(4, 8)))
    assert abs(run.value / scaled.value - 1) < 1e-11
    tensors = dropblock_global_minimum(torch.tensor(Y), 2, 0.7, torch.tensor(X))
    arrays = dropblock_global_minimum(Y, 2, 0.7, X)
    assert tensors.value == arrays.value and np.array_equal(tensors.matrix, arrays.matrix)
    single = dropblock_global_minimum(Y.astype(np.float32), 2, 0.7, X.astype(np.float32))
    assert single.matrix.dtype == float and abs(single.value / arrays.value - 1) < 1e-6
    assert "matrix" not in repr(arrays) and "value" in repr(arrays)
    with pytest.raises(AttributeError):
        arrays.value = 0.0


@pytest.mark.parametrize("seed", range(3))
def test_blocks_may_be_larger_than_the_rank(seed):
    """Then the norm is Frobenius', all shares are 1, and the minimiser is theta_bar Y in the row space."""
    rng = np.random.default_rng(100 + seed)
    for a, N, r in ((1, 10, 2), (3, 2, 7), (2, 2, 3), (4, 6, 5)):
        Y, X = rng.normal(size=(a, N)), rng.normal(size=(3, N))
        for inputs, inside in ((None, Y), (X, Y @ np.linalg.pinv(X) @ X)):
            minimum = dropblock_global_minimum(Y, r, 0.6, inputs)
            exact = 0.4 * (inside**2).sum() + ((Y - inside) ** 2).sum()
            assert np.allclose(minimum.matrix, 0.6 * inside, rtol=0, atol=1e-14) and abs(minimum.gap) < 1e-14
            assert abs(minimum.value - exact) < 1e-13 and minimum.attained_at(r).answer == "yes"
            U, V, d = optimal_factors(minimum)
            full = inputs_or_identity(inputs, Y)
            assert d == r == minimum.width and np.allclose(U @ V.T @ full, minimum.matrix, rtol=0, atol=1e-13)
            assert abs(dropblock_objective(U, V, full, Y, r, 0.6) - exact) < 1e-12
            assert abs(certificate(minimum.matrix, Y, r, 0.6, inputs).gap) < 1e-13
            run = alternating_minimization(Y, inputs, r, retain_probability(0.6, r, 2 * r), 2 * r, seed=seed)
            assert run.converged and abs(run.gap) < 1e-13


@pytest.mark.parametrize(
    "Y, r, theta_bar, d, answer",
    [
        (np.diag([1e8, 1, 1, 1]), 3, 0.8, 6, "no"),  # F* and the upper bound agree to 16 digits
        (np.diag([1e6, 1, 1, 1]), 3, 0.8, 6, "no"),
        (np.eye(3), 2, 1e-7, 4, "no"),
        (np.eye(3), 2, 1e-4, 4, "no"),
        (np.diag([1e8, 1, 1, 1]), 3, 0.8, 9, "yes"),
        (np.eye(3), 2, 1.0, 4, "yes"),  # nothing is dropped: the rank decides
        (np.eye(3), 2, 1.0, 2, "no"),
        (np.diag([1e18, 1, 1, 1]), 3, 0.8, 6, "yes"),  # the ones are rounding of the SVD, and set to 0
    ],
)
def test_attained_at_looks_at_shares_not_at_bounds(Y, r, theta_bar, d, answer):
    assert dropblock_global_minimum(Y, r, theta_bar).attained_at(d).answer == answer


def test_outputs_in_single_precision_and_of_ill_conditioned_inputs_are_certified():
    rng = np.random.default_rng(11)
    U, V, X, Y = (rng.normal(size=shape) for shape in ((5, 8), (6, 8), (6, 40), (5, 40)))
    exact = certificate(U @ V.T @ X, Y, 2, 0.5, X)
    single = certificate(U.astype(np.float32) @ V.T.astype(np.float32) @ X.astype(np.float32), Y, 2, 0.5, X)
    assert abs(single.value / exact.value - 1) < 1e-5 and abs(single.bound / exact.bound - 1) < 1e-5
    bad = np.linalg.qr(rng.normal(size=(6, 6)))[0] @ np.diag(np.logspace(0, -10, 6)) @ X
    minimum = dropblock_global_minimum(Y, 2, 0.5, bad)
    U, V, _ = optimal_factors(minimum)
    proof = certificate(U @ (V.T @ bad), Y, 2, 0.5, bad)
    assert proof.bound <= minimum.value * (1 + 1e-12) and proof.gap < 1e-6  # 1e-16 times the condition number
    with pytest.raises(ValueError, match="A must lie in the row space"):
        certificate(Y, Y, 2, 0.5, X)


def test_large_beta_and_a_tie():
    """Thirteen equal singular values, r = 3: A* = 0.1 r / (r + 13 beta) I, the norm is 13 times its trace share."""
    for value in (0.1, 1.7, np.pi):
        minimum = dropblock_global_minimum(value * np.eye(13), 3, 1e-15)
        entry = value * 3 / (3 + 13 * minimum.beta)
        assert np.allclose(minimum.spectrum, entry, rtol=1e-13, atol=0)
        assert abs(minimum.norm_squared / ((13 * entry) ** 2 / 3) - 1) < 1e-12


@pytest.mark.parametrize("scale", [1e-100, 1e-60, 1e60, 1e99])
def test_scales_do_not_matter_where_they_are_accepted(scale):
    Y = np.random.default_rng(12).uniform(1, 10, (3, 4))
    one, other = dropblock_global_minimum(Y, 2, 0.5), dropblock_global_minimum(Y * scale, 2, 0.5)
    assert abs(other.value / scale / scale / one.value - 1) < 1e-13 and abs(other.gap) < 1e-13
    for theta_bar in (1e-50, 1e-20):
        far = dropblock_global_minimum(Y * scale, 2, theta_bar)
        assert (far.spectrum[:2] > 0).all() and 0 < far.norm_squared < np.inf and abs(far.gap) < 1e-13


def test_the_values_of_redundant_networks_never_fall_below_the_bound():
    for n, r, k in ((6, 6, 3), (4, 2, 8), (3, 3, 6)):
        for seed, theta_bar in product(range(3), (0.6678, 0.2)):
            theta = retain_probability(theta_bar, r, r * k)
            run = alternating_minimization(np.eye(n), None, r, theta, r * k, seed=seed)
            assert run.converged and (run.gaps >= -1e-14).all()
            assert abs(dropblock_objective(run.U, run.V, np.eye(n), np.eye(n), r, theta) / run.value - 1) < 1e-12


def test_the_gap_where_the_bound_is_zero():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(4, 30))
        run = alternating_minimization(rng.normal(size=(3, 4)) @ X, X, 2, 1.0, 4)
        assert run.converged and run.gap == 0 and run.value <= run.rounding


@pytest.mark.parametrize("column", [slice(None), 1, slice(2, 4)])
def test_a_start_with_idle_neurons_is_refused(column):
    start = np.random.default_rng(13).normal(size=(3, 4))
    start[:, column] = 0
    with pytest.raises(ValueError, match="start must have no column of zeros"):
        alternating_minimization(np.eye(3), None, 2, 0.5, 4, start=start)


def test_balance_of_any_scale():
    rng = np.random.default_rng(14)
    U, V, X = (rng.normal(size=shape) for shape in ((3, 6), (4, 6), (4, 10)))
    for scale in (1e-300, 1e-100, 1e100, 1e300):
        assert abs(balance_defect(U * scale, V * scale, X, 2) / balance_defect(U, V, X, 2) - 1) < 1e-13
        assert not is_balanced(U * scale, V * scale, torch.tensor(X * scale), 2)


def test_row_space_of_every_rank():
    rng = np.random.default_rng(10)
    for rank, units in product(range(5), (1.0, 1e-150, 1e150)):
        X = rng.normal(size=(6, rank)) @ rng.normal(size=(rank, 8)) * units
        basis, weights = row_space(X)
        assert basis.shape == (8, rank) and np.allclose(X.T @ weights, basis, rtol=0, atol=1e-12)


def test_figure_takes_axes():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert plot_spectrum(dropblock_global_minimum(np.diag([3.0, 2, 1]), 2, 0.5), ax) is ax
    plt.close("all")


@pytest.mark.parametrize(
    "word, kind, arguments",
    [
        ("r must lie in", ValueError, (np.ones((2, 3)), 0, 0.5)),
        ("r must lie in", ValueError, (np.ones((2, 3)), -1, 0.5)),
        ("Y must have its largest entry in", ValueError, (np.full((2, 3), 1e160), 1, 0.5)),
        ("Y must have its largest entry in", ValueError, (np.full((2, 3), 1e-170), 1, 0.5)),
        ("theta_bar must be at least 1e-50", ValueError, (np.ones((2, 3)), 1, 1e-308)),
        ("r must be an integer", TypeError, (np.ones((2, 3)), True, 0.5)),
        ("theta_bar must lie in", ValueError, (np.ones((2, 3)), 1, 1.01)),
        ("theta_bar must lie in", ValueError, (np.ones((2, 3)), 1, 0)),
        ("theta_bar must lie in", ValueError, (np.ones((2, 3)), 1, float("nan"))),
        ("Y contains NaN", ValueError, ([[1.0, np.nan]], 1, 0.5)),
        ("Y must be finite", ValueError, (torch.tensor([[1.0, float("nan")]]), 1, 0.5)),
        ("Y must be a matrix", ValueError, (np.ones((2, 0)), 1, 0.5)),
        ("X contains NaN", ValueError, (np.ones((2, 3)), 1, 0.5, [[1.0, np.nan, 2.0]])),
        ("X must have one column", ValueError, (np.ones((2, 3)), 1, 0.5, np.ones((3, 2)))),
        ("Y must hold real numbers", TypeError, (np.ones((2, 3)) * 1j, 1, 0.5)),
    ],
)
def test_mistakes_are_named(word, kind, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as caught:
            dropblock_global_minimum(*arguments)
    assert word in str(caught.value)
