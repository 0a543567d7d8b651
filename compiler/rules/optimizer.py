"""The optimizer against method, sharding, processes and device."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import (
    AdamMini,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Freeze,
    Galore,
    Lion,
    Lisa,
    Muon,
    OtherOptimizer,
    Spec,
)
from .common import METHOD_TYPE, Adapter
from .method import unmatched_targets
from .modules import num_blocks
from .rule import Rule

HERE: SpecPath = ("optimizer", "type")
PROJECTED = (Galore, Apollo)
BADAM = (BAdamLayer, BAdamRatio)

ON_GPU = ("stable_adamw",)
"""Those of them that were seen to fail on a CPU."""


def check_method(spec: Spec) -> Iterator[Diagnostic]:
    """An optimizer for full training, but adapters are trained.

    GaLore, APOLLO and BAdam spare the optimizer's state of large weights. An adapter is small already, and its
    matrices are of lower rank than the projection. Adam-mini cuts whole weights into attention heads and neurons, by
    their names.

    Fails:
    ```toml
    [method]
    type = "lora"
    [optimizer]
    type = "galore"
    [deepspeed]
    zero_stage = 0
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    [deepspeed]
    zero_stage = 0
    ```
    """
    optimizer = spec.optimizer
    switches = isinstance(optimizer, BADAM) and isinstance(spec.method, Freeze | Lisa)
    if switches:
        yield error(
            "U801",
            f"`{optimizer.type}` switches blocks on and off by itself",
            HERE,
            labels=(Label(METHOD_TYPE, f"`{spec.method.type}` trains some of them"),),
            helps=('write `[method] type = "full"`, or `[optimizer] type = "adamw"`',),
        )
    if isinstance(optimizer, (*PROJECTED, *BADAM, AdamMini)) and isinstance(spec.method, Adapter):
        yield error(
            "U801",
            f"`{optimizer.type}` is for training a model's own weights",
            HERE,
            labels=(Label(METHOD_TYPE, f"`{spec.method.type}` trains adapters"),),
            helps=('write `[method] type = "full"`, or `[optimizer] type = "adamw"`',),
        )


def check_adapters(spec: Spec) -> Iterator[Diagnostic]:
    """An optimizer that expects the weights of a whole model, but adapters are trained.

    Muon makes updates orthogonal, which the two factors of an adapter do not pass on to their product.

    Fails:
    ```toml
    [method]
    type = "lora"
    [optimizer]
    type = "muon"
    [deepspeed]
    zero_stage = 0
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "muon"
    [deepspeed]
    zero_stage = 0
    ```
    """
    if isinstance(spec.optimizer, Muon) and isinstance(spec.method, Adapter):
        yield warning(
            "U802",
            f"`{spec.optimizer.type}` is made for the weights of a model, not for adapters",
            HERE,
            labels=(Label(METHOD_TYPE, f"`{spec.method.type}` trains adapters"),),
            helps=('write `[optimizer] type = "adamw"`',),
        )


def check_device(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer needs a GPU.

    Paged state moves between GPU and host when memory runs short; on a CPU there is nothing to move. Some optimizers
    have kernels for GPUs only.

    Fails:
    ```toml
    [optimizer]
    type = "adamw"
    state = "paged-8bit"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "adamw"
    state = "8bit"
    [launch]
    device = "cpu"
    ```
    """
    optimizer = spec.optimizer
    if spec.launch.device != "cpu":
        return
    computed = (Label(("launch", "device"), "computed here"),)
    if isinstance(optimizer, AdamW | Lion) and optimizer.state.startswith("paged"):
        state = optimizer.state.removeprefix("paged-").replace("32bit", "fp32")
        yield warning(
            "U807",
            "there is no GPU memory that state could be paged out of",
            ("optimizer", "state"),
            labels=computed,
            helps=(f'write `state = "{state}"`',),
        )
    if isinstance(optimizer, Galore) and optimizer.base == "adamw-8bit":
        yield error(
            "U807",
            "`galore` with `adamw-8bit` does not run on a CPU",
            ("optimizer", "base"),
            labels=computed,
            helps=('write `base = "adamw"`',),
        )
    if isinstance(optimizer, OtherOptimizer) and optimizer.name.startswith(ON_GPU):
        yield error(
            "U807",
            f"`{optimizer.name}` does not run on a CPU",
            ("optimizer", "name"),
            labels=computed,
        )


def check_targets(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A module whose gradients are to be projected does not exist.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    targets = ["quary"]
    [deepspeed]
    zero_stage = 0
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    targets = ["q_proj"]
    [deepspeed]
    zero_stage = 0
    ```
    """
    optimizer = spec.optimizer
    if isinstance(optimizer, Galore | Apollo | OtherOptimizer) and optimizer.targets is not None:
        place = ("optimizer", "targets")
        yield from unmatched_targets("U809", optimizer.targets, place, facts.model)


def check_start(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """BAdam is to start with a block that the model does not have.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    start_block = 2
    [training]
    precision = "pure-bf16"
    [deepspeed]
    zero_stage = 0
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    start_block = 1
    [training]
    precision = "pure-bf16"
    [deepspeed]
    zero_stage = 0
    ```
    """
    optimizer, blocks = spec.optimizer, num_blocks(facts.model)
    if not isinstance(optimizer, BAdamLayer) or optimizer.start_block is None or blocks is None:
        return
    if optimizer.start_block >= blocks:
        yield error(
            "U810",
            f"there is no block {optimizer.start_block}: the model has {blocks}, counted from 0",
            ("optimizer", "start_block"),
            labels=(Label(("model", "path"), f"{blocks} blocks"),),
        )


RULES = (
    Rule("U801", "optimizer for full training", pure=check_method),
    Rule("U802", "optimizer for whole models", pure=check_adapters),
    Rule("U807", "state for another device", pure=check_device),
    Rule("U809", "projection matches nothing", factual=check_targets),
    Rule("U810", "no such start block", factual=check_start),
)
