"""Properties of the expected loss under masks that the page does not already show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_dropout.checks import enumerate_masks
from adaptive_dropout.glm import glm_dropout_penalty
from adaptive_dropout.noise import Bernoulli, Gaussian
from adaptive_dropout.tikhonov import (
    MaskMoments,
    characteristic_matrix,
    dropout_penalty,
    expected_gradient,
    expected_loss,
    generalized_regularizer,
    gradient_variance,
    standardise,
    stochastic_gradient,
)

numbers = st.floats(-10, 10).map(lambda x: round(x, 3))


def problem(seed=0, n=7, p=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=n), rng.normal(size=p), rng


@settings(max_examples=60, deadline=None)
@given(
    X=arrays(float, (5, 3), elements=numbers),
    y=arrays(float, 5, elements=numbers),
    w=arrays(float, 3, elements=numbers),
    alpha=arrays(float, 3, elements=st.floats(0.05, 1.0)),
    unbiased=st.booleans(),
)
def test_expected_loss_is_the_average_over_all_masks(X, y, w, alpha, unbiased):
    masks, weights = enumerate_masks(alpha, unbiased)
    truth = weights @ ((y - (masks * w) @ X.T) ** 2).mean(axis=1) / 2
    assert abs(expected_loss(X, y, w, Bernoulli(alpha, unbiased=unbiased)) - truth) <= 1e-13 * truth + 1e-300


@settings(max_examples=40, deadline=None)
@given(w=arrays(float, 4, elements=numbers), factor=arrays(float, (4, 4), elements=numbers), mean=numbers)
def test_penalty_is_never_negative_and_agrees_with_the_matrix_form(w, factor, mean):
    X, _, _, _ = problem()
    mask = MaskMoments(mean, factor @ factor.T)
    penalty = dropout_penalty(X, w, mask)
    gram = X.T @ X / len(X)
    scale = np.abs(w) @ (np.abs(mask.covariance * gram)) @ np.abs(w) + 1e-300
    assert penalty >= -1e-13 * scale
    assert abs(penalty - w @ (mask.covariance * gram) @ w / 2) <= 1e-13 * scale


def test_independent_masks_are_the_diagonal_case():
    X, y, w, _ = problem()
    alpha = np.array([0.2, 0.5, 0.9, 1.0])
    noise, diagonal = Bernoulli(alpha), MaskMoments(1.0, np.diag(1 / alpha - 1))
    assert np.isclose(expected_loss(X, y, w, noise), expected_loss(X, y, w, diagonal), rtol=1e-14)
    assert np.allclose(expected_gradient(X, y, w, noise), expected_gradient(X, y, w, diagonal), rtol=1e-12)
    for form, per_sample in (("local", True), ("additive", False), ("additive", True)):
        got = [gradient_variance(X, y, w, mask, form, per_sample) for mask in (noise, diagonal)]
        assert np.allclose(*got, rtol=1e-12)


@pytest.mark.parametrize("form", ["plain", "local", "additive"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_monte_carlo_mean_and_variance_of_the_gradient(form, per_sample):
    "20,000 draws; mean within 5 standard errors (fails by chance once in 200,000 runs), variance within 8 %."
    X, y, w, rng = problem(3)
    mean, std = np.array([1.0, 0.7, 1.2, 1.0]), np.array([0.3, 1.0, 0.6, 0.0])
    noise = Gaussian(mean, std)
    draws = np.array([stochastic_gradient(X, y, w, noise, rng, form, per_sample) for _ in range(20_000)])
    variance = gradient_variance(X, y, w, noise, form, per_sample, 0.0, 3 * std**4)
    error = np.abs(draws.mean(axis=0) - expected_gradient(X, y, w, noise)) / np.sqrt(variance / len(draws))
    assert error.max() < 5 and np.allclose(draws.var(axis=0), variance, rtol=0.08)


def test_zero_weights_and_zero_noise():
    X, y, w, rng = problem()
    for form in ("plain", "local", "additive"):
        exact = stochastic_gradient(X, y, w, Bernoulli(1.0), rng, form)
        assert np.allclose(exact, X.T @ (X @ w - y) / len(X), rtol=1e-13)
    at_zero = stochastic_gradient(X, y, 0 * w, Bernoulli(0.3), rng, "local")
    assert np.allclose(at_zero, -X.T @ y / len(X)) and np.isfinite(at_zero).all()
    assert (gradient_variance(X, y, 0 * w, Bernoulli(0.3), "local") == 0).all()


def test_gaussian_masks_local_is_never_worse_per_row():
    for seed in range(50):
        X, y, w, rng = problem(seed)
        std = rng.exponential(size=4)
        noise = Gaussian(1.0, std)
        plain = gradient_variance(X, y, w, noise, "plain", True, 0.0, 3 * std**4)
        assert (plain >= gradient_variance(X, y, w, noise, "local") * (1 - 1e-12)).all()


def test_torch_agrees_with_numpy_and_differentiates():
    torch = pytest.importorskip("torch")
    X, y, w, _ = problem()
    noise = MaskMoments(0.8, np.eye(4) + 0.3)
    tensors = [torch.tensor(value) for value in (X, y, w)]
    assert np.isclose(float(expected_loss(*tensors, noise)), expected_loss(X, y, w, noise), rtol=1e-14)
    assert np.allclose(expected_gradient(*tensors, noise).numpy(), expected_gradient(X, y, w, noise), rtol=1e-13)
    tensors[2].requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: expected_loss(*tensors[:2], v, noise), tensors[2])
    single = expected_loss(*(value.detach().float() for value in tensors), noise)
    assert single.dtype == torch.float32
    for form in ("plain", "local", "additive"):
        generator = torch.Generator().manual_seed(1)
        draw = stochastic_gradient(*tensors, Bernoulli(0.5), generator, form, per_sample=True)
        assert draw.shape == (4,) and draw.dtype == torch.float64
    with pytest.raises(TypeError, match="torch"):
        expected_loss(tensors[0], y, w, noise)


def test_torch_propagates_nan_instead_of_waiting():
    torch = pytest.importorskip("torch")
    X, y, w, _ = problem()
    X, y, w = torch.tensor(X), torch.tensor(y), torch.tensor(w * np.nan)
    assert stochastic_gradient(X, y, w, Bernoulli(0.5), torch.Generator(), "plain").isnan().all()


def test_single_precision_in_single_precision_out():
    X, y, w, rng = (value.astype(np.float32) if isinstance(value, np.ndarray) else value for value in problem())
    for got in (
        expected_loss(X, y, w, Bernoulli(0.5)),
        dropout_penalty(X, w, Bernoulli(0.5)),
        expected_gradient(X, y, w, Bernoulli(0.5)),
        stochastic_gradient(X, y, w, Bernoulli(0.5), rng, "local"),
        gradient_variance(X, y, w, Bernoulli(0.5), "local"),
    ):
        assert got.dtype == np.float32


def test_lemma_10_scales_with_the_characteristic_matrix():
    rng = np.random.default_rng(0)
    U, G, factor = rng.normal(size=(3, 5)), rng.normal(size=(5, 8)), rng.normal(size=(5, 5))
    mean, cov = rng.uniform(0.5, 2, 5), factor @ factor.T
    got = generalized_regularizer(U, G, mean, cov)
    moved = generalized_regularizer(U / mean, G, 1.0, cov)
    assert np.isclose(got, moved, rtol=1e-13)
    assert np.allclose(characteristic_matrix(-mean, cov), characteristic_matrix(mean, cov))
    loop = sum(np.linalg.norm((U / mean) @ (column[:, None] * G)) ** 2 for column in factor.T)
    assert np.isclose(got, loop, rtol=1e-12)


def test_lemma_10_takes_tensors_and_their_gradients():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    U, G, factor = rng.normal(size=(3, 5)), rng.normal(size=(5, 8)), rng.normal(size=(5, 5))
    leaves = [torch.tensor(value, requires_grad=True) for value in (U, G)]
    function = lambda U, G: generalized_regularizer(U, G, 0.7, factor @ factor.T)
    assert np.isclose(function(*leaves).item(), function(U, G), rtol=1e-13)
    assert torch.autograd.gradcheck(function, leaves)
    assert function(*(leaf.float() for leaf in leaves)).dtype == torch.float32
    with pytest.raises(TypeError, match="U and G"):
        function(leaves[0], G)


def test_glm_families_agree_where_they_must():
    X, _, w, _ = problem()
    gaussian = Gaussian(1.0, 0.4)
    assert glm_dropout_penalty(X, w, gaussian, "gaussian", "exact") == dropout_penalty(X, w, gaussian)
    z, v = X @ w, 0.16 * (X**2 @ w**2)
    poisson = (np.exp(z + v / 2) - np.exp(z)).mean()
    assert np.isclose(glm_dropout_penalty(X, w, gaussian, "poisson", "exact"), poisson, rtol=1e-12)
    for family in ("logistic", "poisson"):
        weak = Gaussian(1.0, 1e-5)
        pair = [glm_dropout_penalty(X, w, weak, family, method) for method in ("quadratic", "exact")]
        assert np.isclose(*pair, rtol=1e-8)
    huge = glm_dropout_penalty(X, 1e4 * w, Bernoulli(0.5), "logistic", "exact")
    assert np.isfinite(huge) and huge > 0


def test_standardise_keeps_what_varies():
    X = np.column_stack([np.full(6, 0.1), np.arange(6.0), 1e9 + 1e-3 * np.arange(6)])
    with pytest.warns(UserWarning, match=r"dropped 1 constant columns: \[0\]"):
        result = standardise(X)
    assert result.kept.tolist() == [1, 2] and np.allclose((result.X**2).mean(axis=0), 1, rtol=1e-12)
    assert np.abs(result.X.mean(axis=0)).max() < 1e-14
    with pytest.raises(ValueError, match="X"):
        standardise(np.array([[1.0, np.nan], [2.0, 3.0]]))


@pytest.mark.parametrize("value", [np.zeros((4, 4)) * 1j, np.array([["a"]])])
def test_wrong_kinds_are_type_errors(value):
    with pytest.raises(TypeError, match="X"):
        standardise(value)


def test_what_the_plain_form_needs_is_named():
    X, y, w, rng = problem()
    with pytest.raises(TypeError, match="sample"):
        stochastic_gradient(X, y, w, MaskMoments(1.0, np.eye(4)), rng)
    with pytest.raises(TypeError, match="variance"):
        expected_loss(X, y, w, object())
    with pytest.raises(TypeError, match="noise must be an object"):
        expected_loss(X, y, w, Bernoulli)
