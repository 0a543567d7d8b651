"""Which kinds of method, objective, optimizer and so on LLaMA-Factory's settings ask for."""

from __future__ import annotations

from collections.abc import Callable

from ..convert import UnfitError, as_list, as_text
from ..placing import Import

METHODS = ("lora", "oft", "freeze", "full")
STAGES = {
    "pt": "pretraining",
    "sft": "sft",
    "rm": "reward",
    "ppo": "ppo",
    "dpo": "dpo",
    "kto": "kto",
}
PAIR_LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "kto_pair": "kto-pair"}
QUANTIZERS = {"bnb": "bitsandbytes", "bitsandbytes": "bitsandbytes", "hqq": "hqq", "eetq": "eetq"}
IDLE_QUANTIZERS = ("gptq", "awq", "aqlm", "quanto", "mxfp4", "fp8")
ENGINES = {"huggingface": "transformers", "hf": "transformers", "vllm": "vllm", "sglang": "sglang"}
REWARDS = {"lora": "adapter", "full": "model", "api": "api"}
ROPES = ("linear", "dynamic", "yarn", "llama3")
TRACKERS = ("tensorboard", "wandb", "swanlab", "trackio", "mlflow")
OTHER_TRACKERS = (
    "aim",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "dvclive",
    "flyte",
    "neptune",
)
OPTIMIZERS = (
    ("use_galore", "galore"),
    ("use_apollo", "apollo"),
    ("use_badam", "badam"),
    ("use_adam_mini", "adam-mini"),
    ("use_muon", "muon"),
)
"""Switches in the order in which LLaMA-Factory asks for them: the first one that is on wins."""

SWITCHES = {
    "push_to_hub": "hub",
    "enable_torch_profiler": "profiler",
    "use_hyper_parallel": "hyper_parallel",
    "use_kt": "ktransformers",
}
"""Settings that make an optional section."""


def choose_kinds(work: Import) -> None:
    """Decide the kind of every table."""
    for choose in CHOICES:
        choose(work)


def _method(work: Import) -> None:
    kind = work.settings.word("finetuning_type", "lora")
    if kind not in METHODS:
        work.lose(
            "finetuning_type", f"`{kind[:40]}` is none of {', '.join(METHODS)}; lora is written"
        )
        kind = "lora"
    work.choose("method", kind, _key(work, "finetuning_type"))


def _key(work: Import, name: str) -> str:
    return name if work.settings.has(name) else work.by_default


def _objective(work: Import) -> None:
    stage = work.settings.word("stage", "sft")
    if stage not in STAGES:
        work.lose("stage", f"`{stage[:40]}` is none of {', '.join(STAGES)}; sft is written")
        stage = "sft"
    kind, comment = STAGES[stage], _key(work, "stage")
    loss = work.settings.word("pref_loss", "sigmoid")
    if kind == "dpo" and loss in ("orpo", "simpo"):
        kind, comment = loss, "stage and pref_loss"
    work.choose("objective", kind, comment)


def _loss(work: Import) -> None:
    objective = work.kinds["objective"]
    loss = work.settings.word("pref_loss", "sigmoid")
    if objective == "dpo" and loss not in PAIR_LOSSES:
        work.lose("pref_loss", f"`{loss[:40]}` is no loss; sigmoid is written")
    if objective == "dpo" and work.settings.has("pref_loss"):
        work.choose("objective.loss", PAIR_LOSSES.get(loss, "sigmoid"), "pref_loss")
    if objective == "sft":
        for kind in ("dft", "asft", "eaft"):
            if work.settings.flag(f"use_{kind}_loss") and "objective.loss" not in work.kinds:
                work.choose("objective.loss", kind, f"use_{kind}_loss")


def _reference(work: Import) -> None:
    path = "objective.reference"
    if work.kinds.get("objective.loss") == "asft":
        path = "objective.loss.reference"
    elif work.kinds["objective"] not in ("dpo", "kto", "ppo"):
        return
    if work.settings.has("ref_model"):
        work.choose(path, "model", "ref_model")
        if work.settings.has("ref_model_quantization_bit"):
            work.choose(f"{path}.quantization", "bitsandbytes", "ref_model_quantization_bit")


def _reward(work: Import) -> None:
    if work.kinds["objective"] != "ppo":
        return
    word = work.settings.word("reward_model_type", "lora")
    if word not in REWARDS:
        work.lose("reward_model_type", f"`{word[:40]}` is none of {', '.join(REWARDS)}")
    work.choose("objective.reward", REWARDS.get(word, "adapter"), _key(work, "reward_model_type"))
    if word == "full" and work.settings.has("reward_model_quantization_bit"):
        work.choose(
            "objective.reward.quantization", "bitsandbytes", "reward_model_quantization_bit"
        )


