"""What the `config.json` of a model says, read with tolerance: anything may be missing or of another type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

Config = Mapping[str, Any]

VISION = ("vision_config", "audio_config", "visual", "thinker_config", "vit_config")
"""Parts that only models with eyes or ears have."""

BESIDE_LANGUAGE = re.compile(
    r"(?:^|\.)(?:visual|vision_tower|vision_model|audio_tower|image_tower|video_tower"
    r"|multi_modal_projector|connector|merger|merger_list|deepstack_merger_list|image_newline"
    r"|embed_vision|embed_audio)(?:\.|$)"
)
"""Tensors of such models that belong to a tower or projector, and not to the language model."""

TEXT = ("text_config", "llm_config", "language_config")
"""Names of the language part of a multimodal model."""

EXPERTS = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "moe_num_experts",
    "num_routed_experts",
)

LARGE = 2**48
"""No size of a model comes near; numbers beyond are a damaged file."""

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@frozen
class Quantized:
    """How a checkpoint is quantized already."""

    method: str
    """Such as `gptq`, `awq`, `bitsandbytes`, `fp8`, `mxfp4`."""

    bits: int | None = None

    @property
    def name(self) -> str:
        """The method with its bits, for messages."""
        return self.method if self.bits is None else f"{self.method}, {self.bits} bit"


def text_part(config: Config) -> Config:
    """Return the configuration of the language part: a nested one, or all of it."""
    nested = (config.get(name) for name in TEXT)
    return next((part for part in nested if isinstance(part, Mapping)), config)


def whole(config: Config, *names: str) -> int | None:
    """Return the first of these entries that is a whole number of a sane size."""
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and abs(value) < LARGE), None)


def text(config: Config, name: str) -> str | None:
    """Return an entry when it is a text."""
    value = config.get(name)
    return value if isinstance(value, str) else None


def quantized(config: Config) -> Quantized | None:
    """Return how the weights are quantized already, or None."""
    entry = config.get("quantization_config") or text_part(config).get("quantization_config")
    if not isinstance(entry, Mapping):
        return None
    method = text(entry, "quant_method") or "bitsandbytes"
    bits = whole(entry, "bits", "w_bit", "nbits")
    if bits is None:
        bits = 4 if entry.get("load_in_4bit") is True else bits
        bits = 8 if entry.get("load_in_8bit") is True else bits
    return Quantized(method.lower(), bits)


def rope_kind(config: Config) -> str | None:
    """Return how rotary positions are scaled already; None for not at all."""
    part = text_part(config)
    for name in ("rope_scaling", "rope_parameters"):
        entry = part.get(name)
        if isinstance(entry, Mapping):
            kind = text(entry, "rope_type") or text(entry, "type")
            if kind not in (None, "default", "mrope"):
                return kind
    return None


def rope_length(config: Config) -> int | None:
    """Return the length of text that rotary positions were made for, before any stretching that is known."""
    part = text_part(config)
    for name in ("rope_parameters", "rope_scaling"):
        entry = part.get(name)
        if isinstance(entry, Mapping):
            length = whole(entry, "original_max_position_embeddings")
            if length is not None and length > 0:
                return length
    length = whole(part, "max_position_embeddings")
    return length if length is not None and length > 0 else None


def rope_kinds(config: Config) -> int:
    """Return how many kinds of rotary positions there are: some families have one for each kind of layer."""
    entry = text_part(config).get("rope_parameters")
    nested = [value for value in entry.values() if isinstance(value, Mapping)] if isinstance(entry, Mapping) else []  # fmt: skip
    return len(nested) or 1


def shows_rope(config: Config) -> bool:
    """Tell whether the configuration speaks of rotary positions."""
    part = text_part(config)
    return any(name in part for name in ("rope_theta", "rope_scaling", "rope_parameters"))


def num_experts(config: Config) -> int:
    """Return the number of experts, 0 for a dense model."""
    return whole(text_part(config), *EXPERTS) or 0


def num_layers(config: Config) -> int | None:
    """Return the number of transformer blocks."""
    return whole(text_part(config), *LAYERS)


def sees_or_hears(config: Config) -> bool:
    """Tell whether the model takes images, videos or sound."""
    return any(isinstance(config.get(name), Mapping) for name in VISION)
