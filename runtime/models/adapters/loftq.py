"""LoftQ: adapters that start from what quantizing the weights lost (Li et al. 2023, arXiv:2310.08659)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import ExitCode, UserError
from ..quantization import dense_weight_of


@torch.no_grad()
def start_from_loss(adapted: Any, original: Any) -> Any:
    """Return the model, its LoRA adapters started from the best approximation of `W - Q` that their rank has.

    `original` is the same model before it was quantized. The frozen weights stay those that every program gets by
    quantizing the model's files, so the adapter belongs to them. That is one step of the paper's alternation: a second
    would round `W - BA` instead of `W`, and no file would hold what comes of it.

    Raises:
        UserError: no layer with an adapter is quantized, or the two models differ.
    """
    count = 0
    for name, layer in adapted.base_model.model.named_modules():
        pairs = getattr(layer, "lora_A", None)
        quantized = None if not pairs else dense_weight_of(layer.get_base_layer())
        if pairs is None or quantized is None:
            continue
        rounded = quantized()
        whole = _weight_of(original, name, rounded)
        for adapter in pairs:
            b, a = low_rank(whole.float() - rounded.float(), rank=layer.r[adapter])
            scale = float(layer.scaling[adapter])
            for module, value in ((layer.lora_A[adapter], a), (layer.lora_B[adapter], b / scale)):
                module.weight.copy_(value)
        count += 1
    if not count:
        raise UserError(
            "LoftQ makes up for what quantizing loses, and no layer with an adapter is quantized",
            help="see `[quantization]` and `method.targets`",
            code=ExitCode.SPEC,
        )
    return adapted


def low_rank(residual: Tensor, *, rank: int) -> tuple[Tensor, Tensor]:
    """Return B `[out, rank]` and A `[rank, in]`, whose product is nearest to the residual (Eckart and Young 1936)."""
    u, s, vh = torch.linalg.svd(residual, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vh[:rank]


def _weight_of(original: Any, name: str, like: Tensor) -> Tensor:
    try:
        weight: Tensor = original.get_submodule(name).weight
    except AttributeError:
        weight = torch.empty(0)
    if weight.shape != like.shape:
        raise UserError(
            f"LoftQ finds no weight `{name}` of the same shape in the model that is not quantized",
            code=ExitCode.INTERNAL,
        )
    return weight.to(like.device)
