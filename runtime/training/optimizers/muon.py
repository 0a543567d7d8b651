"""Muon for matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .base import Combined, Settings
from .muon_sharded import sharded_muon


@dataclass(frozen=True, kw_only=True)
class Muon(Settings):
    """Muon (Jordan et al. 2024; scaled as in arXiv:2502.16982, so that one learning rate serves both)."""

    momentum: float = 0.95
    newton_schulz_steps: int = 5

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return torch's Muon on the matrices inside the model, and AdamW on embeddings, head and vectors."""
        outside = {id(parameter) for parameter in _edges(model)}
        inner: list[dict[str, Any]] = []
        rest: list[dict[str, Any]] = []
        for group in self.groups(model, decayed):
            matrices = [p for p in group["params"] if _is_matrix(p) and id(p) not in outside]
            known = {id(parameter) for parameter in matrices}
            others = [p for p in group["params"] if id(p) not in known]
            inner += [{**group, "params": matrices}] if matrices else []
            rest += [{**group, "params": others}] if others else []
        if inner and deepspeed.get("zero_optimization", {}).get("stage"):
            return sharded_muon(
                inner,
                rest,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                steps=self.newton_schulz_steps,
            )
        parts: list[torch.optim.Optimizer] = []
        if inner:
            parts.append(
                torch.optim.Muon(
                    inner,
                    lr=self.learning_rate,
                    momentum=self.momentum,
                    ns_steps=self.newton_schulz_steps,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            parts.append(torch.optim.AdamW(rest, lr=self.learning_rate, fused=True))
        return Combined(parts)


def _is_matrix(parameter: Any) -> bool:
    return len(getattr(parameter, "ds_shape", parameter.shape)) == 2


def _edges(model: Any) -> list[Any]:
    """Return the weights of the embeddings and of the head."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [parameter for end in ends if end is not None for parameter in end.parameters()]
