"""Supervised fine-tuning: cross-entropy on the tokens that carry loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from ..data.layouts import model_inputs
from ..data.samples import IGNORED
from ..models.adapters import num_virtual_tokens
from .head import FusedHead, fuse_head
from .router import RouterLoss


class Sft:
    """Next-token cross-entropy, summed over the tokens with a label."""

    def __init__(self, *, router_loss: float | None = None) -> None:
        """Start without a model; `attach` follows. `router_loss` weighs the loss for a model's routers."""
        self._head: FusedHead | None = None
        self._front = 0
        self.router = RouterLoss(router_loss)

    def attach(self, model: Any) -> str:
        """Fuse the loss with the model's head where that is exact; return what was chosen, for the log."""
        self._head = fuse_head(model)
        self._front = num_virtual_tokens(model)
        self.router.attach(model)
        return "fused head and loss" if self._head else "full logits (the model changes them)"

    def num_items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the number of tokens that carry loss, or the sum of their weights (a scalar)."""
        carries = batch["labels"][:, 1:].ne(IGNORED)
        weights_bt = batch.get("weights")
        return carries.sum() if weights_bt is None else (weights_bt[:, 1:] * carries).sum()

    def loss_sum(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step.

        `batch` holds `input_ids`, `labels`, and `attention_mask` or `position_ids`, each `[batch, sequence]`; where
        some tokens count more than others also `weights`, fp32.
        """
        targets_bt = _next(batch["labels"], IGNORED, self._front)
        weights_bt = None if "weights" not in batch else _next(batch["weights"], 0, self._front)
        inputs = {**model_inputs(batch), **self.router.inputs}
        if self._head is not None:
            with self._head.targets(targets_bt, weights_bt):
                outputs = model(**inputs)
                total: Tensor = outputs.logits
                self._head.check(total)
            return self.router.added(total, outputs, self.num_items(batch))
        outputs = model(**inputs)
        logits_btv = outputs.logits.float()
        losses_n = functional.cross_entropy(
            logits_btv.flatten(0, 1), targets_bt.flatten(), ignore_index=IGNORED, reduction="none"
        )
        total = (losses_n if weights_bt is None else losses_n * weights_bt.flatten()).sum()
        return self.router.added(total, outputs, self.num_items(batch))


def _next(values_bt: Tensor, fill: float, front: int = 0) -> Tensor:
    """Return what belongs to the token that each one predicts, behind `front` virtual tokens."""
    batch, length = values_bt.shape
    shifted = values_bt.new_full((batch, front + length), fill)
    shifted[:, front:-1] = values_bt[:, 1:]
    return shifted
