"""Priors of noises: heavier runs of what pages 30 to 30c show: parameters, dimensions, extremes, bad input."""

import math
import pickle
from dataclasses import dataclass, replace
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from adaptive_dropout import noise as noises
from adaptive_dropout import scale_mixtures as sm
from adaptive_dropout.bessel_priors import log_bessel_k
from adaptive_dropout.heavy_priors import scaled_exp1
from adaptive_dropout.mixture import SpikePenalty, _outside

W = np.array([1e-8, 1e-4, 0.03, 0.4, 1.7, 9.0, 100.0])
EVERY = pytest.mark.parametrize("prior", sm.MEMBERS, ids=lambda prior: repr(prior))
SMOOTH = pytest.mark.parametrize("prior", [p for p in sm.MEMBERS if not p.spike], ids=lambda prior: repr(prior))


def log_density(prior, r, dim):
    """log p_D(r) by mpmath: trapezoidal sums over log xi around the summit; halving the spacing squares the error."""
    with mpmath.workdps(25):
        r, s = mpmath.mpf(float(r)), mpmath.mpf(prior.sigma0)
        law, cut = LAWS[type(prior)](prior), mpmath.log(r / s)

        def h(y):
            v = (s * mpmath.exp(y)) ** 2
            return law(y) - r * r / (2 * v) - dim * mpmath.log(2 * mpmath.pi * v) / 2

        grid = sorted([*map(mpmath.mpf, range(-60, 61)), *(cut + k for k in range(-6, 7))])
        heights = [h(y) for y in grid]
        best = heights.index(max(heights))
        left, right = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        while right - left > 1e-4:
            thirds = (2 * left + right) / 3, (left + 2 * right) / 3
            left, right = (left, thirds[1]) if h(thirds[0]) > h(thirds[1]) else (thirds[0], right)
        top, ends = h(left), [left, left]
        for side, step in ((0, -0.001), (1, 0.001)):
            while h(ends[side]) > top - 45:
                ends[side], step = ends[side] + step, 1.3 * step
        count, sums = 48, [mpmath.inf, mpmath.mpf(1)]
        while abs(sums[-1] / sums[-2] - 1) > 1e-9:
            step = (ends[1] - ends[0]) / count
            sums.append(step * mpmath.fsum(mpmath.exp(h(ends[0] + k * step) - top) for k in range(count + 1)))
            count *= 2
        return top + mpmath.log(sums[-1])


def _mp(function):
    return lambda prior: lambda y: function(prior, mpmath.mpf(y))


def _log_beta_prime(a, b, y):
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    return 2 * a * y - (a + b) * mpmath.log1p(mpmath.exp(2 * y)) - mpmath.log(mpmath.beta(a, b) / 2)


def _log_student(p, y):
    m = mpmath.mpf(p.nu) / 2
    return mpmath.log(2) + m * mpmath.log(m) - mpmath.loggamma(m) - 2 * m * y - m * mpmath.exp(-2 * y)


@cache
def _gig_constant(lam, omega):
    return mpmath.log(mpmath.besselk(lam, omega))


def _log_gig(p, y):
    lam, omega = mpmath.mpf(p.lam), mpmath.mpf(p.delta) * mpmath.mpf(p.gamma)
    return 2 * lam * y - omega * mpmath.cosh(2 * y) - _gig_constant(lam, omega)


def _log_gaussian(p, y):
    x, m, s = mpmath.exp(y), mpmath.mpf(p.mean), mpmath.mpf(p.std)
    both = sum(mpmath.exp(-(((x * sign - m) / s) ** 2) / 2) for sign in (1, -1))
    return mpmath.log(both / (s * mpmath.sqrt(2 * mpmath.pi))) + y


