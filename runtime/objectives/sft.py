"""Supervised fine-tuning: cross-entropy on the tokens that carry loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..data.layouts import model_inputs
from ..data.samples import IGNORED
from .head import FusedHead, fuse_head


class Sft:
    """Next-token cross-entropy, summed over the tokens with a label."""

    def __init__(self) -> None:
        """Start without a model; `attach` follows."""
        self._head: FusedHead | None = None

    def attach(self, model: Any) -> str:
        """Fuse the loss with the model's head where that is exact; return what was chosen, for the log."""
        self._head = fuse_head(model)
        return "fused head and loss" if self._head else "full logits (the model changes them)"

    def num_items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the number of tokens that carry loss (int64 scalar)."""
        return batch["labels"][:, 1:].ne(IGNORED).sum()

    def loss_sum(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step.

        `batch` holds `input_ids`, `labels`, and `attention_mask` or `position_ids`, each `[batch, sequence]`.
        """
        labels_bt = batch["labels"]
        targets_bt = torch.full_like(labels_bt, IGNORED)
        targets_bt[:, :-1] = labels_bt[:, 1:]
        inputs = model_inputs(batch)
        if self._head is not None:
            with self._head.targets(targets_bt):
                total: Tensor = model(**inputs).logits
                self._head.check(total)
            return total
        logits_btv = model(**inputs).logits.float()
        return functional.cross_entropy(
            logits_btv.flatten(0, 1), targets_bt.flatten(), ignore_index=IGNORED, reduction="sum"
        )
