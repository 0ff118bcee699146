"""Compression, CSR layers and files over many networks, and what they refuse."""

import copy
import json
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from adaptive_dropout.nn.compress import (
    _LAYERS,
    CSRLinear,
    compress,
    export_onnx,
    latency_report,
    load_pruned,
    save_pruned,
    to_csr,
)


def sparse(model, share=0.15, seed=0, rows=True):
    "The model in float64 with most weights zero, whole rows and columns among them, biases and statistics random."
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda like: torch.rand(like.shape, generator=generator, dtype=torch.float64)
    for module in model.double().modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            weight = (uniform(module.weight) - 0.5) * (uniform(module.weight) < share)
            if rows:
                weight[uniform(weight.flatten(1)[:, 0]) < 0.3] = 0
            module.weight.data = weight
            if module.bias is not None:
                module.bias.data = uniform(module.bias) - 0.3
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(uniform(tensor) + 0.1)
    return model


def outputs(model, *x):
    "Outputs in evaluation mode; the model's flags are put back."
    flags = {module: module.training for module in model.modules()}
    with torch.no_grad():
        out = model.eval()(*x)
    for module, flag in flags.items():
        module.training = flag
    return out


def same(model, small, *x, tolerance=1e-12):
    expected, found = outputs(model, *x), small(*x)
    return float((expected - found).detach().abs().max()) <= tolerance * float(expected.abs().max())


def widths(model):
    return [len(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]


def number(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- networks that are paths ----

POINTWISE = [nn.ReLU(), nn.ReLU(True), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(0.7)]
POINTWISE += [nn.Softplus(2.0, 5.0), nn.LeakyReLU(0.2), nn.PReLU(), nn.PReLU(24), nn.Hardtanh(-0.2, 0.1), nn.ReLU6()]
POINTWISE += [nn.Hardshrink(0.1), nn.Softshrink(0.1), nn.Threshold(0.1, 0.7), nn.Mish(), nn.SELU(), nn.CELU(0.5)]
POINTWISE += [nn.Softsign(), nn.Tanhshrink(), nn.Hardswish(), nn.Hardsigmoid(), nn.LogSigmoid()]


@pytest.mark.parametrize("activation", POINTWISE, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_chains(activation, bias):
    second = copy.deepcopy(activation)
    layers = [nn.Linear(9, 24, bias), activation, nn.Dropout(), nn.Linear(24, 24, bias), nn.BatchNorm1d(24), second]
    model = sparse(nn.Sequential(*layers, nn.Linear(24, 4, bias)))
    if isinstance(activation, nn.PReLU):
        activation.weight.data = torch.linspace(0.1, 0.9, activation.num_parameters, dtype=torch.float64)
    small = compress(model, number(11, 9))
    assert same(model, small, number(33, 9, seed=1)) and sum(widths(small)) < sum(widths(model)) - 10
    assert widths(compress(small)) == widths(small) and not small.training and model.training
    single = compress(copy.deepcopy(model).float())
    assert same(model.float(), single, number(33, 9).float(), tolerance=1e-6) and small[0].weight.dtype == torch.float64


CONVOLUTIONS = {
    "valid": lambda: [nn.Conv2d(2, 8, 3), nn.Softplus(), nn.Conv2d(8, 6, 3)],
    "zeros": lambda: [nn.Conv2d(2, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 6, 3, padding=(0, 1))],
    "same": lambda: [nn.Conv2d(2, 8, 3, padding="same"), nn.Sigmoid(), nn.Conv2d(8, 6, (1, 3), padding="same")],
    "same 1x1": lambda: [nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 6, 1, padding="same")],
    "strided": lambda: [nn.Conv2d(2, 8, 3, stride=2, padding=2, dilation=2), nn.Tanh(), nn.Conv2d(8, 6, 2, stride=2)],
    "replicate": lambda: [nn.Conv2d(2, 8, 3), nn.ELU(), nn.Conv2d(8, 6, 3, padding=1, padding_mode="replicate")],
    "reflect": lambda: [nn.Conv2d(2, 8, 3), nn.ELU(), nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect")],
    "circular": lambda: [nn.Conv2d(2, 8, 3), nn.ELU(), nn.Conv2d(8, 6, 3, padding=2, padding_mode="circular")],
    "max": lambda: [nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 6, 2)],
    "average": lambda: [nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.AvgPool2d(3, 2, 1), nn.Conv2d(8, 6, 2)],
    "average, zeros not counted": lambda: [
        *(nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Conv2d(8, 6, 2))
    ],
    "average, ceiling": lambda: [
        *(nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 6, 2))
    ],
    "divisor": lambda: [nn.Conv2d(2, 8, 3), nn.Sigmoid(), nn.AvgPool2d(2, divisor_override=3), nn.Conv2d(8, 6, 2)],
    "norm behind relu": lambda: [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, padding=1)],
    "prelu": lambda: [nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Dropout2d(), nn.Conv2d(8, 6, 3)],
    "prelu behind flatten": lambda: [
        *(nn.Conv2d(2, 8, 8), nn.Tanh(), nn.Flatten(), nn.PReLU(8), nn.Unflatten(1, (8, 1, 1)))
    ],
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_convolutions(name, seed):
    layers = CONVOLUTIONS[name]()
    x = number(3, 2, 8, 8)
    size = nn.Sequential(*layers).double().eval()(x)[0].numel()
    layers += [nn.ReLU(), nn.Flatten(), nn.Linear(size, 5), nn.Tanh(), nn.Linear(5, 2)]
    model = sparse(nn.Sequential(*layers), 0.4, seed)
    small = compress(model, x)
    assert same(model, small, number(5, 2, 8, 8, seed=1)) and widths(compress(small)) == widths(small)


def test_constant_channels_fold_where_that_is_exact():
    first = {}
    for name in CONVOLUTIONS:
        if name in ("norm behind relu", "prelu", "prelu behind flatten"):
            continue
        layers = CONVOLUTIONS[name]()
        size = nn.Sequential(*layers).double()(number(1, 2, 8, 8)).numel()
        model = sparse(nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 3)), 1.0, rows=False)
        model[0].weight.data[:3] = 0  # three constant channels of eight
        first[name] = widths(compress(model, number(4, 2, 8, 8)))[0]
    assert {name for name, width in first.items() if width == 5} == {
        *("valid", "same 1x1", "strided", "replicate", "reflect", "circular", "max"),
        *("average, zeros not counted", "average, ceiling"),
    }
    assert first["zeros"] == first["same"] == 6  # one stands for three
    assert first["average"] == first["divisor"] == 8  # not constant behind the pooling: left alone


