"""A model's output head fused with the loss: no `[batch, sequence, vocabulary]` tensor, and no work on masked tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ExitCode, UserError
from .chunked import Wanted, linear_cross_entropy_sum, linear_scores
from .token_losses import Anchor, TokenLoss, linear_loss

CHANGES_LOGITS = re.compile(
    r"(final|output)?_?logits?_(soft_?cap(ping)?|scal(e|ing))"
    r"|lm_head_multiplier|output_multiplier(_scale)?|unpadded_vocab_size"
)
"""Names in configurations (Gemma 2, Granite, Cohere, Falcon-H1, xLSTM, ...) of what is done to logits after the head."""


@dataclass(frozen=True)
class _Job:
    """What the head is to make of the hidden states at targets that are not negative."""

    targets_bt: Tensor
    compute: Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]
    """Takes hidden states, weight, bias and targets."""


def _fused_forward(head: Any, hidden_bth: Tensor) -> Tensor:
    weight, bias = head.weight, head.bias
    if getattr(head, "tunec_fp32", False):
        # The sums of products in fp32 too, not only what is made of them.
        hidden_bth, weight = hidden_bth.float(), weight.float()
        bias = None if bias is None else bias.float()
    job: _Job | None = head.tunec_job
    if job is None:
        return functional.linear(hidden_bth, weight, bias)
    kept = job.targets_bt >= 0
    result = job.compute(hidden_bth[kept], weight, bias, job.targets_bt[kept])
    head.tunec_result = result.detach()
    return result


class FusedHead:
    """A model's output head that returns a loss or scores instead of logits while it has targets.

    The head stays the module it was, so that DeepSpeed gathers its weight under ZeRO-3 as ever.
    """

    def __init__(self, head: Any) -> None:
        """Make the head's forward pass look at its targets."""
        self.head: Any = head
        self.head.tunec_job = self.head.tunec_result = None
        self.checked = False
        self.head.forward = MethodType(_fused_forward, head)

    @contextmanager
    def targets(self, targets_bt: Tensor, weights_bt: Tensor | None = None) -> Iterator[None]:
        """Inside, the model's `logits` are the summed cross-entropy against `targets_bt` (negative: no loss).

        `weights_bt` is what the loss of each target is multiplied with, fp32 `[batch, sequence]`.
        """
        weights_n = None if weights_bt is None else weights_bt[targets_bt >= 0]

        def compute(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
            return linear_cross_entropy_sum(hidden, weight, bias, targets, weights_n)

        with self._doing(_Job(targets_bt, compute)):
            yield

    @contextmanager
    def scores(self, targets_bt: Tensor, wanted: Wanted) -> Iterator[None]:
        """Inside, the model's `logits` are the scores of the targets that are not negative, fp32 `[4, tokens]`."""

        def compute(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
            return linear_scores(hidden, weight, bias, targets, wanted)

        with self._doing(_Job(targets_bt, compute)):
            yield

    @contextmanager
    def token_losses(
        self,
        targets_bt: Tensor,
        weights_bt: Tensor | None,
        loss: TokenLoss,
        anchor: Anchor | None = None,
    ) -> Iterator[None]:
        """Inside, the model's `logits` are the sums of the losses and of the cross-entropies of the targets, fp32 `[2]`."""
        weights_n = None if weights_bt is None else weights_bt[targets_bt >= 0]

        def compute(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
            return linear_loss(hidden, weight, bias, targets, weights_n, loss, anchor)

        with self._doing(_Job(targets_bt, compute)):
            yield

    @contextmanager
    def hidden(self, targets_bt: Tensor) -> Iterator[None]:
        """Inside, the model's `logits` are the hidden states that the head gets at the targets, `[tokens, hidden]`."""

        def compute(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
            return hidden

        with self._doing(_Job(targets_bt, compute)):
            yield

    @contextmanager
    def _doing(self, job: _Job) -> Iterator[None]:
        self.head.tunec_job = job
        try:
            yield
        finally:
            self.head.tunec_job = self.head.tunec_result = None

    def check(self, result: Tensor) -> None:
        """Fail when the model did something to what its head returned; the first that is a number above 0 tells.

        Raises:
            UserError: (INTERNAL) the loss would be another model's.
        """
        seen = self.head.tunec_result
        if self.checked or seen is None or not seen.any() or not torch.isfinite(seen).all():
            return
        if not torch.equal(result.detach(), seen):
            raise UserError(
                "this model changes its logits after the output head in a way tunec does not know",
                help="please report the model; no wrong loss was used",
                code=ExitCode.INTERNAL,
            )
        self.checked = True


def fuse_head(model: Any) -> FusedHead | None:
    """Return the fused head of a causal language model, or None where its logits are changed after the head.

    Models that scale or cap their logits, and heads that are more than a plain linear layer (an adapter on the
    head), keep the ordinary way.
    """
    head = model.get_output_embeddings()
    settings = model.config.get_text_config().to_dict()
    changed = any(value and CHANGES_LOGITS.fullmatch(name) for name, value in settings.items())
    return None if changed or type(head) is not nn.Linear else FusedHead(head)
