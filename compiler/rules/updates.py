"""How an optimizer updates, against sharded state, several processes and several passes."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..spec import (
    AdaFactor,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Galore,
    Lion,
    Muon,
    Spec,
)
from .common import stage_label, zero_stage
from .rule import Rule
from .world import num_processes, processes_path

HERE: SpecPath = ("optimizer", "type")
PROJECTED = (Galore, Apollo)
BADAM = (BAdamLayer, BAdamRatio)
STATES = {"8bit": "8 bit", "paged-32bit": "pages", "paged-8bit": "pages of 8 bit"}


def check_flattened(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer needs whole matrices, and DeepSpeed gives it pieces.

    From stage 1 on each process updates a flat slice of all parameters laid end to end. A projection, and the row and
    column means of Adafactor, need the matrix.

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
    if isinstance(spec.optimizer, AdaFactor):
        yield warning(
            "U803",
            f"`adafactor` saves no memory here: ZeRO stage {stage} cuts the matrices it needs into flat slices",
            HERE,
            labels=(stage_label(spec),),
            helps=("write `zero_stage = 0`, or use `adamw`, whose state is sharded",),
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
    [batch]
    micro_size = 2
    accumulation_steps = 1
    ```
    """
    if not isinstance(spec.optimizer, PROJECTED) or not spec.optimizer.layerwise:
        return
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

    Its blocks can be gathered under ZeRO stage 3, of which it knows the calls; stages 1 and 2 fix what is updated
    when the run starts. The ratio mode keeps a mask a process, and the masks would differ.

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
    [deepspeed]
    zero_stage = 3
    ```
    """
    optimizer, stage = spec.optimizer, zero_stage(spec)
    if not isinstance(optimizer, BADAM):
        return
    processes = num_processes(spec.launch)
    is_ratio = isinstance(optimizer, BAdamRatio)
    if processes > 1 and (is_ratio or stage != 3):
        yield error(
            "U805",
            f"`{optimizer.type}` runs on {'one process' if is_ratio else 'several processes'} only"
            + ("" if is_ratio else " under ZeRO stage 3"),
            HERE,
            labels=(Label(processes_path(spec.launch), f"{processes:,} processes"),),
            helps=("start one process",) if is_ratio else ("write `zero_stage = 3`",),
        )
    elif stage in (1, 2) or (is_ratio and stage == 3):
        fits = "0" if is_ratio else "0` or `3"
        yield error(
            "U805",
            f"`{optimizer.type}` does not go with ZeRO stage {stage}, which fixes what is updated",
            HERE,
            labels=(stage_label(spec),),
            helps=(f"write `zero_stage = {fits}`",),
        )


def check_offload(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer's state is offloaded, but the optimizer cannot be computed there.

    DeepSpeed has code for AdamW, Lion and Muon on the host, which keeps their state in fp32, and refuses all others.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "adam-mini"
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
    if not isinstance(optimizer, AdamW | Lion | Muon):
        yield error(
            "U806",
            f"`{optimizer.type}` cannot be computed on the host",
            HERE,
            labels=(here,),
            helps=("remove `offload_optimizer`, or use `adamw`, `lion` or `muon`",),
        )
    elif not isinstance(optimizer, Muon) and optimizer.state != "fp32":
        yield error(
            "U806",
            f"offloaded state is kept in fp32, not in {STATES[optimizer.state]}",
            ("optimizer", "state"),
            labels=(here,),
            helps=("keep one of the two",),
        )


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