def test_negative_constants_under_zero_padding():
    model = sparse(nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1)), 1.0, rows=False)
    model[0].weight.data[:4], model[0].bias.data[:4] = 0, torch.tensor([-0.1, -0.5, -0.3, 0])
    small = compress(model, number(2, 1, 7, 7))
    assert widths(small) == [3, 3] and float(small[0].bias.detach().min()) == -0.5  # the largest one stays


def test_average_pooling_keeps_zeros_constant():
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(3, 1, 1), nn.Conv2d(6, 3, 3, padding=1)]
    model = sparse(nn.Sequential(*layers), 1.0, rows=False)
    model[0].weight.data[:4], model[0].bias.data[:4] = 0, -1
    assert widths(compress(model, number(2, 1, 7, 7))) == [2, 3]


def test_one_dimension():
    layers = [nn.Conv1d(3, 10, 3, padding=1), nn.BatchNorm1d(10), nn.Sigmoid(), nn.AvgPool1d(3, 1, 1)]
    layers += [nn.Conv1d(10, 9, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(9, 8, 1)]
    layers += [nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(16, 2)]
    model = sparse(nn.Sequential(*layers), 0.3)
    small = compress(model, number(3, 3, 12))
    assert same(model, small, number(5, 3, 12, seed=2)) and sum(widths(small)) < sum(widths(model))


def test_zero_scale_of_batch_normalisation():
    model = sparse(nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3)), 1.0, rows=False)
    model[1].weight.data[:4] = 0
    model[1].bias.data[:4] = torch.tensor([-1.0, 0.5, 0, 2])
    assert widths(compress(model, number(2, 1, 9, 9))) == [2, 2]
    behind = sparse(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 2)), 1.0, rows=False)
    behind[2].weight.data[:4] = 0
    small = compress(behind, number(3, 4))
    assert widths(small) == [2, 2] and small[2].num_features == 2