LAWS = {
    sm.Laplace: _mp(lambda p, y: 2 * y - mpmath.exp(2 * y) / 2),
    sm.StudentT: _mp(_log_student),
    sm.Horseshoe: _mp(lambda p, y: mpmath.log(2 / mpmath.pi) + y - mpmath.log1p(mpmath.exp(2 * y))),
    sm.HorseshoePlus: _mp(lambda p, y: mpmath.log(4 / mpmath.pi**2 * (y / (2 * mpmath.sinh(y)) if y else 0.5))),
    sm.ThreeParameterBeta: _mp(lambda p, y: _log_beta_prime(p.a, p.b, y)),
    sm.NormalExponentialGamma: _mp(lambda p, y: _log_beta_prime(1, p.b, y)),
    sm.NormalGamma: _mp(
        lambda p, y: (
            2 * p.lam * y - mpmath.exp(2 * y) / 2 - mpmath.log(mpmath.mpf(2) ** (p.lam - 1) * mpmath.gamma(p.lam))
        )
    ),
    sm.GeneralizedHyperbolic: _mp(_log_gig),
    sm.GaussianNoisePrior: _mp(_log_gaussian),
}
GRID = [
    sm.Laplace(0.3), sm.StudentT(0.7, 2.0), sm.StudentT(30.0, 0.1), sm.Horseshoe(0.05), sm.HorseshoePlus(2.0),
    sm.ThreeParameterBeta(0.2, 3.0, 0.5), sm.ThreeParameterBeta(4.0, 0.3), sm.NormalExponentialGamma(0.4),
    sm.NormalGamma(0.2, 3.0), sm.NormalGamma(6.0, 0.5), sm.GeneralizedHyperbolic(-2.0, 0.1, 0.3),
    sm.GeneralizedHyperbolic(3.0, 4.0, 2.0), sm.GaussianNoisePrior(1.0, 0.3), sm.GaussianNoisePrior(-2.0, 1.5, 0.2),
]  # fmt: skip


@pytest.mark.parametrize("prior", GRID, ids=lambda prior: repr(prior))
def test_against_mpmath(prior):
    for w in (1e-8, 0.5, 100.0):
        truth = log_density(prior, w, 1)
        error = abs(float(mpmath.mpf(float(prior.log_prob(w))) - truth)) / max(1, abs(float(truth)))
        assert error < 1e-12, (w, error)


@pytest.mark.parametrize(
    ("prior", "dim"), [(GRID[1], 2), (GRID[3], 5), (GRID[5], 2), (GRID[12], 3), (GRID[9], 3)], ids=repr
)
def test_rows_against_mpmath(prior, dim):
    row = replace(prior, dim=dim)
    for w in (1e-6, 30.0):
        truth = float(log_density(row, w, dim))
        assert abs(row.log_prob(w) - truth) < 1e-12 * max(1, abs(truth)), w


@pytest.mark.parametrize(
    "prior", [sm.Horseshoe(1.0, 50), sm.NormalGamma(0.5, 1.0, 50), sm.StudentT(2.0, 1.0, 50)], ids=repr
)
def test_long_rows(prior):
    direct = prior.by_quadrature(W)
    assert (np.abs(prior.log_prob(W) - direct) <= 1e-12 * np.maximum(1, np.abs(direct))).all()
    higher = sm.marginal_prior(prior.noise, prior.sigma0, 52).by_quadrature(W)
    ratio = np.log(prior.eta_hat(W) * 2 * np.pi) + higher - direct
    assert np.abs(ratio[np.abs(direct) < 700]).max() < 1e-10
    if isinstance(prior, sm.StudentT):
        lengths = np.linalg.norm(prior.sample(5000, np.random.default_rng(0)), axis=1)
        assert stats.kstest(lengths, prior.cdf).pvalue > 1e-6  # fails by chance once in a million seeds
        assert np.allclose(prior.cdf(W[2:]), stats.f(50, 2).cdf(W[2:] ** 2 / 50), rtol=1e-10)


@EVERY
def test_extremes_and_shapes(prior):
    w = np.array([5e-324, 1e-300, 1e-150, 1e150, 1e300, 1.7e308])
    for call in (prior.log_prob, prior.grad_log_prob, prior.eta_hat, prior.cdf):
        values = call(w)
        assert not np.isnan(values).any(), call
        assert (
            call(w.reshape(2, 3)).shape == (2, 3) and np.ndim(call(1.5)) == 0 and call(np.zeros((0, 2))).shape == (0, 2)
        )
        assert call(np.float32(0.5)).dtype == np.float32 and not np.isnan(call(np.array([0.0, np.inf, -np.inf]))).any()
    assert prior.log_prob(np.inf) == -np.inf and prior.cdf(np.inf) == 1 and prior.cdf(-np.inf) == 0
    assert prior.cdf(0.0) == 0.5 + prior.spike / 2 and prior.quantile(0.0) == -np.inf and prior.quantile(0.5) == 0
    single, double = prior.log_prob(W.astype(np.float32)), prior.log_prob(W)
    assert np.allclose(single, double, rtol=2e-4, atol=2e-4)


