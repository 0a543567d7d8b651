"""PiSSA on save: the adapter of the changed weights as an ordinary one of the weights as they were.

The frozen weights are `W - s B0 A0`, so that the trained module is `W + s (B A - B0 A0)`: an adapter of twice the
rank, `[B, -B0]` and `[A; A0]`, with the same scale `s` (Meng et al. 2024, arXiv:2404.02948, appendix C).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

START = "tunec_start"


def keep_start(adapted: Any) -> Any:
    """Return the model, which from now on knows the matrices its adapters started from."""
    start = {
        name: value.detach().cpu().clone()
        for name, value in adapted.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    setattr(adapted, START, start)
    return adapted


def is_converted(adapted: Any) -> bool:
    """Tell whether the adapter is saved in another form than it is trained in."""
    return hasattr(adapted, START)


def converted(adapted: Any, state: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """Return configuration and tensors of the ordinary adapter; `state` is that of the adapted model."""
    start: dict[str, Tensor] = getattr(adapted, START)
    whole = dict(state)
    for name, first in start.items():
        value = state[name].detach().cpu()
        first = first.to(value.dtype)
        is_a = ".lora_A." in name
        whole[name] = torch.cat([value, first] if is_a else [value, -first], dim=0 if is_a else 1)
    return _config(adapted.peft_config["default"]), whole


def _config(trained: Any) -> Any:
    """Return the configuration for twice the rank at the same scale: alpha / r, or alpha / sqrt(r)."""
    config = deepcopy(trained)
    grown = math.sqrt(2) if config.use_rslora else 2
    config.init_lora_weights = True
    config.r = 2 * config.r
    config.lora_alpha = grown * config.lora_alpha
    config.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    config.alpha_pattern = {name: grown * alpha for name, alpha in config.alpha_pattern.items()}
    return config
