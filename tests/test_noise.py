"""Noise: properties that hold for every member, extremes, and what a program (not a reader) relies on."""

import copy
import dataclasses
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_dropout import noise
from adaptive_dropout.checks import quadrature

ARRAYS = [  # every member, with parameters of one shape
    noise.Bernoulli([0.1, 0.7, 1.0]),
    noise.Bernoulli([0.1, 0.7, 1.0], unbiased=False),
    noise.Gaussian([1.0, -2.0, 0.5], [0.5, 0.0, 3.0]),
    noise.HardConcrete([-300.0, 0.3, 8.0], [0.3, 2 / 3, 2.0]),
    noise.Rayleigh([1e-8, 1.0, 40.0]),
    noise.InverseNakagami([0.4, 2.5, 900.0], 2.0),
    noise.HalfCauchy([0.1, 1.0, 10.0]),
    noise.Beta([0.01, 2.0, 300.0], [0.02, 5.0, 1.0]),
    noise.Uniform([-1.0, 0.0, 2.0], [0.0, 5.0, 2.5]),
    noise.LogNormal([-3.0, 0.0, 2.0], [0.1, 1.0, 2.0]),
    noise.Normalised(noise.Rayleigh([1e-8, 1.0, 40.0])),
]
MOMENTS = ["mean", "variance", "second_moment", "inverse_second_moment", "relative_variance"]
LOGARITHMS = ["log_mean", "log_second_moment", "log_ratio", "d_log_ratio", "prob_positive", "prob_one"]


def entry(member, i):
    "The same noise with the parameters of one entry."
    if isinstance(member, noise.Normalised):
        return noise.Normalised(entry(member.noise, i))
    return dataclasses.replace(member, **{name: getattr(member, name)[i] for name in member._ranges})


@pytest.mark.parametrize("member", ARRAYS, ids=lambda member: type(member).__name__)
class TestEveryMember:
    def test_arrays_are_scalars_side_by_side(self, member):
        for name in MOMENTS + LOGARITHMS * isinstance(member, noise.HardConcrete):
            values = getattr(member, name)
            assert values.shape == (3,) and not np.isnan(values).any(), name
            single = [getattr(entry(member, i), name) for i in range(3)]
            assert all(isinstance(value, float) for value in single), name
            np.testing.assert_allclose(values, single, rtol=3e-15, err_msg=name)

    def test_moments_agree_with_each_other(self, member):
        finite = np.isfinite(member.second_moment)
        mean, variance = member.mean[finite], member.variance[finite]
        np.testing.assert_allclose(member.second_moment[finite], variance + mean**2, rtol=1e-15)
        np.testing.assert_allclose(member.relative_variance[finite], variance / mean**2, rtol=1e-13)
        product = member.inverse_second_moment[finite] * member.second_moment[finite]
        assert (product >= 1 - 1e-14).all()  # Cauchy-Schwarz

    def test_is_frozen_all_the_way(self, member):
        field = dataclasses.fields(member)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(member, field, 1)
        if not isinstance(member, noise.Normalised):
            with pytest.raises(ValueError):
                getattr(member, field)[0] = 1

    def test_copies_are_equal(self, member):
        assert np.size(member.mean) == 3  # a cached quadrature is no part of equality
        copies = [pickle.loads(pickle.dumps(member)), copy.deepcopy(member), dataclasses.replace(member)]
        assert all(twin == member and hash(twin) == hash(member) for twin in copies)
        namespace = {name: getattr(noise, name) for name in noise.__all__}
        assert eval(repr(member), namespace) == member
        assert member != 1 and entry(member, 0) != entry(member, 1)

    def test_is_quiet(self, member):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            [getattr(member, name) for name in MOMENTS]
            member.sample((50, 3), np.random.default_rng(0))
            if not isinstance(member, noise.Normalised):
                values = member.log_prob([[-np.inf], [-1.0], [0.0], [0.5], [1.0], [3.0], [1e200], [np.inf]])
                assert values.shape == (8, 3) and not np.isnan(values).any()

    def test_draws_one_variable_after_the_other(self, member):
        rng = np.random.default_rng(0)
        first, second = member.sample((200, 3), rng), member.sample((200, 3), rng)
        varies = member.variance > 1e-100
        assert (first != second).any(axis=0)[varies].all() and (first[0] != first[1:]).any(axis=0)[varies].all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_torch_dtypes(self, member, dtype):
        draws = member.sample((4, 3), torch.Generator().manual_seed(0), dtype)
        assert draws.dtype == dtype and draws.shape == (4, 3) and not draws.isnan().any()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_on_the_device_of_the_generator(self, member):
        draws = member.sample((20_000, 3), torch.Generator("cuda").manual_seed(0))
        assert draws.device.type == "cuda" and draws.dtype == torch.float32
        other = member.sample((20_000, 3), np.random.default_rng(0))
        for a, b in zip(draws.double().cpu().numpy().T, other.T, strict=True):
            places = np.quantile(b, np.linspace(0.01, 0.99, 99), method="inverted_cdf")
            gap = [(a <= np.nextafter(np.float32(p), np.inf)).mean() - (b <= p).mean() for p in places]
            assert np.abs(gap).max() < 2 * 2.7 / np.sqrt(20_000)  # both within the bound of the page


