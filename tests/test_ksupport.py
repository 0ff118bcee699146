"""Heavier runs of what the page on the k-support norm shows: 20,000 certified solutions, hard searches, all inputs."""

import numpy as np
import pytest
import torch

from adaptive_dropout import ksupport
from adaptive_dropout.ksupport import (
    KSupport,
    dual_ksupport_norm,
    ksupport_norm_squared,
    ksupport_subgradient,
    prox_ksupport,
    prox_ksupport_jacobian,
    prox_spectral_ksupport,
    spectral_ksupport_norm_squared,
)

extended = np.longdouble


def norm_twin(a, r):
    """Squared r-support norm in extended precision by bisection for u in sum min(1, a/u) = r."""
    a = np.abs(np.asarray(a, dtype=extended))
    if (a > 0).sum() <= r:
        return (a**2).sum()
    low, high = a[a > 0].min() / 2, a.sum() / r
    for _ in range(4000):
        u = np.sqrt(low) * np.sqrt(high)
        if not low < u < high:
            break
        low, high = (u, high) if np.minimum(1, a / u).sum() > r else (low, u)
    top = a > high
    m = r - top.sum()
    return (a[top] ** 2).sum() + (a[~top].sum() ** 2 / m if m else extended(0))


def relative_gap(y, a, r, beta):
    """(F(a) - D(W)) / F(a), with W from the form of the optimality condition that does not cancel."""
    W = (y - a) / beta if beta >= 1 else np.where(a == 0, y / beta, ksupport_subgradient(a, r) / 2)
    y, a, W, beta = (np.asarray(x, dtype=extended) for x in (y, a, W, beta))
    primal = ((y - a) ** 2).sum() + beta * norm_twin(a, r)
    dual = 2 * beta * (W * y).sum() - beta**2 * (W**2).sum() - beta * np.sort(W**2)[::-1][:r].sum()
    return float((primal - dual) / primal) if primal else 0.0


def random_case(rng, d):
    """A vector of length d, r and beta: ties, zeros, r = 1 or d, wide scales, beta from 1e-8 to 1e8."""
    y, kind = rng.normal(size=d), rng.integers(7)
    r = (int(rng.integers(1, d + 1)), int(rng.integers(1, d + 1)), 1, d)[rng.integers(4)]
    y = [y, np.round(2 * y) / 2, np.where(rng.random(d) < 0.6, 0, y), np.full(d, y[0]), y * 10 ** rng.uniform(-8, 8, d),
         np.sign(y) * 1.3 ** -rng.integers(0, 20, d).astype(float), 0.1 * np.round(3 * y)][kind]  # fmt: skip
    beta = 10 ** (rng.uniform(-8, 8) if rng.random() < 0.5 else rng.uniform(-2, 2))
    return y * 10 ** rng.uniform(-8, 8), r, beta


@pytest.mark.parametrize("seed", range(4))
def test_the_duality_gap_of_20_000_cases(seed):
    rng = np.random.default_rng(seed)
    for number in range(5000):
        y, r, beta = random_case(rng, int(rng.integers(1, 25)))
        found = prox_ksupport(y, r, beta)
        assert -1e-15 <= relative_gap(y, found, r, beta) <= 1e-14, (y, r, beta)
        if number % 5 == 0:
            order = np.argsort(-np.abs(y))
            ordered = prox_ksupport(np.abs(y)[order], r, beta, assume_sorted=True)
            together = prox_ksupport(np.stack([y, y[::-1]]), r, beta)
            assert relative_gap(np.abs(y)[order], ordered, r, beta) <= 1e-14
            assert relative_gap(y, together[0], r, beta) <= 1e-14
            for other in (np.abs(together[0])[order], np.abs(together[1, ::-1])[order], np.abs(found)[order]):
                assert np.abs(other - ordered).max() <= 3e-15 * np.abs(y).max()  # sums of 24 terms


@pytest.mark.parametrize("seed", range(2))
def test_values_of_10_000_cases(seed):
    rng = np.random.default_rng(10 + seed)
    for _ in range(5000):
        a, r, _ = random_case(rng, int(rng.integers(1, 25)))
        value, u = ksupport_norm_squared(a, r), ksupport_subgradient(a, r) / 2
        assert np.isclose(value, float(norm_twin(a, r)), rtol=2e-15, atol=0)
        assert np.isclose(u @ a, value, rtol=1e-14, atol=0)
        assert np.isclose(dual_ksupport_norm(u, r) ** 2, value, rtol=1e-14, atol=0)


