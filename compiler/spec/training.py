"""`[training]`, `[optimizer]` and `[batch]`: how the parameters move."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["fp32", "bf16", "fp16"]


@frozen(kw_only=True)
class Training:
    """Length, rate and numerics of the training."""

    epochs: float | None = None
    """Passes over the training data. Default: 1, when `steps` is not given either."""

    steps: int | None = None
    """Optimizer steps, instead of `epochs`."""

    learning_rate: float = 1e-4
    """Peak learning rate."""

    schedule: Schedule = "cosine"
    """Course of the learning rate after warm-up: `constant`, `linear` or `cosine` down to zero."""

    warmup_steps: int | None = None
    """Steps over which the rate rises from zero. Excludes `warmup_ratio`."""

    warmup_ratio: float | None = None
    """The same as a share of all steps, below 1."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""

    precision: Precision = "bf16"
    """Arithmetic: `bf16` or `fp16` mixed precision, or `fp32` (the fast one on CPUs without bf16 units)."""

    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a third slower, far less memory."""

    seed: int = 42
    """Seed of initialisation, data order and dropout."""


@frozen(kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    type: Literal["adamw"] = "adamw"
    """`adamw`: AdamW."""

    beta1: float = 0.9
    """Decay of the first moment."""

    beta2: float = 0.999
    """Decay of the second moment."""

    epsilon: float = 1e-8
    """Added to the denominator."""

    weight_decay: float = 0.0
    """Decoupled weight decay; biases and norm weights are left out."""


Optimizer = AdamW


@frozen(kw_only=True)
class Batch:
    """Batch arithmetic: `global_size = micro_size x accumulation_steps x processes`. Give any two of the three."""

    global_size: int | None = None
    """Samples of one optimizer step over all processes."""

    micro_size: int | None = None
    """Samples of one forward pass of one process."""

    accumulation_steps: int | None = None
    """Forward passes a process adds up before an optimizer step."""
