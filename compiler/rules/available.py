"""What the runtime does not do yet: such a spec can be written and checked, but not compiled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import attrs

from ..diagnostics import Diagnostic, SpecPath, error
from ..facts import Facts
from ..field_types import class_of, default_of, fields_of, is_section, tag_of
from ..spec import Spec
from ..toml_words import dotted, toml_value
from .look import data_facts
from .rule import Rule
from .walk import tables

HONOURED: dict[str, tuple[Any, ...] | None] = {
    # Name of a setting -> the values that are honoured, None for all. Everything else is refused: a setting that
    # this table forgets can never be ignored in silence.
    "allow": None,
    "run.output_dir": None,
    "run.name": None,
    "run.on_existing": None,
    "model.path": None,
    "model.hub": None,
    "model.init": None,
    "model.allow_pickle": None,
    "model.low_memory_loading": None,
    "model.moe_aux_loss": None,
    "model.revision": None,
    "model.cache_dir": None,
    "model.token_env": None,
    "model.trust_remote_code": None,
    "model.attention": None,
    "kernels.liger": None,
    "kernels.liger_ops": None,
    "kernels.compile": None,
    "kernels.compile_backend": None,
    "kernels.compile_mode": None,
    "model.shifted_attention": None,
    "model.mixture_of_depths": None,
    "model.fp32_norms": None,
    "model.fp32_logits": None,
    "model.rope[linear]": None,
    "model.rope[linear].factor": None,
    "model.rope[dynamic]": None,
    "model.rope[dynamic].factor": None,
    "model.rope[yarn]": None,
    "model.rope[yarn].factor": None,
    "model.rope[yarn].beta_fast": None,
    "model.rope[yarn].beta_slow": None,
    "model.rope[llama3]": None,
    "model.rope[llama3].factor": None,
    "model.rope[llama3].low_freq_factor": None,
    "model.rope[llama3].high_freq_factor": None,
    "adapters.paths": None,
    "adapters.subfolder": None,
    "adapters.then": None,
    "adapters.combine": None,
    "adapters.weights": None,
    "tokenizer.path": None,
    "tokenizer.fast": None,
    "tokenizer.split_special_tokens": None,
    "tokenizer.add_tokens": None,
    "tokenizer.add_special_tokens": None,
    "tokenizer.described_tokens": None,
    "tokenizer.new_rows": None,
    "tokenizer.resize": None,
    "tokenizer.pad_to_multiple": None,
    "template[tokenizer]": None,
    "template[tokenizer].system": None,
    "template[tokenizer].tool_format": None,
    "template[tokenizer].thinking": None,
    "template[tokenizer].keep_thoughts": None,
    "template[tokenizer].efficient_eos": None,
    "template[file]": None,
    "template[file].path": None,
    "template[file].system": None,
    "template[file].tool_format": None,
    "template[file].thinking": None,
    "template[file].keep_thoughts": None,
    "template[file].efficient_eos": None,
    "template[named]": None,
    "template[named].name": None,
    "template[named].system": None,
    "template[named].tool_format": None,
    "template[named].thinking": None,
    "template[named].keep_thoughts": None,
    "template[named].efficient_eos": None,
    "template[named].replace_eos": None,
    "quantization[none]": None,
    "quantization[bitsandbytes]": None,
    "quantization[bitsandbytes].bits": None,
    "quantization[bitsandbytes].format": None,
    "quantization[bitsandbytes].double": None,
    "quantization[hqq]": None,
    "quantization[hqq].bits": None,
    "quantization[hqq].group_size": None,
    "quantization[eetq]": None,
    "quantization[eetq].bits": None,
    "quantization[quanto]": None,
    "quantization[quanto].bits": None,
    "quantization[torchao]": None,
    "quantization[torchao].bits": None,
    "quantization[torchao].group_size": None,
    "quantization_aware": None,
    "quantization_aware.type": None,
    "quantization_aware.group_size": None,
    "data.sources": None,
    "data.sources.*[alpaca]": None,
    "data.sources.*[alpaca].path": None,
    "data.sources.*[alpaca].name": None,
    "data.sources.*[alpaca].hub": None,
    "data.sources.*[alpaca].revision": None,
    "data.sources.*[alpaca].subset": None,
    "data.sources.*[alpaca].split": None,
    "data.sources.*[alpaca].folder": None,
    "data.sources.*[alpaca].token_env": None,
    "data.sources.*[alpaca].limit": None,
    "data.sources.*[alpaca].sample": None,
    "data.sources.*[alpaca].weight": None,
    "data.sources.*[alpaca].tools": None,
    "data.sources.*[alpaca].chosen": None,
    "data.sources.*[alpaca].rejected": None,
    "data.sources.*[alpaca].label": None,
    "data.sources.*[alpaca].instruction": None,
    "data.sources.*[alpaca].input": None,
    "data.sources.*[alpaca].output": None,
    "data.sources.*[alpaca].system": None,
    "data.sources.*[alpaca].history": None,
    "data.sources.*[messages]": None,
    "data.sources.*[messages].path": None,
    "data.sources.*[messages].name": None,
    "data.sources.*[messages].hub": None,
    "data.sources.*[messages].revision": None,
    "data.sources.*[messages].subset": None,
    "data.sources.*[messages].split": None,
    "data.sources.*[messages].folder": None,
    "data.sources.*[messages].token_env": None,
    "data.sources.*[messages].limit": None,
    "data.sources.*[messages].sample": None,
    "data.sources.*[messages].weight": None,
    "data.sources.*[messages].tools": None,
    "data.sources.*[messages].chosen": None,
    "data.sources.*[messages].rejected": None,
    "data.sources.*[messages].label": None,
    "data.sources.*[messages].messages": None,
    "data.sources.*[messages].role": None,
    "data.sources.*[messages].content": None,
    "data.sources.*[sharegpt]": None,
    "data.sources.*[sharegpt].path": None,
    "data.sources.*[sharegpt].name": None,
    "data.sources.*[sharegpt].hub": None,
    "data.sources.*[sharegpt].revision": None,
    "data.sources.*[sharegpt].subset": None,
    "data.sources.*[sharegpt].split": None,
    "data.sources.*[sharegpt].folder": None,
    "data.sources.*[sharegpt].token_env": None,
    "data.sources.*[sharegpt].limit": None,
    "data.sources.*[sharegpt].sample": None,
    "data.sources.*[sharegpt].weight": None,
    "data.sources.*[sharegpt].tools": None,
    "data.sources.*[sharegpt].chosen": None,
    "data.sources.*[sharegpt].rejected": None,
    "data.sources.*[sharegpt].label": None,
    "data.sources.*[sharegpt].messages": None,
    "data.sources.*[sharegpt].role": None,
    "data.sources.*[sharegpt].content": None,
    "data.sources.*[sharegpt].system": None,
    "data.sources.*[sharegpt].user_tag": None,
    "data.sources.*[sharegpt].assistant_tag": None,
    "data.sources.*[sharegpt].system_tag": None,
    "data.sources.*[sharegpt].tool_call_tag": None,
    "data.sources.*[sharegpt].tool_result_tag": None,
    "data.sources.*[text]": None,
    "data.sources.*[text].path": None,
    "data.sources.*[text].name": None,
    "data.sources.*[text].hub": None,
    "data.sources.*[text].revision": None,
    "data.sources.*[text].subset": None,
    "data.sources.*[text].split": None,
    "data.sources.*[text].folder": None,
    "data.sources.*[text].token_env": None,
    "data.sources.*[text].limit": None,
    "data.sources.*[text].sample": None,
    "data.sources.*[text].weight": None,
    "data.sources.*[text].text": None,
    "data.sources.*[preference]": None,
    "data.sources.*[preference].path": None,
    "data.sources.*[preference].name": None,
    "data.sources.*[preference].hub": None,
    "data.sources.*[preference].revision": None,
    "data.sources.*[preference].subset": None,
    "data.sources.*[preference].split": None,
    "data.sources.*[preference].folder": None,
    "data.sources.*[preference].token_env": None,
    "data.sources.*[preference].limit": None,
    "data.sources.*[preference].sample": None,
    "data.sources.*[preference].weight": None,
    "data.sources.*[preference].prompt": None,
    "data.sources.*[preference].chosen": None,
    "data.sources.*[preference].rejected": None,
    "data.sources.*[preference].margin": None,
    "data.sources.*[prompt]": None,
    "data.sources.*[prompt].path": None,
    "data.sources.*[prompt].name": None,
    "data.sources.*[prompt].hub": None,
    "data.sources.*[prompt].revision": None,
    "data.sources.*[prompt].subset": None,
    "data.sources.*[prompt].split": None,
    "data.sources.*[prompt].folder": None,
    "data.sources.*[prompt].token_env": None,
    "data.sources.*[prompt].limit": None,
    "data.sources.*[prompt].sample": None,
    "data.sources.*[prompt].weight": None,
    "data.sources.*[prompt].prompt": None,
    "data.sources.*[prompt].answer": None,
    "data.sources.*[catalog]": None,
    "data.sources.*[catalog].entry": None,
    "data.sources.*[catalog].catalog": None,
    "data.sources.*[catalog].limit": None,
    "data.sources.*[catalog].weight": None,
    "data.eval_sources": None,
    "data.eval_rows": None,
    "data.max_length": None,
    "data.too_long": None,
    "data.reserved_answer": None,
    "data.bad_rows": None,
    "data.max_bad_share": None,
    "data.prepared_dir": None,
    "data.rebuild": None,
    "data.workers": None,
    "data.batch_rows": None,
    "data.shared_storage": None,
    "data.seed": None,
    "data.loader_workers": None,
    "data.loader_prefetch": None,
    "data.loader_persistent": None,
    "data.pin_memory": None,
    "data.mix": None,
    "data.shuffle": None,
    "data.shuffle_buffer": None,
    "data.streaming": None,
    "data.group_by_length": None,
    "data.packing": None,
    "data.pad_multiple": None,
    "method[full]": None,
    "method[lisa]": None,
    "method[lisa].blocks": None,
    "method[lisa].interval": None,
    "method[lora].b_rate_ratio": None,
    "method[lora].embedding_rate": None,
    "method[lora].freeze_a": None,
    "method[lora]": None,
    "method[lora].rank": None,
    "method[lora].alpha": None,
    "method[lora].dropout": None,
    "method[lora].targets": None,
    "method[lora].init[default]": None,
    "method[lora].rank_stabilized": None,
    "method[lora].dora": None,
    "method[lora].bias": None,
    "method[lora].rank_pattern": None,
    "method[lora].alpha_pattern": None,
    "method[lora].full_modules": None,
    "method[lora].layers": None,
    "method[lora].expanded_blocks": None,
    "method[lora].parameters": None,
    "method[lora].trainable_tokens": None,
    "method[lora].init[gaussian]": None,
    "method[lora].init[pissa]": None,
    "method[lora].init[pissa].iterations": None,
    "method[lora].init[pissa].exact": None,
    "method[lora].init[pissa].convert": None,
    "method[lora].init[olora]": None,
    "method[lora].init[eva]": None,
    "method[lora].init[eva].rho": None,
    "method[lora].init[eva].batches": None,
    "method[lora].init[corda]": None,
    "method[lora].init[corda].mode": None,
    "method[lora].init[corda].batches": None,
    "method[lora].init[loftq]": None,
    "method[lora].init[loftq].iterations": None,
    "method[freeze]": None,
    "method[freeze].blocks": None,
    "method[freeze].side": None,
    "method[freeze].modules": None,
    "method[freeze].extra_modules": None,
    "method[freeze].expanded": None,
    "method[oft]": None,
    "method[oft].targets": None,
    "method[oft].layers": None,
    "method[oft].full_modules": None,
    "method[oft].block_size": None,
    "method[oft].num_blocks": None,
    "method[oft].dropout": None,
    "method[boft]": None,
    "method[boft].targets": None,
    "method[boft].layers": None,
    "method[boft].full_modules": None,
    "method[boft].block_size": None,
    "method[boft].factors": None,
    "method[boft].dropout": None,
    "method[ia3]": None,
    "method[ia3].targets": None,
    "method[ia3].full_modules": None,
    "method[ia3].feedforward": None,
    "method[adalora]": None,
    "method[adalora].targets": None,
    "method[adalora].layers": None,
    "method[adalora].full_modules": None,
    "method[adalora].rank": None,
    "method[adalora].initial_rank": None,
    "method[adalora].alpha": None,
    "method[adalora].dropout": None,
    "method[adalora].warmup_steps": None,
    "method[adalora].final_steps": None,
    "method[adalora].interval": None,
    "method[vera]": None,
    "method[vera].targets": None,
    "method[vera].layers": None,
    "method[vera].full_modules": None,
    "method[vera].rank": None,
    "method[vera].dropout": None,
    "method[loha]": None,
    "method[loha].targets": None,
    "method[loha].layers": None,
    "method[loha].full_modules": None,
    "method[loha].rank": None,
    "method[loha].alpha": None,
    "method[loha].dropout": None,
    "method[lokr]": None,
    "method[lokr].targets": None,
    "method[lokr].layers": None,
    "method[lokr].full_modules": None,
    "method[lokr].rank": None,
    "method[lokr].alpha": None,
    "method[lokr].dropout": None,
    "method[prefix]": None,
    "method[prefix].num_tokens": None,
    "method[prefix].projection": None,
    "method[prompt]": None,
    "method[prompt].num_tokens": None,
    "method[prompt].text": None,
    "objective[pretraining]": None,
    "objective[sft]": None,
    "objective[sft].loss_on": None,
    "objective[sft].loss_on_thoughts": None,
    "objective[sft].loss[cross-entropy]": None,
    "training.epochs": None,
    "training.steps": None,
    "training.learning_rate": None,
    "training.groups": None,
    "training.groups.*": None,
    "training.groups.*.pattern": None,
    "training.groups.*.rate_factor": None,
    "training.groups.*.weight_decay": None,
    "training.ema_decay": None,
    "training.schedule": None,
    "training.min_rate_ratio": None,
    "training.cycles": None,
    "training.power": None,
    "training.plateau_factor": None,
    "training.plateau_patience": None,
    "training.stable_steps": None,
    "training.warmup_steps": None,
    "training.warmup_ratio": None,
    "training.max_grad_norm": None,
    "training.precision": None,
    "training.fp8_backend": None,
    "training.gradient_checkpointing": None,
    "training.checkpointing_reentrant": None,
    "training.tf32": None,
    "training.offload_activations": None,
    "training.neftune_alpha": None,
    "training.deterministic": None,
    "training.detect_anomalies": None,
    "training.empty_cache_steps": None,
    "training.seed": None,
    "optimizer[adamw]": None,
    "optimizer[adamw].beta1": None,
    "optimizer[adamw].beta2": None,
    "optimizer[adamw].epsilon": None,
    "optimizer[adamw].weight_decay": None,
    "optimizer[adamw].state": None,
    "optimizer[adafactor]": None,
    "optimizer[adafactor].weight_decay": None,
    "optimizer[sgd]": None,
    "optimizer[sgd].momentum": None,
    "optimizer[sgd].weight_decay": None,
    "optimizer[lion]": None,
    "optimizer[lion].beta1": None,
    "optimizer[lion].beta2": None,
    "optimizer[lion].weight_decay": None,
    "optimizer[lion].state": None,
    "optimizer[adam-mini]": None,
    "optimizer[adam-mini].beta1": None,
    "optimizer[adam-mini].beta2": None,
    "optimizer[adam-mini].epsilon": None,
    "optimizer[adam-mini].weight_decay": None,
    "optimizer[muon]": None,
    "optimizer[muon].momentum": None,
    "optimizer[muon].newton_schulz_steps": None,
    "optimizer[muon].weight_decay": None,
    "optimizer[galore]": None,
    "optimizer[galore].base": None,
    "optimizer[galore].targets": None,
    "optimizer[galore].rank": None,
    "optimizer[galore].interval": None,
    "optimizer[galore].scale": None,
    "optimizer[galore].projection": None,
    "optimizer[galore].layerwise": None,
    "optimizer[galore].weight_decay": None,
    "optimizer[apollo]": None,
    "optimizer[apollo].targets": None,
    "optimizer[apollo].rank": None,
    "optimizer[apollo].interval": None,
    "optimizer[apollo].scale": None,
    "optimizer[apollo].projection": None,
    "optimizer[apollo].side": None,
    "optimizer[apollo].scaling": None,
    "optimizer[apollo].layerwise": None,
    "optimizer[apollo].limit_after_scaling": None,
    "optimizer[apollo].weight_decay": None,
    "optimizer[badam]": None,
    "optimizer[badam].order": None,
    "optimizer[badam].start_block": None,
    "optimizer[badam].interval": None,
    "optimizer[badam].weight_decay": None,
    "optimizer[badam].verbose": None,
    "optimizer[badam-ratio]": None,
    "optimizer[badam-ratio].ratio": None,
    "optimizer[badam-ratio].mask": None,
    "optimizer[badam-ratio].interval": None,
    "optimizer[badam-ratio].verbose": None,
    "optimizer[transformers]": None,
    "optimizer[transformers].name": None,
    "optimizer[transformers].options": None,
    "optimizer[transformers].weight_decay": None,
    "batch.global_size": None,
    "batch.micro_size": None,
    "batch.accumulation_steps": None,
    "batch.micro_tokens": None,
    "evaluation.every_steps": None,
    "evaluation.micro_size": None,
    "evaluation.each_source": None,
    "deepspeed.zero_stage": None,
    "deepspeed.offload_optimizer": ("none", "cpu"),
    "deepspeed.overlap_communication": None,
    "deepspeed.contiguous_gradients": None,
    "deepspeed.round_robin_gradients": None,
    "deepspeed.pin_memory": None,
    "deepspeed.reduce_bucket_size": None,
    "deepspeed.allgather_bucket_size": None,
    "deepspeed.prefetch_bucket_size": None,
    "deepspeed.persistence_threshold": None,
    "deepspeed.max_live_parameters": None,
    "deepspeed.max_reuse_distance": None,
    "deepspeed.sub_group_size": None,
    "deepspeed.timeout_s": None,
    "launch[local]": None,
    "launch[local].processes": None,
    "launch[local].device": None,
    "launch[local].memory_gib": None,
    "launch[local].port": None,
    "launch[local].grace_s": None,
    "checkpoints.every_steps": None,
    "checkpoints.keep": None,
    "logging.every_steps": None,
    "logging.plot": None,
    "logging.parameters": None,
    "generation.max_new_tokens": None,
    "generation.sample": None,
    "generation.top_k": None,
    "generation.skip_special_tokens": None,
    "generation.kv_cache": None,
    "generation.temperature": None,
    "generation.top_p": None,
    "generation.repetition_penalty": None,
    "generation.system": None,
    "inference[transformers]": None,
    "export.output_dir": None,
    "export.dtype": None,
    "export.max_shard_gib": None,
}

PLAIN_SECTIONS = [
    "run",
    "model",
    "adapters",
    "tokenizer",
    "data",
    "media",
    "training",
    "batch",
    "kernels",
    "evaluation",
    "deepspeed",
    "checkpoints",
    "logging",
    "generation",
    "export",
]
"""Sections that come in one kind and are always there; each of their settings is judged by itself."""


def check_available(spec: Spec) -> Iterator[Diagnostic]:
    """The setting is right, but this version of tunec does not do it yet.

    It is typed, checked and documented like every other setting, so that a spec can be written and reviewed today.
    It does not compile until the runtime does what it says: a setting is never ignored.

    Fails:
    ```toml
    [logging]
    first_step = true
    ```
    Passes:
    ```toml
    [logging]
    first_step = false
    ```
    """
    refused: list[SpecPath] = []
    for path, name, table in tables(spec):
        if any(path[: len(outer)] == outer for outer in refused):
            continue
        if not name or name in PLAIN_SECTIONS or _honoured(name) is None:
            yield from _settings(path, name, table)
        else:
            refused.append(path)
            yield _refuse_table(path, tag_of(class_of(table)))


def honoured_values(name: str) -> tuple[Any, ...] | None:
    """Return the values of a setting that do something so far, None for all."""
    return _honoured(name)


def check_catalogs(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Judge what a catalog declares as if it stood in the spec, and say it of the entry."""
    for path, source, fact in data_facts(spec, facts):
        if fact.entry is None or fact.entry.source is None:
            continue
        tag = tag_of(class_of(source))
        name = f"data.sources.*[{tag[1]}]" if tag is not None else ""
        if _honoured(name) is None:
            findings = list(_settings(path, name, source))
        else:
            findings = [_refuse_table(path, tag)]
        for finding in findings:
            yield attrs.evolve(finding, path=(*path, "entry"))


