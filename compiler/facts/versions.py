"""Which packages beyond tunec's own a spec needs where it runs, and which of them are installed here.

Names and least versions are data. Nothing is looked up for a spec that needs none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from ..diagnostics import SpecPath
from ..spec import (
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Galore,
    Lion,
    OtherOptimizer,
    OtherTracker,
    Spec,
)
from .model import ModelFacts
from .others import named_references


@frozen
class Need:
    """A package that the setting at `path` needs, and the least version of it."""

    package: str
    path: SpecPath
    least: str | None = None


LEAST: Mapping[str, str] = {
    "bitsandbytes": "0.46.1",
    "hqq": "0.2.1",
    "torchao": "0.15.0",
    "gptqmodel": "2.0.0",
    "aqlm": "1.1.0",
    "compressed-tensors": "0.15.0",
    "schedulefree": "1.2.6",
    "badam": "1.2.1",
    "flash-linear-attention": "0.4.1",
    "vllm": "0.4.3",
    "sglang": "0.4.5",
}
"""Least versions: those that transformers 5.23 asks for, else the first with what is used."""

QUANTIZATION: Mapping[str, str] = {
    "bitsandbytes": "bitsandbytes",
    "hqq": "hqq",
    "eetq": "eetq",
    "quanto": "optimum-quanto",
    "torchao": "torchao",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "compressed-tensors": "compressed-tensors",
}
"""Package of a quantization by its name in a spec, or in the configuration of a quantized checkpoint."""

OPTIMIZERS: Mapping[type, str] = {
    Galore: "galore-torch",
    Apollo: "apollo-torch",
    BAdamLayer: "badam",
    BAdamRatio: "badam",
}

OTHER_OPTIMIZERS: Mapping[str, str] = {
    # A name of transformers, or how it starts.
    "ademamix": "bitsandbytes",
    "adamw_bnb": "bitsandbytes",
    "adamw_8bit": "bitsandbytes",
    "lion_": "bitsandbytes",
    "paged_": "bitsandbytes",
    "rmsprop_bnb": "bitsandbytes",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_anyprecision": "torchdistx",
    "galore_": "galore-torch",
    "apollo_": "apollo-torch",
    "lomo": "lomo-optim",
    "adalomo": "lomo-optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "stable_adamw": "torch-optimi",
}

TRACKERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "swanlab": "swanlab",
    "trackio": "trackio",
    "mlflow": "mlflow",
    "comet_ml": "comet-ml",
    "dagshub": "dagshub",
    "flyte": "flytekit",
}
"""Those that are missing here are packages of the same name."""

ATTENTION: Mapping[str, str] = {"flash2": "flash-attn", "flash3": "flash-attn-3"}
HUBS: Mapping[str, str] = {"modelscope": "modelscope", "modelers": "openmind-hub"}


def needs(spec: Spec, model: ModelFacts) -> list[Need]:
    """Return what the run needs beyond tunec's own extras, in the order of the spec."""
    found = [
        *_model(spec),
        *_quantization(spec, model),
        *_optimizer(spec),
        *_kernels(spec, model),
        *_engines(spec),
        *_after(spec),
    ]
    return [Need(package, path, LEAST.get(package)) for package, path in found]


Named = Iterator[tuple[str, SpecPath]]


def _model(spec: Spec) -> Named:
    if spec.model.hub in HUBS:
        yield HUBS[spec.model.hub], ("model", "hub")
    if spec.model.attention in ATTENTION:
        yield ATTENTION[spec.model.attention], ("model", "attention")


def _quantization(spec: Spec, model: ModelFacts) -> Named:
    if spec.quantization_aware is not None:
        yield "torchao", ("quantization_aware", "type")
    chosen = QUANTIZATION.get(spec.quantization.type)
    if chosen is not None:
        yield chosen, ("quantization", "type")
    elif model.quantized is not None and model.quantized.method in QUANTIZATION:
        yield QUANTIZATION[model.quantized.method], ("model", "path")
    for path, reference in named_references(spec):
        chosen = QUANTIZATION.get(reference.quantization.type)
        if chosen is not None:
            yield chosen, (*path, "quantization", "type")


