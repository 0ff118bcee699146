"""Tie patterns, their two forms, their densities; LSTMs and convolutions: many shapes, both libraries, bad input."""

import matplotlib.pyplot as plt
import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import f as f_distribution
from scipy.stats import kstest

from adaptive_dropout.mixture import marginal_prior
from adaptive_dropout.noise import (
    Bernoulli,
    Beta,
    Gaussian,
    HalfCauchy,
    HardConcrete,
    InverseNakagami,
    LogNormal,
    Rayleigh,
    Uniform,
)
from adaptive_dropout.recurrent_convolutional import conv_channels, conv_filters, convolve, lstm, lstm_gates
from adaptive_dropout.structured_priors import (
    StructuredPrior,
    Tie,
    ard,
    automatic_depth,
    dropconnect,
    moves_outside,
    noise_form,
    plot_pattern,
    prior_form,
)

BUILDERS = {
    "dropconnect": dropconnect,
    "ard": ard,
    "automatic_depth": automatic_depth,
    "conv_channels": conv_channels,
    "conv_filters": conv_filters,
}
MATRICES, KERNELS = [(1, 1), (1, 4), (4, 1), (3, 5)], [(1, 1, 2, 3), (2, 3, 1, 2), (3, 2, 4, 1), (2, 2, 3, 3)]


def random_tie(shape, rng, scales=4, fixed=True):
    """A pattern at random, with all numbers used."""
    index = rng.integers(-1 if fixed else 0, scales, size=shape)
    index.flat[:scales] = np.arange(scales)
    return Tie(index)


def by_definition(index):
    """Where the noise may stand, by comparing all pairs of weights."""
    places = list(np.ndindex(index.shape))
    same = lambda equal: all(index[a] == index[b] for a in places for b in places if equal(a, b))
    if not same(lambda a, b: a[-2:] == b[-2:]):
        return "weights"
    inputs, outputs = same(lambda a, b: a[-2] == b[-2]), same(lambda a, b: a[-1] == b[-1])
    return {(1, 1): "layer", (1, 0): "inputs", (0, 1): "outputs", (0, 0): "maps"}[inputs, outputs]


@pytest.mark.parametrize("shape", MATRICES + KERNELS, ids=str)
def test_where_the_noise_may_stand(shape):
    rng = np.random.default_rng(len(shape))
    ties = [build(shape) for name, build in BUILDERS.items() if len(shape) == 4 or not name.startswith("conv")]
    ties += [random_tie(shape, rng) for _ in range(5) if np.prod(shape) >= 4]
    for tie in ties:
        assert tie.site == by_definition(tie.index)
        scales = rng.normal(size=tie.count)
        slow = np.array([1.0 if k < 0 else scales[k] for k in tie.index.ravel()]).reshape(shape)
        assert (tie.spread(scales) == slow).all() and (tie.spread(list(scales)) == slow).all()
        assert tie.sizes.sum() == (tie.index >= 0).sum()


@pytest.mark.parametrize("shape", MATRICES + KERNELS, ids=str)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_both_forms_are_one_layer(shape, number):
    rng = np.random.default_rng(number)
    operation = np.matmul if len(shape) == 2 else convolve
    x = rng.normal(size=(3, shape[0]) if len(shape) == 2 else (3, shape[0] + 2, shape[1] + 1, shape[2]))
    weights = rng.normal(size=shape)
    kinds = [build for name, build in BUILDERS.items() if len(shape) == 4 or not name.startswith("conv")]
    for _ in range(6):
        ties = [kinds[k](shape) for k in rng.integers(len(kinds), size=number)]
        if any(tie.site == "weights" for tie in ties):
            continue
        scales = [rng.normal(size=(3, tie.count)) for tie in ties]
        one_by_one = [
            prior_form(x[n : n + 1], weights, ties, [value[n] for value in scales], operation) for n in range(3)
        ]
        batched = noise_form(x, weights, ties, scales, operation)
        assert batched == pytest.approx(np.concatenate(one_by_one), rel=1e-12, abs=1e-13)
        shared = [value[0] for value in scales]
        once = noise_form(x, weights, ties, shared, operation)
        assert once == pytest.approx(prior_form(x, weights, ties, shared, operation), rel=1e-12, abs=1e-13)
        tensors = [torch.tensor(a, dtype=torch.float32) for a in (x, weights)]
        out = noise_form(
            *tensors, ties, [torch.tensor(v).float() for v in scales], torch.matmul if len(shape) == 2 else convolve
        )
        assert out.dtype == torch.float32 and out.numpy() == pytest.approx(batched, rel=1e-4, abs=1e-4)
        light = noise_form(x.astype("f"), weights.astype("f"), ties, [v.astype("f") for v in scales], operation)
        assert light.dtype == np.float32


