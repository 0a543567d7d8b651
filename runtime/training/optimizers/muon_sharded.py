"""Muon under ZeRO: DeepSpeed gathers the gradient of each matrix, and updates slices of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration (Jordan et al. 2024), as in `torch.optim.Muon`."""

Groups = Sequence[dict[str, Any]]


def sharded_muon(
    matrices: Groups, others: Groups, *, learning_rate: float, momentum: float, steps: int
) -> torch.optim.Optimizer:
    """Return DeepSpeed's Muon on `matrices` and AdamW on `others`, with the update that `torch.optim.Muon` has.

    DeepSpeed's own is scaled in another way, and compiled at its first step.
    """
    from deepspeed.runtime.zero.muon import original_muon
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    original_muon.muon_update = partial(muon_update, steps=steps)
    adam = {"betas": (0.9, 0.999), "eps": 1e-8}
    groups = []
    for group in matrices:
        groups.append({"lr": learning_rate, **group, "use_muon": True, "momentum": momentum})
    for group in others:
        groups.append({"lr": learning_rate, **group, "use_muon": False, **adam})
    for group in groups:
        for parameter in group["params"]:
            parameter.use_muon = group["use_muon"]
    optimizer: torch.optim.Optimizer = MuonWithAuxAdam(groups, torch.optim.AdamW, {"fused": True})
    return optimizer


@torch.no_grad()
def muon_update(
    gradient: Tensor, momentum: Tensor, beta: float = 0.95, *, steps: int, **_: Any
) -> Tensor:
    """Return the orthogonal update of a matrix, scaled to the size of AdamW's (arXiv:2502.16982); moves the momentum."""
    from torch.optim._muon import _zeropower_via_newtonschulz

    momentum.lerp_(gradient, 1 - beta)
    mixed = gradient.lerp(momentum, beta)
    update: Tensor = _zeropower_via_newtonschulz(mixed, COEFFICIENTS, steps, 1e-7)
    scale: float = 0.2 * max(gradient.shape) ** 0.5
    return update.to(gradient.dtype) * scale