def _optimizer(spec: Spec) -> Named:
    optimizer = spec.optimizer
    if type(optimizer) in OPTIMIZERS:
        yield OPTIMIZERS[type(optimizer)], ("optimizer", "type")
    if optimizer.type == "adam-mini":
        yield "adam-mini", ("optimizer", "type")
    if isinstance(optimizer, AdamW | Lion) and optimizer.state != "fp32":
        yield "bitsandbytes", ("optimizer", "state")
    if isinstance(optimizer, Galore) and optimizer.base == "adamw-8bit":
        yield "bitsandbytes", ("optimizer", "base")
    if isinstance(optimizer, OtherOptimizer):
        for start, package in OTHER_OPTIMIZERS.items():
            if optimizer.name.startswith(start):
                yield package, ("optimizer", "name")


def _kernels(spec: Spec, model: ModelFacts) -> Named:
    if spec.kernels.liger:
        yield "liger-kernel", ("kernels", "liger")
    if spec.kernels.unsloth:
        yield "unsloth", ("kernels", "unsloth")
    if spec.training.precision == "fp8":
        backend = spec.training.fp8_backend
        package = "transformer-engine" if backend == "transformer-engine" else "torchao"
        yield package, ("training", "precision")
    if (model.model_type or "").startswith("qwen3_5") and spec.model.attention == "flash2":
        yield "flash-linear-attention", ("model", "attention")


def _engines(spec: Spec) -> Named:
    if spec.megatron is not None:
        yield "megatron-bridge", ("megatron",)
    if spec.hyper_parallel is not None:
        yield "hyper-parallel", ("hyper_parallel",)
    if spec.ktransformers is not None:
        yield "kt-kernel", ("ktransformers",)


def _after(spec: Spec) -> Named:
    if spec.evaluation.generate:
        yield "sacrebleu", ("evaluation", "generate")
    for index, tracker in enumerate(spec.logging.trackers):
        name = tracker.name if isinstance(tracker, OtherTracker) else tracker.type
        yield TRACKERS.get(name, name), ("logging", "trackers", index, "type")
    if spec.inference.type != "transformers":
        yield spec.inference.type, ("inference", "type")
    if spec.export.quantization is not None:
        yield "gptqmodel", ("export", "quantization")


IMPORTED_AS: Mapping[str, str] = {
    "bitsandbytes": "bitsandbytes",
    "hqq": "hqq",
    "optimum-quanto": "optimum",
    "torchao": "torchao",
}
"""What the optional libraries that transformers and peft look for are imported as."""

BRINGS: Mapping[str, tuple[str, ...]] = {
    "galore-torch": ("bitsandbytes",),
    "apollo-torch": ("bitsandbytes",),
    "unsloth": (*IMPORTED_AS.values(), "datasets"),
}
"""Optional libraries that a package imports itself, whatever is used of it."""


def optional_libraries(spec: Spec, model: ModelFacts, *, training: bool) -> list[str]:
    """Return the import names of the optional libraries a run needs: in training, or only to load its model.

    All of them where the files of the model, which may name one, are not known, and where code that comes with the
    model runs.
    """
    if spec.model.trust_remote_code:
        return sorted([*IMPORTED_AS.values(), "datasets"])
    if not model.has_config and model.state != "gguf":
        return sorted(IMPORTED_AS.values())
    found = needs(spec, model) if training else [Need(*need) for need in _quantization(spec, model)]
    named = {IMPORTED_AS[need.package] for need in found if need.package in IMPORTED_AS}
    return sorted(named.union(*(BRINGS.get(need.package, ()) for need in found)))


def installed(wanted: list[Need]) -> dict[str, str | None]:
    """Return the version installed here of each package, None for one that is not."""
    if not wanted:
        return {}
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for need in wanted:
        try:
            found[need.package] = version(need.package)
        except PackageNotFoundError:
            found[need.package] = None
    return found