def test_a_network_without_life_keeps_one_unit():
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 8), nn.Linear(8, 3)]
    model = sparse(nn.Sequential(*layers))
    model[0].weight.data[:] = 0
    small = compress(model, number(2, 1, 4, 4))
    assert widths(small) == [1, 1, 3] and same(model, small, number(2, 1, 4, 4))
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False))
    model[2].weight.data[:] = 0
    assert widths(compress(model)) == [1, 2] and compress(model)[1].__class__ is nn.ReLU
    assert not outputs(compress(model), torch.ones(1, 4)).any()


def test_low_precision_and_a_single_layer():
    model = sparse(nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))).bfloat16()
    small = compress(model, number(4, 6).bfloat16())
    assert small[0].weight.dtype == torch.bfloat16 and widths(small)[0] < 20
    linear = nn.Linear(3, 2)
    assert torch.equal(compress(linear)(torch.ones(1, 3)), linear(torch.ones(1, 3)))


# ---- other networks ----


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 2)
        self.hidden, self.out = nn.Linear(8 * 4, 30), nn.Linear(30, 4)
        self.norm, self.drop = nn.BatchNorm1d(30), nn.Dropout()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.dropout(F.leaky_relu(self.second(x), 0.1), 0.5, self.training)
        x = x.view(x.size(0), -1)
        x = torch.tanh(self.norm(self.hidden(self.drop(x))))
        return F.log_softmax(self.out(x), dim=1)


class Variant(Functional):
    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.first(x)), kernel_size=2, stride=2)
        x = F.gelu(self.second(x), approximate="tanh")
        x = x.reshape(x.shape[0], -1)
        return self.out(self.hidden(x).sigmoid().flatten(start_dim=1))


@pytest.mark.parametrize("kind", [Functional, Variant])
def test_functions_are_layers(kind, tmp_path):
    model = sparse(kind(), 0.3)
    small = compress(model, number(2, 1, 8, 8))
    if kind is Functional:
        assert type(small) is nn.Sequential
        assert same(model, load_pruned(save_pruned(small, tmp_path / "net")), number(5, 1, 8, 8))
    assert widths(small)[0] < 6 and widths(small)[2] < 30 and same(model, small, number(3, 1, 8, 8, seed=3))


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        x = self.linear(x)
        return x.view(x.size(1), -1)


def test_a_view_that_is_no_flattening():
    model = sparse(Turned())
    assert same(model, compress(model, number(3, 4)), number(3, 4)) and compress(model)(number(3, 4)).shape == (6, 3)


class Block(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem, self.one, self.two = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 9, 3, padding=1), nn.Conv2d(9, 6, 3, padding=1)
        self.norm, self.act, self.inplace, self.head = nn.BatchNorm2d(9), nn.ReLU(), nn.ReLU(True), nn.Linear(6, 2)
        self.other, self.scale = nn.Conv2d(6, 6, 1), nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def inner(self, x):
        return self.two(self.act(self.norm(self.one(x))))

    def forward(self, x):
        x = self.stem(x)
        if self.how == "sum":
            x = self.act(self.scale * self.inner(self.act(x)) + x)
        elif self.how == "in place":
            x = self.inner(self.inplace(x)) + self.other(x)  # the second reads what the first has overwritten
        elif self.how == "two readers":
            x = self.act(x)
            x = self.two(self.act(self.one(x))) * self.other(x)
        elif self.how == "raw and normalised":
            inside = self.one(self.act(x))
            x = self.two(self.act(self.norm(inside)) * inside)
        elif self.how == "twice":
            x = self.other(self.act(self.other(self.act(x))))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("how", ["sum", "in place", "two readers", "twice", "raw and normalised"])
@pytest.mark.parametrize("seed", range(4))
def test_branches(how, seed):
    model = sparse(Block(how), 0.5, seed)
    small = compress(model, number(2, 1, 6, 6))
    assert same(model, small, number(4, 1, 6, 6, seed=1)) and isinstance(small, torch.fx.GraphModule)
    if how in ("sum", "in place"):
        assert small.one.out_channels < 9 and small.stem.out_channels == small.two.out_channels == 6
    if how == "two readers":
        assert small.one.in_channels == small.other.in_channels == small.stem.out_channels <= 6
    again = copy.deepcopy(small)
    assert torch.equal(again(number(2, 1, 6, 6)), small(number(2, 1, 6, 6)))


