"""The program as a shell sees it: help, pipes, files, exit statuses."""

import json
import subprocess
import sys

import pytest
from notebooks import ROOT

from adaptive_dropout.cli import main
from adaptive_dropout.comparison import METHODS
from adaptive_dropout.reproduce import CLAIMS

PROGRAM = [sys.executable, "-m", "adaptive_dropout.cli"]


def test_help_names_every_claim_and_method(capsys):
    for command, names in (("reproduce", CLAIMS), ("compare", METHODS)):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        text = capsys.readouterr().out
        assert end.value.code == 0 and "example" in text
        assert all(f"\n  {name}" in text for name in names)
    assert all(claim.summary and claim.summary in _help("reproduce", capsys) for claim in CLAIMS.values())


def _help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return capsys.readouterr().out


def test_help_of_the_program_loads_nothing_heavy():
    code = (
        "import sys; from adaptive_dropout.cli import parser; parser().format_help()\n"
        "heavy = {'torch', 'sympy', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently")
def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [*PROGRAM, "compare", "magnitude pruning"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    process.stderr.close()


@pytest.mark.parametrize("name", ["missing/rule.png", "rule.pdf", ".png/.png"])
def test_a_figure_that_cannot_be_written_is_refused_before_the_work(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adaptive_dropout.comparison.compare", lambda *_, **__: pytest.fail("work was done"))
    assert main(["compare", "standout", "--figure", str(tmp_path / name)]) == 2
    printed = capsys.readouterr()
    assert "--figure" in printed.err and not printed.out


def test_no_picture_of_a_rule_without_a_curve(tmp_path, capsys):
    for rule, status in (("alpha = 1/(1+w**2)", 1), ("magnitude pruning", 0)):
        assert main(["compare", rule, "--figure", str(tmp_path / "rule.png")]) == status
        assert "no curve to draw" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_lam_and_upper_reach_the_comparison(capsys):
    assert main(["compare", "Hard Concrete", "--lam", "0.5", "--upper", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lambda"] == 0.5 and report["table"]["w"][-1] == 2 and report["rule"] == "Hard Concrete"


def test_a_second_run_says_that_it_replaces_the_first(tmp_path, capsys):
    command = ["reproduce", "table-1", "--quick", "--out", str(tmp_path)]
    assert main(command) == 0 and "replaces" not in capsys.readouterr().out
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "replaces an earlier report.json" in printed.out and "table-1" in printed.err, "the bar names the claim"


def test_sparsify_says_in_words_what_was_won_and_that_it_was_interrupted(tmp_path, capsys, monkeypatch):
    from adaptive_dropout import sparse_images

    plan = ["sparsify", "--method", "magnitude", "--target", "0.9", "--epochs", "2", "--out", str(tmp_path)]
    assert main(plan) == 0
    words = capsys.readouterr().out
    assert "zeros        0.90" in words and "one thread" in words and str(tmp_path) in words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "report.json"]

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sparse_images, "sparsify_images", interrupted)
    assert main(plan) == 130 and "goes on where it was" in capsys.readouterr().err


def test_explore_hands_over_port_and_browser_and_says_what_is_missing(capsys, monkeypatch):
    from adaptive_dropout import serve

    calls = []
    monkeypatch.setattr(serve, "explore", lambda port, browser: calls.append((port, browser)) or 0)
    assert main(["explore", "--port", "8123", "--no-browser"]) == main(["explore"]) == 0
    assert calls == [(8123, False), (None, True)]

    def missing(port, browser):
        raise ModuleNotFoundError("install voila")

    monkeypatch.setattr(serve, "explore", missing)
    assert main(["explore"]) == 2 and "install voila" in capsys.readouterr().err
