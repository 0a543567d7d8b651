"""Weights of a quantized checkpoint as the layers they stand for: packed files name and shape them otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from .config import Quantized, whole
from .weights import TensorFacts

Tensors = Mapping[str, TensorFacts]
Config = Mapping[str, Any]

BESIDE = (
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".SCB",
    ".weight_format",
    ".qzeros",
    ".scales",
    ".g_idx",
    "_weight_scale",
    "_weight_zero_point",
    ".weight_scale",
    ".weight_scale_inv",
)
"""Ends of names of scales and the like, which are no weights."""

INPUTS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
"""Layers that read what goes from block to block."""


def unpacked(tensors: Tensors, quantized: Quantized | None, config: Config) -> Tensors:
    """Return the weights by the names and shapes of plain files; one of an unknown shape is left out.

    GPTQ packs several inputs of a layer in a number, AWQ several outputs; bitsandbytes packs two weights in a byte and
    forgets the shape, which follows from the configuration.
    """
    if quantized is None:
        return tensors
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(BESIDE) or ".quant_state." in name:
            continue
        place, shape = _place(name), tensor.shape
        if name.endswith(".qweight") and len(shape) == 2 and quantized.bits:
            packed = 32 // quantized.bits
            rows, columns = shape
            shape = (
                (columns, rows * packed) if quantized.method == "gptq" else (columns * packed, rows)
            )
        elif f"{name}.absmax" in tensors and tensor.dtype == "U8":
            shape = _four_bit(name, tensor, config)
        if shape:
            found[place] = evolve(tensor, shape=shape)
    return found


def _place(name: str) -> str:
    for end in (".qweight", "._weight_qdata"):
        if name.endswith(end):
            return f"{name.removesuffix(end)}.weight"
    return name


def _four_bit(name: str, tensor: TensorFacts, config: Config) -> tuple[int, ...]:
    layer = name.rsplit(".", 2)[-2]
    hidden, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads") or 0
    size = whole(config, "head_dim") or (hidden // heads if hidden and heads else 0)
    width = hidden if layer in INPUTS else None
    width = heads * size if layer == "o_proj" else width
    width = whole(config, "intermediate_size") if layer == "down_proj" else width
    return (2 * tensor.count // width, width) if width else ()
