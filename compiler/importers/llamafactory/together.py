"""Settings that decide something only together, and what LLaMA-Factory derives from them."""

from __future__ import annotations

from ...chat import library
from ..convert import UnfitError, as_bool, as_dict, clean, is_nothing
from ..placing import FILL_IN, TRAINS, Import


def read_model(work: Import) -> None:
    """Write placeholders for what no run can do without."""
    if ("model", "path") not in work.draft.entries:
        work.put("model.path", FILL_IN, "to fill in: no model_name_or_path")
        work.ask("model_name_or_path", f"no model is named; replace `{FILL_IN}` in `[model]`")


def read_output(work: Import) -> None:
    """Decide where the run lives, and what happens where it exists."""
    if ("run", "output_dir") not in work.draft.entries:
        work.put("run.output_dir", "runs/imported", "no output_dir is named")
    if work.settings.flag("overwrite_output_dir"):
        work.put("run.on_existing", "overwrite", "overwrite_output_dir")
    raw = work.settings.text("resume_from_checkpoint")
    if raw.lower() in ("true", "1"):
        work.put("run.on_existing", "resume", "resume_from_checkpoint")
    elif raw and raw.lower() not in ("false", "0"):
        work.put("run.resume_from", raw, "resume_from_checkpoint")
    elif ("run", "on_existing") not in work.draft.entries and work.settings.verb == "train":
        work.put(
            "run.on_existing", "resume", f"{work.by_default}: it goes on from the newest checkpoint"
        )


def read_precision(work: Import) -> None:
    """Decide the arithmetic."""
    for name, value in (
        ("fp8", "fp8"),
        ("pure_bf16", "pure-bf16"),
        ("bf16", "bf16"),
        ("fp16", "fp16"),
    ):
        if work.settings.flag(name):
            work.put("training.precision", value, name)
            return
    if ("training", "precision") in work.draft.entries or work.settings.verb != "train":
        return
    in_fp32 = work.settings.flag("use_cpu") or work.kinds["method"] in ("full", "freeze")
    value = "fp32" if in_fp32 else "bf16"
    work.put("training.precision", value, "neither bf16 nor fp16 is on")
    if not in_fp32:
        work.differs(
            "bf16",
            "neither bf16 nor fp16 is on: LLaMA-Factory trains fp32 adapters beside weights in the model's own "
            "type, without mixed precision; bf16 comes nearest",
        )


def read_checkpointing(work: Import) -> None:
    """Decide how activations are recomputed."""
    if work.settings.has("disable_gradient_checkpointing"):
        is_off = work.settings.flag("disable_gradient_checkpointing")
        work.put("training.gradient_checkpointing", not is_off, "disable_gradient_checkpointing")
        if is_off:
            return
    if work.settings.has("use_reentrant_gc"):
        value, comment = work.settings.flag("use_reentrant_gc", True), "use_reentrant_gc"
    else:
        value, comment = True, work.by_default
    if work.settings.has("gradient_checkpointing_kwargs"):
        found, comment = _reentrant(work, value), "gradient_checkpointing_kwargs"
        value = found
    work.put("training.checkpointing_reentrant", value, comment)


def _reentrant(work: Import, default: bool) -> bool:
    try:
        settings = as_dict(work.settings.raw("gradient_checkpointing_kwargs"))
        return as_bool(settings.get("use_reentrant", default))
    except UnfitError as unfit:
        work.lose("gradient_checkpointing_kwargs", str(unfit))
        return default


def read_packing(work: Import) -> None:
    """Decide packing and the longest sample; written packing costs LLaMA-Factory one token."""
    neat = work.settings.flag("neat_packing")
    packed = neat or work.settings.flag("packing")
    given = "neat_packing" if neat else "packing"
    length = int(work.settings.number("cutoff_len", 2048) or 2048)
    if work.kinds["objective"] in ("pretraining", "sft"):
        if work.settings.has(given):
            value = "isolated" if neat else "joined" if packed else "off"
            work.put("data.packing", value, given)
    elif packed:
        work.idle(given, "only pretraining and SFT are packed")
    if packed:
        work.put(
            "data.max_length", length - 1, f"cutoff_len - 1 = {length} - 1, because of {given}"
        )
    elif work.settings.has("cutoff_len"):
        work.put("data.max_length", length, "cutoff_len")
    if work.settings.has("cutoff_len") and work.settings.number("cutoff_len") is None:
        work.lose("cutoff_len", "it is no number")


def read_loss_tokens(work: Import) -> None:
    """Decide which tokens carry loss."""
    for name, value in (("mask_history", "last"), ("train_on_prompt", "all")):
        if work.settings.flag(name) and work.kinds["objective"] == "sft":
            work.put("objective.loss_on", value, name)
        elif work.settings.flag(name):
            work.idle(name, "it belongs to SFT")


def read_blocks(work: Import) -> None:
    """Read what `freeze_trainable_layers` and `use_llama_pro` say together."""
    name = "freeze_trainable_layers"
    number = int(work.settings.number(name, 2) or 2)
    is_pro = work.settings.flag("use_llama_pro")
    if work.kinds["method"] == "freeze":
        if work.settings.has(name):
            work.put("method.blocks", abs(number), name)
            work.put("method.side", "last" if number > 0 else "first", f"the sign of {name}")
        if is_pro:
            work.put("method.expanded", True, "use_llama_pro")
    elif work.kinds["method"] == "lora" and is_pro:
        work.put("method.expanded_blocks", abs(number), f"use_llama_pro and {name}")
    elif work.settings.has(name):
        work.idle(name, "it belongs to `[method]` of kind `freeze`, which this run has not")


