"""The program in experiments/regression: its formulas against twins, its cells in a folder of their own."""

import json
import sys

import numpy as np
import pytest
from notebooks import ROOT
from scipy.stats import norm

FOLDER = ROOT / "experiments" / "regression"


@pytest.fixture(scope="module")
def program(experiment):
    "experiments/regression/run.py as a module."
    return experiment("regression")


@pytest.fixture(scope="module")
def part(program):
    return program.split(program.digits_table(), 3)


def network(program, p: int, seed: int = 0):
    k = program.HIDDEN
    return np.append(0.5 * np.random.default_rng(seed).standard_normal(p * k + 2 * k + 1), np.log(0.3))


# ---- formulas ----


def test_a_split_is_standardised_by_its_training_rows_alone(program):
    data = program.digits_table()
    part = program.split(data, 3)
    assert [len(rows) for rows in part[:4]] == [277, 277, 31, 31]
    assert np.allclose(part.X.mean(axis=0), 0, atol=1e-13) and np.allclose(part.X.std(axis=0), 1, atol=1e-13)
    every = np.concatenate([part.y, part.y_test]) * part.unit
    assert np.allclose(np.sort(every - every.min()), np.sort(data.targets - data.targets.min()), atol=1e-12)
    assert part.unit == pytest.approx(np.std(part.y * part.unit)) and part.y.std() == pytest.approx(1)
    assert not np.array_equal(part.y_test, program.split(data, 4).y_test)
    wide = program.split(data, 3, squares=True)
    assert wide.X.shape == (277, 32) and np.allclose(wide.X[:, :16], part.X)
    for j in range(16):
        assert np.corrcoef(wide.X[:, 16 + j], part.X[:, j] ** 2)[0, 1] == pytest.approx(1)
    constant = np.column_stack([np.ones(4), np.arange(4.0)])
    assert np.isfinite(program.standardised(constant, np.arange(3))).all()


def test_scores_are_those_of_scipy_in_the_units_of_the_data(program, part):
    rng = np.random.default_rng(1)
    draws, log_s = part.y_test + rng.standard_normal((7, 31)), rng.normal(-1, 0.2, 7)
    found, units = program.scores(part, draws.mean(axis=0), log_s, draws), part.unit
    density = norm(draws * units, units * np.exp(log_s)[:, None]).pdf(part.y_test * units).mean(axis=0)
    assert found["ll"] == pytest.approx(np.log(density).mean(), rel=1e-12)
    assert found["rmse"] == pytest.approx(units * np.sqrt(np.mean((draws.mean(axis=0) - part.y_test) ** 2)), rel=1e-12)
    point, f = program.scores(part, draws[0], -1.0), draws[0] * units
    assert point["ll"] == pytest.approx(norm(f, units / np.e).logpdf(part.y_test * units).mean(), rel=1e-12)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("name", [None, "gaussian", "rayleigh", "inverse-nakagami", "half-cauchy"])
def test_the_gradient_is_the_slope_of_the_value(program, part, name, learn):
    p, k = part.X.shape[1], program.HIDDEN
    priors = [program.tabulated(program.named_prior(program.NOISES[name], 1.0, d)) if name else None for d in (k, 1)]
    z, rng = network(program, p), np.random.default_rng(2)
    value = lambda z: program.negative_log_posterior(z, part, *priors, learn)[0]
    gradient = program.negative_log_posterior(z, part, *priors, learn)[1]
    for block in np.split(np.arange(len(z)), [p * k, p * k + k, p * k + 2 * k, len(z) - 1]):
        if block[-1] == len(z) - 1 and not learn:
            assert gradient[-1] == 0
            continue
        direction = np.zeros(len(z))
        direction[block] = rng.standard_normal(len(block))
        h = 1e-5 / np.linalg.norm(direction)
        slope = (value(z + h * direction) - value(z - h * direction)) / (2 * h)
        # central differences: rounding of a value near 1e4 over a step of 1e-5, about 2e-7 of the largest slopes
        assert gradient @ direction == pytest.approx(slope, rel=2e-6, abs=2e-5 * np.linalg.norm(direction))


