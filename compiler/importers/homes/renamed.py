"""Names that LLaMA-Factory had in earlier versions."""

from __future__ import annotations

from .entries import Table, at, decides, replaced

OLD_NAMES: dict[str, str] = {
    "name_module_trainable": "freeze_trainable_modules",
    "num_layer_trainable": "freeze_trainable_layers",
    "dpo_beta": "pref_beta",
    "dpo_loss": "pref_loss",
    "dpo_ftx": "pref_ftx",
    "orpo_beta": "pref_beta",
    "sft_packing": "packing",
    "cache_path": "tokenized_path",
    "ppo_logger": "report_to",
    "lora_bf16_mode": "pure_bf16",
    "new_special_tokens": "add_special_tokens",
    "image_resolution": "image_max_pixels",
    "video_resolution": "video_max_pixels",
    "evaluation_strategy": "eval_strategy",
    "switch_mode": "badam_switch_mode",
    "switch_block_every": "badam_switch_interval",
    "badam_switch_block_every": "badam_switch_interval",
}
"""Earlier name to today's, whose home it shares."""

DROPPED: Table = {
    "reserved_label_len": at("data.reserved_answer"),
    "split": decides("data.sources.split", how="today a key of each entry of `dataset_info.json`"),
    "disable_version_checking": replaced(
        "versions are pinned by `constraints.txt`, and compared when a program starts", False
    ),
    "save_to_json": replaced("the resolved spec and its manifest are part of every run folder"),
    "load_from_json": replaced("a spec is a TOML file; JSON of LLaMA-Factory can be imported"),
}
"""Names that today's LLaMA-Factory no longer has."""
