"""Adaptive dropout and its dual penalties.

`import adaptive_dropout` is quick: a public name loads its module when it is first used.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

# Module -> the names that `from adaptive_dropout import ...` takes from it. A new module is one more row.
# No name may be that of a module: importing the module would put it in the name's place.
_names = {
    "tikhonov": "expected_loss standardise generalized_regularizer characteristic_matrix",
    "glm": "glm_dropout_penalty",
    "duality": "penalty_from_dual dual_from_penalty penalty_from_update check_subquadratic",
    "penalties": "L1 L2 Lp L0 HardThreshold ElasticNet Huber PseudoHuber LogSum LogSquareSum Cauchy MCP SCAD CappedL1 "
    "CappedL2 GemanMcClure Welsch Exponential Fraction Atan GroupL2 SquaredL1",
    "variational_dropout": "VariationalDropout VariationalDropoutApprox",
    "hard_concrete": "HardConcreteL0",
    "effective": "Standout BiasedBernoulli MagnitudePruning MaskFamily effective_penalty",
    "comparison": "compare nearest_classical",
    "majorise": "irls adaptive_prox adaptive_tikhonov iterative_hard_thresholding proximal_gradient",
    "reweighted": "dropout_sgd noise_floor",
    "dropblock": "BlockMask dropblock_regularizer dropblock_objective retain_probability base_retain_probability",
    "block_masks": "OverlappingMask dropblock_moments dropblock_mask_sample seed_rate mask_moments",
    "dropconnect": "WeightMask dropconnect_regularizer dropconnect_objective",
    "structured_sgd": "SGDRun dropblock_sgd masked_sgd",
    "ksupport": "ksupport_norm_squared prox_ksupport spectral_ksupport_norm_squared prox_spectral_ksupport KSupport",
    "global_minimum": "dropblock_global_minimum certificate",
    "balanced_factors": "optimal_factors is_balanced balance_defect alternating_minimization",
    "scale_mixtures": "marginal_prior SpikeAndSlab Laplace StudentT Horseshoe HorseshoePlus GeneralizedHyperbolic "
    "NormalGamma NormalExponentialGamma TwoGaussians",
    "marginal_map": "expanded_map jensen_gap",
    "structured_priors": "StructuredPrior",
    "nn.sparsify": "Sparsifier CubicRamp",
    "nn.compress": "compress to_csr latency_report save_pruned load_pruned export_onnx",
    "stacked": "Run Stack stack_runs",
    "lenet_study": "lenet",
    "sparse_images": "sparsify_images",
    "explorers": "PenaltyExplorer DropBlockExplorer",
    "live": "LiveTraining LiveExperiment",
    "serve": "explore",
    "training": "TrainingData History from_images train save_checkpoint load_checkpoint",
}
# Modules used with their name in front: `adaptive_dropout.noise.Bernoulli`.
_modules = ("noise", "checks", "nn")


_home = {name: module for module, names in _names.items() for name in names.split()}
__all__ = sorted([*_home, *_modules, "__version__"])


def __getattr__(name: str):
    "Load a public name, or a module, when it is first asked for."
    if name in _home:
        value = getattr(_import_module(f"{__name__}.{_home[name]}"), name)
    elif name in _modules:
        value = _import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