def test_the_value_is_a_normalised_log_density_up_to_a_constant(program, part):
    p, k = part.X.shape[1], program.HIDDEN
    noise, one, two = program.NOISES["rayleigh"], network(program, p, 1), network(program, p, 2)
    one[-1] = two[-1]

    def twin(z):
        W, b, v, c, log_s = z[: p * k].reshape(p, k), z[p * k : -k - 2], z[-k - 2 : -2], z[-2], z[-1]
        f = np.array([sum(v[j] * np.tanh(W[:, j] @ x + b[j]) for j in range(k)) for x in part.X]) + c
        total = norm(f, np.exp(log_s)).logpdf(part.y).sum() + norm.logpdf([*b, c]).sum()
        for rows, dim in ((W, k), (v[:, None], 1)):
            length = np.hypot(np.linalg.norm(rows, axis=1), program.FLOOR)
            total += program.named_prior(noise, 1.0, dim).by_quadrature(length).sum()
        return -total

    priors = [program.tabulated(program.named_prior(noise, 1.0, dim)) for dim in (k, 1)]
    found = [program.negative_log_posterior(z, part, *priors, False)[0] for z in (one, two)]
    assert found[1] - found[0] == pytest.approx(twin(two) - twin(one), rel=1e-9)
    assert program.predict(one, part.X)[0] == pytest.approx(
        one[-k - 2 : -2] @ np.tanh(part.X[0] @ one[: p * k].reshape(p, k) + one[p * k : -k - 2]) + one[-2]
    )


@pytest.mark.parametrize("name", ["rayleigh", "inverse-nakagami", "half-cauchy"])
def test_the_tables_of_the_priors_are_exact_to_ten_digits(program, name):
    prior = program.named_prior(program.NOISES[name], 1.0, program.HIDDEN)
    length = np.exp(np.random.default_rng(0).uniform(np.log(program.FLOOR), np.log(100), 50))
    value, slope = (part(np.log(length)) for part in program.tabulated(prior))
    assert value == pytest.approx(prior.log_prob(length), rel=1e-10, abs=1e-10)
    assert slope == pytest.approx(length * prior.grad_log_prob(length), rel=1e-7)


def test_all_noises_have_median_one(program):
    rng = np.random.default_rng(5)
    for name, noise in program.NOISES.items():
        share = (noise.sample((100_000,), rng) > 1).mean()  # standard error 0.0016
        assert name == "bernoulli" or abs(share - 0.5) < 0.008, name
    assert program.NOISES["bernoulli"].relative_variance == pytest.approx(program.NOISES["gaussian"].relative_variance)
    both = [program.NOISES[name].relative_variance for name in ("rayleigh", "inverse-nakagami")]
    assert both == pytest.approx([4 / np.pi - 1] * 2)


@pytest.mark.parametrize("where", ["both", "hidden"])
def test_noise_multiplies_inputs_and_hidden_units(program, where):
    torch, k, rng = program.torch, 3, np.random.default_rng(0)
    X = torch.tensor(rng.standard_normal((2, 4, 5)))
    weights = [torch.tensor(rng.standard_normal(shape)) for shape in ((2, 5, k), (2, k), (2, k), (2,))]
    W, b, v, c = weights
    run = lambda noise, draws: program.noisy_output(weights, X, noise, where, torch.Generator().manual_seed(1), draws)
    scale = 0.7 if where == "both" else 1.0
    expected = (torch.tanh((scale * X) @ W + b[:, None]) * 0.7 * v[:, None]).sum(dim=-1) + c[:, None]
    assert torch.allclose(run(program.noises.Gaussian(0.7, 0.0), 2), expected[:, None].expand(2, 2, 4))
    many = run(program.NOISES["bernoulli"], 20_000)
    assert many.shape == (2, 20_000, 4)
    if where == "hidden":  # the output is linear in the masks: mean and variance are known, row by row
        terms = torch.tanh(X @ W + b[:, None]) * v[:, None]
        mean, variance = 0.9 * terms.sum(dim=-1) + c[:, None], 0.09 * (terms**2).sum(dim=-1)
        assert ((many.mean(dim=1) - mean).abs() < 5 * (variance / 20_000) ** 0.5).all()
        assert torch.allclose(many.var(dim=1), variance, rtol=0.1)
    centred = many - many.mean(dim=1, keepdim=True)
    correlation = (centred[0, :, 0] * centred[0, :, 1]).mean() / (centred[0, :, 0].std() * centred[0, :, 1].std())
    assert abs(correlation) < 5 / 20_000**0.5, "every row has masks of its own"


