"""Axolotl's common settings, and where they live here."""

from __future__ import annotations

from ..convert import SKIP, modules, variable, words
from .entries import Table, anyway, at, decides, replaced

_ATTENTION = "the first that is on decides"
_SET = "tunec decides by the model's own configuration"

AXOLOTL: Table = {
    "base_model": at("model.path"),
    "base_model_config": anyway(_SET),
    "revision_of_model": at("model.revision"),
    "trust_remote_code": at("model.trust_remote_code"),
    "tokenizer_config": at("tokenizer.path"),
    "tokenizer_use_fast": at("tokenizer.fast"),
    "model_type": anyway(_SET),
    "tokenizer_type": anyway(_SET),
    "processor_type": anyway(_SET),
    "is_llama_derived_model": anyway(_SET),
    "is_mistral_derived_model": anyway(_SET),
    "is_qwen_derived_model": anyway(_SET),
    "hf_use_auth_token": at("model.token_env", convert=words(true="HF_TOKEN", false=SKIP)),
    "tokens": at("tokenizer.add_tokens"),
    "special_tokens": replaced(
        "`tokenizer.add_special_tokens` appends tokens; which one ends or pads a text is the tokenizer's own matter"
    ),
    "resize_token_embeddings_to_32x": anyway("the grown vocabulary is padded to a multiple of 64"),
    "load_in_4bit": decides("quantization.type", "quantization[bitsandbytes].bits", how="4 bits"),
    "load_in_8bit": decides("quantization.type", "quantization[bitsandbytes].bits", how="8 bits"),
    "adapter": decides("method.type", how="`lora` and `qlora` are `lora`; none is `full`"),
    "lora_model_dir": at("adapters.paths"),
    "lora_r": at("method[lora].rank"),
    "lora_alpha": at("method[lora].alpha"),
    "lora_dropout": at("method[lora].dropout"),
    "lora_target_modules": decides("method[lora].targets", how="a list of names"),
    "lora_target_linear": decides("method[lora].targets", how='`true` is `"all-linear"`'),
    "lora_modules_to_save": at("method[lora].full_modules"),
    "lora_fan_in_fan_out": anyway("peft knows which layers need it"),
    "lora_mlp_kernel": anyway("a kernel, without effect on the result"),
    "lora_qkv_kernel": anyway("a kernel, without effect on the result"),
    "lora_o_kernel": anyway("a kernel, without effect on the result"),
    "peft_layers_to_transform": at("method[lora].layers"),
    "peft_use_dora": at("method[lora].dora"),
    "peft_use_rslora": at("method[lora].rank_stabilized"),
    "loraplus_lr_ratio": at("method[lora].b_rate_ratio"),
    "loraplus_lr_embedding": at("method[lora].embedding_rate"),
    "unfrozen_parameters": replaced('`[method]` with `type = "freeze"` trains some blocks'),
    "datasets": decides("data.sources", how="each entry becomes a table"),
    "pretraining_dataset": decides(
        "data.sources[text]", "objective.type", how="streamed text, objective `pretraining`"
    ),
    "test_datasets": decides("data.eval_sources", how="each entry becomes a table"),
    "val_set_size": at("data.eval_rows"),
    "dataset_prepared_path": at("data.prepared_dir"),
    "dataset_processes": at("data.workers"),
    "dataset_num_proc": at("data.workers"),
    "shuffle_merged_datasets": at("data.shuffle"),
    "sequence_len": at("data.max_length", default=512),
    "excess_length_strategy": at("data.too_long", default="drop"),
    "sample_packing": decides("data.packing", how='`true` is `"isolated"`'),
    "eval_sample_packing": anyway("evaluation rows are never packed"),
    "pad_to_sequence_len": anyway("batches are padded to their longest sample"),
    "group_by_length": at("data.group_by_length"),
    "streaming": at("data.streaming"),
    "train_on_inputs": at("objective[sft].loss_on", convert=words(true="all", false="assistant")),
    "chat_template": decides(
        "template.type", "template[named].name", how="`tokenizer_default` is the tokenizer's own"
    ),
    "chat_template_jinja": replaced(
        'write it to a file: `[template]` with `type = "file"` and `path`'
    ),
    "default_system_message": at("template.system"),
    "rl": decides("objective.type", how="`ipo` is a loss of `dpo`"),
    "reward_model": decides("objective.type", how='`true` is `"reward"`'),
    "rl_beta": at("objective[dpo|kto|simpo|grpo].beta"),
    "orpo_alpha": at("objective[orpo].beta"),
    "simpo_gamma": at("objective[simpo].gamma"),
    "dpo_label_smoothing": at("objective[dpo].loss[sigmoid].label_smoothing"),
    "kto_desirable_weight": at("objective[kto].desirable_weight"),
    "kto_undesirable_weight": at("objective[kto].undesirable_weight"),
    "micro_batch_size": at("batch.micro_size", default=1),
    "gradient_accumulation_steps": at("batch.accumulation_steps", default=1),
    "eval_batch_size": at("evaluation.micro_size"),
    "num_epochs": decides("training.epochs", how="left out where `max_steps` is above 0"),
    "max_steps": decides("training.steps", how="the value, where it is above 0"),
    "learning_rate": at("training.learning_rate", default=5e-5),
    "lr_scheduler": at(
        "training.schedule",
        default="cosine",
        convert=words(
            cosine="cosine",
            linear="linear",
            constant="constant",
            constant_with_warmup="constant",
            polynomial="polynomial",
            inverse_sqrt="inverse-sqrt",
            cosine_with_restarts="cosine-restarts",
            cosine_with_min_lr="cosine-min",
        ),
    ),
    "cosine_min_lr_ratio": decides(
        "training.min_rate_ratio", "training.schedule", how="the schedule becomes `cosine-min`"
    ),
    "warmup_steps": decides("training.warmup_steps", how="the value as it is"),
    "warmup_ratio": decides("training.warmup_ratio", how="the value as it is"),
    "optimizer": decides("optimizer.type", "optimizer.state", how="as `optim` of transformers"),
    "optim_args": at("optimizer[transformers].options"),
    "optim_target_modules": at("optimizer[galore|apollo|transformers].targets", convert=modules),
    "weight_decay": at("optimizer.weight_decay"),
    "adam_beta1": at("optimizer[adamw|adam-mini|lion].beta1"),
    "adam_beta2": at("optimizer[adamw|adam-mini|lion].beta2"),
    "adam_epsilon": at("optimizer[adamw|adam-mini].epsilon"),
    "max_grad_norm": at("training.max_grad_norm"),
    "neftune_noise_alpha": at("training.neftune_alpha"),
    "bf16": decides("training.precision", how="`true`, `auto` and `full` are bf16"),
    "fp16": decides("training.precision", how='`true` is `"fp16"`'),
    "fp8": decides("training.precision", how='`true` is `"fp8"`'),
    "bfloat16": decides("training.precision", how='`true` is `"pure-bf16"`'),
    "float16": decides("training.precision", how='`true` is `"fp16"`'),
    "tf32": at("training.tf32", convert=words(true=True, false=False, auto=SKIP)),
    "gradient_checkpointing": decides(
        "training.gradient_checkpointing",
        "training.offload_activations",
        how="`offload` and `unsloth` offload too; off by default there",
    ),
    "gradient_checkpointing_kwargs": decides(
        "training.checkpointing_reentrant", how="its `use_reentrant`"
    ),
    "flash_attention": decides("model.attention", how=f"`flash2`; {_ATTENTION}"),
    "sdp_attention": decides("model.attention", how=f"`sdpa`; {_ATTENTION}"),
    "flex_attention": decides("model.attention", how=f"`flex`; {_ATTENTION}"),
    "eager_attention": decides("model.attention", how=f"`eager`; {_ATTENTION}"),
    "xformers_attention": replaced(
        "attention is `eager`, `sdpa`, `flash2`, `flash3` or `flex`", False
    ),
    "s2_attention": at("model.shifted_attention"),
    "torch_compile": at("kernels.compile", convert=words(true=True, false=False, auto=SKIP)),
    "torch_compile_backend": at("kernels.compile_backend"),
    "plugins": decides("kernels.liger", how="Liger's; other plugins have no place"),
    "liger_rope": decides("kernels.liger_ops", how="`rope`"),
    "liger_rms_norm": decides("kernels.liger_ops", how="`rms_norm`"),
    "liger_layer_norm": decides("kernels.liger_ops", how="`layer_norm`"),
    "liger_glu_activation": decides("kernels.liger_ops", how="`swiglu`"),
    "liger_fused_linear_cross_entropy": decides(
        "kernels.liger_ops", how="`fused_linear_cross_entropy`"
    ),
    "output_dir": at("run.output_dir", default="./model-out"),
    "resume_from_checkpoint": at("run.resume_from"),
    "auto_resume_from_checkpoints": at("run.on_existing", convert=words(true="resume", false=SKIP)),
    "save_total_limit": at("checkpoints.keep", default=4),
    "save_only_model": at("checkpoints.weights_only"),
    "save_safetensors": replaced("weights are always written as safetensors", True),
    "save_steps": decides("checkpoints.every_steps", how="a count"),
    "save_strategy": decides(
        "checkpoints.each_epoch", "checkpoints.every_steps", how="`steps`, `epoch`, `no` or `best`"
    ),
    "saves_per_epoch": decides("checkpoints.each_epoch", how="1 is each epoch; more have no place"),
    "eval_steps": decides("evaluation.every_steps", how="a count"),
    "eval_strategy": decides(
        "evaluation.each_epoch", "evaluation.every_steps", how="`steps`, `epoch` or `no`"
    ),
    "evals_per_epoch": decides("evaluation.each_epoch", how="1 is each epoch; more have no place"),
    "logging_steps": decides("logging.every_steps", how="a count"),
    "early_stopping_patience": at("evaluation.patience"),
    "load_best_model_at_end": at("evaluation.load_best"),
    "metric_for_best_model": at("evaluation.metric"),
    "greater_is_better": at("evaluation.higher_is_better"),
    "wandb_project": at("logging.trackers[wandb].project"),
    "wandb_entity": at("logging.trackers[wandb].entity"),
    "wandb_mode": at("logging.trackers[wandb].mode"),
    "wandb_name": at("run.name"),
    "wandb_run_id": replaced("the run's name tells it apart"),
    "wandb_watch": replaced("gradients are logged as norms only"),
    "wandb_log_model": replaced("checkpoints stay in the run folder; `[hub]` pushes them", "false"),
    "use_tensorboard": decides("logging.trackers[tensorboard].type", how="`true` adds the tracker"),
    "use_mlflow": decides("logging.trackers[mlflow].type", how="`true` adds the tracker"),
    "mlflow_experiment_name": at("logging.trackers[mlflow].experiment"),
    "mlflow_tracking_uri": at(
        "logging.trackers[mlflow].uri_env", convert=variable("MLFLOW_TRACKING_URI")
    ),
    "hub_model_id": at("hub.repository"),
    "hub_strategy": at("hub.when"),
    "deepspeed": decides("deepspeed", how="the JSON file's settings, key by key"),
    "fsdp": anyway("ZeRO shards as FSDP does; the import sets `deepspeed.zero_stage`"),
    "fsdp_config": replaced("ZeRO replaces FSDP: the settings of `[deepspeed]` take its place"),
    "fsdp_version": anyway("ZeRO replaces FSDP"),
    "ddp_timeout": at("deepspeed.timeout_s"),
    "dataloader_num_workers": at("data.loader_workers"),
    "dataloader_pin_memory": at("data.pin_memory"),
    "dataloader_prefetch_factor": at("data.loader_prefetch"),
    "seed": at("training.seed"),
    "local_rank": anyway("the launcher numbers its processes"),
    "strict": anyway("unknown keys are always errors"),
    "debug": anyway("`tunec plan` and the run's log tell more"),
}

TYPES = {
    "alpaca": "alpaca",
    "chat_template": "messages",
    "sharegpt": "sharegpt",
    "completion": "text",
    "chat_template.default": "messages",
    "chatml.intel": "alpaca",
    "chatml.argilla": "alpaca",
}
"""Type of a data set to format of a source."""

COLUMNS = {
    "field_messages": "messages",
    "message_field_role": "role",
    "message_field_content": "content",
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_system": "system",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "field_tools": "tools",
    "field": "text",
    "text_column": "text",
    "split": "split",
    "name": "subset",
    "revision": "revision",
    "data_dir": "folder",
}
"""Key of a data set's entry to field of a source."""