def hard_vectors():
    """Vectors on which Newton's method alone would wander: steps, geometric decay, near ties, huge ranges."""
    yield "powers of two", 2.0 ** -np.arange(1000), 30
    yield "powers of two, most of them kept", 2.0 ** -np.arange(1000), 900
    yield "powers of ten", 10.0 ** -np.arange(600), 200
    yield "near ties", 1 + 1e-13 * np.arange(1000), 10
    yield "one of many", np.append(np.full(100_000, 1e-9), 1.0), 3
    yield "two levels", np.repeat([1.0, 1e-3], 5000), 6000
    yield "a staircase", np.repeat(np.arange(1.0, 101), 10), 77
    yield "all equal", np.ones(100_000), 7


@pytest.mark.parametrize("beta", [0, 1e-12, 1e-3, 1.0, 1e3, 1e8, 1e12, 1e17])
@pytest.mark.parametrize("name, y, r", list(hard_vectors()), ids=lambda value: value if isinstance(value, str) else "")
def test_hard_searches_end_quickly_and_at_the_solution(name, y, r, beta, monkeypatch):
    counts, search = [], ksupport._search

    def counted(piece, *arguments):
        def one(*thresholds):
            counts.append(1)
            return piece(*thresholds)

        return search(one, *arguments)

    monkeypatch.setattr(ksupport, "_search", counted)
    found = prox_ksupport(y, r, beta)
    assert len(counts) <= 80  # Newton inside the bracket alone takes up to 123
    if beta:
        assert abs(relative_gap(y, found, r, beta)) <= 1e-14
    else:
        assert np.array_equal(found, y)
    together = prox_ksupport(np.stack([y, y])[:, :8000], r, beta)[0] if len(y) <= 8000 else found
    assert np.abs(together - found).max() <= 1e-14 * y.max()


def test_neither_order_nor_company_nor_kind_matters():
    rng = np.random.default_rng(1)
    y, betas = rng.normal(size=(300, 257)), 10 ** rng.uniform(-2, 2, 300)
    found = prox_ksupport(y, 20, betas)
    assert all(np.allclose(prox_ksupport(y[i], 20, betas[i]), found[i], rtol=0, atol=2e-15) for i in range(300))
    order = rng.permutation(257)
    assert np.allclose(prox_ksupport(y[:, order], 20, betas), found[:, order], rtol=0, atol=2e-15)
    assert np.array_equal(prox_ksupport(-y, 20, betas), -found)
    assert np.array_equal(prox_ksupport(y.T, 20, betas, axis=0), found.T)
    cube = prox_ksupport(y.reshape(3, 100, 257), 20, betas.reshape(3, 100))
    assert np.array_equal(cube.reshape(300, 257), found)
    tensors = prox_ksupport(torch.tensor(y), 20, torch.tensor(betas))
    assert np.allclose(tensors, found, rtol=0, atol=2e-15)
    long = rng.normal(size=(2, 20_000))
    one_by_one = [prox_ksupport(row, 300, beta) for row, beta in zip(long, (0.7, 0.2), strict=True)]
    assert np.array_equal(prox_ksupport(long, 300, [0.7, 0.2]), one_by_one)
    assert np.array_equal(prox_ksupport(torch.tensor(long), 300, [0.7, 0.2]), one_by_one)


@pytest.mark.parametrize("number", [1.7, np.pi, 0.1, 1 / 3, 1e-200, 1.7e200])
@pytest.mark.parametrize("beta", [1e3, 1e8, 1e12])
def test_ties_keep_their_digits_at_large_beta(number, beta):
    """y / (1 + n beta / r) for n equal entries, with others far below; the plain mean of the tie is not the tie."""
    for n, r, others in ((1000, 1, 0), (999, 7, 0), (300, 2, 50), (7, 3, 5)):
        y = np.append(np.full(n, number), np.full(others, number / 1e6))
        exact = np.append(np.full(n, number / (1 + beta * n / r)), np.zeros(others))
        ways = [prox_ksupport(y[::-1], r, beta)[::-1], prox_ksupport(y, r, beta, assume_sorted=True),
                prox_ksupport(np.stack([y, y]), r, beta)[1], prox_ksupport(torch.tensor(y), r, beta).numpy(),
                prox_ksupport(torch.tensor(np.stack([y, y])), r, beta)[0].numpy()]  # fmt: skip
        for found in ways:
            assert np.allclose(found, exact, rtol=2e-13, atol=0), (n, r, beta)


@pytest.mark.parametrize("beta", [1e20, 1e100, 1e200, 1e300])
@pytest.mark.parametrize("scale", [1e-300, 1e-276, 1e-100, 1.0, 1e276])
def test_no_sign_changes_at_any_scale(scale, beta):
    rng = np.random.default_rng(7)
    for _ in range(20):
        y = scale * rng.normal(size=8)
        order = np.argsort(-np.abs(y))
        for r in (1, 3, 8):
            for given in (y, np.abs(y)[order]):
                ways = [prox_ksupport(given, r, beta), prox_ksupport([given, given], r, beta)[0]]
                ways += [prox_ksupport(given, r, beta, assume_sorted=True)] if (given >= 0).all() else []
                for found in ways:
                    assert (found * np.sign(given) >= 0).all() and (np.abs(found) <= np.abs(given)).all()