def test_what_is_not_understood_is_left_alone():
    layers = [nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 3, 1)]
    grouped = sparse(nn.Sequential(*layers))
    small = compress(grouped, number(2, 4, 7, 7))
    assert widths(small)[:2] == [8, 8] and same(grouped, small, number(2, 4, 7, 7))
    normalised = sparse(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 20), nn.Tanh(), nn.Linear(20, 2)))
    small = compress(normalised.double(), number(3, 4))
    assert widths(small)[0] == 8 and widths(small)[1] < 20 and same(normalised, small, number(3, 4))
    pooled = sparse(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.MaxPool1d(2), nn.Linear(4, 2)))  # over features
    assert same(pooled, compress(pooled, number(3, 4)), number(3, 4))
    pooled = sparse(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.MaxPool1d(3, 1, 1), nn.Linear(8, 2)), 1.0, rows=False)
    pooled[0].weight.data[::2] = 0
    assert same(pooled, compress(pooled, number(3, 4)), number(3, 4))
    rows = sparse(nn.Sequential(nn.Conv1d(2, 4, 1), nn.Tanh(), nn.Flatten(2), nn.Linear(8, 2)))
    assert same(rows, compress(rows, number(3, 2, 8)), number(3, 2, 8))
    batch = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 2))
    batch = batch.double()
    assert widths(compress(batch, number(6, 4))) == [8, 2]
    over_rows = sparse(nn.Sequential(nn.Conv1d(3, 6, 1), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)))
    assert same(over_rows, compress(over_rows), number(2, 3, 6))  # a linear layer over positions, of the same number


class AlwaysNoisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.out = nn.Linear(4, 50), nn.Linear(50, 2)

    def forward(self, x):
        return self.out(F.dropout(self.linear(x), 0.5))


def test_dropout_that_is_always_on_stays():
    small, x = compress(AlwaysNoisy()), torch.ones(1, 4)
    assert isinstance(small, torch.fx.GraphModule) and not torch.equal(outputs(small, x), outputs(small, x))


def test_an_assumption_that_fails_is_noticed_on_the_example():
    model = sparse(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)), 1.0, rows=False)
    compress(model, number(4, 5))
    with pytest.raises(RuntimeError, match="differs from the original"):
        compress(model, number(4, 6, 5))  # batch normalisation over six positions, not over the six features


def test_an_example_that_does_not_fit_is_named_with_the_layer():
    model = sparse(nn.Sequential(nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), 1.0, rows=False)
    with pytest.raises(ValueError, match=r"example_input of shape \(4, 7\) does not fit layer '1': mat1 and mat2"):
        compress(model, number(4, 7))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_shared_layers_and_tied_weights():
    shared = nn.Linear(6, 6)
    model = sparse(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(6, 2)))
    small = compress(model, number(3, 3))
    assert same(model, small, number(3, 3)) and widths(small)[1] == 6
    tied = sparse(nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)))
    tied[2].weight = tied[0].weight
    assert same(tied, compress(tied, number(3, 5)), number(3, 5))


def test_masks_and_parametrisations():
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    prune.random_structured(model[0], "weight", 0.5, dim=0)
    prune.random_unstructured(model[2], "weight", 0.8)
    prune.random_unstructured(model[2], "bias", 0.8)
    parametrizations.weight_norm(model[4])
    model[2].weight_orig.data *= 3  # module.weight is stale until the next forward
    before = copy.deepcopy(model.state_dict())
    small = compress(model, number(3, 5))
    assert same(model, small, number(4, 5)) and widths(small)[0] <= 6
    assert set(small.state_dict()) == {f"{n}.{name}" for n in (0, 2, 4) for name in ("weight", "bias")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="layer 0 .Linear. has hooks, masks"):
        save_pruned(model, "nowhere.safetensors")
    with pytest.raises(ValueError, match="compress first"):
        to_csr(model)


def test_flags_and_gradients_survive():
    model = sparse(nn.Sequential(nn.Linear(4, 9), nn.Dropout(), nn.Linear(9, 2)))
    model[1].eval()
    model(number(2, 4)).sum().backward()
    gradient = model[0].weight.grad.clone()
    small = compress(model, number(2, 4))
    assert model.training and model[0].training and not model[1].training
    assert torch.equal(model[0].weight.grad, gradient) and small[0].weight.requires_grad
    small(number(2, 4)).sum().backward()
    assert small[0].weight.grad is not None