def test_random_patterns_of_a_matrix():
    rng = np.random.default_rng(0)
    for _ in range(30):
        tie = random_tie((3, 4), rng)
        x, weights, scales = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
        slow = [
            [sum(x[n, r] * tie.spread(scales)[r, j] * weights[r, j] for r in range(3)) for j in range(4)]
            for n in (0, 1)
        ]
        assert noise_form(x, weights, [tie], [scales]) == pytest.approx(np.array(slow), rel=1e-13, abs=1e-13)


# ---- densities ----

CONTINUOUS = [
    Rayleigh(0.7),
    HalfCauchy(1.3),
    InverseNakagami(0.6, 2.0),
    Gaussian(0.0, 1.0),
    Gaussian(1.0, 0.5),
    Uniform(0.0, 1.0),
    Beta(2.0, 3.0),
    LogNormal(0.0, 0.5),
]


@pytest.mark.parametrize("noise", CONTINUOUS, ids=str)
@pytest.mark.parametrize("dim", [1, 2, 7, 40])
def test_row_density_against_the_marginal_prior(noise, dim):
    rng = np.random.default_rng(dim)
    for length in (1e-6, 0.03, 1.0, 9.0, 300.0):
        w = rng.normal(size=(1, dim))
        w *= length / np.linalg.norm(w)
        got = StructuredPrior(ard((1, dim)), noise, 1.5).log_prob(w)
        assert got == pytest.approx(marginal_prior(noise, 1.5, dim).log_prob(np.linalg.norm(w)), rel=1e-11, abs=1e-11)
        if dim > 7:
            continue
        split = StructuredPrior(dropconnect((1, dim)), noise, 1.5).log_prob(w)
        assert split == pytest.approx(marginal_prior(noise, 1.5).log_prob(w).sum(), rel=1e-11, abs=1e-10)


@pytest.mark.parametrize("low,high", [(-1.0, 0.3), (0.5, 1.5), (-0.2, 0.0)])
@pytest.mark.parametrize("dim", [2, 40])
def test_rows_under_uniform_noise(low, high, dim):
    "By incomplete gamma functions: the integral of xi**-D exp(-a / xi**2) from 0 to h, with a = r**2 / (2 sigma0**2)."
    for r in (1e-6, 0.03, 1.0, 30.0):
        with mpmath.workdps(500):
            a, half = mpmath.mpf(r) ** 2 / 4.5, (mpmath.mpf(dim) - 1) / 2
            side = lambda h, a=a, half=half: mpmath.gammainc(half, a / mpmath.mpf(h) ** 2) / a**half / 2 if h else 0
            mass = side(high) - side(low) if low > 0 else side(high) + side(low)
            constant = (4.5 * mpmath.pi) ** (-mpmath.mpf(dim) / 2) / (mpmath.mpf(high) - mpmath.mpf(low))
            want = float(mpmath.log(mass * constant))
        w = np.zeros((dim, 1))
        w[0] = r
        tie = automatic_depth((dim, 1))
        assert StructuredPrior(tie, Uniform(low, high), 1.5).log_prob(w) == pytest.approx(want, rel=1e-12, abs=1e-12)


