"""LLaMA-Factory's arguments for models, quantization, media, engines and export, and where they live here."""

from __future__ import annotations

from ..convert import SKIP, options, positive, variable, words
from .entries import Home, Table, at, decides, replaced

DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}

MODEL: Table = {
    "model_name_or_path": at("model.path"),
    "adapter_name_or_path": at("adapters.paths"),
    "adapter_folder": at("adapters.subfolder"),
    "cache_dir": at("model.cache_dir"),
    "use_fast_tokenizer": at("tokenizer.fast"),
    "resize_vocab": at("tokenizer.resize"),
    "split_special_tokens": at("tokenizer.split_special_tokens"),
    "add_tokens": at("tokenizer.add_tokens"),
    "add_special_tokens": at("tokenizer.add_special_tokens"),
    "new_special_tokens_config": decides(
        "tokenizer.described_tokens",
        how="the YAML file is read; it replaces `add_special_tokens`",
    ),
    "init_special_tokens": at(
        "tokenizer.new_rows",
        convert=words(
            noise_init="noise", desc_init="description", desc_init_w_noise="description-noise"
        ),
    ),
    "model_revision": at("model.revision"),
    "low_cpu_mem_usage": at("model.low_memory_loading"),
    "rope_scaling": decides("model.rope.type", how="the name is the same"),
    "flash_attn": at(
        "model.attention",
        convert=words(
            auto="auto",
            disabled="eager",
            sdpa="sdpa",
            fa2="flash2",
            fa3="flash3",
            true="flash2",
            false="auto",
        ),
    ),
    "shift_attn": at("model.shifted_attention"),
    "mixture_of_depths": at("model.mixture_of_depths"),
    "use_unsloth": at("kernels.unsloth"),
    "use_unsloth_gc": at("training.offload_activations"),
    "enable_liger_kernel": at("kernels.liger"),
    "moe_aux_loss_coef": at("model.moe_aux_loss"),
    "disable_gradient_checkpointing": decides(
        "training.gradient_checkpointing", how="the opposite"
    ),
    "use_reentrant_gc": decides(
        "training.checkpointing_reentrant", how="the value as it is; LLaMA-Factory's default is on"
    ),
    "upcast_layernorm": at("model.fp32_norms"),
    "upcast_lmhead_output": at("model.fp32_logits"),
    "train_from_scratch": at("model.init", convert=words(true="random", false="pretrained")),
    "infer_backend": decides(
        "inference.type", how="`huggingface` is `transformers`; `vllm`, `sglang` as they are"
    ),
    "offload_folder": at("inference[transformers].offload_dir"),
    "use_kv_cache": at("generation.kv_cache"),
    "use_v1_kernels": at("kernels.npu"),
    "infer_dtype": (
        Home("inference.dtype", words(auto="auto", **DTYPES)),
        Home("export.dtype", words(auto="same", **DTYPES)),
    ),
    "hf_hub_token": at("model.token_env", convert=variable("HF_TOKEN")),
    "ms_hub_token": at("model.token_env", convert=variable("MODELSCOPE_API_TOKEN")),
    "om_hub_token": at("model.token_env", convert=variable("OPENMIND_TOKEN")),
    "print_param_status": at("logging.parameters"),
    "trust_remote_code": at("model.trust_remote_code"),
}

QUANTIZATION: Table = {
    "quantization_method": decides(
        "quantization.type",
        how="`bnb` is `bitsandbytes`; `hqq` and `eetq` as they are; the others quantized nothing there",
    ),
    "quantization_bit": at("quantization[bitsandbytes|hqq|eetq].bits"),
    "quantization_type": at("quantization[bitsandbytes].format"),
    "double_quantization": at("quantization[bitsandbytes].double"),
    "quantization_device_map": at("inference[transformers].device_map"),
}

PROCESSOR: Table = {
    "image_max_pixels": at("media.image_max_pixels"),
    "image_min_pixels": at("media.image_min_pixels"),
    "image_do_pan_and_scan": at("media.pan_and_scan"),
    "crop_to_patches": at("media.tiles"),
    "video_max_pixels": at("media.video_max_pixels"),
    "video_min_pixels": at("media.video_min_pixels"),
    "video_fps": at("media.video_fps"),
    "video_maxlen": at("media.video_max_frames"),
    "use_audio_in_video": at("media.video_sound"),
    "audio_sampling_rate": at("media.audio_rate_hz"),
}

