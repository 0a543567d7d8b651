"""What an unknown name was probably meant to be: another spelling, another trainer's word, another section's key."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from attrs import frozen

from .diagnostics import Fix, Move, Rename, SpecPath
from .field_types import are_tables, arms_of, fields_of, table_classes
from .places import Table
from .spec import Spec
from .toml_words import either, section_header

RENAMED: dict[str, str] = {
    # LLaMA-Factory, Axolotl and TRL say -> here it is
    "model_name_or_path": "model.path",
    "base_model": "model.path",
    "pretrained_model_name_or_path": "model.path",
    "model_revision": "model.revision",
    "hf_hub_token": "model.token_env",
    "flash_attn": "model.attention",
    "attn_implementation": "model.attention",
    "tokenizer_name_or_path": "tokenizer.path",
    "template": "template.type",
    "chat_template": "template.type",
    "chat_template_jinja": "template.path",
    "dataset": "data.sources",
    "datasets": "data.sources",
    "dataset_dir": "data.sources",
    "train_file": "data.sources",
    "eval_dataset": "data.eval_sources",
    "test_datasets": "data.eval_sources",
    "val_size": "data.eval_rows",
    "val_set_size": "data.eval_rows",
    "cutoff_len": "data.max_length",
    "sequence_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "model_max_length": "data.max_length",
    "max_samples": "data.sources.limit",
    "finetuning_type": "method.type",
    "adapter": "method.type",
    "lora_rank": "method.rank",
    "lora_r": "method.rank",
    "r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_target": "method.targets",
    "lora_target_modules": "method.targets",
    "lora_target_linear": "method.targets",
    "target_modules": "method.targets",
    "stage": "objective.type",
    "rl": "objective.type",
    "train_on_inputs": "objective.loss_on",
    "train_on_prompt": "objective.loss_on",
    "assistant_only_loss": "objective.loss_on",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_steps": "training.steps",
    "learning_rate": "training.learning_rate",
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.schedule",
    "lr_scheduler": "training.schedule",
    "warmup_ratio": "training.warmup_ratio",
    "warmup_steps": "training.warmup_steps",
    "max_grad_norm": "training.max_grad_norm",
    "bf16": 'training.precision = "bf16"',
    "fp16": 'training.precision = "fp16"',
    "pure_bf16": 'training.precision = "bf16"',
    "seed": "training.seed",
    "optim": "optimizer.type",
    "adam_beta1": "optimizer.beta1",
    "adam_beta2": "optimizer.beta2",
    "adam_epsilon": "optimizer.epsilon",
    "weight_decay": "optimizer.weight_decay",
    "train_batch_size": "batch.global_size",
    "per_device_train_batch_size": "batch.micro_size",
    "micro_batch_size": "batch.micro_size",
    "train_micro_batch_size_per_gpu": "batch.micro_size",
    "gradient_accumulation_steps": "batch.accumulation_steps",
    "eval_steps": "evaluation.every_steps",
    "per_device_eval_batch_size": "evaluation.micro_size",
    "eval_batch_size": "evaluation.micro_size",
    "zero_optimization": "deepspeed.zero_stage",
    "num_processes": "launch.processes",
    "nproc_per_node": "launch.processes",
    "use_cpu": 'launch.device = "cpu"',
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep",
    "logging_steps": "logging.every_steps",
    "plot_loss": "logging.plot",
    "run_name": "run.name",
    "overwrite_output_dir": 'run.on_existing = "overwrite"',
    "resume_from_checkpoint": 'run.on_existing = "resume"',
    "auto_resume_from_checkpoints": 'run.on_existing = "resume"',
    "default_system": "generation.system",
    "export_dir": "export.output_dir",
    "export_size": "export.max_shard_gib",
}
"""Names of other trainers, with the key (or the setting) that takes their place in a spec."""

OTHER_MEANING = frozenset({"hf_hub_token", "template", "chat_template", "stage", "rl", "optim"})
"""Renamed keys whose values mean something else here, even where they look alike."""

_UNITS = ("_env", "_s", "_gib", "_mib")
"""Ends of keys that say what their value is; a value of another tool's key may be in another unit."""


@frozen
class Advice:
    """What to do about an unknown key; `claims` are the paths of the values it was probably meant for."""

    text: str = ""
    claims: tuple[SpecPath, ...] = ()
    fix: Fix | None = None


