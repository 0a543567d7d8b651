"""`[generation]` and `[export]`: what happens with the trained model."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Generation:
    """How `tunec chat` picks words."""

    max_new_tokens: int = 512
    """Most tokens of an answer."""

    temperature: float = 0.7
    """Randomness: 0 always takes the likeliest token."""

    top_p: float = 0.9
    """Pick only among the likeliest tokens that reach this probability together."""

    repetition_penalty: float = 1.0
    """Above 1, tokens already used become less likely."""

    system: str | None = None
    """System prompt of the chat. Default: the template's own."""


@frozen(kw_only=True)
class Export:
    """How `tunec export` writes the merged model."""

    output_dir: str | None = None
    """Folder of the merged model, relative to the spec. Default: `merged` in the run folder."""

    dtype: Literal["same", "fp32", "bf16", "fp16"] = "same"
    """Number format of the merged weights; `same`: that of the base model's files."""

    max_shard_gib: float = 5.0
    """Largest safetensors file."""
