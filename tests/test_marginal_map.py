"""Marginal MAP, Jensen gaps and both stochastic gradients over many cases and bad input."""

import mpmath
import numpy as np
import pytest
from scipy.special import log_expit

from adaptive_dropout import ep_hp_training as training
from adaptive_dropout import noise
from adaptive_dropout.checks import search_minimum
from adaptive_dropout.jensen_gaps import (
    FAMILIES,
    Chi,
    gap_terms,
    hierarchical_gap,
    inverse_square_variance,
    moment_curves,
    plot_moments,
    printed_gap,
)
from adaptive_dropout.marginal_map import (
    GaussianModel,
    LogisticModel,
    expanded_map,
    expected_log_likelihood,
    hierarchical_map,
    jensen_gap,
    marginal_log_likelihood,
    noise_bound,
    noise_rule,
)
from adaptive_dropout.mixture import marginal_prior

mp = mpmath
RNG = np.random.default_rng(5)
X = RNG.normal(size=(7, 2))
Y = X @ [0.5, -1.0] + RNG.normal(size=7)

# Densities in mpmath, written down again: noise, density, break points.
DENSITIES = [
    (noise.Gaussian(0.5, 2.0), lambda t: mp.npdf(t, 0.5, 2), (-60, -5, 0, 1, 5, 60)),
    (noise.Rayleigh(0.5), lambda t: 4 * t * mp.exp(-2 * t * t), (0, 0.5, 1, 2, 20)),
    (noise.Uniform(-1.0, 3.0), lambda t: mp.mpf(1) / 4, (-1, 0, 1, 3)),
    (noise.Beta(2.0, 0.5), lambda t: t / mp.sqrt(1 - t) * 3 / 4, (0, 0.5, 1)),
    (noise.InverseNakagami(2.0, 1.0), lambda t: 8 * t**-5 * mp.exp(-2 / t**2), (0, 0.3, 0.6, 1, 2, 8, 100, mp.inf)),
    (noise.LogNormal(0.0, 1.0), lambda t: mp.npdf(mp.log(t)) / t, (0, 0.01, 0.1, 1, 5, 50, 1000, 1e5)),
    (Chi(3.0), lambda t: mp.sqrt(2 / mp.pi) * t * t * mp.exp(-t * t / 2), (0, 1, 2, 4, 40)),
]
LIKELIHOODS = [  # log-likelihood for arrays and for mpmath numbers
    (lambda t: -((2 - 3 * t) ** 2) / 2, lambda t: -((2 - 3 * t) ** 2) / 2),
    (lambda t: log_expit(-1.5 * t), lambda t: -mp.log1p(mp.exp(1.5 * t))),
    (lambda t: -40 * (t - 1) ** 2, lambda t: -40 * (t - 1) ** 2),
]