@EVERY
def test_scale_law(prior):
    """c w has density p(w / c) / c."""
    field = next(f for f in ("scale", "sigma0", "slab_std", "delta", "gamma") if f in prior.__dataclass_fields__)
    changes = {
        "slab_std": {"slab_std": 3.0 * getattr(prior, "slab_std", 0), "spike_std": 3.0 * getattr(prior, "spike_std", 0)}
    }
    changes["delta"] = {"delta": 3.0 * getattr(prior, "delta", 0), "gamma": getattr(prior, "gamma", 0) / 3.0}
    changes["gamma"] = {"gamma": getattr(prior, "gamma", 0) / 3.0}
    wide = replace(prior, **changes.get(field, {field: 3.0 * getattr(prior, field)}))
    assert np.allclose(wide.log_prob(3 * W), prior.log_prob(W) - np.log(3), rtol=1e-12, atol=1e-11)
    assert np.allclose(wide.eta_hat(3 * W), 9 * prior.eta_hat(W), rtol=1e-10)
    assert wide.variance == pytest.approx(9 * prior.variance) and np.allclose(
        wide.quantile([0.1, 0.7]), 3 * prior.quantile([0.1, 0.7])
    )


@SMOOTH
def test_penalty_derivatives(prior):
    penalty, h = prior.penalty(), 1e-5
    w = np.array([0.01, 0.3, 2.0, 12.0])
    slope = (penalty(w * (1 + h)) - penalty(w * (1 - h))) / (2 * h * w)
    assert np.allclose(slope, penalty.grad(w), rtol=1e-7, atol=1e-9)
    bend = (penalty.grad(w * (1 + h)) - penalty.grad(w * (1 - h))) / (2 * h * w)
    assert np.allclose(bend, penalty.hess(w), rtol=1e-6, atol=1e-7 / penalty.eta_hat(w).min())
    both = penalty.value_and_grad(w)
    assert np.allclose(both[0], penalty(w), rtol=1e-15) and np.allclose(both[1], penalty.grad(w), rtol=1e-15)
    concave = np.diff(penalty(np.sqrt(np.linspace(0.01, 9, 400))), 2)
    assert (concave <= 1e-12).all(), "subquadratic"
    assert (np.diff(penalty.eta_hat(np.logspace(-6, 4, 400))) >= -1e-13).all()


@SMOOTH
def test_prox_of_pits_is_zero_and_infinite_points_stay(prior):
    penalty = prior.penalty()
    assert (
        penalty.prox(np.inf, 1.0) == np.inf
        and penalty.prox(0.0, 1.0) == 0
        and penalty.prox(2.0, 0.0) == pytest.approx(2.0)
    )
    if prior.log_peak == np.inf:
        assert (penalty.prox(np.array([-3.0, 1e-3, 1e6]), 1e-12) == 0).all() and penalty(0.0) == -np.inf
    else:
        assert penalty(0.0) == 0 and penalty(1e-9) >= 0 and 0 <= penalty.prox(1e4, 1.0) <= 1e4


@EVERY
def test_values_hash_pickle_and_frozen(prior):
    assert (
        prior == replace(prior) and hash(prior) == hash(replace(prior)) and pickle.loads(pickle.dumps(prior)) == prior
    )
    with pytest.raises(AttributeError):
        prior.dim = 3


@EVERY
@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf, "1", None, True])
def test_bad_parameters_are_named(prior, bad):
    for field in prior.__dataclass_fields__:
        if field in ("lam", "mean") and bad == -1.0 and not isinstance(prior, sm.NormalGamma):
            continue
        with pytest.raises((ValueError, TypeError), match=field):
            replace(prior, **{field: bad})


