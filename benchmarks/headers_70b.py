"""A folder that looks like a 70B model from outside: real headers of 30 shards, no weights in them (sparse files)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

LAYERS, HIDDEN, INNER, KEYS, VOCABULARY, SHARDS = 80, 8192, 28672, 1024, 128256, 30
Shape = tuple[int, ...]


def tensors() -> Iterator[tuple[str, Shape]]:
    """Yield name and shape of every tensor of a 70B Llama, in the order of its files."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        head = f"model.layers.{layer}"
        for name, shape in (
            ("self_attn.q_proj", (HIDDEN, HIDDEN)),
            ("self_attn.k_proj", (KEYS, HIDDEN)),
            ("self_attn.v_proj", (KEYS, HIDDEN)),
            ("self_attn.o_proj", (HIDDEN, HIDDEN)),
            ("mlp.gate_proj", (INNER, HIDDEN)),
            ("mlp.up_proj", (INNER, HIDDEN)),
            ("mlp.down_proj", (HIDDEN, INNER)),
        ):
            yield f"{head}.{name}.weight", shape
        yield f"{head}.input_layernorm.weight", (HIDDEN,)
        yield f"{head}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def write(folder: Path) -> Path:
    """Write configuration, index and shards to `folder`; tokenizer files are the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    listed = list(tensors())
    size = -(-len(listed) // SHARDS)
    weight_map: dict[str, str] = {}
    for number in range(SHARDS):
        name = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        part = listed[number * size : (number + 1) * size]
        _write_shard(folder / name, part)
        weight_map |= {tensor: name for tensor, _ in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _write_shard(path: Path, part: list[tuple[str, Shape]]) -> None:
    header, end = {}, 0
    for name, shape in part:
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