class Custom(nn.Module):
    "A layer of somebody else, with control flow, that says what it is in evaluation."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def to_dense(self):
        return self.linear

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else self.linear(x)


def test_layers_with_to_dense():
    model = sparse(nn.Sequential(Custom(), nn.ReLU(), nn.Linear(6, 2)))
    assert [type(layer) for layer in compress(model, number(3, 4))] == [nn.Linear, nn.ReLU, nn.Linear]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.ReLU(), ValueError, "ReLU has no Linear, Conv1d or Conv2d"),
        ("net", TypeError, "model must be a torch.nn.Module, got str"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(Branching())), TypeError, r"forward of 1.0 \(Branching\)"),
        (Branching(), TypeError, "forward of Branching"),
    ],
)
def test_refused_models(model, error, message):
    with pytest.raises(error, match=message):
        compress(model)


def test_refused_weights_and_hooks():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias.data[0] = torch.inf
    with pytest.raises(ValueError, match=r"1 \(Linear\) holds weights that are not finite"):
        compress(model)
    model[1].bias.data[0] = 0
    model[0].register_forward_pre_hook(lambda *args: None)
    with pytest.raises(ValueError, match=r"0 \(Linear\) has a forward hook"):
        compress(model)


# ---- compressed rows ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_csr_layer(bias, share, dtype):
    linear = sparse(nn.Linear(13, 7, bias), share, rows=False).to(dtype)
    layer = CSRLinear.from_linear(linear)
    tolerance = 30 * torch.finfo(dtype).eps
    for shape in ((1, 13), (6, 13), (13,), (2, 3, 13)):
        x = number(*shape).to(dtype)
        assert layer(x).shape == linear(x).shape and (layer(x) - linear(x)).abs().max() < tolerance
    columns = number(13, 6).to(dtype).t()  # already transposed in memory
    assert (layer(columns) - linear(columns)).abs().max() < tolerance
    assert layer.nonzeros == int(linear.weight.count_nonzero()) and torch.equal(layer.to_dense().weight, linear.weight)
    other = CSRLinear(13, 7, layer.nonzeros, bias, dtype)
    other.load_state_dict(layer.state_dict())
    x = number(4, 13).to(dtype)
    assert torch.equal(other(x), layer(x)) and torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    assert not list(layer.parameters()) and layer.double()(x.double()).dtype == torch.float64


def test_csr_layer_follows_its_buffers():
    linear = sparse(nn.Linear(13, 7), 0.3)
    layer, x = CSRLinear.from_linear(linear), number(4, 13).requires_grad_()
    layer(x)
    twice = copy.deepcopy(layer)
    twice.load_state_dict({name: t * 2 if t.is_floating_point() else t for name, t in layer.state_dict().items()})
    assert torch.allclose(twice(x), 2 * layer(x), rtol=1e-14)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, linear.weight.sum(0).expand(4, 13), rtol=1e-13)


@pytest.mark.parametrize("name", ["crow_indices", "col_indices"])
@pytest.mark.parametrize("change", [-13, 50])
def test_csr_layer_refuses_bad_indices(name, change):
    layer = CSRLinear.from_linear(sparse(nn.Linear(13, 7), 0.3))
    layer(number(2, 13))
    layer.load_state_dict(layer.state_dict() | {name: layer.state_dict()[name] + change})
    with pytest.raises(ValueError, match="no valid sparse matrix"):
        layer(number(2, 13))


def test_csr_refusals():
    with pytest.raises(TypeError, match="linear must be"):
        CSRLinear.from_linear(nn.Conv2d(1, 1, 1))
    with pytest.raises(TypeError, match="float32 or float64"):
        CSRLinear.from_linear(nn.Linear(2, 2).half())
    with pytest.raises(ValueError, match="nonzeros"):
        CSRLinear(2, 2, 5)
    with pytest.raises(ValueError, match="no linear layer"):
        to_csr(nn.ReLU())
    with pytest.raises(ValueError, match="no linear layer"):
        to_csr(nn.Linear(2, 2).half())
    for rounds in (0, -1):
        with pytest.raises(ValueError, match="rounds"):
            to_csr(nn.Linear(2, 2), rounds=rounds)