def test_densities_add_up_to_one():
    prior = StructuredPrior(ard((1, 2)), InverseNakagami(1.5, 1.0))
    ring = lambda r: 2 * np.pi * r * np.exp(prior.log_prob(np.array([[r, 0.0]])))
    total = quad(ring, 1e-9, 60, epsabs=1e-7)[0]
    assert total == pytest.approx(1 - (1 + 60**2 / 3) ** -1.5, abs=1e-5)  # what a Student row has inside radius 60


@pytest.mark.parametrize(
    "ties",
    [
        [ard((2, 2)), automatic_depth((2, 2))],
        [automatic_depth((2, 2)), ard((2, 2))],
        [dropconnect((2, 2)), ard((2, 2))],
        [Tie([[0, 0], [-1, 1]]), Tie([[0, 0], [0, 0]])],
        [Tie([[0, 1], [-1, -1]]), Tie([[-1, -1], [0, 0]])],
        [lstm_gates(1, 1, tied=False)],
    ],
    ids=range(6),
)
def test_joint_density_against_an_average_over_scales(ties):
    "Mean of the Gaussian density over 200000 draws of the scales: five standard errors, fails once in 1.7 million."
    prior = StructuredPrior(ties, [Rayleigh(1.0), LogNormal(0.0, 0.4)][: len(ties)], sigma0=0.8)
    w = np.random.default_rng(3).normal(size=prior.shape)
    std = prior.weights(1.0, prior.sample_scales(np.random.default_rng(4), (200_000,)))
    density = np.exp(-0.5 * (w / std) ** 2) / (std * np.sqrt(2 * np.pi))
    density = density.reshape(200_000, -1).prod(axis=1)
    assert np.exp(prior.log_prob(w)) == pytest.approx(density.mean(), abs=5 * density.std() / np.sqrt(200_000))


def test_rows_of_zeros_under_two_levels():
    "Given the overall scale the rows are independent: an integral over it of densities with one level."
    shape, inner, outer = (2, 2), InverseNakagami(2.0, 1.0), LogNormal(0.2, 0.4)
    w = np.zeros(shape)
    w[0] = 0.7
    one_level = lambda t: StructuredPrior(ard(shape), inner, np.exp(t)).log_prob(w) + outer.log_prob(np.exp(t)) + t
    joint = quad(lambda t: np.exp(one_level(t)), -3, 4, epsabs=0, epsrel=1e-8)[0]
    both = StructuredPrior([ard(shape), automatic_depth(shape)], [inner, outer])
    assert both.log_prob(w) == pytest.approx(np.log(joint), abs=1e-9)


def test_two_levels_of_one_law():
    shape, s = (1, 2), 0.3
    same = StructuredPrior([ard(shape), automatic_depth(shape)], [LogNormal(0.0, s)] * 2)
    merged = StructuredPrior(ard(shape), LogNormal(0.0, s * np.sqrt(2)))
    w = np.array([[0.4, -1.3]])
    assert same.log_prob(w) == pytest.approx(merged.log_prob(w), rel=1e-10), "logarithms of log-normal scales add"
    with pytest.raises(ValueError, match="one or two"):
        StructuredPrior([ard(shape)] * 3, [LogNormal(0.0, s)] * 3).log_prob(w)


