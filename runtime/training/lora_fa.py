"""LoRA-FA: only B is trained (Zhang et al. 2023, arXiv:2308.03303)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models.sharded import gathered


def freeze_a(model: Any) -> Any:
    """Return the model with A frozen, and the gradient of B turned into the one closest to that of the weights.

    That is `g (A A^T)^-1 / scale^2`, as in PEFT's `LoraFAOptimizer`. It is linear in `g`, so it is done as gradients
    come: before they are added up, clipped and cut into slices, and for any optimizer.
    """
    for module in model.modules():
        for name, a in getattr(module, "lora_A", {}).items():
            a.weight.requires_grad_(False)
            inverse = _inverse(a.weight) / module.scaling[name] ** 2
            module.lora_B[name].weight.register_hook(_times(inverse))
    return model


@torch.no_grad()
def _inverse(a: Tensor) -> Tensor:
    with gathered(a):
        products = a.float() @ a.float().T
    inverse: Tensor = torch.linalg.pinv(
        products + 1e-8 * torch.eye(len(products), device=products.device)
    )
    return inverse


def _times(inverse: Tensor) -> Callable[[Tensor], Tensor]:
    def project(gradient: Tensor) -> Tensor:
        return (gradient.float() @ inverse.to(gradient.device)).to(gradient.dtype)

    return project
