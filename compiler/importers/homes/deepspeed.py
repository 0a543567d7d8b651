"""The keys of a DeepSpeed JSON, and where they live here."""

from __future__ import annotations

from ..convert import words
from .entries import Table, anyway, at, decides, replaced

_ZERO = "zero_optimization"

DEEPSPEED: Table = {
    f"{_ZERO}.stage": at("deepspeed.zero_stage"),
    f"{_ZERO}.offload_optimizer.device": at("deepspeed.offload_optimizer"),
    f"{_ZERO}.offload_optimizer.pin_memory": at("deepspeed.pin_memory"),
    f"{_ZERO}.offload_optimizer.nvme_path": at("deepspeed.nvme_dir"),
    f"{_ZERO}.offload_param.device": at("deepspeed.offload_parameters"),
    f"{_ZERO}.offload_param.pin_memory": at("deepspeed.pin_memory"),
    f"{_ZERO}.offload_param.nvme_path": at("deepspeed.nvme_dir"),
    f"{_ZERO}.cpu_offload": at(
        "deepspeed.offload_optimizer", convert=words(true="cpu", false="none")
    ),
    f"{_ZERO}.overlap_comm": at("deepspeed.overlap_communication"),
    f"{_ZERO}.contiguous_gradients": at("deepspeed.contiguous_gradients"),
    f"{_ZERO}.round_robin_gradients": at("deepspeed.round_robin_gradients"),
    f"{_ZERO}.reduce_bucket_size": at("deepspeed.reduce_bucket_size", default=500_000_000),
    f"{_ZERO}.allgather_bucket_size": at("deepspeed.allgather_bucket_size", default=500_000_000),
    f"{_ZERO}.stage3_prefetch_bucket_size": at("deepspeed.prefetch_bucket_size"),
    f"{_ZERO}.stage3_param_persistence_threshold": at("deepspeed.persistence_threshold"),
    f"{_ZERO}.stage3_max_live_parameters": at("deepspeed.max_live_parameters"),
    f"{_ZERO}.stage3_max_reuse_distance": at("deepspeed.max_reuse_distance"),
    f"{_ZERO}.sub_group_size": at("deepspeed.sub_group_size"),
    f"{_ZERO}.zero_hpz_partition_size": at("deepspeed.hpz_partition_size"),
    f"{_ZERO}.zero_quantized_weights": at("deepspeed.quantized_weights"),
    f"{_ZERO}.zero_quantized_gradients": at("deepspeed.quantized_gradients"),
    f"{_ZERO}.reduce_scatter": replaced("gradients are always reduced and scattered", True),
    f"{_ZERO}.allgather_partitions": replaced("partitions are always gathered in buckets", True),
    f"{_ZERO}.stage3_gather_16bit_weights_on_model_save": anyway(
        "the final weights are always written whole, in the Hugging Face layout"
    ),
    f"{_ZERO}.stage3_gather_fp16_weights_on_model_save": anyway(
        "the final weights are always written whole, in the Hugging Face layout"
    ),
    f"{_ZERO}.ignore_unused_parameters": anyway("parameters that get no gradient are left alone"),
    "train_batch_size": at("batch.global_size"),
    "train_micro_batch_size_per_gpu": at("batch.micro_size"),
    "gradient_accumulation_steps": at("batch.accumulation_steps"),
    "gradient_clipping": at("training.max_grad_norm"),
    "bf16.enabled": decides("training.precision", how='`true` is `"bf16"`'),
    "fp16.enabled": decides("training.precision", how='`true` is `"fp16"`'),
    "fp16.loss_scale": anyway("the loss scale is found while training"),
    "fp16.loss_scale_window": anyway("the loss scale is found while training"),
    "fp16.initial_scale_power": anyway("the loss scale is found while training"),
    "fp16.hysteresis": anyway("the loss scale is found while training"),
    "fp16.min_loss_scale": anyway("the loss scale is found while training"),
    "fp16.auto_cast": anyway("the objective computes in `training.precision`"),
    "optimizer.type": decides("optimizer.type", how="`Adam` and `AdamW` are `adamw`"),
    "optimizer.params.lr": at("training.learning_rate"),
    "optimizer.params.betas": decides(
        "optimizer[adamw|adam-mini|lion].beta1",
        "optimizer[adamw|adam-mini|lion].beta2",
        how="one number each",
    ),
    "optimizer.params.eps": at("optimizer[adamw|adam-mini].epsilon"),
    "optimizer.params.weight_decay": at("optimizer.weight_decay"),
    "optimizer.params.torch_adam": anyway("tunec chooses the implementation"),
    "optimizer.params.adam_w_mode": anyway("AdamW is always decoupled"),
    "scheduler.type": decides(
        "training.schedule", how="`WarmupDecayLR` is `linear`, `WarmupLR` is `constant`"
    ),
    "scheduler.params.warmup_num_steps": at("training.warmup_steps"),
    "scheduler.params.warmup_max_lr": at("training.learning_rate"),
    "scheduler.params.warmup_min_lr": replaced("warm-up begins at 0", 0, 0.0, "auto"),
    "scheduler.params.total_num_steps": at("training.steps"),
    "steps_per_print": anyway("metrics are written as `logging.every_steps` says"),
    "wall_clock_breakdown": replaced("`[profiler]` tells where time goes", False),
    "zero_allow_untested_optimizer": anyway("only optimizers that work with ZeRO are compiled"),
    "zero_force_ds_cpu_optimizer": anyway("tunec chooses the optimizer that offloading needs"),
    "communication_data_type": replaced("gradients travel in the type of the gradients"),
}
"""Dotted key to entry."""
