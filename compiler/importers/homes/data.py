"""LLaMA-Factory's arguments for data, benchmarks and generation, the keys of `dataset_info.json`, and their homes."""

from __future__ import annotations

from ..convert import positive, share_or_count, words
from .entries import Home, Table, anyway, at, decides, replaced

DATA: Table = {
    "template": at(
        "template[named].name", how="the name is the same; without it the tokenizer's own"
    ),
    "dataset": decides(
        "data.sources",
        how="a name becomes the table that `dataset_info.json` describes",
    ),
    "eval_dataset": decides(
        "data.eval_sources", how="a name becomes the table that `dataset_info.json` describes"
    ),
    "dataset_dir": decides("data.sources.path", how="the folder is part of the path"),
    "media_dir": at("media.dir"),
    "cutoff_len": decides("data.max_length", how="less 1 where `packing` is written: so it was"),
    "train_on_prompt": decides("objective[sft].loss_on", how='`true` is `"all"`'),
    "mask_history": decides("objective[sft].loss_on", how='`true` is `"last"`'),
    "streaming": at("data.streaming"),
    "buffer_size": at("data.shuffle_buffer"),
    "mix_strategy": at("data.mix"),
    "interleave_probs": decides("data.sources.weight", how="one share a source"),
    "overwrite_cache": at("data.rebuild"),
    "preprocessing_batch_size": at("data.batch_rows"),
    "preprocessing_num_workers": at("data.workers"),
    "max_samples": decides(
        "data.sources.limit", "data.eval_sources.limit", how="the same number for each source"
    ),
    "eval_num_beams": at("evaluation.num_beams"),
    "ignore_pad_token_for_loss": replaced("padding never carries loss", True),
    "val_size": at("data.eval_rows", convert=share_or_count),
    "eval_on_each_dataset": at("evaluation.each_source"),
    "packing": decides("data.packing", how='`true` is `"joined"`, `false` is `"off"`'),
    "neat_packing": decides("data.packing", how='`true` is `"isolated"`'),
    "tool_format": at("template.tool_format"),
    "default_system": at("template.system"),
    "enable_thinking": decides(
        "template.thinking",
        how='reasoning templates only: `true` is `"on"`, `false` is `"off"`, none is `"mixed"`',
    ),
    "preserve_thinking": at("template.keep_thoughts"),
    "tokenized_path": at("data.prepared_dir"),
    "data_shared_file_system": at("data.shared_storage", default=False),
}

BENCHMARK: Table = {
    "task": at("benchmark.task"),
    "task_dir": at("benchmark.data_dir"),
    "batch_size": at("benchmark.batch_size"),
    "seed": (Home("training.seed"), Home("benchmark.seed")),
    "lang": at("benchmark.language"),
    "n_shot": at("benchmark.shots"),
    "save_dir": at("benchmark.output_dir"),
    "download_mode": at(
        "benchmark.download",
        convert=words(
            reuse_dataset_if_exists="reuse",
            reuse_cache_if_exists="reuse-cache",
            force_redownload="force",
        ),
    ),
}

GENERATING: Table = {
    "do_sample": at("generation.sample"),
    "temperature": at("generation.temperature", default=0.95),
    "top_p": at("generation.top_p", default=0.7),
    "top_k": at("generation.top_k", default=50),
    "num_beams": at("generation.num_beams"),
    "max_length": decides(
        "generation.max_length", how="counts only where `max_new_tokens` is not above 0"
    ),
    "max_new_tokens": at("generation.max_new_tokens", convert=positive, default=1024),
    "repetition_penalty": at("generation.repetition_penalty"),
    "length_penalty": at("generation.length_penalty"),
    "skip_special_tokens": at("generation.skip_special_tokens"),
}

ALL = "data.sources"
CHATS = "data.sources[alpaca|messages|sharegpt]"

DATASET_INFO: Table = {
    "file_name": at(f"{ALL}.path", how="below `dataset_dir`"),
    "hf_hub_url": decides(
        f"{ALL}.path", f"{ALL}.hub", how="wins over the others, unless the environment decides"
    ),
    "ms_hub_url": decides(
        f"{ALL}.path", f"{ALL}.hub", how="with USE_MODELSCOPE_HUB, or where no `hf_hub_url` stands"
    ),
    "om_hub_url": decides(
        f"{ALL}.path", f"{ALL}.hub", how="with USE_OPENMIND_HUB, or where no other hub is named"
    ),
    "script_url": replaced(
        "loading scripts run code of strangers, and newer versions of `datasets` refuse them; "
        "write the rows to a JSON Lines file and name that"
    ),
    "cloud_file_name": decides(f"{ALL}.path", how="the address as it is"),
    "formatting": decides(
        f"{ALL}.format",
        how="`alpaca` and `sharegpt` as they are, `openai` is `messages`; `text` in pretraining, and where the columns "
        "name a prompt and no answer",
    ),
    "ranking": decides(
        f"{CHATS}.chosen",
        f"{CHATS}.rejected",
        how="a source with both columns is one of pairs; without `ranking` they are not read",
    ),
    "subset": at(f"{ALL}.subset"),
    "split": at(f"{ALL}.split"),
    "folder": at(f"{ALL}.folder"),
    "num_samples": at(f"{ALL}.sample"),
    "columns": decides(CHATS, how="its keys follow"),
    "tags": decides("data.sources[sharegpt]", how="its keys follow"),
    "columns.prompt": at("data.sources[alpaca].instruction", "data.sources[text].text"),
    "columns.query": at("data.sources[alpaca].input"),
    "columns.response": at("data.sources[alpaca].output"),
    "columns.history": at("data.sources[alpaca].history"),
    "columns.messages": at("data.sources[messages|sharegpt].messages"),
    "columns.system": at("data.sources[alpaca|sharegpt].system"),
    "columns.tools": at(f"{CHATS}.tools"),
    "columns.images": at(f"{CHATS}.images"),
    "columns.videos": at(f"{CHATS}.videos"),
    "columns.audios": at(f"{CHATS}.audios"),
    "columns.chosen": at(f"{CHATS}.chosen"),
    "columns.rejected": at(f"{CHATS}.rejected"),
    "columns.kto_tag": at(f"{CHATS}.label"),
    "tags.role_tag": at("data.sources[messages|sharegpt].role"),
    "tags.content_tag": at("data.sources[messages|sharegpt].content"),
    "tags.user_tag": at("data.sources[sharegpt].user_tag"),
    "tags.assistant_tag": at("data.sources[sharegpt].assistant_tag"),
    "tags.observation_tag": at("data.sources[sharegpt].tool_result_tag"),
    "tags.function_tag": at("data.sources[sharegpt].tool_call_tag"),
    "tags.system_tag": at("data.sources[sharegpt].system_tag"),
}

HELD_BY_VERBS = anyway(
    "what is done is said by the verb: `tunec train`, and evaluation as the spec's `[evaluation]` has it"
)
