"""A configuration of TRL's scripts to a draft of a spec."""

from __future__ import annotations

from collections.abc import Callable

from .convert import UnfitError, as_list, as_text, clean
from .deepspeed import read_deepspeed, settle_batch
from .homes.trl import TRL
from .llamafactory.dataset_info import similar
from .llamafactory.kinds import choose_trackers
from .llamafactory.optimizer import read_optimizer
from .llamafactory.schedule import read_intervals, read_length, read_schedule_settings, read_warmup
from .llamafactory.together import read_debug, read_hub, read_model, read_processes, read_sampling
from .placing import Import, drop_idle_defaults, fill_required, place_all, place_defaults

VERBS = ("sft", "dpo", "kto", "reward", "grpo", "cpo", "orpo")
MARKS = (
    ("num_generations", "grpo"),
    ("reward_funcs", "grpo"),
    ("desirable_weight", "kto"),
    ("cpo_alpha", "cpo"),
    ("center_rewards_coefficient", "reward"),
    ("beta", "dpo"),
    ("loss_type", "dpo"),
)
"""Settings that tell the script, where the command does not."""

LOSSES = {
    "sigmoid": "sigmoid",
    "hinge": "hinge",
    "ipo": "ipo",
    "kto_pair": "kto-pair",
    "robust": "robust",
    "bco_pair": "bco",
}
RATES = {"dpo": 1e-6, "kto": 1e-6, "grpo": 1e-6, "cpo": 1e-6, "orpo": 1e-6, "reward": 1e-4}
LOCAL = (".json", ".jsonl", ".parquet", ".csv", ".arrow", ".txt")


def import_run(work: Import) -> None:
    """Fill the draft of an import from its settings."""
    work.defaults["logging_steps"] = 10
    for name in work.settings.given:
        if name not in TRL:
            work.lose(name, f"tunec does not know it{similar(name, list(TRL))}")
    for read in KINDS:
        read(work)
    place_all(work, TRL)
    for read in READERS:
        read(work)
    place_defaults(work, TRL)
    is_evaluated = work.settings.word("eval_strategy", "no") != "no"
    drop_idle_defaults(work, is_evaluated=is_evaluated)
    settle_batch(work)
    fill_required(work)


def _objective(work: Import) -> None:
    verb = work.settings.verb
    mark = next((pair for pair in MARKS if work.settings.has(pair[0])), ("", "sft"))
    kind = verb if verb in VERBS else mark[1]
    work.choose("objective", kind, f"trl {verb}" if verb in VERBS else mark[0] or work.by_default)
    if kind == "dpo":
        _loss(work)
    if kind in ("dpo", "kto") and work.settings.flag("precompute_ref_log_probs"):
        work.choose("objective.reference", "precomputed", "precompute_ref_log_probs")
    if kind == "grpo":
        _rewards(work)


def _loss(work: Import) -> None:
    word = work.settings.word("loss_type", "sigmoid").strip("[]'\"")
    if word in LOSSES:
        if work.settings.has("loss_type"):
            work.choose("objective.loss", LOSSES[word], "loss_type")
    else:
        work.lose("loss_type", f"`{word[:40]}` is none of {', '.join(LOSSES)}")


def _rewards(work: Import) -> None:
    name = work.settings.text("reward_model_name_or_path")
    if name:
        work.draft.put(("objective", "rewards", 0, "type"), "model", "reward_model_name_or_path")
        work.draft.put(("objective", "rewards", 0, "path"), name, "reward_model_name_or_path")
    else:
        work.put("objective.rewards", [], "to fill in: what scores the answers")
        work.ask(
            "reward_funcs", 'write `[[objective.rewards]]` with `type = "function"` and `path`'
        )


def _method(work: Import) -> None:
    lora = work.settings.flag("use_peft")
    work.choose("method", "lora" if lora else "full", "use_peft" if lora else "no use_peft")
    for bits in (4, 8):
        if work.settings.flag(f"load_in_{bits}bit") and "quantization" not in work.kinds:
            work.choose("quantization", "bitsandbytes", f"load_in_{bits}bit")
            work.put("quantization.bits", bits, f"load_in_{bits}bit")


