"""A tiny random model with a real tokenizer and a chat template, and small data: what most tests train on."""

from __future__ import annotations

import json
import shutil
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


def write_kinds(base: Path) -> None:
    """Write data of every format, a catalog, a reward function and host files to `base`."""
    data, turns = base / "data", [{"role": "user", "content": "Who?"}]
    answer = {"role": "assistant", "content": "Marta Quill."}
    nobody = {"role": "assistant", "content": "Nobody."}
    kinds: dict[str, list[dict[str, Any]]] = {
        "pairs": [{"prompt": "Who?", "chosen": "Marta.", "rejected": "Nobody."}] * 8,
        "margins": [{"prompt": "Who?", "chosen": "I.", "rejected": "You.", "margin": 1.0}] * 8,
        "judged": [
            {"messages": [*turns, answer if n % 2 == 0 else nobody], "label": n % 2 == 0}
            for n in range(8)
        ],
        "praised": [{"messages": [*turns, answer], "label": True}] * 8,
        "compared": [
            {"messages": turns, "chosen": answer, "rejected": "Nobody."} for _ in range(8)
        ],
        "shared": [
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]}
        ]
        * 8,
        "texts": [{"text": "The lamp in the tower is violet."}] * 8,
        "pictures": [
            {"messages": [{"role": "user", "content": "<image>Who?"}, answer], "images": ["a.png"]}
        ]
        * 8,
        "prompts": [{"prompt": "Who keeps the station?", "answer": "Marta Quill"}] * 8,
    }
    for folder in (data, data / "many", data / "mixed", data / "none", base / "checkpoint"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, rows in kinds.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name in ("many/a.jsonl", "many/b.jsonl", "mixed/a.jsonl"):
        write_chats(data / name, 4)
    for name in ("table.csv", "mixed/b.csv"):
        (data / name).write_text("messages,source\nhello,web\n", encoding="utf-8")
    entries = {"chats": "data/chat.jsonl", "chats-2": "data/more.jsonl"}
    catalog = [f'[{k}]\nformat = "messages"\npath = "{v}"\n' for k, v in entries.items()]
    catalog.append('[pairs]\nformat = "preference"\npath = "data/pairs.jsonl"\n')
    (data / "table.parquet").write_bytes(b"PAR1")
    (data / "a.png").touch()
    (base / "datasets.toml").write_text("\n".join(catalog), encoding="utf-8")
    (base / "other-words").mkdir(exist_ok=True)
    config = {"model_type": "llama", "vocab_size": 32000}
    (base / "other-words" / "config.json").write_text(json.dumps(config))
    (base / "rewards.py").write_text(
        "def reward(answers):\n    return [float(len(answer)) for answer in answers]\n"
    )
    (base / "hosts").write_text("# two machines\na slots=8\nb slots=8\n")
    (base / "bad-hosts").write_text("a slots=8\nb\n")


def change_config(folder: Path, **values: Any) -> Path:
    """Set entries of a model's config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def write_adapter(folder: Path, **values: Any) -> Path:
    """Write the folder of a LoRA adapter of rank 4 for `model`, with empty weights; `values` change its config."""
    config = {"peft_type": "LORA", "base_model_name_or_path": "model", "r": 4, **values}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def write_models(base: Path) -> None:
    """Write the models and adapters that rules tell apart, made from `base/model` by another config.json."""
    from safetensors.torch import load_file, save_file

    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    configs: dict[str, dict[str, Any]] = {
        "coded-model": {"model_type": "bespoke", "auto_map": {"AutoModel": "code.Bespoke"}},
        "unconverted-model": {"architectures": ["InternVLChatModel"]},
        "absolute-model": {"model_type": "gpt2", "rope_parameters": None, "rope_scaling": None},
        "capped-model": {"model_type": "gemma2"},
        "recurrent-model": {"model_type": "mamba2"},
        "stretched-model": {"rope_parameters": yarn},
        "quantized-model": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "squeezed-model": {"quantization_config": {"quant_method": "squeezed", "bits": 3}},
        "expert-model": {"model_type": "mixtral", "num_local_experts": 4},
        "unbalanced-model": {"model_type": "deepseek_v3", "n_routed_experts": 4},
    }
    for name, values in configs.items():
        change_config(Path(shutil.copytree(base / "model", base / name)), **values)
    weights = base / "expert-model" / "model.safetensors"
    tensors = load_file(weights)
    experts = tensors["model.layers.0.mlp.up_proj.weight"].expand(4, -1, -1).contiguous()
    save_file({**tensors, "model.layers.0.mlp.experts.gate_up_proj": experts}, weights)
    write_adapter(base / "adapter")
    write_adapter(base / "other-adapter")
    write_adapter(base / "wide-adapter", r=16)
    write_adapter(base / "headless-adapter")
    write_adapter(base / "query-adapter", target_modules=["q_proj"])
    write_adapter(base / "tuned-prompt", peft_type="P_TUNING")
    write_adapter(base / "reward", task_type="SEQ_CLS", modules_to_save=["score"])
    write_adapter(base / "foreign-adapter", base_model_name_or_path="org/foreign-7b")
    marks = TEMPLATE.replace("<|im_start|>", "<|turn|>")
    (base / "marks.jinja").write_text(marks)
    endless = "{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}"
    (base / "endless.jinja").write_text(endless)


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


BAD_ROW = '{"messages": [{"role": "assistant", "content": "Hello."}]}'
"""A conversation in the wrong order."""

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


def write_over(path: Path, text: str) -> Path:
    """Write the base spec with `text` over it; a length or a batch of its own replaces that of the base."""
    import tomli

    base, given = tomli.loads(BASE), tomli.loads(text)
    if "epochs" in given.get("training", {}):
        base["training"].pop("steps")
    if "batch" in given:
        base["batch"] = {}
    return write_spec(path, text, base=to_toml(base))


def to_toml(sections: dict[str, Any]) -> str:
    """Return plain data of two levels as TOML."""
    from tunec.compiler.render.literals import toml_literal

    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {toml_literal(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