@EVERY
def test_bad_arguments(prior):
    for call in (prior.log_prob, prior.grad_log_prob, prior.eta_hat, prior.cdf):
        with pytest.raises(ValueError, match="NaN"):
            call(np.array([1.0, np.nan]))
    for q in (-0.1, 1.1):
        with pytest.raises(ValueError, match="q must lie"):
            prior.quantile(q)
    with pytest.raises(TypeError, match="rng"):
        prior.sample(3, None)


@pytest.mark.parametrize("zero", [0.0, 0, -0.0])
def test_zero_scales_are_refused(zero):
    by_name = [sm.Laplace, sm.Horseshoe, sm.HorseshoePlus, sm.UniformNoisePrior, sm.StudentT]
    for make in [*by_name, lambda z: sm.StudentT(1.0, z)]:
        with pytest.raises(ValueError, match="got"):
            make(zero)
    with pytest.raises(ValueError, match="spike_std"):
        sm.TwoGaussians(0.5, 1.0, 2.0)
    with pytest.raises(ValueError, match="power"):
        sm.GeneralisedGamma(1.0, 1.0, zero)


@dataclass(frozen=True, eq=False, repr=False)
class Half(noises.Noise):
    """A noise of a stranger whose density integrates to one half."""

    rate: float = 1.0
    _ranges = {"rate": "(0, inf)"}

    def _mean(self):
        return 1.0

    def _variance(self):
        return 1.0

    def _log_prob(self, x):
        return np.where(x > 0, -self.rate * x - np.log(2), -np.inf)


def test_strange_noises():
    with pytest.raises(ValueError, match="integrates"):
        sm.marginal_prior(Half())
    for noise in (noises.Rayleigh([1.0, 2.0]), noises.Gaussian(0.0, 0.0)):
        with pytest.raises(ValueError, match="noise"):
            sm.marginal_prior(noise)
    with pytest.raises(TypeError, match="noise"):
        sm.named_prior(3.0)
    gate = sm.marginal_prior(noises.HardConcrete(0.5))
    assert gate.log_prob(0.0) == pytest.approx(np.log(gate.spike)) and 0 < gate.spike < 1
    t = np.linspace(-60, 60, 24_001)
    assert 2 * np.exp(gate.log_prob(np.exp(t)) + t).sum() * 5e-3 == pytest.approx(1 - gate.spike, abs=1e-9)
    with pytest.raises(ValueError, match="mass"):
        gate.penalty()
    unit = sm.marginal_prior(noises.Normalised(noises.Rayleigh(2.0)))
    assert np.allclose(unit.log_prob(W), sm.Laplace(math.sqrt(2 / math.pi)).log_prob(W), rtol=1e-11, atol=1e-12)


def test_narrow_noise_is_resolved():
    """A summit of width 0.005 over shoulders e**-20 below, against the Bessel series and no noise at all."""
    almost = sm.marginal_prior(noises.LogNormal(0.0, 1e-4))
    assert np.abs(almost.log_prob(W[:-1]) - stats.norm.logpdf(W[:-1])).max() < 1e-3
    sharp = sm.GaussianNoisePrior(1.0, 0.155)
    series = sharp.closed_form(W[:-1])
    assert np.abs(sharp.log_prob(W[:-1]) - series).max() < 1e-12 * np.abs(series).max()


def test_infinite_variance_is_inf():
    infinite = [sm.Horseshoe(), sm.HorseshoePlus(), sm.StudentT(2.0), sm.StudentT(0.1), sm.ThreeParameterBeta(1.0, 1.0)]
    assert all(prior.variance == np.inf for prior in infinite)
    assert sm.StudentT(2.1).variance == pytest.approx(21) and sm.ThreeParameterBeta(1.0, 1.5).variance == pytest.approx(
        2
    )


@pytest.mark.parametrize("prior", [sm.SpikeAndSlab(0.3, 2.0), sm.SpikeAndSlab(0.9, 30.0)], ids=repr)
def test_spike_penalty(prior):
    penalty = prior.penalty()
    assert isinstance(penalty, SpikePenalty) and penalty(0.0) == 0 and penalty.sparse and penalty.eta_hat(0.0) == 0
    w = np.array([0.5, -2.0])
    assert np.allclose(penalty(w), np.log1p(-prior.pi) - prior.log_prob(w)) and np.allclose(
        penalty.grad(w), w / prior.sigma0**2
    )
    x = torch.tensor(w, requires_grad=True)
    penalty(x).sum().backward()
    assert np.allclose(x.grad, w / prior.sigma0**2)
    with pytest.raises(ValueError, match="negative jump"):
        sm.SpikeAndSlab(0.99, 0.1).penalty()