def is_honoured(name: str) -> bool:
    """Tell whether the setting or table of that name does something, at least for some of its values."""
    return name in PLAIN_SECTIONS or _honoured(name) != ()


def _refuse_table(path: SpecPath, tag: tuple[str, str] | None) -> Diagnostic:
    if tag is None:
        return _refuse(path, f"`{dotted(path)}`")
    return _refuse((*path, tag[0]), f'`{dotted(path)}` with `{tag[0]} = "{tag[1]}"`')


def _settings(path: SpecPath, name: str, table: Any) -> Iterator[Diagnostic]:
    for field, default in _defaults(class_of(table)).items():
        value = getattr(table, field)
        allowed = _honoured(f"{name}.{field}" if name else field)
        # Tables come first: comparing them costs most, and they are judged by themselves.
        if _is_table(value) or allowed is None or value == default or value in allowed:
            continue
        here = (*path, field)
        yield _refuse(here, f"`{dotted(here)}{f' = {toml_value(value)}' if allowed else ''}`")


def _refuse(path: SpecPath, words: str) -> Diagnostic:
    return error("N901", f"{words} is not available yet", path, label="not available yet")


def _honoured(name: str) -> tuple[Any, ...] | None:
    return HONOURED.get(name.replace("eval_sources.*", "sources.*"), ())


def _is_table(value: Any) -> bool:
    """Tell whether the value is judged as a table of its own, or as several."""
    return is_section(value) or (isinstance(value, tuple) and any(map(is_section, value)))


@cache
def _defaults(cls: type) -> dict[str, Any]:
    """Return the value of each field but the tag when it is not given; a required one is always given."""
    tag = tag_of(cls)
    names = (name for name in fields_of(cls) if tag is None or name != tag[0])
    return {name: default_of(fields_of(cls)[name]) for name in names}


RULES = (Rule("N901", "not available yet", pure=check_available, factual=check_catalogs),)
