"""Structured dropout over many cases: penalties of all laws, overlapping blocks, runs stopped and continued."""

import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from adaptive_dropout.block_masks import (
    OverlappingMask,
    block_coverage,
    dropblock_mask_sample,
    dropblock_moments,
    mask_moments,
    seed_rate,
)
from adaptive_dropout.checks import monte_carlo
from adaptive_dropout.dropblock import (
    BlockMask,
    _energies,
    base_retain_probability,
    block_energies,
    dropblock_objective,
    dropblock_regularizer,
    dropblock_sample,
    duplicate_blocks,
    retain_probability,
)
from adaptive_dropout.dropconnect import (
    WeightMask,
    _penalty,
    dropconnect_objective,
    dropconnect_regularizer,
    ratio_range,
)
from adaptive_dropout.structured_sgd import SGDRun, dropblock_sgd, masked_sgd
from adaptive_dropout.tikhonov import expected_loss, generalized_regularizer


def network(a=3, b=4, d=6, N=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in ((a, d), (b, d), (b, N), (a, N))]


def rational(*shape, seed):
    draw = np.random.default_rng(seed).integers(-9, 10, size=shape)
    return np.vectorize(lambda n: Fraction(int(n), 7), otypes=[object])(draw)


def average_over_masks(Y, shape, theta, output):
    """Exact expectation of ||Y - output(z)||^2 over independent coins z / theta of the given shape."""
    total = Fraction(0)
    for coins in product((0, 1), repeat=int(np.prod(shape))):
        probability = theta ** sum(coins) * (1 - theta) ** (len(coins) - sum(coins))
        z = np.array([Fraction(c) / theta for c in coins], dtype=object).reshape(shape)
        total += probability * ((Y - output(z)) ** 2).sum()
    return total


@pytest.mark.parametrize("theta", [Fraction(1, 2), Fraction(1, 9), Fraction(12, 13)])
@pytest.mark.parametrize("r, k", [(1, 4), (2, 3), (3, 2), (4, 1)])
def test_lemma_1_in_fractions(r, k, theta):
    d = r * k
    U, V, X, Y = (rational(*shape, seed=d + i) for i, shape in enumerate(((2, d), (3, d), (3, 4), (2, 4))))
    total = average_over_masks(Y, (k,), theta, lambda w: (U * np.repeat(w, r)) @ (V.T @ X))
    assert total == ((Y - U @ V.T @ X) ** 2).sum() + (1 - theta) / theta * sum(_energies(U, V.T @ X, r))


@pytest.mark.parametrize("theta", [Fraction(1, 2), Fraction(1, 9), Fraction(12, 13)])
@pytest.mark.parametrize("b, d", [(1, 4), (2, 3), (3, 2), (5, 1)])
def test_dropconnect_in_fractions(b, d, theta):
    U, V, X, Y = (rational(*shape, seed=b + i) for i, shape in enumerate(((2, d), (b, d), (b, 4), (2, 4))))
    total = average_over_masks(Y, (b, d), theta, lambda Z: U @ (Z * V).T @ X)
    assert total == ((Y - U @ V.T @ X) ** 2).sum() + (1 - theta) / theta * _penalty(U, V, X)


@pytest.mark.parametrize("theta", [0.01, 0.5, 0.99, 1.0])
def test_one_neuron_one_feature_is_the_same_for_both(theta):
    U, V, X, Y = network(b=1, d=1)
    assert dropblock_objective(U, V, X, Y, 1, theta) == pytest.approx(
        dropconnect_objective(U, V, X, Y, theta), rel=1e-14
    )


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_homogeneity(scale):
    U, V, X, _ = network()
    for rule in (lambda *m: dropblock_regularizer(*m, 2, 0.3), lambda *m: dropconnect_regularizer(*m, 0.3)):
        for scaled in ((scale * U, V, X), (U, scale * V, X), (U, V, scale * X)):
            assert rule(*scaled) == pytest.approx(scale**2 * rule(U, V, X), rel=1e-13)