def test_torch_samples_follow_the_law():
    generator = torch.Generator().manual_seed(1)
    for prior in (sm.GeneralizedHyperbolic(1.0), sm.HorseshoePlus(), sm.TwoGaussians(0.5), sm.NormalGamma(0.3, 1.0, 3)):
        draws = prior.sample(10_000, generator, torch.float64).numpy()
        draws = draws if prior.dim == 1 else np.linalg.norm(draws, axis=1)
        assert stats.kstest(draws, prior.cdf).pvalue > 1e-6, prior  # fails by chance once in a million seeds


def test_special_functions():
    with mpmath.workdps(30):
        for order in (0.25, 3.5, 12.0, 40.5):
            for z in (1e-6, 0.3, 7.0, 400.0):
                truth = mpmath.log(mpmath.besselk(order, z))
                assert abs(float(mpmath.mpf(float(log_bessel_k(order, z))) - truth)) < 2e-14 * max(1, abs(float(truth)))
        for x in (1e-9, 0.2, 0.999, 1.001, 3.0, 700.0, 1e8):
            truth = mpmath.exp(mpmath.mpf(x)) * mpmath.e1(x)
            assert abs(float(scaled_exp1(x) / truth - 1)) < 1e-14, x  # 80 levels of rounding


def test_closed_forms_of_rows_are_refused():
    for prior in (sm.Horseshoe(1.0, 2), sm.UniformNoisePrior(1.0, 3)):
        with pytest.raises(NotImplementedError, match="dim"):
            prior.closed_form(1.0)


def test_hard_edges_on_a_dense_grid():
    """A bounded noise cuts the window of the quadrature at its edge; 3000 points find the place."""
    prior = sm.UniformNoisePrior(0.6)
    w = 10 ** np.random.default_rng(0).uniform(-3, 3, 3000)
    truth = prior.closed_form(w)
    for road in (prior.log_prob, prior.by_quadrature):
        assert (np.abs(road(w) - truth) <= 1e-12 * np.maximum(1, np.abs(truth))).all(), road


@pytest.mark.parametrize("dim", [20, 40, 1000])
def test_short_and_long_rows_of_the_heaviest_noise(dim):
    """The summit of the integrand is 1 / sqrt(dim) wide, too narrow for nodes that all r share."""
    r = np.array([1e-6, 0.03, 1.0, 9.0, 300.0])
    prior, exact = sm.marginal_prior(noises.InverseNakagami(0.6, 1.0), 1.5, dim), sm.StudentT(1.2, 1.5, dim)
    for road in (prior.log_prob, prior.by_quadrature):
        assert np.allclose(road(r), exact.log_prob(r), rtol=1e-13, atol=1e-12)
    assert np.allclose(prior.eta_hat(r), exact.eta_hat(r), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 40, 400])
def test_narrow_summit_on_a_long_shoulder(dim):
    """Uniform noise, by incomplete gamma functions: one side of the summit falls like xi**-dim, one is an edge."""
    prior, r = sm.marginal_prior(noises.Uniform(-1.0, 0.3), 1.5, dim), np.array([1e-6, 0.03, 1.0, 30.0])
    with mpmath.workdps(60):
        half, c = (mpmath.mpf(dim) - 1) / 2, mpmath.mpf(1.5)
        side = lambda a, h: mpmath.gammainc(half, a / mpmath.mpf(h) ** 2) / a**half / 2
        mass = [side(x**2 / (2 * c**2), 1.0) + side(x**2 / (2 * c**2), 0.3) for x in map(mpmath.mpf, map(float, r))]
        truth = [float(mpmath.log(m / mpmath.mpf(1.3) * (2 * mpmath.pi * c**2) ** -(half + 0.5))) for m in mass]
    assert np.allclose(prior.by_quadrature(r), truth, rtol=1e-12, atol=1e-12)
    assert dim > 1 or np.allclose(prior.log_prob(r), truth, rtol=1e-12, atol=1e-12)  # its table takes seconds for rows


