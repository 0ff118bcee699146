"""experiments/lenet/run.py: its cells, a trial on the digits, and what it refuses."""

import json

import pytest
from notebooks import ROOT

from adaptive_dropout.sweep import configuration_hash

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