def test_to_csr():
    inner = nn.Sequential(nn.Linear(9, 4), nn.ReLU())
    model = sparse(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), inner, nn.Linear(4, 3)))
    result, x = to_csr(model), number(5, 6)
    assert same(model, result, x) and not any(isinstance(m, CSRLinear) for m in model.modules()) and model.training
    assert isinstance(result[2][0], CSRLinear) and result[1].inplace and not model[1].inplace
    assert same(model, compress(result, x), x) and not any(isinstance(m, CSRLinear) for m in compress(result))
    assert isinstance(to_csr(nn.Linear(3, 2)), CSRLinear) and same(model, to_csr(model, x, rounds=3), x)


def test_the_faster_form_is_chosen(monkeypatch):
    clock = [0.0]  # advances with the work of each layer, so that no other program can change the choice

    def counted(forward, work):
        def run(layer, x):
            clock[0] += work(layer)
            return forward(layer, x)

        return run

    monkeypatch.setattr(nn.Linear, "forward", counted(nn.Linear.forward, lambda layer: layer.weight.numel()))
    stored = lambda layer: 5 * int((layer.to_dense().weight != 0).sum())  # a stored weight costs five dense ones
    monkeypatch.setattr(CSRLinear, "forward", counted(CSRLinear.forward, stored))
    monkeypatch.setattr("adaptive_dropout.nn.compress.time.perf_counter", lambda: clock[0])
    x = number(64, 1000)
    full, empty = nn.Linear(1000, 1000).double(), sparse(nn.Linear(1000, 1000), 0.001)
    model = to_csr(nn.Sequential(full, nn.ReLU(), empty), x, rounds=3)  # factors of 5 and more either way
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU, CSRLinear]


def test_shared_relu_is_not_made_in_place():
    act = nn.ReLU()
    model = sparse(nn.Sequential(act, nn.Linear(6, 9), act, nn.Linear(9, 4)))
    x = number(5, 6)
    before = x.clone()
    assert same(model, to_csr(model), x) and torch.equal(x, before)


class Wait(nn.Identity):
    def forward(self, x):
        torch.ones(400, 400) @ torch.ones(400, 400)
        return x


