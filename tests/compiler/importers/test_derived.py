"""What LLaMA-Factory derives and defaults stands in the imported spec, wherever tunec would do something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from importing import DATASETS, about, at, convert, loaded, read
from tunec.compiler.chat import library
from tunec.compiler.importers.draft import Kind
from tunec.compiler.importers.importer import import_words
from tunec.compiler.structure import structure

BASE = {"model_name_or_path": "m", "output_dir": "o"}


def spec_of(settings: dict[str, Any]) -> Any:
    """Return the spec that settings become."""
    return structure(read(convert({**BASE, **settings}))).spec


DEFAULTS = {
    "data.max_length": 2048,
    "data.packing": "auto",
    "data.shuffle": True,
    "data.shared_storage": False,
    "batch.micro_size": 8,
    "batch.accumulation_steps": 1,
    "training.epochs": 3.0,
    "training.learning_rate": 5e-5,
    "training.schedule": "linear",
    "training.warmup_steps": None,
    "training.max_grad_norm": 1.0,
    "training.gradient_checkpointing": True,
    "training.checkpointing_reentrant": True,
    "training.seed": 42,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.epsilon": 1e-8,
    "optimizer.weight_decay": 0.0,
    "method.rank": 8,
    "method.alpha": None,  # twice the rank
    "method.targets": "all-linear",
    "method.dropout": 0.0,
    "deepspeed.zero_stage": 0,
    "deepspeed.timeout_s": 1800,
    "checkpoints.every_steps": 500,
    "checkpoints.keep": 0,
    "checkpoints.weights_only": False,
    "evaluation.every_steps": None,
    "logging.every_steps": 500,
    "logging.plot": False,
    "logging.trackers": (),
    "generation.sample": True,
    "generation.temperature": 0.95,
    "generation.top_p": 0.7,
    "generation.top_k": 50,
    "generation.max_new_tokens": 1024,
    "media.image_max_pixels": 768 * 768,
    "media.train_vision_tower": False,
    "launch.processes": 1,
    "run.on_existing": "resume",
}


@pytest.mark.parametrize("path", DEFAULTS)
def test_what_nobody_wrote_is_as_it_was(path: str) -> None:
    """An empty configuration trains as LLaMA-Factory would."""
    value = spec_of({"stage": "sft"})
    for name in path.split("."):
        value = getattr(value, name)
    assert value == DEFAULTS[path]


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ({"stage": "dpo"}, "objective.beta", 0.1),
        ({"stage": "dpo", "pref_loss": "simpo"}, "objective.beta", 0.1),
        ({"stage": "dpo", "pref_loss": "simpo"}, "objective.type", "simpo"),
        ({"stage": "dpo", "pref_loss": "orpo"}, "objective.type", "orpo"),
        ({"stage": "pt"}, "objective.type", "pretraining"),
        ({"stage": "pt", "cutoff_len": 100, "packing": True}, "data.max_length", 99),
        ({"stage": "dpo", "cutoff_len": 100, "packing": True}, "data.max_length", 99),
        ({"packing": False, "cutoff_len": 100}, "data.max_length", 100),
        ({"neat_packing": True, "packing": False}, "data.packing", "isolated"),
        ({"finetuning_type": "full"}, "training.precision", "fp32"),
        ({"finetuning_type": "lora"}, "training.precision", "bf16"),
        ({"finetuning_type": "lora", "use_cpu": True}, "training.precision", "fp32"),
        ({"template": "qwen3"}, "template.thinking", "on"),
        ({"template": "qwen3", "enable_thinking": None}, "template.thinking", "mixed"),
        ({"template": "qwen3", "enable_thinking": "false"}, "template.thinking", "off"),
        ({"optim": "lion_8bit"}, "optimizer.beta2", 0.999),
        ({"push_to_hub": True}, "hub.repository", "OWNER/o"),
        ({"push_to_hub": True}, "hub.wait", False),
        ({"report_to": "wandb"}, "logging.trackers.0.project", "huggingface"),
        ({"use_swanlab": True}, "logging.trackers.0.project", "llamafactory"),
        ({"eval_strategy": "steps"}, "evaluation.every_steps", 500),
        ({"eval_strategy": "steps", "logging_steps": 7}, "evaluation.every_steps", 7),
        ({"save_strategy": "no"}, "checkpoints.every_steps", 0),
        ({"save_steps": 0.25, "max_steps": 10}, "checkpoints.every_steps", 3),
        ({"disable_gradient_checkpointing": True}, "training.gradient_checkpointing", False),
        ({"val_size": 0.1}, "evaluation.micro_size", None),
        ({"val_size": 100}, "data.eval_rows", 100),
        ({"resume_from_checkpoint": True}, "run.on_existing", "resume"),
        ({"resume_from_checkpoint": "c", "overwrite_output_dir": True}, "run.resume_from", "c"),
        ({"per_device_train_batch_size": 1, "val_size": 9}, "evaluation.micro_size", 8),
        ({"lora_alpha": 0, "lora_rank": 4}, "method.alpha", None),
        ({"finetuning_type": "oft"}, "method.block_size", None),  # 32
        ({"dataset_dir": "ONLINE", "dataset": "a/b"}, "data.sources.0.hub", "huggingface"),
        ({"dataset": "nowhere"}, "data.sources.0.entry", "nowhere"),
        ({"warmup_steps": 0, "warmup_ratio": 0.1}, "training.warmup_ratio", 0.1),
        ({"warmup_steps": 5, "warmup_ratio": 0.1}, "training.warmup_steps", 5),
    ],
)
def test_derived_values(settings: dict[str, Any], path: str, value: Any) -> None:
    """What follows from several settings is what LLaMA-Factory made of them."""
    found = spec_of(settings)
    for name in path.split("."):
        found = found[int(name)] if name.isdecimal() else getattr(found, name)
    assert found == value


def test_defaults_say_so() -> None:
    """A value that nobody wrote carries the comment; one that equals tunec's own is not written."""
    text = convert(BASE).text
    assert "epochs = 3.0  # LLaMA-Factory's default" in text
    assert "max_grad_norm" not in text


