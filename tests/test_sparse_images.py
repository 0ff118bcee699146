"""sparsify_images of page 54: its phases, its dense twin, and what it does with files that do not fit."""

import pytest
import torch

from adaptive_dropout import sparse_images
from adaptive_dropout.lenet_study import lenet


@pytest.fixture
def recorded(monkeypatch):
    """What is trained, with which options and from which weights; the training takes place."""
    calls, train = [], sparse_images.train

    def recorder(run, data, **options):
        rates = [group["lr"] for group in run.optimizer.param_groups]
        start = [p.detach().clone() for p in run.model.parameters()]
        calls.append({"method": run.sparsifier and run.sparsifier.method, "rates": rates, "start": start, **options})
        return train(run, data, **options)

    monkeypatch.setattr(sparse_images, "train", recorder)
    return calls


def test_two_phases_and_a_dense_twin_with_as_many_epochs(recorded, tmp_path):
    report = sparse_images.sparsify_images("digits", "magnitude", 0.9, tmp_path, epochs=5, seed=3, progress=False)
    assert [call["method"] for call in recorded] == ["magnitude", "fixed", None]
    assert [call["epochs"] for call in recorded] == [3, 2, 5]
    assert [call.get("schedule", "linear") for call in recorded] == ["constant", "linear", "linear"]
    assert all(call["rates"] == [1e-3] for call in recorded)
    for call in (recorded[0], recorded[2]):
        assert all(torch.equal(a, b) for a, b in zip(call["start"], lenet(64, 3).parameters(), strict=True))
    assert "test error, all weights" not in report and report["test error, loaded"] == report["test error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "report.json"]


def test_a_file_that_gives_something_else_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(sparse_images, "load_pruned", lambda path: lenet(64, 9))
    with pytest.raises(RuntimeError, match="does not give"):
        sparse_images.sparsify_images("digits", "magnitude", 0.9, tmp_path, epochs=2, progress=False)


def test_the_error_that_is_reported_is_that_of_the_file(monkeypatch, tmp_path):
    asked, measure, load, loaded = [], sparse_images.share_wrong, sparse_images.load_pruned, []
    monkeypatch.setattr(
        sparse_images, "share_wrong", lambda model, pair: (asked.append(model), measure(model, pair))[1]
    )
    monkeypatch.setattr(sparse_images, "load_pruned", lambda path: (loaded.append(load(path)), loaded[0])[1])
    sparse_images.sparsify_images("digits", "magnitude", 0.9, tmp_path, epochs=2, progress=False)
    assert asked[-1] is loaded[0]


def test_a_state_of_another_training_names_the_ways_out(tmp_path):
    (tmp_path / "unfinished-1.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="take another out, or delete .*unfinished-1"):
        sparse_images.sparsify_images("digits", "magnitude", 0.9, tmp_path, epochs=2, progress=False)
