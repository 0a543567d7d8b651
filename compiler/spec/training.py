"""`[training]` and `[batch]`: length, rate, numerics and batch arithmetic."""

from __future__ import annotations

from typing import Literal

from .kinds import section

Schedule = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine-restarts",
    "cosine-min",
    "polynomial",
    "inverse-sqrt",
    "plateau",
    "warmup-stable-decay",
]
Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "fp8"]


@section
class ParameterGroup:
    """Parameters that are trained with a rate or a weight decay of their own."""

    pattern: str
    """Regular expression that is looked for in the names of trained parameters, such as `"embed_tokens|lm_head"`. The
    first group that matches a parameter has it."""

    rate_factor: float = 1.0
    """Their learning rate over `training.learning_rate`, through the whole schedule."""

    weight_decay: float | None = None
    """Weight decay of all that match, biases and norms too. Default: as everywhere else."""


@section
class Training:
    """Length, rate and numerics of the training."""

    epochs: float | None = None
    """Passes over the training data. Default: 1, when `steps` is not given either."""

    steps: int | None = None
    """Optimizer steps, instead of `epochs`."""

    learning_rate: float = 1e-4
    """Peak learning rate."""

    groups: tuple[ParameterGroup, ...] = ()
    """Parameters with numbers of their own, by their names: `[[training.groups]]`."""

    ema_decay: float | None = None
    """Keep a running average of the trained weights in fp32, `average = decay x average + (1 - decay) x weights` after
    each step, such as `0.999`. Evaluations, checkpoints' adapters and `final/` are made of the average; training goes on
    from the weights themselves."""

    schedule: Schedule = "cosine"
    """Course of the learning rate after warm-up: `constant`; down to zero by `linear`, `cosine`, `cosine-restarts`
    (`cycles`), `polynomial` (`power`) or `warmup-stable-decay`; to a floor by `cosine-min` (`min_rate_ratio`);
    `inverse-sqrt`; or lower whenever the evaluation loss stands still (`plateau`)."""

    warmup_steps: int | None = None
    """Steps over which the rate rises from zero. Excludes `warmup_ratio`."""

    warmup_ratio: float | None = None
    """The same as a share of all steps, below 1."""

    min_rate_ratio: float | None = None
    """Floor of the learning rate as a share of its peak (`cosine-min`, `warmup-stable-decay`)."""

    cycles: float | None = None
    """Number of cosine waves (`cosine-restarts`)."""

    power: float | None = None
    """Exponent of the decay (`polynomial`)."""

    plateau_factor: float | None = None
    """What the rate is multiplied by when the evaluation loss stands still (`plateau`). Default: 0.1."""

    plateau_patience: int | None = None
    """Evaluations in a row without a better loss that are borne (`plateau`). Default: 10."""

    stable_steps: int | None = None
    """Steps at the peak (`warmup-stable-decay`). Default: a third of those after warm-up."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""

    precision: Precision = "bf16"
    """Arithmetic: `bf16` or `fp16` mixed precision, `fp32` (the fast one on CPUs without bf16 units), `pure-bf16`
    (trained weights in bf16 too), or `fp8` matrix products in mixed precision of bf16 (GPU; faster than `bf16` only
    with `kernels.compile`)."""

    fp8_backend: Literal["auto", "torchao", "transformer-engine"] = "auto"
    """Library for `precision = "fp8"`: `auto` is `torchao`, the only one that runs."""

    tf32: bool | None = None
    """Let GPUs compute fp32 matrix products with fewer bits. Default: the library's choice."""

    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a third slower, far less memory."""

    checkpointing_reentrant: bool = False
    """Use the older, re-entrant kind of checkpointing."""

    offload_activations: bool = False
    """Keep the activations that checkpointing saves in host memory (GPU)."""

    neftune_alpha: float | None = None
    """Noise on embeddings while training (NEFTune, Jain et al. 2023, arXiv:2310.05914)."""

    deterministic: bool = False
    """Use only algorithms that always give the same bits, which may be slower (GPU)."""

    detect_anomalies: bool = False
    """Watch each module for values that overflow; slow, to find the cause of NaN."""

    empty_cache_steps: int | None = None
    """Give unused GPU memory back each time this many steps are done."""

    seed: int = 42
    """Seed of initialisation, data order and dropout."""


@section
class Batch:
    """Batch arithmetic: `global_size = micro_size x accumulation_steps x processes`. Give any two of the three; or
    `global_size` and `micro_tokens`."""

    global_size: int | None = None
    """Samples of one optimizer step over all processes."""

    micro_size: int | None = None
    """Samples of one forward pass of one process."""

    accumulation_steps: int | None = None
    """Forward passes a process adds up before an optimizer step."""

    micro_tokens: int | None = None
    """Tokens of one forward pass, padding included, in place of `micro_size` and `accumulation_steps`: a micro batch
    takes as many samples of the step as fit, so their number varies with the lengths. The samples of a step, its loss
    and its update are the same. At least `data.max_length`. With `data.packing = "isolated"` micro batches of a fixed
    number of rows hold about as many tokens each as they are."""

    shrink_on_oom: bool = False
    """When memory does not suffice, halve `micro_size` and double `accumulation_steps`, so that steps stay equal."""