def read_pissa(work: Import) -> None:
    """Read `pissa_iter`, whose -1 means the exact decomposition."""
    number = work.settings.number("pissa_iter")
    if work.kinds.get("method.init") != "pissa" or number is None:
        return
    if number < 0:
        work.put("method.init.exact", True, "pissa_iter")
    else:
        work.put("method.init.iterations", int(number), "pissa_iter")


def read_thinking(work: Import) -> None:
    """Decide how reasoning templates treat thoughts; other templates have none."""
    name = work.settings.word("template")
    if name not in library() or not library()[name].is_reasoning:
        if work.settings.has("enable_thinking"):
            work.idle("enable_thinking", "it counts for reasoning templates only")
        return
    given = work.settings.given.get("enable_thinking")
    if given is None:
        work.put("template.thinking", "on", work.by_default)
    elif is_nothing(given.value):
        work.put("template.thinking", "mixed", "enable_thinking")
    else:
        value = "on" if work.settings.flag("enable_thinking", True) else "off"
        work.put("template.thinking", value, "enable_thinking")


def read_new_tokens(work: Import) -> None:
    """Read the descriptions of special tokens."""
    name = work.settings.text("new_special_tokens_config")
    if not name:
        return
    loaded = work.library.find(name)
    if loaded is None or not isinstance(loaded.data, dict):
        work.ask(
            "new_special_tokens_config", f"`{name[:60]}` was not found: give it as another FILE"
        )
        return
    tokens = {clean(token): clean(str(text)) for token, text in loaded.data.items()}
    work.put("tokenizer.described_tokens", tokens, f"new_special_tokens_config: {loaded.name}")
    if work.draft.entries.pop(("tokenizer", "add_special_tokens"), None):
        work.idle("add_special_tokens", "`new_special_tokens_config` replaces it")


def read_generation(work: Import) -> None:
    """Decide how long answers may be."""
    most = work.settings.number("max_new_tokens", 1024)
    if work.settings.has("max_length"):
        length = work.settings.number("max_length")
        if most and most > 0:
            work.idle("max_length", "`max_new_tokens` decides")
        elif length:
            work.put("generation.max_length", int(length), "max_length")
    if work.settings.flag("predict_with_generate"):
        name = (
            "generation_max_length"
            if work.settings.has("generation_max_length")
            else "max_new_tokens"
        )
        number = int(work.settings.number(name, 1024) or 1024)
        comment = name if work.settings.has(name) else work.by_default
        work.put("evaluation.max_new_tokens", number, comment)
    elif work.settings.has("generation_max_length"):
        work.idle("generation_max_length", "`predict_with_generate` is off")


def read_sampling(work: Import) -> None:
    """Decide the order of rows."""
    word = work.settings.word("train_sampling_strategy", "random")
    if word == "group_by_length":
        work.put("data.group_by_length", True, "train_sampling_strategy")
    elif word == "sequential":
        work.put("data.shuffle", False, "train_sampling_strategy")
    elif word != "random":
        work.lose("train_sampling_strategy", f"`{word[:40]}` is no order of rows")


def read_debug(work: Import) -> None:
    """Read `debug`."""
    word = work.settings.word("debug")
    if "underflow_overflow" in word:
        work.put("training.detect_anomalies", True, "debug")
    elif word and word != "[]":
        work.lose("debug", f"`{word[:40]}` has no counterpart")


def read_processes(work: Import) -> None:
    """Decide the number of processes, which a configuration alone does not say."""
    if work.kinds.get("launch") == "ray":
        number = int(work.settings.number("ray_num_workers", 1) or 1)
        work.put("launch.processes_per_node", max(number, 1), "ray_num_workers")
        return
    if work.settings.verb not in TRAINS:
        return
    number, comment = _processes(work)
    work.put("launch.processes", number, comment)
    if work.settings.nodes > 1:
        work.ask(
            "launch",
            f'the command starts {work.settings.nodes} machines: choose `type = "slurm"` or `"hostfile"` in `[launch]`',
        )


def _processes(work: Import) -> tuple[int, str]:
    environment = work.settings.environment
    if work.settings.processes:
        return work.settings.processes, "the number of processes of the command"
    if environment.get("NPROC_PER_NODE", "").isdecimal():
        return max(int(environment["NPROC_PER_NODE"][:6]), 1), "NPROC_PER_NODE"
    devices = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if devices:
        return len(devices), "the devices in CUDA_VISIBLE_DEVICES"
    work.ask("launch.processes", "the launcher starts one process a GPU; write how many you have")
    return 1, "one a GPU: write how many you have"


def read_hub(work: Import) -> None:
    """Decide the repository that is pushed to."""
    if "hub" in work.kinds and not work.settings.has("hub_model_id"):
        name = work.settings.text("output_dir", "run").rstrip("/").rpartition("/")[2]
        work.put("hub.repository", clean(f"OWNER/{name}"), "the name of output_dir")
        work.ask("hub_model_id", "replace `OWNER` by your name on the hub")