def test_panels_are_halved_where_two_values_make_a_sharp_bend():
    exact = sm.TwoGaussians(0.9, 1.0, 0.01, 10)
    table = sm.marginal_prior(exact.noise, 1.0, 10)
    w = np.logspace(-4, 1, 400)
    assert (np.abs(table.log_prob(w) - exact.log_prob(w)) <= 1e-11 * np.maximum(1, np.abs(exact.log_prob(w)))).all()


@pytest.mark.parametrize("r", [1e-4, 1e-13])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_small_balls_have_the_mass_that_the_density_says(dim, r):
    prior = sm.StudentT(3.0, 0.7, dim)
    volume = math.pi ** (dim / 2) / math.gamma(dim / 2 + 1) * r**dim
    mass = volume * np.exp(prior.log_peak)
    assert prior.quantile(mass if dim > 1 else 0.5 + mass / 2) == pytest.approx(
        r, rel=1e-7 if r > 1e-9 or dim > 1 else 1e-3
    )
    assert dim == 1 or prior.cdf(r) == pytest.approx(mass, rel=1e-7)


def test_quantiles_with_a_spike():
    prior = sm.SpikeAndSlab(0.4, 2.0)
    assert (prior.quantile(np.array([0.2 + 1e-9, 0.5, 0.8 - 1e-9])) == 0).all()
    assert prior.quantile(0.1) == pytest.approx(2 * stats.norm.ppf(0.25)) and prior.quantile(0.9) > 0
    assert prior.cdf(prior.quantile(0.95)) == pytest.approx(0.95, rel=1e-12)


@SMOOTH
def test_dual_is_the_legendre_transform(prior):
    """f at eta_hat(w) equals 2 Omega - w Omega', and its slope is Omega'**2."""
    penalty, w, h = prior.penalty(), np.array([0.05, 0.7, 2.5]), 1e-5
    eta = penalty.eta_hat(w)
    assert np.allclose(penalty.dual(eta), 2 * penalty(w) - w * penalty.grad(w), rtol=1e-9, atol=1e-9)
    inside = penalty.eta_hat(w * 1.2) > eta * (1 + 1e-3)
    slope = (penalty.dual(eta * (1 + h)) - penalty.dual(eta * (1 - h))) / (2 * h * eta)
    assert np.allclose(slope[inside], penalty.grad(w)[inside] ** 2, rtol=1e-5)


def test_spike_prox_is_global():
    penalty, rng = sm.SpikeAndSlab(0.3, 2.0).penalty(), np.random.default_rng(0)
    v, step = rng.uniform(0, 9, 500), 10 ** rng.uniform(-2, 2, 500)
    objective = lambda w: (w - v) ** 2 / 2 + step * penalty(w)
    best = np.min([objective(share * v) for share in np.linspace(0, 1, 1001)], axis=0)
    assert (objective(penalty.prox(v, step)) <= best + 1e-12).all()


def test_names_of_noises():
    """Table 1 as a function, against the quadrature of the noise."""
    for noise in (sm.GeneralisedGamma(0.8, 3.0, 0.5), sm.GeneralisedGamma(0.8, 3.0, -0.5), sm.TwoPoints(0.3, 2.0, 0.2)):
        direct = sm.marginal_prior(noise, 0.7, 2).by_quadrature(W)
        assert (
            np.abs(sm.named_prior(noise, 0.7, 2).log_prob(W) - direct) <= 1e-12 * np.maximum(1, np.abs(direct))
        ).all()


@pytest.mark.parametrize("half", [1.0, 1.5, 3.5, 25.0, 500.0])
def test_the_chance_to_be_far_outside_where_it_underflows(half):
    x = np.array([5.0, 400.0, 800.0, 1500.0, 1e4]) + half
    wanted = [float(mpmath.log(mpmath.gammainc(half, value, mpmath.inf, regularized=True))) for value in x]
    assert wanted[-1] < -700, "below every double"
    with np.errstate(divide="ignore"):  # as its callers do: Q itself is 0
        assert np.allclose(_outside(np.log(x), half), wanted, rtol=1e-13)
