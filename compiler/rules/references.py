"""What the policy is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import (
    Asft,
    CordaInit,
    Dpo,
    Freeze,
    Full,
    Grpo,
    Kto,
    Lisa,
    LoftqInit,
    Lora,
    LoraGaInit,
    ModelReference,
    NoQuantization,
    OloraInit,
    PissaInit,
    Ppo,
    PrecomputedReference,
    Reference,
    Sft,
    Spec,
    StartReference,
)
from .look import note
from .rule import Rule

GIB = 2**30


def reference_of(spec: Spec) -> tuple[SpecPath, Reference] | None:
    """Return the reference in use with its place, or None."""
    objective = spec.objective
    if isinstance(objective, Grpo) and objective.beta == 0:
        return None
    if isinstance(objective, Dpo | Kto | Ppo | Grpo):
        return ("objective", "reference"), objective.reference
    if isinstance(objective, Sft) and isinstance(objective.loss, Asft):
        return ("objective", "loss", "reference"), objective.loss.reference
    return None


CHANGES_WEIGHTS = (PissaInit, OloraInit, CordaInit, LoftqInit, LoraGaInit)
"""Starts of LoRA that take a part of the frozen weights into the adapter."""


def keeps_start(spec: Spec) -> Literal["adapter-off", "adapter", "model"]:
    """Return what keeps the start: the model without its adapter, a copy of the adapter, or a copy of the model."""
    method = spec.method
    if isinstance(method, Full | Freeze | Lisa):
        return "model"
    if spec.adapters.paths and spec.adapters.then == "continue":
        return "adapter"
    # Trained biases are those of the model, and do not go away with the adapter; what was taken into it does.
    if not isinstance(method, Lora):
        return "adapter-off"
    is_off_enough = method.bias == "none" and not isinstance(method.init, CHANGES_WEIGHTS)
    return "adapter-off" if is_off_enough else "adapter"


def check_precomputed(spec: Spec) -> Iterator[Diagnostic]:
    """Log-probabilities of answers that do not exist yet cannot be computed beforehand.

    PPO and GRPO make their answers while they train; the anchor of ASFT is the whole distribution of each token,
    which is too much to keep.

    Fails:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "function", path = "rewards.py" }
    reference = { type = "precomputed" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "function", path = "rewards.py" }
    reference = { type = "start" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    found = reference_of(spec)
    if found is None or not isinstance(found[1], PrecomputedReference):
        return
    path, _ = found
    if isinstance(spec.objective, Ppo | Grpo):
        yield error(
            "O121",
            f"answers of `{spec.objective.type}` are made while it trains, nothing can be computed beforehand",
            (*path, "type"),
            labels=(Label(("objective", "type"), "generates its answers"),),
            helps=('use `type = "start"` or `type = "model"`',),
        )
    elif isinstance(spec.objective, Sft):
        yield error(
            "O121",
            "`asft` compares whole distributions, which are too large to be kept",
            (*path, "type"),
            helps=('use `type = "start"` or `type = "model"`',),
        )


def check_second_copy(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Full training with the start as reference keeps a second copy of the model.

    Where the model's own weights are trained, the start is gone after the first step, so it is kept beside them.

    Fails:
    ```toml
    [method]
    type = "full"
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [objective]
    type = "dpo"
    reference = { type = "precomputed" }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    found = reference_of(spec)
    if found is None or not isinstance(found[1], StartReference):
        return
    if not isinstance(spec.method, Full | Freeze | Lisa):
        return
    count = facts.model.parameter_count()
    width = 4 if spec.training.precision == "fp32" else 2
    gib = (count or 0) * width / GIB
    size = f", about {gib:.1f} GiB" if gib >= 0.1 else ""
    yield note(
        "O122",
        f"a second copy of the model is kept as reference{size}",
        ("objective", "type"),
        labels=(Label(("method", "type"), "changes the model itself"),),
        helps=(
            ("an adapter needs no second copy",)
            if isinstance(spec.objective, Ppo | Grpo | Sft)
            else ('`reference = { type = "precomputed" }` needs none, nor does an adapter',)
        ),
    )


def check_unused(spec: Spec) -> Iterator[Diagnostic]:
    """A reference is given that GRPO has no use for.

    Without a weight of the KL divergence nothing is compared with the reference, and none is loaded.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    reference = { type = "model", path = "model" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    beta = 0.04
    rewards = [{ type = "function", path = "rewards.py" }]
    reference = { type = "model", path = "model" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    objective = spec.objective
    if not isinstance(objective, Grpo) or isinstance(objective.reference, StartReference):
        return
    if objective.beta == 0:
        yield warning(
            "O123",
            "the reference has no effect: the KL divergence has a weight of 0",
            ("objective", "reference"),
            helps=(
                "give the divergence a weight, such as `beta = 0.04`, or leave `reference` out",
            ),
        )


def check_stream(spec: Spec) -> Iterator[Diagnostic]:
    """Log-probabilities cannot be computed beforehand for rows that are not there yet.

    They are kept beside the prepared data; a stream is prepared while the training goes on, and kept nowhere.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "precomputed" }
    [data]
    streaming = true
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "precomputed" }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    found = reference_of(spec)
    if found and isinstance(found[1], PrecomputedReference) and spec.data.streaming:
        yield error(
            "O124",
            "rows of a stream are not there before the training, nothing can be computed beforehand",
            (*found[0], "type"),
            labels=(Label(("data", "streaming"), "comes while the training goes on"),),
            helps=('use `type = "start"`, or `streaming = false`',),
        )


def check_sharded(spec: Spec) -> Iterator[Diagnostic]:
    """A reference in few bits, or with adapters to merge, cannot be spread over the processes.

    Under ZeRO stage 3 the reference is sharded like the policy: packed weights cannot be, and an adapter is merged
    into whole weights.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "model", path = "model", quantization = { type = "quanto" } }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "model", path = "model", quantization = { type = "quanto" } }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [deepspeed]
    zero_stage = 2
    ```
    """
    found = reference_of(spec)
    if found is None or not isinstance(found[1], ModelReference):
        return
    if spec.deepspeed.zero_stage != 3:
        return
    shards = Label(("deepspeed", "zero_stage"), "shards the weights of all models")
    if not isinstance(found[1].quantization, NoQuantization):
        yield error(
            "O125",
            "a quantized reference cannot be sharded",
            (*found[0], "quantization"),
            labels=(shards,),
            helps=("use `zero_stage = 2`, or leave `quantization` out",),
        )
    if found[1].adapters:
        yield error(
            "O125",
            "adapters cannot be merged into a reference that is sharded",
            (*found[0], "adapters"),
            labels=(shards,),
            helps=(
                "use `zero_stage = 2`, or name a model into which they are merged: `tunec export`",
            ),
        )


RULES = (
    Rule("O121", "reference of answers to come", pure=check_precomputed),
    Rule("O122", "second copy of the model", factual=check_second_copy),
    Rule("O123", "reference without weight", pure=check_unused),
    Rule("O124", "precomputed reference of a stream", pure=check_stream),
    Rule("O125", "reference that cannot be sharded", pure=check_sharded),
)