def hard_concrete_log_moments(log_a, beta, low, high):
    "log E s and log Var s by quadrature of the tail in t, two-dimensional formula m2 - m1**2 in 60 digits."
    import mpmath as mp

    with mp.workdps(60):
        beta, low, high = mp.mpf(beta), mp.mpf(low), mp.mpf(high)
        tail = lambda t: 1 / (1 + mp.exp(-log_a) * ((t - low) / (high - t)) ** beta)
        cuts = [0, 0.02, 0.3, 0.7, 0.98, 1]
        first = quadrature(tail, *cuts, digits=50)
        second = quadrature(lambda t: 2 * t * tail(t), *cuts, digits=50)
        return mp.log(first), mp.log(second - first**2)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.floats(-60, 60), st.floats(0.05, 4), st.floats(-1.5, -0.01), st.floats(1.01, 2.5))
def test_hard_concrete_moments_anywhere(log_a, beta, low, high):
    member = noise.HardConcrete(log_a, beta, low, high)
    first, spread = hard_concrete_log_moments(log_a, beta, low, high)
    condition = 1 + abs(log_a) + beta  # of log Var in log a and in the ends
    assert abs(member.log_mean - first) <= 1e-15 * (1 + abs(first))
    assert abs(member.log_ratio - (2 * first - spread)) <= 4e-15 * condition


def test_hard_concrete_with_a_cold_temperature():
    member = noise.HardConcrete(2.0, beta=30.0)  # 500 nodes nearly
    first, spread = hard_concrete_log_moments(2.0, 30.0, -0.1, 1.1)
    assert abs(member.log_mean - first) < 1e-14 and abs(member.log_ratio - (2 * first - spread)) < 1e-13


def test_hard_concrete_in_blocks():
    log_a = np.linspace(-9, 9, 5001).reshape(3, -1)
    member = noise.HardConcrete(log_a)
    assert member.mean.shape == log_a.shape and (np.diff(member.mean.ravel()) > 0).all()
    assert abs(member.log_ratio[1, 700] - noise.HardConcrete(log_a[1, 700]).log_ratio) < 1e-15


def test_hard_concrete_tends_to_the_coin():
    coin, member = noise.Bernoulli(0.3, unbiased=False), noise.HardConcrete(np.log(0.3 / 0.7), beta=1e-3)
    assert abs(member.mean - coin.mean) < 1e-3 and abs(member.variance / coin.variance - 1) < 5e-3


def test_extreme_parameters_are_sampled_without_nan():
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for member in (noise.InverseNakagami(1e-3, 1.0), noise.Beta(1e-4, 1e-4), noise.LogNormal(0.0, 300.0)):
        for draws in (member.sample(1000, rng), member.sample(1000, generator).double().numpy()):
            assert not np.isnan(draws).any() and (draws >= 0).all()
    for log_a, value in ((-700.0, 0.0), (700.0, 1.0), (-1e300, 0.0)):
        assert (noise.HardConcrete(log_a).sample(1000, rng) == value).all()
    assert (noise.Bernoulli(1e-320).sample(1000, generator) == 0).all()


def test_large_shape_parameters():
    narrow = noise.InverseNakagami(1e8, 4.0)
    assert abs(narrow.mean - 0.5) < 1e-8 and abs(narrow.variance * 16e8 - 1) < 1e-7
    normal = noise.Gaussian(narrow.mean, np.sqrt(narrow.variance))
    x = 0.5 + np.array([-2, 0, 1]) * np.sqrt(narrow.variance)
    np.testing.assert_allclose(narrow.log_prob(x), normal.log_prob(x), rtol=1e-4)


@pytest.mark.parametrize("rng", [None, 0, np.random, np.random.RandomState(0)])
def test_randomness_is_an_argument(rng):
    with pytest.raises(TypeError, match="rng must be"):
        noise.Bernoulli(0.5).sample(3, rng)


def test_import_leaves_torch_alone():
    code = "import sys, adaptive_dropout.noise as n, numpy as np; n.Beta(1, 2).sample(3, np.random.default_rng(0))"
    code += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