EXPORT: Table = {
    "export_dir": at("export.output_dir"),
    "export_size": at("export.max_shard_gib"),
    "export_device": at("export.device"),
    "export_quantization_bit": at("export.quantization.bits"),
    "export_quantization_dataset": at("export.quantization.data"),
    "export_quantization_nsamples": at("export.quantization.samples"),
    "export_quantization_maxlen": at("export.quantization.max_length"),
    "export_legacy_format": replaced(
        "`tunec export` always writes safetensors: loading a `.bin` file can run code, a safetensors file cannot",
        False,
    ),
    "export_hub_model_id": at("export.push"),
}

ENGINES: Table = {
    "vllm_maxlen": at("inference[vllm].max_length"),
    "vllm_gpu_util": at("inference[vllm].memory_share"),
    "vllm_enforce_eager": at("inference[vllm].eager"),
    "vllm_max_lora_rank": at("inference[vllm].max_adapter_rank"),
    "vllm_config": at("inference[vllm].options", convert=options),
    "sglang_maxlen": at("inference[sglang].max_length"),
    "sglang_mem_fraction": at("inference[sglang].memory_share"),
    "sglang_tp_size": at("inference[sglang].tensor_parallel", convert=positive),
    "sglang_config": at("inference[sglang].options", convert=options),
    "sglang_lora_backend": at("inference[sglang].adapter_backend"),
    "use_kt": decides("ktransformers", how="`true` makes the section"),
    "kt_cpu_activation": at("ktransformers.activations"),
    "kt_weight_path": at("ktransformers.expert_weights"),
    "kt_non_expert_weight_path": at("ktransformers.other_weights"),
    "kt_expert_checkpoint_path": at("ktransformers.expert_checkpoint"),
    "kt_use_lora_experts": at("ktransformers.lora_experts"),
    "kt_lora_expert_num": at("ktransformers.num_lora_experts"),
    "kt_lora_expert_intermediate_size": at("ktransformers.lora_expert_size"),
    "kt_config": at("ktransformers.options", convert=options),
}

MEGATRON: Table = {
    "tensor_model_parallel_size": at("megatron.tensor_parallel"),
    "pipeline_model_parallel_size": at("megatron.pipeline_parallel"),
    "expert_model_parallel_size": at("megatron.expert_parallel"),
    "context_parallel_size": at("megatron.context_parallel"),
    "virtual_pipeline_model_parallel_size": at("megatron.virtual_pipeline"),
    "sequence_parallel": at("megatron.sequence_parallel"),
    "recompute_granularity": at(
        "megatron.recompute", convert=words(full="full", selective="selective", none=SKIP)
    ),
    "recompute_method": at("megatron.recompute_method"),
    "recompute_num_layers": at("megatron.recompute_layers"),
    "account_for_embedding_in_pipeline_split": at("megatron.embedding_in_split"),
    "account_for_loss_in_pipeline_split": at("megatron.loss_in_split"),
    "bias_activation_fusion": at("megatron.fuse_bias"),
    "apply_rope_fusion": at("megatron.fuse_rope"),
    "masked_softmax_fusion": at("megatron.fuse_softmax"),
    "cross_entropy_loss_fusion": at("megatron.fuse_cross_entropy"),
    "moe_grouped_gemm": at("megatron.grouped_experts"),
    "moe_token_dispatcher_type": at("megatron.token_dispatcher"),
    "calculate_per_token_loss": at("megatron.per_token_loss"),
    "use_distributed_optimizer": at("megatron.distributed_optimizer"),
    "overlap_param_gather": at("megatron.overlap_gather"),
    "overlap_grad_reduce": at("megatron.overlap_reduce"),
    "use_packed_sequences": at("megatron.packed_sequences"),
    "mixed_precision": at("megatron.precision"),
    "megatron_pretrained_checkpoint": at("megatron.checkpoint"),
    "export_hf_on_finish": at("megatron.export"),
    "extra_config": at("megatron.options", convert=options),
}
