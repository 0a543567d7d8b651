"""The arguments that LLaMA-Factory takes over from transformers, its own for FP8, Ray and profiling, and their homes."""

from __future__ import annotations

from ..convert import SKIP, assignments, modules, negated, positive, variable, words
from .data import HELD_BY_VERBS
from .entries import Table, anyway, at, decides, replaced

_DDP = "the processes work together through DeepSpeed, which has no DistributedDataParallel to tune; see `[deepspeed]`"
_LOG = "the first process alone writes the log"
_EVAL = "evaluation keeps sums, not outputs, so that there is nothing to"

LENGTH: Table = {
    "output_dir": at("run.output_dir"),
    "per_device_train_batch_size": at("batch.micro_size", default=8),
    "num_train_epochs": decides("training.epochs", how="left out where `max_steps` is above 0"),
    "max_steps": at("training.steps", convert=positive),
    "learning_rate": at("training.learning_rate", default=5e-5),
    "lr_scheduler_type": at(
        "training.schedule",
        default="linear",
        convert=words(
            linear="linear",
            cosine="cosine",
            cosine_with_restarts="cosine-restarts",
            polynomial="polynomial",
            constant="constant",
            constant_with_warmup="constant",
            inverse_sqrt="inverse-sqrt",
            reduce_lr_on_plateau="plateau",
            cosine_with_min_lr="cosine-min",
            cosine_warmup_with_min_lr="cosine-min",
            warmup_stable_decay="warmup-stable-decay",
        ),
    ),
    "lr_scheduler_kwargs": decides(
        "training.cycles",
        "training.power",
        "training.min_rate_ratio",
        "training.stable_steps",
        "training.plateau_factor",
        "training.plateau_patience",
        how="`num_cycles`, `power`, `min_lr_rate` (or `min_lr` over the rate), `num_stable_steps`, `factor`, "
        "`patience`",
    ),
    "warmup_steps": decides(
        "training.warmup_steps", "training.warmup_ratio", how="below 1 it is a ratio"
    ),
    "warmup_ratio": decides("training.warmup_ratio", how="the value as it is"),
    "optim": decides(
        "optimizer.type",
        "optimizer[adamw|lion].state",
        "optimizer[galore].base",
        "optimizer[transformers].name",
        how="`adamw_bnb_8bit` and `paged_adamw_8bit` are states of `adamw`; names without a kind go to `transformers`",
    ),
    "optim_args": at("optimizer[transformers].options", convert=assignments),
    "optim_target_modules": at(
        "optimizer[galore|apollo|transformers].targets", convert=modules, how="a list of names"
    ),
    "weight_decay": at("optimizer.weight_decay"),
    "adam_beta1": at("optimizer[adamw|adam-mini|lion].beta1", default=0.9),
    "adam_beta2": at("optimizer[adamw|adam-mini|lion].beta2", default=0.999),
    "adam_epsilon": at("optimizer[adamw|adam-mini].epsilon"),
    "gradient_accumulation_steps": at("batch.accumulation_steps", default=1),
    "average_tokens_across_devices": replaced(
        "the loss of a step is always the mean over all its tokens on all devices", True
    ),
    "max_grad_norm": at("training.max_grad_norm"),
    "label_smoothing_factor": at(
        "objective[sft].loss[cross-entropy].label_smoothing",
        "objective[pretraining].label_smoothing",
    ),
}

NUMERICS: Table = {
    "bf16": decides("training.precision", how='`true` is `"bf16"`'),
    "fp16": decides("training.precision", how='`true` is `"fp16"`'),
    "bf16_full_eval": at("evaluation.precision", convert=words(true="bf16", false=SKIP)),
    "fp16_full_eval": at("evaluation.precision", convert=words(true="fp16", false=SKIP)),
    "tf32": at("training.tf32"),
    "fp8": decides("training.precision", how='`true` is `"fp8"`'),
    "fp8_backend": at(
        "training.fp8_backend",
        convert=words(auto="auto", torchao="torchao", te="transformer-engine"),
    ),
    "fp8_enable_fsdp_float8_all_gather": replaced(
        "it belongs to FSDP2; parameters travel in 8 bit with `deepspeed.quantized_weights`", False
    ),
    "gradient_checkpointing": anyway(
        "LLaMA-Factory decides by `disable_gradient_checkpointing` alone, here `training.gradient_checkpointing`"
    ),
    "gradient_checkpointing_kwargs": decides(
        "training.checkpointing_reentrant", how="its `use_reentrant`"
    ),
    "torch_compile": at("kernels.compile"),
    "torch_compile_backend": at("kernels.compile_backend"),
    "torch_compile_mode": at("kernels.compile_mode"),
    "use_liger_kernel": at("kernels.liger"),
    "liger_kernel_config": at("kernels.liger_ops"),
    "use_cache": at("generation.kv_cache"),
    "neftune_noise_alpha": at("training.neftune_alpha"),
    "torch_empty_cache_steps": at("training.empty_cache_steps"),
    "auto_find_batch_size": at("batch.shrink_on_oom"),
    "full_determinism": at("training.deterministic"),
    "debug": decides(
        "training.detect_anomalies", how="`underflow_overflow` is `true`; TPU metrics have no place"
    ),
    "use_cpu": at("launch.device", convert=words(true="cpu", false=SKIP)),
}

