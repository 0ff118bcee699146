"""The settings of LeNet's study (page 53), and experiments/lenet/run.py: its cells, a trial, and what it refuses."""

import json
import math

import numpy as np
import pytest
import torch
from notebooks import ROOT

from adaptive_dropout import lenet_study
from adaptive_dropout.data import ImageData
from adaptive_dropout.penalties import LogSum
from adaptive_dropout.sweep import configuration_hash
from adaptive_dropout.training import TrainingData
from adaptive_dropout.variational_dropout import VariationalDropout

RESULTS = ROOT / "experiments" / "lenet" / "results"


@pytest.fixture(scope="module")
def program(experiment):
    return experiment("lenet")


def test_stored_results_are_of_listed_cells(program, capsys):
    assert program.main(["--list"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert len(listed) == 63
    for path in RESULTS.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert configuration_hash(record["configuration"]) == path.stem and path.stem in listed
        assert len(record["result"]["path"]["nonzero"]) == record["configuration"]["epochs"] and record["seconds"] > 0


def test_a_trial_on_the_digits_leaves_two_results_and_is_done_then(program, tmp_path, capsys):
    trial = ["matched", "--seeds", "5", "--epochs", "1", "--data", "digits", "--results", str(tmp_path)]
    assert program.main(trial) == 0 and "2 cells finished, 2 of them now" in capsys.readouterr().out
    records = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")]
    assert {record["configuration"]["method"] for record in records} == {"effective", "matched LogSum"}
    assert all(record["configuration"]["seed"] == 5 and 0 < record["result"]["nonzero"] <= 1 for record in records)
    assert not list((tmp_path / "unfinished").iterdir())
    assert program.main(trial) == 0 and "0 of them now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["everything"], "published"),
        (["front", "--methods", "lasso"], "magnitude"),
        (["--epochs", "3"], "--results"),
        (["--data", "digits"], "--results"),
    ],
)
def test_a_wrong_command_is_refused_before_any_work(program, arguments, word, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    assert end.value.code == 2 and word in capsys.readouterr().err


# ---- the settings, once more from the text of LeJeune et al. (2021), section 5 ----


def examples(n=48, pixels=9):
    """Random images with classes that are known."""
    inputs = torch.randn(n, pixels, generator=torch.Generator().manual_seed(0))
    pair = inputs, torch.arange(n) % 10
    return TrainingData(*pair, pair, pair)


@pytest.mark.parametrize(
    ("method", "rate", "noise_rate", "form"),
    [("VarDrop+LR+AR", 1e-4, 2e-4, "additive"), ("VarDrop+LR", 1e-3, 1e-3, "local"), ("VarDrop", 1e-3, 1e-3, "plain")],
)
def test_published_variational_dropout(method, rate, noise_rate, form):
    made = lenet_study.study_run("published", method, 1.0, 3, 100, examples())
    assert [group["lr"] for group in made.optimizer.param_groups] == [rate, noise_rate]  # log sigma^2 is 2 log sigma
    assert made.sparsifier.lam == 1 / 48 and made.sparsifier.threshold == 0.05 and made.seed == 3
    for layer in made.model[1::2]:
        assert layer.form == form
        noise = layer.log_sigma2 / 2 if form == "additive" else layer.log_ratio
        assert (noise == -5).all() and (layer.bias == 0).all()


@pytest.mark.parametrize(
    ("method", "kind", "rate"),
    [("LogSum", "penalty", 1e-4), ("AdaProx", "adaprox", 1e-4), ("AdaTikhonov", "adatikhonov", 1e-4),
     ("eta-trick", "eta-trick", 1e-3)],
)  # fmt: skip
def test_published_penalties(method, kind, rate):
    made = lenet_study.study_run("published", method, 1e-3, 0, 100, examples())
    assert made.sparsifier.method == kind and made.sparsifier.lam == 1e-3
    assert all(group["lr"] == rate for group in made.optimizer.param_groups)
    assert made.sparsifier._method.penalty == LogSum(2.0)
    for log_eta in made.sparsifier.parameters():
        assert torch.allclose(log_eta, torch.tensor(math.log(1e-3) + 5))
    weights = torch.cat([layer.weight.detach().flatten() for layer in made.model[1::2]])
    assert abs(float(weights.std()) / 0.02 - 1) < 0.02  # 33,700 of them: the bound is five standard errors


def test_pixels_are_normalised_as_published(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    labels = np.arange(50) % 10
    fake = ImageData(images[:40], labels[:40], images[40:], labels[40:], "memory")
    monkeypatch.setattr(lenet_study, "load_mnist", lambda folder: fake)
    data, source = lenet_study.study_data("mnist")
    assert source == "memory" and len(data) == 32 and len(data.validation[0]) == 8
    assert np.allclose(data.test[0][:, 0], (images[40:] / 255 - 0.1307) / 0.3081, atol=1e-5)


def test_matched_penalties_have_the_slope_of_variational_dropout_at_zero():
    lam = 0.01
    slope = lambda made, w: made["lam"] * float(made["penalty"].grad(w))
    wanted = slope({"penalty": VariationalDropout(lam), "lam": lam}, 1e-9)
    for made in (lenet_study.effective(lam), lenet_study.matched_log_sum(lam), lenet_study.matched_mcp(lam)):
        assert math.isclose(slope(made, 1e-9), wanted, rel_tol=1e-6)
    flat = lenet_study.matched_mcp(lam)
    assert slope(flat, 4 * math.sqrt(lam)) == 0 < slope(flat, 3.9 * math.sqrt(lam))


def test_rates_and_ramps_of_the_other_studies():
    rate = lambda study, method: lenet_study.study_run(study, method, 0.9, 0, 100, examples()).optimizer
    for study, method, wanted in (("matched", "MCP", 1e-4), ("warm-up", "MCP", 1e-4), ("front", "MCP", 1e-3)):
        assert rate(study, method).param_groups[0]["lr"] == wanted
    ramp = lenet_study.study_run("front", "magnitude", 0.9, 0, 100, examples()).sparsifier.target
    assert (ramp.begin, ramp.end, ramp.final) == (10, 60, 0.9)


def test_share_wrong_counts_what_is_wrong():
    scores = torch.eye(10)[[1, 2, 3, 3]]
    assert lenet_study.share_wrong(torch.nn.Identity(), (scores, torch.tensor([1, 2, 3, 4]))) == 0.25


def test_a_cell_trains_with_batches_of_128_over_all_steps(monkeypatch):
    seen = {}

    def trained(run, data, **options):
        seen.update(options, target=run.sparsifier.target, n=len(data))
        raise InterruptedError

    monkeypatch.setattr(lenet_study, "train", trained)
    with pytest.raises(InterruptedError):
        lenet_study.run_cell("front", "magnitude", 0.9, 0, 10, "digits")
    assert seen["batch"] == 128 and seen["epochs"] == 10
    assert seen["target"].end == 10 * math.ceil(seen["n"] / 128) * 6 // 10