@pytest.mark.parametrize("r", [1, 2, 3, 6])
def test_a_change_of_basis_within_a_block_changes_nothing(r):
    U, V, X, _ = network()
    rng = np.random.default_rng(1)
    mix = np.kron(np.eye(6 // r), np.ones((r, r))) * rng.normal(size=(6, 6)) + 3 * np.eye(6)
    mixed = U @ mix, V @ np.linalg.inv(mix).T
    np.testing.assert_allclose(block_energies(*mixed, X, r), block_energies(U, V, X, r), rtol=1e-10)


def test_a_block_that_cancels_keeps_its_digits():
    "The penalty of U_i H_i = tiny, from large factors, which the products of Gram matrices would lose."
    big, tiny = 1e4, 1e-4
    U = np.array([[big, -big]])
    V = np.array([[1.0, 1.0 - tiny / big]])
    exact = (big - big * (1.0 - tiny / big)) ** 2
    assert block_energies(U, V, np.ones((1, 1)), 2)[0] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_torch_and_numpy_agree_and_keep_precision(kind):
    arrays = [matrix.astype(kind) for matrix in network()]
    tensors = [torch.tensor(matrix, requires_grad=True) for matrix in arrays]
    tolerance = 1e-5 if kind == "float32" else 1e-13
    for rule in (lambda *m: dropblock_objective(*m, 2, 0.3), lambda *m: dropconnect_objective(*m, 0.3)):
        value = rule(*tensors)
        assert str(rule(*arrays).dtype) == kind and str(value.dtype) == f"torch.{kind}"
        assert value.item() == pytest.approx(float(rule(*arrays)), rel=tolerance)
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, tensors))
    wide = duplicate_blocks(*tensors[:2], 3)
    assert wide[0].shape == (3, 18) and wide[0].dtype == tensors[0].dtype
    assert block_energies(*tensors[:3], 2).shape == (3,)


@given(theta=st.floats(1e-9, 1.0), r=st.integers(1, 8), k=st.integers(1, 1000))
@settings(max_examples=100)
def test_rates_are_inverse_and_odds_are_proportional_to_the_number_of_blocks(theta, r, k):
    there = retain_probability(theta, r, r * k)
    exact = Fraction(theta) * r / (Fraction(theta) * r + (1 - Fraction(theta)) * r * k)
    assert there == pytest.approx(float(exact), rel=4e-16)
    assert base_retain_probability(there, r, r * k) == pytest.approx(theta, rel=1e-15)
    assert retain_probability(theta, r, r) == pytest.approx(theta, rel=2e-16)


# ---- overlapping blocks ----


def by_dilation(seeds, block_size, border):
    "Twin of sampling: a seed pattern, grown by scipy's dilation, gives the dropped units."
    back = (block_size - 1) // 2
    structure = np.zeros((2 * block_size + 1,) * seeds.ndim, dtype=bool)
    window = tuple(slice(block_size - back, 2 * block_size - back) for _ in seeds.shape)
    structure[window] = True
    if border == "wrap":
        tiled = np.tile(seeds, (3,) * seeds.ndim)
        grown = binary_dilation(tiled, structure)
        return grown[tuple(slice(n, 2 * n) for n in seeds.shape)]
    return binary_dilation(seeds, structure)


@pytest.mark.parametrize("shape, block", [((9,), 3), ((8,), 4), ((5, 6), 3), ((4, 6), 2), ((3, 4, 3), 2)])
@pytest.mark.parametrize("border", ["interior", "clip", "wrap"])
def test_coverage_against_dilation(shape, block, border):
    coverage = block_coverage(shape, block, border)
    rows, back = [], (block - 1) // 2
    for place in product(*(range(n) for n in shape)):
        if border == "interior" and not all(0 <= p - back <= n - block for p, n in zip(place, shape, strict=True)):
            continue
        seeds = np.zeros(shape, dtype=bool)
        seeds[place] = True
        rows.append(by_dilation(seeds, block, border).ravel())
    assert np.array_equal(coverage, np.array(rows))


