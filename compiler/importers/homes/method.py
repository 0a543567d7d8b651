"""LLaMA-Factory's arguments for methods, objectives and special optimizers, and where they live here."""

from __future__ import annotations

from ..convert import blocks_modules, modules, negated, positive, variable, words
from .entries import Table, at, decides, replaced

PREFERENCE = "objective[dpo|kto|orpo|simpo]"
REFERENCE = "objective[dpo|kto|ppo].reference[model]"

METHOD: Table = {
    "finetuning_type": decides("method.type", how="the name is the same"),
    "freeze_trainable_layers": decides(
        "method[freeze].blocks",
        "method[freeze].side",
        "method[lora].expanded_blocks",
        how="the number without its sign; below 0 the first blocks instead of the last",
    ),
    "freeze_trainable_modules": at("method[freeze].modules", convert=blocks_modules),
    "freeze_extra_modules": at("method[freeze].extra_modules"),
    "use_llama_pro": decides(
        "method[freeze].expanded",
        "method[lora].expanded_blocks",
        how="with `lora`, the number of `freeze_trainable_layers`",
    ),
    "additional_target": at("method[lora|oft].full_modules"),
    "lora_alpha": at("method[lora].alpha", convert=positive),
    "lora_dropout": at("method[lora].dropout"),
    "lora_rank": at("method[lora].rank"),
    "lora_target": at("method[lora|oft].targets", convert=modules),
    "lora_bias": at("method[lora].bias"),
    "loraplus_lr_ratio": at("method[lora].b_rate_ratio"),
    "loraplus_lr_embedding": at("method[lora].embedding_rate"),
    "use_rslora": at("method[lora].rank_stabilized"),
    "use_dora": at("method[lora].dora"),
    "pissa_init": decides("method[lora].init.type", how='`true` is `"pissa"`'),
    "pissa_iter": decides(
        "method[lora].init[pissa].iterations",
        "method[lora].init[pissa].exact",
        how="-1 is `exact = true`",
    ),
    "pissa_convert": at("method[lora].init[pissa].convert"),
    "create_new_adapter": at("adapters.then", convert=words(true="new", false="continue")),
    "module_dropout": at("method[oft].dropout"),
    "oft_rank": at("method[oft].num_blocks", convert=positive),
    "oft_block_size": at("method[oft].block_size", convert=positive),
    "oft_target": replaced(
        "LLaMA-Factory never reads it: the modules of OFT are those of `lora_target`, here `method.targets`",
        "all",
    ),
}

OBJECTIVE: Table = {
    "stage": decides(
        "objective.type",
        how="`pt` is `pretraining`, `rm` is `reward`, `dpo` also `orpo` or `simpo` by `pref_loss`",
    ),
    "use_dft_loss": decides("objective[sft].loss.type", how='`true` is `"dft"`'),
    "use_asft_loss": decides("objective[sft].loss.type", how='`true` is `"asft"`'),
    "asft_alpha": at("objective[sft].loss[asft].alpha"),
    "use_eaft_loss": decides("objective[sft].loss.type", how='`true` is `"eaft"`'),
    "eaft_alpha": at("objective[sft].loss[eaft].alpha"),
    "pref_beta": at(f"{PREFERENCE}.beta", default=0.1),
    "pref_ftx": at(f"{PREFERENCE}.sft_weight"),
    "pref_bco_weight": at("objective[dpo].bco_weight"),
    "pref_loss": decides(
        "objective[dpo].loss.type",
        how="`kto_pair` is `kto-pair`; `orpo` and `simpo` are objectives of their own",
    ),
    "dpo_label_smoothing": at("objective[dpo].loss[sigmoid].label_smoothing"),
    "kto_chosen_weight": at("objective[kto].desirable_weight"),
    "kto_rejected_weight": at("objective[kto].undesirable_weight"),
    "simpo_gamma": at("objective[simpo].gamma"),
    "ppo_buffer_size": at("objective[ppo].buffer_batches"),
    "ppo_epochs": at("objective[ppo].epochs"),
    "ppo_score_norm": at("objective[ppo].normalize_scores"),
    "ppo_target": at("objective[ppo].kl_target"),
    "ppo_whiten_rewards": at("objective[ppo].whiten_rewards"),
    "ref_model": at(f"{REFERENCE}.path", "objective[sft].loss[asft].reference[model].path"),
    "ref_model_adapters": at(
        f"{REFERENCE}.adapters", "objective[sft].loss[asft].reference[model].adapters"
    ),
    "ref_model_quantization_bit": at(
        f"{REFERENCE}.quantization[bitsandbytes].bits",
        "objective[sft].loss[asft].reference[model].quantization[bitsandbytes].bits",
    ),
    "reward_model": at(
        "objective[ppo].reward[adapter|model].path",
        "objective[ppo].reward[api].url",
    ),
    "reward_model_adapters": at("objective[ppo].reward[model].adapters"),
    "reward_model_quantization_bit": at(
        "objective[ppo].reward[model].quantization[bitsandbytes].bits"
    ),
    "reward_model_type": decides(
        "objective[ppo].reward.type", how="`lora` is `adapter`, `full` is `model`, `api` as it is"
    ),
    "ld_alpha": at("objective[dpo].ld_alpha"),
}