def test_other_templates_have_no_thoughts() -> None:
    """`enable_thinking` counts for reasoning templates alone."""
    assert "thinking" not in read(convert({**BASE, "template": "llama3"}))["template"]
    assert sum(template.is_reasoning for template in library().values()) == 25


@pytest.mark.parametrize(
    ("settings", "key", "kind"),
    [
        ({"stage": "dpo", "pref_loss": "hinge"}, "pref_loss", Kind.DIFFERS),
        (
            {"quantization_bit": 4, "quantization_method": "awq"},
            "quantization_method",
            Kind.DIFFERS,
        ),
        ({"use_mca": True}, "use_mca", Kind.DIFFERS),
        ({"stage": "kto", "packing": True}, "packing", Kind.DIFFERS),
        (
            {"fp8_enable_fsdp_float8_all_gather": True},
            "fp8_enable_fsdp_float8_all_gather",
            Kind.LOST,
        ),
        ({"oft_target": "q"}, "oft_target", Kind.DIFFERS),
        ({"eval_steps": 0.5, "eval_strategy": "steps"}, "eval_steps", Kind.LOST),
        ({"lora_rank": 8, "finetuning_type": "full"}, "lora_rank", Kind.IDLE),
        ({"lora_rnk": 8}, "lora_rnk", Kind.LOST),
        ({"hf_hub_token": "x"}, "hf_hub_token", Kind.DO),
        ({"dataset": "on"}, "dataset", Kind.LOST),
        ({"deepspeed": "zero2.json"}, "deepspeed", Kind.DO),
        ({"report_to": "all"}, "report_to", Kind.LOST),
    ],
)
def test_the_report_says_what_happened(settings: dict[str, Any], key: str, kind: Kind) -> None:
    """Each surprise and each loss has its line."""
    assert kind in {remark.kind for remark in about(convert({**BASE, **settings}), key)}


def test_similar_names_are_offered() -> None:
    """Names that nobody knows come with those they resemble."""
    assert "similar: lora_rank" in about(convert({"lora_rnk": 8}), "lora_rnk")[0].text
    assert "similar: one" in about(convert({"dataset": "on"}), "dataset")[0].text


def test_deepspeed_fills_in_for_auto() -> None:
    """`auto` takes what the run says; numbers that contradict it are reported, and the run's kept."""
    file = loaded("ds.json", {"zero_optimization": {"stage": 2}, "gradient_clipping": 0.5})
    imported = convert({**BASE, "deepspeed": "ds.json", "max_grad_norm": 2, "bf16": True}, file)
    data = read(imported)
    assert at(data, "training.max_grad_norm") == 2.0
    assert at(data, "deepspeed.reduce_bucket_size") == 500_000_000
    assert about(imported, "ds.json: gradient_clipping")[0].kind is Kind.LOST


def test_the_command_tells_processes() -> None:
    """Launchers, their flags and the environment say how many processes there are."""
    run = ["llamafactory-cli", "train", "--stage", "sft"]
    python = ["src/train.py", "--stage", "sft"]
    for words, number in (
        (["NPROC_PER_NODE=4", *run], 4),
        (["CUDA_VISIBLE_DEVICES=0,2", *run], 2),
        (["torchrun", "--nproc_per_node", "8", *python], 8),
        (["deepspeed", "--num_gpus=3", *python], 3),
        (run, 1),
    ):
        assert read(import_words(words))["launch"]["processes"] == number


def test_overrides_win(tmp_path: Path) -> None:
    """`key=value` after a file, and a later file, win over what stands before."""
    (tmp_path / "a.yaml").write_text("stage: sft\nlearning_rate: 1.0e-4\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("seed: 2\n")
    command = import_words(["llamafactory-cli", "train", "a.yaml", "learning_rate=2e-4"])
    assert read(command)["training"]["learning_rate"] == 2e-4
    assert read(import_words(["a.yaml", "b.yaml"]))["training"]["seed"] == 2


def test_files_are_found_around_the_configuration(tmp_path: Path) -> None:
    """The registry is looked for from the working folder, and from the configuration's upwards."""
    (tmp_path / "root" / "examples" / "lora").mkdir(parents=True)
    (tmp_path / "root" / "data").mkdir()
    import json

    (tmp_path / "root/data/dataset_info.json").write_text(json.dumps(DATASETS))
    (tmp_path / "root/examples/lora/run.yaml").write_text("stage: sft\ndataset: one\n")
    data = read(import_words(["root/examples/lora/run.yaml"]))
    assert at(data, "data.sources.0.path") == "data/one.json"


def test_hubs_are_chosen_as_there(tmp_path: Path) -> None:
    """The environment decides between several hubs; without it Hugging Face wins."""
    import json

    registry = {"x": {"hf_hub_url": "h/x", "ms_hub_url": "m/x"}, "y": {"ms_hub_url": "m/y"}}
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(registry))
    run = ["llamafactory-cli", "train", "--stage", "sft", "--dataset", "x,y"]
    paths = [source["path"] for source in read(import_words(run))["data"]["sources"]]
    assert paths == ["h/x", "m/y"]
    paths = [
        source["path"]
        for source in read(import_words(["USE_MODELSCOPE_HUB=1", *run]))["data"]["sources"]
    ]
    assert paths == ["m/x", "m/y"]
