"""How an optimizer updates, against sharded state, several processes and several passes."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..spec import (
    AdaFactor,
    AdamMini,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Galore,
    Lion,
    Lisa,
    Muon,
    OtherOptimizer,
    Sgd,
    Spec,
)
from .common import stage_label, zero_stage
from .rule import Rule
from .world import num_processes, processes_path

HERE: SpecPath = ("optimizer", "type")
PROJECTED = (Galore, Apollo)
BADAM = (BAdamLayer, BAdamRatio)
WHOLE_NAMES = ("adagrad", "schedule_free_")
"""Starts of names in transformers of optimizers that do not reach the slices of ZeRO."""
RUNTIME_CLASSES: dict[type, str] = {
    AdamW: "AdamW",
    AdaFactor: "AdaFactor",
    Sgd: "Sgd",
    Lion: "Lion",
    AdamMini: "AdamMini",
    Muon: "Muon",
    Galore: "Galore",
    Apollo: "Apollo",
    BAdamLayer: "BAdam",
    BAdamRatio: "BAdamRatio",
    OtherOptimizer: "Named",
}
"""The class of the runtime for each kind of optimizer."""
STATES = {"8bit": "8 bit", "paged-32bit": "pages", "paged-8bit": "pages of 8 bit"}


def check_flattened(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer needs whole matrices, and DeepSpeed gives it pieces.

    From stage 1 on each process updates a flat slice of all parameters laid end to end. A projection, the row and
    column means of Adafactor, the blocks of Adam-mini and the samples of LISA need the parameters as they are. For Muon
    DeepSpeed puts the gradients of a matrix together first; but then it clips the updates instead of the gradients. Schedule-free optimizers show other weights than they train, and Adagrad makes its state
    for the parameters it is given: neither reaches the slices.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    [deepspeed]
    zero_stage = 2
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
    stage = zero_stage(spec)
    if stage == 0:
        return
    if isinstance(spec.optimizer, PROJECTED):
        yield error(
            "U803",
            f"`{spec.optimizer.type}` projects matrices, ZeRO stage {stage} cuts them into flat slices",
            HERE,
            labels=(stage_label(spec),),
            helps=("write `zero_stage = 0`",),
        )
        return
    name = getattr(spec.optimizer, "name", spec.optimizer.type)
    found = None
    if isinstance(spec.optimizer, Muon):
        yield from _muon(spec, stage)
    if isinstance(spec.optimizer, AdaFactor | AdamMini) or name.startswith(WHOLE_NAMES):
        found = (name, HERE)
    elif isinstance(spec.method, Lisa):
        found = ("lisa", ("method", "type"))
    if found is not None:
        yield error(
            "U803",
            f"`{found[0]}` needs whole parameters, ZeRO stage {stage} cuts them into flat slices",
            found[1],
            labels=(stage_label(spec),),
            helps=("write `zero_stage = 0`, or use `adamw`, whose state is sharded",),
        )


def _muon(spec: Spec, stage: int) -> Iterator[Diagnostic]:
    if spec.training.max_grad_norm:
        yield error(
            "U803",
            f"under ZeRO stage {stage} Muon's updates would be clipped in place of the gradients",
            HERE,
            labels=(
                stage_label(spec),
                Label(("training", "max_grad_norm"), "clipped to this"),
            ),
            helps=("write `max_grad_norm = 0.0`, or `zero_stage = 0`",),
        )


def check_layerwise(spec: Spec) -> Iterator[Diagnostic]:
    """Updates in the backward pass, but gradients have to be added up first.

    A layerwise optimizer updates each parameter as soon as its gradient is there and throws it away. There is
    nothing left to add up over passes or processes.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    layerwise = true
    [deepspeed]
    zero_stage = 0
    [training]
    max_grad_norm = 0.0
    precision = "pure-bf16"
    [batch]
    micro_size = 2
    accumulation_steps = 2
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "galore"
    layerwise = true
    [deepspeed]
    zero_stage = 0
    [training]
    max_grad_norm = 0.0
    precision = "pure-bf16"
    [batch]
    micro_size = 2
    accumulation_steps = 1
    ```
    """
    if not isinstance(spec.optimizer, PROJECTED) or not spec.optimizer.layerwise:
        return
    if spec.training.max_grad_norm:
        yield error(
            "U804",
            "layerwise updates leave no gradients to clip: their norm is known after the last of them",
            ("optimizer", "layerwise"),
            labels=(Label(("training", "max_grad_norm"), "clipped to this"),),
            helps=("write `max_grad_norm = 0.0`, or remove `layerwise`",),
        )
    if spec.batch.micro_tokens is not None:
        yield error(
            "U804",
            "layerwise updates leave no gradients to add up over passes, whose number varies",
            ("optimizer", "layerwise"),
            labels=(Label(("batch", "micro_tokens"), "as many passes as it takes"),),
            helps=("remove `layerwise`, or give `micro_size` and `accumulation_steps = 1`",),
        )
    processes, steps = num_processes(spec.launch), accumulation(spec)
    if processes > 1:
        yield error(
            "U804",
            f"layerwise updates need a single process, there are {processes:,}",
            ("optimizer", "layerwise"),
            labels=(Label(processes_path(spec.launch), "started here"),),
            helps=("remove `layerwise`, or start one process",),
        )
    if steps is not None and steps > 1:
        name = "accumulation_steps" if spec.batch.accumulation_steps else "global_size"
        yield error(
            "U804",
            f"layerwise updates leave no gradients to add up over {steps:,} passes",
            ("optimizer", "layerwise"),
            labels=(Label(("batch", name), "several passes a step"),),
            helps=("remove `layerwise`, or write `accumulation_steps = 1`",),
        )


def check_badam(spec: Spec) -> Iterator[Diagnostic]:
    """BAdam on several processes, or with state sharded another way than it knows.

    Every stage from 1 on fixes what is updated when the run starts; the calls by which BAdam gathered its blocks under
    stage 3 are gone from DeepSpeed 0.19. Several processes would draw their own orders and masks.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    [deepspeed]
    zero_stage = 2
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    [training]
    precision = "pure-bf16"
    [deepspeed]
    zero_stage = 0
    ```
    """
    optimizer, stage = spec.optimizer, zero_stage(spec)
    if not isinstance(optimizer, BADAM):
        return
    processes = num_processes(spec.launch)
    if processes > 1:
        yield error(
            "U805",
            f"`{optimizer.type}` runs on one process only",
            HERE,
            labels=(Label(processes_path(spec.launch), f"{processes:,} processes"),),
            helps=("start one process",),
        )
    elif stage:
        yield error(
            "U805",
            f"`{optimizer.type}` does not go with ZeRO stage {stage}, which fixes what is updated",
            HERE,
            labels=(stage_label(spec),),
            helps=("write `zero_stage = 0`",),
        )


def check_offload(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer's state is offloaded, but the optimizer cannot be computed there.

    AdamW and Lion are computed on the host, with their state in fp32; all others are not.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "sgd"
    [deepspeed]
    zero_stage = 2
    offload_optimizer = "cpu"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "adamw"
    [deepspeed]
    zero_stage = 2
    offload_optimizer = "cpu"
    ```
    """
    optimizer = spec.optimizer
    if spec.deepspeed.offload_optimizer == "none" or zero_stage(spec) == 0:
        return
    here = Label(("deepspeed", "offload_optimizer"), "offloaded here")
    if not isinstance(optimizer, AdamW | Lion):
        yield error(
            "U806",
            f"`{optimizer.type}` cannot be computed on the host",
            HERE,
            labels=(here,),
            helps=("remove `offload_optimizer`, or use `adamw` or `lion`",),
        )
    elif optimizer.state != "fp32":
        yield error(
            "U806",
            f"offloaded state is kept in fp32, not in {STATES[optimizer.state]}",
            ("optimizer", "state"),
            labels=(here,),
            helps=("keep one of the two",),
        )