@pytest.mark.parametrize("member, density, points", DENSITIES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("values, by_hand", LIKELIHOODS, ids=["normal", "logistic", "narrow"])
def test_gaps_against_thirty_digits(member, density, points, values, by_hand):
    with mp.workdps(30):
        evidence = mp.quad(lambda t: density(t) * mp.exp(by_hand(t)), points, maxdegree=8)
        mean = mp.quad(lambda t: density(t) * by_hand(t), points, maxdegree=8)
        truth = mp.log(evidence) - mean
    pair = jensen_gap(values, member)
    assert abs(pair.gap - truth) < 1e-11 * max(1, truth)
    assert abs(pair.marginal - mp.log(evidence)) < 1e-11 and abs(pair.bound / mean - 1) < 1e-11


@pytest.mark.parametrize("scale", [1e-140, 1e-9, 1.0, 1e9, 1e140])
def test_rules_are_scale_free(scale):
    shape = lambda t: -1 / (1 + t)
    members = [noise.Rayleigh(scale), noise.HalfCauchy(scale), noise.LogNormal(np.log(scale), 0.5)]
    for member, unit in zip(
        members, (noise.Rayleigh(1.0), noise.HalfCauchy(1.0), noise.LogNormal(0.0, 0.5)), strict=True
    ):
        got = jensen_gap(lambda t, s=scale: shape(t / s), member).gap
        assert abs(got / jensen_gap(shape, unit).gap - 1) < 1e-10


def test_tiny_gaps_keep_their_digits():
    for weight in (1e-3, 1e-6, 1e-9):  # gap of l = weight * xi for N(1, 1) is weight**2 / 2
        gap = jensen_gap(lambda t, w=weight: w * t, noise.Gaussian()).gap
        assert abs(gap / (weight**2 / 2) - 1) < 1e-6 and gap > 0
    assert jensen_gap(lambda t: 0 * t - 1e6, noise.Rayleigh(1.0)).gap == pytest.approx(0, abs=1e-18)


def test_huge_gaps():
    narrow = lambda steep: jensen_gap(lambda t: -((steep * t) ** 2) / 2, noise.Gaussian(0.0, 1.0))
    exact = (1e6 - np.log1p(1e6)) / 2  # divergence between N(0, 1) and N(0, 1 / (1 + 1e6))
    assert abs(narrow(1e3).gap / exact - 1) < 1e-12 and abs(narrow(1e3).marginal + np.log1p(1e6) / 2) < 1e-10
    with pytest.raises(ArithmeticError, match="did not settle"):
        narrow(1e5)


@pytest.mark.parametrize(
    "m, power, finite", [(0.6, 1, True), (0.5, 1, False), (1.2, 2, True), (1.0, 2, False), (0.3, 2, False)]
)
def test_heavy_tails_are_inf_or_right(m, power, finite):
    pair = jensen_gap(lambda t: -(t**power), noise.InverseNakagami(m, 2.0))
    moment = noise.InverseNakagami(m, 2.0).mean if power == 1 else noise.InverseNakagami(m, 2.0).second_moment
    assert (abs(pair.bound / -moment - 1) < 1e-9) if finite else (pair.bound == -np.inf and pair.gap == np.inf)
    assert np.isfinite(pair.marginal)


def test_barely_finite_means_are_refused():
    with pytest.raises(ArithmeticError, match="too heavy"):
        jensen_gap(lambda t: -(t**2), noise.InverseNakagami(1.01, 1.0))
    with pytest.raises(ArithmeticError, match="did not settle"):
        jensen_gap(lambda t: -(np.abs(t - 0.7) ** 0.5), noise.Gaussian())


def test_linear_bound_of_an_almost_heavy_noise_is_exact():
    model, almost = GaussianModel(X, Y, 0.7), noise.InverseNakagami(1.0001, 1.0)
    w = np.array([0.3, 0.2])
    n, residual = len(Y), Y - almost.mean * X @ w
    exact = (
        -(residual @ residual + almost.variance * ((X * w) ** 2).sum()) / (2 * 0.49) - n * np.log(2 * np.pi * 0.49) / 2
    )
    assert abs(expected_log_likelihood(model, almost, w) / exact - 1) < 1e-13


@pytest.mark.parametrize(
    "model", [GaussianModel(X, Y, 0.8), LogisticModel(X, (Y > 0) * 1.0)], ids=["normal", "logistic"]
)
@pytest.mark.parametrize("member", [noise.Bernoulli(0.5), noise.Rayleigh(0.8), noise.HardConcrete(0.5)], ids=repr)
def test_bound_and_both_marginals(model, member):
    w = np.array([0.9, -0.4])
    bound = expected_log_likelihood(model, member, w)
    shared, separate = (marginal_log_likelihood(model, member, w, flag) for flag in (True, False))
    assert bound < min(shared, separate)
    rows = [
        GaussianModel(X[[i]], Y[[i]], 0.8) if isinstance(model, GaussianModel) else LogisticModel(X[[i]], model.y[[i]])
        for i in range(7)
    ]
    assert abs(sum(marginal_log_likelihood(row, member, w) for row in rows) - separate) < 1e-10
    assert abs(sum(expected_log_likelihood(row, member, w) for row in rows) - bound) < 1e-10


@pytest.mark.parametrize(
    "member",
    [noise.Rayleigh(1.0), noise.Uniform(0.0, 1.0), noise.HalfCauchy(0.5), noise.Gaussian(0.2, 1.0)],
    ids=lambda member: type(member).__name__,
)
@pytest.mark.parametrize("y", [-3.0, 0.4, 2.0])
@pytest.mark.parametrize("shared", [True, False])
def test_expanded_map_against_search(member, y, shared):
    model = GaussianModel([[1.0], [0.5]], [y, 1.0], 0.7)
    found = expanded_map(model, member, 2.0, shared)
    xi, log_weight = noise_rule(member, 800)

    def negated(w):
        rows = np.stack([model.log_likelihood(xi[:, None] * u) for u in w])
        averaged = np.exp(log_weight) @ np.exp(rows.sum(axis=2)).T if shared else None
        total = np.log(averaged) if shared else np.log(np.exp(log_weight) @ np.exp(rows)).sum(axis=1)
        return w**2 / 8 - total

    w, value = search_minimum(negated, -6, 6, 241, 8)
    assert abs(found.value + value) < 1e-11 and abs(found.weights[0] - w) < 1e-6


def test_bound_is_ridge_for_every_noise_and_scale():
    model = GaussianModel(X, Y, 0.6)
    members = [noise.Bernoulli(0.3), noise.Gaussian(-2.0, 1.0), noise.Rayleigh(1e-3), noise.Beta(2.0, 1.0), Chi(2.5)]
    for member in members:
        for sigma0 in (np.inf, 0.5):
            theta, gram = noise_bound(model, member, sigma0).effective, X.T @ X
            extra = 0.36 / (sigma0 * member.mean) ** 2
            matrix = gram + np.diag(np.diag(gram)) * member.relative_variance + extra * np.eye(2)
            assert np.allclose(theta, np.linalg.solve(matrix, X.T @ Y), rtol=1e-12)


def test_hierarchical_map_is_the_prox_of_the_prior():
    for member in (noise.Rayleigh(0.7), noise.InverseNakagami(1.5, 2.0)):
        prior = marginal_prior(member, 0.9)
        penalty, grid = prior.penalty(), np.linspace(-6, 6, 4001)
        log_prior = prior.log_prob(grid)
        for y in (-2.5, 0.3, 4.0):
            model = GaussianModel([[2.0]], [2 * y], 0.8)
            found = hierarchical_map(model, prior)
            assert abs(found.weights[0] - float(penalty.prox(y, 0.16))) < 1e-7
            assert found.value >= (model.log_likelihood(grid[:, None]).sum(axis=1) + log_prior).max() - 1e-10


def test_models_refuse():
    for make in (
        lambda: GaussianModel(X, Y[:-1]),
        lambda: GaussianModel(X[:, 0], Y),
        lambda: GaussianModel(X * np.nan, Y),
        lambda: GaussianModel(X, Y * np.inf),
        lambda: GaussianModel(X, Y, 0.0),
        lambda: GaussianModel(X, Y, np.nan),
        lambda: LogisticModel(X, np.where(Y > 0, 1, -1)),
    ):
        with pytest.raises(ValueError, match="X|y|std"):
            make()


def test_bad_input_is_named():
    model, rayleigh = GaussianModel(X, Y), noise.Rayleigh(1.0)
    three = GaussianModel(np.ones((2, 3)), [0.0, 1.0])
    cases = [
        (TypeError, "noise", lambda: noise_rule(1.0)),
        (TypeError, "noise", lambda: jensen_gap(np.cos, "Rayleigh")),
        (ValueError, "count", lambda: noise_rule(rayleigh, 3)),
        (ValueError, "log_likelihood", lambda: jensen_gap(lambda t: t * np.nan, rayleigh)),
        (ValueError, "log_likelihood", lambda: jensen_gap(lambda t: 1.0, rayleigh)),
        (ValueError, "w must", lambda: marginal_log_likelihood(model, rayleigh, [1.0])),
        (ValueError, "w", lambda: marginal_log_likelihood(model, rayleigh, [1.0, np.nan])),
        (
            ValueError,
            "size",
            lambda: marginal_log_likelihood(GaussianModel(np.ones((2, 9)), [0.0, 1.0]), rayleigh, np.ones(9)),
        ),
        (ValueError, "sigma0", lambda: noise_bound(model, rayleigh, 0.0)),
        (ValueError, "at most 2 columns", lambda: expanded_map(three, rayleigh, 1.0)),
        (ValueError, "column of zeros", lambda: noise_bound(GaussianModel([[1.0, 0.0]], [1.0]), rayleigh)),
        (ArithmeticError, "no maximum", lambda: expanded_map(LogisticModel([[1.0]], [1]), noise.Bernoulli(0.5))),
        (ValueError, "sigma0", lambda: expanded_map(model, rayleigh, np.nan)),
        (ValueError, "second_moment", lambda: noise_bound(model, noise.InverseNakagami(1.0, 1.0))),
        (ValueError, "w must", lambda: hierarchical_gap(rayleigh, 0.0)),
        (ValueError, "sigma0", lambda: hierarchical_gap(rayleigh, 1.0, -1.0)),
        (ValueError, "variance", lambda: gap_terms(1.0, 1.0, 1.0, -1.0)),
        (ValueError, "hessian", lambda: gap_terms([1.0, 2.0], 1.0, 1.0, 1.0)),
        (ValueError, "variance", lambda: printed_gap(1.0, 1.0, np.nan)),
        (ValueError, "k must", lambda: Chi(0.0)),
        (ValueError, "scale", lambda: Chi(1.0, np.nan)),
        (TypeError, "noise", lambda: inverse_square_variance(noise.Normalised(noise.InverseNakagami(3.0, 1.0)))),
        (ValueError, "largest", lambda: plot_moments(-1.0)),
    ]
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
    assert np.isfinite(marginal_log_likelihood(three, noise.Bernoulli(0.5), np.ones(3)))


def test_chi_of_arrays_and_curves_of_arrays():
    both = Chi([1.0, 6.0], [2.0, 0.5])
    assert both.sample((4, 2), np.random.default_rng(0)).shape == (4, 2) and both.mean.shape == (2,)
    assert (both.inverse_second_moment == [np.inf, 1.0]).all() and (Chi(3.0).log_prob([-1.0, np.inf]) == -np.inf).all()
    for family in FAMILIES:
        curve = moment_curves(family, [[0.5, 2.0]])
        assert curve.variance.shape == curve.inverse_square_variance.shape == (1, 2)
    assert np.isnan(moment_curves("Bernoulli", 1.5).variance) and moment_curves("Bernoulli", 1.0) == (0, 0)


@pytest.mark.parametrize("a, b", [(4.5, 0.3), (1e6, 2.0), (9.0, 4.0)])
def test_beta_precision(a, b):
    with mp.workdps(40):
        moment = lambda k: mp.beta(mp.mpf(a) - k, mp.mpf(b)) / mp.beta(mp.mpf(a), mp.mpf(b))
        truth = moment(4) - moment(2) ** 2
    assert abs(inverse_square_variance(noise.Beta(a, b)) / truth - 1) < 1e-12


class TestTraining:
    weights = training.Network(RNG.normal(size=(2, 3)), RNG.normal(size=3))

    def test_batches_are_single_draws_side_by_side(self):
        rng = np.random.default_rng(0)
        scales = training.draw_scales(noise.Rayleigh(1.0), (2, 3), rng, 5)
        together = training.expanded_gradient(self.weights, X, Y, scales, 1.2, 2.0)
        other = training.hierarchical_gradient(self.weights, X, Y, scales, 2.0)
        for i in range(5):
            single = training.Network(scales.first[i], scales.second[i])
            alone = training.expanded_gradient(self.weights, X, Y, single, 1.2, 2.0)
            assert np.allclose(together.flat[i], alone.flat, rtol=1e-12)
            alone = training.hierarchical_gradient(self.weights, X, Y, single, 2.0)
            assert np.allclose(other.flat[i], alone.flat, rtol=1e-12)

    def test_gradients_by_differences(self):
        scales = training.draw_scales(noise.Rayleigh(1.0), (2, 3), np.random.default_rng(1))
        flat = self.weights.flat

        def objective(flat, form):
            theta = training.Network(flat[:6].reshape(2, 3), flat[6:])
            if form == "expanded":  # in w = theta / mean
                w = theta.combine(1.2, np.divide)
                return training.log_likelihood_gradient(w.combine(scales, np.multiply), X, Y)[0] - w.flat @ w.flat / 8
            spread = scales.combine(2.0, np.multiply)
            z = theta.combine(spread, np.divide).flat
            return training.log_likelihood_gradient(theta, X, Y)[0] - z @ z / 2

        gradients = {
            "expanded": training.expanded_gradient(self.weights, X, Y, scales, 1.2, 2.0),
            "hierarchical": training.hierarchical_gradient(self.weights, X, Y, scales, 2.0),
        }
        for form, gradient in gradients.items():
            steps = [(objective(flat + 1e-6 * e, form) - objective(flat - 1e-6 * e, form)) / 2e-6 for e in np.eye(9)]
            assert np.allclose(gradient.flat, steps, rtol=1e-6, atol=1e-6), form

    def test_training_is_reproducible_and_checks_input(self):
        run = lambda form: training.train(
            form, self.weights, X, Y, noise.Rayleigh(1.0), np.random.default_rng(3), steps=20
        )
        for form in ("expanded", "hierarchical"):
            assert np.array_equal(run(form).trace, run(form).trace) and run(form).trace.shape == (20,)
        for message, call in {
            "form": lambda: run("other"),
            "steps": lambda: training.train("expanded", self.weights, X, Y, noise.Rayleigh(1.0), RNG, steps=1),
            "mean": lambda: training.train("expanded", self.weights, X, Y, noise.HalfCauchy(1.0), RNG),
            "draws": lambda: training.expanded_gradient_variance(self.weights, X, Y, noise.Rayleigh(1.0), 1),
            "sigma0": lambda: training.hierarchical_gradient_variance(self.weights, noise.Rayleigh(1.0), -2.0),
        }.items():
            with pytest.raises(ValueError, match=message):
                call()
