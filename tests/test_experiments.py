"""The programs in experiments/: cells in a folder of their own, with a share of the steps."""

import json
from statistics import fmean, stdev

import pytest
from notebooks import ROOT

FOLDER = ROOT / "experiments" / "dropblock_synthetic"


@pytest.fixture
def program(experiment):
    "experiments/dropblock_synthetic/run.py as a module."
    return experiment("dropblock_synthetic")


def test_every_cell_that_is_listed_has_its_result_and_command(program, capsys):
    assert program.main(["--list"]) == 0
    listed = capsys.readouterr().out.split()
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "results").glob("*.json")}
    assert sorted(listed) == sorted(stored) and len(listed) == 26
    for name, result in stored.items():
        command = f"python experiments/dropblock_synthetic/run.py {name}"
        assert (result["cell"], result["command"]) == (name, command) and result["seconds"] > 0
    assert not list((FOLDER / "results").glob("*.safetensors")) + list((FOLDER / "results").glob("*.part"))


@pytest.mark.parametrize("name", ["curves-block", "curves-dropconnect", "curves-overlapping-0.8-printed"])
def test_a_small_share_of_a_curve_is_the_beginning_of_the_stored_one(program, name, tmp_path, capsys):
    assert program.main([name, "--share", "0.01", "--results", str(tmp_path / "new")]) == 0
    assert f"[1/1] {name}" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{name}.json"], "the state is gone"
    small, stored = (
        json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path / "new", FOLDER / "results")
    )
    assert small["steps"] == small["iterates"] == 200 and "--share 0.01" in small["command"]
    pairs = zip(small["first_stochastic"], small["first_deterministic"], strict=True)
    ratios = [above / below for above, below in pairs]
    assert small["mean_ratio"] == pytest.approx(fmean(ratios), rel=1e-12)
    assert small["standard_error"] == pytest.approx(stdev(ratios) / 200**0.5, rel=1e-12)
    for kind in ("stochastic", "deterministic"):
        assert small[f"first_{kind}"] == pytest.approx(stored[f"first_{kind}"], rel=1e-9)
        assert small[kind] == pytest.approx(stored[kind][:2], rel=1e-9)


def test_a_result_is_kept_unless_again(program, tmp_path, capsys):
    command = ["alternating-seed2", "--results", str(tmp_path)]
    assert program.main(command) == 0 and "[1/1]" in capsys.readouterr().out
    assert program.main(command) == 0 and not capsys.readouterr().out
    assert program.main([*command, "--again"]) == 0 and "[1/1]" in capsys.readouterr().out
    new, stored = (json.loads((f / "alternating-seed2.json").read_text()) for f in (tmp_path, FOLDER / "results"))
    assert new["plain"]["gaps"][:50] == pytest.approx(stored["plain"]["gaps"][:50], rel=1e-6)
    assert max(abs(run[kind]["final_gap"]) for run in (new, stored) for kind in ("plain", "accelerated")) <= 1e-14


@pytest.mark.parametrize("name, share", [("curves-block", 0.15), ("average-seed1", 0.006), ("decay-seed0", 0.003)])
def test_an_interrupted_run_goes_on_to_the_same_numbers(program, name, share, tmp_path, monkeypatch, capsys):
    command = lambda folder: [name, "--share", str(share), "--results", str(tmp_path / folder)]
    assert program.main(command("whole")) == 0
    whole, draws, plain = tmp_path / "whole" / f"{name}.json", [], program.BlockMask.sample

    def sample(self, size, rng):
        draws.append(1)
        if len(draws) == 3:
            raise KeyboardInterrupt
        return plain(self, size, rng)

    monkeypatch.setattr(program.BlockMask, "sample", sample)
    with pytest.warns(UserWarning, match="interrupted after 2000 steps"):
        assert program.main(command("parts")) == 130
    assert "run the same command to go on" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [f"{name}.safetensors"], "no result, but a state"
    assert program.main(command("parts")) == 0 and 3 < len(draws) <= 5, "nothing is drawn twice"
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [f"{name}.json"]
    one, other = (json.loads(path.read_text()) for path in (whole, tmp_path / "parts" / f"{name}.json"))
    assert {**one, "seconds": 0} == {**other, "seconds": 0} and one["steps"] == 3000
    assert ("averaged_gap" in one) == ("average_from" in one) and one.get("average_from", 1500) == 1500


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["curves-blok"], "unknown cell curves-blok; there are: curves-block,"),
        (["--share", "0.1"], "--share needs --results"),
        (["--share", "0", "--results", "x"], "--share must lie in (0, 1], got 0"),
        (["--share", "nan", "--results", "x"], "--share must lie in (0, 1], got nan"),
    ],
)
def test_a_wrong_command_is_refused_before_any_work(program, arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err
