"""LoRA+: groups of parameters with learning rates of their own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LoraPlus:
    """A higher learning rate for B than for A (Hayou et al. 2024, arXiv:2402.12354)."""

    b_rate_ratio: float
    embedding_rate: float = 1e-6

    def groups(
        self, model: Any, decayed: Collection[str], *, rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the groups that PEFT's `create_loraplus_optimizer` makes: A, embeddings, B, B without decay."""
        kinds: dict[str, list[Any]] = {"a": [], "embedding": [], "b": [], "plain": []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kinds[_kind(name, parameter, decayed)].append(parameter)
        fast = rate * self.b_rate_ratio
        rates = {
            "a": (rate, weight_decay),
            "embedding": (self.embedding_rate, weight_decay),
            "b": (fast, weight_decay),
            "plain": (fast, 0.0),
        }
        return [
            {"params": kinds[kind], "lr": each, "weight_decay": decay}
            for kind, (each, decay) in rates.items()
            if kinds[kind]
        ]


def _kind(name: str, parameter: Any, decayed: Collection[str]) -> str:
    if "lora_embedding_" in name:
        return "embedding"
    if "lora_B" in name or len(getattr(parameter, "ds_shape", parameter.shape)) == 1:
        return "b" if name in decayed else "plain"
    return "a"