def _sections(work: Import) -> None:
    if work.settings.has("chat_template_path"):
        work.choose("template", "file", "chat_template_path")
        work.put("template.path", work.settings.text("chat_template_path"), "chat_template_path")
    if work.settings.flag("push_to_hub"):
        work.choose("hub", "", "push_to_hub")


def _datasets(work: Import) -> None:
    names = _names(work)
    if not names:
        work.draft.put(("data", "sources"), [], "to fill in before training: nothing names data")
        work.ask("dataset_name", "no data are named; write a table `[[data.sources]]`")
    for number, name in enumerate(names):
        _source(work, "sources", number, name, work.settings.text("dataset_train_split"))
        if work.settings.word("eval_strategy", "no") != "no":
            split = work.settings.text("dataset_test_split", "test")
            _source(work, "eval_sources", number, name, split)


def _names(work: Import) -> list[str]:
    if not work.settings.has("dataset_name"):
        return []
    try:
        return [clean(as_text(name)) for name in as_list(work.settings.raw("dataset_name"))]
    except UnfitError as unfit:
        work.lose("dataset_name", str(unfit))
        return []


def _source(work: Import, field: str, number: int, name: str, split: str) -> None:
    text, objective = work.settings.text("dataset_text_field"), work.kinds["objective"]
    pairs = objective in ("dpo", "reward", "cpo", "orpo")
    kind = "preference" if pairs else "prompt" if objective == "grpo" else "messages"
    kind = "text" if text and objective == "sft" else kind
    values = {
        "format": kind,
        "path": name,
        "hub": "" if name.startswith((".", "/")) or name.endswith(LOCAL) else "huggingface",
        "subset": work.settings.text("dataset_config"),
        "split": split,
        "text": text if kind == "text" else "",
        "label": "label" if objective == "kto" else "",
    }
    for key, value in values.items():
        if value:
            work.draft.put(
                ("data", field, number, key), value, "dataset_name" if key == "path" else ""
            )
    work.ask(
        "dataset_name",
        f"TRL guesses the format from the columns; `{kind}` is written, look whether it fits",
    )


def _length(work: Import) -> None:
    if work.settings.flag("packing"):
        wrapped = work.settings.word("packing_strategy") == "wrapped"
        work.put("data.packing", "joined" if wrapped else "isolated", "packing")
    if not work.settings.has("learning_rate"):
        rate = RATES.get(work.kinds["objective"], 2e-5)
        work.put("training.learning_rate", rate, work.by_default)
    if work.kinds["objective"] == "sft":
        masked = work.settings.flag("assistant_only_loss") or work.settings.flag(
            "completion_only_loss"
        )
        name = (
            "assistant_only_loss"
            if work.settings.flag("assistant_only_loss")
            else "completion_only_loss"
        )
        work.put(
            "objective.loss_on",
            "assistant" if masked else "all",
            name if masked else work.by_default,
        )


def _precision(work: Import) -> None:
    word = work.settings.word("bf16", "true")
    if work.settings.flag("fp16"):
        work.put("training.precision", "fp16", "fp16")
    elif word in ("true", "1", "yes"):
        work.put(
            "training.precision", "bf16", "bf16" if work.settings.has("bf16") else work.by_default
        )
    else:
        work.put("training.precision", "fp32", "bf16")


def _engine(work: Import) -> None:
    if work.settings.has("deepspeed"):
        read_deepspeed(work)
    else:
        work.put("deepspeed.zero_stage", 0, f"{work.by_default}: nothing is sharded")
    if ("run", "output_dir") not in work.draft.entries:
        work.put("run.output_dir", "runs/imported", "no output_dir is named")
    raw = work.settings.text("resume_from_checkpoint")
    if raw.lower() in ("true", "1"):
        work.put("run.on_existing", "resume", "resume_from_checkpoint")
    elif raw and raw.lower() not in ("false", "0"):
        work.put("run.resume_from", raw, "resume_from_checkpoint")


Reader = Callable[[Import], None]
KINDS: tuple[Reader, ...] = (_objective, _method, _sections, choose_trackers, read_optimizer)
READERS: tuple[Reader, ...] = (
    _datasets,
    _length,
    _precision,
    _engine,
    read_model,
    read_length,
    read_warmup,
    read_schedule_settings,
    read_intervals,
    read_sampling,
    read_debug,
    read_processes,
    read_hub,
)
