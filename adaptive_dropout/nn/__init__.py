"""Layers for torch networks under adaptive noise; a public name loads its module (and torch) when it is first used."""

from importlib import import_module as _import_module

# Module -> the names that `from adaptive_dropout.nn import ...` takes from it. A new module is one more row.
# `compress` is the name of a module here: the function is `adaptive_dropout.compress` or `nn.compress.compress`.
_names = {
    "layers": "VariationalDropoutLinear VariationalDropoutConv1d VariationalDropoutConv2d NoisyLayer divergence",
    "gates": "HardConcreteLinear HardConcreteConv1d HardConcreteConv2d AdaptiveDropoutLinear AdaptiveDropoutConv1d "
    "AdaptiveDropoutConv2d StandoutReLU from_dense named_relevance total_cost",
    "sparsify": "Sparsifier CubicRamp GroupedPenalty SparseWeight find_weights step_size",
    "adapters": "skorch_callback lightning_callback transformers_callback to_prune from_prune",
    "compress": "CSRLinear to_csr latency_report save_pruned load_pruned export_onnx",
}
_home = {name: module for module, names in _names.items() for name in names.split()}
__all__ = sorted(_home)


def __getattr__(name: str):
    "Load a public name when it is first asked for."
    if name not in _home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_home[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
