"""The common settings of TRL's scripts, and where they live here; those of transformers are LLaMA-Factory's too."""

from __future__ import annotations

from ..convert import modules, words
from .entries import Table, anyway, at, decides, replaced
from .training import DISTRIBUTED, EVALUATION, LENGTH, LOADING, LOGGING, NUMERICS, SAVING

_OWN: Table = {
    "model_name_or_path": at("model.path"),
    "model_revision": at("model.revision"),
    "trust_remote_code": at("model.trust_remote_code"),
    "attn_implementation": at(
        "model.attention",
        convert=words(
            eager="eager",
            sdpa="sdpa",
            flash_attention_2="flash2",
            flash_attention_3="flash3",
            flex_attention="flex",
            **{
                "kernels-community/flash-attn2": "flash2",
                "kernels-community/flash-attn3": "flash3",
            },
        ),
    ),
    "dtype": decides("training.precision", how="the adapters' base: `float32` is fp32"),
    "torch_dtype": decides("training.precision", how="the adapters' base: `float32` is fp32"),
    "load_in_4bit": decides("quantization.type", "quantization[bitsandbytes].bits", how="4 bits"),
    "load_in_8bit": decides("quantization.type", "quantization[bitsandbytes].bits", how="8 bits"),
    "bnb_4bit_quant_type": at("quantization[bitsandbytes].format"),
    "use_bnb_nested_quant": at("quantization[bitsandbytes].double", default=False),
    "use_peft": decides("method.type", how="`true` is `lora`, else `full`"),
    "lora_r": at("method[lora].rank", default=16),
    "lora_alpha": at("method[lora].alpha", default=32),
    "lora_dropout": at("method[lora].dropout", default=0.05),
    "lora_target_modules": at("method[lora].targets", convert=modules),
    "lora_modules_to_save": at("method[lora].full_modules"),
    "lora_task_type": anyway("the objective says it"),
    "use_rslora": at("method[lora].rank_stabilized"),
    "use_dora": at("method[lora].dora"),
    "dataset_name": decides("data.sources.path", how="a hub id, or a file"),
    "dataset_config": decides("data.sources.subset", how="the value as it is"),
    "dataset_train_split": decides("data.sources.split", how="the value as it is"),
    "dataset_test_split": decides("data.eval_sources.split", how="where the run evaluates"),
    "dataset_streaming": at("data.streaming"),
    "dataset_text_field": decides("data.sources[text].text", how="makes a source of plain text"),
    "dataset_num_proc": at("data.workers"),
    "dataset_kwargs": replaced("columns are named in `[[data.sources]]`"),
    "max_length": at("data.max_length", default=1024),
    "max_seq_length": at("data.max_length"),
    "max_prompt_length": replaced("`data.max_length` counts prompt and answer together"),
    "max_completion_length": at("generation.max_new_tokens"),
    "packing": decides("data.packing", how='`true` is `"isolated"`, or `"joined"` when wrapped'),
    "packing_strategy": decides("data.packing", how="`bfd` is `isolated`, `wrapped` is `joined`"),
    "eval_packing": anyway("evaluation rows are never packed"),
    "padding_free": anyway("packing does without padding"),
    "assistant_only_loss": decides("objective[sft].loss_on", how='`true` is `"assistant"`'),
    "completion_only_loss": decides("objective[sft].loss_on", how='`true` is `"assistant"`'),
    "chat_template_path": decides("template[file].path", how="the Jinja file"),
    "eos_token": replaced("which token ends a text is the tokenizer's own matter"),
    "pad_token": anyway("padding is masked, whatever its token"),
    "activation_offloading": at("training.offload_activations"),
    "beta": at("objective[dpo|kto|orpo|cpo|grpo].beta"),
    "loss_type": decides("objective[dpo].loss.type", how="`bco_pair` is `bco`"),
    "label_smoothing": at(
        "objective[dpo].loss[sigmoid|robust].label_smoothing", "objective[cpo].label_smoothing"
    ),
    "rpo_alpha": at("objective[dpo].sft_weight"),
    "ld_alpha": at("objective[dpo].ld_alpha"),
    "precompute_ref_log_probs": decides(
        "objective.reference.type", how='`true` is `"precomputed"`'
    ),
    "desirable_weight": at("objective[kto].desirable_weight"),
    "undesirable_weight": at("objective[kto].undesirable_weight"),
    "cpo_alpha": at("objective[cpo].sft_weight"),
    "simpo_gamma": at("objective[simpo].gamma"),
    "center_rewards_coefficient": at("objective[reward].center"),
    "num_generations": at("objective[grpo].group_size"),
    "num_iterations": at("objective[grpo].updates"),
    "epsilon": at("objective[grpo].clip_low"),
    "epsilon_high": at("objective[grpo].clip_high"),
    "reward_model_name_or_path": decides("objective[grpo].rewards", how="a reward of kind `model`"),
    "reward_funcs": decides("objective[grpo].rewards", how="rewards of kind `function`, to write"),
    "logging_steps": decides("logging.every_steps", how="a count; a share of all steps is not"),
    "use_liger_kernel": at("kernels.liger"),
    "gradient_checkpointing": at("training.gradient_checkpointing"),
    "no_remove_unused_columns": anyway("columns are named in `[[data.sources]]`"),
}

TRL: Table = {
    **LENGTH,
    **NUMERICS,
    **LOGGING,
    **EVALUATION,
    **SAVING,
    **LOADING,
    **DISTRIBUTED,
    **_OWN,
    "seed": at("training.seed"),
}
