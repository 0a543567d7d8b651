"""A configuration of Axolotl to a draft of a spec."""

from __future__ import annotations

from collections.abc import Callable

from .axolotl_data import items_of, read_datasets
from .convert import SKIP, UnfitError, as_bool, as_dict, clean, modules
from .deepspeed import read_deepspeed, read_fsdp, settle_batch
from .homes.axolotl import AXOLOTL
from .llamafactory.dataset_info import similar
from .llamafactory.optimizer import read_optimizer
from .llamafactory.schedule import read_warmup
from .placing import Import, drop_idle_defaults, fill_required, place_all, place_defaults

STAGES = {
    "dpo": "dpo",
    "ipo": "dpo",
    "kto": "kto",
    "orpo": "orpo",
    "simpo": "simpo",
    "grpo": "grpo",
}
ATTENTIONS = {
    "flash_attention": "flash2",
    "sdp_attention": "sdpa",
    "flex_attention": "flex",
    "eager_attention": "eager",
}
LIGER = {
    "liger_rope": "rope",
    "liger_rms_norm": "rms_norm",
    "liger_layer_norm": "layer_norm",
    "liger_glu_activation": "swiglu",
    "liger_fused_linear_cross_entropy": "fused_linear_cross_entropy",
}
TRACKERS = (
    ("wandb_project", "wandb"),
    ("use_tensorboard", "tensorboard"),
    ("use_mlflow", "mlflow"),
)
EVALUATED = ("test_datasets", "val_set_size")


def import_run(work: Import) -> None:
    """Fill the draft of an import from its settings."""
    _report_unknown(work)
    for read in KINDS:
        read(work)
    place_all(work, AXOLOTL)
    for read in READERS:
        read(work)
    place_defaults(work, AXOLOTL)
    drop_idle_defaults(work, is_evaluated=any(map(work.settings.has, EVALUATED)))
    settle_batch(work)
    fill_required(work)


def _report_unknown(work: Import) -> None:
    for name in work.settings.given:
        if name not in AXOLOTL:
            work.lose(name, f"tunec does not know it{similar(name, list(AXOLOTL))}")


# Kinds.


def _method(work: Import) -> None:
    word = work.settings.word("adapter")
    if word not in ("", "lora", "qlora"):
        work.lose("adapter", f"`{word[:40]}` is neither lora nor qlora; lora is written")
    work.choose("method", "lora" if word else "full", "adapter" if word else "no adapter")
    bits = 4 if work.settings.flag("load_in_4bit") or word == "qlora" else 0
    bits = bits or (8 if work.settings.flag("load_in_8bit") else 0)
    if bits:
        key = f"load_in_{bits}bit"
        work.choose("quantization", "bitsandbytes", key)
        work.put("quantization.bits", bits, key)


def _objective(work: Import) -> None:
    word = work.settings.word("rl")
    if word and word not in STAGES:
        work.lose("rl", f"`{word[:40]}` is none of {', '.join(STAGES)}; sft is written")
    kind = STAGES.get(word, "reward" if work.settings.flag("reward_model") else "sft")
    if work.settings.has("pretraining_dataset"):
        kind = "pretraining"
    work.choose("objective", kind, "rl" if word in STAGES else work.by_default)
    if word == "ipo":
        work.choose("objective.loss", "ipo", "rl")


def _template(work: Import) -> None:
    word = work.settings.text("chat_template")
    if word and not word.startswith("tokenizer_default") and word != "jinja":
        work.choose("template", "named", "chat_template")
        work.put("template.name", word, "chat_template")


def _optional(work: Import) -> None:
    if work.settings.has("hub_model_id"):
        work.choose("hub", "", "hub_model_id")
    for number, (key, kind) in enumerate(
        pair for pair in TRACKERS if work.settings.has(pair[0]) and not _is_false(work, pair[0])
    ):
        work.draft.put(("logging", "trackers", number, "type"), kind, key)
        work.items[f"logging.trackers[{kind}]"] = number


def _is_false(work: Import, name: str) -> bool:
    return work.settings.word(name) in ("false", "no")


def _optimizer(work: Import) -> None:
    read_optimizer(work, "optimizer")


# What settings say together.


def _targets(work: Import) -> None:
    if work.kinds["method"] != "lora":
        return
    if work.settings.flag("lora_target_linear"):
        work.put("method.targets", "all-linear", "lora_target_linear")
    elif work.settings.has("lora_target_modules"):
        try:
            found = modules(work.settings.raw("lora_target_modules"), None)
        except UnfitError as unfit:
            work.lose("lora_target_modules", str(unfit))
            return
        if found is not SKIP:
            work.put("method.targets", found, "lora_target_modules")