def test_latency_report():
    report = latency_report({"busy": Wait(), "idle": nn.Identity()}, number(2, 3), (1, 5), rounds=5)
    assert report.best(5) == "idle" and report.speedup(5) > 1 and report.speedup(1, "busy") == 1
    assert report.threads == torch.get_num_threads() and report.device == "cpu" and "idle" in str(report)
    for variants, x, sizes, message in (
        ({}, number(2, 3), (1,), "variant"),
        ({"a": nn.ReLU()}, number(0, 3), (1,), "row"),
        ({"a": nn.ReLU()}, number(2, 3), (0,), "batch_sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            latency_report(variants, x, sizes)


# ---- files ----

EXAMPLES = {
    nn.Dropout1d: lambda: (nn.Dropout1d(0.3), (2, 4)),
    nn.Dropout2d: lambda: (nn.Dropout2d(0.3), (2, 4, 4)),
    nn.Linear: lambda: (nn.Linear(4, 3), (4,)),
    nn.Conv1d: lambda: (nn.Conv1d(2, 3, 2, 2, 1, padding_mode="circular"), (2, 5)),
    nn.Conv2d: lambda: (nn.Conv2d(4, 2, (1, 2), (1, 2), "valid", (1, 2), 2, False), (4, 4, 5)),
    nn.BatchNorm1d: lambda: (nn.BatchNorm1d(3, 0.1, None), (3, 4)),
    nn.BatchNorm2d: lambda: (nn.BatchNorm2d(2, affine=False), (2, 3, 3)),
    nn.AvgPool2d: lambda: (nn.AvgPool2d(2, 1, 1, True, False, 3), (2, 4, 4)),
    nn.AvgPool1d: lambda: (nn.AvgPool1d(2, 1, 1, True, False), (2, 4)),
    nn.MaxPool1d: lambda: (nn.MaxPool1d(2, 1, 1, 2), (2, 5)),
    nn.MaxPool2d: lambda: (nn.MaxPool2d((1, 2), ceil_mode=True), (2, 5, 5)),
    nn.AdaptiveAvgPool1d: lambda: (nn.AdaptiveAvgPool1d(2), (2, 5)),
    nn.AdaptiveAvgPool2d: lambda: (nn.AdaptiveAvgPool2d((2, None)), (2, 5, 4)),
    nn.Flatten: lambda: (nn.Flatten(1, 2), (2, 3, 4)),
    nn.Softmax: lambda: (nn.Softmax(1), (4,)),
    nn.LogSoftmax: lambda: (nn.LogSoftmax(-1), (4,)),
    nn.Threshold: lambda: (nn.Threshold(0.3, -2.0), (4,)),
    nn.PReLU: lambda: (nn.PReLU(4, 0.3), (4,)),
    nn.GELU: lambda: (nn.GELU("tanh"), (4,)),
    nn.ELU: lambda: (nn.ELU(0.3), (4,)),
    nn.LeakyReLU: lambda: (nn.LeakyReLU(0.3), (4,)),
    nn.Hardtanh: lambda: (nn.Hardtanh(-0.1, 0.2), (4,)),
    nn.Softplus: lambda: (nn.Softplus(3.0, 1.0), (4,)),
    nn.Softshrink: lambda: (nn.Softshrink(0.1), (4,)),
    nn.Hardshrink: lambda: (nn.Hardshrink(0.1), (4,)),
    nn.CELU: lambda: (nn.CELU(0.3), (4,)),
}


@pytest.mark.parametrize("kind", [*_LAYERS, CSRLinear], ids=lambda kind: kind.__name__)
def test_every_layer_makes_the_round_trip(kind, tmp_path):
    layer, shape = EXAMPLES.get(kind, lambda: (kind() if kind is not CSRLinear else to_csr(nn.Linear(4, 3)), (4,)))()
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.running_mean.fill_(0.3)
        layer.running_var.fill_(2.0)
    x = number(3, *shape).float()
    model = nn.Sequential(nn.Sequential(layer)).eval()
    again = load_pruned(save_pruned(model, tmp_path / "net"))
    assert type(again[0]) is type(layer) and torch.equal(again(x), model(x)) and str(again[0]) == str(layer)


def test_precision_and_size(tmp_path):
    model = sparse(nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 50)), 0.02)
    for dtype, size in ((torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)):
        copied = copy.deepcopy(model).to(dtype)
        path = save_pruned(copied, tmp_path / "net")
        again = load_pruned(path)
        assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), again.parameters(), strict=True))
        nonzeros = sum(int(copied[k].weight.count_nonzero()) for k in (0, 2))
        assert path.stat().st_size < nonzeros * (size + 4) + 4 * 152 + 150 * size + 1500
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ValueError, match="mixes the precisions float32, float64"):
        save_pruned(mixed, tmp_path / "mixed")


def test_no_pickle_is_read_or_written(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle was used")

    for place, names in ((pickle, "load loads dump dumps"), (torch, "load save")):
        for name in names.split():
            monkeypatch.setattr(place, name, forbidden)
    load_pruned(save_pruned(to_csr(nn.Sequential(nn.Linear(3, 2))), tmp_path / "net"))


def rewritten(path, change):
    "Change the manifest of a file, keeping its arrays."
    from safetensors.torch import load_file, safe_open, save_file

    with safe_open(path, "pt") as file:
        manifest = json.loads(file.metadata()["manifest"])
    arrays = load_file(path)
    change(manifest, arrays)
    save_file(arrays, path, {"manifest": json.dumps(manifest)})


CHANGES = {
    "version": (lambda m, a: m.update(version=2), "format version 2; this release reads 1"),
    "format": (lambda m, a: m.update(format="other"), "no manifest"),
    "no layers": (lambda m, a: m.pop("layers"), "list of layers"),
    "precision": (lambda m, a: m.update(dtype="int8"), "precision"),
    "foreign precision": (lambda m, a: m.update(dtype="load"), "precision"),
    "other precision": (lambda m, a: m.update(dtype="float64"), "0.weight: the manifest promises torch.float64"),
    "unknown layer": (lambda m, a: m["layers"][1].update(type="os.system"), "layer 1: unknown type 'os.system'"),
    "no type": (lambda m, a: m["layers"].append(3), "layer 5: unknown type None"),
    "arguments": (lambda m, a: m["layers"][0]["arguments"].update(device="cuda"), r"layer 0 \(Linear\): arguments"),
    "negative": (lambda m, a: m["layers"][0]["arguments"].update(out_features=-3), r"layer 0 \(Linear\)"),
    "text": (lambda m, a: m["layers"][0]["arguments"].update(out_features="3"), r"layer 0 \(Linear\)"),
    "wider": (lambda m, a: m["layers"][0]["arguments"].update(out_features=61), "0.weight"),
    "deeper": (lambda m, a: m["layers"][4]["arguments"].update(in_features=31), "4.weight"),
    "huge": (lambda m, a: m["layers"][0]["arguments"].update(in_features=10**15), "0.weight"),
    "missing": (lambda m, a: a.pop("4.bias"), "4.bias: missing"),
    "left over": (lambda m, a: a.update({"9.weight": a["4.bias"].clone()}), "does not name: 9.weight"),
    "columns": (lambda m, a: a["0.weight.col_indices"].add_(1000), "0.weight: no valid sparse matrix"),
    "rows": (lambda m, a: a["0.weight.crow_indices"].add_(1), "0.weight: no valid sparse matrix"),
    "floats": (lambda m, a: a.update({"0.weight.col_indices": a["0.weight.col_indices"].double()}), "0.weight"),
    "csr": (lambda m, a: a["2.col_indices"].sub_(1), "no valid sparse matrix"),
    "csr count": (lambda m, a: m["layers"][2]["arguments"].update(nonzeros=3), "2.col_indices: the manifest promises"),
}


def stored(path):
    "A file with a sparse, a CSR and a dense layer."
    model = sparse(nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 3)), 0.1)
    model[4].weight.data.normal_()
    model[2] = CSRLinear.from_linear(model[2])
    return save_pruned(model.float(), path)


