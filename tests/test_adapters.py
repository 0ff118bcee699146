"""The callbacks of page 41a in the real libraries, where these are installed: the weights of the plain loop."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_dropout.nn.adapters import (
    from_prune,
    lightning_callback,
    skorch_callback,
    to_prune,
    transformers_callback,
)
from adaptive_dropout.nn.sparsify import Sparsifier
from adaptive_dropout.penalties import LogSum

SETTINGS = [{"method": name, "penalty": LogSum(0.5), "lam": 0.05} for name in ("adaprox", "penalty")]
EPOCHS = 15


def data():
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([[1.0, -2.0, 0.5, 0, 0, 0]]).T


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 1))


def plain_loop(settings):
    "The weights after full-batch Adam with the sparsifier by hand."
    model, (x, y) = network(), data()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    sparsifier = Sparsifier(model, optimizer=optimizer, **settings)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        sparsifier.add_gradient()
        optimizer.step()
        sparsifier.step()
    return sparsifier.finalize()[0].weight.detach()


def same(callback, model, settings):
    weights = model[0].weight.detach()
    assert callback.sparsifier.steps == EPOCHS and callback.sparsifier.method == "fixed"
    return torch.allclose(weights, plain_loop(settings), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s["method"])
def test_skorch(settings):
    skorch = pytest.importorskip("skorch", reason="skorch is not installed")
    callback, (x, y) = skorch_callback(**settings), data()
    options = {"optimizer": torch.optim.Adam, "lr": 0.05, "max_epochs": EPOCHS, "batch_size": -1, "verbose": 0}
    net = skorch.NeuralNetRegressor(network(), train_split=None, callbacks=[callback], **options)
    net.fit(x.numpy(), y.numpy())
    assert same(callback, net.module_, settings)


@pytest.mark.parametrize("halves", [1, 2])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s["method"])
def test_lightning(settings, halves, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, number):
            return F.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.05)

    module, callback = Module(), lightning_callback(**settings)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=64 // halves)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options = {"max_epochs": EPOCHS, "accumulate_grad_batches": halves, "default_root_dir": tmp_path, **quiet}
    lightning.Trainer(callbacks=[callback], enable_checkpointing=False, **options).fit(module, loader)
    assert same(callback, module.net, settings)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s["method"])
def test_transformers(settings, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x, labels):
            out = self.net(x)
            return {"loss": F.mse_loss(out, labels), "logits": out}

    rows = [{"x": x, "labels": y} for x, y in zip(*data(), strict=True)]
    quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    schedule = {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "num_train_epochs": EPOCHS}
    arguments = transformers.TrainingArguments(str(tmp_path), per_device_train_batch_size=64, **schedule, **quiet)
    model, callback = Model(), transformers_callback(**settings)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=rows, callbacks=[callback], optimizers=(optimizer, None)
    )
    trainer.train()
    assert same(callback, model.net, settings)


@pytest.mark.parametrize("make", [skorch_callback, lightning_callback, transformers_callback])
def test_a_missing_library_is_named(make, monkeypatch):
    import sys

    for name in ("skorch", "skorch.callbacks", "lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        for place in (name, f"{name}.callbacks"):
            monkeypatch.setitem(sys.modules, place, None)
    with pytest.raises(ImportError, match=f"pip install {make.__name__.removesuffix('_callback')}"):
        make()


def test_masks_go_out_and_come_back():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    sparsifier = Sparsifier(model, "magnitude", target=0.6)
    sparsifier.step()
    x, masks = torch.randn(2, 1, 4, 4), sparsifier.masks()
    expected = copy.deepcopy(model)(x)
    assert torch.equal(to_prune(sparsifier)(x), expected) and "2.weight_orig" in model.state_dict()
    returned = from_prune(model)
    assert torch.equal(model(x), expected) and set(returned) == set(masks) == {"0.weight", "2.weight"}
    assert all(torch.equal(returned[name], masks[name]) for name in masks)
    with pytest.raises(ValueError, match="no mask"):
        from_prune(model)