@pytest.mark.parametrize("border", ["interior", "clip", "wrap"])
@pytest.mark.parametrize("shape, block", [(15, 4), ((6, 5), 3)])
def test_samples_have_the_exact_moments(shape, block, border):
    law = dropblock_moments(shape, block, gamma=0.15, border=border)
    draw = lambda rng, count: dropblock_mask_sample(shape, block, 0.15, rng, count, border).reshape(count, -1)
    pairs = lambda rng, count: (lambda z: z[:, :, None] * z[:, None, :])(draw(rng, count) - law.mean)
    assert monte_carlo(draw, 20_000, seed=2).agrees(law.mean)
    assert monte_carlo(pairs, 20_000, seed=3, chunk=4000).agrees(law.covariance)


@given(
    keep=st.floats(1e-6, 1.0),
    units=st.integers(1, 40),
    block=st.integers(1, 12),
    border=st.sampled_from(["interior", "clip", "wrap"]),
)
@settings(max_examples=150)
def test_the_realised_rate_is_the_one_asked_for(keep, units, block, border):
    block = min(block, units)
    law = dropblock_moments(units, block, keep=keep, border=border)
    assert law.mean.mean() == pytest.approx(keep, rel=1e-13)
    assert law.drop_rate == pytest.approx(1 - keep, abs=1e-14)
    again = dropblock_moments(units, block, gamma=law.gamma, border=border)
    np.testing.assert_allclose(again.mean, law.mean, rtol=1e-9)
    assert np.linalg.eigvalsh(law.covariance).min() > -1e-13


