"""A tiny random model with a real tokenizer and a chat template, and small data: what most tests train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "the boat is called Thimble and the dog is called Turnip",
    "which colour is the lamp in the tower? The lamp is violet.",
    "who keeps the station? Marta Quill keeps the station on Bramble Island.",
    "system user assistant You are Wren, a helpful bird.",
]


def make_model(folder: Path, *, tied: bool = True, layers: int = 2) -> Path:
    """Write a random Llama of about 60,000 parameters (fp32) and its tokenizer to `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def make_tokenizer(folder: Path) -> Any:
    """Write a byte-level BPE tokenizer with ChatML marks to `folder` and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    return tokenizer


def write_chats(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write `count` conversations of uneven length in the messages format."""
    names = ["Thimble", "Turnip", "Marta Quill", "Bramble Island", "violet", "leek pie"]
    rows = []
    for number in range(count):
        name = names[(number + seed) % len(names)]
        question = f"What is number {number}?" + " Please say it." * (number % 4)
        turns = [
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "content": f"Number {number} is {name}." + " Yes." * (number % 3),
            },
        ]
        if number % 5 == 0:
            turns.insert(0, {"role": "system", "content": "You are Wren."})
        if number % 7 == 0:
            turns += [
                {"role": "user", "content": "And again?"},
                {"role": "assistant", "content": f"Again, {name}."},
            ]
        rows.append(json.dumps({"messages": turns}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_spec(path: Path, text: str, *, base: str | None = None) -> Path:
    """Write a spec over the small sound base (or `base`): keys of `text` replace those of the base."""
    import tomli

    sections: dict[str, Any] = tomli.loads(BASE if base is None else base)
    for name, values in tomli.loads(text).items():
        merged = {**sections.get(name, {}), **values}
        if values.get("type", sections.get(name, {}).get("type")) != sections.get(name, {}).get(
            "type"
        ):
            merged = values
        sections[name] = merged
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(sections), encoding="utf-8")
    return path


BASE = """
[run]
output_dir = "runs/first"
[model]
path = "model"
[data]
max_length = 128
sources = [{ format = "messages", path = "data/chat.jsonl" }]
[method]
type = "lora"
rank = 4
[training]
steps = 4
learning_rate = 1e-2
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = 4
micro_size = 2
[launch]
device = "cpu"
[logging]
every_steps = 1
"""


def to_toml(sections: dict[str, Any]) -> str:
    """Return plain data of two levels as TOML."""
    from tunec.compiler.render.literals import toml_literal

    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {toml_literal(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