def needs_weights(spec: Spec) -> tuple[str, SpecPath] | None:
    """Return what must update the model's own parameters and where it is chosen, None where copies will do."""
    optimizer = spec.optimizer
    if isinstance(optimizer, BADAM):
        return optimizer.type, HERE
    if isinstance(optimizer, PROJECTED) and optimizer.layerwise:
        return "layerwise", ("optimizer", "layerwise")
    if isinstance(optimizer, OtherOptimizer) and optimizer.name.startswith(WHOLE_NAMES):
        return optimizer.name, ("optimizer", "name")
    return ("lisa", ("method", "type")) if isinstance(spec.method, Lisa) else None


def accumulation(spec: Spec) -> int | None:
    """Return the passes a process adds up, as far as the spec says; None where the sizes decide."""
    batch = spec.batch
    if batch.accumulation_steps is not None:
        return batch.accumulation_steps
    if batch.global_size is None or not batch.micro_size:
        return None
    return batch.global_size // max(batch.micro_size * num_processes(spec.launch), 1)


RULES = (
    Rule("U803", "matrices in slices", pure=check_flattened),
    Rule("U804", "layerwise updates", pure=check_layerwise),
    Rule("U805", "blocks on several processes", pure=check_badam),
    Rule("U806", "not computed on the host", pure=check_offload),
)