def test_limits_of_the_density():
    for dim, noise, infinite in (
        (1, Rayleigh(1.0), False),
        (2, Rayleigh(1.0), True),
        (1, HalfCauchy(1.0), True),
        (1, Gaussian(1.0, 0.5), True),
        (9, InverseNakagami(0.5, 1.0), False),
        (9, Uniform(0.5, 1.5), False),
        (1, Uniform(0.0, 1.0), True),
    ):
        value = StructuredPrior(ard((1, dim)), noise).log_prob(np.zeros((1, dim)))
        assert (value == np.inf) is infinite and not np.isnan(value)
    both = StructuredPrior([ard((2, 1)), automatic_depth((2, 1))], [HalfCauchy(1.0)] * 2)
    assert both.log_prob([[0.0], [1.0]]) == np.inf
    assert np.isfinite(both.log_prob([[1e-15], [1e12]]))
    for w in (100.0, 1e5):  # light tails; E1(x) = exp(-x) / (x + 1) up to 1 / x**2
        far = StructuredPrior(ard((1, 1)), Uniform(0.0, 1.0)).log_prob([[w]])
        x = w**2 / 2
        assert far == pytest.approx(-x - np.log1p(x) - np.log(2 * np.sqrt(2 * np.pi)), rel=1e-11)
        laplace = StructuredPrior(ard((1, 1)), Rayleigh(1.0)).log_prob([[w]])
        assert laplace == pytest.approx(-w - np.log(2), rel=1e-12)
    with_fixed = StructuredPrior(Tie([[0], [-1]]), Rayleigh(1.0), 2.0).log_prob([[0.3], [0.7]])
    single = StructuredPrior(Tie([[0]]), Rayleigh(1.0), 2.0).log_prob([[0.3]])
    assert with_fixed == pytest.approx(single - 0.5 * 0.35**2 - np.log(2 * np.sqrt(2 * np.pi)), rel=1e-12)


def test_samples_have_the_joint_law():
    "Rows of 3 under inverse Nakagami noise: r**2 / (3 tau**2) ~ F(3, 2 m). A p-value below 1e-6 is a failure."
    prior = StructuredPrior(ard((4, 3)), InverseNakagami(2.0, 0.5), 1.5)
    for rng in (np.random.default_rng(0), torch.Generator().manual_seed(0)):
        rows = np.asarray(prior.sample(rng, (5000,)), dtype=float).reshape(-1, 3)
        ratio = (rows**2).sum(axis=1) / 3 / (1.5**2 / 0.5)
        assert kstest(ratio, f_distribution(3, 4).cdf).pvalue > 1e-6
    assert prior.sample(np.random.default_rng(0)).shape == (4, 3)


# ---- LSTM and convolution ----


@pytest.mark.parametrize("inputs,hidden", [(1, 1), (2, 5), (4, 3)])
def test_lstm_against_torch(inputs, hidden):
    generator = torch.Generator().manual_seed(inputs)
    M = torch.randn(inputs + hidden, 4 * hidden, generator=generator, dtype=torch.float64)
    x = torch.randn(6, 2, inputs, generator=generator, dtype=torch.float64)
    peer = torch.nn.LSTM(inputs, hidden, bias=False).double()
    i, f, o, g = M.split(hidden, dim=1)
    ordered = torch.cat([i, f, g, o], dim=1)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(ordered[:inputs].T)
        peer.weight_hh_l0.copy_(ordered[inputs:].T)
    assert torch.allclose(lstm(x, M), peer(x)[0], rtol=0, atol=1e-13)
    for tied in (True, False):
        tie = lstm_gates(inputs, hidden, tied)
        xi = torch.randn(tie.count, generator=generator, dtype=torch.float64)
        assert torch.allclose(lstm(x, M, xi), lstm(x, tie.spread(xi) * M), rtol=0, atol=1e-13)
    assert lstm(x.float(), M.float()).dtype == torch.float32
    assert np.isfinite(lstm(1e4 * x.numpy(), 1e4 * M.numpy())).all()


@pytest.mark.parametrize("shape", KERNELS, ids=str)
def test_convolution_against_torch(shape):
    rng = np.random.default_rng(0)
    kernels, x = rng.normal(size=shape), rng.normal(size=(2, 6, 5, shape[2]))
    peer = torch.nn.functional.conv2d(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(kernels).permute(3, 2, 0, 1))
    assert convolve(x, kernels) == pytest.approx(peer.permute(0, 2, 3, 1).numpy(), rel=1e-12, abs=1e-12)
    assert torch.allclose(convolve(torch.tensor(x), torch.tensor(kernels)), peer.permute(0, 2, 3, 1), atol=1e-12)


