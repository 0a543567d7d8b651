"""Scores of tokens: log-probabilities and what else is asked, without logits of whole sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.layouts import model_inputs
from ..data.samples import IGNORED
from ..models.adapters import num_virtual_tokens
from .chunked import ENTROPY, LOG_PROB, MEAN, TOP, Wanted, scores_of_logits
from .head import FusedHead, fuse_head

PLAIN = Wanted()
"""Log-probabilities alone."""


@dataclass(frozen=True)
class Scores:
    """What a model says of the `n` tokens with a label, in the order of rows and positions."""

    all: Tensor
    """fp32 `[4, n]`, see `chunked`."""
    rows: Tensor
    """The row of the batch that each token is in, int64 `[n]`."""
    num_rows: int
    outputs: Any = None
    """What the model returned."""

    @property
    def log_probs(self) -> Tensor:
        """Log-probability of each token, `[n]`."""
        return self.all[LOG_PROB]

    @property
    def means(self) -> Tensor:
        """Mean log-probability of all tokens of the vocabulary in each place, `[n]`."""
        return self.all[MEAN]

    @property
    def entropies(self) -> Tensor:
        """Entropy of the prediction in each place, nats, `[n]`."""
        return self.all[ENTROPY]

    @property
    def are_top(self) -> Tensor:
        """1 where the token is the most likely one, else 0, `[n]`."""
        return self.all[TOP]

    def per_row(self, values: Tensor | None = None) -> Tensor:
        """Return the sums of the log-probabilities, or of `values` `[n]`, over the tokens of each row, `[rows]`."""
        return sum_rows(self.log_probs if values is None else values, self.rows, self.num_rows)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens with a label in each row, `[rows]`, fp32."""
        return self.per_row(torch.ones_like(self.log_probs))


def sum_rows(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return the sums of `values` `[n]` over equal `rows` `[n]`, `[num_rows]`."""
    return values.new_zeros(num_rows).index_add(0, rows, values)


def next_values(values_bt: Tensor, fill: float, front: int = 0) -> Tensor:
    """Return what belongs to the token that each one predicts, behind `front` virtual tokens."""
    batch, length = values_bt.shape
    shifted = values_bt.new_full((batch, front + length), fill)
    shifted[:, front:-1] = values_bt[:, 1:]
    return shifted


class Scorer:
    """Scores tokens by one model, without its logits where its head is a plain one."""

    def __init__(self, model: Any) -> None:
        """Fuse the model's head."""
        self.head: FusedHead | None = fuse_head(model)
        self.front = num_virtual_tokens(model)

    @property
    def told(self) -> str:
        """How it is done, for the log."""
        return "fused head and loss" if self.head else "full logits (the model changes them)"

    def __call__(
        self,
        model: Any,
        batch: Mapping[str, Tensor],
        wanted: Wanted = PLAIN,
        *,
        inputs: Mapping[str, Any] | None = None,
    ) -> Scores:
        """Return the scores of the tokens with a label in a batch of `input_ids` and `labels` `[rows, length]`.

        `model` may be the engine around the model this scorer was made for; `inputs` are given to it as well.
        """
        targets_bt = next_values(batch["labels"], IGNORED, self.front)
        kept = targets_bt >= 0
        rows = kept.nonzero()[:, 0]
        arguments = {**model_inputs(batch), **(inputs or {})}
        if self.head is None:
            outputs = model(**arguments)
            found = scores_of_logits(outputs.logits[kept], targets_bt[kept], wanted)
            return Scores(found, rows, len(kept), outputs)
        with self.head.scores(targets_bt, wanted):
            outputs = model(**arguments)
            self.head.check(outputs.logits)
        return Scores(outputs.logits, rows, len(kept), outputs)