# ---- cells ----


def test_every_cell_that_is_listed_has_its_result_and_command(program, capsys):
    assert program.main(["--list"]) == 0
    listed = capsys.readouterr().out.split()
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "results").glob("*.json")}
    assert set(listed) <= set(stored) and len(listed) == 16 + 8 * program.NUTS_SPLITS
    for name, result in stored.items():
        command = f"python experiments/regression/run.py {name}"
        assert (result["cell"], result["command"]) == (name, command) and result["cpu_seconds"] > 0
        assert ("digits" in result["data"]) == (name == "map-digits")
    assert not list((FOLDER / "results").glob("*.part"))


def test_a_trial_on_digits_needs_no_download(program, tmp_path, capsys):
    trial = ["--data", "digits", "--share", "0.01", "--results", str(tmp_path / "new")]
    names = ["map-none", "map-half-cauchy", "map-learned-s", "bound-both-bernoulli", "bound-hidden-rayleigh"]
    names.append("gibbs-linear-rayleigh-0")
    assert program.main([*trial, *names]) == 0 and "[6/6]" in capsys.readouterr().out
    assert sorted(path.stem for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert program.main([*trial, *names]) == 0 and not capsys.readouterr().out, "results are kept"
    found = {name: json.loads((tmp_path / "new" / f"{name}.json").read_text()) for name in names}
    assert all(result["command"].endswith(f"{name} --data digits --share 0.01") for name, result in found.items())
    for scores in (found["map-none"], found["bound-both-bernoulli"]["monte_carlo"]):
        assert len(scores["rmse"]) == len(scores["ll"]) == 2 and np.isfinite(scores["ll"]).all()
    assert found["map-learned-s"]["s"] != found["map-none"]["s"] and found["map-half-cauchy"]["floor"] == 1e-3
    gibbs = found["gibbs-linear-rayleigh-0"]
    assert len(gibbs["mean_prediction"]) == len(gibbs["deviation_of_mean"]) == 31 and gibbs["sweeps"] == 100
    assert program.main([*trial, "map-none", "--again"]) == 0 and "[1/1]" in capsys.readouterr().out
    again = json.loads((tmp_path / "new" / "map-none.json").read_text())
    assert again["rmse"] == pytest.approx(found["map-none"]["rmse"], rel=1e-9)


def test_gibbs_sampling_meets_a_sum_over_a_grid(program):
    "Two weights and log s: the posterior under the Laplace prior (scale 1 / sqrt(2 log 2)), summed."
    rng = np.random.default_rng(3)
    x = rng.standard_normal(30)
    data = program.RegressionData(x[:, None], x - 0.5 * x**2 + rng.standard_normal(30), ("x",), "made up")
    part, found = program.split(data, 0, squares=True), program.gibbs_cell(data, 0, 0.4)
    w = np.stack(np.meshgrid(*[np.linspace(-2.5, 2.5, 101)] * 2, indexing="ij"), -1).reshape(-1, 2)
    log_s = np.linspace(-2, 0.8, 71)
    energy = ((part.y - w @ part.X.T) ** 2).sum(axis=1)[:, None]
    log_mass = -energy * np.exp(-2 * log_s) / 2 - 27 * log_s - (log_s - np.log(0.1)) ** 2 / 2
    log_mass = log_mass - np.sqrt(2 * np.log(2)) * np.abs(w).sum(axis=1)[:, None]
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    expected = part.X_test @ (mass.sum(axis=1) @ w)
    apart = np.subtract(found["mean_prediction"], expected) / found["deviation_of_mean"]
    assert len(apart) == 3 and abs(apart).max() < 5  # 20 blocks: t with 19 degrees of freedom
    assert found["s"] / part.unit == pytest.approx(mass.sum(axis=0) @ np.exp(log_s), rel=0.02)


def test_an_interrupted_run_keeps_the_finished_cells(program, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    trial = ["--data", "digits", "--share", "0.01", "--results", str(tmp_path), "map-none", "map-rayleigh"]
    monkeypatch.setattr(program, "named_prior", interrupt)
    assert program.main(trial) == 130 and "run the same command to go on" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["map-none.json"]
    monkeypatch.undo()
    assert program.main(trial) == 0 and "[1/1] map-rayleigh" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["map-non"], "unknown cell map-non; there are: map-none,"),
        (["--share", "0.1"], "need --results"),
        (["--data", "digits"], "need --results"),
        (["--share", "nan", "--results", "x"], "--share must lie in (0, 1], got nan"),
        (["--nuts-splits", "21"], "--nuts-splits must lie between 1 and 20, got 21"),
        (["--nuts-noises", "bernoulli"], "invalid choice: 'bernoulli'"),
    ],
)
def test_a_wrong_command_is_refused_before_any_work(program, arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_more_splits_and_noises_are_cells_on_request(program, capsys):
    assert program.main(["--list", "--nuts-splits", "7", "--nuts-noises", "inverse-nakagami"]) == 0
    listed = capsys.readouterr().out.split()
    assert len(listed) == 15 + 1 + 2 * 2 * 7 and "nuts-network-inverse-nakagami-hierarchical-6" in listed


def test_without_numpyro_the_message_names_the_extra(program, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "numpyro", None)
    trial = ["--data", "digits", "--share", "0.01", "--results", str(tmp_path)]
    with pytest.raises(ImportError, match=r"pip install '\.\[bayes\]' in the folder"):
        program.main([*trial, "nuts-linear-rayleigh-expanded-0"])
    assert not list(tmp_path.iterdir())


# ---- the sampler's model, where numpyro is installed ----


@pytest.fixture
def numpyro(program):
    pytest.importorskip("numpyro", reason="the extra `bayes` is not installed")
    pytest.importorskip("arviz", reason="the extra `bayes` is not installed")
    return program.bayes()[0]


@pytest.mark.parametrize("name", ["rayleigh", "inverse-nakagami", "half-cauchy"])
def test_the_laws_are_those_of_the_package(program, numpyro, name):
    xi = np.array([0.01, 0.3, 1.0, 2.5, 20.0])
    noise = program.NOISES[name]
    assert np.asarray(program.law(noise).log_prob(xi)) == pytest.approx(noise.log_prob(xi), rel=1e-9)


@pytest.mark.parametrize("linear", [True, False])
def test_both_forms_are_one_model(program, numpyro, part, linear):
    "log p(theta, xi), hierarchical, and log p(w, xi), expanded, differ by the Jacobian of theta = xi w."
    from numpyro.infer.util import log_density

    rng, p, k = np.random.default_rng(0), part.X.shape[1], program.HIDDEN
    shapes = {"w": (p,)} if linear else {"W": (p, k), "v": (k,)}
    rest = {"log_s": -1.0} if linear else {"b": rng.standard_normal(k), "c": 0.3}
    raw = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    xi = {name: rng.uniform(0.5, 2, shape[0]) for name, shape in shapes.items()}
    wide = {name: xi[name].reshape(-1, *(1,) * (raw[name].ndim - 1)) for name in raw}
    scales = {f"xi_{name}": values for name, values in xi.items()}
    noise, jacobian = program.NOISES["rayleigh"], sum(np.log(wide[n] * np.ones(raw[n].shape)).sum() for n in raw)

    def log_joint(form, weights):
        arguments = part.X, part.y, part.X_test, noise, form, linear
        return float(log_density(program.model, arguments, {}, weights | scales | rest)[0])

    expanded, effective = log_joint("expanded", raw), {name: wide[name] * raw[name] for name in raw}
    assert log_joint("hierarchical", effective) == pytest.approx(expanded - jacobian, rel=1e-10)


def test_a_short_chain_gives_scores_and_diagnostics(program, numpyro, tmp_path):
    trial = ["--data", "digits", "--share", "0.07", "--results", str(tmp_path)]
    assert program.main([*trial, "nuts-linear-rayleigh-expanded-1"]) == 0
    found = json.loads((tmp_path / "nuts-linear-rayleigh-expanded-1.json").read_text())
    assert len(found["ess"]) == len(found["rhat"]) == len(found["mean_prediction"]) == 31
    assert np.isfinite(found["ll"]) and found["gradients"] >= 2 * 21 and len(found["median_xi"]) == 32
    assert len(found["rhat_log_xi"]) == len(found["ess_log_xi"]) == 32
