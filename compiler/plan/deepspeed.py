"""The DeepSpeed configuration: concrete numbers, what is off is absent."""

from __future__ import annotations

from typing import Any

from ..spec import Muon, Spec
from .model import Batch

NEVER = 1_000_000_000
"""DeepSpeed prints timings each so many steps; our own progress is enough."""


def deepspeed_config(spec: Spec, batch: Batch) -> dict[str, Any]:
    """Return the content of `deepspeed.json`; nothing in it is `"auto"`."""
    # By tokens the passes of a step vary; the trainer says after which of them gradients are complete, and the
    # loss is divided by what all of them hold: DeepSpeed needs no number, and gets that of one pass.
    total, micro = (batch.processes, 1) if batch.tokens else (batch.total, batch.micro)
    config: dict[str, Any] = {
        "train_batch_size": total,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": batch.accumulation or 1,
        "gradient_clipping": float(spec.training.max_grad_norm),
    }
    if spec.training.precision in ("bf16", "fp16", "fp8"):
        # Products in fp8 are cast from weights, activations and gradients in bf16.
        config["fp16" if spec.training.precision == "fp16" else "bf16"] = {"enabled": True}
    elif spec.training.precision == "pure-bf16" and spec.deepspeed.zero_stage:
        # Without a stage the engine leaves weights as they are, and would make fp32 copies if it were told.
        config["bf16"] = {"enabled": True, "bf16_master_weights_and_grads": True}
        if spec.deepspeed.offload_optimizer == "none":
            config["bf16"]["bf16_optimizer_states"] = True
    config["zero_optimization"] = _zero(spec)
    # The program makes the optimizer; it does not come from this file.
    config["zero_allow_untested_optimizer"] = True
    if spec.deepspeed.offload_optimizer != "none":
        # It stays the one that was made: accelerate would put an Adam in its place that decays gradients, not weights.
        config["zero_force_ds_cpu_optimizer"] = False
    config["steps_per_print"] = NEVER
    return config


def _zero(spec: Spec) -> dict[str, Any]:
    chosen = spec.deepspeed
    zero: dict[str, Any] = {"stage": chosen.zero_stage}
    if chosen.zero_stage == 0:
        return zero
    zero["reduce_bucket_size"] = chosen.reduce_bucket_size
    zero["contiguous_gradients"] = chosen.contiguous_gradients
    zero["overlap_comm"] = _or_on_gpu(spec, chosen.overlap_communication)
    if chosen.round_robin_gradients:
        zero["round_robin_gradients"] = True
    if chosen.zero_stage < 3:
        zero["allgather_bucket_size"] = chosen.allgather_bucket_size
    else:
        zero["stage3_prefetch_bucket_size"] = chosen.prefetch_bucket_size
        zero["stage3_param_persistence_threshold"] = chosen.persistence_threshold
        zero["stage3_max_live_parameters"] = chosen.max_live_parameters
        zero["stage3_max_reuse_distance"] = chosen.max_reuse_distance
        zero["sub_group_size"] = chosen.sub_group_size
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if isinstance(spec.optimizer, Muon):
            zero["reduce_scatter"] = False  # it wants the gradients of whole matrices
    if chosen.offload_optimizer == "cpu":
        pinned = _or_on_gpu(spec, chosen.pin_memory)
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    return zero


def _or_on_gpu(spec: Spec, given: bool | None) -> bool:
    return spec.launch.device == "gpu" if given is None else given