# ---- bad input ----


@pytest.mark.parametrize(
    "act,error,word",
    [
        (lambda: Tie([[True, False]]), TypeError, "integers"),
        (lambda: Tie(np.zeros((2, 0), int)), ValueError, "all numbers"),
        (lambda: Tie([[-2, 0]]), ValueError, "all numbers"),
        (lambda: dropconnect((2, -1)), ValueError, "shape must lie in"),
        (lambda: ard((2, 2.0)), TypeError, "shape must be an integer"),
        (lambda: automatic_depth((3,)), ValueError, "shape must be a tuple"),
        (lambda: ard((2, 2)).spread(torch.ones(3)), ValueError, "length 2"),
        (lambda: StructuredPrior(ard((2, 2)), "Rayleigh"), TypeError, "noises must be"),
        (lambda: StructuredPrior([ard((2, 2)), ard((2, 3))], [Rayleigh(1.0)] * 2), ValueError, "one shape"),
        (lambda: StructuredPrior(ard((2, 2)), Rayleigh(1.0), 0), ValueError, "sigma0"),
        (lambda: StructuredPrior(ard((1, 1)), HardConcrete(0.0)).log_prob([[1.0]]), ValueError, "atom"),
        (lambda: StructuredPrior(ard((1, 1)), Bernoulli(0.5)).log_prob([[1.0]]), ValueError, "atom"),
        (lambda: StructuredPrior(ard((1, 1)), Rayleigh(1e-40)).log_prob([[1.0]]), ValueError, "resolved"),
        (lambda: StructuredPrior(ard((1, 1)), Rayleigh(1.0)).log_prob([[np.inf]]), ValueError, "finite"),
        (lambda: StructuredPrior(ard((1, 1)), Rayleigh(1.0)).log_prob([[1e-30]]), ValueError, "1e-20"),
        (lambda: StructuredPrior(ard((1, 1)), Rayleigh(1.0)).log_prob([1.0]), ValueError, "shape"),
        (lambda: plot_pattern(Tie(np.zeros((2, 2, 2), int))), ValueError, "2 or 4 axes"),
        (lambda: moves_outside(np.tanh, [1.0], np.inf), ValueError, "bias"),
        (lambda: lstm(np.ones((2, 2)), np.ones((3, 4))), ValueError, "x must have shape"),
        (lambda: lstm(np.ones((2, 2, 2)), np.ones((1, 4))), ValueError, "M must have shape"),
        (lambda: conv_filters([3, 3, 1]), ValueError, "shape must be a tuple"),
        (lambda: convolve(np.ones((1, 2, 2, 1)), np.ones((3, 1, 1, 1))), ValueError, "as large"),
    ],
)
def test_bad_input(act, error, word):
    with pytest.raises(error, match=word):
        act()


def test_pictures_of_kernels():
    shape = (2, 3, 2, 4)
    tie = dropconnect(shape)
    index = np.arange(np.prod(shape)).reshape(shape)
    pixels = plot_pattern(tie).images[0].get_array()
    palette = {tuple(pixel) for pixel in pixels.reshape(-1, 4)}
    assert pixels.shape == (2 * 2, 4 * 3, 4) and len(palette) == 20
    colours = {}
    for i, j, c, f in np.ndindex(shape):
        colour = tuple(pixels[c * 2 + i, f * 3 + j])
        assert colours.setdefault(index[i, j, c, f] % 20, colour) == colour
    plt.close("all")


def test_patterns_cannot_be_changed():
    tie = ard((2, 2))
    with pytest.raises(ValueError, match="read-only"):
        tie.index[0, 0] = 1