LOGGING: Table = {
    "logging_strategy": decides(
        "logging.every_steps", "logging.each_epoch", how="`steps`, `epoch` or `no`"
    ),
    "logging_steps": decides("logging.every_steps", how="a count; a share of all steps is not"),
    "logging_first_step": at("logging.first_step"),
    "log_on_each_node": anyway(_LOG),
    "logging_nan_inf_filter": replaced(
        "losses that are NaN are shown as they are: hiding them hides that the run is lost", False
    ),
    "include_num_input_tokens_seen": anyway("tokens are always counted and logged"),
    "log_level": at(
        "logging.level",
        convert=words(
            passive=SKIP,
            debug="debug",
            detail="debug",
            info="info",
            warning="warning",
            error="error",
            critical="error",
        ),
    ),
    "log_level_replica": anyway(_LOG),
    "disable_tqdm": at("logging.progress_bar", convert=negated),
    "report_to": decides("logging.trackers", how="a name becomes a table"),
    "run_name": at("run.name"),
    "project": at(
        "logging.trackers[wandb].project",
        "logging.trackers[trackio].project",
        default="huggingface",
    ),
    "trackio_space_id": at("logging.trackers[trackio].space"),
    "trackio_bucket_id": at("logging.trackers[trackio].bucket"),
    "trackio_static_space_id": at("logging.trackers[trackio].static_space"),
    "logging_dir": at("logging.trackers[tensorboard].dir"),
}

EVALUATION: Table = {
    "eval_strategy": decides(
        "evaluation.every_steps", "evaluation.each_epoch", how="`steps`, `epoch` or `no`"
    ),
    "eval_steps": decides("evaluation.every_steps", how="a count; a share of all steps is not"),
    "eval_delay": at("evaluation.delay_steps"),
    "per_device_eval_batch_size": at("evaluation.micro_size", default=8),
    "prediction_loss_only": anyway("predictions are kept only where a metric needs them"),
    "eval_on_start": at("evaluation.at_start"),
    "eval_do_concat_batches": anyway(f"{_EVAL} concatenate"),
    "eval_use_gather_object": anyway(f"{_EVAL} gather"),
    "eval_accumulation_steps": anyway(f"{_EVAL} move to the CPU"),
    "include_for_metrics": replaced("metrics are `evaluation.accuracy` and `.generate`", "[]"),
    "batch_eval_metrics": anyway("metrics are always summed up batch by batch"),
    "load_best_model_at_end": at("evaluation.load_best"),
    "metric_for_best_model": at("evaluation.metric"),
    "greater_is_better": at("evaluation.higher_is_better"),
    "predict_with_generate": at("evaluation.generate"),
    "generation_max_length": decides(
        "evaluation.max_new_tokens",
        how="else `max_new_tokens`, which LLaMA-Factory generates with",
    ),
    "generation_num_beams": at("evaluation.num_beams"),
    "generation_config": replaced(
        "the settings of such a file stand in the spec itself, in `[generation]`"
    ),
}