OPTIMIZERS: Table = {
    "use_galore": decides("optimizer.type", how='`true` is `"galore"`'),
    "galore_target": at("optimizer[galore].targets", convert=modules),
    "galore_rank": at("optimizer[galore].rank"),
    "galore_update_interval": at("optimizer[galore].interval"),
    "galore_scale": at("optimizer[galore].scale"),
    "galore_proj_type": at("optimizer[galore].projection"),
    "galore_layerwise": at("optimizer[galore].layerwise"),
    "use_apollo": decides("optimizer.type", how='`true` is `"apollo"`'),
    "apollo_target": at("optimizer[apollo].targets", convert=modules),
    "apollo_rank": at("optimizer[apollo].rank"),
    "apollo_update_interval": at("optimizer[apollo].interval"),
    "apollo_scale": at("optimizer[apollo].scale"),
    "apollo_proj": at("optimizer[apollo].projection"),
    "apollo_proj_type": at("optimizer[apollo].side"),
    "apollo_scale_type": at("optimizer[apollo].scaling"),
    "apollo_layerwise": at("optimizer[apollo].layerwise"),
    "apollo_scale_front": at("optimizer[apollo].limit_after_scaling"),
    "use_badam": decides("optimizer.type", how='`true` is `"badam"` or `"badam-ratio"`'),
    "badam_mode": decides("optimizer.type", how='`layer` is `"badam"`, `ratio` is `"badam-ratio"`'),
    "badam_start_block": at("optimizer[badam].start_block"),
    "badam_switch_mode": at("optimizer[badam].order"),
    "badam_switch_interval": at("optimizer[badam|badam-ratio].interval"),
    "badam_update_ratio": at("optimizer[badam-ratio].ratio"),
    "badam_mask_mode": at("optimizer[badam-ratio].mask"),
    "badam_verbose": at("optimizer[badam|badam-ratio].verbose"),
    "use_adam_mini": decides("optimizer.type", how='`true` is `"adam-mini"`'),
    "use_muon": decides("optimizer.type", how='`true` is `"muon"`'),
}

SWANLAB: Table = {
    "use_swanlab": decides("logging.trackers[swanlab].type", how="`true` adds the tracker"),
    "swanlab_project": at("logging.trackers[swanlab].project", default="llamafactory"),
    "swanlab_workspace": at("logging.trackers[swanlab].workspace"),
    "swanlab_run_name": at("logging.trackers[swanlab].run_name"),
    "swanlab_mode": at("logging.trackers[swanlab].mode"),
    "swanlab_api_key": at("logging.trackers[swanlab].key_env", convert=variable("SWANLAB_API_KEY")),
    "swanlab_logdir": at("logging.trackers[swanlab].dir"),
    "swanlab_lark_webhook_url": at(
        "logging.trackers[swanlab].webhook_env", convert=variable("LARK_WEBHOOK_URL")
    ),
    "swanlab_lark_secret": at(
        "logging.trackers[swanlab].webhook_secret_env", convert=variable("LARK_WEBHOOK_SECRET")
    ),
}

TUNING: Table = {
    "pure_bf16": decides("training.precision", how='`true` is `"pure-bf16"`'),
    "use_mca": decides(
        "megatron", how="counts with USE_MCA in the environment only; the section switches it on"
    ),
    "use_megatron_bridge": decides(
        "megatron",
        how="counts with USE_MEGATRON_BRIDGE in the environment only; the section switches it on",
    ),
    "use_hyper_parallel": decides("hyper_parallel", how="`true` makes the section"),
    "hyper_parallel_args": at("hyper_parallel.config"),
    "hyper_parallel_cp_size": at("hyper_parallel.context_parallel"),
    "freeze_vision_tower": at("media.train_vision_tower", convert=negated),
    "freeze_multi_modal_projector": at("media.train_projector", convert=negated),
    "freeze_language_model": at("media.train_language_model", convert=negated),
    "compute_accuracy": at("evaluation.accuracy"),
    "disable_shuffling": at("data.shuffle", convert=negated),
    "early_stopping_steps": at("evaluation.patience"),
    "plot_loss": at("logging.plot", default=False),
    "include_effective_tokens_per_second": replaced(
        "tokens a second are always measured and logged", True, False
    ),
}