def test_tensors_that_are_not_finite_spoil_their_own_vector_only():
    y = torch.tensor([[np.inf, 1.0, 2.0], [1.0, -np.inf, 2.0], [np.nan, 1.0, 2.0], [3.0, 1.0, 2.0]])
    for r in (1, 2, 3):
        assert torch.isnan(prox_ksupport(y, r, 0.5)).tolist() == [[True] * 3] * 3 + [[False] * 3]
        assert all(torch.isnan(prox_ksupport(row, r, 0.5)).all() for row in y[:3])


def test_the_prox_is_firmly_nonexpansive():
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, y, r, beta = rng.normal(size=(100, 12)), rng.normal(size=(100, 12)), int(rng.integers(1, 13)), 0.8
        moved = prox_ksupport(x, r, beta) - prox_ksupport(y, r, beta)
        assert ((moved * (x - y)).sum(-1) >= (moved**2).sum(-1) - 1e-14).all()


def test_the_norm_is_a_norm_and_falls_with_r():
    rng = np.random.default_rng(3)
    for d in (1, 2, 7, 30):
        a, b = rng.normal(size=(2, 200, d))
        previous = np.abs(a).sum(-1) ** 2 * (1 + 1e-14)
        for r in range(1, d + 1):
            norm = lambda x, r=r: np.sqrt(ksupport_norm_squared(x, r))
            assert (norm(a + b) <= (norm(a) + norm(b)) * (1 + 1e-14)).all()
            assert np.allclose(norm(3 * a), 3 * norm(a), rtol=1e-14)
            assert (norm(a) ** 2 <= previous).all()
            assert (np.abs((a * b).sum(-1)) <= norm(a) * dual_ksupport_norm(b, r) * (1 + 1e-14)).all()
            previous = norm(a) ** 2 * (1 + 1e-14)


def test_more_beta_moves_the_pieces_one_way():
    rng = np.random.default_rng(4)
    for _ in range(100):
        y, r = np.abs(rng.normal(size=15)), int(rng.integers(1, 15))
        ends = np.array([ksupport._partition(y, r, beta)[:2] for beta in np.logspace(-3, 3, 60)])
        assert (np.diff(ends[:, 0]) >= 0).all() and (np.diff(ends[:, 1]) <= 0).all()
        assert ends[:, 0].min() >= 1 and ends[:, 0].max() <= r <= ends[:, 1].min()


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (3, 8), (1, 5), (5, 1)])
def test_matrices_are_certified(shape):
    rng = np.random.default_rng(5)
    for rank in range(1, min(shape) + 1):
        for r in range(1, min(shape) + 1):
            Y = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
            A = prox_spectral_ksupport(Y, r, 0.6)
            W = (Y - A) / 0.6
            primal = ((Y - A) ** 2).sum() + 0.6 * spectral_ksupport_norm_squared(A, r)
            top = (np.linalg.svd(W)[1][:r] ** 2).sum()
            dual = 1.2 * (W * Y).sum() - 0.36 * (W**2).sum() - 0.6 * top
            assert abs(primal - dual) <= 1e-13 * primal
            turned = np.linalg.qr(rng.normal(size=(shape[0], shape[0])))[0]
            assert np.allclose(prox_spectral_ksupport(turned @ Y, r, 0.6), turned @ A, atol=1e-13)


def test_gradients_of_matrices_at_many_points():
    torch.manual_seed(0)
    for shape in ((3, 3), (2, 4), (4, 2)):
        for r in range(1, min(shape) + 1):
            Y = torch.randn(5, *shape, dtype=torch.float64, requires_grad=True)
            beta = torch.rand(5, dtype=torch.float64, requires_grad=True)
            assert torch.autograd.gradcheck(lambda Y, b, r=r: prox_spectral_ksupport(Y, r, b), (Y, beta))


