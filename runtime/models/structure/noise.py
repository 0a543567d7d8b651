"""Noise on embeddings (NEFTune, Jain et al. 2023, arXiv:2310.05914)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def add_embedding_noise(model: Any, *, alpha: float) -> None:
    """Add uniform noise from `[-1, 1] * alpha / sqrt(L * d)` to the embeddings while training.

    L is the number of tokens of the sample, without padding and without its neighbours in a packed row; d the width of
    an embedding. Nothing is added in evaluation. The noise comes from torch's own generator, whose state is part of
    every checkpoint.
    """
    seen: dict[str, Any] = {}

    def look(_module: Any, _args: Any, kwargs: Mapping[str, Any]) -> None:
        seen.update({name: kwargs.get(name) for name in ("position_ids", "attention_mask")})

    def disturb(module: Any, _args: Any, embedded_btd: Tensor) -> Tensor | None:
        if not module.training:
            return None
        scale_bt = alpha / (_lengths(embedded_btd, **seen) * embedded_btd.shape[-1]).sqrt()
        noise_btd = torch.rand_like(embedded_btd, dtype=torch.float32) * 2 - 1
        return embedded_btd + (noise_btd * scale_bt[..., None]).to(embedded_btd.dtype)

    model.register_forward_pre_hook(look, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(disturb)


def _lengths(
    embedded_btd: Tensor, position_ids: Tensor | None = None, attention_mask: Tensor | None = None
) -> Tensor:
    """Return the length of the sample that each token belongs to, fp32 `[batch, sequence]`; infinite for padding."""
    rows, length, _ = embedded_btd.shape
    if position_ids is not None:
        number_bt = position_ids.expand(rows, length).eq(0).cumsum(1)
        ones_bt = torch.ones_like(number_bt, dtype=torch.float32)
        counts = ones_bt.new_zeros(rows, length + 1).scatter_add_(1, number_bt, ones_bt)
        return counts.gather(1, number_bt)
    if attention_mask is not None and attention_mask.shape == (rows, length):
        counts_bt = attention_mask.sum(1, keepdim=True).float().expand(rows, length)
        return counts_bt.masked_fill(attention_mask.eq(0), math.inf)
    return embedded_btd.new_full((rows, length), float(length), dtype=torch.float32)
