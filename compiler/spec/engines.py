"""`[megatron]`, `[hyper_parallel]` and `[ktransformers]`: other engines than DeepSpeed."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import Scalar, section


@section
class Megatron:
    """Megatron Bridge (GPU). The section's presence switches it on, in place of DeepSpeed."""

    tensor_parallel: int = 1
    """GPUs that share each layer."""

    pipeline_parallel: int = 1
    """Stages of the pipeline."""

    virtual_pipeline: int | None = None
    """Chunks of each stage."""

    expert_parallel: int = 1
    """GPUs that share the experts."""

    context_parallel: int = 1
    """GPUs that share each sequence."""

    sequence_parallel: bool = False
    """Split norms and dropout along the sequence (needs `tensor_parallel`)."""

    recompute: Literal["off", "full", "selective"] = "off"
    """Recompute activations."""

    recompute_method: Literal["uniform", "block"] | None = None
    """How the layers are chosen."""

    recompute_layers: int | None = None
    """Layers of a unit."""

    embedding_in_split: bool | None = None
    """Count the embedding when stages are cut."""

    loss_in_split: bool | None = None
    """Count the loss when stages are cut."""

    fuse_bias: bool | None = None
    """Fuse bias and activation."""

    fuse_rope: bool | None = None
    """Fuse rotary positions."""

    fuse_softmax: bool | None = None
    """Fuse masked softmax."""

    fuse_cross_entropy: bool | None = None
    """Fuse cross-entropy."""

    grouped_experts: bool | None = None
    """Compute the experts in one matrix product."""

    token_dispatcher: Literal["allgather", "alltoall", "flex"] | None = None
    """How tokens travel to experts."""

    per_token_loss: bool | None = None
    """Mean over tokens instead of over sequences."""

    distributed_optimizer: bool = True
    """Shard the optimizer's state."""

    overlap_gather: bool = True
    """Gather parameters while computing."""

    overlap_reduce: bool = True
    """Reduce gradients while computing."""

    packed_sequences: bool = False
    """Pack SFT samples."""

    precision: str = "bf16_mixed"
    """Name of its precision recipe."""

    checkpoint: str | None = None
    """A Megatron checkpoint to start from. Default: the model's weights are converted."""

    export: bool = False
    """Convert the result to the Hugging Face layout at the end."""

    options: dict[str, Scalar] = field(factory=dict)
    """Further settings, by dotted name."""


@section
class HyperParallel:
    """HyperParallel's FSDP2 and tensor parallelism. The section's presence switches it on."""

    config: str | None = None
    """JSON file with its settings, relative to the spec."""

    context_parallel: int = 1
    """GPUs that share each sequence."""


@section
class KTransformers:
    """Experts computed on the CPU. The section's presence switches it on."""

    activations: Literal["retain", "recompute"] | None = None
    """Keep or recompute the experts' activations. Default: as `training.gradient_checkpointing`."""

    expert_weights: str | None = None
    """INT8 weights of the experts, made beforehand."""

    other_weights: str | None = None
    """Folder that keeps the other weights in bf16."""

    expert_checkpoint: str | None = None
    """Weights of the experts, converted at start."""

    lora_experts: bool = False
    """Add LoRA experts on the GPU."""

    num_lora_experts: int | None = None
    """How many of them."""

    lora_expert_size: int | None = None
    """Their inner dimension."""

    options: dict[str, Scalar] = field(factory=dict)
    """Further settings."""