def advise(table: Table, key: str) -> Advice:
    """Propose what was meant: the same name spelled otherwise, a near one, another tool's, another section's."""
    if len(key) > 64:
        return Advice()
    absent = table.absent()
    same = [name for name in absent if name == _normalized(key)]
    near = same or _close(_normalized(key), absent, 0.8)
    if near:
        return _spelling(table, key, near[0], is_sure=len(near) == 1)
    elsewhere = _renamed(table, key) or _other_section(table, key)
    if elsewhere:
        return elsewhere
    far = _close(_normalized(key), absent, 0.6)
    return _spelling(table, key, far[0], is_sure=False) if far else Advice()


def _spelling(table: Table, key: str, name: str, *, is_sure: bool) -> Advice:
    shown = (
        name if table.path or not are_tables(arms_of(fields_of(Spec)[name].type)) else f"[{name}]"
    )
    fix = Rename((*table.path, key), name) if is_sure else None
    return Advice(f"a similar name is `{shown}`", ((*table.path, name),), fix)


def _renamed(table: Table, key: str) -> Advice | None:
    setting = RENAMED.get(key) or RENAMED.get(_normalized(key))
    if setting is None:
        return None
    target, _, value = setting.partition(" = ")
    path: SpecPath = tuple(target.split("."))
    shown = f"{target} = {value}" if value else target
    if value:
        return Advice(f"here this is `{shown}`", (path,))
    *section, name = target.split(".")
    fix = _renaming((*table.path, key), path)
    if tuple(section) == table.path:
        return Advice(f"here this is called `{name}`", (path,), fix)
    return Advice(f"here this is `{name}` in `{section_header(tuple(section))}`", (path,), fix)


def _renaming(old: SpecPath, new: SpecPath) -> Fix | None:
    """Return the fix for another tool's key, unless its value could mean something else."""
    if _normalized(str(old[-1])) in OTHER_MEANING or str(new[-1]).endswith(_UNITS):
        return None
    return Rename(old, str(new[-1])) if old[:-1] == new[:-1] else Move(old, new)


def _other_section(table: Table, key: str) -> Advice | None:
    name = _normalized(key)
    homes = [path for path in _homes().get(name, ()) if path != table.path]
    if not 0 < len(homes) <= 3:
        return None
    text = f"`{name}` belongs in {either([f'`{section_header(path)}`' for path in homes])}"
    if len(homes) > 1:
        return Advice(text)
    home: SpecPath = (*homes[0], name)
    return Advice(text, (home,), Move((*table.path, key), home))


@cache
def _homes() -> dict[str, list[tuple[str, ...]]]:
    """Return the sections in which each key exists; a table inside a section has a path of two names."""
    homes: dict[str, list[tuple[str, ...]]] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), Spec)]
    while waiting:
        path, cls = waiting.pop(0)
        for name, field in fields_of(cls).items():
            if path and path not in homes.setdefault(name, []):
                homes[name].append(path)
            waiting += [((*path, name), inner) for inner in table_classes(field.type)]
    return homes


def _normalized(key: str) -> str:
    """Return a name in our spelling: `learningRate` and `Learning-Rate` become `learning_rate`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+", "_", key).lower()


def nearest(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the choice that is spelled most like the value; None when none is."""
    names = _texts(value, choices)
    near = _same_word(value, names) or (_close(value.lower(), names, 0.6) if names else [])
    return next(iter(near), None)


def same_word(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the one choice that differs from the value in case, `_` and `-` only; None when there is none."""
    same = _same_word(value, _texts(value, choices))
    return same[0] if len(same) == 1 else None


def _texts(value: Any, choices: tuple[Any, ...]) -> list[str]:
    if not isinstance(value, str) or len(value) > 64:
        return []
    return [choice for choice in choices if isinstance(choice, str)]


def _same_word(value: Any, names: list[str]) -> list[str]:
    return [name for name in names if _plain_word(name) == _plain_word(value)]


def _plain_word(text: str) -> str:
    return text.strip().lower().replace("_", "-").replace(" ", "-")


def _close(word: str, names: list[str], cutoff: float) -> list[str]:
    """Return the near names, the nearest first."""
    import difflib  # only faulty specs pay for it

    return difflib.get_close_matches(word, names, n=2, cutoff=cutoff)
