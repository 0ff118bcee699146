"""The bridge between priors and penalties over many members, and what each function refuses."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from adaptive_dropout import concave, convex, redescending
from adaptive_dropout import noise as noises
from adaptive_dropout.effective import Standout
from adaptive_dropout.hard_concrete import HardConcreteL0
from adaptive_dropout.mixture_tests import (
    MIXTURES,
    critical_point,
    laplace_transform,
    mixing_density,
    mixture_of,
    mixture_verdict,
    precision_from_process,
    sign_violation,
)
from adaptive_dropout.one_coin import COINS, DoubleParetoNoise, Dual, ElasticNetNoise, UpdateRule, translate
from adaptive_dropout.penalties import CLASSICAL
from adaptive_dropout.posterior_precision import em_step, implied_precision, precision_moments, rate_density
from adaptive_dropout.scale_mixtures import (
    MEMBERS,
    GeneralisedGamma,
    Laplace,
    MarginalPrior,
    StudentT,
    TwoGaussians,
    marginal_prior,
)
from adaptive_dropout.vectors import SquaredL1

SMOOTH = [member for member in MEMBERS if not member.spike]
W = np.array([1e-3, 0.05, 0.4, 1.0, 3.0, 12.0, 60.0])
name_of = lambda thing: type(thing).__name__


# ---- the theorem ----


@pytest.mark.parametrize("prior", SMOOTH, ids=repr)
def test_eta_hat_is_the_inverse_posterior_mean_precision(prior):
    found = precision_moments(prior, W)
    np.testing.assert_allclose(prior.eta_hat(W) * found.mean, 1, rtol=1e-10)
    q = W * W
    log_p = lambda q: marginal_prior(prior.noise, prior.sigma0, prior.dim).by_quadrature(np.sqrt(q))
    h = 1e-4
    slope = (log_p(q * (1 - h)) - log_p(q * (1 + h))) / (2 * h * q)
    np.testing.assert_allclose(2 * slope, found.mean, rtol=1e-5)
    assert (found.variance > -1e-12 * found.mean**2).all()


@pytest.mark.parametrize("prior", [m for m in SMOOTH if not isinstance(m, TwoGaussians)], ids=repr)
def test_curvature_of_the_penalty_is_the_variance(prior):
    w = np.array([0.3, 1.0, 3.0])
    np.testing.assert_allclose(
        implied_precision(prior.penalty(), w).variance, precision_moments(prior, w).variance, rtol=1e-6
    )


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_moments_of_rows_against_scipy_quadrature(dim):
    prior, r = marginal_prior(noises.Rayleigh(1.0), 1.0, dim), 1.3
    integrand = lambda xi, k: noises.Rayleigh(1.0).log_prob(xi) - (dim + 2 * k) * np.log(xi) - r**2 / (2 * xi**2)
    area = [
        quad(lambda xi, k=k: np.exp(integrand(xi, k)), 0, 12, epsabs=0, epsrel=1e-12, limit=200)[0] for k in range(3)
    ]
    found = precision_moments(prior, r)
    assert found.mean == pytest.approx(area[1] / area[0], rel=1e-9)
    assert found.variance == pytest.approx(area[2] / area[0] - (area[1] / area[0]) ** 2, rel=1e-8)


def test_moments_scale_with_sigma0():
    narrow, wide = (precision_moments(marginal_prior(noises.HalfCauchy(1.0), s), s * W) for s in (1.0, 3.0))
    np.testing.assert_allclose(narrow.mean, 9 * wide.mean, rtol=1e-11)
    np.testing.assert_allclose(narrow.variance, 81 * wide.variance, rtol=1e-10)


def test_em_keeps_zeros_where_zero_is_absorbing():
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(20, 3)), rng.normal(size=20), np.array([1.0, 0.0, -1.0])
    assert em_step(X, y, marginal_prior(noises.HalfCauchy(1.0)), 1.0, w)[1] == 0
    assert em_step(X, y, StudentT(3.0), 1.0, w)[1] != 0


def test_em_of_ridge_is_ridge():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    found = em_step(X, y, marginal_prior(noises.Gaussian(1.0, 0.0), 2.0), 0.7, np.ones(3))
    np.testing.assert_allclose(found, np.linalg.solve(X.T @ X + 0.7 / 4 * np.eye(3), X.T @ y), rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 7.0])
@pytest.mark.parametrize(
    "noise", [noises.HalfCauchy(2.0), noises.Gaussian(0.5, 1.0), noises.LogNormal(0.0, 1.0)], ids=repr
)
def test_dropout_rates_have_the_density(noise, ratio):
    draws = 1 / (1 + ratio * noise.sample(4000, np.random.default_rng(5)) ** 2)
    grid = np.linspace(1e-6, 1 - 1e-6, 20_001)
    below = np.array([quad(lambda k: rate_density(noise, k, ratio), 1e-12, x, limit=200)[0] for x in (0.1, 0.4, 0.8)])
    share = np.array([(draws < x).mean() for x in (0.1, 0.4, 0.8)])
    assert (np.abs(share - below) < 5 * 0.5 / 4000**0.5).all() and (rate_density(noise, grid, ratio) >= 0).all()


# ---- the converse ----


@pytest.mark.parametrize("row", MIXTURES, ids=lambda row: row.name)
def test_process_gives_eta_hat_and_signs_alternate(row):
    for w in (0.5, 2.0):
        assert float(precision_from_process(row.penalty, w * w)) * row.penalty.eta_hat(w) == pytest.approx(1, rel=1e-13)
    assert sign_violation(laplace_transform(row.penalty, 1.7), at=2.0, order=30, digits=80, nodes=96) is None


def gauss_legendre_sum(function, low, high, nodes=72):
    x, weights = np.polynomial.legendre.leggauss(nodes)
    return (high - low) / 2 * weights @ [function((low + high) / 2 + (high - low) / 2 * t) for t in x]


@pytest.mark.parametrize(
    "penalty", [convex.L1(), concave.LogSum(0.6), redescending.Cauchy(1.5), convex.PseudoHuber(0.4)], ids=repr
)
def test_mixing_measure_integrates_back(penalty):
    kappa, w = 1.5, 0.8
    inside = lambda y: float(mixing_density(penalty, float(np.exp(y)), kappa, digits=8).value)
    total = gauss_legendre_sum(lambda y: np.exp(y - w * w * np.exp(y) / 2) * inside(y), -18, 6)
    assert total == pytest.approx(np.exp(-kappa * penalty(w)), rel=1e-5)


@pytest.mark.parametrize("penalty", [redescending.GemanMcClure(0.8), concave.Atan(1.0), Standout()], ids=repr)
def test_bounded_penalties_leave_an_atom_at_zero_precision(penalty):
    density = lambda y: float(mixing_density(penalty, float(np.exp(y)), 1.0, digits=8).value)
    total = gauss_legendre_sum(lambda y: np.exp(y - np.exp(y) / 2 * 0.09) * density(y), -16, 7)
    assert total + np.exp(-penalty(np.inf)) == pytest.approx(np.exp(-penalty(0.3)), rel=2e-4)


def test_every_classical_and_effective_penalty_has_a_verdict():
    for penalty in [row.penalty for row in CLASSICAL] + [Standout(2.0, 0.5), HardConcreteL0(0.3)]:
        verdict = mixture_verdict(penalty)
        assert verdict.weights in ("every", "none", "limit") and len(verdict.reason) > 10
    assert mixture_verdict(concave.LogSum(0.0)).weights == "every"
    assert mixture_verdict(marginal_prior(GeneralisedGamma(1.0, 1.0, -0.5)).penalty()).weights == "every"
    assert mixture_verdict(marginal_prior(noises.Uniform(0.5, 2.0)).penalty()).weights == "one"
    assert mixture_verdict(marginal_prior(noises.Uniform(-1.0, 2.0)).penalty()).weights == "one"
    assert mixture_verdict(marginal_prior(noises.Normalised(noises.Uniform(0.5, 2.0))).penalty()).weights == "one"


def test_squared_l1_by_differences():
    phi = lambda q1, q2: mpmath.exp(-mpmath.mpf("0.2") * (mpmath.sqrt(q1) + mpmath.sqrt(q2)) ** 2 / 2)
    with mpmath.workdps(30):  # the mixed derivative of a Laplace transform of a measure is never negative
        assert mpmath.diff(phi, (1, 1), (1, 1)) < 0 < mpmath.diff(phi, (2, 2), (1, 1))
    assert mixture_verdict(SquaredL1()).weights == "none"


@pytest.mark.parametrize("precision, digits", [(1e-6, 10), (1e5, 10)])
def test_unresolved_densities_say_so(precision, digits):
    assert mixing_density(convex.PseudoHuber(1.0), precision, digits=digits).digits == 0


@pytest.mark.parametrize("kappa", [0.3])
def test_powers_of_powers(kappa):
    for penalty in (convex.L1(), convex.L2(), convex.PseudoHuber(0.5), convex.ElasticNet(0.2), concave.LogSum(0.7)):
        prior = translate(penalty, "prior", weight=5.0)
        power = translate(prior, "prior", weight=kappa)
        np.testing.assert_allclose(np.diff(power.log_prob(W)), -5 * kappa * np.diff(penalty(W)), rtol=1e-9, atol=1e-11)
    wide = MarginalPrior(ElasticNetNoise(0.2, 5.0), 3.0)
    power = translate(wide, "prior", weight=kappa)
    np.testing.assert_allclose(
        np.diff(power.log_prob(W)), -5 * kappa * np.diff(convex.ElasticNet(0.2)(W / 3)), rtol=1e-9, atol=1e-11
    )
    with pytest.raises(ValueError, match="weight"):
        translate(translate(concave.LogSum(0.7), "prior", weight=2.0), "prior", weight=0.5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_dropouts_coin_there_and_back(unbiased):
    coin = noises.Bernoulli(0.3, unbiased=unbiased)
    prior = translate(coin, "prior", sigma0=2.0)
    assert translate(prior, "noise", sigma0=2.0) == coin
    with pytest.raises(ValueError, match="no scale parameter"):
        translate(prior, "noise", sigma0=0.1)


@pytest.mark.parametrize("kappa", [0.5, 1.5, 2.5])
def test_fractional_powers_of_two_gaussians_fail(kappa):
    phi = lambda q: (mpmath.exp(-q / 2) + 2 * mpmath.exp(-4 * q)) ** mpmath.mpf(kappa)
    assert any(sign_violation(phi, at, order=40) is not None for at in (0.3, 0.6, 1.0))


def test_a_critical_point_of_a_known_curve():
    found = critical_point(lambda z: (z - (3 + 2j)) ** 2 + 5 + 4j, 2.9 + 1.8j)
    assert abs(found.point - (3 + 2j)) < 1e-20 and abs(found.q - (5 + 4j)) < 1e-20 and found.rouche < 1e-10
    assert found.margin == pytest.approx(1.0)  # at z = 3: 5 - 4


@pytest.mark.parametrize(
    "call, start",
    [
        (lambda: mixing_density(convex.L1(), 0.0), "precision"),
        (lambda: mixing_density(convex.L1(), np.nan), "precision"),
        (lambda: mixing_density(convex.L1(), 1.0, -1.0), "kappa"),
        (lambda: mixing_density(convex.L1(), 1.0, digits=3), "digits"),
        (lambda: mixture_of(concave.LogSum(0.0)), "LogSum"),
        (lambda: sign_violation(mpmath.exp, at=0.0), "at"),
        (lambda: sign_violation(mpmath.exp, order=1000), "order"),
        (lambda: laplace_transform(concave.L0()), "L0"),
    ],
)
def test_bad_input_of_the_tests(call, start):
    with pytest.raises(ValueError, match=f"^{start}"):
        call()


# ---- the dictionary ----


@pytest.mark.parametrize("coin", COINS, ids=lambda coin: coin.prior)
def test_all_faces_agree(coin):
    prior, penalty, dual, rule = (translate(coin.noise, to, lam=0.4) for to in ("prior", "penalty", "dual", "rule"))
    np.testing.assert_allclose(np.diff(penalty(W)), -np.diff(prior.log_prob(W)), rtol=1e-9, atol=1e-10)
    eta = penalty.eta_hat(W)
    np.testing.assert_allclose(rule(W), eta / (eta + 0.4), rtol=1e-13)
    assert isinstance(dual, Dual) and isinstance(rule, UpdateRule)
    for face in (prior, penalty, dual, rule):
        back = translate(face, "prior")
        np.testing.assert_allclose(back.log_prob(W), prior.log_prob(W), rtol=1e-12)


@pytest.mark.parametrize("kappa", [0.3, 4.0])
@pytest.mark.parametrize(
    "penalty",
    [convex.L1(), convex.L2(), convex.PseudoHuber(0.5), convex.ElasticNet(0.2)],
    ids=repr,
)
def test_priors_of_convex_penalties_integrate_to_one(penalty, kappa):
    prior = translate(penalty, "prior", weight=kappa)
    mass = 2 * quad(lambda w: np.exp(prior.log_prob(w)), 0, 60 / min(kappa, 1), limit=400, points=(0.01, 1.0, 5.0))[0]
    assert mass == pytest.approx(1, rel=1e-7)
    np.testing.assert_allclose(prior.penalty()(W), kappa * penalty(W), rtol=1e-9)


@pytest.mark.parametrize("kappa", [1.05, 2.0, 9.0, 60.0])
def test_double_pareto_at_small_and_large_weight(kappa):
    prior = translate(concave.LogSum(0.4), "prior", weight=kappa)
    w = np.array([1e-4, 0.1, 2.0, 50.0])
    exact = np.log((kappa - 1) / 0.8) - kappa * np.log1p(w / 0.4)
    np.testing.assert_allclose(prior.by_quadrature(w), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", [DoubleParetoNoise(0.7, 2.5), ElasticNetNoise(0.3, 2.0)], ids=repr)
def test_new_noises_draw_from_their_density(noise):
    y = np.linspace(-12, 12, 40_001)
    cdf = np.cumsum(np.exp(noise._log_density_of_log(y))) * (y[1] - y[0])
    assert cdf[-1] == pytest.approx(1, abs=2e-3)
    draws = np.log(noise.sample(3000, np.random.default_rng(2)))
    assert kstest(draws, lambda t: np.interp(t, y, cdf)).pvalue > 1e-6
    assert noise.sample((2, 3), np.random.default_rng(0)).shape == (2, 3)


def test_moments_of_the_new_noises():
    double, net = DoubleParetoNoise(0.7, 5.5), ElasticNetNoise(0.3, 2.0)
    for noise in (double, net):
        for power, moment in ((1, noise.mean), (2, noise.second_moment)):
            area = quad(
                lambda y, p=power, n=noise: np.exp(p * y + n._log_density_of_log(np.array(y))), -12, 6, limit=400
            )[0]
            assert moment == pytest.approx(float(area), rel=1e-6)
    assert double.inverse_second_moment == np.inf and DoubleParetoNoise(1.0, 2.0).mean == np.inf
    assert DoubleParetoNoise(1.0, 3.0).second_moment == np.inf


def test_methods_by_name_and_torch():
    torch = pytest.importorskip("torch")
    rule = translate("variational-dropout", "rule", lam=0.5)
    assert 0 < rule(0.7) < 1
    dual = translate(Laplace(2.0), "dual")
    assert torch.allclose(dual(torch.tensor([4.0])), torch.tensor([1.0]))


@pytest.mark.parametrize(
    "call, error, word",
    [
        (lambda: precision_moments(Laplace(1.0), 1e7), ValueError, "w must have"),
        (lambda: translate(convex.L1(), "posterior"), ValueError, "to must be"),
        (lambda: translate(convex.L1(), "rule", lam=0.0), ValueError, "lam"),
        (lambda: translate(convex.L1(), "prior", weight=-1.0), ValueError, "weight"),
        (lambda: translate(noises.Rayleigh(1.0), "prior", sigma0=np.nan), ValueError, "sigma0"),
        (lambda: translate(noises.Rayleigh, "prior"), TypeError, "Rayleigh"),
        (lambda: translate([1.0], "prior"), TypeError, "thing"),
        (lambda: translate(np.cos, "penalty"), ValueError, "side"),
        (lambda: translate(np.cos, "penalty", side="noise"), ValueError, "side"),
        (lambda: translate("alpha = 1", "penalty"), ValueError, "alpha"),
        (lambda: translate("nonsense", "penalty"), ValueError, "nonsense"),
        (lambda: translate(StudentT(3.0), "prior", weight=0.2), ValueError, "improper"),
        (lambda: translate(marginal_prior(noises.Rayleigh(1.0), 1.0), "prior", weight=2.0), ValueError, "every"),
        (lambda: translate(redescending.LogSquareSum(1.0), "noise", weight=0.5), ValueError, "unless weight > 0.5"),
        (lambda: translate(concave.LogSum(0.0), "noise", weight=3.0), ValueError, "improper"),
        (
            lambda: translate(concave.L0(), "noise"),
            ValueError,
            "no prior",
        ),
    ],
)
def test_refusals_name_the_reason(call, error, word):
    with pytest.raises(error, match=word):
        call()


def test_marginal_priors_translate_like_named_ones():
    plain, named = MarginalPrior(noises.Rayleigh(2.0)), Laplace(2.0)
    np.testing.assert_allclose(translate(plain, "dual")(W), translate(named, "dual")(W), rtol=1e-9)