@pytest.mark.parametrize("name", CHANGES)
def test_refused_manifests(name, tmp_path):
    path = stored(tmp_path / "net")
    load_pruned(path)
    change, message = CHANGES[name]
    rewritten(path, change)
    with pytest.raises(ValueError, match=message):
        load_pruned(path)


def test_refused_files(tmp_path):
    path = stored(tmp_path / "net")
    content = path.read_bytes()
    for length in (0, 7, 8, 500, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="net is truncated or no safetensors file"):
            load_pruned(path)
    path.write_bytes(pickle.dumps({"a": 1}) * 10)
    with pytest.raises(ValueError, match="no safetensors file"):
        load_pruned(path)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="no manifest of a pruned network"):
        load_pruned(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_pruned(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save_pruned(nn.Sequential(nn.ReLU()), tmp_path / "absent" / "net")


class Mine(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "must be an nn.Sequential, got Linear"),
        (nn.Sequential(nn.ReLU(), nn.LSTM(2, 2)), TypeError, r"layer 1 \(LSTM\) cannot be saved; the format knows"),
        (nn.Sequential(Mine(2, 2)), TypeError, r"layer 0 \(Mine\)"),
        (nn.Sequential(type("Linear", (Mine,), {})(2, 2)), TypeError, r"layer 0 \(Linear\) cannot be saved"),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))), TypeError, r"layer 0 \(ParametrizedLinear\)"),
    ],
)
def test_a_refused_save_overwrites_nothing(model, error, message, tmp_path):
    path = stored(tmp_path / "net")
    content = path.read_bytes()
    with pytest.raises(error, match=message):
        save_pruned(model, path)
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = stored(tmp_path / "net")
    content = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        save_pruned(nn.Sequential(nn.Linear(2, 2)), path)
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["net"]


# ---- ONNX ----


def test_onnx(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    convolutional = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    convolutional = sparse(nn.Sequential(convolutional, nn.Flatten(), nn.Linear(96, 5)), 0.4).float()
    path = tmp_path / "net.onnx"
    assert export_onnx(compress(convolutional), path, number(1, 1, 8, 8).float()) < 1e-6
    chain = sparse(nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))).float()
    assert export_onnx(to_csr(compress(chain)), path, number(3, 20).float()) < 1e-6
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = number(7, 20, seed=5).float()
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(out - outputs(chain, x).numpy()).max() < 1e-6
    content = path.read_bytes()
    with pytest.raises(RuntimeError, match="onnxruntime differs"):
        export_onnx(chain, path, number(3, 20).float(), tolerance=-1.0)
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_onnx_names_what_is_missing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript onnxruntime"):
        export_onnx(nn.Linear(2, 2), tmp_path / "net.onnx", torch.ones(1, 2))
