"""Other trainers' names as one word of advice each: the key, or the setting, that takes their place."""

from __future__ import annotations

from functools import cache

from ..convert import Convert, modules, positive, same, share_or_count
from ..paths import plain
from . import entries
from .axolotl import AXOLOTL
from .entries import Entry, Replaced
from .trl import TRL

SETTINGS = {
    "bf16": 'training.precision = "bf16"',
    "fp16": 'training.precision = "fp16"',
    "pure_bf16": 'training.precision = "pure-bf16"',
    "fp8": 'training.precision = "fp8"',
    "use_cpu": 'launch.device = "cpu"',
    "overwrite_output_dir": 'run.on_existing = "overwrite"',
    "resume_from_checkpoint": 'run.on_existing = "resume"',
    "auto_resume_from_checkpoints": 'run.on_existing = "resume"',
    "template": "template.type",
    "chat_template": "template.type",
    "dataset_dir": "data.sources",
    "max_samples": "data.sources.limit",
    "deepspeed": "deepspeed.zero_stage",
    "fsdp": "deepspeed.zero_stage",
    "push_to_hub": "hub.repository",
    "enable_torch_profiler": "profiler.output_dir",
    "use_hyper_parallel": "hyper_parallel.config",
    "use_kt": "ktransformers.expert_weights",
    "use_mca": "megatron.tensor_parallel",
    "use_megatron_bridge": "megatron.tensor_parallel",
}
"""Names whose advice is better than their first home."""

OTHERS = {
    "pretrained_model_name_or_path": "model.path",
    "tokenizer_name_or_path": "tokenizer.path",
    "train_file": "data.sources",
    "model_max_length": "data.max_length",
    "r": "method.rank",
    "target_modules": "method.targets",
    "lr": "training.learning_rate",
    "train_batch_size": "batch.global_size",
    "train_micro_batch_size_per_gpu": "batch.micro_size",
    "eval_batch_size": "evaluation.micro_size",
    "zero_optimization": "deepspeed.zero_stage",
    "num_processes": "launch.processes",
    "nproc_per_node": "launch.processes",
    "chat_template_jinja": "template.path",
}
"""Names of still other tools."""

PLAIN: tuple[Convert, ...] = (same, modules, positive, share_or_count)
"""Conversions that leave a sensible value as it is."""


SAFE = frozenset(
    {
        *("cutoff_len", "num_epochs", "num_train_epochs", "warmup_steps", "warmup_ratio", "seed"),
        *("eval_steps", "save_steps", "logging_steps", "lr_scheduler", "lr_scheduler_type"),
        *("finetuning_type", "data_seed", "dataset_text_field"),
    }
)
"""Names that are decided with others, or whose words are translated, and whose usual values are right all the same."""


@cache
def _tables() -> dict[str, Entry]:
    return {**AXOLOTL, **TRL, **entries()}


@cache
def renamed() -> dict[str, str]:
    """Return the key, or the setting (`key = value`), that takes the place of each name."""
    homes = {
        name: ".".join(str(part) for part in plain(entry[0].path))
        for name, entry in _tables().items()
        if not isinstance(entry, Replaced)
    }
    keys = {name: path for name, path in homes.items() if "." in path}
    return keys | OTHERS | SETTINGS


@cache
def other_meaning() -> frozenset[str]:
    """Return the names whose values mean something else here, even where they look alike."""
    return frozenset(
        name
        for name, entry in _tables().items()
        if not isinstance(entry, Replaced)
        and name not in SAFE
        and (len(entry) > 1 or entry[0].together or entry[0].convert not in PLAIN)
    )


def replacement(name: str) -> str:
    """Return the sentence that says what replaces a name without a home; empty where it has one."""
    entry = _tables().get(name)
    return entry.text if isinstance(entry, Replaced) else ""
