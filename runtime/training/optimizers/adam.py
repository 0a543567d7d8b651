"""Adam and its relatives: AdamW, with state in other forms, and Adam-mini."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from .base import Settings, is_offloaded, trained

State = Literal["fp32", "8bit", "paged-32bit", "paged-8bit"]


@dataclass(frozen=True, kw_only=True)
class AdamW(Settings):
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101).

    Its state is kept as `state` says: by torch, or by bitsandbytes in blocks of 8 bit (arXiv:2110.02861) or in
    pages that move between GPU and host.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    state: State = "fp32"

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return AdamW with decay only on weights (no biases, no norms)."""
        create = _adamw_class(deepspeed) if self.state == "fp32" else _in_blocks(model, self.state)
        optimizer: torch.optim.Optimizer = create(
            self.groups(model, decayed),
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
        )
        return optimizer


@dataclass(frozen=True, kw_only=True)
class AdamMini(Settings):
    """Adam-mini: one second moment a head or a neuron (Zhang et al. 2024, arXiv:2406.16793)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return Adam-mini, which finds its blocks by the names of the weights."""
        from adam_mini import Adam_mini

        config = model.config.get_text_config()
        made = Adam_mini(
            named_parameters=trained(model),
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            dim=config.hidden_size,
            n_heads=config.num_attention_heads,
            n_kv_heads=getattr(config, "num_key_value_heads", None),
            verbose=False,
        )
        # Its own size of a head takes for granted that the heads together are as wide as the model.
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        made.head_numel = config.hidden_size * width
        optimizer: torch.optim.Optimizer = made
        return optimizer


def _adamw_class(deepspeed: Mapping[str, Any]) -> Any:
    """DeepSpeed's CPU Adam where the optimizer lives on the host of a GPU, torch's fused AdamW elsewhere."""
    if is_offloaded(deepspeed):
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return partial(DeepSpeedCPUAdam, adamw_mode=True)
    return partial(torch.optim.AdamW, fused=True)


def _in_blocks(model: Any, state: State) -> Any:
    from bitsandbytes import optim

    keep_embeddings(model)
    bits = 32 if state == "paged-32bit" else 8
    return partial(optim.AdamW, optim_bits=bits, is_paged=state.startswith("paged"))


def keep_embeddings(model: Any) -> None:
    """Keep the state of embeddings in 32 bit, as transformers does: rare tokens have gradients of another size."""
    from bitsandbytes.optim import GlobalOptimManager

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