def _length(work: Import) -> None:
    steps = work.settings.number("max_steps") or 0
    if steps >= 1:
        work.put("training.steps", int(steps), "max_steps")
    else:
        epochs = work.settings.number("num_epochs")
        comment = "num_epochs" if epochs is not None else work.by_default
        work.put("training.epochs", 1.0 if epochs is None else epochs, comment)
    ratio = work.settings.number("cosine_min_lr_ratio")
    if ratio:
        work.put("training.schedule", "cosine-min", "cosine_min_lr_ratio")
        work.put("training.min_rate_ratio", ratio, "cosine_min_lr_ratio")
    if work.settings.flag("sample_packing") and work.kinds["objective"] in ("sft", "pretraining"):
        work.put("data.packing", "isolated", "sample_packing")


def _numerics(work: Import) -> None:
    kinds = {
        "fp8": "fp8",
        "bfloat16": "pure-bf16",
        "bf16": "bf16",
        "fp16": "fp16",
        "float16": "fp16",
    }
    on = (name for name in kinds if work.settings.word(name) in ("true", "auto", "full"))
    name = next(on, None)
    work.put("training.precision", kinds[name] if name else "fp32", name or "neither bf16 nor fp16")
    word = work.settings.word("gradient_checkpointing", "false")
    is_on = word not in ("false", "no", "0")
    comment = (
        "gradient_checkpointing" if work.settings.has("gradient_checkpointing") else work.by_default
    )
    work.put("training.gradient_checkpointing", is_on, comment)
    if word in ("offload", "unsloth"):
        work.put("training.offload_activations", True, "gradient_checkpointing")
    if is_on:
        work.put(
            "training.checkpointing_reentrant", _reentrant(work), "gradient_checkpointing_kwargs"
        )


def _reentrant(work: Import) -> bool:
    try:
        found = as_dict(work.settings.raw("gradient_checkpointing_kwargs", {}))
        return as_bool(found.get("use_reentrant", True))
    except UnfitError as unfit:
        work.lose("gradient_checkpointing_kwargs", str(unfit))
        return True


def _kernels(work: Import) -> None:
    for name, value in ATTENTIONS.items():
        if work.settings.flag(name):
            work.put("model.attention", value, name)
            break
    ops = {op: work.settings.flag(name) for name, op in LIGER.items() if work.settings.has(name)}
    if ops:
        work.put("kernels.liger", True, "liger_*")
        work.put("kernels.liger_ops", ops, "liger_*")
    for plugin in items_of(work, "plugins"):
        if "liger" in str(plugin).lower():
            work.put("kernels.liger", True, "plugins")
        else:
            work.lose("plugins", f"`{clean(str(plugin))[:60]}` has no counterpart")


def _intervals(work: Import) -> None:
    for what, section in (("eval", "evaluation"), ("save", "checkpoints")):
        steps = work.settings.number(f"{what}_steps")
        often = work.settings.number(f"{what}s_per_epoch")
        word = work.settings.word(f"{what}_strategy")
        if steps and steps >= 1:
            work.put(f"{section}.every_steps", int(steps), f"{what}_steps")
        elif steps:
            work.lose(f"{what}_steps", "a share of all steps is not known before the data are read")
        elif often or word == "epoch":
            key = f"{what}s_per_epoch" if often else f"{what}_strategy"
            _each_epoch(work, section, key, often or 1)
        elif what == "save":
            work.put("checkpoints.each_epoch", True, work.by_default)
            work.put("checkpoints.every_steps", 0, work.by_default)
    number = work.settings.number("logging_steps")
    if number and number >= 1:
        work.put("logging.every_steps", int(number), "logging_steps")


def _each_epoch(work: Import, section: str, key: str, often: float) -> None:
    work.put(f"{section}.each_epoch", True, key)
    if section == "checkpoints":
        work.put("checkpoints.every_steps", 0, key)
    if often > 1:
        work.lose(
            key, f"{often:g} times an epoch is not known in steps; write `{section}.every_steps`"
        )


def _engine(work: Import) -> None:
    if work.settings.has("deepspeed"):
        read_deepspeed(work)
    elif work.settings.has("fsdp") and work.settings.raw("fsdp"):
        read_fsdp(work)
    else:
        work.put("deepspeed.zero_stage", 0, f"{work.by_default}: nothing is sharded")
    number = work.settings.processes or 1
    work.put("launch.processes", number, "one a GPU: write how many you have")


def _model(work: Import) -> None:
    if ("model", "path") not in work.draft.entries:
        work.put("model.path", "FILL-IN", "to fill in: no base_model")
        work.ask("base_model", "no model is named; replace `FILL-IN` in `[model]`")


Reader = Callable[[Import], None]
KINDS: tuple[Reader, ...] = (_method, _objective, _template, _optional, _optimizer)
READERS: tuple[Reader, ...] = (
    read_datasets,
    _targets,
    _length,
    read_warmup,
    _numerics,
    _kernels,
    _intervals,
    _engine,
    _model,
)