def test_the_jacobian_of_a_long_vector():
    rng = np.random.default_rng(6)
    y, g = torch.tensor(rng.normal(size=30_000), requires_grad=True), torch.tensor(rng.normal(size=30_000))
    beta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    by_y, by_beta = torch.autograd.grad(prox_ksupport(y, 900, beta), (y, beta), g)
    forward = lambda h, k: prox_ksupport(y.detach() + h * g, 900, 0.5 + k) @ g
    assert torch.isclose(by_y @ g, (forward(1e-7, 0) - forward(-1e-7, 0)) / 2e-7, rtol=1e-5)
    assert torch.isclose(by_beta, (forward(0, 1e-6) - forward(0, -1e-6)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_their_precision(dtype):
    y = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    found = prox_ksupport(y, 3, 0.5)
    found.sum().backward()
    exact = prox_ksupport(y.detach().double(), 3, 0.5)
    assert found.dtype == y.grad.dtype == dtype and torch.equal(found.detach(), exact.to(dtype))
    penalty = KSupport(3, axis=-1)
    for function in (ksupport_norm_squared, dual_ksupport_norm, ksupport_subgradient):
        assert function(y, 3).dtype == dtype
    assert penalty(y).dtype == penalty.eta_hat(y).dtype == penalty.prox(y, 0.5).dtype == dtype
    assert prox_ksupport_jacobian(y, 3, 0.5).dtype == dtype


def test_integers_lists_and_empty_batches():
    assert prox_ksupport([3, 0, -1], 2, 1).tolist() == [1.5, 0, -0.5]
    assert ksupport_norm_squared([[1, 1], [2, 0]], 1).tolist() == [4, 4]
    assert prox_ksupport(np.ones((0, 3)), 2, 1).shape == (0, 3)
    assert prox_ksupport(torch.ones(0, 3), 2, 1).shape == (0, 3)
    assert prox_ksupport(np.float32([1, 2]), np.int64(1), np.float32(0.5)).dtype == np.float32


BAD = {
    "r zero": (lambda: prox_ksupport(np.ones(3), 0, 1), ValueError, "r "),
    "r large": (lambda: prox_ksupport(np.ones(3), 4, 1), ValueError, "r .*4"),
    "r float": (lambda: prox_ksupport(np.ones(3), 1.5, 1), TypeError, "r "),
    "no axis": (lambda: prox_ksupport(np.float64(1), 1, 1), ValueError, "axis"),
    "wrong axis": (lambda: prox_ksupport(np.ones(3), 1, 1, axis=1), ValueError, "axis"),
    "bool axis": (lambda: prox_ksupport(np.ones(3), 1, 1, axis=False), ValueError, "axis"),
    "beta negative": (lambda: prox_ksupport(np.ones(3), 1, -1e-9), ValueError, "beta"),
    "beta infinite": (lambda: prox_ksupport(np.ones(3), 1, np.inf), ValueError, "beta"),
    "beta text": (lambda: prox_ksupport(np.ones(3), 1, "1"), ValueError, "beta"),
    "beta shape": (lambda: prox_ksupport(np.ones((2, 3)), 1, np.ones(3)), ValueError, "beta"),
    "beta negative tensor": (lambda: prox_ksupport(torch.ones(3), 1, torch.tensor(-1.0)), ValueError, "beta"),
    "beta NaN tensor": (lambda: prox_ksupport(torch.ones(2, 3), 1, torch.tensor([1, np.nan])), ValueError, "beta"),
    "beta of matrices": (lambda: prox_spectral_ksupport(torch.eye(3), 1, torch.tensor(-1.0)), ValueError, "beta"),
    "beta tensor": (lambda: prox_ksupport(np.ones(3), 1, torch.tensor(1.0)), TypeError, "beta"),
    "NaN": (lambda: prox_ksupport([1.0, np.nan], 1, 1), ValueError, "y .*NaN"),
    "infinite": (lambda: prox_ksupport([1.0, -np.inf], 1, 1), ValueError, "y .*finite"),
    "complex": (lambda: ksupport_norm_squared([1j], 1), TypeError, "a "),
    "ascending": (lambda: prox_ksupport([1.0, 2.0], 1, 1, assume_sorted=True), ValueError, "y .*descending"),
    "negative": (lambda: prox_ksupport([1.0, -2.0], 1, 1, assume_sorted=True), ValueError, "y .*non-negative"),
    "vector": (lambda: spectral_ksupport_norm_squared(np.ones(3), 1), ValueError, "A .*matrix"),
    "rank": (lambda: prox_spectral_ksupport(np.ones((2, 5)), 3, 1), ValueError, "r .*2"),
    "matrix beta": (lambda: prox_spectral_ksupport(np.ones((4, 2, 5)), 1, np.ones(2)), ValueError, "beta"),
    "penalty r": (lambda: KSupport(True), TypeError, "r "),
    "penalty length": (lambda: KSupport(3).prox(np.ones(2), 1.0), ValueError, "r .*3"),
    "penalty step": (lambda: KSupport(1).prox(np.ones(3), np.ones(3)), ValueError, "step"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    act, kind, words = BAD[name]
    with pytest.raises(kind, match=f"^{words}"):
        act()
