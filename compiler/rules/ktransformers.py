"""Experts on the CPU (KTransformers): what excludes it; what it trains is in `engines`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import NoQuantization, Spec, TransformersBackend
from .rule import Rule

HERE: SpecPath = ("ktransformers",)
DERIVED = frozenset(
    (
        "enabled",
        "kt_activation_policy",
        "kt_expert_checkpoint_path",
        "kt_full_weight_grad",
        "kt_lora_alpha",
        "kt_lora_dropout",
        "kt_lora_expert_intermediate_size",
        "kt_lora_expert_num",
        "kt_lora_rank",
        "kt_non_expert_weight_path",
        "kt_skip_expert_loading",
        "kt_train_mode",
        "kt_use_lora_experts",
        "kt_weight_path",
    )
)
"""Options that follow from the rest of the spec."""


def check_recompute(spec: Spec) -> Iterator[Diagnostic]:
    """What the CPU recomputes does not fit what the GPU recomputes.

    Recomputed activations of experts need a second forward pass, which only checkpointing of the kind that is not
    re-entrant makes.

    Fails:
    ```toml
    [training]
    gradient_checkpointing = false
    [ktransformers]
    activations = "recompute"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [training]
    gradient_checkpointing = true
    [ktransformers]
    activations = "recompute"
    [launch]
    device = "gpu"
    ```
    """
    if spec.ktransformers is None:
        return
    checkpointing = spec.training.gradient_checkpointing
    if spec.ktransformers.activations == "recompute" and not checkpointing:
        yield error(
            "M662",
            "experts are recomputed only together with the rest of the model",
            (*HERE, "activations"),
            labels=(Label(("training", "gradient_checkpointing"), "switched off here"),),
            helps=('write `gradient_checkpointing = true`, or `activations = "retain"`',),
        )
    if checkpointing and spec.training.checkpointing_reentrant:
        yield error(
            "M662",
            "`[ktransformers]` does not go with re-entrant checkpointing",
            ("training", "checkpointing_reentrant"),
            labels=(Label(HERE, "experts on the CPU here"),),
            helps=("remove `checkpointing_reentrant`",),
        )


def check_alone(spec: Spec) -> Iterator[Diagnostic]:
    """KTransformers replaces the code of the model and loads its weights, as others do too.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [ktransformers]
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [ktransformers]
    [launch]
    device = "gpu"
    ```
    """
    if spec.ktransformers is None:
        return
    against: list[tuple[bool, SpecPath, str]] = [
        (not isinstance(spec.quantization, NoQuantization), ("quantization", "type"), "quantization while loading"),
        (not isinstance(spec.inference, TransformersBackend), ("inference", "type"), "another inference engine"),
    ]  # fmt: skip
    for path, what in ((path, what) for is_so, path, what in against if is_so):
        yield error(
            "M663",
            f"`[ktransformers]` does not go with {what}",
            path,
            labels=(Label(HERE, "experts on the CPU here"),),
            helps=("keep one of the two",),
        )


def check_options(spec: Spec) -> Iterator[Diagnostic]:
    """An option that the rest of the spec decides, or a length that is none.

    Fails:
    ```toml
    [ktransformers]
    options = { kt_lora_rank = 8 }
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [ktransformers]
    options = { kt_model_max_length = 4096 }
    [launch]
    device = "gpu"
    ```
    """
    options = {} if spec.ktransformers is None else spec.ktransformers.options
    for name in (name for name in options if name in DERIVED):
        yield error(
            "M664",
            f"the option `{name}` follows from the rest of the spec",
            (*HERE, "options", name),
            helps=("remove it",),
        )
    length = options.get("kt_model_max_length")
    if length is not None and (type(length) is not int or length < 1):
        yield error(
            "M664",
            "`kt_model_max_length` must be a whole number, at least 1",
            (*HERE, "options", "kt_model_max_length"),
        )


def check_adapters(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """KTransformers takes one adapter from a folder here.

    Fails:
    ```toml
    [adapters]
    paths = ["org/adapter"]
    [ktransformers]
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [ktransformers]
    [launch]
    device = "gpu"
    ```
    """
    if spec.ktransformers is None:
        return
    if len(spec.adapters.paths) > 1:
        yield error(
            "M665",
            f"`[ktransformers]` takes one adapter, not {len(spec.adapters.paths)}",
            ("adapters", "paths"),
            labels=(Label(HERE, "experts on the CPU here"),),
        )
    for index, path in enumerate(spec.adapters.paths):
        found = facts.adapters.get(("adapters", "paths", index))
        if found is not None and found.state == "hub":
            yield error(
                "M665",
                f"`[ktransformers]` takes an adapter from a folder, `{path}` is a hub id",
                ("adapters", "paths", index),
                helps=("fetch it to a folder and name that",),
            )


def check_experts(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Experts are to be computed on the CPU, but the model has none.

    Fails:
    ```toml
    [ktransformers]
    [model]
    path = "model"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [ktransformers]
    [model]
    path = "expert-model"
    [launch]
    device = "gpu"
    ```
    """
    if spec.ktransformers is None:
        return
    if facts.model.has_config and not facts.model.num_experts:
        yield warning(
            "M666",
            "`[ktransformers]` has no effect: the model has no experts",
            HERE,
            labels=(Label(("model", "path"), "a dense model"),),
            helps=("remove the section",),
        )


def leaves_folder(subfolder: str) -> bool:
    """Tell whether a subfolder points out of the folder it belongs to."""
    path = PurePosixPath(subfolder.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


RULES = (
    Rule("M662", "recomputed apart", pure=check_recompute),
    Rule("M663", "experts not with these", pure=check_alone),
    Rule("M664", "option decided elsewhere", pure=check_options),
    Rule("M665", "one adapter from a folder", factual=check_adapters),
    Rule("M666", "experts that are not there", factual=check_experts),
)
