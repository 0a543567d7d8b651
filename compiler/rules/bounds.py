"""What numbers may be: the ranges of all settings but those of the model and the method (`ranges`)."""

from __future__ import annotations

import math

from attrs import frozen


@frozen
class Range:
    """Allowed numbers; `above` and `below` exclude their end, `least` and `most` include it."""

    text: str
    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Tell whether `value` is allowed."""
        return self.least <= value <= self.most and self.above < value < self.below


COUNT = Range("at least 1", least=1)
NATURAL = Range("0 or more", least=0)
POSITIVE = Range("above 0", above=0)
SHARE = Range("from 0 to below 1", least=0, below=1)
UNIT = Range("from 0 to 1", least=0, most=1)
PART = Range("above 0 up to 1", above=0, most=1)
ANY = Range("any finite number")
SEED = Range("from 0 to 4,294,967,295", least=0, most=2**32 - 1)
PORT = Range("from 1,024 to 65,535", least=1024, most=65535)
SMOOTHING = Range("from 0 to 0.5", least=0, most=0.5)
"""Half of the labels wrong is no information; more would turn the objective round."""

DATA: dict[str, Range] = {
    "data.max_length": Range("at least 2", least=2),
    "data.eval_rows": NATURAL,
    "data.sources.*.limit": COUNT,
    "data.sources.*.sample": COUNT,
    "data.sources.*.weight": POSITIVE,
    "data.eval_sources.*.limit": COUNT,
    "data.eval_sources.*.sample": COUNT,
    "data.eval_sources.*.weight": POSITIVE,
    "data.reserved_answer": NATURAL,
    "data.pad_multiple": COUNT,
    "data.max_bad_share": UNIT,
    "data.seed": SEED,
    "data.shuffle_buffer": COUNT,
    "data.workers": COUNT,
    "data.batch_rows": COUNT,
    "data.loader_workers": Range("from 0 to 256", least=0, most=256),
    "data.loader_prefetch": COUNT,
}

OBJECTIVE: dict[str, Range] = {
    "objective.label_smoothing": SMOOTHING,
    "objective.loss.label_smoothing": SMOOTHING,
    "objective[dpo].loss[robust].label_smoothing": Range("from 0 to below 0.5", least=0, below=0.5),
    "objective.loss.alpha": NATURAL,
    "objective.center": NATURAL,
    "objective.beta": POSITIVE,
    "objective[grpo].beta": NATURAL,
    "objective.gamma": NATURAL,
    "objective.sft_weight": NATURAL,
    "objective.bco_weight": NATURAL,
    "objective.ld_alpha": UNIT,
    "objective.desirable_weight": POSITIVE,
    "objective.undesirable_weight": POSITIVE,
    "objective.buffer_batches": COUNT,
    "objective.epochs": COUNT,
    "objective.kl_target": POSITIVE,
    "objective.kl_start": NATURAL,
    "objective.clip": POSITIVE,
    "objective.value_clip": POSITIVE,
    "objective.value_weight": NATURAL,
    "objective.discount": UNIT,
    "objective.gae_lambda": UNIT,
    "objective.group_size": Range("at least 2", least=2),
    "objective.clip_low": PART,
    "objective.clip_high": POSITIVE,
    "objective.updates": COUNT,
    "objective.reward.timeout_s": POSITIVE,
    "objective.reward.retries": NATURAL,
    "objective.generator.connections": COUNT,
    "objective.generator.timeout_s": POSITIVE,
    "objective.generator.retries": NATURAL,
    "objective.reward.weight": ANY,
    "objective.rewards.*.timeout_s": POSITIVE,
    "objective.rewards.*.retries": NATURAL,
    "objective.rewards.*.weight": ANY,
    "objective.reference.quantization.group_size": COUNT,
    "objective.loss.reference.quantization.group_size": COUNT,
    "objective.reward.quantization.group_size": COUNT,
    "objective.rewards.*.quantization.group_size": COUNT,
}

TRAINING: dict[str, Range] = {
    "training.epochs": POSITIVE,
    "training.steps": COUNT,
    "training.learning_rate": Range("above 0 and below 1", above=0, below=1),
    "training.groups.*.rate_factor": Range("above 0 up to 1,000", above=0, most=1000),
    "training.groups.*.weight_decay": NATURAL,
    "training.ema_decay": Range("above 0 and below 1", above=0, below=1),
    "training.warmup_steps": NATURAL,
    "training.warmup_ratio": SHARE,
    "training.min_rate_ratio": SHARE,
    "training.cycles": POSITIVE,
    "training.power": POSITIVE,
    "training.plateau_factor": Range("above 0 and below 1", above=0, below=1),
    "training.plateau_patience": NATURAL,
    "training.stable_steps": NATURAL,
    "training.max_grad_norm": NATURAL,
    "training.neftune_alpha": POSITIVE,
    "training.empty_cache_steps": COUNT,
    "training.seed": SEED,
    "batch.global_size": COUNT,
    "batch.micro_size": COUNT,
    "batch.micro_tokens": COUNT,
    "batch.accumulation_steps": COUNT,
    "evaluation.every_steps": COUNT,
    "evaluation.micro_size": COUNT,
    "evaluation.delay_steps": NATURAL,
    "evaluation.max_new_tokens": COUNT,
    "evaluation.num_beams": COUNT,
    "evaluation.patience": COUNT,
    "benchmark.batch_size": COUNT,
    "benchmark.seed": SEED,
    "benchmark.shots": Range("from 0 to 100", least=0, most=100),
    "checkpoints.every_steps": NATURAL,
    "checkpoints.keep": NATURAL,
    "logging.every_steps": COUNT,
    "profiler.wait_steps": NATURAL,
    "profiler.warmup_steps": NATURAL,
    "profiler.active_steps": COUNT,
    "profiler.repeat": NATURAL,
}

MACHINES: dict[str, Range] = {
    "deepspeed.reduce_bucket_size": COUNT,
    "deepspeed.allgather_bucket_size": COUNT,
    "deepspeed.prefetch_bucket_size": NATURAL,
    "deepspeed.persistence_threshold": NATURAL,
    "deepspeed.max_live_parameters": COUNT,
    "deepspeed.max_reuse_distance": COUNT,
    "deepspeed.sub_group_size": COUNT,
    "deepspeed.hpz_partition_size": COUNT,
    "deepspeed.timeout_s": Range("from 10 to 1,000,000,000 seconds", least=10, most=10**9),
    "megatron.tensor_parallel": COUNT,
    "megatron.pipeline_parallel": COUNT,
    "megatron.virtual_pipeline": COUNT,
    "megatron.expert_parallel": COUNT,
    "megatron.context_parallel": COUNT,
    "megatron.recompute_layers": COUNT,
    "megatron.options.*": ANY,
    "ktransformers.options.*": ANY,
    "launch.init.*": ANY,
    "hyper_parallel.context_parallel": COUNT,
    "ktransformers.num_lora_experts": COUNT,
    "ktransformers.lora_expert_size": COUNT,
    "launch.processes": Range("from 1 to 1,024", least=1, most=1024),
    "launch.nodes": Range("from 1 to 10,000", least=1, most=10_000),
    "launch.processes_per_node": Range("from 1 to 1,024", least=1, most=1024),
    "launch.memory_gib": POSITIVE,
    "launch.port": PORT,
    "launch.ssh_port": Range("from 1 to 65,535", least=1, most=65535),
    "launch.grace_s": Range("from 5 to 86,400 seconds", least=5, most=86400),
    "launch.max_restarts": Range("from 0 to 1,000", least=0, most=1000),
    "launch.cpus_per_process": Range("from 1 to 1,024", least=1, most=1024),
}

RESULT: dict[str, Range] = {
    "generation.max_new_tokens": COUNT,
    "generation.max_length": COUNT,
    "generation.temperature": Range("from 0 to 5", least=0, most=5),
    "generation.top_p": PART,
    "generation.top_k": NATURAL,
    "generation.num_beams": COUNT,
    "generation.repetition_penalty": Range("from 0.5 to 5", least=0.5, most=5),
    "generation.length_penalty": Range("from -10 to 10", least=-10, most=10),
    "inference.max_length": COUNT,
    "inference.memory_share": Range("above 0 and below 1", above=0, below=1),
    "inference.max_adapter_rank": COUNT,
    "inference.tensor_parallel": COUNT,
    "inference.options.*": ANY,
    "export.max_shard_gib": POSITIVE,
    "export.quantization.samples": COUNT,
    "export.quantization.max_length": COUNT,
}

BOUNDS = {**DATA, **OBJECTIVE, **TRAINING, **MACHINES, **RESULT}