def _adapter_init(work: Import) -> None:
    if work.kinds["method"] == "lora" and work.settings.flag("pissa_init"):
        work.choose("method.init", "pissa", "pissa_init")


def _optimizer(work: Import) -> None:
    for switch, kind in OPTIMIZERS:
        if work.settings.flag(switch):
            ratio = kind == "badam" and work.settings.word("badam_mode") == "ratio"
            work.choose("optimizer", "badam-ratio" if ratio else kind, switch)
            return


def _quantization(work: Import) -> None:
    method = work.settings.word("quantization_method", "bnb")
    if not work.settings.has("quantization_bit"):
        return
    if method in QUANTIZERS:
        key = (
            "quantization_method"
            if work.settings.has("quantization_method")
            else "quantization_bit"
        )
        work.choose("quantization", QUANTIZERS[method], key)
    elif method in IDLE_QUANTIZERS:
        work.differs(
            "quantization_method",
            f"LLaMA-Factory accepts `{method}` and quantizes nothing; the spec does not quantize either "
            "(a checkpoint that is quantized already is recognised by itself)",
        )
    else:
        work.lose("quantization_method", f"`{method[:40]}` is not known")


def _template(work: Import) -> None:
    if work.settings.has("template"):
        work.choose("template", "named", "template")


def _rope(work: Import) -> None:
    kind = work.settings.word("rope_scaling")
    if kind in ROPES:
        work.choose("model.rope", kind, "rope_scaling")
    elif kind:
        work.lose("rope_scaling", f"`{kind[:40]}` is none of {', '.join(ROPES)}")


def _engine(work: Import) -> None:
    word = work.settings.word("infer_backend")
    if word in ENGINES:
        work.choose("inference", ENGINES[word], "infer_backend")
    elif word:
        work.lose("infer_backend", f"`{word[:40]}` is none of huggingface, vllm, sglang")


def _optional(work: Import) -> None:
    for switch, section in SWITCHES.items():
        if work.settings.flag(switch):
            work.choose(section, "", switch)
    if work.settings.has("task"):
        work.choose("benchmark", "", "task")
    if work.settings.has("export_quantization_bit"):
        work.choose("export.quantization", "", "export_quantization_bit")
    _megatron(work)


def _megatron(work: Import) -> None:
    for switch in ("use_mca", "use_megatron_bridge"):
        if work.settings.switched(switch.upper()):
            work.choose("megatron", "", switch)
        elif work.settings.flag(switch):
            work.differs(
                switch,
                f"LLaMA-Factory forgets it unless {switch.upper()}=1 stands in the environment; "
                "add a section `[megatron]` if you want Megatron",
            )


def _ray(work: Import) -> None:
    if work.settings.has("ray_num_workers") or work.settings.switched("USE_RAY"):
        work.choose("launch", "ray", "ray_num_workers")


def choose_trackers(work: Import) -> None:
    """Write a table for each tracker of `report_to`."""
    for name in _tracker_names(work):
        _add_tracker(work, name, "report_to")
    if work.settings.flag("use_swanlab") and "logging.trackers[swanlab]" not in work.items:
        _add_tracker(work, "swanlab", "use_swanlab")


def _tracker_names(work: Import) -> list[str]:
    try:
        names = [
            as_text(name).strip().lower() for name in as_list(work.settings.raw("report_to", []))
        ]
    except UnfitError as unfit:
        work.lose("report_to", str(unfit))
        return []
    if "all" in names:
        work.lose("report_to", "`all` means whatever is installed; name the trackers instead")
    return [name for name in dict.fromkeys(names) if name not in ("none", "all", "null", "")]


def _add_tracker(work: Import, name: str, comment: str) -> None:
    number = len(list(work.draft.items(("logging", "trackers"))))
    path = ("logging", "trackers", number)
    if name in TRACKERS:
        work.draft.put((*path, "type"), name, comment)
        work.items[f"logging.trackers[{name}]"] = number
    elif name in OTHER_TRACKERS:
        work.draft.put((*path, "type"), "transformers", comment)
        work.draft.put((*path, "name"), name, comment)
    else:
        work.lose(comment, f"`{name[:40]}` is no tracker")


CHOICES: tuple[Callable[[Import], None], ...] = (
    _method,
    _objective,
    _loss,
    _reference,
    _reward,
    _adapter_init,
    _optimizer,
    _quantization,
    _template,
    _rope,
    _engine,
    _optional,
    _ray,
    choose_trackers,
)
