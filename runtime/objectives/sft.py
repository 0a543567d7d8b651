"""Supervised fine-tuning: cross-entropy on the tokens that carry loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from ..data.layouts import model_inputs
from ..data.samples import IGNORED
from .anchors import anchor, gathered_head
from .base import Batch, Objective
from .chunked import Wanted
from .scores import next_values
from .token_losses import TokenLoss, loss_of_logits


class Sft(Objective):
    """Next-token cross-entropy, summed over the tokens with a label."""

    gives_perplexity = True

    def __init__(
        self, *, loss: TokenLoss | None = None, accuracy: bool = False, **others: Any
    ) -> None:
        """Start without a model.

        With another `loss` than the cross-entropy, evaluations also measure that. With `accuracy`, they measure the
        share of tokens predicted right.
        """
        self.loss = loss
        if loss is not None:
            self.gives_perplexity = False
            self.eval_measures = (*self.eval_measures, "cross_entropy")
        self.measures_accuracy = accuracy
        if accuracy:
            self.eval_measures = (*self.eval_measures, "accuracy")
        super().__init__(**others)

    def num_items(self, batch: Batch) -> Tensor:
        """Return the number of tokens that carry loss, or the sum of their weights (a scalar)."""
        carries = batch["labels"][:, 1:].ne(IGNORED)
        weights_bt = batch.get("weights")
        return carries.sum() if weights_bt is None else (weights_bt[:, 1:] * carries).sum()

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step.

        `batch` holds `input_ids`, `labels`, and `attention_mask` or `position_ids`, each `[batch, sequence]`; where
        some tokens count more than others also `weights`, fp32.
        """
        if self.measures_accuracy and not self.is_training:
            found = self._measured(model, batch)
            if self.loss is None:
                return found
        if self.loss is not None:
            return self._other_loss(model, batch, self.loss)
        head, front = self.scorer.head, self.scorer.front
        targets_bt = next_values(batch["labels"], IGNORED, front)
        weights_bt = None if "weights" not in batch else next_values(batch["weights"], 0, front)
        inputs = {**model_inputs(batch), **self.router.inputs}
        if head is not None:
            with head.targets(targets_bt, weights_bt):
                outputs = model(**inputs)
                total: Tensor = outputs.logits
                head.check(total)
            return self.router.added(total, outputs, self.num_items(batch))
        outputs = model(**inputs)
        logits_btv = outputs.logits.float()
        losses_n = functional.cross_entropy(
            logits_btv.flatten(0, 1), targets_bt.flatten(), ignore_index=IGNORED, reduction="none"
        )
        total = (losses_n if weights_bt is None else losses_n * weights_bt.flatten()).sum()
        return self.router.added(total, outputs, self.num_items(batch))

    def _other_loss(self, model: Any, batch: Batch, loss: TokenLoss) -> Tensor:
        """Return the sum of another loss of each token."""
        head, front = self.scorer.head, self.scorer.front
        targets_bt = next_values(batch["labels"], IGNORED, front)
        weights_bt = None if "weights" not in batch else next_values(batch["weights"], 0, front)
        inputs = {**model_inputs(batch), **self.router.inputs}
        known = None if self.reference is None else anchor(self.reference, model, batch)
        with gathered_head(known, unless=head):
            if head is not None:
                with head.token_losses(targets_bt, weights_bt, loss, known):
                    outputs = model(**inputs)
                    sums: Tensor = outputs.logits
                    head.check(sums)
            else:
                outputs, kept = model(**inputs), targets_bt >= 0
                weights_n = None if weights_bt is None else weights_bt[kept]
                sums = loss_of_logits(
                    outputs.logits[kept], targets_bt[kept], weights_n, loss, known
                )
        num_items = self.num_items(batch)
        if not self.is_training:
            count = num_items.clamp(min=1e-9)
            self.tally.add("cross_entropy", sums[1] / count, num_items.float())
        return self.router.added(sums[0], outputs, num_items)

    def _measured(self, model: Any, batch: Batch) -> Tensor:
        """Return the same sum in an evaluation, and count the tokens that are the most likely ones in their places."""
        scores = self.scorer(model, batch, Wanted(top=True))
        self.tally.add("accuracy", scores.are_top)
        if "weights" not in batch:
            return -scores.log_probs.sum()
        front = self.scorer.front
        carries_bt = next_values(batch["labels"], IGNORED, front) >= 0
        return -(scores.log_probs * next_values(batch["weights"], 0, front)[carries_bt]).sum()