SAVING: Table = {
    "overwrite_output_dir": decides("run.on_existing", how='`true` is `"overwrite"`'),
    "resume_from_checkpoint": decides(
        "run.resume_from", "run.on_existing", how='a folder, or `true` for `"resume"`'
    ),
    "save_only_model": at("checkpoints.weights_only"),
    "save_strategy": decides(
        "checkpoints.every_steps",
        "checkpoints.each_epoch",
        "checkpoints.keep_best",
        how="`steps`, `epoch`, `no` or `best`",
    ),
    "save_steps": decides("checkpoints.every_steps", how="a count; a share of all steps is not"),
    "save_on_each_node": at("checkpoints.each_node"),
    "save_total_limit": at("checkpoints.keep", default=0),
    "enable_jit_checkpoint": anyway("a run that is stopped always finishes its step and saves"),
    "push_to_hub": decides("hub", how="`true` makes the section"),
    "hub_token": at("hub.token_env", convert=variable("HF_TOKEN")),
    "hub_private_repo": at("hub.private", default=False),
    "hub_model_id": at("hub.repository"),
    "hub_strategy": at("hub.when", default="every_save"),
    "hub_always_push": at("hub.wait", default=False),
    "hub_revision": at("hub.revision"),
    "ignore_data_skip": replaced(
        "a resumed run always goes on with the rows that were not seen yet", False
    ),
    "restore_callback_states_from_checkpoint": anyway("checkpoints always hold the whole state"),
}

LOADING: Table = {
    "data_seed": at("data.seed"),
    "accelerator_config": replaced(
        "accelerate is not used; the settings of `[data]` and `[batch]` are all there are"
    ),
    "parallelism_config": replaced(
        "accelerate is not used; `[megatron]` and `[hyper_parallel]` share layers and sequences"
    ),
    "dataloader_drop_last": replaced(
        "the last, smaller batch of an epoch is used like any other", False
    ),
    "dataloader_num_workers": at("data.loader_workers"),
    "dataloader_pin_memory": at("data.pin_memory"),
    "dataloader_persistent_workers": at("data.loader_persistent"),
    "dataloader_prefetch_factor": at("data.loader_prefetch"),
    "remove_unused_columns": anyway("columns are named in `[[data.sources]]`, others are ignored"),
    "label_names": anyway("the objective knows its own labels"),
    "train_sampling_strategy": decides(
        "data.group_by_length",
        "data.shuffle",
        how="`group_by_length` or `sequential`; `random` is the default",
    ),
    "length_column_name": anyway("lengths are known from the prepared data"),
    "sortish_sampler": at("data.group_by_length"),
}

DISTRIBUTED: Table = {
    "ddp_find_unused_parameters": anyway(_DDP),
    "ddp_bucket_cap_mb": replaced(f"{_DDP}, `reduce_bucket_size`"),
    "ddp_broadcast_buffers": anyway(_DDP),
    "ddp_static_graph": anyway(_DDP),
    "ddp_backend": replaced(f"{_DDP}; NCCL on GPUs, Gloo on CPUs", "nccl", "gloo"),
    "ddp_timeout": at("deepspeed.timeout_s"),
    "fsdp": anyway(
        "ZeRO shards as FSDP does: `full_shard` is `deepspeed.zero_stage = 3`, `shard_grad_op` is stage 2, "
        '`offload` is `offload_parameters = "cpu"`; the import sets these'
    ),
    "fsdp_config": replaced("ZeRO replaces FSDP: the settings of `[deepspeed]` take its place"),
    "deepspeed": decides("deepspeed", how="the JSON file's settings, key by key"),
    "skip_memory_metrics": anyway("memory is always measured; it costs nothing"),
    "do_train": HELD_BY_VERBS,
    "do_eval": HELD_BY_VERBS,
    "do_predict": HELD_BY_VERBS,
    "local_rank": anyway("the launcher numbers its processes"),
}

RAY: Table = {
    "ray_num_workers": decides("launch[ray].processes_per_node", how="on one machine"),
    "ray_init_kwargs": at("launch[ray].init"),
    "master_addr": at("launch[ray].master_address"),
    "master_port": at("launch.port"),
}

PROFILER: Table = {
    "enable_torch_profiler": decides("profiler", how="`true` makes the section"),
    "profiler_output_dir": at("profiler.output_dir"),
    "profiler_wait_steps": at("profiler.wait_steps"),
    "profiler_warmup_steps": at("profiler.warmup_steps"),
    "profiler_active_steps": at("profiler.active_steps"),
    "profiler_repeat": at("profiler.repeat"),
    "profiler_record_shapes": at("profiler.shapes"),
    "profiler_profile_memory": at("profiler.memory"),
    "profiler_with_stack": at("profiler.stacks"),
    "profile_modules": at("profiler.modules"),
}