@pytest.mark.parametrize("theta", [1e-3, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("block, ndim", [(1, 1), (5, 1), (3, 2), (2, 3)])
def test_seed_rate_on_a_torus(theta, block, ndim):
    law = dropblock_moments((6,) * ndim, block, gamma=seed_rate(theta, block, ndim), border="wrap")
    np.testing.assert_allclose(law.mean, theta, rtol=1e-13)
    assert seed_rate(theta, 1) == pytest.approx(1 - theta, abs=2e-16)


def test_moments_go_to_page_10():
    law = dropblock_moments(6, 3, keep=0.8)
    rng = np.random.default_rng(4)
    X, y, w = rng.normal(size=(9, 6)), rng.normal(size=9), rng.normal(size=6)
    draws = dropblock_mask_sample(6, 3, law.gamma, rng, 40_000)
    sampled = mask_moments(draws)
    assert expected_loss(X, y, w, sampled) == pytest.approx(((y - (draws * w) @ X.T) ** 2).mean() / 2, rel=1e-12)
    assert expected_loss(X, y, w, law) == pytest.approx(expected_loss(X, y, w, sampled), rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_lemma_10_for_random_laws_given_by_samples(seed):
    rng = np.random.default_rng(seed)
    U, _, _, Y = network(seed=seed)
    G, masks, weights = rng.normal(size=(6, 5)), rng.normal(1, 2, size=(7, 6)), rng.dirichlet(np.ones(7))
    law = mask_moments(masks, 3 * weights)
    losses = [((Y - U * (z / law.mean) @ G) ** 2).sum() for z in masks]
    closed = ((Y - U @ G) ** 2).sum() + generalized_regularizer(U, G, law.mean, law.covariance)
    size = ((U**2).sum(axis=0) * (G**2).sum(axis=1) * (law.second_moment / law.mean**2)).sum()
    assert abs(closed - weights @ losses) < 1e-12 * size


@pytest.mark.parametrize(
    "name, kind, act",
    [
        ("r", TypeError, lambda: dropblock_sample(6, 2.5, 0.5, None)),
        ("r", TypeError, lambda: BlockMask(6, True, 0.5)),
        ("r must be at least 1", ValueError, lambda: BlockMask(6, 0, 0.5)),
        ("d must be a multiple", ValueError, lambda: BlockMask(7, 2, 0.5)),
        ("d must be a multiple", ValueError, lambda: retain_probability(0.5, 4, 6)),
        ("d must be a multiple", ValueError, lambda: base_retain_probability(0.5, 4, 6)),
        ("theta_bar", ValueError, lambda: retain_probability(1.5, 2, 6)),
        ("theta_bar", ValueError, lambda: retain_probability(0, 2, 6)),
        ("theta", ValueError, lambda: base_retain_probability(float("nan"), 2, 6)),
        ("theta", TypeError, lambda: BlockMask(6, 2, "half")),
        ("gamma", ValueError, lambda: dropblock_mask_sample(6, 2, 1, np.random.default_rng(0))),
        ("gamma", ValueError, lambda: dropblock_mask_sample(6, 2, float("nan"), np.random.default_rng(0))),
        ("gamma", ValueError, lambda: OverlappingMask(6, 2, -0.1)),
        ("keep", ValueError, lambda: dropblock_moments(6, 2, keep=1.1)),
        ("border", ValueError, lambda: OverlappingMask(6, 2, 0.1, "mirror")),
        ("border", ValueError, lambda: dropblock_moments(2, 1, gamma=0.1, border=[[0.5, 1]])),
        ("border", ValueError, lambda: dropblock_mask_sample(3, 1, 0.1, None, border=[[0, 1]])),
        ("samples", ValueError, lambda: mask_moments(np.ones(3))),
        ("samples", ValueError, lambda: mask_moments([[np.inf]])),
        ("weights", ValueError, lambda: mask_moments(np.ones((2, 3)), [0.0, 0.0])),
        ("weights", ValueError, lambda: mask_moments(np.ones((2, 3)), [1.0])),
        ("b must be", TypeError, lambda: WeightMask(2.5, 3, 0.5)),
        ("d must be", TypeError, lambda: WeightMask(2, 3.5, 0.5)),
        ("X contains NaN", ValueError, lambda: ratio_range([[np.nan]])),
        ("copies", ValueError, lambda: duplicate_blocks(np.ones((2, 3)), np.ones((2, 3)), 0)),
        ("V must have as many columns", ValueError, lambda: duplicate_blocks(np.ones((2, 3)), np.ones((2, 4)), 2)),
        ("ndim", ValueError, lambda: seed_rate(0.5, 3, 0)),
    ],
)
def test_bad_input_is_named(name, kind, act):
    with pytest.raises(kind, match=name.split()[0]):
        act()


# ---- Algorithm 1 ----

LAWS = [
    BlockMask(6, 2, 0.5),
    OverlappingMask(6, 2, 0.2, "wrap"),
    OverlappingMask((2, 3), 2, 0.2),
    WeightMask(4, 6, 0.3),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("cut", [1, 999, 1000, 1001])
def test_any_cut_continues_to_the_same_bits(law, cut, tmp_path):
    _, _, X, Y = network(N=30)
    options = {"average_from": 500, "decay_steps": 300.0, "record": [0, 1, 10, 999, 1000, 1500]}
    whole = masked_sgd(Y, X, law, 1500, 1e-3, np.random.default_rng(0), **options)
    part = masked_sgd(Y, X, law, cut, 1e-3, np.random.default_rng(0), **options)
    part.save(tmp_path / "run")
    again = masked_sgd(Y, X, law, 1500, 1e-3, resume=SGDRun.load(tmp_path / "run"), **options)
    for name in ("U", "V", "U_sum", "V_sum", "iterates", "stochastic", "deterministic"):
        assert np.array_equal(getattr(whole, name), getattr(again, name)), name
    assert whole.iterates.tolist() == [0, 1, 10, 999, 1000, 1500] and whole.averaged == again.averaged == 1001


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_recorded_objectives_and_average(law):
    U, V, X, Y = network(N=30)
    one_by_one, run = [], None
    for step in range(6):
        run = masked_sgd(Y, X, law, step, 1e-2, np.random.default_rng(3), init=(U, V), resume=run, average_from=2)
        one_by_one.append(run)
    whole = masked_sgd(Y, X, law, 5, 1e-2, np.random.default_rng(3), init=(U, V), record=1, average_from=2)
    for k, run in enumerate(one_by_one):
        expected = ((Y - run.U @ run.V.T @ X) ** 2).sum() + law.regularizer(run.U, run.V, X)
        assert whole.deterministic[k] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(whole.average[0], np.mean([run.U for run in one_by_one[2:]], axis=0), rtol=1e-13)
    np.testing.assert_allclose(whole.average[1], np.mean([run.V for run in one_by_one[2:]], axis=0), rtol=1e-13)
    assert not np.array_equal(one_by_one[0].U, one_by_one[1].U) and np.array_equal(one_by_one[0].U, U)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_stochastic_objective_averages_to_the_deterministic_one(law):
    U, V, X, Y = network(N=30, seed=2)
    draw = lambda rng, count: [
        ((Y - (U * z @ V.T if z.ndim == 1 else U @ (z * V).T) @ X) ** 2).sum() for z in law.sample(count, rng)
    ]
    expected = ((Y - U @ V.T @ X) ** 2).sum() + law.regularizer(U, V, X)
    assert monte_carlo(draw, 20_000, seed=5).agrees(expected)


def test_a_full_batch_without_dropping_is_gradient_descent():
    U, V, X, Y = network(N=30)
    run = dropblock_sgd(Y, X, 2, 1.0, 6, 3, 1e-3, np.random.default_rng(0), init=(U, V), batch_size=None, record=1)
    for _ in range(3):
        error = U @ V.T @ X - Y
        U, V = U - 1e-3 * error @ X.T @ V, V - 1e-3 * X @ error.T @ U
    np.testing.assert_allclose(run.U, U, rtol=1e-12)
    np.testing.assert_allclose(run.V, V, rtol=1e-12)
    np.testing.assert_allclose(run.stochastic, run.deterministic, rtol=1e-13)


def test_it_converges_with_falling_steps():
    _, _, X, _ = network(N=30)
    Y = np.outer([1.0, 2.0, -1.0], [1.0, 0.0, 1.0, -1.0]) @ X  # rank one, so beta / (1 + beta) ||Y||^2 is the minimum
    rng = np.random.default_rng(1)
    options = {"decay_steps": 1000.0, "average_from": 10_000, "init": [matrix / 3 for matrix in network(seed=4)[:2]]}
    run = dropblock_sgd(Y, X, 2, 0.5, 6, 20_000, 4e-3, rng, **options)
    lowest = (1 / 3) / (1 + 1 / 3) * (Y**2).sum()
    assert -1e-13 < dropblock_objective(*run.average, X, Y, 2, 0.5) / lowest - 1 < 3e-3


def test_the_callers_generator_moves_on_and_seeds_repeat():
    _, _, X, Y = network(N=30)
    rng = np.random.default_rng(0)
    first, second = (dropblock_sgd(Y, X, 2, 0.5, 6, 50, 1e-3, rng) for _ in range(2))
    assert not np.array_equal(first.U, second.U)
    assert np.array_equal(first.U, dropblock_sgd(Y, X, 2, 0.5, 6, 50, 1e-3, np.random.default_rng(0)).U)
    legacy = np.random.Generator(np.random.MT19937(0))
    assert dropblock_sgd(Y, X, 2, 0.5, 6, 50, 1e-3, legacy).rng_state["bit_generator"] == "PCG64"


def test_checkpoints_progress_and_files(tmp_path, capsys):
    _, _, X, Y = network(N=30)
    path = tmp_path / "run.safetensors"

    @dataclass(frozen=True)
    class Breaking(BlockMask):
        drawn = []

        def sample(self, size, rng):
            self.drawn.append(size)
            if len(self.drawn) == 4:
                raise RuntimeError("power cut")
            return super().sample(size, rng)

    law = Breaking(6, 2, 0.5)
    with pytest.raises(RuntimeError, match="power cut"):
        masked_sgd(Y, X, law, 9000, 1e-3, np.random.default_rng(0), checkpoint=path, checkpoint_every=2000)
    saved = SGDRun.load(path)
    assert saved.step == 2000 and [file.name for file in tmp_path.iterdir()] == [path.name]
    done = masked_sgd(Y, X, law, 4000, 1e-3, resume=saved, checkpoint=path, progress=True)
    assert SGDRun.load(path).step == done.step == 4000 and "sgd" in capsys.readouterr().err
    with pytest.raises(ValueError, match="steps must be at least 4000"):
        masked_sgd(Y, X, law, 10, 1e-3, resume=done)
    with pytest.raises(FileNotFoundError):
        SGDRun.load(tmp_path / "nothing")


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"average_from": 3}, {"decay_steps": 5.0}])
def test_a_run_is_not_continued_with_other_settings(change):
    _, _, X, Y = network(N=30)
    run = dropblock_sgd(Y, X, 2, np.float64(0.5), np.int64(6), 5, 1e-3, np.random.default_rng(0))
    assert dropblock_sgd(Y, X, 2, 0.5, 6, 8, 1e-3, resume=run).step == 8
    with pytest.raises(ValueError, match=f"other settings.*{next(iter(change))}"):
        dropblock_sgd(Y, X, 2, 0.5, 6, 8, 1e-3, resume=run, **change)
    with pytest.raises(ValueError, match="other settings.*Y was"):
        dropblock_sgd(Y + 1, X, 2, 0.5, 6, 8, 1e-3, resume=run)
    with pytest.raises(ValueError, match="other settings.*step_size"):
        dropblock_sgd(Y, X, 2, 0.5, 6, 8, 2e-3, resume=run)


@pytest.mark.parametrize(
    "name, kind, change",
    [
        ("steps", ValueError, {"steps": -1}),
        ("steps", TypeError, {"steps": 1.5}),
        ("step_size", ValueError, {"step_size": np.nan}),
        ("decay_steps", ValueError, {"decay_steps": -1}),
        ("average_from", ValueError, {"average_from": -1}),
        ("record", ValueError, {"record": [-1]}),
        ("record", TypeError, {"record": [0.5]}),
        ("checkpoint_every", ValueError, {"checkpoint_every": 0}),
        ("X contains NaN", ValueError, {"X": np.full((4, 5), np.nan)}),
        ("Y must have", ValueError, {"Y": np.ones((3, 6))}),
        ("init", ValueError, {"init": (np.ones((3, 2)), np.ones((4, 2)))}),
        ("V must have", ValueError, {"init": (np.ones((3, 6)), np.ones((5, 6)))}),
        ("rng", TypeError, {"rng": 0}),
        ("theta", ValueError, {"theta": 0}),
        ("d must be a multiple", ValueError, {"r": 4}),
    ],
)
def test_bad_settings_are_named(name, kind, change):
    _, _, X, Y = network()
    settings = {"Y": Y, "X": X, "r": 2, "theta": 0.5, "d": 6, "steps": 3, "step_size": 1e-3}
    with pytest.raises(kind, match=name.split()[0]):
        dropblock_sgd(**{**settings, "rng": np.random.default_rng(0), **change})


def test_a_finished_run_is_not_recorded_twice():
    _, _, X, Y = network(N=30)
    run = dropblock_sgd(Y, X, 2, 0.5, 6, 10, 1e-3, np.random.default_rng(0), record=5)
    again = dropblock_sgd(Y, X, 2, 0.5, 6, 10, 1e-3, resume=run, record=5)
    longer = dropblock_sgd(Y, X, 2, 0.5, 6, 20, 1e-3, resume=again, record=5)
    assert again.iterates.tolist() == [0, 5, 10] and longer.iterates.tolist() == [0, 5, 10, 15, 20]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    _, _, X, Y = network(N=30)
    path = tmp_path / "run"
    old, new = (dropblock_sgd(Y, X, 2, 0.5, 6, steps, 1e-3, np.random.default_rng(0)) for steps in (3, 7))
    old.save(path)

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        new.save(path)
    assert SGDRun.load(path).step == 3 and [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("record", [0, 1])
def test_a_step_that_diverges_is_named(record):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4, 20)), rng.normal(size=(3, 20))
    with pytest.raises(FloatingPointError, match="step_size 100 is too large"):
        dropblock_sgd(Y, X, 1, 0.5, 4, 500, 100.0, rng, record=record)
