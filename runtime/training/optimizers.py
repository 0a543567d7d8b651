"""Optimizers: what the generated program says becomes groups of parameters and an update rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch


class Optimizer(Protocol):
    """The settings of an optimizer."""

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""
        ...

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return the optimizer over the trainable parameters of the model.

        Parameters named in `decayed` get weight decay. `deepspeed` is the engine's configuration.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return AdamW with decay only on weights (no biases, no norms)."""
        create = _adamw_class(deepspeed)
        optimizer: torch.optim.Optimizer = create(
            groups(model, decayed, self.weight_decay),
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
        )
        return optimizer


def groups(model: Any, decayed: Collection[str], weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: with weight decay and without."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    both = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in both if group["params"]]


def _adamw_class(deepspeed: Mapping[str, Any]) -> Any:
    """DeepSpeed's CPU Adam where the optimizer lives on the host of a GPU, torch's fused AdamW elsewhere."""
    if "offload_optimizer" in deepspeed.get("zero_optimization", {}):
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return partial(DeepSpeedCPUAdam, adamw_mode=True)
    return partial(torch.optim.AdamW, fused=True)
